"""Uploads: what is whole and right gets its name, and nothing else stays."""

import hashlib
import os
from pathlib import Path

import pytest

from heylook_llm.catalog import blobs
from heylook_llm.errors import BadRequest, InsufficientStorage

pytestmark = pytest.mark.unit
DATA = b"the bytes of a model"
DIGEST = hashlib.sha256(DATA).hexdigest()


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "blobs").iterdir()}


def test_two_uploads_of_one_file_are_one(tmp_path: Path) -> None:
    held = blobs.Blobs(tmp_path)
    with held.upload(DIGEST, len(DATA)) as first, held.upload(DIGEST, None) as second:
        for upload in (first, second):
            upload.append(DATA[:5])
        for upload in (second, first):
            upload.append(DATA[5:])
            upload.finish()
    assert names(tmp_path) == {f"sha256-{DIGEST}"}
    assert held.path(DIGEST).read_bytes() == DATA


def test_what_is_broken_off_or_wrong_leaves_nothing(tmp_path: Path) -> None:
    held = blobs.Blobs(tmp_path)
    with held.upload(DIGEST, None) as upload:
        upload.append(DATA[1:])
        with pytest.raises(BadRequest, match="digest mismatch"):
            upload.finish()
    with held.upload(DIGEST, None) as upload:
        upload.append(DATA[:5])
    with pytest.raises(InsufficientStorage):
        held.upload(DIGEST, 1 << 60)
    assert names(tmp_path) == set()


def test_what_belongs_to_no_model_goes_after_a_day(tmp_path: Path) -> None:
    held = blobs.Blobs(tmp_path)
    held.prune(0.0)
    for data in (b"used", b"lonely"):
        with held.upload(hashlib.sha256(data).hexdigest(), None) as upload:
            upload.append(data)
            upload.finish()
    used = held.path(hashlib.sha256(b"used").hexdigest())
    os.link(used, tmp_path / "model.gguf")
    now = used.stat().st_mtime
    held.prune(now + blobs.STALE_SECONDS - 1)
    assert len(names(tmp_path)) == 2
    held.prune(now + blobs.STALE_SECONDS + 60)
    assert names(tmp_path) == {used.name}
    held.forget([(tmp_path / "model.gguf").stat()])
    assert names(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:" + 63 * "a", "md5:" + 64 * "a", "sha256:" + 64 * "z", DIGEST])
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(BadRequest, match="invalid digest format"):
        blobs.digest_of(text)
    assert blobs.digest_of(f"sha256-{DIGEST.upper()}") == DIGEST
