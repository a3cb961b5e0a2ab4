"""The command line with a server: start, the client commands, a terminal chat, the end by a signal."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from tests.commands_at_work import COMMAND, Home, Server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One home for the module's server."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    """A server over fake models."""
    with home.serving("--port", "0") as it:
        yield it


@pytest.fixture
def own_home(tmp_path: Path) -> Home:
    """A home for a server that the test ends itself."""
    return Home(tmp_path)


def post(port: int, path: str, body: object, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Send JSON; the answer's head is read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
    return connection.getresponse()


def chat_body(text: str, model: str = "fake", **more: object) -> dict[str, object]:
    """A request for an answer."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def test_the_registry_follows_its_file(own_home: Home) -> None:
    with own_home.serving("--port", "0") as server:

        def told() -> dict[str, Any]:
            with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answered:
                found: dict[str, Any] = json.load(answered)
                return found

        assert told()["registry"]["valid"]
        good = own_home.models.read_text()
        own_home.models.write_text(good.replace("id: slow", "id: new"))
        assert eventually(lambda: list(told()["models"]) == ["fake", "new"], 30)
        assert post(server.port, "/v1/chat/completions", chat_body("[[say:there]]", "new")).status == 200
        own_home.models.write_text("models: [{id: fake, provider: fake, n_ctx: 5}]")
        assert eventually(lambda: not told()["registry"]["valid"], 30)
        assert "unknown key `n_ctx`" in told()["registry"]["error"]
        assert str(own_home.folder) not in json.dumps(told())
        assert list(told()["models"]) == ["fake", "new"]


# ---- start -----------------------------------------------------------------------------------------------------------


def test_the_start_lines_can_be_followed(server: Server) -> None:
    assert server.lines[0].startswith("heylookllm 2.")
    assert "the OpenAI, Anthropic and Ollama APIs on http://127.0.0.1:" in server.lines[0]
    assert server.lines[1] == "  models: fake, slow"
    command = server.lines[2].removeprefix("  try it: ")
    answered = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, text=True, check=True)
    assert json.loads(answered.stdout)["choices"][0]["message"]["content"] == "Hello!"


def test_the_log_and_the_note_are_private(home: Home, server: Server) -> None:
    log = Path(next(line for line in server.lines if line.startswith("  log: ")).removeprefix("  log: "))
    assert log.stat().st_mode & 0o077 == 0
    note = home.folder / ".local" / "state" / "heylookllm" / "server.json"
    assert note.stat().st_mode & 0o077 == 0
    assert json.loads(note.read_text())["url"] == server.url


def test_two_ports_share_one_server(own_home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        second = free.getsockname()[1]
    with own_home.serving("--port", "0", "--ollama-port", str(second)) as server:
        assert f"and http://127.0.0.1:{second}" in server.lines[0]
        for port in (server.port, second):
            assert post(port, "/v1/chat/completions", chat_body("hi")).status == 200
            assert post(port, "/api/chat", chat_body("hi", stream=False)).status == 200
        assert server.process.poll() is None


@pytest.mark.parametrize(
    ("api", "there", "gone"), [("openai", "/v1/models", "/api/tags"), ("ollama", "/api/tags", "/v1/models")]
)
def test_one_api_alone(own_home: Home, api: str, there: str, gone: str) -> None:
    with own_home.serving("--api", api, "--port", "0") as server:
        for path, status in ((there, 200), (gone, 404)):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", path)
            assert connection.getresponse().status == status
        if api == "openai":
            result = own_home.run("list")
            assert result.returncode == 1
            assert "--api both" in result.stderr


def test_a_unix_socket_is_private_and_its_leftover_is_replaced(own_home: Home) -> None:
    path = own_home.folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as leftover:
        leftover.bind(str(path))
    with own_home.serving("--uds", str(path)) as server:
        assert path.stat().st_mode & 0o077 == 0
        assert "fake:latest" in own_home.run("list").stdout
        busy = own_home.run("--config", str(own_home.models), "--uds", str(path))
        assert (busy.returncode, busy.stderr) == (1, f"Error: a server listens on {path} already\n")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert not path.exists()


def test_a_made_up_key_is_shown_once_and_never_logged(own_home: Home) -> None:
    with own_home.serving("--port", "0", "--api-key", "auto") as server:
        key = next(line for line in server.errors if line.startswith("API key")).rpartition(" ")[2]
        unkeyed = own_home.run("list")
        assert unkeyed.returncode == 1
        assert "HEYLOOK_API_KEY" in unkeyed.stderr
        assert own_home.run("list", HEYLOOK_API_KEY=key).returncode == 0
        assert post(server.port, "/v1/chat/completions", chat_body("hi")).status == 401
        allowed = post(server.port, "/v1/chat/completions", chat_body("hi"), {"Authorization": f"Bearer {key}"})
        assert allowed.status == 200
        assert key not in own_home.run("logs", "-n", "1000").stdout
        for worker in psutil.Process(server.process.pid).children(recursive=True):
            assert key not in " ".join(worker.cmdline())
            assert key not in worker.environ().values()


def test_a_bind_beyond_loopback_warns(own_home: Home) -> None:
    with own_home.serving("--host", "0.0.0.0", "--port", "0") as server:
        assert eventually(lambda: any("WARNING: other machines can reach" in line for line in server.errors))
        assert server.url.startswith("http://127.0.0.1:")


def test_a_home_that_cannot_be_written_is_no_obstacle(own_home: Home) -> None:
    state = own_home.folder / "file"
    state.write_text("")
    environment = {"XDG_STATE_HOME": str(state), "OLLAMA_HOST": ""}
    process = subprocess.Popen(
        [*COMMAND, "--config", str(own_home.models), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=own_home.environment(**environment),
    )
    assert process.stdout is not None
    assert "serves" in process.stdout.readline()
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "No log file" in errors


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_sigterm_lets_a_stream_end_and_refuses_new_requests(own_home: Home) -> None:
    with own_home.serving("--port", "0") as server:
        workers = psutil.Process(server.process.pid).children(recursive=True)
        stream = post(server.port, "/v1/chat/completions", chat_body("[[count:9]]", "slow", stream=True))
        stream.readline()
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: any("SIGTERM" in line for line in server.errors))
        refused = post(server.port, "/v1/chat/completions", chat_body("hi"))
        assert refused.status == 503
        rest = stream.read().decode()
        assert "[DONE]" in rest
        assert '"finish_reason":"stop"' in rest
        assert server.process.wait(10) == 0
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


def test_a_stream_longer_than_the_drain_ends_with_an_error(own_home: Home) -> None:
    with own_home.serving("--port", "0", "--drain-seconds", "0.3") as server:
        stream = post(server.port, "/v1/chat/completions", chat_body("[[count:200]]", "slow", stream=True))
        stream.readline()
        sent = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        rest = stream.read().decode()
        assert "shutting down" in rest
        assert '"finish_reason":"stop"' not in rest
        assert server.process.wait(10) == 0
        assert time.monotonic() - sent < 3.3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(own_home: Home, number: signal.Signals) -> None:
    with own_home.serving("--port", "0") as server:
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
    assert not (own_home.folder / ".local" / "state" / "heylookllm" / "server.json").exists()


def test_a_second_signal_ends_it_now_without_orphans(own_home: Home) -> None:
    with own_home.serving("--port", "0") as server:
        stream = post(server.port, "/v1/chat/completions", chat_body("[[count:200]]", "slow", stream=True))
        stream.readline()
        workers = psutil.Process(server.process.pid).children(recursive=True)
        assert workers
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: any("SIGTERM" in line for line in server.errors))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(2) == 1
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive


# ---- the client commands ---------------------------------------------------------------------------------------------


def test_list_ps_stop(home: Home, server: Server) -> None:
    home.run("run", "fake", "hello")
    heads, *rows = home.run("list").stdout.splitlines()
    assert heads.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert {row.split()[0] for row in rows} == {"fake:latest", "slow:latest"}
    assert home.run("ls", "FA").stdout.splitlines()[1].startswith("fake:latest")
    heads, *rows = home.run("ps").stdout.splitlines()
    assert heads.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert any(row.startswith("fake:latest") and row.endswith("Forever") for row in rows)
    assert home.run("stop", "fake").returncode == 0
    assert eventually(lambda: "fake:latest" not in home.run("ps").stdout)
    missing = home.run("stop", "nobody")
    assert (missing.returncode, missing.stderr) == (1, "Error: couldn't find model 'nobody' to stop\n")


def test_show(home: Home, server: Server) -> None:
    home.run("run", "fake", "hello")
    shown = home.run("show", "fake")
    assert shown.stdout.startswith("  Model\n    architecture ")
    assert "context length      2048" in shown.stdout
    assert "Capabilities" in shown.stdout
    assert "<|im_start|>" in home.run("show", "fake", "--template").stdout
    assert home.run("show", "nobody").returncode == 1


def test_rm_takes_a_model_out_and_leaves_the_file_alone(own_home: Home) -> None:
    before = own_home.models.read_text()
    with own_home.serving("--port", "0"):
        assert "fake" in own_home.run("list").stdout
        assert own_home.run("rm", "slow").stdout == "deleted 'slow'\n"
        assert "slow" not in own_home.run("list").stdout
        assert own_home.models.read_text() == before
        assert "not found" in own_home.run("rm", "nobody").stderr
        refused = own_home.run("rm", "fake")
        assert "default_model" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_run_answers_a_prompt_and_what_is_piped_in(home: Home, server: Server) -> None:
    at_once = ("run", "fake", "--think=false")
    assert home.run(*at_once, "one", "two").stdout == "one two\n"
    assert home.run(*at_once, stdin="from a pipe").stdout == "from a pipe\n"
    assert home.run(*at_once, "and then", stdin="first").stdout == "first and then\n"
    verbose = home.run(*at_once, "hello", "--verbose")
    assert verbose.stdout == "hello\n"
    for line in ("total duration:", "prompt eval count:", "eval rate:"):
        assert line in verbose.stderr


def test_run_shows_thinking_or_hides_it(home: Home, server: Server) -> None:
    prompt = "[[think:deep]][[say:done]]"
    assert home.run("run", "fake", "--think", prompt).stdout == "Thinking...\ndeep\n...done thinking.\n\ndone\n"
    assert home.run("run", "fake", "--think", "--hidethinking", prompt).stdout == "done\n"
    assert home.run("run", "fake", "--think=perhaps", prompt).returncode == 2


def test_run_reports_the_servers_own_error(home: Home, server: Server) -> None:
    unknown = home.run("run", "nobody", "hello")
    assert unknown.returncode == 1
    assert unknown.stderr.count("\n") == 1
    assert "nobody" in unknown.stderr
    broken = home.run("run", "fake", "[[error]]")
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)


def test_logs_show_the_end_and_follow(home: Home, server: Server) -> None:
    shown = home.run("logs", "-n", "3")
    assert shown.returncode == 0
    assert 1 <= len(shown.stdout.splitlines()) <= 3
    follower = subprocess.Popen(
        [*COMMAND, "logs", "-f", "-n", "0"], stdout=subprocess.PIPE, text=True, env=home.environment(), cwd=home.folder
    )
    assert follower.stdout is not None
    home.run("stop", "slow")
    home.run("run", "slow", "x")
    assert select.select([follower.stdout], [], [], 10)[0]
    assert "slow" in follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    follower.stdout.close()


# ---- the terminal chat -----------------------------------------------------------------------------------------------


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.screen = ""
        spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", spawn, *COMMAND, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=home.environment(TERM="dumb"),
            cwd=home.folder,
        )

    def wait_for(self, text: str) -> str:
        """What was shown until this text, which must come within 20 s."""
        deadline = time.monotonic() + 20
        while text not in self.screen:
            assert select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))[0], self.screen
            more = os.read(self._output.fileno(), 65536).decode()
            assert more, self.screen
            self.screen += more
        shown, _, self.screen = self.screen.partition(text)
        return shown

    def type(self, text: str) -> None:
        """Press keys."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    @property
    def _output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def status(self) -> int:
        """The exit status; waits for the end."""
        self.process.communicate(timeout=20)
        return self.process.returncode


def test_a_conversation_in_a_terminal(home: Home, server: Server) -> None:
    terminal = Terminal(home, "run", "fake")
    terminal.wait_for(">>> ")
    terminal.type("hello there\n")
    terminal.wait_for("hello there\r\n")
    assert "hello there" in terminal.wait_for(">>> ")
    terminal.type('"""first\nsecond"""\n')
    terminal.wait_for("... ")
    assert "first\r\nsecond" in terminal.wait_for(">>> ")
    for command, answer in (
        ("/set system You are brief.", "Set system message."),
        ("/show system", "You are brief."),
        ("/set parameter temperature 0", "Set parameter 'temperature' to '0'."),
        ("/set parameter temperature warm", "is not a number"),
        ("/set nothink", "Set 'nothink' mode."),
        ("/set verbose", "Set 'verbose' mode."),
        ("/set quiet", "Set 'quiet' mode."),
        ("/show info", "architecture"),
        ("/clear", "Cleared the conversation."),
        ("/load slow", "Loading slow"),
        ("/load nobody", "not found"),
        ("/?", "Available commands"),
        ("/nonsense", "Unknown command '/nonsense'"),
    ):
        terminal.type(command + "\n")
        terminal.wait_for(answer)
        terminal.wait_for(">>> ")
    terminal.type("/bye\n")
    assert terminal.status() == 0
    history = home.folder / ".local" / "state" / "heylookllm" / "history"
    assert "hello there" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_ctrl_d_leaves(home: Home, server: Server) -> None:
    terminal = Terminal(home, "run", "slow")
    terminal.wait_for(">>> ")
    terminal.type("[[count:300]]\n")
    terminal.wait_for("1 2 3")
    terminal.type("\x03")
    terminal.wait_for(">>> ")
    assert eventually(lambda: _in_flight(server.port) == 0, 5)
    terminal.type("\x03")
    terminal.wait_for("Use Ctrl + d or /bye to leave.")
    terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.status() == 0


def _in_flight(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/v1/requests")
    return len(json.loads(connection.getresponse().read())["data"])
