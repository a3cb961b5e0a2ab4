"""The items of a conversation as the Responses API keeps and gives them back: with ids, page by page."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from heylook_llm.errors import BadRequest, NotFound
from heylook_llm.server.wire.responses_body import ResponseItem
from heylook_llm.server.wire.table import missing

Item = dict[str, Any]
_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
_SEAL: Final = b"heylookllm:"
PAGE: Final = 20
MAX_PAGE: Final = 100


def item_id(kind: str, random: str, place: str) -> str:
    """An item's id: of its kind, its response's random digits, and its place."""
    return f"{_PREFIXES.get(kind, 'item')}_{random}{place}"


# ---- what a request brings -------------------------------------------------------------------------------------------


def references(given: str | list[ResponseItem] | None) -> tuple[str, ...]:
    """The ids of kept items that an input refers to. Raises BadRequest for one without an id."""
    if given is None or isinstance(given, str):
        return ()
    return tuple(_referred(item, at) for at, item in enumerate(given) if item.type == "item_reference")


def _referred(item: ResponseItem, at: int) -> str:
    if item.id is None:
        raise missing(f"input[{at}].id")
    return item.id


def given_items(
    given: str | list[ResponseItem] | None, found: Mapping[str, Item]
) -> list[tuple[ResponseItem, Item | None]]:
    """The items of an input; one that is referred to stands in its place, with what is kept of it. Raises NotFound."""
    if given is None:
        return []
    if isinstance(given, str):
        return [(ResponseItem(role="user", content=given), None)]
    return [_resolved(item, at, found) for at, item in enumerate(given)]


def _resolved(item: ResponseItem, at: int, found: Mapping[str, Item]) -> tuple[ResponseItem, Item | None]:
    if item.type != "item_reference":
        return item, None
    kept = found.get(item.id or "")
    if kept is None:
        raise NotFound(
            f"Item with id '{(item.id or '')[:64]}' not found. Items are kept with responses that have `store` set to "
            "true: send the item itself.",
            code="item_not_found",
            param=f"input[{at}].id",
        )
    return ResponseItem.model_validate(kept), kept


def kept_items(given: Iterable[tuple[ResponseItem, Item | None]], random: str) -> list[Item]:
    """Those items as they are kept: in their long form, each with an id that no other of them has."""
    items: dict[str, Item] = {}
    for at, (item, kept) in enumerate(given):
        own = item_id(item.type, random, f"i{at:x}")
        told = kept if kept is not None else _long(item, own)
        if told["id"] in items:  # who asks page by page would go in circles
            told = {**told, "id": own}
        items[told["id"]] = told
    return list(items.values())


def _long(item: ResponseItem, own_id: str) -> Item:
    told: Item = {"id": own_id, "type": item.type}
    told |= {key: value for key, value in item.model_dump(exclude_unset=True).items() if value is not None}
    if item.type == "message":
        told.setdefault("status", "completed")
        told["content"] = _long_content(item.role, told.get("content"))
    return told


def _long_content(role: str | None, content: object) -> object:
    if not isinstance(content, str):
        return content
    if role == "assistant":
        return [{"type": "output_text", "text": content, "annotations": [], "logprobs": []}]
    return [{"type": "input_text", "text": content}]


# ---- reasoning that travels with its client --------------------------------------------------------------------------


def sealed(text: str) -> str:
    """A reasoning as `encrypted_content`: packed, not encrypted, for whoever holds it was told it."""
    return base64.b64encode(_SEAL + text.encode("utf-8", "replace")).decode()


def unsealed(text: str) -> str | None:
    """A reasoning that was sealed here; None: another server's, which nobody else can read."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data.removeprefix(_SEAL).decode("utf-8", "replace") if data.startswith(_SEAL) else None


# ---- a page ----------------------------------------------------------------------------------------------------------


def page(items: Sequence[Item], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of items by `limit`, `order` and `after`. Raises BadRequest."""
    limit = _limit(query.get("limit"))
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("Invalid value for 'order': it must be asc or desc.", param="order")
    ordered = list(items if order == "asc" else reversed(items))
    start = _start([item["id"] for item in ordered], query.get("after"))
    shown = ordered[start : start + limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + limit < len(ordered),
    }


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_PAGE):
        raise BadRequest(f"Invalid value for 'limit': it must be from 1 to {MAX_PAGE}.", param="limit")
    return int(text)


def _start(ids: list[str], after: str | None) -> int:
    if after is None:
        return 0
    if after not in ids:
        raise BadRequest(f"Invalid value for 'after': there is no item '{after[:64]}'.", param="after")
    return ids.index(after) + 1
