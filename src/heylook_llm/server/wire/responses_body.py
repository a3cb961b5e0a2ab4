"""The bodies of the Responses API: which fields exist, of which type, and what becomes of each."""

from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import Field

from heylook_llm.core import MOST_CONTEXT_TOKENS
from heylook_llm.server.wire.openai_body import TEMPLATE_ARGUMENTS
from heylook_llm.server.wire.samplers import SamplerFields
from heylook_llm.server.wire.table import Body, Flag, Honoured, Ignored, Inner, Integer, Number, Refused, Text

LOGPROBS: Final = "message.output_text.logprobs"
ENCRYPTED: Final = "reasoning.encrypted_content"
INCLUDABLE: Final = (LOGPROBS, ENCRYPTED)
"""Of `include`: the rest is of tools that aren't offered."""
MAX_METADATA: Final = 16
MAX_METADATA_KEY: Final = 64
MAX_METADATA_VALUE: Final = 512


class ResponsePart(Inner):
    """A piece of an item: `input_text`, `output_text`, `refusal`, `input_image`, `summary_text`, `reasoning_text`."""

    type: Text = ""
    text: Text | None = None
    refusal: Text | None = None
    image_url: Annotated[
        Any,
        pydantic.WithJsonSchema(
            {"type": "string", "description": "A data URL, or an http(s) URL of a public server."},
        ),
    ] = None
    detail: Text | None = None
    file_id: Any = None


class ResponseItem(Inner):
    """An item of a conversation: a message, a call, what a call gave, a reasoning, or a reference to a kept item."""

    type: Text = "message"
    id: Text | None = None
    role: Text | None = None
    content: Text | list[ResponsePart] | None = None
    call_id: Text | None = None
    name: Text | None = None
    namespace: Text | None = None
    arguments: Any = None
    input: Any = None
    output: Annotated[
        Any,
        pydantic.WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
        ),
    ] = None
    summary: list[ResponsePart] | None = None
    encrypted_content: Text | None = None


class ResponseTool(Inner):
    """A tool: a function, a custom one whose input is text, or a namespace of them."""

    type: Text
    name: Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None
    format: dict[str, Any] | None = None
    tools: "list[ResponseTool] | None" = None


class TextSettings(Inner):
    """The form of the answer."""

    format: dict[str, Any] | None = None
    verbosity: Any = None


class ReasoningSettings(Inner):
    """Whether and how the model reasons."""

    effort: Text | None = None
    summary: Text | None = None
    generate_summary: Text | None = None
    max_tokens: Annotated[Integer, Field(ge=-1)] | None = None


class PromptFields(Body):
    """What a response and a count share."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    instructions: Annotated[Text | None, Honoured("the first message; not carried on by previous_response_id")] = None
    previous_response_id: Annotated[
        Text | None, Honoured("a kept response: its conversation stands before this input"), Field(max_length=400)
    ] = None
    conversation: Annotated[
        Any, Refused("Conversations are not stored here: send previous_response_id, or all of the items.")
    ] = None
    tools: Annotated[
        list[ResponseTool] | None,
        Honoured(
            "function, custom, and namespaces of them; the input of a custom tool is held to its regex, a Lark grammar "
            "is only told to the model; OpenAI's own tools are left out, and named in x-heylook-ignored"
        ),
    ] = None
    tool_choice: Annotated[
        Text | dict[str, Any] | None, Honoured("none, auto, required, a function, a custom tool, allowed_tools")
    ] = None
    parallel_tool_calls: Annotated[Flag, Honoured()] = True
    reasoning: Annotated[
        ReasoningSettings | None,
        Honoured("effort; with `summary` the reasoning comes as its summary, whole; max_tokens, of local servers"),
    ] = None
    text: Annotated[
        TextSettings | None, Honoured("format: text, json_object, json_schema, regex or grammar; verbosity is ignored")
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"], Honoured("auto: the oldest turns go where the context is too small")
    ] = "disabled"
    chat_template_kwargs: Annotated[dict[str, Any] | None, Honoured("only " + ", ".join(TEMPLATE_ARGUMENTS))] = None
    prompt: Annotated[Any, Refused("Prompt templates are not stored here: send the instructions and the input.")] = None


def _moved(here: str) -> str:
    return f"This route has '{here}' instead."


class ResponseBody(PromptFields, SamplerFields):
    """POST /v1/responses."""

    input: Annotated[
        Text | list[ResponseItem],
        Honoured("a text, or items; item_reference by the id of a kept one; items of OpenAI's own tools are left out"),
    ]
    stream: Annotated[Flag, Honoured()] = False
    background: Annotated[Flag, Honoured("needs store; it is answered when the client has left, too")] = False
    store: Annotated[Flag, Honoured("absent: true, in the server's own file, within its limits of size and age")] = True
    max_output_tokens: Annotated[Integer | None, Honoured("absent: until the end or the context"), Field(ge=1)] = None
    temperature: Annotated[
        Number | None, Honoured("0 is greedy; absent: the model's own default"), Field(ge=0, le=2)
    ] = None
    top_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    top_logprobs: Annotated[Integer | None, Honoured("of each token of the text"), Field(ge=0, le=20)] = None
    include: Annotated[
        list[Text] | None, Honoured(", ".join(INCLUDABLE) + "; other values are named in x-heylook-ignored")
    ] = None
    metadata: Annotated[dict[str, Text] | None, Honoured("kept with the response and given back")] = None
    # Extensions of local servers, at the top level of the body.
    top_k: Annotated[Integer | None, Honoured("0 and -1: off"), Field(ge=-1, le=1_000_000)] = None
    min_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    seed: Annotated[Integer | None, Honoured("-1: random")] = None
    stop: Annotated[Text | list[Text] | None, Honoured("up to the server's limit of strings, 256 bytes each")] = None
    presence_penalty: Annotated[Number | None, Honoured(), Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[Number | None, Honoured(), Field(ge=-2, le=2)] = None
    repeat_penalty: Annotated[Number | None, Honoured("1: off"), Field(gt=0, le=10)] = None
    priority: Annotated[
        Integer, Honoured("-100 to 100; higher goes first among the waiting"), Field(ge=-100, le=100)
    ] = 0
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    num_ctx: Annotated[
        Integer | None, Honoured("beyond the loaded context it reloads"), Field(ge=4, le=MOST_CONTEXT_TOKENS)
    ] = None
    include_performance: Annotated[Flag, Honoured("adds `performance` to the response")] = False
    # Fields that OpenAI defines and that mean nothing here.
    max_tool_calls: Annotated[Any, Ignored("it counts calls of OpenAI's own tools, and there are none")] = None
    stream_options: Annotated[Any, Ignored("nothing is obfuscated")] = None
    user: Annotated[Any, Ignored("given back")] = None
    safety_identifier: Annotated[Any, Ignored("given back")] = None
    prompt_cache_key: Annotated[Any, Ignored("prefixes are always cached; given back")] = None
    prompt_cache_options: Annotated[Any, Ignored()] = None
    prompt_cache_retention: Annotated[Any, Ignored()] = None
    service_tier: Annotated[Any, Ignored()] = None
    moderation: Annotated[Any, Ignored()] = None
    access_programs: Annotated[Any, Ignored()] = None
    image: Annotated[Any, Ignored()] = None
    context_management: Annotated[Any, Ignored("nothing is compacted", told=True)] = None
    # What belongs to other routes; OpenAI refuses these, too.
    messages: Annotated[Any, Refused(_moved("input"))] = None
    max_tokens: Annotated[Any, Refused(_moved("max_output_tokens"))] = None
    max_completion_tokens: Annotated[Any, Refused(_moved("max_output_tokens"))] = None
    response_format: Annotated[Any, Refused(_moved("text.format"))] = None
    reasoning_effort: Annotated[Any, Refused(_moved("reasoning.effort"))] = None
    n: Annotated[Any, Refused("A response is one answer: send the request several times.", neutral=(1,))] = None


class InputTokensBody(PromptFields):
    """POST /v1/responses/input_tokens."""

    input: Annotated[
        Text | list[ResponseItem] | None, Honoured("as of POST /v1/responses; absent: the conversation before it")
    ] = None
    personality: Annotated[Any, Ignored()] = None
