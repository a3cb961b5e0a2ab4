"""The bodies of the OpenAI dialect: which fields exist, of which type, and what becomes of each."""

from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import Field

from heylook_llm.core import MOST_CONTEXT_TOKENS
from heylook_llm.server.wire.samplers import SamplerFields
from heylook_llm.server.wire.table import Body, Flag, Honoured, Ignored, Inner, Integer, Number, Refused, Text

FORMATS: Final = "text, json_object, json_schema, regex or grammar; enforced, after the reasoning"
DETAILS: Final = ("auto", "low", "high", "original")
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
BUDGET_NOTE: Final = "tokens of reasoning, after which it is ended and the answer begins; 0: none, -1: any number"
TEMPLATE_ARGUMENTS: Final = ("enable_thinking", "thinking", "reasoning_effort", "thinking_budget")
"""What `chat_template_kwargs` may hold: names that change what a template writes, and nothing that changes its call."""


class StreamOptions(Inner):
    """How a stream is told."""

    include_usage: Flag | None = None


class FunctionCall(Inner):
    """A call that an earlier turn made; `arguments` is JSON text of an object."""

    name: Text
    arguments: Text | dict[str, Any] = "{}"


class ToolCall(Inner):
    """A tool call of an assistant's turn."""

    id: Text | None = None
    type: Text = "function"
    function: FunctionCall | None = None


class ContentPart(Inner):
    """A piece of a message: `text`, `image_url` or `refusal`."""

    type: Text
    text: Text | None = None
    refusal: Text | None = None
    image_url: Annotated[
        Any,
        pydantic.WithJsonSchema(
            {
                "type": "object",
                "required": ["url"],
                "properties": {
                    "url": {"type": "string", "description": "A data URL, or an http(s) URL of a public server."},
                    "detail": {"enum": list(DETAILS), "description": "low: at most 512 pixels a side."},
                },
            }
        ),
    ] = None
    input_audio: Any = None
    file: Any = None


class Message(Inner):
    """One turn."""

    role: Text
    content: Text | list[ContentPart] | None = None
    name: Text | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None
    function_call: FunctionCall | None = None
    refusal: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None
    thinking: Text | None = None


class FunctionSpec(Inner):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag | None = None


class ToolSpec(Inner):
    """A tool; only functions are offered."""

    type: Text = "function"
    function: FunctionSpec | None = None


class Prediction(Inner):
    """What the client expects as answer."""

    type: Text = "content"
    content: Text | list[ContentPart]


class SamplingFields(SamplerFields):
    """What the chat and the legacy route share."""

    temperature: Annotated[
        Number | None, Honoured("0 is greedy; absent: the model's own default"), Field(ge=0, le=2)
    ] = None
    top_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    stop: Annotated[Text | list[Text] | None, Honoured("up to the server's limit of strings, 256 bytes each")] = None
    seed: Annotated[Integer | None, Honoured("choice i samples with seed + i")] = None
    frequency_penalty: Annotated[Number | None, Honoured(), Field(ge=-2, le=2)] = None
    presence_penalty: Annotated[Number | None, Honoured(), Field(ge=-2, le=2)] = None
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-100, le=100)]] | None,
        Honoured("keys are token ids of the model"),
    ] = None
    n: Annotated[Integer, Honoured("up to the server's limit"), Field(ge=1)] = 1
    stream: Annotated[Flag, Honoured()] = False
    stream_options: Annotated[StreamOptions | None, Honoured("include_usage; without stream it is ignored")] = None
    # Extensions of local servers, at the top level of the body.
    top_k: Annotated[Integer | None, Honoured("0 and -1: off"), Field(ge=-1, le=1_000_000)] = None
    min_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    typical_p: Annotated[Number | None, Honoured(), Field(ge=0, le=1)] = None
    repeat_penalty: Annotated[Number | None, Honoured("1: off"), Field(gt=0, le=10)] = None
    repetition_penalty: Annotated[Number | None, Honoured("synonym of repeat_penalty"), Field(gt=0, le=10)] = None
    repeat_last_n: Annotated[Integer | None, Honoured("-1: the whole context"), Field(ge=-1, le=2**31 - 1)] = None
    penalty_last_n: Annotated[Integer | None, Honoured("synonym of repeat_last_n"), Field(ge=-1, le=2**31 - 1)] = None
    repetition_context_size: Annotated[
        Integer | None, Honoured("synonym of repeat_last_n"), Field(ge=-1, le=2**31 - 1)
    ] = None
    n_predict: Annotated[Integer | None, Honoured("as max_tokens; -1: until the end"), Field(ge=-1)] = None
    min_tokens: Annotated[Integer, Honoured(), Field(ge=0, le=1_000_000)] = 0
    ignore_eos: Annotated[Flag, Honoured()] = False
    stop_token_ids: Annotated[
        list[Annotated[Integer, Field(ge=0, le=2**31 - 1)]] | None, Honoured(), Field(max_length=256)
    ] = None
    include_stop_str_in_output: Annotated[Flag, Honoured()] = False
    priority: Annotated[
        Integer, Honoured("-100 to 100; higher goes first among the waiting"), Field(ge=-100, le=100)
    ] = 0
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    num_ctx: Annotated[
        Integer | None, Honoured("beyond the loaded context it reloads"), Field(ge=4, le=MOST_CONTEXT_TOKENS)
    ] = None
    options: Annotated[
        dict[str, Any] | None, Ignored("Ollama's options: give them at the top level here", told=True)
    ] = None
    include_performance: Annotated[Flag, Honoured("adds `performance` to the reply")] = False
    draft_limit: Annotated[
        Integer | None,
        Honoured("llama-server's name: most tokens guessed ahead at a time, up to models.yaml's; 0: none"),
        Field(ge=0, le=2**31 - 1),
    ] = Field(default=None, alias="speculative.n_max")
    num_draft_tokens: Annotated[
        Integer | None, Honoured("synonym of speculative.n_max, mlx_lm's name"), Field(ge=0, le=2**31 - 1)
    ] = None
    draft_least: Annotated[Any, Ignored("guesses adapt by themselves", told=True)] = Field(
        default=None, alias="speculative.n_min"
    )
    draft_sure: Annotated[Any, Ignored("guesses adapt by themselves", told=True)] = Field(
        default=None, alias="speculative.p_min"
    )
    timings_per_token: Annotated[Flag, Honoured("llama-server's: `timings` in each chunk of a stream")] = False
    best_of: Annotated[Integer | None, Honoured("only 1 or n; not in a stream"), Field(ge=1)] = None
    # Fields that OpenAI or others define and that mean nothing here.
    user: Annotated[Any, Ignored()] = None
    metadata: Annotated[Any, Ignored()] = None
    store: Annotated[Any, Ignored()] = None
    service_tier: Annotated[Any, Ignored()] = None
    safety_identifier: Annotated[Any, Ignored()] = None
    prompt_cache_key: Annotated[Any, Ignored("prefixes are always cached")] = None
    prompt_cache_options: Annotated[Any, Ignored()] = None
    prompt_cache_retention: Annotated[Any, Ignored()] = None
    cache_prompt: Annotated[Any, Ignored("prefixes are always cached")] = None
    request_id: Annotated[Any, Ignored("see the x-request-id header", told=True)] = None
    skip_special_tokens: Annotated[Any, Ignored("special tokens are never output", told=True)] = None
    spaces_between_special_tokens: Annotated[Any, Ignored(told=True)] = None
    length_penalty: Annotated[Any, Ignored("a beam search's", told=True)] = None
    id_slot: Annotated[Any, Ignored(told=True)] = None
    n_keep: Annotated[Any, Ignored(told=True)] = None
    return_progress: Annotated[
        Flag, Honoured("llama-server's: a stream's chunks say in `prompt_progress` how much of the prompt is computed")
    ] = False
    samplers: Annotated[Any, Ignored("the order of samplers is fixed", told=True)] = None
    # The form of the answer: at most one of these.
    response_format: Annotated[dict[str, Any] | None, Honoured(FORMATS)] = None
    grammar: Annotated[Text | None, Honoured("llama.cpp's: GBNF, or Lark with a rule `start`")] = None
    json_schema: Annotated[dict[str, Any] | Text | None, Honoured("llama.cpp's")] = None
    guided_json: Annotated[dict[str, Any] | Text | None, Honoured("vLLM's: a JSON schema")] = None
    guided_regex: Annotated[Text | None, Honoured("vLLM's: matches the whole answer; no look-around")] = None
    guided_choice: Annotated[list[Text] | None, Honoured("vLLM's: the answer is one of these texts")] = None
    guided_grammar: Annotated[Text | None, Honoured("vLLM's: as grammar")] = None
    structured_outputs: Annotated[
        dict[str, Any] | None, Honoured("vLLM's: one of json, regex, choice, grammar, json_object")
    ] = None
    prompt_embeds: Annotated[Any, Refused("Embedded prompts are not accepted: send text or token ids.")] = None
    truncate_prompt_tokens: Annotated[
        Any, Refused("Prompts are not truncated on /v1: shorten it, or use /api/chat with `truncate`.")
    ] = None
    use_beam_search: Annotated[Any, Refused("Beam search is not offered.", neutral=(False,))] = None


PromptLogprobs = Annotated[
    Integer | None,
    Honoured("vLLM's: of the prompt's tokens, with so many alternatives; whole replies"),
    Field(ge=0, le=20),
]
Side = Annotated[Integer, Field(ge=1, le=8192)] | None


class ChatBody(SamplingFields):
    """POST /v1/chat/completions."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    messages: Annotated[
        list[Message],
        Honoured("text and image_url parts; images in messages of the user and of tools, for models that see"),
        Field(min_length=1, max_length=10_000),
    ]
    processing_mode: Annotated[
        Literal["conversation", "sequential", "sequential_with_context", "parallel"],
        Honoured("other than conversation: each turn of the user's is answered for itself, or in context; no stream"),
    ] = "conversation"
    return_individual: Annotated[Flag, Honoured("false: the choices of such answers in one list")] = True
    include_timing: Annotated[Flag, Honoured("adds `timing` to such answers")] = False
    resize_max: Annotated[Side, Honoured("images are made smaller, so that no side has more pixels")] = None
    resize_width: Annotated[Side, Honoured("images get this width; alone: in proportion")] = None
    resize_height: Annotated[Side, Honoured("images get this height; alone: in proportion")] = None
    image_quality: Annotated[Any, Ignored("the model gets pixels: images are not packed again")] = None
    preserve_alpha: Annotated[Any, Ignored("models see no transparency: it shows white", told=True)] = None
    max_completion_tokens: Annotated[Integer | None, Honoured("wins over max_tokens"), Field(ge=1)] = None
    max_tokens: Annotated[Integer | None, Honoured("absent: until the end or the context"), Field(ge=1)] = None
    logprobs: Annotated[Flag, Honoured()] = False
    top_logprobs: Annotated[Integer | None, Honoured("needs logprobs"), Field(ge=0, le=20)] = None
    prompt_logprobs: PromptLogprobs = None
    tools: Annotated[list[ToolSpec] | None, Honoured("functions only")] = None
    tool_choice: Annotated[
        Text | dict[str, Any] | None, Honoured("none, auto, required, a function, or allowed_tools; enforced")
    ] = None
    parallel_tool_calls: Annotated[Flag, Honoured()] = True
    functions: Annotated[list[FunctionSpec] | None, Honoured("deprecated form of tools")] = None
    function_call: Annotated[Text | dict[str, Any] | None, Honoured("deprecated form of tool_choice")] = None
    reasoning_effort: Annotated[Text | None, Honoured(", ".join(EFFORTS))] = None
    reasoning: Annotated[dict[str, Any] | None, Honoured("{effort, max_tokens, enabled}")] = None
    reasoning_budget: Annotated[Integer | None, Honoured(BUDGET_NOTE), Field(ge=-1)] = None
    reasoning_budget_tokens: Annotated[Integer | None, Honoured("synonym of reasoning_budget"), Field(ge=-1)] = None
    thinking_budget_tokens: Annotated[Integer | None, Honoured("synonym of reasoning_budget"), Field(ge=-1)] = None
    thinking_token_budget: Annotated[Integer | None, Honoured("synonym of reasoning_budget"), Field(ge=-1)] = None
    think: Annotated[Flag | Text | None, Honoured("as at Ollama")] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, Honoured("only " + ", ".join(TEMPLATE_ARGUMENTS))] = None
    continue_final_message: Annotated[Flag, Honoured("the last message is the assistant's, to be continued")] = False
    add_generation_prompt: Annotated[
        Any, Refused("The prompt always ends so that the model answers.", neutral=(True,))
    ] = None
    include_reasoning: Annotated[Flag, Honoured("false: reasoning is left out of the reply")] = True
    reasoning_format: Annotated[
        Any, Refused("Reasoning is always given apart, as reasoning_content.", neutral=("auto", "deepseek"))
    ] = None
    return_tokens: Annotated[Any, Ignored("llama-server has it in /completion; see return_token_ids", told=True)] = None
    return_token_ids: Annotated[Flag, Honoured("vLLM's: adds prompt_token_ids, and token_ids to choices")] = False
    verbosity: Annotated[Any, Ignored()] = None
    prediction: Annotated[
        Prediction | None, Honoured("guessed from: it makes an answer that repeats it faster, never another one")
    ] = None
    moderation: Annotated[Any, Ignored()] = None
    web_search_options: Annotated[Any, Ignored("there is no web search", told=True)] = None
    modalities: Annotated[Any, Refused("Only text is offered.", code="unsupported_value", neutral=(["text"],))] = None
    audio: Annotated[Any, Refused("Audio output is not offered.")] = None
    chat_template: Annotated[
        Any, Refused("A template from a request is not accepted; set it in models.yaml (chat_template).")
    ] = None
    tokenize: Annotated[Any, Refused("Not a field of this route: use POST /tokenize.")] = None
    conversation: Annotated[Any, Refused("Conversations are not stored: send the messages.")] = None
    return_dict: Annotated[Any, Refused("Not a field of this route.")] = None


class CompletionBody(SamplingFields):
    """POST /v1/completions."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    prompt: Annotated[
        Text | list[Text] | list[Annotated[Integer, Field(ge=0, le=2**31 - 1)]] | list[list[Integer]],
        Honoured("text, texts, token ids, or lists of token ids; choice index = prompt * n + j"),
    ]
    max_tokens: Annotated[Integer | None, Honoured("absent: until the end or the context"), Field(ge=0)] = None
    max_completion_tokens: Annotated[Integer | None, Honoured("synonym of max_tokens"), Field(ge=0)] = None
    logprobs: Annotated[Integer | None, Honoured("0: of the chosen token"), Field(ge=0, le=20)] = None
    echo: Annotated[Flag, Honoured("with logprobs also those of the prompt's tokens")] = False
    prompt_logprobs: PromptLogprobs = None
    suffix: Annotated[Text | None, Honoured("needs a model that can insert")] = None
    add_special_tokens: Annotated[Flag, Honoured()] = True
    return_token_ids: Annotated[Flag, Honoured("vLLM's: adds prompt_token_ids and token_ids to choices")] = False


_TOKENS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "integer", "minimum": 0}}
INPUT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
        _TOKENS,
        {"type": "array", "items": _TOKENS},
    ]
}
"""What vectors can be made of."""


class EmbeddingBody(Body):
    """POST /v1/embeddings."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    input: Annotated[
        Any,
        Honoured("a text, texts, token ids, or lists of token ids of this model; up to the server's limit"),
        pydantic.WithJsonSchema(INPUT_SCHEMA),
    ]
    encoding_format: Annotated[Literal["float", "base64"], Honoured("base64: of little-endian 32-bit floats")] = "float"
    dimensions: Annotated[
        Integer | None, Honoured("the first so many numbers, made a vector of length 1 again"), Field(ge=1)
    ] = None
    add_special_tokens: Annotated[Flag, Honoured("of vLLM")] = True
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    user: Annotated[Any, Ignored()] = None
    truncate_prompt_tokens: Annotated[Any, Ignored("a text that is too long is refused", told=True)] = None
    priority: Annotated[Any, Ignored("texts of all requests are computed in turns", told=True)] = None


class RerankBody(Body):
    """POST /v1/rerank: Jina's, Cohere's, vLLM's and llama-server's form (`documents`), or TEI's (`texts`)."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    query: Annotated[Text, Honoured()]
    documents: Annotated[list[Any] | None, Honoured("texts, or objects with a `text`; up to the server's limit")] = None
    texts: Annotated[list[Any] | None, Honoured("TEI's form; the reply is a bare array")] = None
    top_n: Annotated[Integer | None, Honoured("absent: all"), Field(ge=1)] = None
    return_documents: Annotated[Flag, Honoured("adds `document` to each result")] = False
    return_text: Annotated[Flag, Honoured("TEI's; adds `text`")] = False
    raw_scores: Annotated[Flag, Honoured("TEI's; the model's logits instead of their sigmoid")] = False
    truncate: Annotated[Flag, Honoured("TEI's; a document that is too long is cut at its end, not refused")] = False
    max_tokens_per_doc: Annotated[
        Integer | None, Honoured("Cohere's; each document is cut to so many tokens"), Field(ge=1, le=2**31 - 1)
    ] = None
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    max_chunks_per_doc: Annotated[Any, Ignored("a document is one chunk", told=True)] = None
    rank_fields: Annotated[Any, Ignored("`text` counts", told=True)] = None
    instruction: Annotated[Any, Ignored(told=True)] = None
    truncate_prompt_tokens: Annotated[Any, Ignored("see truncate", told=True)] = None
    user: Annotated[Any, Ignored()] = None


class TokenizeBody(Body):
    """POST /tokenize: llama.cpp's form (`content`), or vLLM's (`prompt` or `messages`)."""

    model: Annotated[Text, Honoured("absent: the server's default model")] = ""
    content: Annotated[
        Text | list[Text | Annotated[Integer, Field(ge=0, le=2**31 - 1)]] | None,
        Honoured("llama.cpp's form: a text, or texts and token ids mixed"),
    ] = None
    prompt: Annotated[Text | None, Honoured("vLLM's form")] = None
    messages: Annotated[list[Message] | None, Honoured("vLLM's form; rendered by the model's template")] = None
    tools: Annotated[list[ToolSpec] | None, Honoured()] = None
    add_special: Annotated[Flag | None, Honoured("llama.cpp's name; absent: false")] = None
    add_special_tokens: Annotated[Flag | None, Honoured("vLLM's name; absent: true for a prompt")] = None
    parse_special: Annotated[Flag, Honoured()] = True
    with_pieces: Annotated[Flag, Honoured()] = False
    return_token_strs: Annotated[Flag, Honoured()] = False
    chat_template_kwargs: Annotated[dict[str, Any] | None, Honoured()] = None
    continue_final_message: Annotated[Flag, Honoured("the last message is the assistant's, to be continued")] = False
    add_generation_prompt: Annotated[
        Any, Refused("The prompt always ends so that the model answers.", neutral=(True,))
    ] = None


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Annotated[Text, Honoured("absent: the server's default model")] = ""
    tokens: Annotated[list[Annotated[Integer, Field(ge=0, le=2**31 - 1)]], Honoured(), Field(max_length=1_000_000)]


class TemplateBody(Body):
    """POST /apply-template."""

    model: Annotated[Text, Honoured("absent: the server's default model")] = ""
    messages: Annotated[list[Message], Honoured(), Field(min_length=1, max_length=10_000)]
    tools: Annotated[list[ToolSpec] | None, Honoured()] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, Honoured()] = None
    continue_final_message: Annotated[Flag, Honoured("the last message is the assistant's, to be continued")] = False
    add_generation_prompt: Annotated[
        Any, Refused("The prompt always ends so that the model answers.", neutral=(True,))
    ] = None
