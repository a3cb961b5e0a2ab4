"""What a Hugging Face hub answers: each answer within bounds, each failure with whether it may pass.

Session, token and addresses are huggingface_hub's. Its calls above those aren't used, because they read answers of any
size, unpack what comes packed, carry the token to wherever a listing's next page is said to lie, sleep for as long as a
server asks, and don't look where the bytes of a resumed file begin.
"""

import contextlib
import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from heylook_llm.catalog.hub import MAX_FILES, RemoteFile
from heylook_llm.errors import PullFailed

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES: Final = 16 << 20
"""Of a listing's page."""
MAX_FILE_BYTES: Final = 1 << 50
CONNECT_SECONDS: Final = 5.0
"""A hub that can't be connected to for so long can't be reached."""
LISTING_SECONDS: Final = 30.0
"""Without a byte of a listing for so long, it is asked for anew; for files it is $HF_HUB_DOWNLOAD_TIMEOUT."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40,64}")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_REFUSALS: Final = {
    401: ("hub_unauthorized", "the hub wants a token, or has no such repository: set HF_TOKEN, or look at the name"),
    403: ("hub_gated", "access to this repository is gated: accept its terms on the hub, and set HF_TOKEN"),
    404: ("hub_not_found", "the hub has no such repository or file"),
}
_PASSING: Final = (408, 416, 425, 429)


class Trouble(Exception):
    """A request failed. `error` is what the user is told."""

    def __init__(
        self,
        error: PullFailed,
        *,
        status: int | None = None,
        passes: bool = False,
        wait_seconds: float | None = None,
        unreached: bool = False,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        """The hub's, if it answered."""
        self.passes = passes
        """Whether the same request may go well later."""
        self.wait_seconds = wait_seconds
        """... and when, as the hub says."""
        self.unreached = unreached
        """There was no connection at all."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A file's bytes as they come."""

    begins: int
    """Where in the file they begin: where they were asked for, or at 0 if the server can't, or has another file."""
    size: int | None
    """Of the whole file, as the server says."""
    etag: str | None
    """The server's name of its content, if it is one that tells every change."""
    pieces: Iterator[bytes]


class HubClient:
    """One repository of a hub. Every method raises Trouble."""

    def __init__(self, repository: str, endpoint: str | None) -> None:
        from huggingface_hub import constants  # noqa: PLC0415 (a third of a second)
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # noqa: PLC0415 (not in __all__)

        self._repository = repository
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._file_seconds = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self._headers = {**build_hf_headers(library_name="heylookllm"), "Accept-Encoding": "identity"}

    def commit(self) -> str:
        """What `main` is now."""
        told, _ = self._json(f"{self._endpoint}/api/models/{self._repository}")
        commit = told.get("sha") if isinstance(told, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise self._trouble("the hub names no commit")
        return commit

    def files(self, commit: str) -> list[RemoteFile]:
        """Every file of a commit."""
        found: list[RemoteFile] = []
        page: str | None = f"{self._endpoint}/api/models/{self._repository}/tree/{commit}?recursive=true"
        while page is not None:
            listed, page = self._json(page)
            if not isinstance(listed, list):
                raise self._trouble("the hub's listing is none")
            found += [self._file(entry) for entry in listed if not _is_folder(entry)]
            if len(found) > MAX_FILES:
                raise self._trouble(f"it lists more than {MAX_FILES} files", "too_many_files")
        return found

    def _file(self, entry: Any) -> RemoteFile:
        """An entry of a listing, each part of which is checked: digests become parts of file names."""
        large = entry.get("lfs") if isinstance(entry, dict) else None
        sha256 = large.get("oid") if isinstance(large, dict) else None
        match entry:
            case {"path": str(path), "size": int(size), "oid": str(sha1)}:
                fits = 0 <= size < MAX_FILE_BYTES and _SHA1.fullmatch(sha1)
                if fits and (sha256 is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256))):
                    return RemoteFile(path, size, sha1, sha256)
        raise self._trouble("the hub's listing holds something that is no file")

    @contextlib.contextmanager
    def stream(self, file: RemoteFile, commit: str, begin: int, etag: str | None) -> Iterator[Stream]:
        """A file's bytes from `begin`, if it still is what it was under `etag`; else all of them."""
        from huggingface_hub import hf_hub_url  # noqa: PLC0415

        url = hf_hub_url(self._repository, file.path, revision=commit, endpoint=self._endpoint)
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        if begin and etag is not None:
            headers["If-Range"] = etag
        with self._answer(url, headers, self._file_seconds) as response:
            now = response.headers.get("etag")
            strong = now if now is not None and now.startswith('"') else None
            yield Stream(*self._place(response, begin), strong, response.iter_raw())

    def _place(self, response: "httpx2.Response", begin: int) -> tuple[int, int | None]:
        """Where an answer's bytes begin, and the file's size."""
        if response.status_code == 200:
            length = response.headers.get("content-length", "")
            return 0, int(length) if length.isdecimal() else None
        match = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or int(match[1]) != begin:
            raise self._trouble("the hub sent another part of the file than it was asked for", passes=True)
        return begin, None if match[2] == "*" else int(match[2])

    # ---- one answer --------------------------------------------------------------------------------------------------

    def _json(self, url: str) -> tuple[Any, str | None]:
        """A JSON answer, and where the next page of it lies."""
        body = bytearray()
        with self._answer(url, {}, LISTING_SECONDS) as response:
            for piece in response.iter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise self._trouble(f"the hub's answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
            following = response.links.get("next", {}).get("url")
        if following is not None and not following.startswith(f"{self._endpoint}/"):
            raise self._trouble("the hub's listing goes on at another address, which is not followed")
        try:
            return json.loads(body), following
        except (ValueError, RecursionError) as error:
            raise self._trouble("the hub's answer is not JSON", passes=True) from error

    @contextlib.contextmanager
    def _answer(self, url: str, headers: Mapping[str, str], seconds: float) -> Iterator["httpx2.Response"]:
        """A good answer. What goes wrong while its body is read becomes Trouble, too."""
        import httpx2  # noqa: PLC0415 (huggingface_hub's own)
        from huggingface_hub import get_session  # noqa: PLC0415
        from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415

        timeout = httpx2.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
        try:
            with get_session().stream("GET", url, headers={**self._headers, **headers}, timeout=timeout) as response:
                self._refuse(response)
                yield response
        except OfflineModeIsEnabled as error:
            raise self._trouble("HF_HUB_OFFLINE is set", "hub_unreachable") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            unreached = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            words = f"the hub can't be reached ({type(error).__name__})"
            if unreached:
                words = "the hub can't be reached: look at the network, or at HF_ENDPOINT"
            raise self._trouble(words, "hub_unreachable", passes=True, unreached=unreached) from error

    def _refuse(self, response: "httpx2.Response") -> None:
        status = response.status_code
        if status in (200, 206):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise self._trouble("the hub sent packed bytes, which it was asked not to")
            return
        gated = response.headers.get("x-error-code") == "GatedRepo"
        code, words = _REFUSALS.get(403 if gated else status, ("hub_failed", f"the hub answered {status}"))
        passes = status in _PASSING or status >= 500
        raise self._trouble(words, code, status=status, passes=passes, wait_seconds=_wait_seconds(response.headers))

    def _trouble(self, words: str, code: str = "hub_failed", **more: Any) -> Trouble:
        return Trouble(PullFailed(f"{self._repository}: {words}.", code=code), **more)


def _is_folder(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "directory"


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """How long the hub asks to wait: Retry-After in both its forms, or the reset of a used-up rate."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined] # noqa: PLC0415 (as above)

    rate = parse_ratelimit_headers(headers)
    if rate is not None and rate.remaining == 0:
        return float(rate.reset_in_seconds)
    given = headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
