"""The bodies of the Anthropic dialect: which fields exist, of which type, and what becomes of each."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from heylook_llm.core import MOST_CONTEXT_TOKENS
from heylook_llm.server.wire.samplers import SamplerFields
from heylook_llm.server.wire.table import Body, Flag, Honoured, Ignored, Inner, Integer, Number, Refused, Text

Effort = Literal["low", "medium", "high", "xhigh", "max"]
MAX_MESSAGES: Final = 10_000


class Source(Inner):
    """Where an image or a document lies."""

    type: Text
    data: Text | None = None
    content: "Text | list[Block] | None" = None
    url: Text | None = None


class Block(Inner):
    """A piece of a message, of whatever type; which fields it needs is checked where it is read."""

    type: Text
    text: Text | None = None
    source: Source | Text | None = None
    id: Text | None = None
    name: Text | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Text | None = None
    content: "Text | list[Block] | dict[str, Any] | None" = None
    is_error: Flag | None = None
    thinking: Text | None = None
    title: Text | None = None
    context: Text | None = None


class Message(Inner):
    """One turn."""

    role: Text
    content: Text | list[Block]


class ToolSpec(Inner):
    """A tool that the client runs; those of another `type` than custom are Anthropic's own."""

    type: Text | None = None
    name: Text | None = None
    description: Text | None = None
    input_schema: dict[str, Any] | None = None
    strict: Flag | None = None


class ToolChoice(Inner):
    """Whether a tool must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Text | None = None
    disable_parallel_tool_use: Flag | None = None


class Thinking(Inner):
    """Whether to reason before the answer, and for how long."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[Integer | None, Field(ge=1)] = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Inner):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Inner):
    """How the answer shall be."""

    effort: Effort | None = None
    format: OutputFormat | None = None


class PromptFields(Body):
    """What a message and a count of its tokens share."""

    model: Annotated[Text, Honoured(), Field(max_length=400)]
    messages: Annotated[
        list[Message],
        Honoured("a last turn of the assistant's is continued; tool results stand before the text of their turn"),
        Field(min_length=1, max_length=MAX_MESSAGES),
    ]
    system: Annotated[Text | list[Block] | None, Honoured("blocks are joined by empty lines")] = None
    tools: Annotated[
        list[ToolSpec] | None,
        Honoured(
            "those that the client runs, with a schema; tools that run at Anthropic are left out, and named in "
            "x-heylook-ignored; its own types that a client runs (bash, text_editor, computer, memory) are refused"
        ),
    ] = None
    tool_choice: Annotated[ToolChoice | None, Honoured("auto, any, tool or none; enforced")] = None
    thinking: Annotated[
        Thinking | None,
        Honoured("absent: the model's own default; a model that can't think answers without, and the header says so"),
    ] = None
    output_config: Annotated[
        OutputConfig | None, Honoured("format: enforced, after the thinking; effort: the template's level of reasoning")
    ] = None
    output_format: Annotated[OutputFormat | None, Honoured("older form of output_config.format")] = None
    cache_control: Annotated[Any, Ignored("prefixes are always cached; usage says how much of them was read")] = None
    speed: Annotated[Any, Ignored()] = None
    user_profile_id: Annotated[Any, Ignored()] = None
    context_management: Annotated[Any, Ignored("no turn is edited: shorten the conversation yourself", told=True)] = (
        None
    )
    mcp_servers: Annotated[
        Any, Refused("mcp_servers: this server calls no other; let your client run their tools.", neutral=([],))
    ] = None


class MessageBody(PromptFields, SamplerFields):
    """POST /v1/messages."""

    max_tokens: Annotated[
        Integer, Honoured("thinking counts; 0: the prompt is computed and kept, nothing is answered"), Field(ge=0)
    ]
    temperature: Annotated[
        Number | None, Honoured("0 is greedy; absent: the model's own default"), Field(ge=0, le=1)
    ] = None
    top_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    top_k: Annotated[Integer | None, Honoured("0 and -1: off"), Field(ge=-1, le=1_000_000)] = None
    stop_sequences: Annotated[
        list[Text] | None, Honoured("up to the server's limit of strings, 256 bytes each; the reply names its one")
    ] = None
    stream: Annotated[Flag, Honoured()] = False
    metadata: Annotated[Any, Ignored()] = None
    service_tier: Annotated[Any, Ignored("standard")] = None
    inference_geo: Annotated[Any, Ignored("inference happens on this machine")] = None
    diagnostics: Annotated[Any, Ignored(told=True)] = None
    container: Annotated[Any, Ignored("there is no code execution", told=True)] = None
    # Extensions of local servers, at the top level of the body.
    min_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    seed: Annotated[Integer | None, Honoured("-1: random")] = None
    priority: Annotated[
        Integer, Honoured("-100 to 100; higher goes first among the waiting"), Field(ge=-100, le=100)
    ] = 0
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    num_ctx: Annotated[
        Integer | None, Honoured("beyond the loaded context it reloads"), Field(ge=4, le=MOST_CONTEXT_TOKENS)
    ] = None


class CountBody(PromptFields):
    """POST /v1/messages/count_tokens."""
