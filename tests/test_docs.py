"""The documents say what the code does: generated tables are fresh, links lead somewhere, README commands answer."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heylook_llm import config
from heylook_llm.effects import EFFECTS, SHARED
from tests.commands_at_work import Home, Server
from tests.conformance.guide_examples import examples
from tests.conformance.subjects import circle

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [ROOT / "README.md", ROOT / "CLIENT_INTEGRATION_GUIDE.md"]
sys.path.insert(0, str(ROOT / "tools"))


@pytest.mark.unit
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_tables_are_fresh(page: Path) -> None:
    from write_docs import with_tables  # type: ignore[import-not-found,unused-ignore]  # tools/ has no package

    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run make docs-tables"


@pytest.mark.unit
def test_every_key_of_models_yaml_has_an_effect() -> None:
    for model, effects in EFFECTS.items():
        bases = [base for base in SHARED if base is not model]
        inherited = {name for base in bases if issubclass(model, base) for name in base.model_fields}
        assert set(effects) == set(model.model_fields) - inherited, model.__name__


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.unit
def test_the_bundled_registry_shows_every_key_with_its_default() -> None:
    text = config.BUNDLED.read_text(encoding="utf-8")
    uncommented = re.sub(r"^(\s*)# ([a-z_]+:)", r"\1\2", text, flags=re.MULTILINE)
    settings = config.parse(uncommented, config.BUNDLED)
    spec, other, *_ = settings.models
    assert settings.model_fields_set == set(config.Settings.model_fields)
    assert settings.limits.model_fields_set == set(config.Limits.model_fields)
    assert settings.limits == config.Limits()
    assert settings.performance.model_fields_set == set(config.Recording.model_fields)
    assert settings.performance == config.Recording()
    assert settings.responses.model_fields_set == set(config.KeepingResponses.model_fields)
    assert settings.responses == config.KeepingResponses()
    assert settings.hardware.model_fields_set == set(config.Hardware.model_fields)
    assert settings.hardware == config.Hardware()
    assert spec.model_fields_set == set(config.ModelSpec.model_fields)
    assert spec.config.model_fields_set == set(config.LlamaCppConfig.model_fields)
    fresh = config.LlamaCppConfig(model_path=spec.config.model_path, n_ctx=spec.config.n_ctx)
    for key in set(config.LlamaCppConfig.model_fields) - set(config.SamplingDefaults.model_fields):
        assert getattr(spec.config, key) == getattr(fresh, key), key
    own = set(config.MlxConfig.model_fields) - set(config.SamplingDefaults.model_fields)
    assert other.config.model_fields_set == own
    bare = config.MlxConfig(model_path=other.config.model_path, n_ctx=other.config.n_ctx)
    for key in own:
        assert getattr(other.config, key) == getattr(bare, key), key


@pytest.mark.unit
def test_yaml_in_the_documents_is_valid(tmp_path: Path) -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "models.md"):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            assert config.parse(block, tmp_path / "models.yaml").enabled


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the guides."""
    return [
        block
        for page in GUIDES
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]


def curl_commands() -> list[str]:
    """The curl commands in the guides, with their continued lines."""
    text = "\n".join(blocks("sh"))
    return [command for command in re.findall(r"^curl (?:[^'\n\\]|'[^']*'|\\\n)*", text, re.MULTILINE) if command]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose models.yaml is the bundled one."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.models = config.BUNDLED
    return home


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    """A server as `make serve` starts it, on another port."""
    with home.serving("--port", "0") as it:
        yield it


@pytest.mark.integration
def test_curl_commands_answer(server: Server) -> None:
    commands = curl_commands()
    assert len(commands) >= 5
    for command in commands:
        here = command.replace("http://127.0.0.1:8080", server.url)
        ran = subprocess.run(["sh", "-c", f"{here} -s --fail-with-body"], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}"
        last = ran.stdout.strip().splitlines()[-1].removeprefix("data: ")
        assert last == "[DONE]" or "error" not in json.loads(last)


RUN_EACH = """
import contextlib, io, json, sys, traceback
for block in json.load(sys.stdin):
    said, problem = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said):
            exec(block, {"__name__": "__main__"})
    except BaseException:
        problem = traceback.format_exc()
    print(json.dumps([said.getvalue(), problem]))
"""
"""Runs blocks, each in a namespace of its own; in one process, since importing a client takes longer than using it."""


@pytest.fixture(scope="module")
def ran_blocks(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str | None]]:
    """What each Python block said, and how it failed, run in a folder with the guide's image."""
    folder, asked = tmp_path_factory.mktemp("guide"), blocks("python")
    (folder / "image.png").write_bytes(circle())
    here = [block.replace("http://127.0.0.1:8080", server.url) for block in asked]
    ran = subprocess.run(
        [sys.executable, "-c", RUN_EACH], input=json.dumps(here), capture_output=True, text=True, check=True, cwd=folder
    )
    return dict(zip(asked, (tuple(json.loads(line)) for line in ran.stdout.splitlines()), strict=True))


@pytest.mark.integration
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split()[1])
def test_python_blocks_run(ran_blocks: dict[str, tuple[str, str | None]], block: str) -> None:
    said, problem = ran_blocks[block]
    assert problem is None, problem
    assert said.strip()


@pytest.mark.unit
def test_the_guides_other_examples_are_cells_of_the_matrix() -> None:
    """`make conformance` runs what needs more than the test environment: Node's clients and the frameworks."""
    text = GUIDES[1].read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w+)", text, re.MULTILINE)) == {"sh", "python", *examples(text)}
    assert sum(map(len, examples(text).values())) >= 10


@pytest.mark.integration
def test_what_the_guide_says_comes_of_its_examples(ran_blocks: dict[str, tuple[str, str | None]]) -> None:
    said = "".join(text for text, _ in ran_blocks.values())
    assert said.count("The circle is red.") == 3
    assert said.count("18") >= 3
    assert said.count("Person(name=") == 3


@pytest.mark.integration
def test_terminal_commands_run(home: Home, server: Server) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'heylookllm run heylook-tiny "What is 3 plus 4?"' in readme
    assert home.run("run", "heylook-tiny", "What is 3 plus 4?").stdout.strip()
    for name in ("list", "ps"):
        assert f"\nheylookllm {name}\n" in readme
        assert "heylook-tiny:latest" in home.run(name).stdout


@pytest.mark.integration
def test_what_the_readme_quotes_is_what_the_model_says(server: Server) -> None:
    quoted = re.search(r'`"content":"([^"]+)"`', (ROOT / "README.md").read_text(encoding="utf-8"))
    assert quoted
    command = curl_commands()[0].replace("http://127.0.0.1:8080", server.url)
    ran = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout)["choices"][0]["message"]["content"] == quoted[1]
