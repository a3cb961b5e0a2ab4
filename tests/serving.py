"""A whole server for tests: the real router, real workers and our HTTP protocol on a loopback port of its own.

python -m tests.serving MODELS_YAML [key=value ...]    prints its port, then serves until its stdin ends
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from heylook_llm import __version__, config, registry
from heylook_llm.bench.jobs import Own, Setting
from heylook_llm.bench.kept import Kept
from heylook_llm.bench.web import Bench
from heylook_llm.server.app import create_app
from heylook_llm.server.endpoint import Options
from heylook_llm.server.generate import Pace
from heylook_llm.server.guard import GuardOptions
from heylook_llm.server.http import BoundedProtocol, uvicorn_config
from heylook_llm.server.imports import Imports
from heylook_llm.server.machine import Machine
from heylook_llm.server.media import MediaOptions
from heylook_llm.server.performance.record import Finished
from heylook_llm.server.performance.recorder import Recorder
from heylook_llm.server.pulls import Pulls
from heylook_llm.server.reload import RegistryWatch
from heylook_llm.server.responses_store import ResponseStore
from heylook_llm.server.router import ModelRouter
from heylook_llm.worker.providers.fake_log import Log
from tests.delaying import Delaying

ROOT = Path(__file__).parent.parent


class Unrecorded(Recorder):
    """Keeps nothing."""

    def record(self, finished: Finished) -> None:
        """Nothing."""


def recorder_of(option: str | None, **limits: Any) -> Recorder:
    """`off`: keeps nothing; a path: keeps there; None: in memory."""
    return Unrecorded() if option == "off" else Recorder(None if option is None else Path(option), **limits)


def bench_of(folder: Path, port: int, key: str | None) -> Bench:
    """The bench's routes, which keep everything in this folder."""
    own = Own(f"http://127.0.0.1:{port}", key)
    calibration = folder / "calibration.json"
    return Bench(Setting(folder / "bench.sqlite3", Kept(folder / "targets.json"), __version__, calibration, own))


async def serve(path: Path, options: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    settings = config.load(path)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    bench = bench_of(path.parent, port, options.get("guard", {}).get("api_key"))
    machine = Machine(settings.hardware)
    router = ModelRouter(settings, note_steps=bool(machine.energy.counters))
    recorder = recorder_of(options.get("recorder"), **options.get("keeping", {}))
    watch = RegistryWatch(path, lambda: registry.load(path), router.configure, settings)
    made = Options(
        **(_following(watch, options["import_roots"]) if "import_roots" in options else {}),
        data_folder=Path(options["data_folder"]) if "data_folder" in options else None,
        api=options.get("api", "both"),
        guard=GuardOptions(**options.get("guard", {})),
        limits=settings.limits,
        pace=Pace(**options.get("pace", {})),
        recorder=recorder,
        media=MediaOptions(**options.get("media", {})),
        responses=ResponseStore(Path(options["responses"])) if "responses" in options else None,
        machine=machine,
        record_text=options.get("record_text", False),
        schemas=bench.schemas,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        router.start()
        recorder.open()
        yield
        await bench.close()
        if made.pulls is not None:
            await made.pulls.close()
        await router.close(0.5)
        await app.state.server.responses.close()
        await asyncio.to_thread(recorder.close)

    more = {"http": options["http"]} if "http" in options else {}
    more |= options.get("sockets", {})
    app = create_app(router, made, [bench.router], lifespan)
    if "delays" in options:
        app.add_middleware(Delaying, log=Log(options["delays"]))
    settings_of_http = uvicorn_config(app, "127.0.0.1", 0, **more)
    server = uvicorn.Server(settings_of_http)
    task = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            raise SystemExit(1)
    print(port, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    server.should_exit = True
    await task


def _following(watch: RegistryWatch, roots: list[str]) -> dict[str, Any]:
    """A registry that can be changed while it is served: by settings, pulls, and imports from these folders."""
    return {
        "registry": watch,
        "pulls": Pulls(watch.path, watch.read_anew),
        "imports": Imports(watch.path, watch.read_anew, [Path(root) for root in roots]),
    }


class Impatient(BoundedProtocol):
    """Our protocol with short time limits."""

    head_seconds = 0.3
    body_idle_seconds = 0.3
    linger_seconds = 0.3


class Running:
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port

    @property
    def url(self) -> str:
        """Its root, without a slash."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def running(
    models: str, folder: Path, *, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Running]:
    """A server over these models (YAML text), started and stopped; `environment` adds to ours."""
    path = folder / "models.yaml"
    path.write_text(models)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving", str(path), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Running(process, int(process.stdout.readline()))
    finally:
        process.stdin.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


if __name__ == "__main__":
    # The loop that `heylookllm` runs on, too.
    new_loop = uvicorn.Config(lambda: None, log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}))
