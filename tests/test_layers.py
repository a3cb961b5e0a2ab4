"""Who may import whom: ARCHITECTURE's table, checked on the syntax trees; and what our code never does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import heylook_llm

pytestmark = pytest.mark.unit

ROOT = Path(heylook_llm.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
ENGINES = ("llama_cpp", "mlx", "mlx_lm", "mlx_vlm", "torch", "transformers")
OURS = "heylook_llm."

ALLOWED: dict[str, tuple[str, ...]] = {
    # layer: what of ours it may import, by prefix. The first matching layer counts, so special ones stand first.
    "cli": ("",),
    "commands": ("",),
    "__init__": (),
    "errors": (),
    "hardware": ("hardware",),
    "core": ("errors",),
    "support": (),
    "config": ("core", "engines", "errors"),
    "engines": (),
    "effects": ("config",),
    "registry": ("config", "core", "errors"),
    "pipe": ("core", "errors"),
    "catalog": ("catalog", "config", "registry", "core", "errors"),
    "helper": ("helper", "errors"),
    "tiny": (),
    "drawing": ("errors",),
    "slowness": (),
    "server.wire": ("server.wire", "core", "errors"),
    "server": (
        "server",
        "catalog",
        "helper",
        "config",
        "effects",
        "registry",
        "pipe",
        "core",
        "errors",
        "hardware",
        "engines",
        "support",
        "drawing",
        "slowness",
        "__init__",
    ),
    "worker": ("worker", "catalog", "config", "pipe", "core", "errors", "hardware", "helper", "support"),
    "bench": ("bench", "core", "drawing", "errors", "hardware", "slowness"),
    "agent": ("agent", "core", "errors", "hardware"),
    "cluster": ("cluster", "server.backend", "config", "core", "errors", "hardware"),
}
FORBIDDEN_LIBRARIES: dict[str, tuple[str, ...]] = {
    "errors": ("msgspec", "pydantic"),
    "server.wire": ("asyncio", "fastapi", "starlette", "uvicorn"),
    "server": ("ray", "locust", *ENGINES),
    "catalog": ("fastapi", "ray", *ENGINES),
    "worker.providers": ("asyncio", "fastapi", "starlette", "ray", "locust"),
    "worker": ("asyncio", "fastapi", "starlette", "ray", "locust", *ENGINES),
    "bench": ("ray", *ENGINES),
    "agent": ("ray", "locust", *ENGINES),
    "core": ("pydantic", "yaml", "asyncio"),
    "pipe": ("pydantic", "yaml", "asyncio"),
}
HOME_OF_LIBRARY = {"ray": "cluster", "locust": "bench.locustfile", "psutil": None, "llama_cpp": "worker.providers"}
DIALECTS = ("openai", "responses", "ollama", "anthropic")


def name_of(path: Path) -> str:
    """The module's name within our package: "server.router"; a package is "server.__init__"."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """(absolute dotted name, whether it runs at import time) of each import, `from a import b` as a.b."""
    package = ("heylook_llm", *path.relative_to(ROOT).with_suffix("").parts[:-1])
    top = {id(node) for node in _run_at_import(tree_of(path))}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) in top


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside of functions and of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _run_at_import(child)


def module_of(imported: str) -> str | None:
    """Which of our modules an imported name is or lies in; None if it isn't ours."""
    if imported.partition(".")[0] != "heylook_llm":
        return None
    parts = imported.split(".")[1:]
    while parts:
        base = ROOT.joinpath(*parts)
        if base.with_suffix(".py").exists():
            return ".".join(parts)
        if (base / "__init__.py").exists():
            return ".".join([*parts, "__init__"])
        parts.pop()
    return "__init__"


def lies_in(module: str, layer: str) -> bool:
    return not layer or module == layer or module.startswith(layer + ".")


def layer_of(module: str, table: dict[str, tuple[str, ...]]) -> str | None:
    return next((layer for layer in table if lies_in(module, layer)), None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_from_its_layers(path: Path) -> None:
    module = name_of(path)
    layer = layer_of(module, ALLOWED)
    assert layer is not None, f"{module} belongs to no layer of the table"
    for imported, _ in imports_of(path):
        target = module_of(imported)
        if target is not None:
            assert any(lies_in(target, allowed) for allowed in ALLOWED[layer]), f"{module} imports {target}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_no_library_of_another_layer(path: Path) -> None:
    module = name_of(path)
    layer = layer_of(module, FORBIDDEN_LIBRARIES)
    for imported, _ in imports_of(path):
        library = imported.partition(".")[0]
        assert layer is None or library not in FORBIDDEN_LIBRARIES[layer], f"{module} imports {imported}"
        home = HOME_OF_LIBRARY.get(library)
        assert home is None or lies_in(module, home) or lies_in(module, "commands"), f"{module} imports {imported}"


def test_dialects_do_not_know_each_other() -> None:
    for path in FILES:
        module = name_of(path)
        dialect = next((d for d in DIALECTS if lies_in(module, f"server.wire.{d}")), None)
        for imported, _ in imports_of(path):
            target = module_of(imported) or ""
            for other in DIALECTS:
                assert dialect in (None, other) or not lies_in(target, f"server.wire.{other}"), f"{module}: {target}"


def test_nobody_imports_the_command_line() -> None:
    for path in FILES:
        module = name_of(path)
        for imported, _ in imports_of(path):
            target = module_of(imported) or ""
            assert module in ("cli",) or lies_in(module, "commands") or not lies_in(target, "cli"), (
                f"{module}: {target}"
            )
            assert module == "cli" or lies_in(module, "commands") or not lies_in(target, "commands"), module


def test_there_are_no_cycles() -> None:
    graph = {
        name_of(path): sorted(
            {target for imported, at_import in imports_of(path) if at_import and (target := module_of(imported))}
            - {"__init__", name_of(path)}
        )
        for path in FILES
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_importing_the_server_imports_no_engine() -> None:
    script = "import heylook_llm.server.app, heylook_llm.server.router, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    loaded = {name.partition(".")[0] for name in out.split()}
    assert not loaded & {*ENGINES, "ray", "locust"}
    assert not [name for name in out.split() if name.startswith(("heylook_llm.worker", "heylook_llm.bench"))]


# ---- what our code never does ----------------------------------------------------------------------------------------


def calls_of(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """(call, dotted name of what is called)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_runs_no_foreign_code(path: Path) -> None:
    module = name_of(path)
    libraries = {imported.partition(".")[0] for imported, _ in imports_of(path)}
    assert not libraries & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
    for call, called in calls_of(path):
        assert called not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), f"{module}: {called}"
        assert called.rpartition(".")[2] not in ("urlopen", "urlretrieve"), f"{module}: {called}"
        assert called not in ("yaml.unsafe_load", "yaml.full_load", "yaml.load_all"), f"{module}: {called}"
        if called == "yaml.load":
            assert _loader_is_safe(path, call), f"{module}: yaml.load without a safe loader"
        shell = next((keyword.value for keyword in call.keywords if keyword.arg == "shell"), None)
        assert shell is None or (isinstance(shell, ast.Constant) and not shell.value), f"{module}: shell"


def _loader_is_safe(path: Path, call: ast.Call) -> bool:
    """Whether Loader= is SafeLoader, or a class of this file that extends it."""
    loader = next((ast.unparse(k.value) for k in call.keywords if k.arg == "Loader"), "")
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    classes = {
        n.name: {ast.unparse(b) for b in n.bases} for n in ast.walk(tree_of(path)) if isinstance(n, ast.ClassDef)
    }
    return loader in safe or bool(classes.get(loader, set()) & safe)
