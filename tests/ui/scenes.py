"""What `make screenshots` shows: each page as a reader sees it at work."""

from collections.abc import Callable
from typing import NamedTuple

from playwright.sync_api import Page

from tests.ui.chatting import ask, open_chat

ANSWER = """[[think:They want a short comparison. A table is easiest to read, then a word on when each is better.]]\
[[say:Both hold weights in fewer bits; they differ in *where* the scale lies.

| Format | Bits | Scale | Good for |
|---|--:|---|---|
| `Q8_0` | 8.5 | one for 32 weights | when memory is no problem |
| `Q4_K_M` | 4.8 | two levels of blocks | most chats |

1. Measure with **your** prompts, not with someone else's.
2. Compare at the same context length.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused")
print(client.models.list().data[0].id)
```

> A difference that lies within the noise is no difference.]]"""


class Scene(NamedTuple):
    """A page, and what is done there before the picture is taken."""

    name: str
    prepare: Callable[[Page], object]


def _chat(page: Page) -> None:
    open_chat(page)
    ask(page, "[[say:Hello! Ask me anything.]]")
    ask(page, ANSWER)
    page.get_by_role("button", name="More of").last.wait_for()


SCENES = (
    Scene("chat", _chat),
    Scene("chat-empty", lambda page: open_chat(page, "heylook-tiny")),
)
