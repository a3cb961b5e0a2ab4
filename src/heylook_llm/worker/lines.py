"""Where a text is to end by its lines, as those ask who complete code: at one that is indented less, or in time."""

from typing import Final

_WHITE: Final = " \t"


class Lines:
    """Watches the lines of one answer. Reads no clock: the time since its first token is given."""

    def __init__(self, least_indent: int = 0, time_limit_seconds: float | None = None) -> None:
        self._least_indent = least_indent
        self._time_limit_seconds = time_limit_seconds
        self._indent: int | None = None
        """White space so far of a line that has nothing else yet; None: within a line, or in the first."""

    def end(self, text: str, seconds: float) -> int | None:
        """How many characters of the next piece belong to the answer, if it ends here; None: it goes on."""
        at = self._outdented(text) if self._least_indent else None
        late = self._time_limit_seconds is not None and seconds > self._time_limit_seconds
        return len(text) if at is None and late and "\n" in text else at

    def _outdented(self, text: str) -> int | None:
        """Where a line begins with too little white space; an empty one does, as at llama-server."""
        for at, character in enumerate(text):
            if self._indent is not None and character in _WHITE:
                self._indent += 1
                continue
            if self._indent is not None and self._indent < self._least_indent:
                return at
            self._indent = 0 if character == "\n" else None
        return None


def watched(least_indent: int, time_limit_seconds: float | None) -> Lines | None:
    """What watches an answer of this sampling; None: its lines don't matter."""
    if not least_indent and time_limit_seconds is None:
        return None
    return Lines(least_indent, time_limit_seconds)
