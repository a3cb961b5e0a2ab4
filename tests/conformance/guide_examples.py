"""The examples of the client guide that need more than the test environment, as the matrix runs them. Pure."""

import re
from typing import Final

LANGUAGES: Final = ("py", "js", "yml")
"""py: a framework of Python; js: a client of Node; yml: llm's list of models. `python` and `sh` run with the tests."""


def examples(guide: str) -> dict[str, list[tuple[str, str]]]:
    """By language, each example's heading and its text."""
    found: dict[str, list[tuple[str, str]]] = {language: [] for language in LANGUAGES}
    heading = ""
    for part in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```", guide, re.M | re.S):
        if part["heading"]:
            heading = part["heading"]
        elif part["language"] in found:
            found[part["language"]].append((heading, part["text"]))
    return found
