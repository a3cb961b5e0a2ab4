"""The files that set the project up agree with each other and with the README."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent.parent
PROMISED = [
    "help",
    "install",
    "mlx",
    "vlm",
    "dev",
    "serve",
    "format",
    "lint",
    "check",
    "test",
    "test_long",
    "test_changed",
    "build",
    "clean",
    "docs",
    "docs-serve",
]
LOCKS = [*sorted((ROOT / "requirements").glob("*.txt")), ROOT / "benchmarks" / "peers" / "requirements.txt"]
sys.path.insert(0, str(ROOT / "tools"))


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z_-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_promised_target_exists_and_is_in_the_help() -> None:
    assert set(PROMISED) <= targets()
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {name} " in shown for name in PROMISED)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/troubleshooting.md", "docs/benchmarks.md", "docs/peers.md"]
)
def test_every_make_command_in_the_documents_exists(page: str) -> None:
    named = set(re.findall(r"(?:^|`|\n)make ([a-z_-]+)", (ROOT / page).read_text()))
    assert named
    assert named <= targets()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locked_packages_have_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "index" not in re.sub(r"^[a-z0-9-]+==", "", text, flags=re.MULTILINE)
    pins = re.findall(r"^\S+==.*$", text, re.MULTILINE)
    assert pins
    assert all(pin.endswith("\\") for pin in pins)
    assert text.count("--hash=sha256:") >= len(pins)


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "runtime": project["dependencies"],
        "gguf": project["optional-dependencies"]["gguf"],
        "mlx": [text.partition(";")[0].replace("[cpu]", "") for text in project["optional-dependencies"]["mlx"]],
        "vlm": [text.partition(";")[0] for text in project["optional-dependencies"]["vlm"]],
        "dev": project["optional-dependencies"]["dev"],
        "docs": project["optional-dependencies"]["docs"],
    }
    for name, requirements in wanted.items():
        locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))
        missing = {re.split(r"[^A-Za-z0-9-]", text)[0].lower() for text in requirements} - locked
        assert not missing, f"run make lock: {missing}"


def steps(*arguments: str) -> str:
    """What make would run."""
    command = ["make", "-n", "-B", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_both_engines_are_installed_and_only_a_mac_serves_before_llama_cpp_is_compiled(tmp_path: Path) -> None:
    venv = f"VENV={tmp_path}"
    for target in ("install", "dev", "test"):
        assert "install.py" in steps(target, venv, "ACCEL=cpu")
        assert "--engine mlx" not in steps(target, venv, "ACCEL=cpu")
    assert "--engine mlx" in steps("mlx", venv)
    assert "--engine mlx" not in steps("serve", venv, "APPLE_SILICON=")
    assert "--engine mlx" in steps("serve", venv, "APPLE_SILICON=yes")
    (tmp_path / "engine").write_text("compiled")
    assert "--engine mlx" not in steps("serve", venv, "APPLE_SILICON=yes")


@pytest.mark.parametrize(
    ("system", "machine", "macos", "libc", "problem"),
    [
        ("Darwin", "arm64", "15.2", ("", ""), ""),
        ("Darwin", "arm64", "13.6", ("", ""), "macOS 14"),
        ("Darwin", "x86_64", "15.2", ("", ""), "Apple silicon"),
        ("Linux", "x86_64", "", ("glibc", "2.36"), ""),
        ("Linux", "aarch64", "", ("glibc", "2.35"), ""),
        ("Linux", "x86_64", "", ("glibc", "2.31"), "glibc 2.35"),
        ("Linux", "riscv64", "", ("glibc", "2.39"), "riscv64"),
        ("Linux", "x86_64", "", ("", ""), "this system"),
    ],
)
def test_where_mlx_has_no_packages_it_is_left_out(
    system: str, machine: str, macos: str, libc: tuple[str, str], problem: str
) -> None:
    from install import mlx_problem  # type: ignore[import-not-found,unused-ignore]  # tools/ has no package

    found = mlx_problem(system, machine, macos, libc)
    assert problem in found
    assert bool(problem) == bool(found)


def test_locks_agree() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in re.findall(r"^([a-z0-9-]+)==(.*?) *\\?$", lock.read_text(), re.MULTILINE):
            versions.setdefault(f"{name} {version.partition(';')[2]}", set()).add(version.partition(" ")[0])
    assert not {name: found for name, found in versions.items() if len(found) > 1}


def test_git_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in hooks["repos"]} == {"local"}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_ci_runs_the_documented_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make check" in script
    assert "make test" in script
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_a_changed_module_picks_the_tests_that_name_it(tmp_path: Path) -> None:
    from changed_tests import affected_tests  # type: ignore[import-not-found,unused-ignore]  # tools/ has no package

    router, other = tmp_path / "test_router.py", tmp_path / "test_other.py"
    router.write_text("from heylook_llm.server import plan, router\n")
    other.write_text("from heylook_llm.server.guard import Guard\n")
    tests = [other, router]
    assert affected_tests([Path("src/heylook_llm/server/router.py")], tests) == [router]
    assert affected_tests([Path("src/heylook_llm/server/guard.py")], tests) == [other]
    assert affected_tests([Path("README.md"), other], tests) == [other]
    assert affected_tests([Path("tests/conftest.py")], tests) == tests


# ---- the image -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def test_the_dockerfile_is_made_of_known_instructions_and_existing_files() -> None:
    known = {
        "FROM",
        "ARG",
        "ENV",
        "RUN",
        "COPY",
        "WORKDIR",
        "USER",
        "EXPOSE",
        "VOLUME",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {word for word, _ in instructions()} <= known
    for word, rest in instructions():
        if word == "COPY" and "--from=" not in rest:
            sources = [part for part in rest.split()[:-1] if not part.startswith("--")]
            assert all(list(ROOT.glob(source)) for source in sources), rest
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(part, str) for part in json.loads(rest))


def test_the_image_is_portable_and_runs_without_rights() -> None:
    words = [word for word, _ in instructions()]
    final = words[len(words) - 1 - words[::-1].index("FROM") :]
    assert words.count("FROM") == 2
    assert {"USER", "HEALTHCHECK", "ENTRYPOINT", "EXPOSE"} <= set(final)
    assert any("GGML_NATIVE=OFF" in rest for _, rest in instructions())
    assert next(rest for word, rest in instructions() if word == "USER") != "root"
    assert not [rest for word, rest in instructions() if word == "FROM" and ":" not in rest and rest != "build"]
