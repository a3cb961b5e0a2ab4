"""Constrained output on each provider through a real worker: alone, together, with seeds, limits and preemptions."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import InvalidConstraint
from tests.conftest import TINY
from tests.worker.client import Client, chat
from tests.worker.random_mlx import BUNDLED

pytestmark = pytest.mark.integration

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["good", "bad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}
MODELS: dict[str, tuple[str, str]] = {
    "fake": ("fake", ""),
    "llama_cpp": ("llama_cpp", str(TINY)),
    "mlx": ("mlx", str(BUNDLED)),
}


def opened(name: str, **options: Any) -> Client:
    """A worker with a small model of this provider."""
    if name == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'")
    provider, path = MODELS[name]
    return Client(provider, path, **{"n_ctx": 1024, **options})


@pytest.fixture(params=list(MODELS), scope="module")
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A worker with each of the providers."""
    with opened(request.param) as one:
        yield one


def schema(document: object) -> core.Constraint:
    """A constraint by a JSON schema."""
    return core.Constraint("json_schema", json.dumps(document))


def is_person(text: str) -> bool:
    """Whether a text is JSON that the schema above allows."""
    found = json.loads(text)
    return (
        list(found) == ["name", "age", "mood"]
        and isinstance(found["name"], str)
        and len(found["name"]) <= 20
        and type(found["age"]) is int
        and 0 <= found["age"] <= 150
        and found["mood"] in ("good", "bad")
    )


SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.5, "seed": 3},
    "sampled with cuts": {"temperature": 1.2, "seed": 4, "top_k": 20, "top_p": 0.9, "min_p": 0.02},
    "penalties": {"temperature": 0.7, "seed": 5, "repeat_penalty": 1.3, "presence_penalty": 0.5},
    "no end wanted": {"temperature": 1.0, "seed": 6, "ignore_eos": True, "min_tokens": 5},
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
def test_a_schema_is_obeyed_whatever_the_sampling(client: Client, sampling: dict[str, Any]) -> None:
    [choice] = client.run(chat("Hello"), constraint=schema(PERSON), max_tokens=400, **sampling).choices
    assert is_person(choice.text)
    assert choice.done.reason == "stop"


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (core.Constraint("json_object"), r"\{.*\}"),
        (core.Constraint("regex", r"[A-C]{3}-\d{2}"), r"[A-C]{3}-[0-9]{2}"),
        (core.Constraint("lark", 'start: "<" word ">"\nword: /[a-z]{2,4}/'), r"<[a-z]{2,4}>"),
        (core.Constraint("choice", '["yes", "no", "it depends"]'), r"yes|no|it depends"),
    ],
    ids=lambda value: value.kind if isinstance(value, core.Constraint) else None,
)
def test_other_kinds_of_constraint(client: Client, constraint: core.Constraint, pattern: str) -> None:
    sampling = {"temperature": 0.0, "max_tokens": 300}
    [choice] = client.run(chat("Answer in JSON."), constraint=constraint, **sampling).choices
    assert re.fullmatch(pattern, choice.text, re.DOTALL)
    assert choice.done.reason == "stop"


def test_neighbours_without_a_constraint_say_what_they_say_alone(client: Client) -> None:
    plain = [chat("Count from 1 to 5."), chat("Spell cat"), chat("Hello")]
    greedy = {"temperature": 0.0, "max_tokens": 24}
    alone = [client.run(prompt, **greedy).choices[0].text for prompt in plain]
    numbers = []
    for prompt in plain:
        numbers.append(client.submit(prompt, **greedy))
        numbers.append(client.submit(prompt, constraint=schema(PERSON), **{**greedy, "max_tokens": 400}))
    events = client.events(numbers)
    texts = ["".join(e.text for e in events[number] if isinstance(e, core.Text)) for number in numbers]
    assert texts[::2] == alone
    assert all(map(is_person, texts[1::2]))


def test_choices_are_each_guided_and_repeat_by_seed(client: Client) -> None:
    asked = {"constraint": schema(PERSON), "n": 3, "temperature": 1.3, "seed": 11, "max_tokens": 400}
    first = [choice.text for choice in client.run(chat("Hello"), **asked).choices]
    assert all(map(is_person, first))
    assert [choice.text for choice in client.run(chat("Hello"), **asked).choices] == first


def test_the_limit_of_tokens_and_stop_strings_cut_as_ever(client: Client) -> None:
    asked = {"constraint": schema(PERSON), "temperature": 0.0}
    whole = client.run(chat("Hello"), max_tokens=400, **asked).choices[0]
    cut = client.run(chat("Hello"), max_tokens=len(whole.tokens) - 2, **asked).choices[0]
    assert (cut.done.reason, cut.tokens) == ("length", whole.tokens[:-2])
    stopped = client.run(chat("Hello"), max_tokens=400, stop=('"age"',), **asked).choices[0]
    assert (stopped.done.reason, stopped.done.stop) == ("stop", '"age"')
    assert stopped.text == whole.text.partition('"age"')[0]


def test_logprobs_are_the_models_own_before_the_mask(client: Client) -> None:
    asked = {"temperature": 0.0, "logprobs": 2, "max_tokens": 1}
    free = client.run(chat("Hello"), **asked).choices[0].logprobs[0]
    guided = client.run(chat("Hello"), constraint=schema(PERSON), **asked).choices[0].logprobs[0]
    assert guided.piece.startswith(b"{")
    if client.info is not None and client.info.provider != "fake":
        assert [other.token for other in guided.top] == [other.token for other in free.top]
        assert guided.logprob < free.logprob


@pytest.mark.parametrize(
    "constraint",
    [
        schema({"type": "nonsense"}),
        core.Constraint("json_schema", "no JSON"),
        core.Constraint("regex", "(unclosed"),
        core.Constraint("lark", "start: missing"),
    ],
    ids=lambda constraint: constraint.source,
)
def test_a_wrong_constraint_is_refused_and_the_worker_lives_on(client: Client, constraint: core.Constraint) -> None:
    with pytest.raises(InvalidConstraint):
        client.run(chat("Hello"), constraint=constraint)
    assert client.run(chat("Hello"), max_tokens=3).choices[0].done.usage.output_tokens > 0


@pytest.mark.parametrize("name", ["fake", "llama_cpp"])
def test_a_guided_sequence_that_yields_goes_on_where_it_was(name: str) -> None:
    asked = {"constraint": core.Constraint("regex", "([a-z]{3}[,;]){30}!"), "temperature": 0.0, "max_tokens": 400}
    prompts = [chat(f"Say something, number {at}.") for at in range(4)]
    with opened(name, n_ctx=256) as roomy:
        alone = [roomy.run(prompt, **asked).choices[0].text for prompt in prompts]
    with opened(name, n_ctx=256, kv_tokens=256) as narrow:
        numbers = [narrow.submit(prompt, **asked) for prompt in prompts]
        events = narrow.events(numbers)
        together = ["".join(e.text for e in events[number] if isinstance(e, core.Text)) for number in numbers]
        assert narrow.ping().preemptions > 0
    assert all(re.fullmatch("([a-z]{3}[,;]){30}!", text) for text in together)
    assert together == alone


def test_the_fake_puts_its_answer_where_the_schema_lets_it() -> None:
    with opened("fake") as fake:
        one = schema({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})
        assert fake.run(chat("hello"), constraint=one).choices[0].text == '{"text":"hello"}'
        said = '[[say:{"name": "Ann", "age": 7, "mood": "bad"}]]'
        assert fake.run(chat(said), constraint=schema(PERSON)).choices[0].text == said[6:-2]


@pytest.mark.parametrize("name", ["fake", "llama_cpp"])
def test_what_was_guessed_right_is_taken_under_a_constraint_too(name: str) -> None:
    rule = core.Constraint("regex", '([a-z]{2}-){20}"?!')
    asked = {"constraint": rule, "temperature": 0.0, "max_tokens": 200, "ignore_eos": True}
    with opened(name) as plain:
        [expected] = plain.run(chat("Hello"), **asked).choices
    assert re.fullmatch('([a-z]{2}-){20}"?!', expected.text)
    with opened(name, prompt_lookup=True) as guessing:
        [found] = guessing.run(chat("Hello"), prediction=expected.text, **asked).choices
        [wrong] = guessing.run(chat("Hello"), prediction="ab-" * 10 + "and then something else", **asked).choices
    assert (found.text, found.done.reason) == (expected.text, "stop")
    assert wrong.text == expected.text
    assert found.done.usage.accepted_tokens > 0
