"""Pictures of every page: python -m tests.ui.screenshots [NAME ...]    writes docs/screenshots/NAME-THEME-WIDTH.png"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from playwright.sync_api import Browser

from tests.serving import running
from tests.ui.pages import ROOT, WAIT_MS, opened
from tests.ui.scenes import MODELS, SCENES, Scene

FOLDER: Final = ROOT / "docs" / "screenshots"
SIZES: Final = ((1600, 1000), (380, 760))
COLOURS: Final = 128


def main() -> None:
    """Take the pictures of the named scenes, or of all."""
    chosen = [scene for scene in SCENES if not sys.argv[1:] or scene.name in sys.argv[1:]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(MODELS, Path(folder), import_roots=[]) as server,
        opened() as browser,
    ):
        for scene in chosen:
            for theme in ("light", "dark"):
                for size in SIZES:
                    path = FOLDER / f"{scene.name}-{theme}-{size[0]}.png"
                    path.write_bytes(taken(browser, server.url, scene, theme, size))
                    print(path.relative_to(ROOT), path.stat().st_size)


def taken(browser: Browser, url: str, scene: Scene, theme: str, size: tuple[int, int]) -> bytes:
    """A picture of a scene, with so many colours that nobody sees the difference."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    scene.prepare(page)
    page.mouse.move(0, 0)
    image = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    buffer = io.BytesIO()
    few = palettised(image.convert("RGB"))
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def palettised(image: Image.Image) -> Image.Image:
    """With few colours, by coverage, so that small things keep theirs; each is what most of its pixels are."""
    few = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette = few.getpalette() or []
    pixels = np.asarray(image, np.int64).reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1])
    places = np.asarray(few).reshape(-1)
    for place in np.unique(places).tolist():
        colours, counts = np.unique(pixels[places == place], return_counts=True)
        palette[3 * place : 3 * place + 3] = int(colours[counts.argmax()]).to_bytes(3, "big")
    few.putpalette(palette)
    return few


if __name__ == "__main__":
    main()
