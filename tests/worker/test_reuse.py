"""The correctness gate of shared prefixes: what is reused gives what computing it gives.

On the trained model greedy output is the same token for token. On random weights, where near-ties are common, the log
probabilities of whole vocabularies agree within TOLERANCE: weights and caches are F32 there, so the same sums are only
added in another order when a batch has another shape. That was seen to move them by up to 1.5e-4, with a cache in F16
and flash attention by 4e-3. A single wrong token, 25 places back, moves them by more than 0.2.
"""

import importlib
from collections.abc import Iterator
from typing import Any, Final

import pytest

from heylook_llm import core
from heylook_llm.worker.providers.base import Provider
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.scores import Scores
from heylook_llm.worker.sequence import Sequence
from tests.worker import random_gguf, random_mlx
from tests.worker.client import Client, chat
from tests.worker.tiers import LONG

pytestmark = pytest.mark.integration

TOLERANCE: Final = 1e-3
GREEDY: Final[dict[str, Any]] = {"temperature": 0.0, "max_tokens": 40 if LONG else 16}
SYSTEMS: Final = (
    "You are a helpful assistant. You answer in one short sentence, and you never say more than was asked for. " * 3,
    "You are a helpful assistant. You answer in one short sentence, and you count whatever can be counted. " * 3,
)
QUESTIONS: Final = ("Hello", "Count from 1 to 5.", "What is 12 + 30?", "Spell cat", "Who are you?")[: 5 if LONG else 3]
CHATS: Final = [chat(f"system: {system}", question) for system in SYSTEMS for question in QUESTIONS]
MODELS: Final = {
    "llama_cpp": ("llama_cpp", str(random_mlx.BUNDLED.parent / "heylook-tiny.gguf"), {"n_threads": 1}),
    "mlx": ("mlx", str(random_mlx.BUNDLED), {}),
}


# ---- the trained model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    """Provider, path and options of the bundled model."""
    if request.param == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed", exc_type=ImportError)
    return MODELS[request.param]


@pytest.fixture(scope="module")
def client(model: tuple[str, str, dict[str, Any]]) -> Iterator[Client]:
    """A worker with the bundled model."""
    provider, path, options = model
    with Client(provider, path, n_ctx=1024, **options) as one:
        yield one


@pytest.fixture(scope="module")
def fresh(client: Client) -> list[tuple[int, ...]]:
    """The answers to all chats, each alone in an empty pool."""
    answers = []
    for prompt in CHATS:
        client.call(core.FlushCache())
        result = client.run(prompt, **GREEDY)
        assert result.usage.cached_tokens == 0
        answers.append(result.choices[0].tokens)
    assert len(set(answers)) >= len(QUESTIONS)
    return answers


def answers_of(client: Client, numbers: list[int]) -> list[tuple[tuple[int, ...], core.Usage]]:
    """Tokens and usage of submitted requests."""
    client._expected = {}
    found = client.events(numbers)
    answers = []
    for number in numbers:
        tokens = tuple(t for event in found[number] if isinstance(event, core.Text) for t in event.tokens)
        [done] = [event for event in found[number] if isinstance(event, core.Done)]
        answers.append((tokens, done.usage))
    return answers


def test_one_after_another(client: Client, fresh: list[tuple[int, ...]]) -> None:
    client.call(core.FlushCache())
    results = [client.run(prompt, **GREEDY) for prompt in CHATS]
    assert [result.choices[0].tokens for result in results] == fresh
    assert all(result.usage.cached_tokens > 60 for result in results[1 : len(QUESTIONS)])
    again = [client.run(prompt, **GREEDY) for prompt in reversed(CHATS)]
    assert [result.choices[0].tokens for result in reversed(again)] == fresh
    assert all(result.usage.cached_tokens > 60 for result in again)


def test_all_at_once(client: Client, fresh: list[tuple[int, ...]]) -> None:
    client.call(core.FlushCache())
    before = client.ping().prompt_tokens
    answers = answers_of(client, [client.submit(prompt, **GREEDY) for prompt in CHATS])
    assert [tokens for tokens, _ in answers] == fresh
    computed = client.ping().prompt_tokens - before
    assert computed == sum(usage.prompt_tokens - usage.cached_tokens for _, usage in answers)
    assert computed < 0.4 * sum(usage.prompt_tokens for _, usage in answers)


def test_while_others_come_and_go(client: Client, fresh: list[tuple[int, ...]]) -> None:
    client.call(core.FlushCache())
    doomed = client.submit(CHATS[0], temperature=0.0, ignore_eos=True, max_tokens=500)
    numbers = [client.submit(prompt, **GREEDY) for prompt in CHATS[:3]]
    texts: dict[int, list[int]] = {}
    ended = 0
    while ended < len(CHATS):
        step = client.receive()
        assert isinstance(step, core.Step)
        for number, event in step.events:
            if isinstance(event, core.Text):
                texts.setdefault(number, []).extend(event.tokens)
            ended += isinstance(event, core.Done)
        if doomed in texts and len(numbers) < len(CHATS):
            client.send(core.Cancel(doomed))
            numbers += [client.submit(prompt, **GREEDY) for prompt in CHATS[3:]]
    assert [tuple(texts[number]) for number in numbers] == fresh


def test_choices_of_one_prompt(client: Client, fresh: list[tuple[int, ...]]) -> None:
    client.call(core.FlushCache())
    before = client.ping().prompt_tokens
    result = client.run(CHATS[1], n=4, **GREEDY)
    assert [choice.tokens for choice in result.choices] == [fresh[1]] * 4
    assert client.ping().prompt_tokens - before == result.usage.prompt_tokens + 3


def test_with_a_pool_too_small_for_all(model: tuple[str, str, dict[str, Any]], fresh: list[tuple[int, ...]]) -> None:
    provider, path, options = model
    if provider == "mlx" and not LONG:
        pytest.skip("slow here; test_mlx.py makes sequences yield too")
    longer = {**GREEDY, "ignore_eos": True, "max_tokens": 80}
    with Client(provider, path, n_ctx=512, kv_tokens=512, **options) as small:
        alone = []
        for prompt in CHATS:
            small.call(core.FlushCache())
            alone.append(small.run(prompt, **longer).choices[0].tokens)
        answers = answers_of(small, [small.submit(prompt, **longer) for prompt in CHATS])
        assert small.ping().preemptions > 0
    assert [tokens for tokens, _ in answers] == alone


# ---- random weights of every kind of memory --------------------------------------------------------------------------


OPENING: Final = [(at * 7 + at // 5) % 250 + 3 for at in range(60)]
PROMPTS: Final = [
    [*OPENING, 11, 12, 13, 14, 15],
    [*OPENING, 21, 22, 23],
    [*OPENING, *[31] * 20],
    [*OPENING[:45], 41, 42, 43, 44],
    [*OPENING, 51],
]
WHOLE: Final[dict[str, Any]] = {"type_k": "f32", "type_v": "f32", "flash_attn": False, "n_threads": 1}
RANDOM: Final[dict[str, dict[str, Any]]] = {
    **{f"gguf {name}": WHOLE for name in random_gguf.ARCHITECTURES},
    "gguf gemma3 narrow": {**WHOLE, "swa_full": False},
    "gguf llama flash": {"flash_attn": True, "n_threads": 1},
    **{f"mlx {name}": {} for name in ("llama", "sliding", "recurrent")},
}

Distributions = list[dict[int, float]]
"""Of each drawn token: every token's log probability."""


@pytest.fixture(scope="module", params=list(RANDOM))
def provider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider of random weights in this process."""
    kind, name, *_ = request.param.split()
    folder = tmp_path_factory.mktemp("random")
    options = {"n_ctx": 512, "n_parallel": 4, **RANDOM[request.param]}
    if kind == "mlx":
        pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed", exc_type=ImportError)
        path, module = random_mlx.write(folder / name, name), "mlx"
    else:
        path, module = random_gguf.write(folder / f"{name}.gguf", name), "llama_cpp"
    opened = importlib.import_module(f"heylook_llm.worker.providers.{module}")
    one = opened.open_model(core.Load("random", module, str(path), options), lambda fraction: None)
    yield one
    one.close()


@pytest.fixture
def tolerance(request: pytest.FixtureRequest) -> float:
    """What may differ: flash attention rounds to F16."""
    return 20 * TOLERANCE if "flash" in request.node.name else TOLERANCE


class Runs:
    """Requests over one provider, whose pool is empty at the start."""

    def __init__(self, provider: Provider) -> None:
        for slot in range(provider.slots):
            provider.remove(slot)
        self._provider = provider
        self.scheduler = Scheduler(
            provider,
            slots=provider.slots,
            parallel=provider.info.n_parallel,
            kv_tokens=provider.info.kv_tokens or 2048,
            prefill_tokens=32,
            scored_tokens=provider.scored_tokens,
            retention=Fixed(4096),
        )

    def together(self, *prompts: list[int], n: int = 1, tokens: int = 5) -> list[Distributions]:
        """What is drawn from, for each prompt and choice."""
        size = self._provider.info.n_vocab
        sampling = core.Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True, logprobs=size)
        drawn: dict[Sequence, Distributions] = {
            Sequence(request, choice, prompt, sampling, limit_tokens=512): []
            for request, prompt in enumerate(prompts)
            for choice in range(n)
        }
        for sequence in drawn:
            self.scheduler.submit(sequence, 0)
        while not self.scheduler.idle:
            for outcome in self.scheduler.commit(self._provider.step(self.scheduler.plan(0)), 0, 1):
                assert outcome.logprob is not None
                drawn[outcome.sequence].append({top.token: top.logprob for top in outcome.logprob.top})
        return list(drawn.values())

    def scored(self, prompt: list[int]) -> list[float]:
        """The log probabilities of a prompt's tokens."""
        sampling = core.Sampling(max_tokens=0)
        sequence = Sequence(0, 0, prompt, sampling, limit_tokens=512, scores=Scores(prompt, 0, b""))
        self.scheduler.submit(sequence, 0)
        while sequence.unscored is not None:
            self.scheduler.commit(self._provider.step(self.scheduler.plan(0)), 0, 1)
        self.scheduler.finish(sequence)
        assert sequence.scores is not None
        return [one.logprob for one in sequence.scores.told()]


def distance(left: Distributions, right: Distributions) -> float:
    """The largest difference of two log probabilities of one token, until the likeliest tokens differ."""
    largest = 0.0
    for one, other in zip(left, right, strict=True):
        largest = max(largest, *(abs(one[token] - other[token]) for token in one))
        if max(one, key=one.__getitem__) != max(other, key=other.__getitem__):
            break
    return largest


def test_reuse_of_random_weights_agrees_with_computing_anew(provider: Provider, tolerance: float) -> None:
    fresh = [Runs(provider).together(prompt)[0] for prompt in PROMPTS]
    one_by_one = Runs(provider)
    found = [one_by_one.together(prompt)[0] for prompt in PROMPTS]
    assert one_by_one.scheduler.cached_tokens >= 2 * 60
    found += [one_by_one.together(prompt)[0] for prompt in PROMPTS]
    at_once = Runs(provider)
    found += at_once.together(*PROMPTS)
    assert at_once.scheduler.cached_tokens >= 3 * 60
    assert max(map(distance, found, fresh * 3)) < tolerance


def test_choices_of_random_weights_agree(provider: Provider, tolerance: float) -> None:
    [fresh] = Runs(provider).together(PROMPTS[0])
    runs = Runs(provider)
    choices = runs.together(PROMPTS[0], n=4)
    assert runs.scheduler.prompt_tokens == len(PROMPTS[0]) + 3
    assert max(distance(choice, fresh) for choice in choices) < tolerance


def test_the_tolerance_tells_a_wrong_state(provider: Provider, tolerance: float) -> None:
    [right] = Runs(provider).together(PROMPTS[0], tokens=1)
    wrong = [*PROMPTS[0]]
    wrong[40] += 1
    [other] = Runs(provider).together(wrong, tokens=1)
    assert distance(right, other) > 10 * tolerance


def test_a_prompts_tokens_are_scored_as_when_they_are_drawn(provider: Provider, tolerance: float) -> None:
    """Also where the beginning lies computed, which is then computed again."""
    prompt = PROMPTS[0]
    runs = Runs(provider)
    runs.together(prompt)
    scored = runs.scored(prompt)
    assert len(scored) == len(prompt)
    for at in (1, 20, len(prompt) - 1):
        [[drawn]] = runs.together(prompt[:at], tokens=1)
        assert scored[at] == pytest.approx(drawn[prompt[at]], abs=tolerance)
