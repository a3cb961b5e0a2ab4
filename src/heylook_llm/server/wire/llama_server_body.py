"""The bodies of llama-server's own routes: which fields exist, of which type, and what becomes of each."""

from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from heylook_llm.server.wire.openai_body import INPUT_SCHEMA, SamplingFields
from heylook_llm.server.wire.table import Body, Flag, Honoured, Ignored, Inner, Integer, Number, Refused, Text

BAN: Final = -1e6
"""What a bias of `false` comes to: no logit is as large."""
_TOKEN: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_PROMPT: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"anyOf": [_TOKEN, {"type": "string"}]}},
        {"type": "object", "required": ["prompt_string"], "properties": {"prompt_string": {"type": "string"}}},
    ]
}
_BIAS: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "array", "items": {"type": "array", "items": {}, "minItems": 2, "maxItems": 2}},
        {"type": "object", "additionalProperties": {"type": ["number", "boolean"]}},
    ]
}


def _pairs(given: Any) -> Any:
    """A list of pairs as an object; `false` as a bias that bans."""
    if isinstance(given, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in given):
        given = {str(token): bias for token, bias in given}
    if isinstance(given, dict):
        return {token: BAN if bias is False else bias for token, bias in given.items()}
    return given


class NativeFields(SamplingFields):
    """What /completion and /infill share."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    temperature: Annotated[
        Number | None, Honoured("0 is greedy; absent: the model's own default"), Field(ge=0, le=100)
    ] = None
    max_tokens: Annotated[Integer | None, Honoured("synonym of n_predict"), Field(ge=-1)] = None
    max_completion_tokens: Annotated[Integer | None, Honoured("synonym of n_predict"), Field(ge=-1)] = None
    n_cmpl: Annotated[Integer | None, Honoured("synonym of n"), Field(ge=1)] = None
    logit_bias: Annotated[
        dict[str, Annotated[float, Field(strict=True, allow_inf_nan=False, ge=BAN, le=-BAN)]] | None,
        Honoured("pairs of token id and bias, or an object; `false` bans. Ids only: POST /tokenize gives them"),
        pydantic.BeforeValidator(_pairs),
        pydantic.WithJsonSchema(_BIAS),
    ] = None
    n_probs: Annotated[Integer | None, Honoured("adds completion_probabilities"), Field(ge=0, le=100)] = None
    logprobs: Annotated[Integer | None, Honoured("synonym of n_probs"), Field(ge=0, le=100)] = None
    return_tokens: Annotated[Flag, Honoured("fills `tokens` of a whole reply; a stream has them anyway")] = False
    response_fields: Annotated[
        list[Text] | None, Honoured("of the last reply; `a/b` takes b out of a"), Field(max_length=64)
    ] = None
    n_indent: Annotated[
        Integer, Honoured("the answer ends at a line, but its first, that is indented less"), Field(ge=0, le=10_000)
    ] = 0
    t_max_predict_ms: Annotated[
        Integer | None, Honoured("once so long after the first token, the answer ends with its line"), Field(ge=-1)
    ] = None
    post_sampling_probs: Annotated[
        Any, Refused("Probabilities are those before sampling: leave post_sampling_probs out.", neutral=(False,))
    ] = None
    image_data: Annotated[Any, Refused("Send images to POST /v1/chat/completions.", neutral=([],))] = None
    lora: Annotated[Any, Refused("Adapters are set in models.yaml (lora).", neutral=([],))] = None
    grammar_lazy: Annotated[
        Any, Refused("A grammar holds from the first token: leave grammar_lazy out.", neutral=(False,))
    ] = None
    grammar_triggers: Annotated[
        Any, Refused("A grammar holds from the first token: leave grammar_triggers out.", neutral=([],))
    ] = None
    preserved_tokens: Annotated[Any, Ignored("needed by grammar_triggers only")] = None
    t_max_prompt_ms: Annotated[Any, Ignored("llama-server doesn't heed it either", told=True)] = None
    min_keep: Annotated[Any, Ignored(told=True)] = None
    n_discard: Annotated[Any, Ignored("contexts aren't shifted here", told=True)] = None
    n_cache_reuse: Annotated[Any, Ignored("prefixes are always cached", told=True)] = None
    sse_ping_interval: Annotated[Any, Ignored("the server's own", told=True)] = None
    backend_sampling: Annotated[Any, Ignored("changes no answer")] = None
    verbose: Annotated[Any, Ignored(told=True)] = None
    penalize_nl: Annotated[Any, Ignored("llama-server dropped it", told=True)] = None


class NativeBody(NativeFields):
    """POST /completion of llama-server, and /completions without /v1."""

    prompt: Annotated[
        Any,
        Honoured("a text, token ids, both mixed, or a list of these; {prompt_string} without multimodal_data"),
        pydantic.WithJsonSchema(_PROMPT),
    ]


class ExtraFile(Inner):
    """Another file that may help."""

    text: Text
    filename: Text = "tmp"


class InfillBody(NativeFields):
    """POST /infill of llama-server: the text between a prefix and a suffix."""

    input_prefix: Annotated[Text, Honoured("what doesn't fit of it is left out, the farthest first")]
    input_suffix: Annotated[Text, Honoured("likewise")]
    input_extra: Annotated[
        list[ExtraFile] | None, Honoured("other files; the first go where not all fit"), Field(max_length=1024)
    ] = None
    prompt: Annotated[Text, Honoured("how the text begins")] = ""


class NativeEmbeddingBody(Body):
    """POST /embedding of llama-server, and /embeddings without /v1."""

    model: Annotated[Text, Honoured("absent: the server's default model"), Field(max_length=400)] = ""
    content: Annotated[
        Any,
        Honoured("a text, texts, token ids, or lists of token ids; up to the server's limit"),
        pydantic.WithJsonSchema(INPUT_SCHEMA),
    ] = None
    input: Annotated[Any, Honoured("synonym of content"), pydantic.WithJsonSchema(INPUT_SCHEMA)] = None
    embd_normalize: Annotated[
        Integer,
        Honoured("2: to the length 1; -1: not; 1: by the sum, 0: by the largest, above 2: by that norm"),
        Field(ge=-1, le=1000),
    ] = 2
    keep_alive: Annotated[Any, Honoured("as at Ollama")] = None
    image_data: Annotated[Any, Refused("Images have no vectors here.", neutral=([],))] = None
