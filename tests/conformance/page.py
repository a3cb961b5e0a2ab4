"""The clients of the matrix, and the page that says how they went. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.conformance.cells import Outcome
from tests.conformance.subjects import SUBJECTS

HEAD: Final = """\
# Conformance

Each cell below was run by the client itself against a running server, by `make conformance`, which wrote this page.
*pass*: the client did what its own documentation says it does. *refused*: the server doesn't do that, and the cell
asserts the clear error that says so; the reasons stand at the end. A cell that fails fails the run. An empty one is a
feature that the client has no call for. *Package* is the beginning of a digest of the package that the client was run
against: clients can be run one by one.
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A client, and where it runs."""

    name: str
    """Of the module, or script, with its cells."""
    title: str
    dialect: str
    runtime: Literal["own", "python", "node"]
    """own: the project's environment; python: that of the matrix."""
    environment: dict[str, str] = field(default_factory=dict)


CLIENTS: Final = (
    Client("openai_python", "openai (Python)", "OpenAI", "own"),
    Client("openai_node", "openai (Node)", "OpenAI", "node"),
    Client("anthropic_python", "anthropic (Python)", "Anthropic", "own"),
    Client("anthropic_node", "@anthropic-ai/sdk (Node)", "Anthropic", "node"),
    Client("ollama_python", "ollama (Python)", "Ollama", "own"),
    Client("ollama_node", "ollama (Node)", "Ollama", "node"),
    Client("langchain_openai_cells", "langchain-openai", "OpenAI", "python"),
    Client("langchain_ollama_cells", "langchain-ollama", "Ollama", "python"),
    Client("langchain_anthropic_cells", "langchain-anthropic", "Anthropic", "python"),
    Client("litellm_cells", "litellm", "all three", "python", {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}),
    Client("llama_index_cells", "llama-index-llms-ollama", "Ollama", "python"),
    Client("instructor_cells", "instructor", "OpenAI, Anthropic", "python"),
    Client("pydantic_ai_cells", "pydantic-ai", "all three", "python"),
    Client("llm_cells", "llm", "OpenAI", "python"),
    Client("generated_python", "generated of /openapi.json (Python)", "all three", "python"),
    Client("generated_typescript", "generated of /openapi.json (TypeScript)", "all three", "node"),
    Client("guide", "the guide's examples", "all three", "python"),
    Client("schemathesis_cells", "schemathesis", "all routes", "python"),
    Client("llama_server", "what llama-server's clients send", "llama-server", "own"),
    Client("coding_agents", "what coding agents send", "OpenAI, Anthropic", "own"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """How a client went."""

    client: Client
    version: str
    outcomes: list[Outcome]
    source: str = ""
    """A digest of the package that it was run against."""

    @property
    def failed(self) -> list[Outcome]:
        """What must not be."""
        return [one for one in self.outcomes if one.result == "fail"]

    @property
    def summary(self) -> str:
        """One line."""
        results = [one.result for one in self.outcomes]
        counted = ", ".join(f"{results.count(kind)} {kind}" for kind in ("pass", "refused", "fail"))
        return f"{self.client.title} {self.version}: {counted}"


def page(columns: list[Column]) -> str:
    """The whole page."""
    outcomes = [one for column in columns for one in column.outcomes]
    counts = {kind: sum(one.result == kind for one in outcomes) for kind in ("pass", "refused", "fail")}
    total = (
        f"{len(outcomes)} cells: {counts['pass']} pass, {counts['refused']} refused by design, {counts['fail']} fail."
    )
    return "\n".join([HEAD, total, "", *_summary(columns), *_tables(columns), *_reasons(columns)])


def _summary(columns: Iterable[Column]) -> list[str]:
    heads = ("Client", "Version", "API", "Package", "Cells", "Pass", "Refused", "Fail")
    rows = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for column in columns:
        results = [one.result for one in column.outcomes]
        counted = " | ".join(str(results.count(kind)) for kind in ("pass", "refused", "fail"))
        rows.append(
            f"| {column.client.title} | {column.version} | {column.client.dialect} | {column.source[:8]} "
            f"| {len(results)} | {counted} |"
        )
    return [*rows, ""]


def _tables(columns: Iterable[Column]) -> list[str]:
    lines: list[str] = []
    providers = [subject.provider for subject in SUBJECTS]
    for column in columns:
        told = {(one.feature, one.provider): one.result for one in column.outcomes}
        lines += [f"## {column.client.title}", "", "| Feature | " + " | ".join(f"`{p}`" for p in providers) + " |"]
        lines.append("| --- |" + " --- |" * len(providers))
        for feature in dict.fromkeys(one.feature for one in column.outcomes):
            lines.append(f"| {feature} | " + " | ".join(told.get((feature, p), "") for p in providers) + " |")
        lines.append("")
    return lines


def _reasons(columns: Iterable[Column]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for column in columns:
        for one in column.outcomes:
            named = f"{column.client.title}: {one.feature}"
            if one.result == "refused" and named not in reasons.setdefault(one.why, []):
                reasons[one.why].append(named)
    if not reasons:
        return []
    rows = [f"| {'; '.join(named)} | {why} |" for why, named in reasons.items()]
    return ["## Refused by design", "", "| Cell | Why |", "| --- | --- |", *rows, ""]
