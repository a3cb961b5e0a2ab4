"""`heylookllm import`, as it is typed."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heylook_llm import config, registry
from tests.catalog.places import gguf, mlx, ollama, snapshot

pytestmark = pytest.mark.integration
WAIT_SECONDS = 60


def run(*arguments: str, cwd: Path, status: int = 0, **environment: str) -> str:
    """stdout and stderr of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "heylook_llm.cli", "import", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "HOME": str(cwd),
            "XDG_CONFIG_HOME": str(cwd / "c"),
            "XDG_CACHE_HOME": str(cwd / "h"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    gguf(folder / "one.gguf")
    mlx(folder / "two")
    (folder / "bad.gguf").write_bytes(b"GGUF")
    return folder


def test_a_folder_in_one_command(models: Path, tmp_path: Path) -> None:
    told = run("--folder", str(models), cwd=tmp_path)
    assert "2 models written to models_imported.yaml" in told
    assert "left out" in told
    settings = config.load(tmp_path / "models_imported.yaml")
    assert {spec.id: spec.path for spec in settings.enabled} == {"one": models / "one.gguf", "two": models / "two"}
    assert settings.default_model == "one"
    assert "exists" in run("--folder", str(models), cwd=tmp_path, status=2)
    run("--folder", str(models), "--force", "-o", "models_imported.yaml", cwd=tmp_path)


def test_profile_and_overrides(models: Path, tmp_path: Path) -> None:
    run(
        "--folder",
        str(models),
        "--profile",
        "fast",
        "--override",
        "n_ctx=1024",
        "--override",
        "n_batch=64",
        "-o",
        "o.yaml",
        cwd=tmp_path,
    )
    one, two = config.load(tmp_path / "o.yaml").models
    assert isinstance(one.config, config.LlamaCppConfig)
    assert (one.config.n_ctx, one.config.n_batch, one.config.temperature) == (1024, 64, 0.3)
    assert (two.config.n_ctx, two.config.temperature) == (1024, 0.3)
    assert "did you mean `n_ctx`" in run("--folder", ".", "--override", "n_cxt=1", cwd=tmp_path, status=2)
    assert "n_ctx" in run("--folder", str(models), "--override", "n_ctx=-5", cwd=tmp_path, status=2)
    assert not (tmp_path / "models_imported.yaml").exists()


def test_merge_adds_and_leaves_the_file_alone(models: Path, tmp_path: Path) -> None:
    mine = "# mine\nmodels:\n  - {id: two, provider: fake}   # a comment\n"
    (tmp_path / "models.yaml").write_text(mine)
    told = run("--folder", str(models), "--merge", "--dry-run", cwd=tmp_path)
    assert "+  - id: one" in told
    assert not registry.overlay_path(tmp_path / "models.yaml").exists()
    run("--folder", str(models), "--merge", cwd=tmp_path)
    assert (tmp_path / "models.yaml").read_text() == mine
    assert [spec.id for spec in registry.load(tmp_path / "models.yaml").models] == ["two", "one", "two-2"]
    again = run("--folder", str(models), "--merge", cwd=tmp_path)
    assert "served already" in again
    assert "Nothing was written" in again


def on_a_terminal(*arguments: str, cwd: Path, answer: bytes = b"") -> str:
    """All that a terminal shows, with this answer to the question whether to write."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "heylook_llm.cli", "import", *arguments]
    with subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
                if answer and shown.endswith(b"[Y/n]: "):
                    os.write(ours, answer)
        assert process.wait(WAIT_SECONDS) == 0, shown
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize(("answer", "written"), [(b"n\n", False), (b"y\n", True), (b"\n", True)])
def test_a_merge_on_a_terminal_shows_the_difference_and_asks(
    models: Path, tmp_path: Path, answer: bytes, written: bool
) -> None:
    (tmp_path / "models.yaml").write_text("models: []\n")
    shown = on_a_terminal("--folder", str(models), "--merge", cwd=tmp_path, answer=answer)
    assert 0 < shown.index("+  - id: one") < shown.index("Write this?")
    assert registry.overlay_path(tmp_path / "models.yaml").exists() is written
    assert ("Nothing was written" in shown) is not written


def test_nobody_is_asked_who_said_yes_or_has_nothing_to_write(models: Path, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: []\n")
    for _ in range(2):
        assert "Write this?" not in on_a_terminal("--folder", str(models), "--merge", "--yes", cwd=tmp_path)
    assert "Write this?" not in on_a_terminal("--folder", str(models), "--merge", cwd=tmp_path)
    assert [spec.id for spec in registry.load(tmp_path / "models.yaml").models] == ["one", "two"]


def test_every_store_of_another_program_is_found(tmp_path: Path) -> None:
    assert "name a folder" in run(cwd=tmp_path, status=2)
    file = gguf(snapshot(tmp_path / "h" / "huggingface" / "hub", "org/name") / "m.gguf")
    ollama(tmp_path / ".ollama" / "models", "mine", file)
    gguf(tmp_path / ".lmstudio" / "models" / "p" / "r" / "m.gguf")
    run(cwd=tmp_path)
    settings = config.load(tmp_path / "models_imported.yaml")
    assert {spec.id for spec in settings.models} == {"org/name:m", "mine:latest", "p/r:m"}


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "\x1b[31mred\nline.gguf").write_bytes(b"no")
    told = run("--folder", "m", cwd=tmp_path)
    assert "\\x1b[31mred\\nline.gguf" in told
    assert "\x1b" not in told


def test_watch_follows_the_folder(models: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-u",
        "-m",
        "heylook_llm.cli",
        "import",
        "--folder",
        str(models),
        "--watch",
        "-o",
        "w.yaml",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "Watching" in process.stdout.readline()
            assert "2 models" in process.stdout.readline()
            gguf(models / "three.gguf")
            assert "3 models" in process.stdout.readline()
            assert "three" in {spec.id for spec in config.load(tmp_path / "w.yaml").models}
            (models / "one.gguf").unlink()
            assert "2 models" in process.stdout.readline()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 130
