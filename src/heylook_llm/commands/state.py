"""What the commands keep in the user's folders: the address of the running server, its log, the chat's history."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import platformdirs

APPLICATION: Final = "heylookllm"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server of this user, as it noted itself when it began to listen."""

    pid: int
    url: str
    """http://host:port, or unix:/path."""
    config: str
    log: str | None

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def state_folder() -> Path:
    """Where state is kept; only this user may look into it. Raises OSError where nothing can be written."""
    folder = Path(platformdirs.user_state_dir(APPLICATION, appauthor=False))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def performance_file() -> Path:
    """Where servers keep what they measure; it may not exist."""
    return Path(platformdirs.user_state_dir(APPLICATION, appauthor=False)) / "performance.sqlite3"


def bench_file() -> Path:
    """Where runs of the bench are kept. Raises OSError where nothing can be written."""
    return state_folder() / "bench.sqlite3"


def targets_file() -> Path:
    """The targets of the bench that the user keeps, with their keys. Raises OSError where nothing can be written."""
    return state_folder() / "bench-targets.json"


def calibration_file() -> Path:
    """What the bench last found of its own stamps. Raises OSError where nothing can be written."""
    return state_folder() / "bench-calibration.json"


def responses_file() -> Path:
    """Where servers keep responses; it may not exist."""
    return Path(platformdirs.user_state_dir(APPLICATION, appauthor=False)) / "responses.sqlite3"


def log_folder() -> Path:
    """Where servers log. Raises OSError where nothing can be written."""
    folder = Path(platformdirs.user_log_dir(APPLICATION, appauthor=False))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def config_folder() -> Path:
    """Where a models.yaml of the user's own is looked for; it may not exist."""
    return Path(platformdirs.user_config_dir(APPLICATION, appauthor=False))


def note_server(server: RunningServer) -> None:
    """Note the server that now listens, for the commands that look for it."""
    path = state_folder() / "server.json"
    draft = path.with_suffix(f".{server.pid}")
    draft.write_text(json.dumps(asdict(server)), encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)


def forget_server(pid: int) -> None:
    """Remove the note, if it is this process's."""
    server = running_server()
    if server is not None and server.pid == pid:
        (state_folder() / "server.json").unlink(missing_ok=True)


def running_server() -> RunningServer | None:
    """The server noted last, if its process lives."""
    try:
        server = RunningServer(**json.loads((state_folder() / "server.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return server if server.alive else None


def server_url(explicit: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Whom client commands speak to: --url, $OLLAMA_HOST, the noted server, http://127.0.0.1:8080."""
    if explicit:
        return explicit
    if host := environment.get("OLLAMA_HOST", "").strip():
        return ollama_host_url(host)
    server = running_server()
    return server.url if server is not None else "http://127.0.0.1:8080"


def ollama_host_url(host: str) -> str:
    """OLLAMA_HOST, which may lack scheme and port, as a URL; an address that means "all" becomes loopback."""
    scheme, _, rest = host.rpartition("://")
    scheme = scheme or "http"
    rest = rest.rstrip("/")
    bare = rest.startswith("[") and rest.endswith("]")
    name, separator, port = (rest, "", "") if bare else rest.rpartition(":")
    if not separator:
        name, port = rest, ""
    if not port:
        port = {"https": "443"}.get(scheme, "80" if "://" in host else "11434")
    name = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(name, name)  # noqa: S104
    return f"{scheme}://{name}:{port}"
