"""Images as tokens: what stands for one in a prompt, and what was computed of it, kept within a budget.

In a worker an image is a run of negative token ids, one for each of the engine's positions. They are made of a hash of
its size and pixels, so equal images are equal tokens to whatever shares, keeps and recomputes prefixes; and of 62 bits
each, so different ones have none in common. The first of a run is marked, for images may follow each other directly.

Such ids are never drawn, shown or guessed, and no vocabulary has them: `words` leaves them out.
"""

import hashlib
import itertools
import re
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import Final, Generic, TypeVar

from heylook_llm import core
from heylook_llm.errors import BadRequest

MOST_PIXELS: Final = 1 << 26
"""The server sends no larger ones."""
SHOWN: Final = "<image>"
"""What stands for an image where a prompt is shown as text."""
_BLOCK_BYTES: Final = 8


def check(image: core.ImagePart) -> None:
    """Refuse an image whose bytes aren't its pixels. Raises BadRequest."""
    width, height = image.width, image.height
    if width < 1 or height < 1 or width * height > MOST_PIXELS or len(image.rgb) != 3 * width * height:
        raise BadRequest(
            f"An image of {width} x {height} pixels can't be read from {len(image.rgb)} bytes.", param="messages"
        )


def digest_of(image: core.ImagePart) -> bytes:
    """What tells images apart: a hash of size and pixels. Reading them all takes a while; a Gallery remembers it."""
    found = hashlib.sha256(image.width.to_bytes(8) + image.height.to_bytes(8))
    found.update(image.rgb)
    return found.digest()


# ---- ids -------------------------------------------------------------------------------------------------------------


def ids_of(digest: bytes, count: int) -> tuple[int, ...]:
    """The token ids of a run of so many positions, negative and within 64 bits; the first one is marked as such."""
    stream = hashlib.shake_128(digest).digest(_BLOCK_BYTES * count)
    numbers = (int.from_bytes(stream[at : at + _BLOCK_BYTES]) >> 2 for at in range(0, len(stream), _BLOCK_BYTES))
    return tuple(-1 - (number << 1 | (at == 0)) for at, number in enumerate(numbers))


def begins_run(token: int) -> bool:
    """Whether an image begins with this token."""
    return token < 0 and bool((-1 - token) & 1)


def has_images(tokens: Seq[int]) -> bool:
    """Whether images are among the tokens."""
    return min(tokens, default=0) < 0


def is_within_run(tokens: Seq[int], at: int) -> bool:
    """Whether a cut before this place would go through an image."""
    return 0 < at < len(tokens) and tokens[at] < 0 and not begins_run(tokens[at])


def run_start(tokens: Seq[int], at: int) -> int:
    """The nearest place, not behind `at`, where tokens can be cut without going through an image."""
    while is_within_run(tokens, at):
        at -= 1
    return at


def run_end(tokens: Seq[int], at: int) -> int:
    """The nearest place, not before `at`, where tokens can be cut without going through an image."""
    while is_within_run(tokens, at):
        at += 1
    return at


def words(tokens: Seq[int], most: int | None = None) -> list[int]:
    """The tokens that aren't of images; of many only the last `most`."""
    if most is None:
        return [token for token in tokens if token >= 0]
    if most <= 0:
        return []
    last = list(tokens[-most:])
    if not has_images(last):
        return last
    found = list(itertools.islice((token for token in reversed(tokens) if token >= 0), most))
    found.reverse()
    return found


# ---- in a template's text --------------------------------------------------------------------------------------------


class Marks:
    """Texts that stand for images while a template is rendered: nobody can guess them, so no text passes for an image.

    They are letters and digits only, which templates leave alone.
    """

    def __init__(self) -> None:
        self.images: list[core.ImagePart] = []
        self._secret = f"image{secrets.token_hex(16)}number"
        self._pattern = re.compile(f"{self._secret}(\\d+)end")

    def mark(self, image: core.ImagePart) -> str:
        """The text for an image. Raises BadRequest."""
        check(image)
        self.images.append(image)
        return f"{self._secret}{len(self.images) - 1}end"

    def missing(self, text: str) -> bool:
        """Whether an image doesn't stand in this text."""
        return len(set(self._pattern.findall(text))) < len(self.images)

    def split(self, text: str) -> Iterator[str | core.ImagePart]:
        """The text's pieces, and between them its images."""
        for at, piece in enumerate(self._pattern.split(text)):
            yield self.images[int(piece)] if at % 2 else piece

    def shown(self, text: str) -> str:
        """The text for people to read."""
        return self._pattern.sub(SHOWN, text)


# ---- what was computed -----------------------------------------------------------------------------------------------

R = TypeVar("R")


class Seen(Generic[R]):
    """What an engine needs to compute an image's tokens. Who holds it keeps it."""

    __slots__ = ("__weakref__", "places", "rows", "size", "tokens")

    def __init__(self, tokens: tuple[int, ...], rows: R, size: int) -> None:
        """`tokens`: what stands for it in a prompt; `size`: bytes of `rows`, one for each of its negative ids."""
        self.tokens = tokens
        self.rows = rows
        self.size = size
        self.places = {token: at for at, token in enumerate(token for token in tokens if token < 0)}
        """Id -> the number of its row."""


class Gallery(Generic[R]):
    """What was computed of images: the latest within a budget, and whatever a sequence still holds.

    Preparers put, the step loop looks up, so every call takes a lock, none for long.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._latest: OrderedDict[bytes, Seen[R]] = OrderedDict()
        self._bytes = 0
        self._all: weakref.WeakValueDictionary[bytes, Seen[R]] = weakref.WeakValueDictionary()
        self._by_first: weakref.WeakValueDictionary[int, Seen[R]] = weakref.WeakValueDictionary()
        """By the first id of each run."""
        self._digests: weakref.WeakKeyDictionary[core.ImagePart, bytes] = weakref.WeakKeyDictionary()

    def digest(self, image: core.ImagePart) -> bytes:
        """The image's digest, which is asked for each time that its prompt is tried in the context."""
        with self._lock:
            found = self._digests.get(image)
        if found is None:
            found = digest_of(image)
            with self._lock:
                self._digests[image] = found
        return found

    def find(self, digest: bytes) -> Seen[R] | None:
        """What was computed of an image, which counts as a use of it."""
        with self._lock:
            seen = self._all.get(digest)
            if seen is not None:
                self._keep(digest, seen)
            return seen

    def put(self, digest: bytes, seen: Seen[R]) -> None:
        """Keep what was computed."""
        with self._lock:
            self._all[digest] = seen
            self._by_first.update((token, seen) for token in seen.tokens if begins_run(token))
            self._keep(digest, seen)

    def owner(self, token: int) -> Seen[R] | None:
        """Whose id this is; None: nobody holds that image any more."""
        with self._lock:
            if begins_run(token):
                return self._by_first.get(token)
            return next((seen for seen in self._all.values() if token in seen.places), None)

    def _keep(self, digest: bytes, seen: Seen[R]) -> None:
        if seen.size > self._limit_bytes:
            return
        known = self._latest.pop(digest, None)
        self._bytes -= known.size if known is not None else 0
        self._latest[digest] = seen
        self._bytes += seen.size
        while self._bytes > self._limit_bytes:
            self._bytes -= self._latest.popitem(last=False)[1].size
