"""What each key of models.yaml does, in a line: for the documentation, and for pages that offer it to be changed."""

from typing import Final

import pydantic

from heylook_llm import config

EFFECTS: Final[dict[type[pydantic.BaseModel], dict[str, str]]] = {
    config.Settings: {
        "default_model": "Loaded at the start; what a request without a model gets (`/v1` only).",
        "max_loaded_models": "How many models stay loaded, the most recently used ones. "
        "A busy or pinned model is never evicted.",
        "prewarm": "Load `default_model` at the start, not at its first request.",
        "limits": "Bounds of the server: see below.",
        "performance": "What is kept of finished requests: see below.",
        "responses": "What is kept of `/v1/responses`: see below.",
        "hardware": "What you say of this machine, for `GET /hardware`: see below.",
        "models": "The registry: a list of entries.",
    },
    config.ModelSpec: {
        "id": "The name that clients use; `NAME:latest` is the same, and case doesn't count.",
        "aliases": "More names for it, for clients that hard-code one, such as `gpt-4o`.",
        "provider": "The engine: `llama_cpp` (GGUF files), `mlx` (safetensors) or `fake` (no weights, for tests).",
        "description": "Shown in listings.",
        "tags": "Shown in listings.",
        "enabled": "`false`: kept in the file, not served. `auto`: served where its engine is installed.",
        "pinned": "Never evicted and never unloaded for idleness.",
        "idle_ttl": "Unload after so long without a request: seconds, `5m`, `1h30m`, `never`. "
        "A request's `keep_alive` stands above it.",
        "system": "The system message of conversations that begin with none, in every API.",
        "messages": "What every conversation begins with, behind its system message: a list of `role` (`system`, "
        "`user`, `assistant`) and `content`.",
        "license": "Shown by `show`: a list of texts.",
        "parent": "The model that it was made from; shown.",
        "config": "The engine's settings: see below.",
    },
    config.Hardware: {
        "label": "What you call this machine.",
        "machine": "Its make, in place of what its firmware says.",
        "processor": "Its processor's name, in place of what is found.",
        "memory": "Its memory in your words, such as `2 x 32 GB DDR5-6000`.",
        "gpu": "Its GPU's name: of the first that is found, or of one that isn't.",
        "powercap": "Where the processor's energy counters are.",
    },
    config.Recording: {
        "file": "Where it is kept; `memory` writes nothing. Unset: `performance.sqlite3` in your state folder.",
        "keep": "How long: seconds, `12h`; `never`: for ever.",
        "keep_bytes": "What the file may take; the oldest requests make room.",
    },
    config.KeepingResponses: {
        "file": "Where they are kept; `memory` writes nothing. Unset: `responses.sqlite3` in your state folder.",
        "keep": "How long after a response was last gone on from: seconds, `12h`; `never`: for ever.",
        "keep_bytes": "What the file may take; the responses that were longest unused make room.",
    },
    config.Limits: {
        "max_queue": "Requests that may wait for a model or a place in it; one more gets 503 with `Retry-After`.",
        "max_body_bytes": "Largest request body; a longer one gets 413.",
        "max_n": "Most choices (`n`) of one request.",
        "max_stop": "Most stop strings of one request.",
        "max_tools": "Most tools of one request.",
        "max_inputs": "Most texts of one request for embeddings, or documents of one to rank.",
        "max_images": "Most images of one request; a conversation sends all of its images at each turn.",
        "max_image_pixels": "Most pixels that a model gets of an image; a larger image is made smaller, in proportion.",
        "image_cache_bytes": "Memory for decoded images, so that those of a conversation aren't decoded at each turn.",
        "same_model_age_seconds": "For so long, requests for a loaded model may pass "
        "older ones that need another model.",
        "load_timeout_seconds": "Without progress for so long, a load is given up.",
        "stall_seconds": "A model with live requests and no step for so long is killed and started anew.",
        "drain_seconds": "How long requests may finish when the server ends.",
        "memory_reserve_bytes": "What loading a model must leave free, its compute buffers among it.",
    },
    config.LlamaCppConfig: {
        "model_path": "The GGUF file (of a split one the first part), relative to models.yaml; `~` is your home.",
        "chat_format_template": "A file with a Jinja chat template instead of the model's own.",
        "chat_template": "A Jinja chat template instead of the model's own, as text.",
        "n_ctx": "Tokens that one request may use, prompt and answer. 0: what the model was trained for, in at most "
        "half of the memory that is free beside its weights; a request's `num_ctx` may ask for more.",
        "kv_tokens": "The pool of context memory that all requests share, in tokens. "
        "0: `n_ctx * n_parallel`, up to what memory allows.",
        "n_parallel": "Requests that are computed together.",
        "n_batch": "Most tokens of one engine step.",
        "n_ubatch": "... and of one pass through the network.",
        "prefill_tokens": "Most prompt tokens that a step takes beside requests that are being answered.",
        "n_threads": "Threads of a step that decodes. 0: the physical cores.",
        "n_threads_batch": "Threads of a step that computes prompts. 0: as `n_threads`.",
        "n_gpu_layers": "Layers on the GPU. `auto`: as many as fit into its free memory; 0: none; -1: all.",
        "main_gpu": "The GPU that holds what isn't split.",
        "split_mode": "How layers are spread over several GPUs; `tensor` computes each layer on all of them.",
        "tensor_split": "Share of each GPU.",
        "devices": "GPUs to use, by ggml's names (`CUDA0`, `Vulkan1`); `[none]`: the processor alone. Empty: all.",
        "n_cpu_moe": "Of a mixture of experts: so many first layers keep their experts on the processor. -1: all.",
        "override_tensor": "Where tensors go: a pattern of their names -> a kind of buffer (`CPU`, `CUDA0`).",
        "flash_attn": "Flash attention. A quantized `type_v` needs it.",
        "use_mmap": "Map the file instead of reading it. `auto`: read it where the processor computes, Linux has large "
        "pages and the file fits into half of the free memory; else map it.",
        "use_mlock": "Keep the weights from being swapped out.",
        "use_direct_io": "Read the file past the system's cache; stands above the two before.",
        "check_tensors": "Refuse a file with numbers that aren't any.",
        "repack": "Lay weights out for this processor, where that is faster.",
        "no_host": "Leave out the host's own kind of buffer, so that others can be used.",
        "offload_kqv": "Keep the context memory on the GPU.",
        "op_offload": "Let the GPU compute large steps of layers that lie on the processor.",
        "swa_full": "Keep the whole context of sliding-window layers, so that prefixes can be reused.",
        "type_k": "Precision of the context memory's keys.",
        "type_v": "... and of its values.",
        "rope_scaling_type": "How positions beyond the trained context are scaled. Unset: the model's own.",
        "rope_freq_base": "Unset: the model's own.",
        "rope_freq_scale": "Unset: the model's own.",
        "yarn_ext_factor": "YaRN: how much of extrapolation is mixed in. Unset, this and the next: the model's own.",
        "yarn_attn_factor": "YaRN: scale of the attention's magnitude.",
        "yarn_beta_fast": "YaRN: where the low correction begins.",
        "yarn_beta_slow": "YaRN: where the high correction begins.",
        "yarn_orig_ctx": "YaRN: tokens of the original context.",
        "override_kv": "Metadata instead of the file's own: key -> number, text, `true` or `false`.",
        "lora": "LoRA adapters as GGUF files, always in force: a list of paths, or of `{path, scale}`.",
        "draft_model_path": "A smaller GGUF with the same vocabulary, which guesses ahead: see below.",
        "mmproj_path": "A GGUF with the projector that lets the model see images.",
        "numa": "Place threads on NUMA nodes; `true` is `distribute`.",
        "pooling": "Embed texts, and answer nothing: how the vectors of a text's tokens become one. "
        "Unset: what the file says, which for models that answer is nothing; those embed by the mean.",
    },
    config.Speculating: {
        "prompt_lookup": "Guess ahead from what stood in the request or the answer before: see below.",
        "num_draft_tokens": "Most tokens guessed at a time; fewer where guesses fail.",
    },
    config.KeepingPrefixes: {
        "prefix_memory_bytes": "Host memory for prefixes that the pool has no room for; 0: none.",
        "prefix_disk_bytes": "Most bytes of them on disk, where a restart finds them; 0: none.",
        "prefix_folder": "Where on disk, in a folder for each model. Unset: in the user's cache folder.",
    },
    config.SamplingDefaults: {
        "temperature": "0 is greedy.",
        "top_p": "",
        "top_k": "0 is off.",
        "min_p": "",
        "typical_p": "1 is off.",
        "max_tokens": "Most tokens of an answer. Unset: until the model ends, or the context does.",
        "repetition_penalty": "1 is off.",
        "repetition_context_size": "Tokens that the penalties look back on. 0 is off, -1 the whole context.",
        "presence_penalty": "",
        "frequency_penalty": "",
        "mirostat": "1 or 2: keep the surprise of each token near `mirostat_tau`. 0 is off.",
        "mirostat_tau": "Unset: 5.",
        "mirostat_eta": "Its learning rate. Unset: 0.1.",
        "top_n_sigma": "Keep tokens within so many standard deviations of the likeliest. 0 is off.",
        "xtc_probability": "XTC: how often all likely tokens but the least likely of them are left out. 0 is off.",
        "xtc_threshold": "From which probability a token is likely to XTC. Unset: 0.1.",
        "dynatemp_range": "The temperature moves by so much with the entropy of the distribution. 0 is off.",
        "dynatemp_exponent": "How. Unset: 1.",
        "dry_multiplier": "DRY: what prolongs a repetition becomes less likely. 0 is off.",
        "dry_base": "... by the multiplier times this, to the power of the repeated length beyond the allowed. "
        "Unset: 1.75.",
        "dry_allowed_length": "Tokens that may repeat. Unset: 2.",
        "dry_penalty_last_n": "Tokens in which repetitions are looked for. -1 is the whole context. Unset: -1.",
        "adaptive_target": "Draw tokens whose probability is near this one. 0 is off.",
        "adaptive_decay": "How slowly that follows what was drawn. Unset: 0.9.",
        "seed": "Unset: a new one for each request.",
        "stop": "Strings that end an answer.",
    },
    config.MlxConfig: {
        "model_path": "The folder with config.json, the tokenizer and *.safetensors, relative to models.yaml.",
        "draft_model_path": "The folder of a smaller model with the same vocabulary, which guesses ahead: see below.",
        "adapter_path": "A folder with a LoRA or DoRA adapter of mlx_lm (adapter_config.json, adapters.safetensors), "
        "always in force.",
        "vision": "See images, where the folder's model can: see below. `false`: only its language model is loaded.",
        "n_ctx": "As for llama_cpp.",
        "kv_tokens": "As for llama_cpp.",
        "n_parallel": "As for llama_cpp.",
        "prefill_tokens": "As for llama_cpp.",
        "cache_type": "How context memory is kept. `quantized` is batched; `rotating` computes one request at a time.",
        "max_kv_size": "Tokens that `rotating` keeps, the first 4 among them; else a limit of `n_ctx`.",
        "kv_bits": "Bits of `quantized`: 1 to 6, or 8. Unset: 8.",
        "kv_group_size": "Values that share a scale in `quantized`: 32, 64 or 128, and a divisor of the head's width.",
        "quantized_kv_start": "Tokens from which `quantized` begins.",
        "chat_template": "A Jinja chat template instead of the model's own.",
        "pooling": "As for llama_cpp; unset: what the folder's 1_Pooling/config.json says.",
    },
    config.FakeConfig: {
        "model_path": "Not read.",
        "n_ctx": "As for llama_cpp.",
        "kv_tokens": "As for llama_cpp.",
        "n_parallel": "As for llama_cpp.",
        "n_batch": "As for llama_cpp.",
        "prefill_tokens": "As for llama_cpp.",
        "prefill_tokens_per_second": "Speed of prompts. 0: at once.",
        "decode_tokens_per_second": "Speed of each answer. 0: at once.",
        "load_seconds": "How long loading takes.",
        "load_error": "Refuse to load, with this text.",
        "load_crash": "End by this signal while loading, e.g. `SIGSEGV`.",
        "load_hang": "Never finish loading.",
        "resident_bytes": "What the memory verdict counts for it.",
        "reply": "Answer this, whatever is asked. Unset: an echo.",
        "chat_template": "As for llama_cpp.",
        "pooling": "Be a model that embeds (`mean`, `cls`, `last`) or ranks (`rank`), and answers nothing.",
        "image_tokens": "See images, each as so many tokens; `[[see]]` in a turn tells what is seen. 0: be blind.",
        "image_seconds": "How long looking at an image takes.",
        "image_whole": "Compute the tokens of an image in one step, as models do in which they look at each other.",
        "log_file": "Append to this file, a whole path, what was done and when: to hold against what is measured.",
    },
}

SHARED: Final[dict[type[pydantic.BaseModel], str]] = {
    config.SamplingDefaults: "sampling",
    config.Speculating: "guessing ahead",
    config.KeepingPrefixes: "prefixes",
}
"""Keys of several providers, which have tables of their own, and what they are about."""
_ELSEWHERE: Final = ": see below"
_SAME: Final = "As for llama_cpp"


def effect(kind: type[pydantic.BaseModel], key: str) -> str:
    """What a key of a mapping does, to be read where nothing stands beside it."""
    text = next((EFFECTS[base][key] for base in kind.__mro__ if key in EFFECTS.get(base, {})), "")
    if text.startswith(_SAME):
        text = EFFECTS[config.LlamaCppConfig][key].removesuffix(".") + text.removeprefix(_SAME)
    return text.replace(_ELSEWHERE, "")
