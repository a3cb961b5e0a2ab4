"""The pieces of the bench that others import compute, and do nothing: no clock, no file, no socket, no process."""

import ast
from pathlib import Path

import pytest

from heylook_llm import bench

pytestmark = pytest.mark.unit

PURE = ("scenario", "workload", "load", "timeline", "metrics")
ACTING = {
    *("aiohttp", "asyncio", "concurrent", "datetime", "glob", "http", "io", "logging", "multiprocessing", "os"),
    *("pathlib", "psutil", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "subprocess", "sys"),
    *("tempfile", "threading", "time", "urllib"),
}


@pytest.mark.parametrize("name", PURE)
def test_a_piece_neither_reads_a_clock_nor_does_anything(name: str) -> None:
    tree = ast.parse((Path(bench.__path__[0]) / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not ACTING & {one.partition(".")[0] for one in imported}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval"}
    globally = [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    assert not globally
