"""models.yaml: what is written is what is meant, and whatever is wrong is one line that names the place."""

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import config
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit
PATH = Path("/etc/heylook/models.yaml")


def parse(text: str) -> config.Settings:
    return config.parse(text, PATH)


def model(**keys: str) -> str:
    entry = {"id": "m", "provider": "fake", **keys}
    return "models: [{" + ", ".join(f"{key}: {value}" for key, value in entry.items()) + "}]"


def test_the_bundled_file_is_right() -> None:
    settings = config.load(config.BUNDLED)
    assert settings.default_model == "heylook-tiny"
    assert settings.enabled[0].path.is_absolute()
    names = {f"heylook-tiny{eyes}{engine}" for eyes in ("", "-vision") for engine in ("", "-mlx")}
    assert {spec.id for spec in settings.models} == names
    assert {spec.id for spec in (*settings.enabled, *settings.left_out)} == {spec.id for spec in settings.models}


def test_auto_is_enabled_where_the_engine_is_installed() -> None:
    settings = parse(model(enabled="auto"))
    assert [spec.id for spec in settings.enabled] == ["m"]
    assert settings.left_out == ()


def test_defaults() -> None:
    settings = parse(model())
    assert settings.max_loaded_models == 2
    assert settings.models[0].idle_ttl == config.FOREVER
    assert isinstance(settings.models[0].config, config.FakeConfig)
    assert not settings.models[0].pinned


def test_everything_said_is_read() -> None:
    settings = parse("""
default_model: GPT-4o
max_loaded_models: 3
prewarm: false
limits: {max_queue: 7, stall_seconds: 2}
models:
  - id: one
    aliases: [gpt-4o]
    provider: llama_cpp
    tags: [x]
    pinned: true
    idle_ttl: 1h30m
    config: {model_path: sub/one.gguf, n_ctx: 4096, n_gpu_layers: auto, flash_attn: true, type_k: q8_0, stop: [a]}
  - {id: two, provider: mlx, enabled: false, config: {model_path: /abs/two}}
""")
    one, two = settings.models
    assert settings.limits.max_queue == 7
    assert settings.enabled == (one,)
    assert one.idle_ttl == 5400
    assert one.path == PATH.parent / "sub/one.gguf"
    assert two.path == Path("/abs/two")
    assert isinstance(one.config, config.LlamaCppConfig)
    assert (one.config.n_gpu_layers, one.config.flash_attn, one.config.stop) == ("auto", True, ("a",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("- a\n", ["mapping", "models"]),
        ("just text", ["mapping"]),
        ("models: {}", ["`models` must be a list"]),
        ("models: [a]", ["models[0]", "mapping"]),
        ("models: [\n  {id: a\n", ["line 3"]),
        ("models:\n\t- id: a", ["line 2"]),
        ("a: &a [*a]\nmodels: *b", ["line 2", "undefined alias"]),
        ("models: !!python/object/apply:os.system [echo]", ["line 1"]),
        ("max_loaded_models: 2\nmax_loaded_models: 3\nmodels: []", ["line 2", "`max_loaded_models`", "twice"]),
        ("max_loaded_model: 3\nmodels: []", ["unknown key `max_loaded_model`", "did you mean `max_loaded_models`"]),
        ("max_loaded_models: 0\nmodels: []", ["`max_loaded_models`", "greater than or equal to 1"]),
        ("max_loaded_models: many\nmodels: []", ["`max_loaded_models`", "integer"]),
        ("limits: {max_queu: 3}\nmodels: []", ["unknown key `max_queu` in limits", "`max_queue`"]),
        ("limits: {stall_seconds: 0}\nmodels: []", ["`limits.stall_seconds`"]),
        ("models: [{provider: fake}]", ["id", "missing"]),
        ("models: [{id: off, provider: fake}]", ["models[0].id", "put it in quotes"]),
        ("models: [{id: m}]", ["model m", "provider", "llama_cpp, mlx, fake"]),
        (model(provider="llamacpp"), ["model m", "'llamacpp'", "did you mean `llama_cpp`"]),
        (model(idle_tl="5m"), ["unknown key `idle_tl` in models[0]", "`idle_ttl`"]),
        (model(idle_ttl="soon"), ['models[0].idle_ttl`: time: invalid duration "soon"']),
        (model(idle_ttl="true"), ["models[0].idle_ttl", "bool"]),
        (model(config="5"), ["model m", "`config` must be a mapping"]),
        (model(config="{n_cxt: 5}"), ["model m", "config", "unknown key `n_cxt`", "did you mean `n_ctx`"]),
        (model(config="{n_ctx: -1}"), ["model m", "`n_ctx`"]),
        (model(config="{temperature: 9}"), ["model m", "`temperature`"]),
        (model(provider="llama_cpp", config="{}"), ["model m", "`model_path` is missing"]),
        (model(provider="llama_cpp", config="{model_path: a, type_k: q9}"), ["model m", "`type_k`"]),
        (model(id="'a b'"), ["'a b'", "not a model name"]),
        (model(id="''"), ["not a model name"]),
        (model(aliases="[m]"), ["'m'", "twice"]),
        (model(aliases="['M:latest']"), ["'M:latest'", "twice", "m"]),
        ("models: [{id: a, provider: fake}, {id: A, provider: fake}]", ["'A'", "twice", "a and A"]),
        ("default_model: x\n" + model(), ["default_model 'x'", "not an enabled model"]),
        ("default_model: m\n" + model(enabled="false"), ["default_model 'm'", "not an enabled model"]),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = caught.value.message
    assert message.startswith(str(PATH))
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_file_and_one_of_other_bytes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        config.load(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        config.load(tmp_path)


@given(st.text(max_size=60))
def test_any_text_is_settings_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (0.5, 0.5),
        (-1, math.inf),
        ("300", 300.0),
        ("-1", math.inf),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
        ("1d", 86400.0),
        ("1m0.5s", 60.5),
        (".5s", 0.5),
        ("+2s", 2.0),
        (" 2s ", 2.0),
        ("-1m", math.inf),
        ("never", math.inf),
        ("Never", math.inf),
        ("0", 0.0),
        ("0s", 0.0),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert config.parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "m", "5 m", "5x", "1h30", "five", "--5m", "1e3s", "nan", True, None, [], {}, 10**400]
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"invalid duration|Unsupported type"):
        config.parse_duration(value)


def test_where_models_yaml_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert config.locate(None, {}) != Path("models.yaml")
    (tmp_path / "models.yaml").touch()
    assert config.locate(None, {}) == Path("models.yaml")
    assert config.locate(None, {"HEYLOOK_CONFIG": "/x.yaml"}) == Path("/x.yaml")
    assert config.locate("/y.yaml", {"HEYLOOK_CONFIG": "/x.yaml"}) == Path("/y.yaml")


@pytest.mark.parametrize("name", ["Tiny", "tiny:latest", " TINY:Latest "])
def test_spellings_of_one_name(name: str) -> None:
    assert config.canonical(name) == "tiny"


def test_adapters_lie_beside_the_file_too(tmp_path: Path) -> None:
    lora = "[x.gguf, {path: y/z.gguf, scale: 0.5}]"
    text = f"models: [{{id: a, provider: llama_cpp, config: {{model_path: m.gguf, lora: {lora}}}}}]"
    (spec,) = config.parse(text, tmp_path / "models.yaml").models
    assert isinstance(spec.config, config.LlamaCppConfig)
    assert spec.config.lora == (
        config.Lora(path=str(tmp_path / "x.gguf"), scale=1.0),
        config.Lora(path=str(tmp_path / "y" / "z.gguf"), scale=0.5),
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("lora: [{scale: 1}]", "lora[0].path"),
        ("lora: [{path: x, weight: 1}]", "unknown key `weight`"),
        ("lora: x.gguf", "`lora`"),
        ("override_kv: {a: [1]}", "`override_kv.a"),
        ("yarn_ext_factor: 2", "`yarn_ext_factor`"),
        ("n_cpu_moe: -2", "`n_cpu_moe`"),
        ("numa: anywhere", "`numa"),
        ("type_k: q3", "`type_k`"),
    ],
)
def test_each_load_option_is_bounded(given: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(
            f"models: [{{id: a, provider: llama_cpp, config: {{model_path: m.gguf, {given}}}}}]",
            tmp_path / "models.yaml",
        )
    assert text in str(refused.value)
