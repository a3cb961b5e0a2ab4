"""A page of a listing, as Anthropic's clients ask for one; without these parameters it is the whole."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from heylook_llm.errors import BadRequest

MOST: Final = 1000


class Page(NamedTuple):
    """From where to where it goes, and whether there is more in the direction that was asked for."""

    start: int
    end: int
    has_more: bool


def page(ids: Sequence[str], query: Mapping[str, str]) -> Page:
    """The page of a query with `limit`, and `after_id` or `before_id`. Raises BadRequest."""
    limit = _limit(query.get("limit"), len(ids))
    if "after_id" in query and "before_id" in query:
        raise BadRequest("after_id and before_id exclude each other.", param="before_id")
    if "before_id" in query:
        end = _place(ids, query, "before_id")
        start = max(0, end - limit)
        return Page(start, end, start > 0)
    start = _place(ids, query, "after_id") + 1 if "after_id" in query else 0
    end = min(len(ids), start + limit)
    return Page(start, end, end < len(ids))


def _limit(given: str | None, whole: int) -> int:
    if given is None:
        return whole
    if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= MOST):
        raise BadRequest(f"Invalid value for 'limit': it must be from 1 to {MOST}.", param="limit")
    return int(given)


def _place(ids: Sequence[str], query: Mapping[str, str], name: str) -> int:
    if query[name] not in ids:
        raise BadRequest(f"Invalid value for '{name}': there is no '{query[name][:64]}' in the list.", param=name)
    return ids.index(query[name])
