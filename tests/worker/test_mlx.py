"""The mlx provider: the bundled model through a real worker, and other kinds of caches on random weights in process."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.providers.base import Feed, OutOfCells
from heylook_llm.worker.retention import Fixed
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from tests.worker import random_mlx
from tests.worker.client import Client, chat
from tests.worker.test_prepare import sampling_of

pytest.importorskip("mlx_lm", reason="mlx-lm isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
mlx = pytest.importorskip("heylook_llm.worker.providers.mlx")

pytestmark = pytest.mark.integration

GREEDY: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}
END = 1019
TURNS = ["Hello", "Count from 1 to 5.", "Tell me a story.", "What is 12 + 30?", "Spell cat", "Who are you?"]
QUANTIZED = {"cache_type": "quantized", "kv_group_size": 32}
CACHES: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("llama", {}),
    "quantized": ("wide", {**QUANTIZED, "quantized_kv_start": 0}),
    "quantized later": ("wide", {**QUANTIZED, "quantized_kv_start": 50, "kv_bits": 8}),
    "rotating": ("llama", {"cache_type": "rotating", "max_kv_size": 24}),
    "sliding window": ("sliding", {}),
    "recurrent": ("recurrent", {}),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A worker with the bundled model."""
    with Client("mlx", str(random_mlx.BUNDLED), n_ctx=1024) as one:
        yield one


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of random weights for each shape."""
    root = tmp_path_factory.mktemp("mlx")
    return {shape: random_mlx.write(root / shape, shape) for shape in random_mlx.SHAPES}


@pytest.fixture(params=list(CACHES))
def case(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[Path, dict[str, Any]]:
    """A folder and the options that make its caches of one kind."""
    shape, options = CACHES[request.param]
    return folders[shape], options


def opened(folder: Path, **options: Any) -> Any:
    """The provider in this process."""
    given = {"n_ctx": 512, "n_parallel": 4, **options}
    return mlx.open_model(core.Load("random", "mlx", str(folder), given), lambda fraction: None)


def prompt_of(length: int, start: int = 0) -> list[int]:
    """Some tokens."""
    return [(start * 7 + at * 3) % 1000 for at in range(length)]


def generated(
    provider: Any, prompts: list[list[int]], *, tokens: int = 40, scheduler: Scheduler | None = None, **sampling: Any
) -> list[list[int]]:
    """The outputs of prompts that run together."""
    scheduler = scheduler or scheduled(provider)
    wanted = core.Sampling(max_tokens=tokens, **{**GREEDY, **sampling})
    limit = provider.info.n_ctx
    sequences = [Sequence(at, 0, prompt, wanted, limit_tokens=limit) for at, prompt in enumerate(prompts)]
    return finished(provider, scheduler, sequences)


def finished(provider: Any, scheduler: Scheduler, sequences: list[Sequence]) -> list[list[int]]:
    """The outputs of sequences that run together until all have ended."""
    for sequence in sequences:
        scheduler.submit(sequence, 0)
    while not scheduler.idle:
        try:
            drawn = provider.step(scheduler.plan(0))
        except OutOfCells:
            scheduler.make_room()
            continue
        scheduler.commit(drawn, 0, 1)
    return [sequence.tokens[sequence.prompt_tokens :] for sequence in sequences]


def scheduled(provider: Any, **options: Any) -> Scheduler:
    """A scheduler of small prompt chunks for a provider, whose slots are emptied."""
    info = provider.info
    for slot in range(info.n_parallel):
        provider.remove(slot)
    given = {"slots": info.n_parallel, "kv_tokens": info.kv_tokens, "prefill_tokens": 32, "retention": Fixed(4096)}
    return Scheduler(provider, **(given | options))


def text_of(events: list[core.Event]) -> str:
    """The text of a request's events."""
    return "".join(event.text for event in events if isinstance(event, core.Text))


# ---- alone and together ----------------------------------------------------------------------------------------------


def test_together_as_alone_with_every_kind_of_cache(case: tuple[Path, dict[str, Any]]) -> None:
    folder, options = case
    prompts = [prompt_of(length, at) for at, length in enumerate((5, 60, 31, 1, 17))]
    provider = opened(folder, **options)
    alone = [generated(provider, [prompt])[0] for prompt in prompts]
    assert len(set(map(tuple, alone))) == len(prompts)
    assert generated(provider, prompts) == alone


def test_however_a_prompt_is_cut_a_rotating_cache_computes_the_same(folders: dict[str, Path]) -> None:
    """As if its tokens came one by one: each sees the kept beginning and its window, no more and no less."""
    provider = opened(folders["llama"], **CACHES["rotating"][1])
    said = [
        generated(provider, [prompt_of(70)], scheduler=scheduled(provider, prefill_tokens=chunk))[0]
        for chunk in (1, 2, 5, 16, 23, 24, 25, 32, 256)
    ]
    assert said == [said[0]] * len(said)


def test_prompts_in_one_pass_as_one_by_one(case: tuple[Path, dict[str, Any]]) -> None:
    """As on a GPU: two prompts of unlike length, the second joining when the first is half computed."""
    folder, options = case
    provider = opened(folder, **options)
    prompts = [prompt_of(length, at) for at, length in enumerate((5, 60, 31, 42))]
    alone = [generated(provider, [prompt])[0] for prompt in prompts]
    provider._prefills_together = True
    scheduler = scheduled(provider, prefill_tokens=70)
    assert generated(provider, prompts, scheduler=scheduler) == alone


def test_a_kept_prefix_changes_nothing(case: tuple[Path, dict[str, Any]]) -> None:
    folder, options = case
    provider = opened(folder, **options)
    first, second = prompt_of(70), prompt_of(60) + prompt_of(20, 5)
    fresh = [generated(provider, [prompt], tokens=12)[0] for prompt in (first, second)]
    scheduler = scheduled(provider)
    reused = [generated(provider, [prompt], tokens=12, scheduler=scheduler)[0] for prompt in (first, second, first)]
    assert reused == [*fresh, fresh[0]]
    if options.get("cache_type") != "rotating" and folder.name in ("llama", "wide"):
        assert scheduler.cached_tokens >= 60 + 60
    if folder.name == "recurrent" or options.get("cache_type") == "rotating":
        assert scheduler.cached_tokens == 60, "where prompts part is known only from the second on"


def test_a_running_prefix_is_shared(folders: dict[str, Path]) -> None:
    provider = opened(folders["llama"])
    prompts = [prompt_of(64) + prompt_of(9, at + 1) for at in range(4)]
    alone = [generated(provider, [prompt])[0] for prompt in prompts]
    scheduler = scheduled(provider)
    leader = Sequence(9, 0, prompts[0], core.Sampling(max_tokens=30, **GREEDY), limit_tokens=512)
    scheduler.submit(leader, 0)
    while leader.output_tokens < 5:
        scheduler.commit(provider.step(scheduler.plan(0)), 0, 1)
    assert generated(provider, prompts[1:], scheduler=scheduler) == alone[1:]
    assert leader.tokens[73:] == alone[0][:30]
    assert scheduler.cached_tokens >= 3 * 64


def test_a_continued_conversation_keeps_a_recurrent_state(folders: dict[str, Path]) -> None:
    provider = opened(folders["recurrent"])
    scheduler = scheduled(provider)
    first = prompt_of(30)
    answer = generated(provider, [first], tokens=10, scheduler=scheduler)[0]
    longer = [*first, *answer, *prompt_of(8, 3)]
    continued = generated(provider, [longer], tokens=10, scheduler=scheduler)[0]
    assert scheduler.cached_tokens == 30 + 9
    assert generated(opened(folders["recurrent"]), [longer], tokens=10)[0] == continued


def test_whoever_yields_goes_on_as_if_nothing_happened(folders: dict[str, Path]) -> None:
    provider = opened(folders["llama"])
    prompts = [prompt_of(20, at) for at in range(4)]
    samplings: list[dict[str, Any]] = [{}, {"temperature": 1.2, "seed": 5}]
    for sampling in samplings:
        alone = [generated(provider, [prompt], **sampling)[0] for prompt in prompts]
        scheduler = scheduled(provider, kv_tokens=130)
        assert generated(provider, prompts, scheduler=scheduler, **sampling) == alone
        assert scheduler.preemptions > 0


def test_the_pool_has_an_end(folders: dict[str, Path]) -> None:
    provider = opened(folders["llama"], n_ctx=256, n_parallel=1)
    provider.add(0, core.Sampling(temperature=0.0), prompt_of(300))
    provider.step([Feed(0, 0, tuple(prompt_of(250)), False)])
    with pytest.raises(OutOfCells):
        provider.step([Feed(0, 250, tuple(prompt_of(7)), False)])
    provider.step([Feed(0, 250, tuple(prompt_of(6)), True)])
    assert provider.remove(0)
    provider.step([Feed(0, 0, tuple(prompt_of(256)), False)])
    assert not provider.remove(0, 200, 210)
    with pytest.raises(EngineError, match="holds 256 tokens"):
        provider.step([Feed(0, 5, (), False)])


def test_copies_of_a_prefix_stay_within_the_pool(folders: dict[str, Path]) -> None:
    provider = opened(folders["llama"])
    provider._kv_tokens = 150  # as on a machine with less memory than n_ctx * n_parallel asks for
    provider.step([Feed(0, 0, tuple(prompt_of(60)), False)])
    assert [provider.share(0, slot, 60) for slot in (1, 2)] == [True, False]
    assert provider.remove(1)
    assert provider.share(0, 2, 60)


def test_a_state_is_saved_and_restored(case: tuple[Path, dict[str, Any]]) -> None:
    folder, options = case
    provider = opened(folder, **options)
    prompt = tuple(prompt_of(60))
    for slot in (0, 1):
        provider.add(slot, core.Sampling(temperature=0.0, logprobs=3), prompt)
    provider.step([Feed(0, 0, prompt[:43], False)])
    provider.restore(1, provider.save(0))
    provider.step([Feed(slot, 43, prompt[43:-1], False) for slot in (0, 1)])
    first, second = provider.step([Feed(0, 59, prompt[-1:], True), Feed(1, 59, prompt[-1:], True)])
    assert (first.token, first.logprob.top[1].token) == (second.token, second.logprob.top[1].token)


# ---- through a worker ------------------------------------------------------------------------------------------------


def test_info_is_the_folders_and_the_engines_own(client: Client) -> None:
    info = client.info
    assert info is not None
    assert (info.provider, info.architecture, info.quantization) == ("mlx", "qwen2", "F16")
    assert (info.n_ctx, info.n_ctx_trained, info.kv_tokens, info.n_parallel) == (1024, 4096, 8192, 8)
    config = json.loads((random_mlx.BUNDLED / "config.json").read_text())
    assert (info.n_layers, info.n_embedding) == (config["num_hidden_layers"], config["hidden_size"])
    assert info.n_vocab == config["vocab_size"]
    assert info.weights_bytes == 2 * (info.n_parameters or 0)
    assert {"completion", "chat", "tools", "thinking"} <= set(info.capabilities)
    assert info.metadata["model_type"] == "qwen2"
    assert client.loading


def test_texts_come_as_alone_from_a_full_batch(client: Client) -> None:
    for sampling in ({"temperature": 0.0}, {"temperature": 0.9, "seed": 11, "top_k": 0, "top_p": 0.9}):
        alone = [client.run(chat(turn), max_tokens=30, **sampling).choices[0].text for turn in TURNS]
        numbers = [client.submit(chat(turn), max_tokens=30, **sampling) for turn in TURNS]
        client._expected = {}
        found = client.events(numbers)
        assert [text_of(found[number]) for number in numbers] == alone


def test_a_request_joins_and_leaves_in_flight(client: Client) -> None:
    client.call(core.FlushCache())
    alone = client.run(chat("Tell me a story."), **GREEDY, max_tokens=60).choices[0]
    long = client.submit(chat("Tell me a story."), **GREEDY, max_tokens=60)
    gone = client.submit(chat("Count."), **GREEDY, max_tokens=500)
    short = client.submit(chat("Hello"), **GREEDY, max_tokens=5)
    client._expected = {}
    tokens: dict[int, list[int]] = {long: [], gone: [], short: []}
    done: dict[int, core.Done] = {}
    cancelled = False
    while long not in done:
        message = client.receive()
        assert isinstance(message, core.Step)
        for number, event in message.events:
            if isinstance(event, core.Text):
                tokens[number].extend(event.tokens)
            if isinstance(event, core.Done):
                done[number] = event
        if short in done and not cancelled:
            client.send(core.Cancel(gone))
            cancelled = True
    assert tuple(tokens[long]) == alone.tokens
    assert {2, 3} & set(done[long].timeline.batch_sizes_seen)
    assert gone not in done


def test_a_prefix_is_counted_as_cached(client: Client) -> None:
    client.call(core.FlushCache())
    opening = "The quick brown fox jumps over the lazy dog. " * 4
    fresh = client.run(core.TextPrompt(opening + "Then:"), **GREEDY, max_tokens=20)
    client.call(core.FlushCache())
    client.run(core.TextPrompt(opening), **GREEDY, max_tokens=3)
    cached = client.run(core.TextPrompt(opening + "Then:"), **GREEDY, max_tokens=20)
    assert fresh.usage.cached_tokens == 0
    assert cached.usage.cached_tokens > 40
    assert cached.choices[0].tokens == fresh.choices[0].tokens


def test_choices_share_their_prompt_and_differ_by_seed(client: Client) -> None:
    client.call(core.FlushCache())
    before = client.ping().prompt_tokens
    wild: dict[str, Any] = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    results = [client.run(chat("Tell me."), n=3, seed=7, max_tokens=16, **wild) for _ in range(2)]
    assert [c.tokens for c in results[0].choices] == [c.tokens for c in results[1].choices]
    assert len({c.tokens for c in results[0].choices}) == 3
    assert client.ping().prompt_tokens - before < 2 * results[0].usage.prompt_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {"typical_p": 0.7, "temperature": 1.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0},
        {"top_k": 5, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.9, "temperature": 2.0},
        {"repeat_penalty": 1.3, "repeat_last_tokens": -1, "presence_penalty": 0.5, "frequency_penalty": 0.5},
        {},
    ],
)
def test_a_seed_repeats(client: Client, fields: dict[str, float]) -> None:
    sampled = [client.run(chat("Go."), seed=3, ignore_eos=True, max_tokens=12, **fields).choices[0] for _ in range(2)]
    assert sampled[0].tokens == sampled[1].tokens
    assert sampled[0].done.usage.output_tokens == 12
    other = client.run(chat("Go."), seed=-4, ignore_eos=True, max_tokens=12, **fields).choices[0]
    assert other.done.usage.output_tokens == 12


def test_cuts_to_one_token_are_greedy(client: Client) -> None:
    greedy = client.run(chat("Go."), **GREEDY, max_tokens=15).choices[0].tokens
    for cut in ({"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}):
        sampled = client.run(chat("Go."), temperature=1.0, ignore_eos=True, max_tokens=15, **cut).choices[0].tokens
        assert sampled == greedy


def test_penalties_forbid_what_was_said(client: Client) -> None:
    plain = client.run(core.TextPrompt("x"), **GREEDY, max_tokens=60).choices[0].tokens
    fields = {"frequency_penalty": 2.0, "repeat_penalty": 2.0}
    penalized = client.run(core.TextPrompt("x"), **GREEDY, max_tokens=60, **fields).choices[0].tokens
    assert len(set(penalized)) > len(set(plain))


def test_a_bias_decides(client: Client) -> None:
    assert set(client.run(chat("Go."), **GREEDY, max_tokens=9, logit_bias={70: 1000.0}).choices[0].tokens) == {70}
    [choice] = client.run(chat("Go."), temperature=0.0, logit_bias={END: 1000.0}).choices
    assert (choice.text, choice.done.reason, choice.done.usage.output_tokens) == ("", "stop", 1)


def test_min_tokens_come_before_the_end(client: Client) -> None:
    [choice] = client.run(chat("Go."), temperature=0.0, logit_bias={END: 1000.0}, min_tokens=5, max_tokens=9).choices
    assert (choice.done.reason, choice.done.usage.output_tokens) == ("stop", 6)


def test_logprobs_are_the_models_own(client: Client) -> None:
    fields = {"temperature": 0.7, "seed": 1, "frequency_penalty": 1.0, "ignore_eos": True, "max_tokens": 6}
    [choice] = client.run(chat("Go."), **fields, logprobs=1024).choices
    assert len(choice.logprobs) == 6
    for logprob in choice.logprobs:
        ranked = [top.logprob for top in logprob.top]
        assert ranked == sorted(ranked, reverse=True)
        assert sum(math.exp(value) for value in ranked) == pytest.approx(1.0)
        assert logprob.logprob == pytest.approx(next(t.logprob for t in logprob.top if t.token == logprob.token))


def test_a_full_context_is_shifted(client: Client) -> None:
    [choice] = client.run(core.TextPrompt("abc"), n_ctx=32, shift=True, max_tokens=60, **GREEDY).choices
    assert choice.done.usage.output_tokens == 60
    assert choice.done.timeline.dropped_tokens > 0


def test_special_tokens_in_text_are_parsed_only_where_asked(client: Client) -> None:
    parsed = client.call(core.Tokenize(core.TextPrompt("a<|im_end|>")))
    plain = client.call(core.Tokenize(core.TextPrompt("a<|im_end|>", parse_special=False)))
    assert isinstance(parsed, core.Tokens)
    assert isinstance(plain, core.Tokens)
    assert parsed.tokens[-1] == END
    assert END not in plain.tokens
    assert client.call(core.Detokenize(plain.tokens)) == core.Rendered("a<|im_end|>")


def test_cancelled_requests_leave_the_others_alone(client: Client) -> None:
    expected = client.run(chat("Hello"), **GREEDY, max_tokens=20).choices[0].text
    for at in range(12):
        doomed = client.submit(chat(TURNS[at % 6]), **GREEDY, max_tokens=400)
        number = client.submit(chat("Hello"), **GREEDY, max_tokens=20)
        client.send(core.Cancel(doomed))
        events: list[core.Event] = []
        while not events or not isinstance(events[-1], core.Done):
            message = client.receive()
            assert isinstance(message, core.Step)
            events += [event for owner, event in message.events if owner == number]
        assert text_of(events) == expected
    while client.ping().running:
        pass


@pytest.mark.parametrize("path", ["", os.environ.get("PATH", "")], ids=["hidden", "there"])
def test_no_compiler_is_needed_and_none_is_used(tmp_path: Path, path: str) -> None:
    """On the processor mlx would compile fused kernels, into the folder for temporary files."""
    script = """
import sys
from heylook_llm import core
from heylook_llm.worker.providers import mlx
from heylook_llm.worker.providers.base import Feed
provider = mlx.open_model(core.Load("m", "mlx", sys.argv[1], {"n_ctx": 64, "n_parallel": 2}), lambda fraction: None)
provider.add(0, core.Sampling(temperature=0.9, seed=1), (5, 6, 7))
[drawn] = provider.step([Feed(0, 0, (5, 6, 7), True)])
print(provider.step([Feed(0, 3, (drawn.token,), True)])[0].token)
"""
    environment = {**os.environ, "PATH": path, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script, str(random_mlx.BUNDLED)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert run.stdout.strip().isdigit(), run.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


# ---- the same weights on llama.cpp -----------------------------------------------------------------------------------


def test_greedy_as_llama_cpp(client: Client) -> None:
    """The bundled weights are the same numbers in both files.

    llama.cpp multiplies F16 weights by activations that it rounds to F16; here all is float32. So logits differ by
    some thousandths, and where the two likeliest tokens are closer than that, the answers part. Few may: and where they
    do, the other's token had all but the same chance.
    """
    pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't installed")
    gguf = random_mlx.BUNDLED.parent / "heylook-tiny.gguf"
    fields: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "logprobs": 5}
    with Client("llama_cpp", str(gguf), n_ctx=1024, type_k="f32", type_v="f32", flash_attn=False) as other:
        theirs = [other.run(chat(turn), **fields).choices[0] for turn in TURNS]
        rendered = [other.call(core.Tokenize(chat(turn))) for turn in TURNS]
    assert [client.call(core.Tokenize(chat(turn))) for turn in TURNS] == rendered
    ours = [client.run(chat(turn), **fields).choices[0] for turn in TURNS]
    agreeing = 0
    for mine, other_choice in zip(ours, theirs, strict=True):
        pairs = list(zip(mine.logprobs, other_choice.logprobs, strict=False))
        departs = next((at for at, (a, b) in enumerate(pairs) if a.token != b.token), None)
        agreeing += departs is None and len(mine.tokens) == len(other_choice.tokens)
        for a, b in pairs[: len(pairs) if departs is None else departs]:
            assert a.logprob == pytest.approx(b.logprob, abs=0.05)
        if departs is not None:
            mine_top = {top.token: top.logprob for top in pairs[departs][0].top}
            assert mine_top[pairs[departs][1].token] == pytest.approx(pairs[departs][0].logprob, abs=0.05)
    assert agreeing >= len(TURNS) - 1


# ---- what is refused -------------------------------------------------------------------------------------------------


def refusal(folder: Path, **options: Any) -> LoadFailed:
    """The error with which a worker refuses a folder."""
    with Client(load=False) as client:
        client.load("mlx", str(folder), **options)
        refused = client.ready()
    assert isinstance(refused, core.Refused)
    error = refused.error.exception()
    assert isinstance(error, LoadFailed)
    assert str(folder) not in error.message
    return error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draft_model_path": "other"}, "draft_model_path"),
        ({"vision": True}, "vision"),
        ({"cache_type": "rotating"}, "max_kv_size"),
        ({"kv_bits": 4}, "cache_type: quantized"),
        ({"cache_type": "quantized", "kv_bits": 7}, "1, 2, 3, 4, 5, 6, 8"),
        ({"cache_type": "quantized", "kv_group_size": 48}, "can't compute with these settings"),
    ],
)
def test_settings_that_cannot_be_honoured(options: dict[str, Any], words: str) -> None:
    assert words in refusal(random_mlx.BUNDLED, **options).message


@pytest.mark.parametrize("shape", ["sliding", "recurrent"])
def test_cache_types_that_the_architecture_forbids(folders: dict[str, Path], shape: str) -> None:
    with pytest.raises(LoadFailed, match="its own kinds of cache"):
        opened(folders[shape], cache_type="quantized")


def broken(tmp_path: Path, folder: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "broken"))


@pytest.mark.parametrize("key", ["auto_map", "model_file", "custom_pipelines"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_the_folder_is_refused_and_never_run(
    tmp_path: Path, folders: dict[str, Path], key: str, name: str
) -> None:
    folder = broken(tmp_path, folders["llama"])
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | {"nested": {key: {"AutoTokenizer": "evil.py"}}}))
    with pytest.raises(LoadFailed, match=key):
        opened(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "damage", ["truncated", "no weights", "no config", "missing", "unknown", "path", "other", "tokens"]
)
def test_a_damaged_folder_is_refused(tmp_path: Path, folders: dict[str, Path], damage: str) -> None:
    folder = broken(tmp_path, folders["llama"])
    weights = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "no weights":
            weights.rename(folder / "model.bin")
        case "no config":
            (folder / "config.json").unlink()
        case "missing":
            shutil.rmtree(folder)
        case "unknown":
            (folder / "config.json").write_text(json.dumps(config | {"model_type": "perceptron"}))
        case "path":
            (folder / "config.json").write_text(json.dumps(config | {"model_type": "../evil"}))
        case "other":
            (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
        case "tokens":
            (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(LoadFailed) as refused:
        opened(folder)
    assert str(tmp_path) not in refused.value.message


def test_a_worker_says_why(tmp_path: Path, folders: dict[str, Path]) -> None:
    folder = broken(tmp_path, folders["llama"])
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "beyond its end" in refusal(folder).message


def test_a_dialects_defaults_stand_between_the_models_and_the_engines(folders: dict[str, Path]) -> None:
    fallback = core.Sampling(temperature=0.7, top_p=0.9, min_p=0.0)
    provider = opened(folders["llama"], top_k=7)
    assert sampling_of(provider, fallback=fallback) == core.Sampling(temperature=0.7, top_k=7, top_p=0.9, min_p=0.0)
    assert sampling_of(provider) == core.Sampling(temperature=0.8, top_k=7, top_p=0.95, min_p=0.05)


def test_options_reach_the_engine() -> None:
    options: dict[str, Any] = {"n_ctx": 300, "n_parallel": 2, "max_kv_size": 200, "temperature": 0.0, "max_tokens": 4}
    with Client("mlx", str(random_mlx.BUNDLED), **options, chat_template="{{ messages[0].content }}") as client:
        info = client.info
        assert info is not None
        assert (info.n_ctx, info.n_parallel, info.kv_tokens) == (200, 2, 400)
        assert client.call(core.Render(chat("plain"))) == core.Rendered("plain")
        first = client.run(chat("plain"), ignore_eos=True)
        assert first.usage.output_tokens == 4
        assert client.run(chat("plain"), ignore_eos=True).choices[0].tokens == first.choices[0].tokens
