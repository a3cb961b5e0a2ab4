"""LangChain over OpenAI's API."""

from typing import Any

import openai
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.conformance.cells import At, cell, raises
from tests.conformance.clients.langchain_cells import Integration, register
from tests.conformance.subjects import KEY

PACKAGE = "langchain-openai"


def model(at: At, name: str = "", **options: Any) -> Any:
    settings: dict[str, Any] = {"temperature": 0, "max_tokens": 300, "max_retries": 0, "api_key": "x", **options}
    return ChatOpenAI(model=name or at.model, base_url=at.v1, stream_usage=True, **settings)


register(
    Integration(
        model,
        ("required", "any", "get_weather"),
        ("json_schema", "function_calling", "json_mode"),
        openai.NotFoundError,
    )
)


@cell("embeddings")
def embeddings(at: At) -> None:
    made = OpenAIEmbeddings(model=at.model, base_url=at.v1, api_key="x", check_embedding_ctx_length=False)
    one, other = made.embed_documents(["Paris is in France.", "7 is a number."])
    assert len(one) == len(other) == len(made.embed_query("Paris"))


@cell("log probabilities")
def logprobs(at: At) -> None:
    reply = model(at, logprobs=True, top_logprobs=2).invoke([HumanMessage(at.subject.ask)])
    assert all(one["logprob"] <= 0 for one in reply.response_metadata["logprobs"]["content"])


@cell("a prompt beyond the context")
def overflow(at: At) -> None:
    raises(lambda: model(at).invoke("word " * 9000), ContextOverflowError, "maximum context length")


@cell("a key where one is wanted")
def key(at: At) -> None:
    def ask(given: str) -> Any:
        return ChatOpenAI(model="fake", base_url=at.locked + "/v1", api_key=given, max_retries=0).invoke("hi")

    raises(lambda: ask("wrong"), openai.AuthenticationError)
    assert ask(KEY).text


@cell("the Responses API")
def responses(at: At) -> None:
    made = model(at, use_responses_api=True, store=False)
    assert made.invoke([HumanMessage(at.subject.ask)]).text == at.subject.answer
    assert "".join(chunk.text for chunk in made.stream([HumanMessage(at.subject.ask)])) == at.subject.answer
