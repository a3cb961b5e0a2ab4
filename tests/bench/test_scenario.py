"""The grammar of traffic."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from heylook_llm.bench.scenario import (
    Conversation,
    Dataset,
    Embedding,
    Exact,
    Image,
    Normal,
    Rerank,
    Scenario,
    Uniform,
    fits,
    lengths,
    longest,
    parse,
    task_of,
    window,
)
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

number = some.integers(1, 9999)
turn: some.SearchStrategy[Normal | Exact | Uniform] = some.one_of(
    some.builds(Normal, number, some.integers(0, 9999), number, some.integers(0, 9999)),
    some.builds(Exact, number, number),
    some.builds(lambda a, b, c, d: Uniform(min(a, b), max(a, b), min(c, d), max(c, d)), number, number, number, number),
)
scenario: some.SearchStrategy[Scenario] = some.one_of(
    turn,
    some.builds(Embedding, number, number),
    some.builds(Rerank, number, number, number),
    some.builds(Image, number, number, number, number, number),
    some.builds(Conversation, some.integers(2, 1000), turn),
    some.just(Dataset()),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N(480,240)/(300,150)", Normal(480, 240, 300, 150)),
        ("N(500,100,200,50)", Normal(500, 100, 200, 50)),
        ("D(100,1000)", Exact(100, 1000)),
        (" D ( 100 , 1000 ) ", Exact(100, 1000)),
        ("U(50,100)/(20,40)", Uniform(50, 100, 20, 40)),
        ("U(100, 200)", Uniform(1, 100, 2, 200)),
        ("U(0,100)/(0,200)", Uniform(1, 100, 2, 200)),
        ("E(1024)", Embedding(1024)),
        ("R(1024, 100)", Rerank(1024, 100)),
        ("I(512,512)", Image(512, 512)),
        ("I(512,512,3)", Image(512, 512, 3)),
        ("I(512,512)/(20,30)", Image(512, 512, 1, 20, 30)),
        ("E(64, 8)", Embedding(64, 8)),
        ("R(64,10,5)", Rerank(64, 10, 5)),
        ("T(4) * D(100, 50)", Conversation(4, Exact(100, 50))),
        ("T(2)*N(500,100,200,50)", Conversation(2, Normal(500, 100, 200, 50))),
        ("dataset", Dataset()),
    ],
)
def test_what_genai_bench_writes_and_what_its_readers_do(text: str, expected: Scenario) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *["", "D", "D(100)", "D(0,5)", "D(100,100,100)", "D(-1,5)", "D(1.5,5)", "N(1,2)", "N(1,2)/(3)", "X(1,2)"],
        *[
            "V",
            "U(9,1)/(1,2)",
            "d(1,2)",
            "E(1,2,3)",
            "E(1,0)",
            "E()",
            "D(100,100)x",
            "D(99999999999,1)",
            "R(1)",
            "D(1,2)/(3,4)",
        ],
        *[
            "D(١,٢)",
            "T(1)*D(1,2)",
            "T(2)*E(5)",
            "T(2)*T(2)*D(1,2)",
            "T(2)",
            "T(1001)*D(1,2)",
            "I(99999,5)",
            "R(1,2,3,4)",
        ],
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert "\n" not in error.value.message


@given(scenario)
def test_a_scenario_reads_what_it_writes(made: Scenario) -> None:
    assert parse(str(made)) == made


@given(scenario, some.integers())
def test_lengths_lie_within_what_was_asked(made: Scenario, seed: int) -> None:
    if isinstance(made, Embedding | Rerank | Dataset):
        with pytest.raises(ConfigError):
            lengths(made, random.Random(seed))
        return
    tokens, output = lengths(made, random.Random(seed))
    assert (tokens, output) == lengths(made, random.Random(seed))
    assert tokens >= 1
    assert output >= 1
    match made:
        case Exact(i, o):
            assert (tokens, output) == (i, o)
        case Uniform(a, b, c, d):
            assert a <= tokens <= b
            assert c <= output <= d
        case Image(input_tokens=i, output_tokens=o):
            assert (tokens, output) == (i, o)
        case Normal():
            assert output >= 2
        case _:
            assert isinstance(made, Conversation)
    if not isinstance(made, Normal) and not (isinstance(made, Conversation) and isinstance(made.turn, Normal)):
        assert (tokens, output) <= longest(made)


def test_a_bell_curve_has_its_mean() -> None:
    drawing = random.Random(5)
    drawn = [lengths(Normal(500, 50, 200, 20), drawing) for _ in range(2000)]
    assert abs(sum(tokens for tokens, _ in drawn) / 2000 - 500) < 6
    assert abs(sum(output for _, output in drawn) / 2000 - 200) < 3


@given(scenario)
def test_a_scenario_is_for_the_task_that_it_is_taken_for(made: Scenario) -> None:
    assert fits(made, task_of(made))


def test_what_a_model_must_hold_at_once() -> None:
    assert window(parse("D(100,50)")) == 150
    assert window(parse("T(3)*D(100,50)")) == 3 * 150
    assert window(parse("E(64,8)")) == 64
    assert window(parse("R(64,10,5)")) == 74
    assert longest(parse("R(64,10,5)")) == (330, 0)
    assert window(parse("dataset")) == 0
