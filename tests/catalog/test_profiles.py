"""The settings of an imported model: derived, then the profile's, then the overrides."""

from typing import Any

import pytest

from heylook_llm.catalog.facts import Facts
from heylook_llm.catalog.profiles import PROFILES, configuration, parse_overrides
from heylook_llm.config import PROVIDERS
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit


def facts(
    provider: str = "mlx", kind: str = "chat", parameters: int = 8_000_000_000, size: int = 5_000_000_000
) -> Facts:
    return Facts(provider, kind, "llama", None, parameters, None, 8192, 64, size)  # type: ignore[arg-type]  # literals


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("provider", ["mlx", "llama_cpp"])
@pytest.mark.parametrize("size", [1, 40_000_000_000])
def test_a_profile_stands_above_what_was_derived(profile: str, provider: str, size: int) -> None:
    """The original's profiles filled only what the derived settings had left empty, which was nothing."""
    model = facts(provider, size=size)
    plain, chosen = configuration(model, None, {}), configuration(model, profile, {})
    assert chosen.items() >= PROFILES[profile].items()
    assert chosen != plain
    assert PROVIDERS[provider].model_validate({**chosen, "model_path": "x"})


def test_an_override_stands_above_both() -> None:
    assert configuration(facts(), "fast", {"temperature": 1.5})["temperature"] == 1.5


def test_large_weights_not_large_names_quantize_the_cache() -> None:
    """The original compared 13 with billions of parameters or with gigabytes, whichever it had found."""
    assert configuration(facts(parameters=30_000_000_000, size=12_000_000_000), "fast", {})["cache_type"] == "standard"
    assert configuration(facts(parameters=7_000_000_000, size=14_000_000_000), "fast", {})["cache_type"] == "quantized"
    assert configuration(facts("llama_cpp", size=14_000_000_000), "fast", {})["type_k"] == "q8_0"


def test_a_model_without_text_gets_no_sampling() -> None:
    assert configuration(facts(kind="embedding"), "quality", {}) == {}


def test_the_memory_profile_never_asks_for_more_than_the_model_has() -> None:
    small = Facts("llama_cpp", "chat", "llama", None, 1, None, 512, 64, 1)
    assert configuration(small, "memory", {})["n_ctx"] == 512


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-1", -1),
        ("4096.0", 4096),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("null", None),
        ("[1, 2.5,x]", [1, 2.5, "x"]),
        ("auto", "auto"),
        ("a=b", "a=b"),
        ("", ""),
        ("0x10", "0x10"),
    ],
)
def test_overrides_are_typed(text: str, value: Any) -> None:
    (found,) = parse_overrides([f"key={text}"]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "key", "=1", "Key=1", "a-b=1"])
def test_a_pair_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_overrides([text])
