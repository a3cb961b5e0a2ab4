"""The bodies of the Ollama dialect: which fields exist, of which type, and what becomes of each."""

from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from heylook_llm.server.wire.samplers import SamplerFields
from heylook_llm.server.wire.table import Body, Flag, Honoured, Ignored, Inner, Integer, Number, Refused, Text

THINK_VALUES: Final = ("high", "medium", "low", "max")


class FunctionCall(Inner):
    """A call that an earlier turn made; `arguments` is an object, or JSON text of one."""

    name: Text
    arguments: dict[str, Any] | Text | None = None


class ToolCall(Inner):
    """A tool call of an assistant's turn."""

    id: Text | None = None
    function: FunctionCall


class Message(Inner):
    """One turn."""

    role: Text
    content: Text | None = None
    thinking: Text | None = None
    images: Annotated[list[Text] | None, Field(description="Image files in base64.")] = None
    tool_calls: list[ToolCall] | None = None
    tool_name: Text | None = None
    tool_call_id: Text | None = None


class FunctionSpec(Inner):
    """A function that the model may call."""

    name: Annotated[str, Field(strict=True, min_length=1, max_length=128)]
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class ToolSpec(Inner):
    """A tool."""

    type: Text | None = "function"
    function: FunctionSpec


class Options(SamplerFields):
    """`options` of generate and chat; the samplers are more than Ollama has."""

    num_ctx: Annotated[Integer | None, Honoured("beyond the loaded context it reloads, once idle")] = None
    num_predict: Annotated[Integer | None, Honoured("negative: open-ended, at most 10 contexts; 0: none")] = None
    seed: Annotated[Integer | None, Honoured("-1: random")] = None
    top_k: Annotated[Integer | None, Honoured("0: off; absent: the model's own, else 40")] = None
    top_p: Annotated[Number | None, Honoured("absent: the model's own, else 0.9")] = None
    min_p: Annotated[Number | None, Honoured("absent: the model's own, else 0")] = None
    typical_p: Annotated[Number | None, Honoured()] = None
    repeat_last_n: Annotated[
        Integer | None, Honoured("0: off, -1: the whole context; absent: the model's own, else 64")
    ] = None
    temperature: Annotated[Number | None, Honoured("0: greedy; absent: the model's own, else 0.8")] = None
    repeat_penalty: Annotated[Number | None, Honoured("1: off; absent: the model's own, else 1")] = None
    presence_penalty: Annotated[Number | None, Honoured()] = None
    frequency_penalty: Annotated[Number | None, Honoured()] = None
    stop: Annotated[list[Text] | Text | None, Honoured("a single string is accepted")] = None
    num_batch: Annotated[Integer | None, Ignored("set when the model is loaded: models.yaml n_batch", told=True)] = None
    num_gpu: Annotated[Integer | None, Ignored("models.yaml n_gpu_layers", told=True)] = None
    main_gpu: Annotated[Integer | None, Ignored("models.yaml main_gpu", told=True)] = None
    use_mmap: Annotated[Flag | None, Ignored("models.yaml use_mmap", told=True)] = None
    num_thread: Annotated[Integer | None, Ignored("models.yaml n_threads", told=True)] = None
    draft_num_predict: Annotated[
        Integer | None, Honoured("most tokens guessed ahead at a time, up to models.yaml's; 0: none")
    ] = None
    num_keep: Annotated[
        Integer | None, Honoured("tokens of the prompt that a shift keeps; negative: all; absent: 4")
    ] = None
    numa: Annotated[Any, Ignored()] = None
    low_vram: Annotated[Any, Ignored()] = None
    f16_kv: Annotated[Any, Ignored()] = None
    logits_all: Annotated[Any, Ignored()] = None
    vocab_only: Annotated[Any, Ignored()] = None
    use_mlock: Annotated[Any, Ignored()] = None
    embedding_only: Annotated[Any, Ignored()] = None
    num_gqa: Annotated[Any, Ignored()] = None
    tfs_z: Annotated[Any, Ignored()] = None
    penalize_newline: Annotated[Any, Ignored()] = None


class CommonFields(Body):
    """What generate and chat share."""

    model: Annotated[Text, Honoured()] = ""
    stream: Annotated[Flag, Honoured("absent: true")] = True
    format: Annotated[Any, Honoured('"json" or a JSON schema; enforced, after the thinking')] = None
    options: Annotated[dict[str, Any], Honoured("see the table of options"), Field(default_factory=dict)]
    keep_alive: Annotated[Any, Honoured("seconds, or a Go duration; digits alone are seconds")] = None
    think: Annotated[Any, Honoured("absent: on where the model can think")] = None
    truncate: Annotated[Flag, Honoured()] = True
    shift: Annotated[Flag, Honoured()] = True
    logprobs: Annotated[Flag, Honoured()] = False
    top_logprobs: Annotated[Integer, Honoured("0 to 20")] = 0
    debug_render_only: Annotated[
        Any, Refused("_debug_render_only is not offered: use POST /apply-template.", neutral=(False,))
    ] = Field(default=None, alias="_debug_render_only")


class ChatBody(CommonFields):
    """POST /api/chat."""

    messages: Annotated[
        list[Message],
        Honoured("empty: load, or with keep_alive 0 unload; images in those of the user and of tools"),
        Field(max_length=10_000, default_factory=list),
    ]
    tools: Annotated[list[ToolSpec], Honoured(), Field(default_factory=list)]


class GenerateBody(CommonFields):
    """POST /api/generate."""

    prompt: Annotated[Text, Honoured("empty: load, or with keep_alive 0 unload")] = ""
    suffix: Annotated[Text, Honoured("needs a model that can insert")] = ""
    images: Annotated[
        list[Text],
        Honoured("files in base64, for models that see; not with raw or suffix"),
        Field(default_factory=list),
    ]
    system: Annotated[Text, Honoured()] = ""
    template: Annotated[
        Text, Honoured("Jinja, or Go as Ollama's are; 64 Ki characters at most"), Field(max_length=1 << 16)
    ] = ""
    context: Annotated[
        list[Annotated[Integer, Field(ge=0, le=2**31 - 1)]],
        Honoured("token ids put first"),
        Field(default_factory=list),
    ]
    raw: Annotated[Flag, Honoured()] = False
    width: Annotated[Any, Ignored()] = None
    height: Annotated[Any, Ignored()] = None
    steps: Annotated[Any, Ignored()] = None


class EmbedBody(Body):
    """POST /api/embed."""

    model: Annotated[Text, Honoured()] = ""
    input: Annotated[
        Any,
        Honoured("a text or texts, up to the server's limit; none: the model is only loaded"),
        pydantic.WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = None
    truncate: Annotated[Flag, Honoured("a text that is too long is cut at its end")] = True
    dimensions: Annotated[Integer | None, Honoured("more than there are: all")] = None
    options: Annotated[dict[str, Any], Honoured("num_ctx; the others have no effect"), Field(default_factory=dict)]
    keep_alive: Annotated[Any, Honoured("seconds, or a Go duration; digits alone are seconds")] = None


class EmbeddingsBody(Body):
    """POST /api/embeddings: the older form, for one text; its vector isn't of length 1."""

    model: Annotated[Text, Honoured()] = ""
    prompt: Annotated[Text, Honoured("cut at its end where it is too long; empty: the model is only loaded")] = ""
    options: Annotated[dict[str, Any], Honoured("num_ctx; the others have no effect"), Field(default_factory=dict)]
    keep_alive: Annotated[Any, Honoured("seconds, or a Go duration; digits alone are seconds")] = None


class ShowBody(Body):
    """POST /api/show."""

    model: Annotated[Text, Honoured()] = ""
    name: Annotated[Text, Honoured("deprecated name of model")] = ""
    verbose: Annotated[Flag, Honoured("true: long arrays of model_info in full")] = False
    system: Annotated[Text, Honoured("overlays the modelfile text")] = ""
    template: Annotated[Text, Honoured("overlays the modelfile text")] = ""
    options: Annotated[dict[str, Any], Honoured("overlays the modelfile text"), Field(default_factory=dict)]


class PullBody(Body):
    """POST /api/pull."""

    model: Annotated[Text, Honoured("a Hugging Face repository, hf.co/org/repo:Q4_K_M, or a short name")] = ""
    name: Annotated[Text, Honoured("deprecated name of model")] = ""
    stream: Annotated[Flag, Honoured("absent: true")] = True
    insecure: Annotated[Flag, Ignored("the hub is $HF_ENDPOINT")] = False
    username: Annotated[Any, Ignored()] = None
    password: Annotated[Any, Ignored()] = None


class DeleteBody(Body):
    """DELETE /api/delete."""

    model: Annotated[Text, Honoured()] = ""
    name: Annotated[Text, Honoured("deprecated name of model")] = ""


class Preset(Inner):
    """A message that every conversation with a model begins with."""

    role: Text
    content: Text = ""


class CreateBody(Body):
    """POST /api/create."""

    model: Annotated[Text, Honoured("its name; one that stands in models.yaml is refused")] = ""
    name: Annotated[Text, Honoured("deprecated name of model")] = ""
    source: Annotated[Text, Honoured("the model to begin with, which is pulled where it isn't there")] = Field(
        default="", alias="from"
    )
    files: Annotated[
        dict[str, Text],
        Honoured("names and digests of uploaded blobs: a GGUF, its parts, its projector; or a folder of safetensors"),
        Field(default_factory=dict),
    ]
    adapters: Annotated[
        dict[str, Text], Honoured("of uploaded LoRA adapters, as GGUF, or as MLX has them"), Field(default_factory=dict)
    ]
    draft_files: Annotated[
        dict[str, Text], Honoured("of an uploaded GGUF that guesses ahead"), Field(default_factory=dict)
    ]
    template: Annotated[Text | None, Honoured("Jinja, or Go as Ollama's are")] = None
    system: Annotated[Text | None, Honoured()] = None
    license: Annotated[list[Text] | Text | None, Honoured()] = None
    parameters: Annotated[
        dict[str, Any],
        Honoured("as options, and those that are set when a model is loaded"),
        Field(default_factory=dict),
    ]
    messages: Annotated[list[Preset] | None, Honoured("roles system, user and assistant"), Field(max_length=10_000)] = (
        None
    )
    quantize: Annotated[Text, Honoured("q4_K_M, q8_0 and the others that need no importance matrix")] = ""
    quantization: Annotated[Text, Honoured("deprecated name of quantize")] = ""
    stream: Annotated[Flag, Honoured("absent: true")] = True
    renderer: Annotated[Any, Ignored("the chat template renders", told=True)] = None
    parser: Annotated[Any, Ignored("chosen by the chat template", told=True)] = None
    requires: Annotated[Any, Ignored()] = None
    info: Annotated[Any, Ignored("the files say it", told=True)] = None


class CopyBody(Body):
    """POST /api/copy."""

    source: Annotated[Text, Honoured()] = ""
    destination: Annotated[Text, Honoured("one that stands in models.yaml is refused")] = ""


class PushBody(Body):
    """POST /api/push."""

    model: Annotated[Text, Honoured("there is no registry to push to: a valid request is refused")] = ""
    name: Annotated[Text, Honoured("deprecated name of model")] = ""
    stream: Annotated[Flag, Ignored()] = True
    insecure: Annotated[Flag, Ignored()] = False
    username: Annotated[Any, Ignored()] = None
    password: Annotated[Any, Ignored()] = None
