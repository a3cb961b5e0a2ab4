"""Which provider can do what: one table, read by the refusals, `/v1/capabilities`, the documentation and the contract.

Every row is a feature that a client or a configuration may ask for. A provider that lacks it says why, and who asks it
for the feature is refused with that reason; nothing is dropped in silence. `tests/contract` asks every provider for
every feature, by the same tests.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

PROVIDERS: Final = ("llama_cpp", "mlx", "fake")


class Feature(msgspec.Struct, frozen=True):
    """One thing that may be asked for.

    `lacking`: provider -> why it can't. `notes`: provider -> how it does it otherwise than one would think.
    `fields`: fields of core.Sampling that ask for it.
    """

    name: str
    what: str
    lacking: Mapping[str, str] = {}
    notes: Mapping[str, str] = {}
    fields: tuple[str, ...] = ()


_LLAMA_CPPS: Final = dict.fromkeys(("mlx", "fake"), "it is one of llama.cpp's own samplers.")

FEATURES: Final = (
    Feature("chat", "Chat by the model's template, whole or streamed"),
    Feature("completion", "Raw prompts: text, token ids, several at once"),
    Feature(
        "infill", "The text between a prompt and a suffix", notes=dict.fromkeys(PROVIDERS, "models with its tokens")
    ),
    Feature(
        "batching",
        "Concurrent requests computed together, joining and leaving in mid-flight",
        notes={"mlx": "with `cache_type: rotating` one after the other within a step"},
    ),
    Feature("n", "Several answers to a prompt that is computed once"),
    Feature("stop", "Stop strings and stop tokens"),
    Feature("length", "`max_tokens`, `min_tokens`, `ignore_eos`"),
    Feature(
        "seed",
        "The same seed gives the same text, alone and in a batch",
        notes={
            "llama_cpp": "alone always; in a batch it rounds otherwise (weights of 16 bits or less, flash attention), "
            "so what was a near thing may be drawn differently there",
        },
    ),
    Feature("cuts", "temperature, top_k, top_p, min_p, typical_p"),
    Feature("penalties", "Repetition, presence and frequency penalties"),
    Feature("logit_bias", "Bias of single tokens"),
    Feature("logprobs", "Log probabilities, with up to 20 alternatives"),
    Feature(
        "prompt_logprobs",
        "Log probabilities of the prompt's own tokens",
        notes={
            "llama_cpp": "its tokens are computed 24 at a time, so that they take longer",
            "fake": "of its noise: they say nothing",
        },
    ),
    Feature("mirostat", "Mirostat 1 and 2"),
    Feature("dry", "DRY", lacking=_LLAMA_CPPS, fields=("dry_multiplier",)),
    Feature("xtc", "XTC", lacking=_LLAMA_CPPS, fields=("xtc_probability",)),
    Feature("top_n_sigma", "top_n_sigma", lacking=_LLAMA_CPPS, fields=("top_n_sigma",)),
    Feature("dynatemp", "Dynamic temperature", lacking=_LLAMA_CPPS, fields=("dynatemp_range",)),
    Feature("adaptive_p", "adaptive-p", lacking=_LLAMA_CPPS, fields=("adaptive_target",)),
    Feature(
        "vision",
        "Images in messages",
        notes={
            "llama_cpp": "models with a projector (`mmproj_path`)",
            "mlx": "LLaVA, with the extra `vlm`",
            "fake": "where `image_tokens` is set",
        },
    ),
    Feature("tools", "Tool calls, whole and streamed"),
    Feature("constraints", "Answers held to a JSON schema, a regex, a grammar or a list of texts, after the reasoning"),
    Feature("forced_calls", "Calls that have to be made, of some tools or one, held to their schemas"),
    Feature("reasoning", "Reasoning kept apart from the answer"),
    Feature("context", "Over-long prompts refused or shortened, as each API defines it"),
    Feature(
        "shift",
        "Going on when the context is full",
        notes={"mlx": "what stays is computed anew"},
    ),
    Feature(
        "speculation",
        "Tokens guessed ahead: predicted by the client, looked up, or drafted by a smaller model",
        notes={
            "llama_cpp": "not on recurrent models, nor on sliding windows without `swa_full`",
            "mlx": "while one request is being answered; not with `cache_type: rotating`, nor on recurrent models",
            "fake": "no smaller model",
        },
    ),
    Feature("preemption", "More requests than the memory holds: the youngest waits, unseen"),
    Feature(
        "prefix",
        "A prompt's known beginning isn't computed again",
        notes={"mlx": "saves the computation, not the memory: each request has its own copy"},
    ),
    Feature(
        "embeddings",
        "Vectors of texts, many in one request",
        notes={"mlx": "of text models; `pooling: last` in models.yaml makes one of Qwen3-Embedding"},
    ),
    Feature(
        "rerank",
        "Documents scored against a query, by models that rank",
        lacking={"mlx": "it is not a model that ranks documents."},
    ),
    Feature("tokens", "`/tokenize`, `/detokenize`, `/apply-template`"),
    Feature(
        "adapters",
        "LoRA adapters, by configuration",
        notes={"fake": "no weights to adapt: the key is an error in its configuration"},
    ),
    Feature("damaged", "Damaged weights: an error that says so, and harm to nothing else"),
    Feature("killed", "A worker that dies in mid-stream: an error to its own requests; the next one starts another"),
    Feature("cancel", "A client that leaves frees its place, at any stage"),
)


def feature(name: str) -> Feature:
    """The row of that name."""
    return next(row for row in FEATURES if row.name == name)


def refused_fields(provider: str) -> Iterator[tuple[str, str]]:
    """(field of Sampling, reason) of everything that a provider lacks."""
    for row in FEATURES:
        if (reason := row.lacking.get(provider)) is not None:
            yield from ((field, reason) for field in row.fields)
