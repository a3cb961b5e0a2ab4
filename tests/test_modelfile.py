"""A Modelfile's text: what it says, and what is wrong with it by the line."""

from pathlib import Path

import pytest

from heylook_llm.commands import modelfile
from heylook_llm.errors import BadRequest
from heylook_llm.server.wire.modelfile import Modelfile

pytestmark = pytest.mark.unit


def test_every_instruction(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "lora.gguf").touch()
    text = '''\
# a comment
FROM ./a.gguf
  adapter lora.gguf
PARAMETER temperature 0.5
PARAMETER top_k 7
PARAMETER use_mmap true
PARAMETER stop "<|end|>\\n"
PARAMETER stop User:
SYSTEM """Line one,
"line two"."""
TEMPLATE {{ .Prompt }}
MESSAGE user hello there
MESSAGE assistant """a
b"""
LICENSE MIT
LICENSE """More
of it"""
'''
    made = modelfile.parse(text, tmp_path)
    assert made.files == [tmp_path / "a.gguf"]
    assert made.adapters == [tmp_path / "lora.gguf"]
    assert made.body == {
        "parameters": {"temperature": 0.5, "top_k": 7, "use_mmap": True, "stop": ["<|end|>\n", "User:"]},
        "system": 'Line one,\n"line two".',
        "template": "{{ .Prompt }}",
        "messages": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "a\nb"}],
        "license": ["MIT", "More\nof it"],
    }


def test_folders_and_names(tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json", "notes.txt", "code.py"):
        (tmp_path / name).touch()
    found = modelfile.parse("FROM .", tmp_path)
    assert [file.name for file in found.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert modelfile.parse("from hf.co/org/repo:Q4_K_M", tmp_path).body == {"from": "hf.co/org/repo:Q4_K_M"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SYSTEM x", "no FROM line"),
        ("", "no FROM line"),
        ("FROM x\n\nNOPE y", "line 3: there is no instruction NOPE"),
        ("FROM x\nPARAMETER num_ctx 512\nPARAMETER temprature 0", "line 3: there is no parameter temprature"),
        ('FROM x\nSYSTEM """y\n', "line 2: "),
        ("FROM x\nADAPTER nope.gguf", "line 2: nope.gguf: no such file"),
        ("FROM x\n???", "line 2: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        modelfile.parse(text, tmp_path)
    assert words in caught.value.message


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no such file"):
        modelfile.read(tmp_path / "Modelfile")
    (tmp_path / "Modelfile").write_bytes(b"\xff")
    with pytest.raises(BadRequest, match="can't be read"):
        modelfile.read(tmp_path / "Modelfile")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = Modelfile(
        "base:latest",
        "{{- x }}\n{% if y %}\n",
        'three """ in a row\nand a \\ behind',
        [("temperature", "0.5"), ("stop", '"a\\nb"')],
        [("user", "hi\nthere"), ("assistant", '"""')],
        ["MIT", "two\nlines"],
    )
    made = modelfile.parse(written.text(), tmp_path)
    assert made.body == {
        "from": "base:latest",
        "template": written.template,
        "system": written.system,
        "parameters": {"temperature": 0.5, "stop": ["a\nb"]},
        "messages": [{"role": role, "content": content} for role, content in written.messages],
        "license": list(written.license),
    }
