"""What a stream tells beside its text where it is asked to: times so far, the prompt's progress, token ids."""

from typing import Any

from heylook_llm import core
from heylook_llm.server.wire import openai_words
from heylook_llm.server.wire.openai_body import SamplingFields


class Watched:
    """What is known so far of the choices of one stream."""

    def __init__(self, fields: SamplingFields, *, ids: bool = False, echo: bool = False) -> None:
        """`ids`: chunks have token ids; `echo`: the prompt is given back."""
        self._wants_times = fields.timings_per_token
        self._progress = fields.return_progress
        self.ids = ids
        self.wanted = fields.stream and (self._wants_times or self._progress or ids or echo)
        """Whether each step has to be told."""
        self.plain = not (self._wants_times or ids)
        """Whether chunks of text hold nothing but their text."""
        self._latest: dict[int, core.Progress] = {}
        self.prompts: dict[int, core.Progress] = {}
        """The prompts, by choice, as they are known before the answers."""
        self.scored: dict[int, tuple[core.TokenLogprob, ...]] = {}
        """Their tokens' log probabilities, by choice, of each prompt's first."""

    def see(self, event: core.Progress) -> dict[str, Any]:
        """Take note of a step; what it adds to the stream, where it is of the prompt."""
        if event.prompt:
            self.prompts[event.choice] = event
        if event.prompt_logprobs:
            self.scored[event.choice] = event.prompt_logprobs
        self._latest[event.choice] = event
        times = event.times
        if not self._progress or (times is not None and times.output_tokens > 1):
            return {}
        return {"prompt_progress": openai_words.prompt_progress(event)}

    def times(self, choice: int) -> dict[str, Any]:
        """What a chunk of this choice says of its times."""
        latest = self._latest.get(choice)
        if not self._wants_times or latest is None or latest.times is None:
            return {}
        return {"timings": openai_words.timings_so_far(latest)}

    def token_ids(self, event: core.Text | core.Reasoning | core.ToolCallStart | core.ToolCallArgs) -> dict[str, Any]:
        """What a choice in a chunk says of the event's tokens."""
        return {"token_ids": list(event.tokens)} if self.ids else {}

    def prompt_ids(self, choice: int) -> dict[str, Any]:
        """The ids of a choice's prompt, once they are known."""
        prompt = self.prompts.get(choice)
        return {"prompt_token_ids": list(prompt.prompt)} if self.ids and prompt is not None else {}
