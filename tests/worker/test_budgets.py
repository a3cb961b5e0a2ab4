"""A reasoning's budget on each provider: its end is put into the model's mouth, and the answer goes on from there."""

from collections.abc import Iterator
from typing import Any

import pytest

from heylook_llm import core
from tests.conftest import TINY
from tests.worker.client import Client, chat
from tests.worker.random_mlx import BUNDLED

pytestmark = pytest.mark.integration

MODELS: dict[str, tuple[str, str]] = {
    "fake": ("fake", ""),
    "llama_cpp": ("llama_cpp", str(TINY)),
    "mlx": ("mlx", str(BUNDLED)),
}
CONCLUSION = "\n</think>\n\n"
QUESTION = "Tell me a story. [[think:0123456789abcdef]][[say:The end.]]"


@pytest.fixture(params=list(MODELS), scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A worker with each of the providers."""
    if request.param == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'")
    provider, path = MODELS[request.param]
    with Client(provider, path, n_ctx=1024) as one:
        yield one


def run(client: Client, prompt: core.Prompt, **fields: Any) -> core.ChoiceResult:
    """The only choice of a greedy answer."""
    [choice] = client.run(prompt, **{"temperature": 0.0, "max_tokens": 48, **fields}).choices
    return choice


def tokens_of(client: Client, prompt: core.Prompt) -> tuple[int, ...]:
    answer = client.call(core.Tokenize(prompt))
    assert isinstance(answer, core.Tokens)
    return answer.tokens


def conclusion(client: Client) -> tuple[int, ...]:
    """The tokens that end a reasoning."""
    return tokens_of(client, core.TextPrompt(CONCLUSION, add_special=False))


@pytest.mark.parametrize("budget", [1, 5])
def test_reasoning_ends_at_its_budget_and_the_answer_goes_on(client: Client, budget: int) -> None:
    unlimited = run(client, chat(QUESTION, thinking=True))
    assert unlimited.done.usage.reasoning_tokens > budget
    prompt = chat(QUESTION, thinking=True, thinking_budget=budget)
    choice = run(client, prompt)
    forced = conclusion(client)
    assert choice.tokens[:budget] == unlimited.tokens[:budget]
    assert choice.tokens[budget : budget + len(forced)] == forced
    assert unlimited.reasoning.startswith(choice.reasoning)
    ended = sum(1 for at in range(len(forced)) if "</think>" not in text_of(client, forced[:at]))
    assert choice.done.usage.reasoning_tokens == budget + ended
    assert choice.done.usage.output_tokens >= len(choice.tokens)
    if client.info is not None and client.info.provider != "fake":  # its script isn't a function of its tokens
        begun = (*tokens_of(client, prompt), *choice.tokens[: budget + len(forced)])
        alone = run(client, core.TokenPrompt(begun), max_tokens=48 - budget - len(forced))
        assert alone.tokens == choice.tokens[budget + len(forced) :]


def text_of(client: Client, tokens: tuple[int, ...]) -> str:
    answer = client.call(core.Detokenize(tokens))
    assert isinstance(answer, core.Rendered)
    return answer.text


def test_no_reasoning_where_the_budget_is_nothing(client: Client) -> None:
    choice = run(client, chat(QUESTION, thinking=True, thinking_budget=0))
    assert (choice.reasoning, choice.done.usage.reasoning_tokens) == ("", 0)
    assert choice.text


def test_a_model_that_goes_on_thinking_and_ends_it_once_more_shows_no_mark(client: Client) -> None:
    """The bundled one does, broken off here; the fake one never."""
    choice = run(client, chat("What is 12 + 30?[[think:abcdefgh]][[say:42]]", thinking=True, thinking_budget=5))
    assert choice.text
    assert "think" not in choice.text


def test_a_budget_that_is_not_used_up_changes_nothing(client: Client) -> None:
    unlimited = run(client, chat(QUESTION, thinking=True))
    assert run(client, chat(QUESTION, thinking=True, thinking_budget=1000)).tokens == unlimited.tokens


def test_the_limit_of_the_whole_answer_holds_within_the_conclusion(client: Client) -> None:
    choice = run(client, chat(QUESTION, thinking=True, thinking_budget=3), max_tokens=4)
    assert (choice.done.reason, choice.done.usage.output_tokens, choice.text) == ("length", 4, "")
    assert choice.tokens == (*choice.tokens[:3], conclusion(client)[0])


def test_budgets_in_a_batch_with_others(client: Client) -> None:
    """Each is answered as it is alone."""
    budgets = [None, 2, 7, 0]
    prompts = [chat(f"Tell me a story. {QUESTION}", thinking=True, thinking_budget=budget) for budget in budgets]
    alone = [run(client, prompt).tokens for prompt in prompts]
    numbers = [client.submit(prompt, temperature=0.0, max_tokens=48) for prompt in prompts]
    events = client.events(numbers)
    together = [
        tuple(token for event in events[number] for token in getattr(event, "tokens", ())) for number in numbers
    ]
    assert together == alone


def test_thinking_that_a_template_cannot_turn_off_is_ended_at_once() -> None:
    template = "{{ messages[-1].content }}<|im_start|>assistant\n{% if add_generation_prompt %}<think>\n{% endif %}"
    with Client(n_ctx=1024, chat_template="<|im_start|>user\n" + template) as client:
        off = run(client, chat("[[think:abc]][[say:done]]", thinking=False))
        on = run(client, chat("[[think:abc]][[say:done]]"))
    assert (off.reasoning, off.text) == ("", "done")
    assert (on.reasoning, on.text) == ("abc", "done")


def test_a_model_that_begins_to_think_by_itself_is_stopped_where_thinking_is_off() -> None:
    with Client(n_ctx=1024) as client:
        choice = run(client, chat("[[think:abc]][[say:done]]", thinking=False))
    assert (choice.reasoning, choice.text) == ("", "done")
