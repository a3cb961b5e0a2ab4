"""The log probabilities of a prompt's own tokens, noted while the prompt is computed."""

from collections.abc import Sequence as Seq

from heylook_llm import core


class Scores:
    """What is known of one prompt. The provider notes; a prompt that is computed anew is noted anew."""

    def __init__(self, tokens: Seq[int], top: int, first: bytes) -> None:
        """`top`: alternatives of each token; `first`: the first token's bytes, before which nothing stands."""
        self.top = top
        self._tokens = tuple(tokens)
        self._noted: list[core.TokenLogprob] = [core.TokenLogprob(self._tokens[0], first, 0.0)]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be noted."""
        return len(self._noted) == len(self._tokens)

    def following(self, start: int, count: int) -> tuple[int, ...]:
        """The tokens that stand behind each of these; behind the prompt's last one nothing is known."""
        return self._tokens[start + 1 : start + 1 + count]

    def note(self, start: int, found: Seq[core.TokenLogprob]) -> None:
        """What was found of the tokens behind `start` and its successors."""
        self._noted[start + 1 :] = found

    def told(self) -> tuple[core.TokenLogprob, ...]:
        """Of all tokens."""
        return tuple(self._noted)
