"""Pictures of every page: python -m tests.ui.screenshots [NAME ...]    writes docs/screenshots/NAME-THEME-WIDTH.png"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser

from tests.serving import running
from tests.ui.pages import ROOT, WAIT_MS, opened
from tests.ui.scenes import MODELS, SCENES, Scene

FOLDER: Final = ROOT / "docs" / "screenshots"
SIZES: Final = ((1600, 1000), (380, 760))
COLOURS: Final = 128
_BYTES: Final = np.array([1 << 16, 1 << 8, 1])


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
    """With few colours: those of large areas as they are, the others by coverage, so that small things keep theirs."""
    codes = np.asarray(image, np.int64).reshape(-1, 3) @ _BYTES
    found, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    often = found[np.argsort(-counts)[: COLOURS // 2]]
    spread = image.quantize(COLOURS - len(often), Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = np.concatenate([_apart(often), np.array(spread[: 3 * (COLOURS - len(often))]).reshape(-1, 3)])
    nearest = ((_apart(found)[:, None] - palette[None]) ** 2).sum(axis=2).argmin(axis=1)
    few = Image.fromarray(nearest[places].reshape(image.height, image.width).astype(np.uint8), "P")
    few.putpalette(palette.astype(np.uint8).tobytes())
    return few


def _apart(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Red, green and blue of each."""
    apart: NDArray[np.int64] = codes[:, None] // _BYTES % 256
    return apart


if __name__ == "__main__":
    main()
