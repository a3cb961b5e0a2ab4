"""Traffic that many people have, each as the part of a spec that says it; targets and models are the user's."""

from typing import Any, Final, NamedTuple


class Preset(NamedTuple):
    """A part of a spec under a name."""

    name: str
    title: str
    what: str
    spec: dict[str, Any]


PRESETS: Final = (
    Preset(
        "quick",
        "Quick look",
        "A minute: 100 tokens in, 100 out, with 1, 4 and 16 clients.",
        {
            "task": "chat",
            "scenarios": ["D(100,100)"],
            "loads": [{"kind": "closed", "levels": [1, 4, 16]}],
            "duration_seconds": 20,
        },
    ),
    Preset(
        "chat",
        "Chat",
        "Short questions, answers of some sentences, held to what feels immediate.",
        {
            "task": "chat",
            "scenarios": ["N(250,100)/(150,60)"],
            "loads": [{"kind": "closed", "levels": [1, 4, 8]}],
            "requests": 40,
            "slo": {"ttft": 500, "tpot": 50},
        },
    ),
    Preset(
        "rag",
        "RAG",
        "Long prompts that share half of their beginning, short answers: prefill and the prefix cache decide.",
        {
            "task": "chat",
            "scenarios": ["N(1500,300)/(150,50)"],
            "loads": [{"kind": "closed", "levels": [1, 4]}],
            "cache": ["warm", "prefix50"],
            "requests": 20,
        },
    ),
    Preset(
        "code",
        "Code",
        "A file's worth of context, and a function back.",
        {
            "task": "completion",
            "scenarios": ["N(600,200)/(300,100)"],
            "loads": [{"kind": "closed", "levels": [1, 2, 4]}],
            "requests": 20,
        },
    ),
    Preset(
        "long-output",
        "Long output",
        "A short question and 1,000 tokens of answer: decoding alone.",
        {
            "task": "chat",
            "scenarios": ["D(100,1000)"],
            "loads": [{"kind": "closed", "levels": [1, 4]}],
            "requests": 8,
        },
    ),
)
