"""The command line: declares every command and its options, and composes the server from its parts.

Exit status: 0 it did what was asked; 1 it failed, and one line says why; 2 the command line or models.yaml is wrong;
130 interrupted. What a command needs is imported when it runs, so that each starts fast.
"""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from heylook_llm import __version__
from heylook_llm.errors import ConfigError, HeylookError

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from heylook_llm.bench.web import Bench
    from heylook_llm.commands.client import Client
    from heylook_llm.config import KeepingResponses, Recording, Settings
    from heylook_llm.server.guard import GuardOptions
    from heylook_llm.server.machine import Machine
    from heylook_llm.server.performance.recorder import Recorder
    from heylook_llm.server.reload import RegistryWatch
    from heylook_llm.server.responses_store import ResponseStore
    from heylook_llm.server.router import ModelRouter

Api = Literal["openai", "ollama", "both"]
MediaUrls = Literal["public", "listed", "off"]
Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080
OLLAMA_PORT: Final = 11434
LOOPBACK: Final = ("127.", "localhost", "::1")
AUTO: Final = "auto"
SWITCH_SECONDS: Final = 0.0005
"""How long work off the event loop may keep the interpreter from it. Python's default, 5 ms, holds up a stream's token
at each of its few calls to the system."""


def main() -> None:
    """The console script. Our errors become one line on stderr and an exit status."""
    try:
        status = heylookllm.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    except HeylookError as error:
        click.echo(f"Error: {error.message}", err=True)
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    raise SystemExit(status or 0)


class _ServeByDefault(click.Group):
    """`heylookllm --port 9000` is `heylookllm serve --port 9000`."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        ours = ("--help", "-h", "--version")
        if not arguments or (arguments[0].startswith("-") and arguments[0] not in ours):
            arguments = ["serve", *arguments]
        return super().parse_args(context, arguments)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(context, formatter)
        rows = [row for option in serve.params if (row := option.get_help_record(context)) is not None]
        with formatter.section("Options of serve, which may stand without its name"):
            formatter.write_dl(rows)


@click.group(cls=_ServeByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="heylookllm", message="%(prog)s %(version)s")
def heylookllm() -> None:
    """A local model server that measures itself. Without a command it serves."""


# ---- serve -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `serve`, as they were given."""

    api: Api
    host: str | None
    port: int | None
    ollama_port: int | None
    uds: Path | None
    log_level: str
    model_id: str | None
    config: str | None
    api_key: str | None
    allow_host: tuple[str, ...]
    allow_origin: tuple[str, ...]
    allow_app_origins: bool
    open_admin: bool
    media_urls: MediaUrls
    allow_media_host: tuple[str, ...]
    import_root: tuple[Path, ...]
    drain_seconds: float | None
    performance_file: str | None
    record_text: bool = False


@heylookllm.command()
@click.option(
    "--api",
    type=click.Choice(["openai", "ollama", "both"]),
    default="both",
    show_default=True,
    help="Which API to speak; both speaks both on one port.",
)
@click.option("--host", help=f"Address to listen on; 0.0.0.0 is every network.  [default: {DEFAULT_HOST}]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port to listen on.  [default: {DEFAULT_PORT}, or {OLLAMA_PORT} with --api ollama]",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="How much to log.",
)
@click.option("--model-id", metavar="MODEL", help="Model to load at the start instead of default_model.")
@click.option(
    "--ollama-port",
    type=click.IntRange(0, 65535),
    help=f"A second port, so that Ollama clients work unconfigured: {OLLAMA_PORT}.",
)
@click.option("--uds", type=click.Path(path_type=Path), metavar="PATH", help="Listen on this Unix socket, not a port.")
@click.option("--config", metavar="FILE", help="The models.yaml to serve.  [default: ./, your config folder, bundled]")
@click.option("--api-key", envvar="HEYLOOK_API_KEY", metavar="KEY", help="Ask callers for this key; auto makes one up.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further name callers may use for this machine.")
@click.option(
    "--allow-origin", multiple=True, metavar="ORIGIN", help="A web page's origin that may call, e.g. https://my.ui."
)
@click.option("--allow-app-origins", is_flag=True, help="Let desktop shells call (app:, tauri:, vscode-webview:).")
@click.option("--open-admin", is_flag=True, help="Let other machines load, unload and cancel without a key.")
@click.option(
    "--media-urls",
    type=click.Choice(["public", "listed", "off"]),
    default="public",
    show_default=True,
    help="Whose image URLs to fetch: any public host's, only those of --allow-media-host, or none.",
)
@click.option(
    "--allow-media-host",
    multiple=True,
    metavar="HOST",
    help="A host whose images may be fetched wherever it is, e.g. nas.lan or *.my.net.",
)
@click.option(
    "--import-root",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder that imports over HTTP may look into.  [default: where Hugging Face, Ollama, LM Studio keep models]",
)
@click.option("--drain-seconds", type=click.FloatRange(min=0), help="How long requests may finish at the end.")
@click.option(
    "--performance-file",
    metavar="FILE",
    help="Where measurements are kept; memory writes none.  [default: in your state folder]",
)
@click.option(
    "--record-text",
    is_flag=True,
    help="Keep prompts and answers beside the measurements, readable by you. They may hold secrets.",
)
def serve(**given: Any) -> None:
    """Serve the models of models.yaml over the OpenAI, Anthropic and Ollama APIs."""
    from heylook_llm import config  # noqa: PLC0415
    from heylook_llm.commands import environment  # noqa: PLC0415

    source = click.get_current_context().get_parameter_source("log_level")
    if source is click.core.ParameterSource.DEFAULT and environment.is_on(os.environ, "DEBUG"):
        given["log_level"] = "DEBUG"
    options = ServeOptions(**given)
    path = config.locate(options.config)
    _serve(options, _read_settings(options, path), path)


def _read_settings(options: ServeOptions, path: Path) -> "Settings":
    """models.yaml and its overlay, below the variables and the options. Raises ConfigError."""
    from heylook_llm import registry  # noqa: PLC0415
    from heylook_llm.commands import environment  # noqa: PLC0415

    return with_options(environment.applied(registry.load(path), os.environ), options)


def with_options(settings: "Settings", options: ServeOptions) -> "Settings":
    """--model-id, --drain-seconds and --performance-file stand above the file. Raises ConfigError."""
    from heylook_llm.config import IN_MEMORY, named  # noqa: PLC0415

    changes: dict[str, Any] = {}
    if options.drain_seconds is not None:
        changes["limits"] = settings.limits.model_copy(update={"drain_seconds": options.drain_seconds})
    if options.performance_file is not None:
        file = options.performance_file  # of the working directory, unlike the file's own
        file = file if file == IN_MEMORY else str(Path(file).expanduser().absolute())
        changes["performance"] = settings.performance.model_copy(update={"file": file})
    if options.model_id is not None:
        if (spec := named(settings.enabled, options.model_id)) is None:
            known = ", ".join(spec.id for spec in settings.enabled) or "none"
            raise ConfigError(f"--model-id {options.model_id}: no such model is enabled; there are: {known}")
        changes |= {"default_model": spec.id, "prewarm": True}
    return settings.model_copy(update=changes)


def addresses(options: ServeOptions, environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Where to listen. With --api ollama, OLLAMA_HOST names it as it does for `ollama serve`."""
    host, port = options.host, options.port
    given = environment.get("OLLAMA_HOST", "").strip()
    if options.api == "ollama" and host is None and port is None and given:
        host, port = _host_and_port(given)
    host = host or DEFAULT_HOST
    if port is None:
        port = OLLAMA_PORT if options.api == "ollama" else DEFAULT_PORT
    seconds = [] if options.ollama_port in (None, port) else [(host, options.ollama_port or 0)]
    return [(host, port), *seconds]


def _host_and_port(text: str) -> tuple[str, int]:
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        return parts.hostname or DEFAULT_HOST, parts.port or OLLAMA_PORT
    except ValueError as error:
        raise ConfigError(f"OLLAMA_HOST={text}: {error}") from error


def _serve(options: ServeOptions, settings: "Settings", path: Path) -> None:
    """Bind first, so that a busy port shows at once; then compose, and serve until a signal."""
    from heylook_llm.commands import environment, listen, logs, state  # noqa: PLC0415

    sockets, where, log_name = _bound(options)
    listen.raise_open_files()
    sys.setswitchinterval(SWITCH_SECONDS)
    log = logs.start_logging(options.log_level.upper(), log_name)
    if names := environment.unheeded(os.environ):
        logging.getLogger(__name__).warning("These variables have no effect here: %s", ", ".join(names))
    api_key = _api_key(options)

    from heylook_llm.server.http import uvicorn_config  # noqa: PLC0415
    from heylook_llm.server.reload import RegistryWatch  # noqa: PLC0415
    from heylook_llm.server.router import ModelRouter  # noqa: PLC0415

    machine = _machine(settings)
    router = ModelRouter(settings, note_steps=bool(machine.energy.counters))
    watch = RegistryWatch(path, functools.partial(_read_settings, options, path), router.configure, settings)
    bench = _bench(where, api_key)
    app = _composed(options, settings, router, api_key, watch, machine=machine, bench=bench)
    live = app.state.server.place.live
    host = sockets[0].getsockname()[0] if options.uds is None else DEFAULT_HOST

    async def drain() -> None:
        if bench is not None:
            await bench.close()
        await router.close(settings.limits.drain_seconds)
        live.close()

    def started() -> None:
        note = state.RunningServer(os.getpid(), where, str(path.absolute()), str(log) if log else None)
        with contextlib.suppress(OSError):  # a read-only home
            state.note_server(note)
        _announce(settings, sockets, options, api_key, log)

    server = listen.Listener(
        uvicorn_config(app, host, 0, timeout_graceful_shutdown=listen.AFTER_DRAIN_SECONDS, backlog=listen.BACKLOG),
        drain=drain,
        started=started,
    )
    try:
        server.run(sockets=sockets)
    finally:
        machine.energy.close()
        with contextlib.suppress(OSError):
            state.forget_server(os.getpid())
        if options.uds is not None:
            options.uds.unlink(missing_ok=True)
    logging.getLogger(__name__).info("The server has ended.")


def _bound(options: ServeOptions) -> "tuple[list[socket.socket], str, str]":
    """The listening sockets, the address that clients use, and the log's name."""
    from heylook_llm.commands import listen  # noqa: PLC0415

    if options.uds is not None:
        return [listen.bind_unix(options.uds)], f"unix:{options.uds.absolute()}", "server-unix"
    sockets = [listen.bind(host, port) for host, port in addresses(options, os.environ)]
    return sockets, _url(sockets[0]), f"server-{sockets[0].getsockname()[1]}"


def _machine(settings: "Settings") -> "Machine":
    """The machine, with the energy counters that can be read here."""
    from heylook_llm.hardware.energy import open_energy  # noqa: PLC0415
    from heylook_llm.server.machine import Machine  # noqa: PLC0415

    return Machine(settings.hardware, open_energy(Path(settings.hardware.powercap)))


def _composed(
    options: ServeOptions,
    settings: "Settings",
    router: "ModelRouter",
    api_key: str | None,
    watch: "RegistryWatch",
    *,
    machine: "Machine",
    bench: "Bench | None",
) -> "FastAPI":
    """The app over the router, which lives as long as the app does."""
    from heylook_llm.server.app import create_app  # noqa: PLC0415
    from heylook_llm.server.creations import Creations  # noqa: PLC0415
    from heylook_llm.server.endpoint import Options  # noqa: PLC0415
    from heylook_llm.server.imports import Imports  # noqa: PLC0415
    from heylook_llm.server.media import MediaOptions  # noqa: PLC0415
    from heylook_llm.server.pulls import Pulls  # noqa: PLC0415

    pulls = Pulls(watch.path, watch.read_anew)
    creations = Creations(watch.path, watch.read_anew, pulls)
    roots = [root.expanduser().absolute() for root in options.import_root] or None
    recorder = _recorder(settings.performance, watch.path)
    store = _response_store(settings.responses, watch.path)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        router.start()
        recorder.open()
        await asyncio.to_thread(creations.blobs.prune, time.time())
        async with watch.following():
            yield
        if bench is not None:
            await bench.close()
        await pulls.close()
        await router.close(0)
        await app.state.server.responses.close()
        await asyncio.to_thread(recorder.close)

    served = Options(
        data_folder=_data_folder(),
        api=options.api,
        guard=guard_options(options, api_key, os.environ),
        limits=settings.limits,
        registry=watch,
        media=MediaOptions(options.media_urls, options.allow_media_host),
        pulls=pulls,
        creations=creations,
        imports=Imports(watch.path, watch.read_anew, roots),
        recorder=recorder,
        responses=store,
        machine=machine,
        record_text=options.record_text,
        schemas=dict if bench is None else bench.schemas,
    )
    return create_app(router, served, [] if bench is None else [bench.router], lifespan)


def _bench(where: str, api_key: str | None) -> "Bench | None":
    """The bench's routes over the runs of this user; None, as where nothing can be written."""
    from heylook_llm.bench.jobs import Own, Setting  # noqa: PLC0415
    from heylook_llm.bench.kept import Kept  # noqa: PLC0415
    from heylook_llm.bench.web import Bench  # noqa: PLC0415
    from heylook_llm.commands import state  # noqa: PLC0415

    own = Own(where, api_key) if where.startswith("http") else None
    try:
        kept, calibration = Kept(state.targets_file()), state.calibration_file()
        return Bench(Setting(state.bench_file(), kept, __version__, calibration, own))
    except OSError:
        return None


def _data_folder() -> Path | None:
    """Where files and batches are kept; None, as where nothing can be written: only as long as the server runs."""
    from heylook_llm.commands import state  # noqa: PLC0415

    try:
        return state.state_folder()
    except OSError:
        return None


def _recorder(recording: "Recording", registry: Path) -> "Recorder":
    """What keeps finished requests; a relative file stands beside models.yaml."""
    from heylook_llm.commands import state  # noqa: PLC0415
    from heylook_llm.config import IN_MEMORY  # noqa: PLC0415
    from heylook_llm.server.performance.recorder import Recorder  # noqa: PLC0415

    if recording.file == IN_MEMORY:
        return Recorder(keep_seconds=recording.keep)
    path = _kept_in(recording.file, registry, state.performance_file())
    return Recorder(path, keep_seconds=recording.keep, keep_bytes=recording.keep_bytes)


def _response_store(keeping: "KeepingResponses", registry: Path) -> "ResponseStore":
    """What keeps responses; a relative file stands beside models.yaml."""
    from heylook_llm.commands import state  # noqa: PLC0415
    from heylook_llm.config import IN_MEMORY  # noqa: PLC0415
    from heylook_llm.server.responses_store import ResponseStore  # noqa: PLC0415

    if keeping.file == IN_MEMORY:
        return ResponseStore(keep_seconds=keeping.keep)
    path = _kept_in(keeping.file, registry, state.responses_file())
    return ResponseStore(path, keep_seconds=keeping.keep, keep_bytes=keeping.keep_bytes)


def _kept_in(file: str | None, registry: Path, default: Path) -> Path:
    return default if file is None else registry.parent / Path(file).expanduser()


def _api_key(options: ServeOptions) -> str | None:
    """The key; `auto` makes one up and shows it, on the terminal and never in the log."""
    if options.api_key != AUTO:
        return options.api_key or None
    key = f"hl-{secrets.token_urlsafe(32)}"
    click.echo(f"API key of this run: {key}", err=True)
    return key


def guard_options(options: ServeOptions, api_key: str | None, environment: Mapping[str, str]) -> "GuardOptions":
    """Who may call; OLLAMA_ORIGINS adds to --allow-origin."""
    from heylook_llm.server.guard import GuardOptions  # noqa: PLC0415

    origins = [origin.strip() for origin in environment.get("OLLAMA_ORIGINS", "").split(",") if origin.strip()]
    return GuardOptions(
        allow_hosts=options.allow_host,
        allow_origins=(*options.allow_origin, *origins),
        allow_app_origins=options.allow_app_origins,
        api_key=api_key,
        open_admin=options.open_admin,
    )


def _url(listener: "socket.socket") -> str:
    """How this machine reaches a listener; an address that means "all" is reached by loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(
    settings: "Settings", sockets: "list[socket.socket]", options: ServeOptions, api_key: str | None, log: Path | None
) -> None:
    """What a user wants to know once it serves."""
    urls = [f"unix:{options.uds}"] if options.uds is not None else [_url(listener) for listener in sockets]
    apis = {
        "openai": "the OpenAI and Anthropic APIs",
        "ollama": "the Ollama API",
        "both": "the OpenAI, Anthropic and Ollama APIs",
    }
    models = ", ".join(spec.id for spec in settings.enabled) or "none; list some in models.yaml"
    click.echo(f"heylookllm {__version__} serves {apis[options.api]} on {' and '.join(urls)}")
    click.echo(f"  models: {models}")
    model = settings.default_model or next((spec.id for spec in settings.enabled), None)
    if model is not None:
        click.echo(f"  try it: {_curl(urls[0], options, model, api_key is not None)}")
    if options.uds is None and options.api != "ollama":
        click.echo(f"  API documentation: {urls[0]}/docs")
    if log is not None:
        click.echo(f"  log: {log}")
    if options.record_text:
        click.echo(
            "  WARNING: prompts and answers are kept beside the measurements (--record-text); they may hold secrets.",
            err=True,
        )
    open_hosts = [listener.getsockname()[0] for listener in sockets if options.uds is None]
    if api_key is None and not all(host.startswith(LOOPBACK) for host in open_hosts):
        click.echo(
            "  WARNING: other machines can reach this server and it asks for no key; whoever reaches it can use the "
            "models. --api-key auto makes a key up.",
            err=True,
        )


def _curl(url: str, options: ServeOptions, model: str, keyed: bool) -> str:
    path = "/api/chat" if options.api == "ollama" else "/v1/chat/completions"
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    target = f"--unix-socket {options.uds} http://localhost{path}" if options.uds is not None else f"{url}{path}"
    key = " -H 'Authorization: Bearer KEY'" if keyed else ""
    return f"curl {target}{key} -H 'Content-Type: application/json' -d '{body}'"


# ---- the running server's models -------------------------------------------------------------------------------------


def _of_server(command: Command) -> Command:
    """The options of commands that speak to the running server."""
    url = click.option("--url", metavar="URL", help="The server.  [default: $OLLAMA_HOST, else the one running here]")
    key = click.option("--api-key", envvar="HEYLOOK_API_KEY", metavar="KEY", help="Its key, if it asks for one.")
    return url(key(command))


def _client(url: str | None, api_key: str | None) -> "Client":
    from heylook_llm.commands.client import Client  # noqa: PLC0415
    from heylook_llm.commands.state import server_url  # noqa: PLC0415

    return Client(server_url(url), api_key)


class _Run(click.Command):
    """`--think` takes its value only after `=`, so that `run MODEL --think PROMPT` works as Ollama's users know it."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        return super().parse_args(context, ["--think=true" if word == "--think" else word for word in arguments])


@heylookllm.command(cls=_Run)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("--verbose", is_flag=True, help="Show timings after each answer.")
@click.option("--think", metavar="[=LEVEL]", help="Let the model think first; =false not, =low, =medium, =high, =max.")
@click.option("--hidethinking", is_flag=True, help="Don't show what it thinks.")
@click.option("--format", "answer_format", metavar="json", help="Ask for an answer in this format.")
@click.option("--keepalive", metavar="DURATION", help="Keep the model loaded so long afterwards: 5m, 1h, -1, 0.")
@click.option("--nowordwrap", is_flag=True, hidden=True, help="Accepted; lines are never wrapped.")
@_of_server
def run(  # noqa: PLR0917
    model: str,
    prompt: tuple[str, ...],
    verbose: bool,
    think: str | None,
    hidethinking: bool,
    answer_format: str | None,
    keepalive: str | None,
    nowordwrap: bool,
    url: str | None,
    api_key: str | None,
) -> None:
    """Chat with a model, or answer one PROMPT. What is piped in goes before the prompt."""
    from heylook_llm.commands import chat  # noqa: PLC0415

    conversation = chat.Conversation(
        model,
        think=_think(think),
        hide_thinking=hidethinking,
        format=answer_format,
        keep_alive=keepalive,
        verbose=verbose,
    )
    chat.run(_client(url, api_key), conversation, " ".join(prompt))


def _think(text: str | None) -> bool | str | None:
    if text is None or text in ("low", "medium", "high", "max"):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    raise click.UsageError(f"--think {text}: must be true, false, low, medium, high or max (write --think=low)")


@heylookllm.command("list")
@click.argument("prefix", default="")
@_of_server
def list_models(prefix: str, url: str | None, api_key: str | None) -> None:
    """List the models, or those whose name begins with PREFIX."""
    from heylook_llm.commands import models  # noqa: PLC0415

    models.show_list(_client(url, api_key), prefix)


heylookllm.add_command(click.Command("ls", params=list_models.params, callback=list_models.callback, hidden=True))


@heylookllm.command()
@_of_server
def ps(url: str | None, api_key: str | None) -> None:
    """List the models in memory."""
    from heylook_llm.commands import models  # noqa: PLC0415

    models.show_loaded(_client(url, api_key))


@heylookllm.command()
@click.argument("model")
@click.option("--template", "part", flag_value="template", help="Only its chat template.")
@click.option("--parameters", "part", flag_value="parameters", help="Only its parameters.")
@click.option("--system", "part", flag_value="system", help="Only its system message.")
@click.option("--license", "part", flag_value="license", help="Only its licence.")
@click.option("--modelfile", "part", flag_value="modelfile", help="Only its modelfile.")
@click.option("-v", "--verbose", is_flag=True, help="Also the file's metadata.")
@_of_server
def show(model: str, part: str | None, verbose: bool, url: str | None, api_key: str | None) -> None:
    """Show what a model is."""
    from heylook_llm.commands import models  # noqa: PLC0415

    models.show(_client(url, api_key), model, part, verbose)


@heylookllm.command()
@click.argument("model")
@_of_server
def stop(model: str, url: str | None, api_key: str | None) -> None:
    """Unload a model from memory."""
    from heylook_llm.commands import models  # noqa: PLC0415

    models.stop(_client(url, api_key), model)


@heylookllm.command()
@click.argument("model")
@click.option("--insecure", is_flag=True, hidden=True, help="Ollama's; the hub is $HF_ENDPOINT.")
@_of_server
def pull(model: str, insecure: bool, url: str | None, api_key: str | None) -> None:
    """Fetch MODEL from Hugging Face and serve it: org/repo, hf.co/org/repo:Q4_K_M, or a short name such as qwen3:0.6b.

    The running server fetches it; without one this command does. An interrupted pull goes on where it ended.
    """
    from heylook_llm.commands import pulling  # noqa: PLC0415

    pulling.pull(_client(url, api_key) if url or _server_runs() else None, model)


def _server_runs() -> bool:
    from heylook_llm.commands.state import running_server  # noqa: PLC0415

    return running_server() is not None


@heylookllm.command()
@click.argument("model")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path), default="Modelfile", show_default=True, help="The Modelfile."
)
@click.option("-q", "--quantize", metavar="TYPE", help="Make the weights smaller first: q4_K_M, q8_0, ...")
@_of_server
def create(model: str, file: Path, quantize: str | None, url: str | None, api_key: str | None) -> None:
    """Make MODEL by a Modelfile: of another model, a GGUF file or a folder, which the server gets if it lacks it."""
    from heylook_llm.commands import creating  # noqa: PLC0415

    creating.create(_client(url, api_key), model, file, quantize)


@heylookllm.command()
@click.argument("source")
@click.argument("destination")
@_of_server
def cp(source: str, destination: str, url: str | None, api_key: str | None) -> None:
    """Give a model a second name."""
    from heylook_llm.commands import creating  # noqa: PLC0415

    creating.copy(_client(url, api_key), source, destination)


@heylookllm.command(hidden=True)
@click.argument("model")
@click.option("--insecure", is_flag=True, hidden=True, help="Ollama's.")
@_of_server
def push(model: str, insecure: bool, url: str | None, api_key: str | None) -> None:
    """Refused: there is no registry to push to."""
    from heylook_llm.commands import creating  # noqa: PLC0415

    creating.push(_client(url, api_key), model)


@heylookllm.command()
@click.argument("model", nargs=-1, required=True)
@_of_server
def rm(model: tuple[str, ...], url: str | None, api_key: str | None) -> None:
    """Remove models, where the server does that."""
    from heylook_llm.commands import models  # noqa: PLC0415

    models.remove(_client(url, api_key), model)


# ---- models of this machine ------------------------------------------------------------------------------------------


@heylookllm.command("import")
@click.option("--folder", "folders", multiple=True, type=click.Path(path_type=Path), help="A folder with models in it.")
@click.option("--hf-cache", is_flag=True, help="The cache of Hugging Face.")
@click.option("--ollama-store", is_flag=True, help="Ollama's models.")
@click.option("--lmstudio", is_flag=True, help="LM Studio's models.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file to write.  [default: models_imported.yaml]"
)
@click.option(
    "--profile",
    type=click.Choice(["fast", "balanced", "quality", "memory", "interactive"]),
    help="Settings for a purpose, above those that the model's facts suggest.",
)
@click.option("--override", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting above both.")
@click.option(
    "--merge", is_flag=True, help="Add to the models.yaml in force (or to --output), by an overlay beside it."
)
@click.option("--dry-run", is_flag=True, help="Show what would be written.")
@click.option("--watch", is_flag=True, help="Go on, and write anew when the models change.")
@click.option("--yes", is_flag=True, help="Don't ask before --merge writes; without a terminal nobody is asked.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="How much to log.",
)
def import_models(**given: Any) -> None:
    """Find models on this machine and write them into a models.yaml; none is copied.

    Without a place it looks wherever Hugging Face, Ollama and LM Studio keep theirs.
    """
    from heylook_llm.commands import importing  # noqa: PLC0415

    if given["watch"] and (given["merge"] or given["dry_run"]):
        raise click.UsageError("--watch writes a file of its own; it goes with neither --merge nor --dry-run")
    logging.basicConfig(level=given["log_level"])
    order = importing.order_of(given)
    (importing.watch if given["watch"] else importing.run)(order)


# ---- bench -----------------------------------------------------------------------------------------------------------


def _examples(*lines: str) -> str:
    """What stands below a command's options; click keeps its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


@heylookllm.group(
    invoke_without_command=True,
    epilog=_examples(
        "heylookllm bench",
        "heylookllm bench run --target http://127.0.0.1:8080 --concurrency 1,4,16 --requests 50",
        "heylookllm bench report last",
        "heylookllm bench compare @2 last",
    ),
)
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure a server. Without a command: a local one with the model that it has loaded, for a minute."""
    if context.invoked_subcommand is None:
        context.invoke(bench_run)


@bench.command(
    "run",
    epilog=_examples(
        "heylookllm bench run --concurrency 1,4,16 --requests 50",
        "heylookllm bench run --target http://127.0.0.1:8080 --target http://127.0.0.1:11434 --rate 2 --duration 60",
        "heylookllm bench run --scenario 'D(2000,100)' --cache cold --cache warm --cache prefix75 --requests 20",
        "heylookllm bench run --dataset trace.jsonl --replay 1,2 --slo ttft=200 --slo tpot=50",
    ),
)
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A run spec in YAML or JSON; options stand above it.",
)
@click.option("--target", "targets", multiple=True, metavar="URL", help="A server to measure.  [default: a local one]")
@click.option(
    "--kind", type=click.Choice(["openai", "ollama", "anthropic"]), help="Which API to speak.  [default: found out]"
)
@click.option("--key", metavar="NAME", help="Where the API key is: env:NAME, file:PATH, keyring:NAME or kept:NAME.")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL", help="A model to ask.  [default: the one that is loaded]"
)
@click.option(
    "--task",
    type=click.Choice(["chat", "completion", "embeddings", "rerank", "image-text"]),
    help="What to ask for.  [default: what the scenario is for, else chat]",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="TRAFFIC",
    help="Tokens in and out: D(100,100), N(480,240)/(300,150), U(50,100)/(20,40); T(4)*D(100,50) talks; E(256), "
    "R(256,32,8), I(512,512); dataset.  [default: D(100,100)]",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Prompts of your own, or a trace: JSON lines, JSON, CSV or plain lines.",
)
@click.option(
    "--block-tokens",
    type=click.IntRange(1, 1 << 20),
    metavar="N",
    help="Of a trace: tokens that each of its hash_ids stands for.  [default: 512]",
)
@click.option(
    "--count",
    type=click.Choice(["user", "engine"]),
    help="Whose tokens a prompt's length is of: the user's text, or all that the engine computes.  [default: user]",
)
@click.option("--concurrency", metavar="N,N...", help="Clients of a closed loop, each number a cell.")
@click.option("--rate", metavar="N,N...", help="Requests per second, planned beforehand, each number a cell.")
@click.option(
    "--arrival",
    type=click.Choice(["poisson", "constant", "gamma", "ramp", "max"]),
    help="How the requests of --rate arrive; max, all at once, takes none.  [default: poisson]",
)
@click.option(
    "--burstiness",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Of --arrival gamma: below 1 in bursts, above it evenly.  [default: 1]",
)
@click.option(
    "--ramp",
    metavar="RATE,SECONDS",
    help="Of --arrival ramp: from which rate, and how long it takes to that of --rate.  [default: 0,30]",
)
@click.option(
    "--sweep",
    type=click.IntRange(3, 20),
    metavar="N",
    help="N loads from one client to what the target can do at most, as rates between.",
)
@click.option(
    "--replay",
    metavar="SPEED,SPEED...",
    help="The rows of --dataset when their timestamps say, so many times as fast: 1, 2.5.",
)
@click.option("--requests", type=click.IntRange(min=1), metavar="N", help="Measured requests of each cell.")
@click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="How long each cell sends."
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    metavar="N",
    help="Requests before the measured ones.  [default: one for each client]",
)
@click.option(
    "--cooldown",
    type=click.IntRange(min=0),
    metavar="N",
    help="Requests behind the measured ones, so that the last of those have company, too.  [default: 0]",
)
@click.option(
    "--parallel",
    type=click.Choice(["none", "host", "all"]),
    help="Which targets are measured side by side: those on different hosts, all, or none.  [default: host]",
)
@click.option("--repeats", type=click.IntRange(1, 100), metavar="N", help="How often each cell runs.  [default: 1]")
@click.option(
    "--cache",
    multiple=True,
    metavar="STATE",
    help="cold, warm, or prefix and the per cent that prompts share.  [default: warm]",
)
@click.option(
    "--slo", multiple=True, metavar="MEASURE=MS", help="What a good request keeps: ttft=200, tpot=50, e2e=3000."
)
@click.option("--seed", type=int, help="Of lengths, texts and arrivals.  [default: 1]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="After which a request is given up.  [default: 300]",
)
@click.option("--name", help="What to call the run.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder for every form of the report, the samples and what was measured beside them.",
)
@click.option(
    "--calibrate/--no-calibrate",
    "calibrated",
    default=True,
    help="Whether the bench first measures itself, once a day.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent.")
@click.option("--json", "as_json", is_flag=True, help="Tell the result as JSON.")
@click.pass_context
def bench_run(context: click.Context, /, **given: Any) -> None:
    """Measure one server or several: every combination of models, traffic and load is a cell.

    Exit status: 0 good, 2 the command line or the spec is wrong, 3 the numbers can't be trusted, 4 the target
    failed, 130 stopped. Ctrl-C lets what is in flight end; a second one doesn't.
    """
    from heylook_llm.commands import bench as benches  # noqa: PLC0415

    context.exit(benches.begin_run(benches.Order(**given)))


@bench.command("calibrate", epilog=_examples("heylookllm bench calibrate"))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench_calibrate(as_json: bool) -> None:
    """Hold the bench's own stamps to what a null target on this machine wrote when; runs do it once a day."""
    from heylook_llm.commands import bench as benches  # noqa: PLC0415

    benches.calibrate(as_json)


@bench.command("list", epilog=_examples("heylookllm bench list -n 5"))
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench_list(limit: int, as_json: bool) -> None:
    """List the runs, newest first: @1 is the last."""
    from heylook_llm.commands import bench_runs  # noqa: PLC0415

    bench_runs.listed(limit, as_json)


@bench.command("show", epilog=_examples("heylookllm bench show last", "heylookllm bench show @2 --json"))
@click.argument("run", default="last")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench_show(run: str, as_json: bool) -> None:
    """Show a run: last, @2, its name or the end of its id."""
    from heylook_llm.commands import bench_runs  # noqa: PLC0415

    bench_runs.show(run, as_json)


@bench.command("resume", epilog=_examples("heylookllm bench resume last --output results"))
@click.argument("run", default="last")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A folder for every form of the report, as that of `bench run`.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell the result as JSON.")
@click.pass_context
def bench_resume(context: click.Context, run: str, output: Path | None, as_json: bool) -> None:
    """Go on with a run that was stopped or killed: what it kept isn't sent again.

    Exit status: as of `bench run`.
    """
    from heylook_llm.commands import bench as benches  # noqa: PLC0415

    context.exit(benches.resume(run, output, as_json))


@bench.command("cancel", epilog=_examples("heylookllm bench cancel last"))
@click.argument("run", default="last")
def bench_cancel(run: str) -> None:
    """End a run that goes on; what it has is kept."""
    from heylook_llm.commands import bench_runs  # noqa: PLC0415

    bench_runs.cancel(run)


@bench.command("delete", epilog=_examples("heylookllm bench delete @3 evening"))
@click.argument("run", nargs=-1, required=True)
def bench_delete(run: tuple[str, ...]) -> None:
    """Forget runs."""
    from heylook_llm.commands import bench_runs  # noqa: PLC0415

    bench_runs.delete(run)


@bench.command("schema", epilog=_examples("heylookllm bench schema > schema.json"))
def bench_schema() -> None:
    """Print the JSON schema of run specs."""
    from heylook_llm.commands import bench as benches  # noqa: PLC0415

    benches.schema()


@bench.command(
    "report",
    epilog=_examples(
        "heylookllm bench report last --slo ttft=200 --slo tpot=50",
        "heylookllm bench report @2 --format markdown > report.md",
    ),
)
@click.argument("run", default="last")
@click.option(
    "--format",
    "as_form",
    type=click.Choice(["terminal", "markdown", "json"]),
    default="terminal",
    show_default=True,
    help="For whom.",
)
@click.option("--slo", multiple=True, metavar="MEASURE=MS", help="Limits other than the run's own: ttft=200, tpot=50.")
@click.pass_context
def bench_report(context: click.Context, run: str, as_form: str, slo: tuple[str, ...]) -> None:
    """Tell what a run measured, computed anew from its samples.

    Exit status: 0 good, 3 the numbers can't be trusted.
    """
    from heylook_llm.commands import bench_reports  # noqa: PLC0415

    context.exit(bench_reports.show(run, as_form, slo))


@bench.command(
    "export",
    epilog=_examples(
        "heylookllm bench export last --output report.html",
        "heylookllm bench export last --format csv --format xlsx --output results",
        "heylookllm bench export last --format jsonl --output -",
    ),
)
@click.argument("run", default="last")
@click.option(
    "--format",
    "forms",
    multiple=True,
    type=click.Choice(["json", "csv", "jsonl", "xlsx", "html", "markdown"]),
    help="What to write; jsonl has every sample.  [default: as --output ends]",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="A file, a folder, or - for the output."
)
@click.option("--force", is_flag=True, help="Replace existing files.")
def bench_export(run: str, forms: tuple[Any, ...], output: Path | None, force: bool) -> None:
    """Write a run's report or samples to files."""
    from heylook_llm.commands import bench_reports  # noqa: PLC0415

    bench_reports.export(run, forms, output, force)


@bench.command(
    "compare",
    epilog=_examples(
        "heylookllm bench compare @2 last --measure ttft.p95 --measure output", "heylookllm bench compare last"
    ),
)
@click.argument("run", nargs=-1, required=True)
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="What to compare, as ttft.p95 or output.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench_compare(run: tuple[str, ...], measures: tuple[str, ...], as_json: bool) -> None:
    """Put runs side by side; of one RUN, its targets and models. A rank stands only where it is shown."""
    from heylook_llm.commands import bench_reports  # noqa: PLC0415

    bench_reports.compared(run, measures, as_json)


@bench.command(
    "gate", epilog=_examples("heylookllm bench gate main last --fail-if 'ttft.p95>+5%' --fail-if 'errors>1%'")
)
@click.argument("base")
@click.argument("new", default="last")
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    required=True,
    metavar="CONDITION",
    help="As 'ttft.p95>+5%', 'output<-3%', 'e2e.p99>2s' or 'errors>1%'.",
)
@click.option("--strict", is_flag=True, help="Judge differences, too, that may be chance.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def bench_gate(  # noqa: PLR0917
    context: click.Context, base: str, new: str, conditions: tuple[str, ...], strict: bool, as_json: bool
) -> None:
    """Fail if the run NEW is worse than BASE, a baseline or a run.

    Exit status: 0 good, 1 a regression, 2 a condition is wrong, 3 it can't be judged or a run can't be trusted.
    """
    from heylook_llm.commands import bench_reports  # noqa: PLC0415

    context.exit(bench_reports.gated(base, new, conditions, strict, as_json))


@bench.command("baseline", epilog=_examples("heylookllm bench baseline main @2", "heylookllm bench baseline"))
@click.argument("name", required=False)
@click.argument("run", default="last")
def bench_baseline(name: str | None, run: str) -> None:
    """Call RUN the baseline NAME, or list the baselines."""
    from heylook_llm.commands import bench_reports  # noqa: PLC0415

    if name is None:
        bench_reports.baselines()
    else:
        bench_reports.set_baseline(name, run)


# ---- this machine ----------------------------------------------------------------------------------------------------


@heylookllm.command()
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added.")
def logs(lines: int, follow: bool) -> None:
    """Show the server's log."""
    from heylook_llm.commands import logs as log_files  # noqa: PLC0415

    log_files.show_logs(lines, follow)


@heylookllm.command()
@click.option("--config", metavar="FILE", help="The models.yaml to look at.")
@click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65535), help="Ports to look at.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a report.")
@click.pass_context
def doctor(context: click.Context, config: str | None, ports: tuple[int, ...], as_json: bool) -> None:
    """Say what works here, and what to do about what doesn't. Exit status 1 if something is wrong."""
    from heylook_llm.commands import doctor as examination  # noqa: PLC0415

    findings = examination.examine(config, ports or (DEFAULT_PORT, OLLAMA_PORT))
    context.exit(examination.report(findings, as_json))


@heylookllm.group()
def service() -> None:
    """Run the server at every login (systemd on Linux, launchd on macOS)."""


@service.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def install(options: tuple[str, ...]) -> None:
    """Install it; OPTIONS are those of serve, such as --port 9000."""
    from heylook_llm.commands import service as services  # noqa: PLC0415

    try:
        serve.make_context("serve", list(options))
    except click.exceptions.Exit:
        return
    path = services.supervisor().install(options)
    click.echo(f"Installed {path}; start it: heylookllm service start")


@service.command("start")
def start_service() -> None:
    """Start it now."""
    from heylook_llm.commands import service as services  # noqa: PLC0415

    services.supervisor().start()


@service.command("stop")
def stop_service() -> None:
    """Stop it."""
    from heylook_llm.commands import service as services  # noqa: PLC0415

    services.supervisor().stop()


@service.command()
@click.pass_context
def status(context: click.Context) -> None:
    """Show how it does."""
    from heylook_llm.commands import service as services  # noqa: PLC0415

    context.exit(services.supervisor().status())


@service.command()
def uninstall() -> None:
    """Stop it and remove it."""
    from heylook_llm.commands import service as services  # noqa: PLC0415

    services.supervisor().uninstall()
    click.echo("Removed the service.")


if __name__ == "__main__":
    main()
