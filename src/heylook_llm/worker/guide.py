"""Guides: what a constraint still allows of one sequence, token by token.

A guide belongs to its sequence from the first token to the last, so it comes through a preemption unharmed. Its masks
may be computed in another thread while the forward pass runs; it is advanced in the step loop's.
"""

from collections.abc import Sequence as Seq
from typing import Protocol

from heylook_llm.errors import HeylookError, InvalidConstraint
from heylook_llm.worker.guidance import Mask, Matcher


class Guide(Protocol):
    """What may follow in one sequence. It never raises: what goes wrong is its `error`, which ends the request."""

    complete: bool
    """Nothing but the end may follow, so the sequence ends here."""
    error: HeylookError | None

    def masks(self, draft: Seq[int] = ()) -> list[Mask | None]:
        """What may come next, then what may come after each drafted token, for as long as those are allowed themselves.

        At most len(draft) + 1, and fewer where a drafted token is forbidden or ends the sequence. None: anything. The
        guide stays where it is.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on by the token that was drawn."""
        ...


class GrammarGuide:
    """Follows a grammar from the first token."""

    def __init__(self, matcher: Matcher, ends: frozenset[int]) -> None:
        self.complete = False
        self.error: HeylookError | None = None
        self._matcher = matcher
        self._ends = ends

    def masks(self, draft: Seq[int] = ()) -> list[Mask | None]:
        """See Guide."""
        found: list[Mask | None] = []
        taken = 0
        for token in (*draft, None):
            mask = self._mask()
            if mask is None:
                break
            found.append(mask)
            if token is None or not mask[token] or token in self._ends or not self._matcher.consume(token):
                break
            taken += 1
            if self._matcher.stopped:
                break
        if taken and not self._matcher.go_back(taken):
            self._fail()
        return found or [None]

    def accept(self, token: int) -> None:
        """See Guide."""
        if self.error is not None or token in self._ends:
            return
        if not self._matcher.consume(token):
            self._fail()
        self.complete = self._matcher.stopped

    def _mask(self) -> Mask | None:
        mask = self._matcher.mask() if self.error is None else None
        if mask is None:
            self._fail()
        return mask

    def _fail(self) -> None:
        if self.error is None:
            self.error = InvalidConstraint(
                f"it can't be followed any further: {self._matcher.error or 'unknown error'}"
            )
