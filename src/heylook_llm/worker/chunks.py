"""How many prompt tokens one step computes: what takes a bounded time at the measured speed.

A stream waits a whole step for its next token, a newcomer for its first, a cancel for its effect. But each step also
costs something beside its tokens, since it reads the weights once: with a 0.5B file on two cores as much as 11 tokens,
and as much again where streams are decoded. Chunks of 250 ms made a prompt beside 7 streams take half as long again.

And some engines compute a step's tokens in tiles: llama.cpp's flash attention on a CPU takes 64 at once, and one after
the other where a step has fewer. Behind 3,000 tokens a step of 63 took 1,123 ms, one of 64 took 743
(`benchmarks/prompt_chunks.py`). So a step is made as long as whole tiles.
"""

from typing import Final

ALONE_NS: Final = 1_000_000_000
BESIDE_NS: Final = 1_000_000_000
"""Where streams wait for their next token."""
SHARE_BESIDE: Final = 4
"""Beside streams a step takes this part of the tokens that it takes without."""
MOST_PATIENCE: Final = 2.0
"""Times as long that streams wait where prompts wait in greater number than they."""
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

    def __init__(self, most_tokens: int, tile: int = 1) -> None:
        """`tile`: a step of any number of tokens takes as long as one of the next multiple of it."""
        self._most = most_tokens
        self._tile = tile
        self._alone_tokens = float(min(FIRST_TOKENS, most_tokens))
        """Tokens that take ALONE_NS, as measured."""
        self.token_ns = ALONE_NS / FIRST_TOKENS
        """What a prompt token takes, as measured."""
        self._decode_ns = 0.0
        """What a step takes that only decodes, as measured."""

    def limit(self, decoding: int = 0, prompts: int = 1) -> int:
        """Most prompt tokens of the next step, beside so many streams, of so many prompts that wait.

        Beside streams a quarter of what is allowed; more where prompts outnumber streams, since who waits for a first
        token counts as much as who waits for the next.
        """
        time_ns, most = float(ALONE_NS), float(self._most)
        if decoding:
            patience = min(MOST_PATIENCE, max(1.0, prompts / decoding))
            time_ns, most = patience * BESIDE_NS - self._decode_ns, patience * self._most / SHARE_BESIDE
        wanted = int(max(LEAST_TOKENS, min(most, self._alone_tokens * time_ns / ALONE_NS)))
        longest = self._most - decoding
        if longest < LEAST_TOKENS:
            return min(self._most, wanted)
        return min(longest, self._whole_tiles(decoding, wanted))

    def _whole_tiles(self, decoding: int, wanted: int) -> int:
        """About so many, of LEAST_TOKENS or more, which fill tiles together with the tokens that are decoded."""
        tiles = round((decoding + wanted) / self._tile)
        if tiles * self._tile - decoding < LEAST_TOKENS:
            tiles += 1
        return tiles * self._tile - decoding

    def image_limit(self) -> int:
        """Most tokens of an image in a step beside streams: those that take no longer than the step without them.

        An engine computes them apart from tokens that are decoded, and so reads the weights once more for them: a step
        takes at most twice as long.
        """
        return max(LEAST_IMAGE_TOKENS, int(self._decode_ns / self.token_ns))

    def decoded(self, duration_ns: int) -> None:
        """A step that only decoded took so long."""
        self._decode_ns += (duration_ns - self._decode_ns) * (WEIGHT if self._decode_ns else 1.0)

    def measure(self, tokens: int, duration_ns: int, decoding: int = 0) -> None:
        """A step of so many prompt tokens, beside so many streams, took so long."""
        if tokens >= LEAST_TOKENS and duration_ns > 0:
            prompt_ns = max(duration_ns - self._decode_ns, duration_ns / 2) if decoding else duration_ns
            self.token_ns = prompt_ns / tokens
            measured = tokens * ALONE_NS / prompt_ns
            self._alone_tokens = min(measured, MOST_GROWTH * self._alone_tokens, self._most)
