"""How many prompt tokens one step computes: what takes a bounded time at the measured speed.

A stream waits a whole step for its next token, a newcomer for its first, a cancel for its effect. But each step also
costs something beside its tokens, since it reads the weights once: with a 0.5B file on two cores as much as 11 tokens,
and as much again where streams are decoded. Chunks of 250 ms made a prompt beside 7 streams take half as long again.
"""

from typing import Final

ALONE_NS: Final = 1_000_000_000
BESIDE_NS: Final = 500_000_000
"""Where streams wait for their next token."""
LEAST_TOKENS: Final = 32
FIRST_TOKENS: Final = 64
"""Before anything was measured."""
LEAST_IMAGE_TOKENS: Final = 8
WEIGHT: Final = 0.1
"""Of the latest step that only decoded."""
MOST_GROWTH: Final = 8.0
"""From one step to the next: a first step of few tokens says little."""


class Chunks:
    """Bounds of the steps to come, learnt from those that were."""

    def __init__(self, most_tokens: int) -> None:
        self._most = most_tokens
        self._alone_tokens = float(min(FIRST_TOKENS, most_tokens))
        """Tokens that take ALONE_NS, as measured."""
        self.token_ns = ALONE_NS / FIRST_TOKENS
        """What a prompt token takes, as measured."""
        self._decode_ns = 0.0
        """What a step takes that only decodes, as measured."""

    def limit(self, *, beside: bool) -> int:
        """Most prompt tokens of the next step; `beside` streams at most a quarter of what is allowed."""
        share = 4 if beside else 1
        in_time = self._alone_tokens * (BESIDE_NS if beside else ALONE_NS) / ALONE_NS
        return min(self._most, max(LEAST_TOKENS, min(self._most // share, int(in_time))))

    def image_limit(self) -> int:
        """Most tokens of an image in a step beside streams: those that take no longer than the step without them.

        An engine computes them apart from tokens that are decoded, and so reads the weights once more for them: a step
        takes at most twice as long.
        """
        return max(LEAST_IMAGE_TOKENS, int(self._decode_ns / self.token_ns))

    def decoded(self, duration_ns: int) -> None:
        """A step that only decoded took so long."""
        self._decode_ns += (duration_ns - self._decode_ns) * (WEIGHT if self._decode_ns else 1.0)

    def measure(self, tokens: int, duration_ns: int) -> None:
        """A step of so many prompt tokens took so long."""
        if tokens >= LEAST_TOKENS and duration_ns > 0:
            self.token_ns = duration_ns / tokens
            measured = tokens * ALONE_NS / duration_ns
            self._alone_tokens = min(measured, MOST_GROWTH * self._alone_tokens, self._most)
