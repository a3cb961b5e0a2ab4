"""LangChain over Ollama's API."""

from typing import Any

import ollama
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

from tests.conformance.cells import At, cell
from tests.conformance.clients.langchain_cells import Integration, register

PACKAGE = "langchain-ollama"


def model(at: At, name: str = "", **options: Any) -> Any:
    limit = options.pop("max_tokens", 300)
    settings: dict[str, Any] = {"temperature": 0, "num_predict": limit, "reasoning": False, **options}
    return ChatOllama(model=name or at.model, base_url=at.url, **settings)


register(Integration(model, (), ("json_schema", "json_mode"), ollama.ResponseError))


@cell("embeddings")
def embeddings(at: At) -> None:
    made = OllamaEmbeddings(model=at.model, base_url=at.url)
    one, other = made.embed_documents(["Paris is in France.", "7 is a number."])
    assert len(one) == len(other) == len(made.embed_query("Paris"))


@cell("thinking")
def thinking(at: At) -> None:
    reply = model(at, reasoning=True).invoke([HumanMessage(at.subject.think)])
    assert reply.text.strip() == at.subject.thought
    assert reply.additional_kwargs["reasoning_content"].strip()


@cell("generate")
def generate(at: At) -> None:
    made = OllamaLLM(model=at.model, base_url=at.url, temperature=0, num_predict=300, reasoning=False)
    assert made.invoke(at.subject.ask) == at.subject.answer
    assert "".join(made.stream(at.subject.ask)) == at.subject.answer


@cell("list models")
def validated(at: At) -> None:
    assert ChatOllama(model=at.model, base_url=at.url, validate_model_on_init=True)
