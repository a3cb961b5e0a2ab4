"""LangChain over Anthropic's API."""

from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage

from tests.conformance.cells import At, cell
from tests.conformance.clients.langchain_cells import Integration, get_weather, register

PACKAGE = "langchain-anthropic"


def model(at: At, name: str = "", **options: Any) -> Any:
    settings: dict[str, Any] = {"max_tokens": 300, "max_retries": 0, "temperature": 0, **options}
    return ChatAnthropic(model=name or at.model, base_url=at.url, api_key="x", **settings)


register(Integration(model, ("any", "get_weather"), ("function_calling", "json_schema"), anthropic.NotFoundError))


@cell("thinking")
def thinking(at: At) -> None:
    options: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000, "temperature": None}
    reply = model(at, **options).invoke([HumanMessage(at.subject.think)])
    assert reply.text.strip() == at.subject.thought
    assert reply.content[0]["thinking"].strip()


@cell("token counts")
def counts(at: At) -> None:
    made = model(at)
    counted = made.get_num_tokens_from_messages([HumanMessage(at.subject.ask)], tools=[get_weather])
    reply = made.bind_tools([get_weather]).invoke([HumanMessage(at.subject.ask)])
    assert counted == reply.usage_metadata["input_tokens"]
