"""Guides: what a constraint still allows of one sequence, token by token.

A guide belongs to its sequence from the first token to the last, so it comes through a preemption unharmed. Its masks
may be computed in another thread while the forward pass runs; it is advanced in the step loop's.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Literal, Protocol

from heylook_llm.errors import HeylookError, InvalidConstraint
from heylook_llm.worker.guidance import Mask, Matcher
from heylook_llm.worker.vocabulary import Words


class Guide(Protocol):
    """What may follow in one sequence. It never raises: what goes wrong is its `error`, which ends the request."""

    @property
    def complete(self) -> bool:
        """Nothing but the end may follow, so the sequence ends here."""
        ...

    @property
    def error(self) -> HeylookError | None:
        """Why the constraint can't be followed any further."""
        ...

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

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""
        if self.error is not None:
            return False
        return self._matcher.accepting if token in self._ends else self._matcher.allows(token)

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
            reason = self._matcher.error or "unknown error"
            self.error = InvalidConstraint(f"it can't be followed any further: {reason}", code="invalid_value")


class AfterReasoning:
    """Lets a model think first: anything, until the mark that ends reasoning; then another guide's turn begins.

    Where the model may also answer at once, both ways are open until its first characters decide.
    """

    def __init__(self, then: Guide, words: Words, start: str, end: str, *, direct: GrammarGuide | None) -> None:
        """`direct` guides an answer without reasoning; None: the prompt has opened the reasoning already."""
        self._then = then
        self._direct = direct
        self._words = words
        self._start, self._end = start.encode(), end.encode()
        self._phase: Literal["undecided", "thinking", "answering"] = "thinking" if direct is None else "undecided"
        self._seen = b""
        """Undecided: all text so far; thinking: as much of its end as may belong to the mark."""

    @property
    def complete(self) -> bool:
        """See Guide."""
        return self._phase == "answering" and self._then.complete

    @property
    def error(self) -> HeylookError | None:
        """See Guide."""
        return self._then.error

    def masks(self, draft: Seq[int] = ()) -> list[Mask | None]:
        """See Guide."""
        match self._phase:
            case "answering":
                return self._then.masks(draft)
            case "undecided":
                return [self._either()]
        found: list[Mask | None] = []
        seen = self._seen
        for at, token in enumerate((*draft, None)):
            mask = self._words.before_mark(self._end, seen)
            found.append(mask)
            if token is None or (mask is not None and not mask[token]):
                break
            seen, over = self._thought(seen, token)
            if over:
                return [*found, *self._then.masks(draft[at + 1 :])]
        return found

    def accept(self, token: int) -> None:
        """See Guide."""
        match self._phase:
            case "answering":
                self._then.accept(token)
            case "thinking":
                self._think(token)
            case "undecided":
                self._decide(token)

    def _think(self, token: int) -> None:
        self._seen, over = self._thought(self._seen, token)
        if over:
            self._phase = "answering"

    def _thought(self, seen: bytes, token: int) -> tuple[bytes, bool]:
        """The end of the reasoning with one more token, and whether the mark is in it."""
        seen += self._words.piece(token)
        return seen[-len(self._end) :], self._end in seen

    def _either(self) -> Mask:
        """What begins reasoning, or goes on in an answer that needs none."""
        mask = self._words.beginning(self._start[len(self._seen.lstrip()) :])
        if self._direct is not None and (found := self._direct.masks()[0]) is not None:
            mask = mask | found
        return mask

    def _decide(self, token: int) -> None:
        direct = self._direct
        self._seen += self._words.piece(token)
        if direct is not None and direct.allows(token):
            direct.accept(token)
        else:
            self._direct = None
        begun = self._seen.lstrip()
        if begun.startswith(self._start):
            self._phase, self._seen = "thinking", b""
            rest = begun[len(self._start) :]
            self._seen = rest[-len(self._end) :]
            if self._end in rest:
                self._phase = "answering"
        elif direct is not None and self._direct is not None and not self._start.startswith(begun):
            self._phase, self._then = "answering", direct


class Between:
    """Leaves a text free but for the calls in it: what follows an opening mark is guided to the end of the call."""

    complete = False

    def __init__(self, begin: Callable[[], GrammarGuide], words: Words, opening: str) -> None:
        """`begin` makes the guide of one call, from behind its opening."""
        self._begin = begin
        self._words = words
        self._opening = opening.encode()
        self._seen = b""
        self._call: GrammarGuide | None = None

    @property
    def error(self) -> HeylookError | None:
        """See Guide."""
        return self._call.error if self._call is not None else None

    def masks(self, draft: Seq[int] = ()) -> list[Mask | None]:
        """See Guide."""
        if self._call is not None:
            return self._call.masks(draft)
        found: list[Mask | None] = []
        seen = self._seen
        for token in (*draft, None):
            mask = self._words.before_mark(self._opening, seen, ends=True)
            found.append(mask)
            if token is None or token in self._words.ends or (mask is not None and not mask[token]):
                break
            seen = (seen + self._words.piece(token))[-len(self._opening) :]
            if self._opening in seen:
                break
        return found

    def accept(self, token: int) -> None:
        """See Guide."""
        if self._call is not None:
            self._call.accept(token)
            if self._call.complete and self._call.error is None:
                self._call, self._seen = None, b""
            return
        seen = self._seen + self._words.piece(token)
        self._seen = seen[-len(self._opening) :]
        if self._opening in seen:
            self._call = self._begin()
