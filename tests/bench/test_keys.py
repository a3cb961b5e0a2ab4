"""Keys of targets: where they may be, and that a refusal never holds one."""

import sys
from pathlib import Path

import pytest

from heylook_llm.bench.keys import key_of
from heylook_llm.errors import ConfigError

pytestmark = pytest.mark.unit

KEYRING = """
class errors:
    class KeyringError(Exception):
        pass

def get_password(service, name):
    if name == "locked":
        raise errors.KeyringError("No recommended backend was available")
    return {("heylookllm", "lan"): "sk-of-the-ring"}.get((service, name))
"""


def refused(reference: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        key_of(reference, environment or {})
    assert "sk-" not in caught.value.message
    return caught.value.message


def test_a_variable_names_a_key() -> None:
    assert key_of(None, {}) is None
    assert key_of("env:LAN", {"LAN": " sk-1 \n"}) == "sk-1"
    assert "LAN isn't set" in refused("env:LAN")
    assert "no key" in refused("env:LAN", {"LAN": "sk-1 sk-2"})
    assert "no key" in refused("env:LAN", {"LAN": ""})
    assert "no key" in refused("env:LAN", {"LAN": "sk-\N{LATIN SMALL LETTER E WITH ACUTE}"})


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-2\n")
    path.chmod(0o600)
    assert key_of(f"file:{path}", {}) == "sk-2"
    for mode in (0o640, 0o604, 0o644):
        path.chmod(mode)
        assert refused(f"file:{path}") == f"Others can read the key in {path}: chmod 600 {path}"
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    assert "can't be read" in refused(f"file:{path}")
    assert "can't be read" in refused(f"file:{tmp_path / 'none'}")


def test_a_keyring_that_is_not_there_names_what_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    missing = "keyring isn't installed (pip install 'heylookllm[keyring]'); use env:NAME or file:PATH."
    assert refused("keyring:lan") == missing
    monkeypatch.delitem(sys.modules, "keyring")
    (tmp_path / "keyring.py").write_text(KEYRING)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert key_of("keyring:lan", {}) == "sk-of-the-ring"
        assert "heylookllm other" in refused("keyring:other")
        assert "No recommended backend" in refused("keyring:locked")
        assert "use env:NAME or file:PATH" in refused("keyring:locked")
    finally:
        sys.modules.pop("keyring", None)
