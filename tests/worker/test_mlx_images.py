"""Images on MLX: a random LLaVA beside mlx-vlm's own forward pass, in batches, from a kept prefix, through a worker."""

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heylook_llm import core
from heylook_llm.errors import EngineError, LoadFailed
from heylook_llm.worker.providers.base import Feed
from heylook_llm.worker.scheduler import Scheduler
from heylook_llm.worker.sequence import Sequence
from tests.worker import random_llava
from tests.worker.client import Client, chat
from tests.worker.pictures import shown, turn
from tests.worker.random_llava import PATCHES, noise
from tests.worker.test_mlx import finished, opened, prompt_of, scheduled, text_of

pytest.importorskip("mlx_vlm", reason="mlx-vlm isn't installed: make vlm", exc_type=ImportError)
mx: Any = importlib.import_module("mlx.core")

pytestmark = pytest.mark.integration

TOLERANCE = 2e-4
"""Of logits up to 20: two architectures in float32 add in different orders."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA over a Qwen2."""
    return random_llava.write(tmp_path_factory.mktemp("llava") / "qwen2")


@pytest.fixture(scope="module")
def provider(folder: Path) -> Any:
    """The provider in this process."""
    return opened(folder)


def told(provider: Any, *parts: list[int] | core.ImagePart) -> tuple[list[int], tuple[object, ...]]:
    """A prompt's tokens, and what its images are computed from."""
    tokens: list[int] = []
    seen: list[object] = []
    for part in parts:
        if isinstance(part, core.ImagePart):
            seen.append(provider.images.encode(part))
            tokens += provider.images.read(part)
        else:
            tokens += part
    return tokens, tuple(seen)


def answered(
    provider: Any,
    prompts: list[tuple[list[int], tuple[object, ...]]],
    scheduler: Scheduler | None = None,
    **sampling: Any,
) -> tuple[list[list[int]], list[Sequence]]:
    """The outputs of prompts that run together, and their sequences."""
    scheduler = scheduler or scheduled(provider)
    wanted = core.Sampling(**{"max_tokens": 20, "temperature": 0.0, "ignore_eos": True, **sampling})
    limit = provider.info.n_ctx
    sequences = [
        Sequence(at, 0, tokens, wanted, limit_tokens=limit, seen=seen) for at, (tokens, seen) in enumerate(prompts)
    ]
    return finished(provider, scheduler, sequences), sequences


# ---- as mlx-vlm computes it ------------------------------------------------------------------------------------------


def logits_of(provider: Any, tokens: list[int], chunk: int) -> Any:
    """The logits after each token, computed in chunks of so many."""
    memory = provider._memory
    memory.clear(0)
    parts = [np.array(memory.verify(0, tokens[at : at + chunk])) for at in range(0, len(tokens), chunk)]
    memory.clear(0)
    return np.concatenate(parts)


@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_chunks_of_any_size_give_the_librarys_logits(tmp_path: Path, text: str) -> None:
    folder = random_llava.write(tmp_path / text, random_llava.config_of(text))
    provider = opened(folder)
    image = noise(1)
    tokens, seen = told(provider, prompt_of(7), image, prompt_of(9, 3))
    assert len(seen) == 1
    assert sum(token < 0 for token in tokens) == PATCHES
    expected = random_llava.library_logits(folder, tokens, image)
    assert np.abs(expected).max() > 5
    for chunk in (len(tokens), 1, 5, 8, 16):
        np.testing.assert_allclose(logits_of(provider, tokens, chunk), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"vision_feature_select_strategy": "full", "vision_feature_layer": -1}, PATCHES + 1),
        ({"vision_feature_select_strategy": "full", "vision_config": random_llava.SIGLIP}, PATCHES),
        ({"vision_feature_select_strategy": "default", "vision_config": random_llava.SIGLIP}, PATCHES - 1),
    ],
    ids=["the whole image's row too", "without such a row", "without the first patch"],
)
def test_rows_are_as_many_as_the_configuration_says(tmp_path: Path, changes: dict[str, Any], rows: int) -> None:
    folder = random_llava.write(tmp_path / "rows", random_llava.config_of(**changes))
    provider = opened(folder)
    tokens, seen = told(provider, prompt_of(3), noise(2), prompt_of(4))
    assert sum(token < 0 for token in tokens) == rows
    assert seen
    expected = random_llava.library_logits(folder, tokens, noise(2))
    np.testing.assert_allclose(logits_of(provider, tokens, 6), expected, atol=TOLERANCE, rtol=0)


def test_a_quantized_folder_gives_the_librarys_logits(tmp_path: Path) -> None:
    folder = random_llava.write(tmp_path / "quantized", bits=8)
    provider = opened(folder)
    tokens, seen = told(provider, prompt_of(7), noise(1), prompt_of(9, 3))
    assert seen
    expected = random_llava.library_logits(folder, tokens, noise(1))
    np.testing.assert_allclose(logits_of(provider, tokens, 9), expected, atol=TOLERANCE, rtol=0)


def test_names_of_newer_transformers_mean_the_same(folder: Path, provider: Any, tmp_path: Path) -> None:
    renamed = random_llava.renamed(folder, tmp_path / "renamed")
    tokens, seen = told(provider, prompt_of(3), noise(1), prompt_of(5))
    other = opened(renamed)
    assert told(other, prompt_of(3), noise(1), prompt_of(5))[0] == tokens
    assert seen
    np.testing.assert_array_equal(logits_of(other, tokens, 32), logits_of(provider, tokens, 32))


# ---- in batches ------------------------------------------------------------------------------------------------------


def prompts_of(provider: Any) -> list[tuple[list[int], tuple[object, ...]]]:
    """Text streams, and prompts with images at several places: two of them, one twice, one at the end."""
    return [
        told(provider, prompt_of(40)),
        told(provider, prompt_of(5), noise(1), prompt_of(9, 1)),
        told(provider, prompt_of(5), noise(2), prompt_of(9, 1)),
        told(provider, noise(1), noise(2), prompt_of(3)),
        told(provider, prompt_of(2), noise(3), prompt_of(2), noise(3), prompt_of(2)),
        told(provider, prompt_of(6), noise(4)),
        told(provider, prompt_of(3, 4)),
    ]


@pytest.mark.parametrize("together", [False, True], ids=["prompts one by one", "prompts in one pass"])
def test_images_beside_text_say_what_they_say_alone(folder: Path, together: bool) -> None:
    provider = opened(folder)
    provider._prefills_together = together
    prompts = prompts_of(provider)
    alone = [answered(provider, [prompt])[0][0] for prompt in prompts]
    assert len(set(map(tuple, alone))) == len(prompts), "an image that changes nothing isn't seen"
    assert answered(provider, prompts)[0] == alone
    assert answered(provider, prompts, temperature=0.9, seed=5)[0] == [
        answered(provider, [prompt], temperature=0.9, seed=5)[0][0] for prompt in prompts
    ]


def test_a_preempted_image_is_computed_again(folder: Path) -> None:
    provider = opened(folder, kv_tokens=110)
    prompts = prompts_of(provider)[:5]
    alone = [answered(provider, [prompt])[0][0] for prompt in prompts]
    scheduler = scheduled(provider)
    encoded = provider.images.encoded
    together, sequences = answered(provider, prompts, scheduler)
    assert together == alone
    assert any(sequence.stamps.preemptions for sequence in sequences)
    assert provider.images.encoded == encoded


def test_a_second_turn_neither_encodes_nor_computes_its_image_again(folder: Path) -> None:
    provider = opened(folder)
    scheduler = scheduled(provider)
    first, seen = told(provider, prompt_of(5), noise(1), prompt_of(9, 1))
    (said,), _ = answered(provider, [(first, seen)], scheduler)
    encoded = provider.images.encoded
    parts = (prompt_of(5), noise(1), [*prompt_of(9, 1), *said], prompt_of(6, 2))
    second, seen = told(provider, *parts)
    answers, (sequence,) = answered(provider, [(second, seen)], scheduler)
    assert provider.images.encoded == encoded
    assert sequence.cached_tokens >= len(first)
    fresh = opened(folder)
    assert answers == answered(fresh, [told(fresh, *parts)])[0]
    assert fresh.images.encoded == 1


def test_rows_that_nobody_kept_are_an_error_and_not_a_guess(folder: Path) -> None:
    provider = opened(folder)
    tokens = provider.images.read(noise(1))
    assert len(tokens) == PATCHES
    with pytest.raises(EngineError, match="given up"):
        provider.step([Feed(0, 0, (1, *tokens, 2), sample=False)])


# ---- through a worker ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    """A worker with the model."""
    with Client("mlx", str(folder), n_ctx=1024) as one:
        yield one


def test_a_worker_sees_once_for_all_choices_and_turns(client: Client) -> None:
    assert client.info is not None
    assert "vision" in client.info.capabilities
    before = client.ping().images
    image = noise(5, 20, 50)
    fields: dict[str, Any] = {"temperature": 0.0, "max_tokens": 12, "ignore_eos": True}
    first = client.run(shown("Look: ", image, "What is it?"), n=3, **fields)
    assert len({choice.text for choice in first.choices}) == 1
    said = first.choices[0].text
    turns = (turn("user", "Look: ", image, "What is it?"), turn("assistant", said), turn("user", "And now?"))
    second = client.run(core.ChatPrompt(turns), **fields)
    assert second.usage.cached_tokens > PATCHES
    assert client.ping().images == before + 1
    other = client.run(shown("Look: ", noise(6, 20, 50), "What is it?"), **fields)
    assert other.choices[0].text != said


def test_streams_beside_images_say_what_they_say_alone(client: Client) -> None:
    fields: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60, "ignore_eos": True}
    alone = client.run(chat("Count from 1 to 5."), **fields).choices[0].text
    texts = [client.submit(chat("Count from 1 to 5."), **fields) for _ in range(3)]
    seeing = [client.submit(shown(noise(100 + at, 40, 40), "What is it?"), **fields) for at in range(4)]
    events = client.events([*texts, *seeing])
    assert [text_of(events[number]) for number in texts] == [alone] * 3
    assert len({text_of(events[number]) for number in seeing}) == 4


# ---- what is refused -------------------------------------------------------------------------------------------------


def broken(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy whose configuration says something else; None leaves a key out."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        parent, _, name = key.rpartition("__")
        place = config[parent] if parent else config
        place[name] = value
        if value is None:
            del place[name]
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vision_config__patch_size": 0}, "patch_size"),
        ({"vision_config__image_size": 1 << 30}, "image_size"),
        ({"vision_config__hidden_size": 40}, "Expected shape"),
        ({"vision_config__num_hidden_layers": 5}, "Missing"),
        ({"vision_config__num_attention_heads": 7}, "divisible"),
        ({"vision_feature_layer": -9}, "vision_feature_layer"),
        ({"vision_config__hidden_size": 1 << 40}, "hidden_size"),
        ({"vision_config__intermediate_size": 1 << 40}, "OverflowError"),
        ({"text_config__hidden_size": 32}, "shape"),
    ],
)
def test_a_damaged_folder_is_refused_with_the_reason(
    folder: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LoadFailed, match=reason):
        opened(broken(folder, tmp_path / "broken", **changes))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("preprocessor_config.json", None, "image_mean"),
        ("preprocessor_config.json", '{"image_mean": [1, 2], "image_std": [1, 1, 1]}', "image_mean"),
        ("preprocessor_config.json", '{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}', "image_std"),
        ("preprocessor_config.json", '{"auto_map": {"AutoImageProcessor": "code.Processor"}}', "auto_map"),
        ("preprocessor_config.json", "[", "not JSON"),
        ("model.safetensors", b"\xff" * 64, "model.safetensors"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    folder: Path, tmp_path: Path, name: str, content: str | bytes | None, reason: str
) -> None:
    target = broken(folder, tmp_path / "broken")
    (target / name).unlink()
    if content is not None:
        (target / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LoadFailed, match=reason):
        opened(target)


def test_text_alone_where_it_is_not_to_see(folder: Path, provider: Any) -> None:
    blind = opened(folder, vision=False)
    assert blind.images is None
    prompts = [told(provider, prompt_of(40)), told(provider, prompt_of(9, 2))]
    assert answered(blind, prompts)[0] == answered(provider, prompts)[0]
    assert blind.info.n_parameters < provider.info.n_parameters
