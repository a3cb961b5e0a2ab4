"""What is kept of texts where the operator wants it: prompts and answers as a reader would write them down. Pure."""

from typing import assert_never

from heylook_llm import core


def of_prompt(prompt: core.Prompt) -> str:
    """A prompt's text: of a conversation its turns, with who says them; token ids as numbers."""
    match prompt:
        case core.ChatPrompt():
            return "\n".join(f"{message.role}: {message.text}" for message in prompt.messages)
        case core.TextPrompt():
            return prompt.text
        case core.TokenPrompt():
            return " ".join(map(str, prompt.tokens))
        case core.MixedPrompt():
            return " ".join(map(str, prompt.pieces))
        case core.InfillPrompt():
            return f"{prompt.prefix}{prompt.start}\n…\n{prompt.suffix}"
        case _:
            assert_never(prompt)


def of_event(event: core.Text | core.Reasoning | core.ToolCallStart | core.ToolCallArgs) -> str:
    """What a piece of an answer says: of a call its name, then its arguments."""
    return event.name if isinstance(event, core.ToolCallStart) else event.text
