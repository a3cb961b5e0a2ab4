"""Guides: what a constraint still allows of one sequence, token by token.

A guide belongs to its sequence from the first token to the last, so it comes through a preemption unharmed. Its masks
may be computed in another thread while the forward pass runs; it is advanced in the step loop's.
"""

from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Literal, NamedTuple, Protocol

from heylook_llm.errors import HeylookError, InvalidConstraint
from heylook_llm.worker.formats.parser import ReasoningMode
from heylook_llm.worker.formats.watch import TEXT, Watch
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


class Beginning(NamedTuple):
    """How calls begin an answer without a mark."""

    new: Callable[[], GrammarGuide]
    """Makes the guide of an answer that is calls, or text that isn't taken for any."""
    leads: bytes
    """The characters that calls begin with."""


class Between:
    """Leaves an answer free but for the calls in it: what follows an opening mark is guided to the end of the calls.

    Marks count only where the answer's reader heeds them: within reasoning, say, a call is but talk.
    """

    def __init__(
        self,
        begin: Callable[[str], GrammarGuide],
        words: Words,
        watch: Watch,
        mode: ReasoningMode,
        beginning: Beginning | None = None,
    ) -> None:
        """`begin` makes the guide of a call's rule, by its name."""
        self._begin = begin
        self._words = words
        self._watch = watch
        self._beginning = beginning
        self._seen = b""
        """As much of the text's end as may belong to a mark; at the start all of it."""
        self._call: GrammarGuide | None = None
        self._enter(watch.first[mode], at_start=mode == "auto")

    def _enter(self, state: str, *, at_start: bool = False) -> None:
        sought = self._watch.states[state]
        self._state = state
        self._marks = {mark.encode(): (to, "") for mark, to in sought.states.items()}
        self._marks |= {mark.encode(): ("", rule) for mark, rule in sought.calls.items()}
        self._start = self._watch.start if at_start else None
        """The mark that counts here alone; None: something was said."""
        self._leading = self._beginning.new() if self._beginning is not None and state == TEXT else None
        self._silent = True
        """Nothing but white space was said."""
        self._seen = b""

    @property
    def complete(self) -> bool:
        """See Guide."""
        return self._leading is not None and self._leading.complete

    @property
    def error(self) -> HeylookError | None:
        """See Guide."""
        guide = self._call or self._leading
        return guide.error if guide is not None else None

    def masks(self, draft: Seq[int] = ()) -> list[Mask | None]:
        """See Guide. Nothing is said of drafts where an answer begins."""
        if self._call is not None:
            return self._call.masks(draft)
        marks = [*self._marks, *([self._start[0].encode()] if self._start is not None else [])]
        if self._leading is not None or self._start is not None:
            led = self._leading.masks()[0] if self._leading is not None else None
            return [_both(led, self._words.before_marks(marks, self._seen))]
        found: list[Mask | None] = []
        seen = self._seen
        for token in (*draft, None):
            mask = self._words.before_marks(marks, seen)
            found.append(mask)
            if token is None or token in self._words.ends or (mask is not None and not mask[token]):
                break
            seen += self._words.piece(token)
            if any(mark in seen for mark in marks):
                break
        return found

    def accept(self, token: int) -> None:
        """See Guide."""
        if self._call is not None:
            self._call.accept(token)
            if self._call.complete and self._call.error is None:
                self._call, self._seen = None, b""
            return
        if self._leading is not None:
            self._leading.accept(token)
        self._seen += self._words.piece(token)
        if self._start is not None and self._heed_start(*self._start):
            return
        if found := [(at, mark) for mark in self._marks if (at := self._seen.find(mark)) >= 0]:
            self._pass(*self._marks[min(found)[1]])
        elif self._start is None:
            self._settle()

    def _heed_start(self, mark: str, state: str) -> bool:
        """Whether the mark has come that counts only here."""
        begun = self._seen.lstrip()
        if begun.startswith(mark.encode()):
            self._enter(state)
            return True
        if not mark.encode().startswith(begun):
            self._start = None
        return False

    def _pass(self, state: str, rule: str) -> None:
        """Go on behind a mark."""
        if state:
            self._enter(state)
        else:
            self._call, self._leading, self._start = self._begin(rule), None, None

    def _settle(self) -> None:
        """Forget what can't belong to a mark any more, and a beginning that is over; one that is none has no marks."""
        if self._silent and (begun := self._seen.lstrip()):
            self._silent = False
            if self._beginning is not None and begun[0] in self._beginning.leads:
                self._marks = {}
            else:
                self._leading = None
        longest = max(map(len, self._marks), default=0)
        self._seen = self._seen[-longest:] if longest else b""


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right
