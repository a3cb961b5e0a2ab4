"""Imports while the server runs: below folders that the operator allows, one at a time, ended with its client."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from heylook_llm import registry
from heylook_llm.catalog import import_plan, importing, stores
from heylook_llm.catalog.import_plan import Plan, Wishes
from heylook_llm.catalog.importing import Findings, Sources
from heylook_llm.errors import BadRequest, Cancelled, ConfigError, Conflict, Forbidden, Overloaded, TooLarge

SCAN_SECONDS: Final = 60.0
"""A scan that takes longer ends with an error; 10,000 files take a second or two."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks. Without any place: every one that is allowed and there."""

    folders: tuple[str, ...] = ()
    hugging_face: bool = False
    ollama: bool = False
    lm_studio: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    preview: bool = False
    """Nothing is written."""
    digest: str | None = None
    """Of the preview that is to be written; None: whatever is found."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it."""

    findings: Findings
    plan: Plan
    written: bool


class Imports:
    """Imports into the registry at `path`; `follow_file` makes the server read that anew.

    `roots` are the folders that may be looked into. None: where Hugging Face, Ollama and LM Studio keep models.
    """

    def __init__(self, path: Path, follow_file: Callable[[], Awaitable[None]], roots: Sequence[Path] | None) -> None:
        self._path = path
        self._follow_file = follow_file
        self._roots = None if roots is None else tuple(roots)
        self._running = False

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that may be looked into."""
        return self._roots if self._roots is not None else _stores()

    async def run(self, order: Order) -> Imported:
        """Look, and write unless it is a preview. Cancelling it ends the look.

        Raises Forbidden, BadRequest, TooLarge, Conflict, Overloaded.
        """
        if self._running:
            raise Overloaded(
                "Another import is looking for models; try again when it has ended.", retry_after_seconds=5
            )
        over, deadline = threading.Event(), time.monotonic() + SCAN_SECONDS

        def check() -> None:
            if over.is_set():
                raise Cancelled("The client left.")
            if time.monotonic() > deadline:
                raise TooLarge(f"Looking took more than {SCAN_SECONDS:.0f} s; name smaller folders.")

        self._running = True
        try:
            imported = await asyncio.to_thread(self._run, order, check)
        finally:
            over.set()
            self._running = False
        if imported.written:
            await self._follow_file()
        return imported

    def _run(self, order: Order, check: Callable[[], None]) -> Imported:
        try:
            import_plan.check_overrides(order.wishes.overrides)
            findings = importing.find(self._sources(order), check)
            with contextlib.nullcontext() if order.preview else registry.changing(self._path):
                plan = import_plan.merged(findings, order.wishes, self._path)
                check()
                if order.digest is not None and order.digest != plan.digest:
                    words = "What would be written is no longer what the preview showed; look at it again."
                    raise Conflict(words, code="plan_changed", param="plan")
                written = bool(plan.new) and not order.preview
                if written:
                    registry.write(plan.target, plan.text)
        except ConfigError as error:
            raise BadRequest(error.message.replace(f"{self._path.parent}/", "")) from error
        return Imported(findings, plan, written)

    # ---- where a client may look -------------------------------------------------------------------------------------

    def _sources(self, order: Order) -> Sources:
        hub, ollama, studio = _stores()
        allowed = [root.resolve() for root in self.roots]
        if not (order.folders or order.hugging_face or order.ollama or order.lm_studio):
            return _everywhere(allowed, hub, ollama, studio)
        return Sources(
            tuple(_below(allowed, folder) for folder in order.folders),
            _below(allowed, str(hub)) if order.hugging_face else None,
            _below(allowed, str(ollama)) if order.ollama else None,
            _below(allowed, str(studio)) if order.lm_studio else None,
        )


def _stores() -> tuple[Path, Path, Path]:
    """Where Hugging Face, Ollama and LM Studio keep models."""
    return stores.hugging_face_cache(), stores.ollama_store(), stores.lm_studio_folder()


def _everywhere(allowed: list[Path], hub: Path, ollama: Path, studio: Path) -> Sources:
    """Every allowed place that is there, other programs' stores as what they are."""
    found = [
        place if place.is_dir() and _is_below(allowed, place.resolve()) else None for place in (hub, ollama, studio)
    ]
    known = {place.resolve() for place in (hub, ollama, studio)}
    return Sources(tuple(root for root in allowed if root.is_dir() and root not in known), *found)


def _below(allowed: list[Path], folder: str) -> Path:
    """A named folder as it really lies. Raises Forbidden where that is outside, the same whether it exists or not."""
    if "\0" in folder or not os.path.isabs(folder):
        raise BadRequest(f"'{folder[:200]!a}' is no absolute path of a folder.", param="folders")
    path = Path(folder).resolve()
    if not _is_below(allowed, path):
        raise Forbidden(
            f"'{folder[:200]}' doesn't lie in a folder that this server may look into. To allow it, start with "
            "--import-root DIR.",
            code="folder_not_allowed",
            param="folders",
        )
    return path


def _is_below(allowed: list[Path], path: Path) -> bool:
    return any(path.is_relative_to(root) for root in allowed)
