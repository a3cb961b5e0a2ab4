"""The shapes of whole answers in each API's own form, as JSON schemas: chats, completions, vectors, scores, tokens.

They say what every answer has; the tests hold answers of every kind to them.
"""

from typing import Final

from heylook_llm.server.schema_words import (
    COUNT,
    FLAG,
    NUMBER,
    SECONDS,
    TEXT,
    TIME,
    Schema,
    closed,
    just,
    list_of,
    map_of,
    or_null,
    see,
)

_NUMBER_OR_NULL: Final = or_null(NUMBER)
_TOKENS: Final = list_of(COUNT)
_ANY: Final[Schema] = {"type": "object"}
_MEASURES: Final = {"timings": see("Timings"), "performance": see("PerformanceOfAnswer")}
_FINISH: Final[Schema] = {"enum": ["stop", "length", "tool_calls", "function_call"]}
_FUNCTION: Final = closed({"name": TEXT, "arguments": TEXT})
_PIECE: Final = {"token": TEXT, "logprob": NUMBER, "bytes": _TOKENS}
_LOGPROBS: Final[Schema] = {
    "type": ["object", "null"],
    "required": ["content", "refusal"],
    "properties": {
        "content": list_of(closed({**_PIECE, "top_logprobs": list_of(closed(_PIECE))})),
        "refusal": {"type": "null"},
    },
}
_USAGE: Final = closed(
    {
        "prompt_tokens": COUNT,
        "completion_tokens": COUNT,
        "total_tokens": COUNT,
        "prompt_tokens_details": closed({"cached_tokens": COUNT}),
        "completion_tokens_details": closed(
            {"reasoning_tokens": COUNT, "accepted_prediction_tokens": COUNT, "rejected_prediction_tokens": COUNT}
        ),
    }
)
_MESSAGE: Final = closed(
    {"role": just("assistant"), "content": or_null(TEXT), "refusal": {"type": "null"}},
    {
        "reasoning_content": TEXT,
        "tool_calls": list_of(closed({"id": TEXT, "type": just("function"), "function": _FUNCTION})),
        "function_call": _FUNCTION,
    },
)
_ENVELOPE: Final = {"id": TEXT, "created": COUNT, "model": TEXT, "system_fingerprint": TEXT}
_COMPLETION_LOGPROBS: Final[Schema] = {
    "type": ["object", "null"],
    "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"],
    "properties": {
        "tokens": list_of(TEXT),
        "token_logprobs": list_of(_NUMBER_OR_NULL),
        "top_logprobs": list_of({"type": ["object", "null"], "additionalProperties": NUMBER}),
        "text_offset": _TOKENS,
    },
}
_PROMPT_LOGPROBS: Final = list_of(
    {
        "type": ["object", "null"],
        "additionalProperties": closed({"logprob": NUMBER, "rank": COUNT, "decoded_token": TEXT}),
        "description": "By token id: the prompt's token and the likeliest; null of the first.",
    }
)
_NATIVE_PIECE: Final = {"id": COUNT, "token": TEXT, "bytes": _TOKENS, "logprob": NUMBER}
_OLLAMA_CALLS: Final = list_of(
    closed({"id": TEXT, "function": closed({"index": COUNT, "name": TEXT, "arguments": _ANY})})
)
_OLLAMA_LOGPROBS: Final = list_of(closed(_PIECE, {"top_logprobs": list_of(closed(_PIECE))}))
_OLLAMA_ANSWER: Final = {"model": TEXT, "created_at": TIME, "done": FLAG}
_OLLAMA_END: Final = {
    "done_reason": {"enum": ["stop", "length", "load", "unload"]},
    "logprobs": _OLLAMA_LOGPROBS,
    **dict.fromkeys(
        (
            *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration"),
            *("eval_count", "eval_duration", "dropped_tokens"),
        ),
        COUNT,
    ),
}


def _block(kind: str, fields: Schema) -> Schema:
    """A block of a message, told from others by its type."""
    return closed({"type": just(kind), **fields})


_CHAT: Final = closed(
    {
        **_ENVELOPE,
        "object": just("chat.completion"),
        "choices": list_of(
            closed(
                {"index": COUNT, "message": _MESSAGE, "logprobs": _LOGPROBS, "finish_reason": _FINISH},
                {"token_ids": _TOKENS},
            )
        ),
        "usage": _USAGE,
    },
    {**_MEASURES, "prompt_token_ids": _TOKENS, "prompt_logprobs": _PROMPT_LOGPROBS},
)
_GROUP: Final = closed(
    {
        "id": TEXT,
        "object": just("chat.completion.batch"),
        "created": COUNT,
        "model": TEXT,
        "processing_mode": TEXT,
        "batch_info": closed({"groups_processed": COUNT, "successful": COUNT, "failed": COUNT}),
    },
    {
        "completions": list_of({"description": "Each a completion, or an error in its place.", **_ANY}),
        "choices": list_of(_ANY),
        "usage": map_of(COUNT),
        "timing": closed({"total_time": SECONDS, "average_per_group": SECONDS}),
    },
)

ANSWERS: Final[dict[str, Schema]] = {
    "Timings": closed(
        {
            **dict.fromkeys(("cache_n", "prompt_n", "predicted_n"), COUNT),
            **dict.fromkeys(
                (
                    *("prompt_ms", "prompt_per_token_ms", "prompt_per_second"),
                    *("predicted_ms", "predicted_per_token_ms", "predicted_per_second"),
                ),
                _NUMBER_OR_NULL,
            ),
        },
        {"draft_n": COUNT, "draft_n_accepted": COUNT},
    ),
    "PerformanceOfAnswer": closed(
        {
            **dict.fromkeys(
                (
                    *("queued_ms", "load_ms", "parsed_ms", "tokenized_ms", "encoded_ms", "admitted_ms"),
                    *("first_token_ms", "first_byte_ms", "last_token_ms", "total_ms"),
                ),
                _NUMBER_OR_NULL,
            ),
            **dict.fromkeys(
                ("preemptions", "dropped_tokens", "draft_tokens", "accepted_tokens", "cached_tokens", "steps"), COUNT
            ),
            "cached_from": or_null(TEXT),
            "batch_sizes_seen": map_of(COUNT),
        }
    ),
    "ChatCompletion": _CHAT,
    "ChatCompletionGroup": _GROUP,
    "ChatAnswer": {"anyOf": [see("ChatCompletion"), see("ChatCompletionGroup")]},
    "ChatCompletions": closed(
        {
            "object": just("list"),
            "data": list_of({"description": "Each a completion, or an error in its place.", **_ANY}),
            "batch_stats": closed(
                {
                    "total_requests": COUNT,
                    "elapsed_seconds": SECONDS,
                    **dict.fromkeys(
                        (
                            *("throughput_req_per_sec", "throughput_tok_per_sec"),
                            *("prefill_time", "generation_time", "memory_peak_mb"),
                        ),
                        _NUMBER_OR_NULL,
                    ),
                }
            ),
        }
    ),
    "Completion": closed(
        {
            **_ENVELOPE,
            "object": just("text_completion"),
            "choices": list_of(
                closed(
                    {"index": COUNT, "text": TEXT, "logprobs": _COMPLETION_LOGPROBS, "finish_reason": _FINISH},
                    {"token_ids": _TOKENS, "prompt_token_ids": _TOKENS, "prompt_logprobs": _PROMPT_LOGPROBS},
                )
            ),
            "usage": _USAGE,
        },
        _MEASURES,
    ),
    "Vectors": closed(
        {
            "object": just("list"),
            "data": list_of(
                closed(
                    {
                        "object": just("embedding"),
                        "index": COUNT,
                        "embedding": {
                            "anyOf": [list_of(NUMBER), TEXT],
                            "description": "Numbers, or with `encoding_format` base64 their bytes.",
                        },
                    }
                )
            ),
            "model": TEXT,
            "usage": closed({"prompt_tokens": COUNT, "total_tokens": COUNT}),
        }
    ),
    "Ranking": {"anyOf": [see("RankedDocuments"), list_of(see("ScoredText"))]},
    "RankedDocuments": closed(
        {
            "id": TEXT,
            "object": just("list"),
            "model": TEXT,
            "results": list_of(see("RankedDocument")),
            "usage": closed({"prompt_tokens": COUNT, "total_tokens": COUNT}),
            "meta": _ANY,
        }
    ),
    "RankedDocument": closed({"index": COUNT, "relevance_score": NUMBER}, {"document": closed({"text": TEXT})}),
    "ScoredText": closed({"index": COUNT, "score": NUMBER}, {"text": TEXT}),
    "TokenIds": closed(
        {
            "tokens": list_of({"type": ["integer", "object"]}),
            "count": COUNT,
            "max_model_len": COUNT,
            "token_strs": {"type": ["array", "null"], "items": TEXT},
        }
    ),
    "Detokenized": closed({"content": TEXT, "prompt": TEXT}),
    "Rendered": closed({"prompt": TEXT}),
    "NativeCompletion": {
        "anyOf": [see("NativeAnswer"), list_of(see("NativeAnswer"))],
        "description": "A list where several answers were asked for.",
    },
    "NativeAnswer": closed(
        {},
        {
            "index": COUNT,
            "content": TEXT,
            "tokens": _TOKENS,
            "id_slot": {"type": "integer"},
            "stop": FLAG,
            "model": TEXT,
            "tokens_predicted": COUNT,
            "tokens_evaluated": COUNT,
            "generation_settings": _ANY,
            "prompt": TEXT,
            "has_new_line": FLAG,
            "truncated": FLAG,
            "stop_type": {"enum": ["eos", "limit", "word"]},
            "stopping_word": TEXT,
            "tokens_cached": COUNT,
            "timings": see("Timings"),
            "completion_probabilities": list_of(
                closed({**_NATIVE_PIECE, "top_logprobs": list_of(closed(_NATIVE_PIECE))})
            ),
        },
    ),
    "NativeVectors": list_of(closed({"index": COUNT, "embedding": list_of(list_of(NUMBER))})),
    "Message": closed(
        {
            "id": TEXT,
            "type": just("message"),
            "role": just("assistant"),
            "model": TEXT,
            "content": list_of(
                {
                    "oneOf": [
                        _block("text", {"text": TEXT}),
                        _block("thinking", {"thinking": TEXT, "signature": TEXT}),
                        _block("tool_use", {"id": TEXT, "name": TEXT, "input": _ANY}),
                    ]
                }
            ),
            "stop_reason": {
                "enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
            },
            "stop_sequence": or_null(TEXT),
            "usage": closed(
                {
                    "input_tokens": COUNT,
                    "cache_creation_input_tokens": COUNT,
                    "cache_read_input_tokens": COUNT,
                    "output_tokens": COUNT,
                    "output_tokens_details": closed({"thinking_tokens": COUNT}),
                    "service_tier": TEXT,
                }
            ),
        }
    ),
    "MessageTokens": closed({"input_tokens": COUNT}),
    "OllamaAnswer": closed(
        {
            **_OLLAMA_ANSWER,
            "message": closed(
                {"role": just("assistant"), "content": TEXT}, {"thinking": TEXT, "tool_calls": _OLLAMA_CALLS}
            ),
        },
        _OLLAMA_END,
    ),
    "OllamaGenerated": closed(
        {**_OLLAMA_ANSWER, "response": TEXT},
        {**_OLLAMA_END, "thinking": TEXT, "tool_calls": _OLLAMA_CALLS, "context": _TOKENS},
    ),
    "OllamaVectors": closed(
        {"model": TEXT, "embeddings": list_of(list_of(NUMBER))},
        dict.fromkeys(("total_duration", "load_duration", "prompt_eval_count"), COUNT),
    ),
    "OllamaVector": closed({"embedding": list_of(NUMBER)}),
}
"""By the names that rows of the route table give, or other schemas."""
