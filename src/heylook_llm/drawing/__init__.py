"""The scripts that draw: plotly's, from its installed wheel, and ours, which says what the bench's figures look like.

A leaf: the HTML file that the bench writes holds them, and the server's pages load them.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Final

from heylook_llm.errors import ConfigError

FIGURES: Final = Path(__file__).parent / "figures.js"
"""A module; it wants plotly's script before it."""


@functools.cache
def plotly() -> Path:
    """plotly's script, without importing plotly. Raises ConfigError where it isn't installed."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("Plots are drawn by plotly, which isn't installed: pip install plotly")
    return Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
