"""Images on llama.cpp, on random weights: the answers of its own helper, shared, preempted, batched; refusals."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, HeylookError, LoadFailed
from heylook_llm.worker.providers.base import Feed, OutOfCells
from tests.worker import mtmd_reference, random_gguf, random_projector
from tests.worker.client import Client, chat
from tests.worker.pictures import picture, shown
from tests.worker.tiers import LONG

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama.cpp isn't installed"),
]

SIDE = random_projector.SIDE
AROUND_TILES = ("\n\n", "<fake_token_around_image>", "<global-img>")
PAIRS = {
    "llava": ("mlp", "llama", ()),
    "gemma": ("gemma3", "gemma3", ()),
    "qwen": ("qwen2vl_merger", "qwen2vl", ()),
    "smol": ("idefics3", "llama", AROUND_TILES),
    "lfm": ("mlp", "lfm2", ()),
}
"""Rows in any cut; looking at each other, so computed together; positions of two dimensions; tiles; a state that can't
be cut."""
PLAIN: dict[str, Any] = {
    **{"n_ctx": 512, "kv_tokens": 2048, "n_parallel": 4, "n_threads": 1, "prefill_tokens": 32},
    **{"type_k": "f32", "type_v": "f32", "flash_attn": False, "chat_template": "{{ messages[0].content }}"},
}
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 10, "ignore_eos": True}

WHOLE = ("lfm",)
"""Where only a whole state can be gone on from."""
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """A model and its projector, by the name of the pair."""
    folder = tmp_path_factory.mktemp("vision")
    return {
        name: (
            random_gguf.write(folder / f"{name}.gguf", architecture, control=control),
            random_projector.write(folder / f"{name}-mmproj.gguf", kind),
        )
        for name, (kind, architecture, control) in PAIRS.items()
    }


@pytest.fixture(scope="module", params=list(PAIRS))
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a pair."""
    return str(request.param)


@pytest.fixture(scope="module")
def client(kind: str, pairs: dict[str, Pair]) -> Iterator[Client]:
    """A worker with that pair."""
    with opened(pairs[kind]) as one:
        yield one


@pytest.fixture(scope="module")
def squares(pairs: dict[str, Pair]) -> Iterator[Client]:
    """A worker with LLaVA's projector."""
    with opened(pairs["llava"]) as one:
        yield one


def opened(pair: Pair, **options: Any) -> Client:
    """A worker."""
    return Client("llama_cpp", str(pair[0]), mmproj_path=str(pair[1]), **PLAIN | options)


def drawing(seed: int, width: int = SIDE, height: int = SIDE) -> core.ImagePart:
    """An image of random pixels."""
    return core.ImagePart(np.random.default_rng(seed).bytes(3 * width * height), width, height)


def tokens(client: Client, *prompt: str | core.ImagePart, **fields: Any) -> tuple[int, ...]:
    """What is answered, as tokens."""
    return client.run(shown(*prompt), **GREEDY | fields).choices[0].tokens


def for_long(kind: str) -> None:
    """Leave a worker more to the long tier for pairs that are like others here."""
    if not LONG and kind not in ("llava", "qwen"):
        pytest.skip("in the long tier")


# ---- what is computed ------------------------------------------------------------------------------------------------


def test_the_answer_is_that_of_llama_cpps_own_helper(kind: str, client: Client, pairs: dict[str, Pair]) -> None:
    prompts: tuple[list[str | core.ImagePart], ...] = (
        ["Look at this: ", drawing(1), " What is it?"],
        [drawing(2), drawing(3), "One text behind two images, long enough to be computed in more than one step."],
        ["A ", drawing(4), " B ", drawing(4), " C ", drawing(5), " D"],
    )
    for prompt in prompts:
        assert list(tokens(client, *prompt)) == mtmd_reference.answer(*pairs[kind], prompt, 10)


def test_sizes_of_their_own(pairs: dict[str, Pair]) -> None:
    prompt: list[str | core.ImagePart] = [
        "Look at this: ",
        drawing(1, 48, 16),
        " and that: ",
        drawing(2, 16, 80),
        " What is it?",
    ]
    with opened(pairs["qwen"]) as one:
        assert list(tokens(one, *prompt)) == mtmd_reference.answer(*pairs["qwen"], prompt, 10)


def test_answers_hang_on_the_image_and_its_place(client: Client) -> None:
    prompts = [("a", drawing(1), "b"), ("a", drawing(2), "b"), (drawing(1), "ab"), ("ab",)]
    assert len({tokens(client, *prompt) for prompt in prompts}) == len(prompts)


def test_a_second_turn_computes_neither_the_image_nor_its_cells_again(kind: str, client: Client) -> None:
    image, before = drawing(11), client.ping().images
    first = client.run(shown("A text of some length before ", image, " and behind."), **GREEDY)
    again = client.run(shown("A text of some length before ", image, " and behind. And more."), **GREEDY)
    if kind not in WHOLE:
        assert again.usage.cached_tokens >= first.usage.prompt_tokens - 1
    assert client.ping().images == before + 1
    client.call(core.FlushCache())
    fresh = client.run(shown("A text of some length before ", image, " and behind. And more."), **GREEDY)
    assert fresh.usage.cached_tokens == 0
    assert fresh.choices[0].tokens == again.choices[0].tokens


def test_different_images_share_only_what_stands_before_them(client: Client) -> None:
    text = "A text of some length before "
    client.run(shown(text, drawing(21), " and behind."), **GREEDY)
    other = client.run(shown(text, drawing(22), " and behind."), **GREEDY)
    counted = client.call(core.Tokenize(shown(text, drawing(22), " and behind.")))
    assert isinstance(counted, core.Tokens)
    assert other.usage.cached_tokens <= len(counted.tokens) < other.usage.prompt_tokens
    assert other.usage.prompt_tokens == len(counted.tokens) + counted.image_tokens


def test_choices_share_the_image(client: Client) -> None:
    image, before = drawing(31), client.ping().images
    alone = tokens(client, "a", image, "b")
    result = client.run(shown("a", image, "b"), **GREEDY, n=3)
    assert {choice.tokens for choice in result.choices} == {alone}
    assert client.ping().images == before + 1


def test_beside_text_streams_the_answer_is_the_same(client: Client) -> None:
    prompts = [shown("a", drawing(41), "b"), chat("Tell me more."), shown(drawing(42), "c"), chat("And more yet.")]
    alone = [client.run(prompt, **GREEDY | {"max_tokens": 30}).choices[0].tokens for prompt in prompts]
    client.call(core.FlushCache())
    numbers = [client.submit(prompt, **GREEDY | {"max_tokens": 30}) for prompt in prompts]
    assert [answer.choices[0].tokens for answer in results(client, numbers)] == alone


def results(client: Client, numbers: list[int]) -> list[core.Result]:
    """The replies to requests that run together."""
    events = client.events(numbers)
    found = []
    for number in numbers:
        fold = core.Fold()
        for event in events[number]:
            fold.feed(event)
        found.append(fold.result())
    return found


def test_a_preempted_sequence_sees_again(kind: str, client: Client, pairs: dict[str, Pair]) -> None:
    for_long(kind)
    text = "Some text, to take up room. " * 2
    prompts = [shown(f"{at}. {text}", drawing(50 + at), " What?") for at in range(4)]
    fields = GREEDY | {"max_tokens": 250}
    alone = [client.run(prompt, **fields).choices[0].tokens for prompt in prompts]
    with opened(pairs[kind], kv_tokens=512) as one:
        for prompt in prompts:  # encoded before, so that they come together
            one.run(prompt, max_tokens=1)
        one.call(core.FlushCache())
        together = results(one, [one.submit(prompt, **fields) for prompt in prompts])
    assert [result.choices[0].tokens for result in together] == alone
    assert sum(result.timeline.preemptions for result in together) > 0


def test_a_prefix_with_an_image_comes_back_from_memory(kind: str, client: Client, pairs: dict[str, Pair]) -> None:
    for_long(kind)
    prompt = shown("A text of some length before ", drawing(61), " and behind it, too.")
    alone = client.run(prompt, **GREEDY).choices[0].tokens
    with opened(pairs[kind], n_ctx=256, kv_tokens=256, n_parallel=1, prefix_memory_bytes=64 << 20) as one:
        one.run(prompt, **GREEDY)
        one.run(chat("Something else entirely. " * 9), **GREEDY)
        again = one.run(prompt, **GREEDY)
    assert again.choices[0].tokens == alone
    if kind not in (*WHOLE, "gemma"):  # behind its window only a whole state is of use
        assert again.timeline.cached_from == "memory"
    assert again.usage.prompt_tokens - 1 >= again.usage.cached_tokens


def test_without_room_nothing_is_computed(pairs: dict[str, Pair]) -> None:
    from heylook_llm.worker.providers.llama_cpp import open_model  # needs the engine

    options = PLAIN | {"n_ctx": 256, "kv_tokens": 256, "mmproj_path": str(pairs["llava"][1])}
    provider = open_model(core.Load("m", "llama_cpp", str(pairs["llava"][0]), options), lambda fraction: None)
    try:
        assert provider.images is not None
        image = drawing(1)
        held = provider.images.encode(image)
        run = provider.images.read(image)
        provider.add(0, core.Sampling(temperature=0), [])
        provider.add(1, core.Sampling(temperature=0), [])
        provider.step([Feed(0, 0, (5,) * 230, True)])
        fitting = (Feed(0, 230, (5,), True), Feed(1, 0, (7, *run, 8, 9), True))
        first = provider.step(fitting)
        assert [drawn.slot for drawn in first] == [0, 1]
        assert provider.remove(1)
        assert provider.remove(0, 230)
        for filler in (8, 20):  # no room for the text behind the image, nor for the image
            provider.step([Feed(0, 230, (5,) * filler, True)])
            with pytest.raises(OutOfCells):
                provider.step([Feed(0, 230 + filler, (5,), True), Feed(1, 0, (7, *run, 8, 9), True)])
            assert provider.remove(0, 230)
            assert provider.step(fitting) == first
            assert provider.remove(1)
            assert provider.remove(0, 230)
        del held
    finally:
        provider.close()


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_odd_sizes_are_stretched_to_the_square(squares: Client) -> None:
    sizes = [(SIDE, SIDE), (1, 1), (1, 5000), (5000, 1), (3000, 2000)]
    answers = [tokens(squares, "a", picture(*size, (250, 10, 10)), "b") for size in sizes]
    assert len(answers[0]) == 10
    assert len(set(answers)) == 1


def test_strips_and_posters_are_refused_where_size_counts(pairs: dict[str, Pair]) -> None:
    with opened(pairs["qwen"]) as one:
        for size in ((1, 51), (9999, 3)):
            with pytest.raises(BadRequest, match="50 times the other"):
                one.run(shown("a", picture(*size), "b"), **GREEDY)
        with pytest.raises(ContextLengthExceeded):
            one.run(shown("a", picture(1500, 1500), "b"), **GREEDY)
        assert one.ping().images == 0
        assert tokens(one, "a", picture(1, 50), "b")
        assert tokens(one, "a", picture(1, 1), "b")


def test_an_image_must_be_followed_by_text(squares: Client) -> None:
    with pytest.raises(BadRequest, match="ends with an image"):
        squares.run(shown("a", drawing(1)), **GREEDY)


def test_penalties_see_no_images(squares: Client) -> None:
    fields = {"temperature": 1.0, "seed": 4, "repeat_penalty": 1.3, "repeat_last_tokens": -1, "dry_multiplier": 0.5}
    one, other = (tokens(squares, "a", drawing(71), "b", **GREEDY | fields) for _ in range(2))
    assert one == other
    assert len(one) == 10


def test_a_projector_that_the_engine_refuses(pairs: dict[str, Pair], tmp_path: Path) -> None:
    path = random_projector.write(tmp_path / "mmproj.gguf", "mlp", keys={"block_count": 9})
    reason = str(refusal(pairs["llava"][0], path))
    assert "is refused by llama.cpp" in reason
    assert "unable to find tensor" in reason


def test_a_projector_of_another_model(pairs: dict[str, Pair], tmp_path: Path) -> None:
    path = random_projector.write(tmp_path / "mmproj.gguf", "mlp", width=128)
    assert "fits models that are 128 wide, and this one is 64" in str(refusal(pairs["llava"][0], path))


def refusal(model: Path, projector: Path) -> HeylookError:
    """Why a pair isn't loaded."""
    with Client(load=False) as one:
        one.load("llama_cpp", str(model), mmproj_path=str(projector), **PLAIN)
        refused = one.ready()
    assert isinstance(refused, core.Refused)
    error = refused.error.exception()
    assert isinstance(error, LoadFailed)
    return error


def test_a_step_must_hold_an_image_whose_tokens_see_each_other(pairs: dict[str, Pair]) -> None:
    with Client(load=False) as one:
        model, projector = pairs["gemma"]
        one.load("llama_cpp", str(model), mmproj_path=str(projector), **PLAIN | {"n_batch": 7, "n_parallel": 4})
        refused = one.ready()
    assert isinstance(refused, core.Refused)
    assert "set `n_batch` to at least 8" in refused.error.message
