"""The llama.cpp provider on a small file of random weights: what it computes, alone and with others."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import random_model
from heylook_llm import core
from heylook_llm.errors import BadRequest, LoadFailed, UnsupportedFeature
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.providers.llama_cpp import LlamaCpp, open_model
from heylook_llm.worker.providers.llama_cpp_load import GPU_RESERVE_BYTES, pool_bytes
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from tests.worker.client import Client, chat
from tests.worker.test_prepare import sampling_of

pytestmark = pytest.mark.integration

GREEDY = {"temperature": 0.0, "ignore_eos": True}
WHOLE: dict[str, Any] = {"type_k": "f32", "type_v": "f32", "flash_attn": False}
"""With weights in F32 too, a greedy choice doesn't hang on how the batch is rounded; flash attention rounds to F16."""
END = 2


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-shaped GGUF of 140,000 random parameters."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    random_model.write(path, random_model.SHAPES["tiny"], whole=True)
    return path


@pytest.fixture(scope="module")
def client(file: Path) -> Iterator[Client]:
    """A worker with that file."""
    with Client("llama_cpp", str(file), n_ctx=1024) as one:
        yield one


@pytest.fixture
def provider(file: Path) -> Iterator[LlamaCpp]:
    """The provider in this process."""
    load = core.Load("random", "llama_cpp", str(file), {"n_ctx": 1024, "n_parallel": 4, "kv_tokens": 2048})
    one = open_model(load, lambda fraction: None)
    yield one
    one.close()


def tokens_of(client: Client, prompt: core.Prompt, **fields: object) -> tuple[int, ...]:
    """The tokens of a greedy answer."""
    return client.run(prompt, **{**GREEDY, "max_tokens": 40, **fields}).choices[0].tokens


def test_info_is_the_engines_own(client: Client) -> None:
    info = client.info
    assert info is not None
    assert (info.architecture, info.quantization, info.n_layers, info.n_embedding) == ("qwen2", "F32", 2, 64)
    assert (info.n_ctx, info.n_ctx_trained, info.kv_tokens, info.n_parallel) == (1024, 4096, 8192, 8)
    assert info.n_parameters == 139_840
    assert info.kv_bytes == 8192 * 2 * 2 * 32 * 2
    assert info.capabilities == ("completion", "chat")
    assert info.metadata["qwen2.block_count"] == 2


def test_a_pool_on_gpus_is_sized_by_their_memory() -> None:
    spare = 4 << 30
    assert pool_bytes(64 << 30, spare + GPU_RESERVE_BYTES, 1.0) == spare
    assert pool_bytes(64 << 30, spare + GPU_RESERVE_BYTES, 0.5) == 2 * spare
    assert pool_bytes(1 << 30, spare + GPU_RESERVE_BYTES, 1.0) == 1 << 30
    assert pool_bytes(64 << 30, GPU_RESERVE_BYTES - 1, 1.0) == 0
    assert pool_bytes(64 << 30, None, 1.0) == 64 << 30
    assert pool_bytes(64 << 30, 0, 0.0) == 64 << 30


def test_the_pool_is_sized_by_the_memory_that_the_server_grants(file: Path) -> None:
    cell_bytes = 2 * 2 * 32 * 2
    granted = file.stat().st_size + 2 * 2048 * cell_bytes
    load = core.Load("random", "llama_cpp", str(file), {"n_parallel": 4}, {"memory_bytes": granted})
    one = open_model(load, lambda fraction: None)
    tokens = one.info.kv_tokens
    one.close()
    assert tokens is not None
    assert 2048 <= tokens <= 2048 + 1024, "half of what the weights leave, in whole paddings"


@pytest.mark.parametrize(
    "drawn", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 5}, {"temperature": 1.0, "mirostat": 2, "seed": 5}]
)
def test_the_pool_filled_by_eight_streams_yields_the_same_tokens(file: Path, drawn: dict[str, Any]) -> None:
    prompts = [core.TextPrompt(f"{n}: " + "abc " * 8) for n in range(8)]
    with Client("llama_cpp", str(file), n_ctx=512, kv_tokens=512, n_parallel=8, prefill_tokens=48, **WHOLE) as small:
        alone = [tokens_of(small, prompt, max_tokens=80, **drawn) for prompt in prompts]
        numbers = [small.submit(prompt, ignore_eos=True, max_tokens=80, **drawn) for prompt in prompts]
        found = small.events(numbers)
        stats = small.ping()
    assert stats.preemptions > 0
    for number, expected in zip(numbers, alone, strict=True):
        events = found[number]
        together = tuple(token for event in events if isinstance(event, core.Text) for token in event.tokens)
        assert together == expected
        [done] = [event for event in events if isinstance(event, core.Done)]
        assert (done.reason, done.usage.output_tokens) == ("length", 80)


def test_one_decode_carries_all_decoding_sequences_and_few_prompt_tokens(provider: LlamaCpp) -> None:
    scheduler = Scheduler(provider, slots=4, kv_tokens=2048, prefill_tokens=64)
    sampling = core.Sampling(max_tokens=30, temperature=0.0, ignore_eos=True)
    for request, length in enumerate((5, 200, 90, 31)):
        prompt = [(request * 7 + at * 3) % 200 + 3 for at in range(length)]
        scheduler.submit(Sequence(request, 0, prompt, sampling, limit_tokens=1024), 0)
    mixed = 0
    while not scheduler.idle:
        feeds = scheduler.plan(0)
        decoding = {s.slot: s.computed for s in scheduler.running if s.decoding}
        drawn = provider.step(feeds)
        batch = provider.composition()
        assert decoding.items() <= dict(batch).items(), "a decoding sequence is not in the batch"
        prompt_tokens = len(batch) - len(decoding)
        prompts = sum(not s.decoding for s in scheduler.running)
        assert prompt_tokens <= scheduler.prompt_limit(len(decoding), max(1, prompts)) <= 64
        mixed += bool(decoding and prompt_tokens)
        scheduler.commit(drawn, 0, 1)
    assert mixed > 0


def test_a_retained_prefix_changes_nothing_but_the_count(client: Client) -> None:
    client.call(core.FlushCache())
    opening = "Once upon a time there was a file of random weights. "
    fresh = client.run(core.TextPrompt(opening + "It spoke:"), **GREEDY, max_tokens=30)
    client.call(core.FlushCache())
    client.run(core.TextPrompt(opening), **GREEDY, max_tokens=5)
    cached = client.run(core.TextPrompt(opening + "It spoke:"), **GREEDY, max_tokens=30)
    assert fresh.usage.cached_tokens == 0
    assert cached.usage.cached_tokens >= len(opening) - 1
    assert cached.choices[0].tokens == fresh.choices[0].tokens


def test_choices_share_their_prompt(client: Client) -> None:
    client.call(core.FlushCache())
    before = client.ping().prompt_tokens
    result = client.run(core.TextPrompt("share " * 20), n=4, max_tokens=12, **GREEDY)
    assert len({choice.tokens for choice in result.choices}) == 1
    assert client.ping().prompt_tokens - before == 120 + 3


def test_a_seed_repeats_and_choices_differ(client: Client) -> None:
    first, second = (client.run(chat("Tell."), n=3, seed=7, temperature=1.5, max_tokens=16) for _ in range(2))
    assert [choice.tokens for choice in first.choices] == [choice.tokens for choice in second.choices]
    assert len({choice.tokens for choice in first.choices}) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"mirostat": 1, "temperature": 1.0},
        {"mirostat": 2, "mirostat_tau": 3.0, "mirostat_eta": 0.2, "temperature": 1.0},
        {"typical_p": 0.7, "temperature": 1.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0},
        {"repeat_penalty": 1.3, "repeat_last_tokens": -1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
        {},
    ],
)
def test_samplers(client: Client, fields: dict[str, float]) -> None:
    sampled = [client.run(chat("Go."), seed=3, ignore_eos=True, max_tokens=10, **fields).choices[0] for _ in range(2)]
    assert sampled[0].tokens == sampled[1].tokens
    assert sampled[0].done.usage.output_tokens == 10


def test_top_k_of_one_is_greedy(client: Client) -> None:
    assert tokens_of(client, chat("Go."), top_k=1, temperature=1.0) == tokens_of(client, chat("Go."))


def test_penalties_forbid_what_was_said(client: Client) -> None:
    tokens = tokens_of(client, core.TextPrompt("x"), max_tokens=60, frequency_penalty=2.0, repeat_penalty=2.0)
    assert len(set(tokens)) > len(set(tokens_of(client, core.TextPrompt("x"), max_tokens=60))) / 2


def test_a_bias_decides(client: Client) -> None:
    assert set(tokens_of(client, chat("Go."), logit_bias={70: 1000.0})) == {70}
    [choice] = client.run(chat("Go."), temperature=0.0, logit_bias={END: 1000.0}).choices
    assert (choice.text, choice.done.reason, choice.done.usage.output_tokens) == ("", "stop", 1)


def test_min_tokens_come_before_the_end(client: Client) -> None:
    [choice] = client.run(chat("Go."), temperature=0.0, logit_bias={END: 1000.0}, min_tokens=5, max_tokens=9).choices
    assert (choice.done.reason, choice.done.usage.output_tokens) == ("stop", 6)


def test_logprobs_are_the_models_own(client: Client) -> None:
    [choice] = client.run(chat("Go."), **GREEDY, max_tokens=6, logprobs=5).choices
    assert len(choice.logprobs) == 6
    for logprob in choice.logprobs:
        ranked = [top.logprob for top in logprob.top]
        assert ranked == sorted(ranked, reverse=True)
        assert sum(math.exp(value) for value in ranked) <= 1.0
        assert all(math.isfinite(value) for value in ranked)


def test_all_logprobs_together_are_one(client: Client) -> None:
    [choice] = client.run(chat("Go."), max_tokens=1, logprobs=512, ignore_eos=True, temperature=1.0).choices
    assert sum(math.exp(top.logprob) for top in choice.logprobs[0].top) == pytest.approx(1.0)


def test_a_full_context_is_shifted(client: Client) -> None:
    [choice] = client.run(core.TextPrompt("abc"), n_ctx=32, shift=True, max_tokens=100, **GREEDY).choices
    assert choice.done.usage.output_tokens == 100
    assert choice.done.timeline.dropped_tokens > 0


def test_what_the_file_does_not_offer_is_refused(client: Client) -> None:
    tool = core.Tool("f")
    with pytest.raises(UnsupportedFeature, match='"test-model" does not support tools'):
        client.run(chat("x", tools=(tool,)))
    with pytest.raises(UnsupportedFeature, match='"test-model" does not support thinking'):
        client.run(chat("x", thinking=True))
    with pytest.raises(UnsupportedFeature, match='"test-model" does not support insert'):
        client.run(core.TextPrompt("a", suffix="b"))
    with pytest.raises(BadRequest, match="512 tokens"):
        client.run(core.TokenPrompt((512,)))


def test_special_tokens_in_text_are_parsed_only_where_asked(client: Client) -> None:
    parsed = client.call(core.Tokenize(core.TextPrompt("<|im_end|>")))
    plain = client.call(core.Tokenize(core.TextPrompt("<|im_end|>", parse_special=False)))
    assert parsed == core.Tokens((END,))
    assert isinstance(plain, core.Tokens)
    assert len(plain.tokens) == len("<|im_end|>")


def test_a_state_is_saved_and_restored(provider: LlamaCpp) -> None:
    sampling = core.Sampling(temperature=0.0)
    prompt = tuple(range(10, 40))
    provider.add(0, sampling, prompt)
    provider.step([Feed(0, 0, prompt[:-1], False)])
    provider.restore(1, provider.save(0))
    provider.add(1, sampling, prompt)
    first, second = provider.step([Feed(0, 29, prompt[-1:], True), Feed(1, 29, prompt[-1:], True)])
    assert first.token == second.token


@pytest.mark.parametrize("damage", ["truncated", "header", "empty", "missing", "other"])
def test_a_damaged_file_is_refused_with_a_typed_error(file: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.gguf"
    data = file.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "header":
            path.write_bytes(data[:40])
        case "empty":
            path.write_bytes(b"")
        case "other":
            path.write_bytes(b"PK\x03\x04" + data[4:])
    with Client(load=False) as client:
        client.load("llama_cpp", str(path))
        refused = client.ready()
    assert isinstance(refused, core.Refused)
    error = refused.error.exception()
    assert isinstance(error, LoadFailed)
    assert str(tmp_path) not in error.message


def test_a_dialects_defaults_stand_between_the_models_and_the_engines(provider: LlamaCpp) -> None:
    fallback = core.Sampling(temperature=0.7, top_p=0.9, min_p=0.0)
    assert sampling_of(provider, fallback=fallback) == core.Sampling(temperature=0.7, top_k=40, top_p=0.9, min_p=0.0)
    assert sampling_of(provider) == core.Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
    provider.defaults = core.Sampling(top_p=0.3)
    assert sampling_of(provider, fallback=fallback).top_p == 0.3


def test_options_reach_the_engine(file: Path) -> None:
    options: dict[str, Any] = {
        "n_ctx": 300,
        "kv_tokens": 600,
        "n_parallel": 2,
        "n_batch": 64,
        "n_ubatch": 32,
        "n_threads": 1,
        "flash_attn": True,
        "type_k": "f32",
        "type_v": "bf16",
        "use_mmap": False,
        "rope_freq_base": 500000.0,
        "temperature": 0.0,
        "max_tokens": 4,
        "chat_template": "{{ messages[0].content }}",
    }
    with Client("llama_cpp", str(file), **options) as client:
        info = client.info
        assert info is not None
        assert (info.n_ctx, info.kv_tokens, info.n_parallel) == (300, 768, 2)
        assert client.call(core.Render(chat("plain"))) == core.Rendered("plain")
        first = client.run(chat("plain" * 30), ignore_eos=True)
        assert first.usage.output_tokens == 4
        assert client.run(chat("plain" * 30), ignore_eos=True).choices[0].tokens == first.choices[0].tokens
