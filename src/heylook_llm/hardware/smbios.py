"""The memory modules that a machine's firmware tells of: SMBIOS structures of type 17, read from untrusted bytes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MEMORY_DEVICE: Final = 17
_END: Final = 127
_KINDS: Final = {
    0x14: "DDR2",
    0x18: "DDR3",
    0x1A: "DDR4",
    0x1B: "LPDDR",
    0x1C: "LPDDR2",
    0x1D: "LPDDR3",
    0x1E: "LPDDR4",
    0x20: "HBM",
    0x21: "HBM2",
    0x22: "DDR5",
    0x23: "LPDDR5",
    0x24: "HBM3",
}
"""DMTF DSP0134, table 78."""
_KIB_FLAG: Final = 0x8000
_EXTENDED: Final = 0x7FFF


@dataclass(frozen=True, slots=True)
class MemoryModule:
    """One module. `speed_mts`: million transfers a second, as configured, else as rated."""

    slot: str | None
    size_bytes: int
    kind: str | None = None
    speed_mts: int | None = None
    manufacturer: str | None = None
    part_number: str | None = None


def memory_modules(table: bytes) -> tuple[MemoryModule, ...]:
    """The modules of an SMBIOS structure table, empty sockets left out. Stops where the bytes make no sense."""
    found = (_module(data, strings) for kind, data, strings in _structures(table) if kind == _MEMORY_DEVICE)
    return tuple(module for module in found if module is not None)


def _structures(table: bytes) -> Iterator[tuple[int, bytes, list[str]]]:
    """(type, formatted part, strings) of each structure."""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if length < 4 or at + length > len(table) or kind == _END:
            return
        end = table.find(b"\0\0", at + length)
        if end < 0:
            return
        strings = table[at + length : end].split(b"\0")
        yield kind, table[at : at + length], [text.decode("ascii", "replace").strip() for text in strings]
        at = end + 2


def _module(data: bytes, strings: list[str]) -> MemoryModule | None:
    size = _size_bytes(data)
    if not size:
        return None
    speed = _word(data, 0x20) or _word(data, 0x15)
    return MemoryModule(
        slot=_string(data, 0x10, strings),
        size_bytes=size,
        kind=_KINDS.get(data[0x12]) if len(data) > 0x12 else None,
        speed_mts=speed if speed and speed != 0xFFFF else None,
        manufacturer=_string(data, 0x17, strings),
        part_number=_string(data, 0x1A, strings),
    )


def _size_bytes(data: bytes) -> int:
    """0: the socket is empty, or its size unknown."""
    size = _word(data, 0x0C)
    if size == _EXTENDED and len(data) >= 0x20:
        (mebibytes,) = struct.unpack_from("<I", data, 0x1C)
        return int(mebibytes & 0x7FFFFFFF) << 20
    if size == 0xFFFF:
        return 0
    return (size & ~_KIB_FLAG) << 10 if size & _KIB_FLAG else size << 20


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little") if len(data) >= at + 2 else 0


def _string(data: bytes, at: int, strings: list[str]) -> str | None:
    """Strings are numbered from 1; 0 is none."""
    number = data[at] if len(data) > at else 0
    return strings[number - 1] or None if 0 < number <= len(strings) else None
