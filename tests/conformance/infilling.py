"""Copies of the bundled model whose vocabulary has the tokens for the middle of a text: three of its own, renamed."""

import json
import shutil
from pathlib import Path
from typing import Final

from tests.contract.widened import rewritten

_TOKENS: Final = {1020: ("pre", "prefix"), 1022: ("suf", "suffix"), 1023: ("mid", "middle")}
"""Of its 1024: what they are called in a GGUF's keys, and in a tokenizer."""


def gguf(source: Path, target: Path) -> Path:
    """As a GGUF."""
    added = {f"tokenizer.ggml.fim_{short}_token_id": token for token, (short, _) in _TOKENS.items()}
    return rewritten(source, target, added=added)


def folder(source: Path, target: Path) -> Path:
    """As a folder of MLX."""
    shutil.copytree(source, target)
    file = target / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    for token in tokenizer["added_tokens"]:
        if token["id"] in _TOKENS:
            token |= {"content": f"<|fim_{_TOKENS[token['id']][1]}|>", "special": True}
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    return target
