"""What the registry lets every conversation with a model begin with: a system message and turns."""

from typing import NamedTuple

import msgspec

from heylook_llm import core

_LEADING_ROLES = ("system", "developer")


class Presets(NamedTuple):
    """Of one model. The turns stand behind the conversation's own system message, or behind this one."""

    system: str = ""
    messages: tuple[core.Message, ...] = ()

    def before(self, prompt: core.Prompt, *, continued: bool = False) -> core.Prompt:
        """A chat with what it begins with; other prompts as they are. `continued`: an earlier text holds the turns."""
        if not isinstance(prompt, core.ChatPrompt) or not (self.system or self.messages):
            return prompt
        given = prompt.messages
        own = given[:1] if given and given[0].role in _LEADING_ROLES else ()
        system = (core.Message("system", (core.TextPart(self.system),)),) if self.system else ()
        turns = () if continued else self.messages
        return msgspec.structs.replace(prompt, messages=(*(own or system), *turns, *given[len(own) :]))
