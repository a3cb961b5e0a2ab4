"""What a prompt makes the fake provider do: an answer, and faults on command.

Commands, in the last turn or the raw prompt; they aren't echoed:

    [[say:TEXT]]          answers TEXT
    [[count:N]]           answers "1 2 3 ... N"
    [[think:TEXT]]        a <think> block with TEXT comes before the answer
    [[call:NAME JSON]]    calls a tool in Hermes form, with JSON as its arguments; may stand several times
    [[see]]               answers with a JSON list of the turn's images: width, height, mean colour, SHA-256
    [[wild]]              other tokens are about as likely as the answer's
    [[emit:HEX]]          adds these bytes to the answer, valid UTF-8 or not
    [[crash:SIGSEGV]]     the process kills itself with that signal in the step that ends the prompt
    [[crash:after=N]]     ... with SIGKILL once N tokens of the answer are out
    [[hang]]              the step that ends the prompt never returns
    [[stall:SECONDS]]     ... returns after so many seconds
    [[stall:after=N SECONDS]]  the step that draws the answer's token behind the first N takes so much longer
    [[alloc:MB]]          ... allocates and keeps so much memory
    [[error]]             ... raises an exception
    [[encode:SECONDS]]    making tokens of it takes so much longer
    [[nan]]               a text to embed: its vector holds no number

The faults are obeyed in texts to embed, too, by the pass that computes the text's beginning.
"""

import re
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import Final

import msgspec

IM_START: Final = 256
IM_END: Final = 257
END_OF_TEXT: Final = 258
REPLY: Final = 259
FIM_PREFIX: Final = 260
FIM_SUFFIX: Final = 261
FIM_MIDDLE: Final = 262
CONTROL: Final = {
    "<|im_start|>": IM_START,
    "<|im_end|>": IM_END,
    "<|endoftext|>": END_OF_TEXT,
    "<|reply|>": REPLY,
    "<|fim_prefix|>": FIM_PREFIX,
    "<|fim_suffix|>": FIM_SUFFIX,
    "<|fim_middle|>": FIM_MIDDLE,
}
CONTROL_NAMES: Final = {token: text for text, token in CONTROL.items()}
N_VOCAB: Final = 263
TEMPLATE: Final = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{% endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- if not loop.first %}{{- raise_exception('System message must be at the beginning.') }}{% endif %}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking %}{{- '<think>\\n' }}{% endif %}
{%- endif %}"""

_CONTROL_TEXT: Final = re.compile("|".join(map(re.escape, CONTROL)))
_COMMAND: Final = re.compile(r"\[\[(\w+)(?::(.*?))?\]\]", re.DOTALL)
_ASSISTANT: Final = b"assistant\n"
THINK_END: Final = b"</think>\n\n"
_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz "


class Script(msgspec.Struct):
    """What one prompt makes the provider do."""

    answer: bytes
    endless: bool = False
    wild: bool = False
    crash_signal: str = ""
    crash_after: int | None = None
    hang: bool = False
    stall_seconds: float = 0.0
    stall_after: tuple[int, float] | None = None
    alloc_megabytes: int = 0
    error: bool = False
    nan: bool = False

    def next(self, position: int) -> int:
        """The answer's token at this place; behind its end the token that ends it, or the answer again."""
        if position < len(self.answer):
            return self.answer[position]
        return self.answer[position % len(self.answer)] if self.endless and self.answer else IM_END


def encode_seconds(text: str) -> float:
    """How much longer making tokens of a text is to take."""
    return sum(float(argument) for name, argument in _COMMAND.findall(text) if name == "encode")


def tokens_of(text: str) -> list[int]:
    """A token for each byte, and for each control token's text."""
    tokens: list[int] = []
    at = 0
    for match in _CONTROL_TEXT.finditer(text):
        tokens.extend(text[at : match.start()].encode("utf-8", "replace"))
        tokens.append(CONTROL[match.group()])
        at = match.end()
    tokens.extend(text[at:].encode("utf-8", "replace"))
    return tokens


def script_of(
    tokens: Seq[int], reply: str | None, told: Callable[[Seq[int]], str] = lambda tokens: "[]"
) -> tuple[Script, int]:
    """The script of a prompt, and how much of its answer the prompt holds already. `told`: what is seen in a turn."""
    marker = max((at for at, token in enumerate(tokens) if token in (IM_START, REPLY, FIM_MIDDLE)), default=-1)
    if marker < 0:
        return Script(_ALPHABET, endless=True), len(tokens)
    turn, given = tokens[:marker], _bytes(tokens[marker + 1 :])
    if tokens[marker] == IM_START:
        starts = [at for at, token in enumerate(turn) if token == IM_START]
        turn = turn[starts[-1] + 1 :] if starts else turn
        given = given.removeprefix(_ASSISTANT)
    text = _bytes(turn).decode("utf-8", "replace")
    if tokens[marker] == IM_START:
        text = text.partition("\n")[2].removesuffix("\n")
    script = parse_script(text, reply, told(turn))
    if given.startswith(b"<think>\n"):
        given = given.removeprefix(b"<think>\n")
        if not script.answer.startswith(b"<think>"):
            script.answer = b"Someone wrote: " + text[:20].encode() + b"\n" + THINK_END + script.answer
        else:
            script.answer = script.answer.removeprefix(b"<think>\n")
        if THINK_END in given:
            script.answer = script.answer.partition(THINK_END)[2]
    return script, _answered(given, script.answer)


def _bytes(tokens: Seq[int]) -> bytes:
    return bytes(token for token in tokens if 0 <= token < 256)


def _answered(given: bytes, answer: bytes) -> int:
    """How much of the answer the prompt already holds, behind whatever it was told to continue."""
    endless = answer * (len(given) // max(1, len(answer)) + 1)
    return next((n for n in range(len(given), 0, -1) if given.endswith(endless[:n])), 0)


def parse_script(text: str, reply: str | None = None, told: str = "[]") -> Script:
    """The script of a turn's text: its commands, and an answer. `told`: what the turn's images show."""
    said: list[bytes] = []
    thought = b""
    calls: list[bytes] = []
    script = Script(b"")
    for name, argument in _COMMAND.findall(text):
        match name:
            case "say":
                said.append(argument.encode("utf-8", "replace"))
            case "see":
                said.append(told.encode())
            case "count":
                said.append(" ".join(map(str, range(1, int(argument) + 1))).encode())
            case "emit":
                said.append(bytes.fromhex(argument))
            case "think":
                thought = b"<think>\n" + argument.encode("utf-8", "replace") + b"\n" + THINK_END
            case "call":
                tool, _, arguments = argument.partition(" ")
                body = f'{{"name": "{tool}", "arguments": {arguments or "{}"}}}'
                calls.append(f"<tool_call>\n{body}\n</tool_call>".encode())
            case _:
                _set_fault(script, name, argument)
    if not said and not calls:
        said = [(reply if reply is not None else _COMMAND.sub("", text)).encode("utf-8", "replace")]
    script.answer = thought + b"".join(said) + (b"\n" if said and calls else b"") + b"\n".join(calls)
    return script


def _set_fault(script: Script, name: str, argument: str) -> None:
    match name:
        case "wild":
            script.wild = True
        case "crash" if argument.startswith("after="):
            script.crash_after = int(argument.removeprefix("after="))
        case "crash":
            script.crash_signal = argument or "SIGKILL"
        case "hang":
            script.hang = True
        case "stall" if argument.startswith("after="):
            tokens, _, seconds = argument.removeprefix("after=").partition(" ")
            script.stall_after = int(tokens), float(seconds)
        case "stall":
            script.stall_seconds = float(argument)
        case "alloc":
            script.alloc_megabytes = int(argument)
        case "error":
            script.error = True
        case "nan":
            script.nan = True
