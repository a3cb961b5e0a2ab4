"""Which prompts begin alike, without their texts: a keyed hash of every first part of a prompt, block by block.

Equal hashes are equal tokens up to the block's end. Whoever lacks the key, which a server makes up for each of its
runs, can't find out from a hash whether a prompt was the one he thinks of.
"""

import hashlib
from array import array
from collections.abc import Sequence as Seq
from typing import Final

from heylook_llm import core

_HASH_BYTES: Final = core.BLOCK_HASH_BYTES
_BLOCK: Final = core.BLOCK_TOKENS


def block_hashes(tokens: Seq[int], key: bytes) -> bytes:
    """One hash after the other: of the first block, the first two, ...; the last block may be shorter."""
    if not key:
        return b""
    running = hashlib.blake2b(digest_size=_HASH_BYTES, key=key)
    found = bytearray()
    for at in range(0, len(tokens), _BLOCK):
        running.update(array("q", tokens[at : at + _BLOCK]).tobytes())
        found += running.copy().digest()
    return bytes(found)
