"""The APIs that can be measured: what a request is in each, and how its answer is read."""

from heylook_llm.bench.sample import Kind
from heylook_llm.bench.targets import anthropic, ollama, openai
from heylook_llm.bench.targets.dialect import Dialect


def dialect_of(kind: Kind) -> Dialect:
    """The dialect of a kind of target."""
    dialects: dict[Kind, Dialect] = {
        "openai": openai.OpenAI(),
        "ollama": ollama.Ollama(),
        "anthropic": anthropic.Anthropic(),
    }
    return dialects[kind]
