"""The command line where no server is needed: options, mistakes, environment, texts."""

import json
import os
import plistlib
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from heylook_llm import __version__, cli, config
from heylook_llm.commands import chat, environment, models, service, state
from heylook_llm.errors import ConfigError
from tests.commands_at_work import MODELS, Home

COMMANDS = [
    *("serve", "import", "pull", "run", "list", "ps", "stop", "show", "rm", "create", "cp"),
    *("logs", "service", "doctor", "bench"),
]
DEFAULTS: dict[str, Any] = {
    "api": "both",
    "host": None,
    "port": None,
    "ollama_port": None,
    "uds": None,
    "log_level": "INFO",
    "model_id": None,
    "config": None,
    "api_key": None,
    "allow_host": (),
    "allow_origin": (),
    "allow_app_origins": False,
    "open_admin": False,
    "media_urls": "public",
    "allow_media_host": (),
    "import_root": (),
    "drain_seconds": None,
    "performance_file": None,
}


def given(**options: Any) -> cli.ServeOptions:
    """The options of a `serve` command."""
    return cli.ServeOptions(**(DEFAULTS | options))


def settings(text: str = MODELS) -> config.Settings:
    """The settings of a models.yaml."""
    return config.parse(text, Path("/nowhere/models.yaml"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of its own."""
    return Home(tmp_path)


# ---- help and mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_version_and_help_name_every_command_and_serve_option(home: Home) -> None:
    assert home.run("--version").stdout == f"heylookllm {__version__}\n"
    shown = home.run("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    for option in ("--api", "--host", "--port", "--log-level", "--model-id", "--ollama-port", "--config"):
        assert option in shown
    for name in ("agent", "hub"):
        assert f"\n  {name} " not in shown


@pytest.mark.integration
def test_who_would_create_a_model_hears_what_it_takes(home: Home) -> None:
    result = home.run("create", "mine")
    assert result.returncode == 1
    assert result.stderr == "Error: Modelfile: no such file; name one with -f\n"


@pytest.mark.integration
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(home: Home, name: str) -> None:
    result = home.run(name, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: ")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("models: [", "line 1"),
        ("models:\n  - {id: a, provider: fake}\n  - {id: A, provider: fake}\n", "given twice"),
        ("models:\n  - {id: a, provider: fake, enabeld: true}\n", "did you mean `enabled`"),
        ("modles: []\n", "did you mean `models`"),
        ("models:\n  - {id: a, provider: llama}\n", "provider 'llama'"),
        ("default_model: b\nmodels:\n  - {id: a, provider: fake}\n", "default_model"),
        ("", "empty"),
    ],
)
def test_a_wrong_models_yaml_is_one_line_and_status_2(home: Home, text: str, wanted: str) -> None:
    home.models.write_text(text)
    result = home.run("--port", "0")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "models.yaml" in result.stderr
    assert wanted in result.stderr


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--config", "missing.yaml"], "missing.yaml: no such file"),
        (["--model-id", "nobody"], "--model-id nobody: no such model is enabled; there are: fake, slow"),
        (["--port", "99999"], "--port"),
        (["--api", "soap"], "--api"),
        (["lits"], "lits"),
    ],
)
def test_a_wrong_command_line_says_what_and_ends_with_status_2(home: Home, arguments: list[str], wanted: str) -> None:
    result = home.run(*arguments)
    assert result.returncode == 2
    assert wanted in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.integration
def test_a_busy_port_is_one_line_and_status_1(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = home.run("--port", str(port))
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: port {port} on 127.0.0.1 is in use; stop what listens there, or choose another with --port\n"
    )


@pytest.mark.integration
@pytest.mark.parametrize("arguments", [["list"], ["ps"], ["run", "fake", "hello"], ["stop", "fake"], ["show", "fake"]])
def test_without_a_server_a_client_command_says_how_to_start_one(home: Home, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    result = home.run(*arguments, OLLAMA_HOST=f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"no server answers at http://127.0.0.1:{port}; start one with `heylookllm`" in result.stderr


# ---- options and environment -----------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "environment", "wanted"),
    [
        ({}, {}, [("127.0.0.1", 8080)]),
        ({"api": "ollama"}, {}, [("127.0.0.1", 11434)]),
        ({"api": "ollama", "port": 9000}, {}, [("127.0.0.1", 9000)]),
        ({"ollama_port": 11434}, {}, [("127.0.0.1", 8080), ("127.0.0.1", 11434)]),
        ({"ollama_port": 9000, "port": 9000}, {}, [("127.0.0.1", 9000)]),
        ({"host": "0.0.0.0"}, {}, [("0.0.0.0", 8080)]),
        ({}, {"OLLAMA_HOST": "0.0.0.0:9"}, [("127.0.0.1", 8080)]),
        ({"api": "ollama"}, {"OLLAMA_HOST": "0.0.0.0:9"}, [("0.0.0.0", 9)]),
        ({"api": "ollama"}, {"OLLAMA_HOST": "http://[::1]"}, [("::1", 11434)]),
        ({"api": "ollama", "port": 7}, {"OLLAMA_HOST": "0.0.0.0:9"}, [("127.0.0.1", 7)]),
    ],
)
def test_addresses(options: dict[str, Any], environment: dict[str, str], wanted: list[tuple[str, int]]) -> None:
    assert cli.addresses(given(**options), environment) == wanted


@pytest.mark.unit
def test_ollamas_variables_change_the_settings() -> None:
    text = MODELS + "  - {id: own, provider: fake, idle_ttl: 7}\n"
    changed = environment.applied(
        settings(text),
        {"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_MAX_LOADED_MODELS": "3", "OLLAMA_MAX_QUEUE": "9"},
    )
    assert changed.max_loaded_models == 3
    assert changed.limits.max_queue == 9
    assert [spec.idle_ttl for spec in changed.models] == [300.0, 300.0, 7.0]


@pytest.mark.unit
@pytest.mark.parametrize("variables", [{}, {"OLLAMA_MAX_LOADED_MODELS": "0"}, {"OLLAMA_KEEP_ALIVE": " "}])
def test_unset_variables_change_nothing(variables: dict[str, str]) -> None:
    assert environment.applied(settings(), variables) == settings()


@pytest.mark.unit
@pytest.mark.parametrize(
    "variables",
    [
        {"OLLAMA_MAX_QUEUE": "many"},
        {"OLLAMA_KEEP_ALIVE": "soon"},
        {"OLLAMA_MAX_LOADED_MODELS": "-1"},
        {"OLLAMA_NUM_PARALLEL": "1e3"},
        {"OLLAMA_CONTEXT_LENGTH": "9" * 10},
        {"OLLAMA_KV_CACHE_TYPE": "q3_0"},
        {"OLLAMA_LOAD_TIMEOUT": "x"},
    ],
)
def test_a_wrong_variable_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(variables))):
        environment.applied(settings(), variables)


@pytest.mark.unit
def test_variables_speak_for_models_that_say_nothing() -> None:
    text = """
models:
  - {id: silent, provider: llama_cpp, config: {model_path: x.gguf}}
  - {id: said, provider: llama_cpp,
     config: {model_path: x.gguf, n_ctx: 7, n_parallel: 2, flash_attn: auto, type_k: f32, type_v: f32}}
  - {id: mlx, provider: mlx, config: {model_path: x}}
"""
    variables = {
        "OLLAMA_NUM_PARALLEL": ' "3" ',
        "OLLAMA_CONTEXT_LENGTH": "2048",
        "OLLAMA_FLASH_ATTENTION": "0",
        "OLLAMA_KV_CACHE_TYPE": "Q8_0",
        "OLLAMA_LOAD_TIMEOUT": "10m",
    }
    changed = environment.applied(settings(text), variables)
    silent, said, mlx = (spec.config for spec in changed.models)
    assert isinstance(silent, config.LlamaCppConfig)
    assert (silent.n_parallel, silent.n_ctx, silent.flash_attn) == (3, 2048, False)
    assert (silent.type_k, silent.type_v) == ("q8_0", "q8_0")
    assert said == settings(text).models[1].config
    assert (mlx.n_parallel, mlx.n_ctx) == (3, 2048)
    assert changed.limits.load_timeout_seconds == 600
    for endless in ("0", "-1"):
        seconds = environment.applied(settings(), {"OLLAMA_LOAD_TIMEOUT": endless}).limits.load_timeout_seconds
        assert seconds > 86_400 * 365


@pytest.mark.unit
def test_variables_without_effect_are_named() -> None:
    variables = {"OLLAMA_HOST": "x", "OLLAMA_SCHED_SPREAD": "1", "OLLAMA_GPU_OVERHEAD": "0", "PATH": "/"}
    assert environment.unheeded(variables) == ["OLLAMA_GPU_OVERHEAD", "OLLAMA_SCHED_SPREAD"]
    assert [environment.is_on({"OLLAMA_DEBUG": text}, "DEBUG") for text in ("1", "true", "2", "0", "False", " ")] == [
        *(True, True, True, False, False),
        None,
    ]


@pytest.mark.unit
def test_model_id_and_drain_seconds_stand_above_the_file() -> None:
    changed = cli.with_options(settings(), given(model_id="SLOW:latest", drain_seconds=1.5))
    assert changed.default_model == "slow"
    assert changed.limits.drain_seconds == 1.5
    assert cli.with_options(settings(), given(model_id="gpt-4o")).default_model == "fake"


@pytest.mark.unit
def test_the_performance_file_stands_above_the_files_own() -> None:
    named = settings(MODELS + "performance: {file: here.sqlite3, keep: 1h, keep_bytes: 2000000}\n")
    assert (named.performance.file, named.performance.keep, named.performance.keep_bytes) == (
        "here.sqlite3",
        3600,
        2000000,
    )
    changed = cli.with_options(named, given(performance_file="memory"))
    assert (changed.performance.file, changed.performance.keep) == ("memory", 3600)
    here = cli.with_options(named, given(performance_file="mine.sqlite3")).performance.file
    assert here == str(Path.cwd() / "mine.sqlite3")
    with pytest.raises(ConfigError, match="unknown key `kep` in performance; did you mean `keep`"):
        settings(MODELS + "performance: {kep: 1h}\n")


@pytest.mark.unit
def test_origins_come_from_flags_and_from_ollamas_variable() -> None:
    options = given(allow_origin=("https://a.example",), allow_host=("box",), allow_app_origins=True, open_admin=True)
    guard = cli.guard_options(options, "secret", {"OLLAMA_ORIGINS": "https://b.example, ,http://c"})
    assert guard.allow_origins == ("https://a.example", "https://b.example", "http://c")
    assert (guard.allow_hosts, guard.allow_app_origins, guard.open_admin) == (("box",), True, True)
    assert guard.api_key == "secret"
    assert "secret" not in repr(guard)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("box.local", "http://box.local:11434"),
        (":9000", "http://127.0.0.1:9000"),
        ("https://models.example", "https://models.example:443"),
        ("http://box/", "http://box:80"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_ollama_host_as_clients_read_it(host: str, url: str) -> None:
    assert state.server_url(None, {"OLLAMA_HOST": host}) == url
    assert state.server_url("http://other", {"OLLAMA_HOST": host}) == "http://other"


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (4_900_000, "4.9 MB"), (211_000_000, "211 MB"), (4_661_224_676, "4.7 GB")],
)
def test_sizes_as_ollama_writes_them(size: int, text: str) -> None:
    assert models.size_text(size) == text


@pytest.mark.unit
@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "less than a second"),
        (1, "1 second"),
        (119, "1 minute"),
        (7200, "2 hours"),
        (86400, "1 day"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert models.duration_text(seconds) == text


@pytest.mark.unit
def test_until() -> None:
    now = 1_700_000_000.0
    assert models.until_text("2023-11-14T22:18:20.123456789Z", now) == "5 minutes from now"
    assert models.until_text("2318-01-01T00:00:00Z", now) == "Forever"
    assert models.until_text("2023-11-14T00:00:00+00:00", now) == "Stopping..."
    assert models.age_text("2023-11-14T21:13:20Z", now) == "1 hour ago"


@pytest.mark.unit
def test_where_a_model_lies() -> None:
    assert [models.processor_text(100, gpu) for gpu in (0, 60, 100)] == ["100% CPU", "40%/60% CPU/GPU", "100% GPU"]


@pytest.mark.unit
def test_what_a_model_says_cannot_steer_the_terminal() -> None:
    assert chat.printable("a\x1b[2Jb\x07\u202ec\n\té→") == "a[2Jbc\n\té→"


@pytest.mark.unit
def test_the_conversation_leaves_out_what_was_not_set() -> None:
    conversation = chat.Conversation("m", system="Be brief.", messages=[{"role": "user", "content": "hi"}])
    assert conversation.body() == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    }
    conversation.think, conversation.options = False, {"seed": 1}
    assert (conversation.body()["think"], conversation.body()["options"]) == (False, {"seed": 1})


# ---- service and doctor ----------------------------------------------------------------------------------------------


@pytest.fixture
def pretended_systemctl(home: Home) -> Path:
    """A systemctl that notes its arguments; returns the note."""
    note, tool = home.folder / "called", home.folder / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {note}\n')
    tool.chmod(0o755)
    return note


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("sh"), reason="needs a shell")
def test_a_systemd_service_from_install_to_uninstall(home: Home, pretended_systemctl: Path) -> None:
    path = f"{home.folder / 'bin'}:{os.environ['PATH']}"
    result = home.run("service", "install", "--port", "9000", "--model-id", "a b%c", PATH=path)
    assert result.returncode == 0, result.stderr
    unit = home.folder / ".config" / "systemd" / "user" / "heylookllm.service"
    text = unit.read_text()
    assert '"serve" "--port" "9000" "--model-id" "a b%%c"' in text
    assert "RestartPreventExitStatus=2" in text
    variables = home.folder / ".config" / "heylookllm" / "service.env"
    assert stat.S_IMODE(variables.stat().st_mode) == 0o600
    if analyze := shutil.which("systemd-analyze"):
        verified = subprocess.run([analyze, "verify", "--user", str(unit)], capture_output=True, text=True, check=False)
        complaints = [line for line in verified.stderr.splitlines() if "heylookllm.service" in line]
        assert not complaints
    assert home.run("service", "start", PATH=path).returncode == 0
    assert home.run("service", "uninstall", PATH=path).returncode == 0
    assert not unit.exists()
    calls = pretended_systemctl.read_text().splitlines()
    assert calls[:3] == ["--user daemon-reload", "--user enable heylookllm.service", "--user start heylookllm.service"]


@pytest.mark.integration
def test_a_systemd_that_cannot_be_reached_is_said_with_what_to_do(home: Home, pretended_systemctl: Path) -> None:
    tool = home.folder / "bin" / "systemctl"
    tool.write_text("#!/bin/sh\nexit 1\n")
    result = home.run("service", "install", PATH=f"{tool.parent}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "daemon-reload` failed with exit status 1. It needs a login of this user" in result.stderr


@pytest.mark.integration
def test_a_service_refuses_a_key_on_its_command_line_and_wrong_options(home: Home, pretended_systemctl: Path) -> None:
    path = f"{home.folder / 'bin'}:{os.environ['PATH']}"
    result = home.run("service", "install", "--api-key", "secret", PATH=path)
    assert result.returncode == 2
    assert "service.env" in result.stderr
    assert home.run("service", "install", "--prot", "1", PATH=path).returncode == 2
    assert home.run("service", "start", PATH=path).returncode == 1
    assert not pretended_systemctl.exists()


@pytest.mark.unit
def test_the_launchd_agent_starts_the_same_command(tmp_path: Path) -> None:
    arguments = service.command(["--port", "9000"])
    agent = plistlib.loads(service.plist(arguments, tmp_path / "log"))
    assert agent["ProgramArguments"][-len(arguments) :] == arguments
    assert agent["RunAtLoad"] is True
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    shell = agent["ProgramArguments"][:3]
    (tmp_path / "service.env").write_text("HEYLOOK_API_KEY=from-the-file\n")
    ran = subprocess.run(
        [*shell, str(tmp_path / "service.env"), "printenv", "HEYLOOK_API_KEY"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "from-the-file\n"


@pytest.mark.unit
def test_a_key_for_the_service_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError):
        service.command(["--api-key=secret"])


@pytest.mark.integration
def test_doctor_reports_every_part_as_json(home: Home) -> None:
    result = home.run("doctor", "--json")
    report = json.loads(result.stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert report["version"] == __version__
    wanted = ("compiler", "llama.cpp", "MLX", "memory", "GPU", "config", "model fake", "port 8080", "state folder")
    assert set(wanted) <= set(findings)
    assert "compiled for" in findings["llama.cpp"]["detail"]
    assert findings["config"]["detail"] == "models.yaml"
    wrong = [name for name, finding in findings.items() if finding["verdict"] == "wrong"]
    assert result.returncode == (1 if wrong else 0)
    assert all(findings[name]["advice"] for name in wrong)


@pytest.mark.integration
def test_doctor_names_the_missing_file_and_what_to_do(home: Home) -> None:
    home.models.write_text("models:\n  - {id: gone, provider: llama_cpp, config: {model_path: gone.gguf}}\n")
    result = home.run("doctor")
    assert result.returncode == 1
    assert "✗ model gone" in result.stdout
    assert "gone.gguf" in result.stdout
    assert "→ correct model_path in models.yaml" in result.stdout
    home.models.write_text("models:\n  - {id: text, provider: llama_cpp, config: {model_path: models.yaml}}\n")
    assert "not a GGUF file" in home.run("doctor").stdout
    home.models.write_text("models: 5\n")
    broken = home.run("doctor")
    assert broken.returncode == 1
    assert "✗ config" in broken.stdout
