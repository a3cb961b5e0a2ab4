"""Bodies with an image, for the OpenAPI document, which run against the bundled model that sees it: a red square."""

from typing import Any, Final

MODEL: Final = "heylook-tiny-vision"
QUESTION: Final = "What do you see?"
RED: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR42mO4oKBAU8QwasGoBaMWjFowasGoBaMWjFowasGoBaMWDBULAE7YQD2B"
    "7wk2AAAAAElFTkSuQmCC"
)
CHAT: Final[dict[str, Any]] = {
    "model": MODEL,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED}"}},
            ],
        }
    ],
}
MESSAGES: Final[dict[str, Any]] = {
    "model": MODEL,
    "max_tokens": 256,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": RED}},
                {"type": "text", "text": QUESTION},
            ],
        }
    ],
}
GENERATE: Final[dict[str, Any]] = {"model": MODEL, "prompt": QUESTION, "images": [RED], "stream": False}
FORM: Final[dict[str, Any]] = {
    "model": MODEL,
    "messages": '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "__RAW_IMAGE__"}}, '
    f'{{"type": "text", "text": "{QUESTION}"}}]}}]',
    "images": ["(the bytes of a PNG, JPEG, WebP, GIF or BMP file)"],
}
