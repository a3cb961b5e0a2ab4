"""MLX: guesses and adapters change what is computed, or don't, exactly as they should."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heylook_llm import core
from heylook_llm.errors import LoadFailed
from heylook_llm.worker.providers.base import Feed
from tests.worker.speculating import answered

pytest.importorskip("mlx.core", reason="mlx isn't installed: pip install 'heylookllm[mlx]'", exc_type=ImportError)
provider_of = pytest.importorskip("heylook_llm.worker.providers.mlx", exc_type=ImportError)
random_mlx = importlib.import_module("tests.worker.random_mlx")
mx: Any = importlib.import_module("mlx.core")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of random weights."""
    path: Path = random_mlx.write(tmp_path_factory.mktemp("models") / "llama", "llama")
    return path


def opened(folder: Path, **options: Any) -> Any:
    """The provider in this process."""
    load = core.Load("random", "mlx", str(folder), {"n_ctx": 512, "n_parallel": 3, **options})
    return provider_of.open_model(load, lambda fraction: None)


@pytest.fixture
def provider(folder: Path) -> Iterator[Any]:
    """Without options."""
    one = opened(folder)
    yield one
    one.close()


def truth(provider: Any, slot: int, prompt: tuple[int, ...], count: int) -> list[int]:
    """What a slot draws, one token a step."""
    tokens = list(prompt)
    for at in range(count):
        fed = prompt if not at else (tokens[-1],)
        [drawn] = provider.step([Feed(slot, len(tokens) - len(fed), fed, True)])
        tokens.append(drawn.token)
    return tokens[len(prompt) :]


@pytest.mark.parametrize("sampling", [core.Sampling(temperature=0.0), core.Sampling(temperature=1.0, seed=3, top_k=20)])
@pytest.mark.parametrize("options", [{}, {"cache_type": "quantized", "kv_group_size": 32, "quantized_kv_start": 10}])
def test_guesses_are_taken_as_far_as_they_are_right_beside_plain_slots(
    tmp_path: Path, sampling: core.Sampling, options: dict[str, Any]
) -> None:
    provider = opened(random_mlx.write(tmp_path / "wide", "wide"), **options)
    prompt = tuple(range(10, 30))
    provider.add(0, sampling, prompt)
    true = truth(provider, 0, prompt, 6)
    provider.release(0)
    provider.remove(0)
    for slot in range(3):
        provider.add(slot, sampling, prompt)
        provider.step([Feed(slot, 0, prompt, True)])
    start = len(prompt)
    wrong = (true[0], true[1], true[2] + 1, true[3])
    drawn = provider.step(
        [Feed(0, start, (true[0],), True), Feed(1, start, tuple(true[:4]), True, 3), Feed(2, start, wrong, True, 3)]
    )
    found = {slot: [one.token for one in drawn if one.slot == slot] for slot in range(3)}
    assert found == {0: true[1:2], 1: true[1:5], 2: true[1:3]}
    assert provider.remove(2, start + 2)
    drawn = provider.step(
        [
            Feed(0, start + 1, (true[1],), True),
            Feed(1, start + 4, (true[4],), True),
            Feed(2, start + 2, (true[2],), True),
        ]
    )
    assert [one.token for one in drawn] == [true[2], true[5], true[3]]
    provider.close()


LOOP = tuple(b"the cat sat on the mat and " * 6)


@pytest.mark.parametrize(
    "sampling",
    [
        core.Sampling(temperature=0.0),
        core.Sampling(temperature=0.5, seed=9),
        core.Sampling(temperature=0.0, logprobs=1, repeat_penalty=1.05),
    ],
)
def test_the_same_text_with_and_without_guesses(provider: Any, sampling: core.Sampling) -> None:
    wanted = msgspec.structs.replace(sampling, ignore_eos=True, max_tokens=80)
    [expected] = answered(provider, [LOOP], wanted, guess=False)
    foreseen = [*expected.tokens[:30], 7, 7, *expected.tokens[32:]]
    [found] = answered(provider, [LOOP], wanted, guess=True, prediction=foreseen)
    assert found.tokens == expected.tokens
    assert 40 < found.usage.accepted_tokens < found.usage.draft_tokens
    assert expected.usage.draft_tokens == 0


@pytest.mark.parametrize("knows", [True, False])
def test_a_small_model_guesses_and_changes_nothing(folder: Path, tmp_path: Path, knows: bool) -> None:
    small = folder if knows else random_mlx.write(tmp_path / "other", "llama", seed=8)
    provider = opened(folder, draft_model_path=str(small))
    wanted = core.Sampling(temperature=0.0, ignore_eos=True, max_tokens=40)
    [expected] = answered(provider, [LOOP], wanted, guess=False)
    [found] = answered(provider, [LOOP], wanted, guess=True, lookup=False)
    assert found.tokens == expected.tokens
    assert found.usage.accepted_tokens > 15 or not knows
    provider.close()


def test_neighbours_say_the_same_and_nothing_is_guessed_beside_them(provider: Any) -> None:
    prompts = [tuple(f"{n} {'again and ' * 8}".encode()) for n in range(3)]
    wanted = core.Sampling(temperature=0.0, ignore_eos=True, max_tokens=40)
    alone = [answered(provider, [prompt], wanted, guess=False)[0].tokens for prompt in prompts]
    together = answered(provider, prompts, wanted, guess=True)
    assert [one.tokens for one in together] == alone


def test_what_cannot_go_back_is_refused(folder: Path, tmp_path: Path) -> None:
    recurrent = random_mlx.write(tmp_path / "recurrent", "recurrent")
    one = opened(recurrent)
    assert one.max_drafts == 0
    one.close()
    with pytest.raises(LoadFailed, match="can't take guesses back"):
        opened(recurrent, draft_model_path=str(folder))
    with pytest.raises(LoadFailed, match="can't take guesses back"):
        opened(folder, draft_model_path=str(recurrent))


def test_another_vocabulary_is_refused(folder: Path, tmp_path: Path) -> None:
    other = random_mlx.write(tmp_path / "other", "llama")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    names = list(tokenizer["model"]["vocab"])
    first, second = names[300], names[301]
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(LoadFailed, match="its `draft_model_path`: it has another vocabulary: its token"):
        opened(folder, draft_model_path=str(other))


# ---- adapters --------------------------------------------------------------------------------------------------------


def adapter(path: Path, *, up: float = 2.0, settings: dict[str, Any] | None = None, **more: Any) -> Path:
    """A LoRA adapter of the last layer's query; `up` scales the random B, 0 makes it change nothing."""
    path.mkdir()
    parameters = {"rank": 4, "scale": 10.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    written = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": parameters, **(settings or {})}
    (path / "adapter_config.json").write_text(json.dumps(written))
    name = more.get("name", "model.layers.1.self_attn.q_proj")
    weights = {
        f"{name}.lora_a": mx.random.normal((more.get("width", 64), 4), key=mx.random.key(1)),
        f"{name}.lora_b": mx.random.normal((4, 64), key=mx.random.key(2)) * up,
    }
    mx.save_safetensors(str(path / "adapters.safetensors"), weights)
    return path


def drawn_by(folder: Path, **options: Any) -> list[int]:
    """Some tokens of a greedy answer."""
    one = opened(folder, **options)
    prompt = tuple(range(10, 40))
    one.add(0, core.Sampling(temperature=0.0), prompt)
    tokens = truth(one, 0, prompt, 12)
    one.close()
    return tokens


def test_an_adapter_acts_by_its_weights(folder: Path, tmp_path: Path) -> None:
    plain = drawn_by(folder)
    assert drawn_by(folder, adapter_path=str(adapter(tmp_path / "zero", up=0.0))) == plain
    assert drawn_by(folder, adapter_path=str(adapter(tmp_path / "strong"))) != plain


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"width": 32}, "doesn't fit: .*shape"),
        ({"name": "model.layers.7.self_attn.q_proj"}, "doesn't fit: .*not an adapter parameter"),
        ({"settings": {"fine_tune_type": "magic"}}, "fine_tune_type must be one of"),
        ({"settings": {"lora_parameters": {"rank": 4}}}, "doesn't fit"),
        ({"settings": {"num_layers": "all"}}, "doesn't fit"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    path = adapter(tmp_path / "wrong", **fields)
    with pytest.raises(LoadFailed, match=reason) as refused:
        opened(folder, adapter_path=str(path))
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("adapter_config.json", None, "holds no adapter_config.json"),
        ("adapters.safetensors", None, "holds no adapters.safetensors"),
        ("adapter_config.json", b"[1]", "is not a JSON object"),
        ("adapter_config.json", b"{", "is not a JSON object"),
        ("adapters.safetensors", b"\xff" * 64, "its adapter's"),
    ],
)
def test_a_damaged_adapter_is_refused(
    folder: Path, tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = adapter(tmp_path / "damaged")
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    with pytest.raises(LoadFailed, match=reason):
        opened(folder, adapter_path=str(path))
