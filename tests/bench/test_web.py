"""The bench over HTTP, as a page uses it: ordered, followed, cancelled, resumed, read; beside `heylookllm bench`."""

import json
import os
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped,unused-ignore]  # comes with openapi-spec-validator, without types
import psutil
import pytest
from openapi_spec_validator import validate
from websockets.exceptions import InvalidStatus

from tests.bench.asking import Asking
from tests.commands_at_work import Home, Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LONG: Final = pytest.mark.skipif(os.environ.get("HEYLOOK_TEST_TIER") != "long", reason="a test of the long tier")
KEY: Final = "hl-canary-of-the-server-1"
FOREIGN_KEY: Final = "sk-canary-of-a-target-2"
RUNS: Final = "/v1/bench/runs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    with home.serving("--port", "0", HEYLOOK_API_KEY=KEY) as it:
        yield it


@pytest.fixture
def asking(server: Server) -> Asking:
    return Asking(server.url, KEY)


def spec(asking: Asking, **more: Any) -> dict[str, Any]:
    """A spec that measures the server itself."""
    target = {"url": asking.url, "models": [more.pop("model", "fake")]}
    given = {"targets": [target], "scenarios": ["D(20,8)"], "requests": 5, "loads": [{"levels": [1, 2]}]}
    return {**given, **more}


def ordered(asking: Asking, **more: Any) -> str:
    """The id of a run that was ordered."""
    made = asking.ask("POST", f"{RUNS}?calibrate=false", spec(asking, **more), 201)
    return str(made["id"])


@pytest.fixture(scope="module")
def done(server: Server) -> str:
    """A run that is done, to read."""
    asking = Asking(server.url, KEY)
    made = ordered(asking, name="whole", slo={"ttft": 5000})
    assert asking.until(made, "done", "failed")["state"] == "done"
    return made


def test_a_run_is_ordered_followed_and_read(asking: Asking, home: Home, done: str) -> None:
    run = asking.ask("GET", f"{RUNS}/{done}")
    assert [cell["outcomes"] for cell in run["cells"]] == [{"ok": 5}, {"ok": 5}]
    assert (run["name"], run["origin"], run["samples"], run["warnings"]) == ("whole", "web", 13, [])
    assert (run["cells_settled"], run["progress"]["cell"], run["progress"]["done"]) == (2, 1, 5)
    report = asking.ask("GET", f"{RUNS}/{done}/report")
    assert [(row["level"], row["counts"]["ok"], row["paired"]) for row in report["rows"]] == [(1.0, 5, 5), (2.0, 5, 5)]
    assert report["rows"][0]["goodput"]["limits"] == {"ttft": 5000.0}
    above = asking.ask("GET", f"{RUNS}/{done}/report?slo=ttft=1&slo=e2e=9000")
    assert above["rows"][0]["goodput"]["limits"] == {"ttft": 1.0, "e2e": 9000.0}
    listed = json.loads(home.run("bench", "list", "--json").stdout)
    assert done in [one["id"] for one in listed], "one store for pages and the command line"
    assert done in [one["id"] for one in asking.ask("GET", f"{RUNS}?limit=1000")["data"]]
    assert len(asking.ask("GET", f"{RUNS}?limit=1")["data"]) == 1


FORMS: Final = {
    "json": ("application/json", b"{\n"),
    "csv": ("text/csv; charset=utf-8", b"\xef\xbb\xbftarget"),
    "jsonl": ("application/x-ndjson", b'{"id":'),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"PK"),
    "html": ("text/html; charset=utf-8", b"<!doctype html>"),
    "markdown": ("text/markdown; charset=utf-8", b"# "),
}


def test_every_form_is_a_download(asking: Asking, done: str) -> None:
    for form, (media_type, begins) in FORMS.items():
        status, headers, body = asking.raw("GET", f"{RUNS}/{done}/export?format={form}")
        assert (status, headers["content-type"]) == (200, media_type)
        assert headers["content-disposition"].startswith(f'attachment; filename="bench-{done[-8:].lower()}.')
        assert body.startswith(begins), form
    assert asking.refused("GET", f"{RUNS}/{done}/export?format=png", 400)["param"] == "format"


def test_samples_and_points_are_read_page_by_page(asking: Asking, done: str) -> None:
    samples: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = asking.ask("GET", f"{RUNS}/{done}/samples?limit=5&after={after}")
        samples += page["data"]
        after = page["next_after"]
    assert len({sample["id"] for sample in samples}) == len(samples) == 13
    points = asking.ask("GET", f"{RUNS}/{done}/points")
    assert [one["outcome"] for one in points["data"]] == ["ok"] * 13
    by_id = {(one["cell"]["ordinal"], one["ordinal"]): one["values_ms"] for one in samples}
    for point in points["data"]:
        assert point["ttft"] == pytest.approx(by_id[point["cell"], point["ordinal"]]["ttft"], abs=0.001)
    assert asking.ask("GET", f"{RUNS}/{done}/points?after={points['next_after']}")["data"] == []


def test_both_ways_to_listen_tell_one_log(asking: Asking, done: str) -> None:
    with asking.events(f"{RUNS}/{done}/events") as events:
        streamed = []
        for event in events:
            streamed.append(event)
            if event["type"] == "run.state" and event["state"] == "done":
                break
    kinds = [(one["type"], one.get("state")) for one in streamed]
    assert kinds[:2] == [("run.state", "pending"), ("run.state", "queued")]
    assert kinds.count(("progress", None)) == 1, "of the past only the last is told"
    assert [one["cell"] for one in streamed if one["type"] == "cell.state" and one["state"] == "done"] == [0, 1]
    assert [int(one["id"]) for one in streamed] == sorted({int(one["id"]) for one in streamed})
    with asking.socket(f"/v1/bench/ws?run={done}") as socket:
        assert [json.loads(socket.recv(30)) for _ in streamed] == streamed
    third = streamed[2]["id"]
    with asking.socket(f"/v1/bench/ws?run={done}&after={third}") as socket:
        assert json.loads(socket.recv(30)) == streamed[3]
    with asking.events(f"{RUNS}/{done}/events", last_event_id=third) as events:
        assert next(events) == streamed[3]
    assert asking.refused("GET", f"{RUNS}/{done}/events?after=x", 400)["param"] == "after"


def test_what_happens_comes_while_it_happens_to_whoever_listens_to_all(asking: Asking, done: str) -> None:
    with asking.socket("/v1/bench/ws") as socket, asking.events("/v1/bench/events") as events:
        made = ordered(asking)
        streamed = []
        for event in events:
            streamed.append(event)
            if event["run_id"] == made and event.get("state") == "done" and event["type"] == "run.state":
                break
        assert [json.loads(socket.recv(30)) for _ in streamed] == streamed
    assert {one["run_id"] for one in streamed} == {made}, "nothing of the past"


def test_runs_wait_for_each_other_and_are_cancelled_and_resumed(asking: Asking) -> None:
    first = ordered(asking, model="slow", requests=200, loads=[{"levels": [2]}])
    second = ordered(asking)
    assert asking.ask("GET", f"{RUNS}/{second}")["place"] in (1, 2), "behind the first, and one that is just ending"
    assert asking.refused("DELETE", f"{RUNS}/{first}", 409)["code"] == "run_goes_on"
    assert asking.refused("POST", f"{RUNS}/{first}/resume", 409)["code"] == "run_goes_on"
    with asking.events(f"{RUNS}/{first}/events") as events:
        next(one for one in events if one["type"] == "progress" and one["done"])
    assert asking.ask("POST", f"{RUNS}/{first}/cancel")["state"] in ("running", "cancelled")
    kept = asking.until(first, "cancelled")
    assert kept["cells"][0]["outcomes"]["ok"] >= 1
    assert asking.until(second, "done")["place"] is None
    assert asking.refused("POST", f"{RUNS}/{second}/resume", 409)["code"] == "run_is_done"
    assert asking.refused("POST", f"{RUNS}/{first}/cancel", 409)["code"] == "run_has_ended"
    assert asking.ask("DELETE", f"{RUNS}/{first}")["deleted"] is True
    assert asking.refused("GET", f"{RUNS}/{first}", 404)["code"] == "run_not_found"


@LONG
def test_a_run_that_waits_is_cancelled_before_it_begins(asking: Asking) -> None:
    first = ordered(asking, model="slow", requests=200)
    second = ordered(asking)
    assert asking.ask("POST", f"{RUNS}/{second}/cancel")["state"] == "cancelled"
    asking.ask("POST", f"{RUNS}/{first}/cancel")
    asking.until(first, "cancelled")
    assert asking.ask("GET", f"{RUNS}/{second}")["samples"] == 0
    assert asking.ask("POST", f"{RUNS}/{second}/resume")["state"] == "queued"
    assert asking.until(second, "done")["samples"] == 13


@LONG
def test_a_run_outlives_its_server_as_interrupted_and_is_resumed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.serving("--port", "0") as server:
        asking, port = Asking(server.url), server.port
        made = ordered(asking, model="slow", requests=40, loads=[{"levels": [4]}])
        with asking.events(f"{RUNS}/{made}/events") as events:
            next(one for one in events if one["type"] == "progress" and one["done"])
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, "a run ends with its server"
    with home.serving("--port", str(port)) as server:
        asking = Asking(server.url)
        kept = asking.ask("GET", f"{RUNS}/last")
        assert (kept["id"], kept["state"]) == (made, "interrupted")
        asking.ask("POST", f"{RUNS}/{made}/resume")
        whole = asking.until(made, "done", "failed")
        assert (whole["state"], sum(whole["cells"][0]["outcomes"].values())) == ("done", 40)
        assert whole["cells"][0]["outcomes"]["ok"] >= 30, "only those that were in flight met the server's end"
        going = ordered(asking, model="slow", requests=200)
        with asking.events(f"{RUNS}/{going}/events") as events:
            next(one for one in events if one["type"] == "progress" and one["done"])
        server.process.terminate()
        assert server.process.wait(30) == 0, "an ordered end takes the run along"
    assert json.loads(home.run("bench", "show", going, "--json").stdout)["state"] == "interrupted"


# ---- before a run ----------------------------------------------------------------------------------------------------


def test_an_estimate_says_what_would_be_sent_and_how_it_is_written(asking: Asking, done: str) -> None:
    told = asking.ask("POST", "/v1/bench/estimate", spec(asking, repeats=2))
    assert (told["cells"], told["requests"], told["input_tokens"], told["output_tokens"]) == (4, 20, 400, 160)
    assert told["seconds"] > 0, "by the run before"
    assert told["seconds_by"]
    assert told["command"] == (
        f"heylookllm bench run --target {asking.url} --model fake --scenario 'D(20,8)' --requests 5 --repeats 2 "
        "--concurrency 1,2"
    )
    assert f"targets:\n- url: {asking.url}\n  models: [fake]\n" in told["yaml"]
    unknown = {**spec(asking), "targets": [{"url": "http://127.0.0.1:1"}]}
    told = asking.ask("POST", "/v1/bench/estimate", unknown)
    assert (told["cells"], told["seconds"]) == (2, None)
    assert "Nothing answers at http://127.0.0.1:1" in told["problems"]["http://127.0.0.1:1"]
    bare = {**spec(asking), "targets": [{"url": asking.url}]}
    assert asking.ask("POST", "/v1/bench/estimate", bare)["models"] == {asking.url: ["fake"]}


def test_this_server_is_found_with_its_models(asking: Asking) -> None:
    (own,) = [one for one in asking.ask("GET", "/v1/bench/found")["data"] if one["own"]]
    assert (own["url"], own["flavor"], own["kind"]) == (asking.url, "heylook", "openai")
    assert {model["id"] for model in own["models"]} >= {"fake", "slow"}
    presets = asking.ask("GET", "/v1/bench/presets")["data"]
    for preset in presets:
        asking.ask("POST", "/v1/bench/estimate", {**spec(asking), **preset["spec"]})
    assert {preset["name"] for preset in presets} == {"quick", "chat", "rag", "code", "long-output"}
    assert asking.ask("GET", "/v1/bench/schema")["title"] == "RunSpec"


def test_own_prompts_are_sent_as_they_stand(asking: Asking) -> None:
    own = {"prompts": ["What is heat?", "And cold?"], "output_tokens": 4}
    told = asking.ask("POST", "/v1/bench/estimate", {**spec(asking), "scenarios": ["dataset"], "dataset": own})
    assert (told["cells"], "prompts: [" in told["yaml"]) == (2, True)
    made = ordered(asking, scenarios=["dataset"], dataset=own, requests=4, loads=[{"levels": [1]}])
    run = asking.until(made, "done", "failed")
    assert (run["state"], run["cells"][0]["outcomes"]) == ("done", {"ok": 4})
    both = {**spec(asking), "dataset": {"path": "x", "prompts": ["y"]}}
    assert "either a path or a list" in asking.refused("POST", RUNS, 400, both)["message"]


def test_what_can_not_be_run_is_refused_in_words(asking: Asking) -> None:
    wrong = asking.refused("POST", RUNS, 400, spec(asking, requests=0, scenarios=["X(1)"]))
    assert "requests: " in wrong["message"]
    assert "'X(1)' is no scenario" in wrong["message"]
    assert asking.refused("POST", RUNS, 400, b"no")["code"] == "invalid_json"
    assert asking.refused("POST", RUNS, 400, b"[]")["code"] == "invalid_type"
    nobody = {**spec(asking), "targets": [{"url": "http://127.0.0.1:1", "models": ["m"]}]}
    assert "Nothing answers at http://127.0.0.1:1" in asking.refused("POST", RUNS, 424, nobody)["message"]
    assert asking.refused("GET", f"{RUNS}/nobody", 404)["code"] == "run_not_found"
    assert asking.refused("POST", f"{RUNS}?calibrate=1", 400, spec(asking))["param"] == "calibrate"
    assert asking.refused("GET", f"{RUNS}?limit=0", 400)["param"] == "limit"
    beyond = "9" * 19
    assert asking.refused("GET", f"{RUNS}/@{beyond}", 404)["code"] == "run_not_found"
    for name, path in (
        ("after", "/v1/bench/events"),
        ("after", f"{RUNS}/last/samples"),
        ("offset", f"{RUNS}/last/rows"),
    ):
        assert asking.refused("GET", f"{path}?{name}={beyond}", 400)["param"] == name
    huge = asking.refused("POST", RUNS, 400, spec(asking, requests=10**30, seed=10**19, loads=[{"levels": [1e9]}]))
    assert all(word in huge["message"] for word in ("requests: ", "seed: ", "10000 are the most"))
    endless = spec(asking, requests=10**9, scenarios=["T(1000)*D(10000000,10000000)"])
    assert "more tokens than count" in asking.refused("POST", "/v1/bench/estimate", 400, endless)["message"]
    many = {"repeats": 100, "scenarios": [f"D({tokens},5)" for tokens in range(1, 1001)]}
    for path in (RUNS, "/v1/bench/estimate"):
        assert (
            "100000 cells are too many"
            in asking.refused("POST", path, 400, spec(asking, **many, loads=[{}]))["message"]
        )


def test_who_may_not_gets_nothing(asking: Asking, done: str) -> None:
    stranger = Asking(asking.url)
    paths = [f"{RUNS}", f"{RUNS}/{done}/report", "/v1/bench/targets", "/v1/bench/found", "/v1/bench/events"]
    for path in paths:
        assert stranger.refused("GET", path, 401)["code"] == "invalid_api_key"
        assert asking.refused("GET", path, 403, origin="https://evil.example")["code"] == "origin_not_allowed"
    assert stranger.refused("POST", RUNS, 401, spec(asking))["code"] == "invalid_api_key"
    target = {"url": asking.url}
    for given in ({"origin": "https://evil.example"}, {"sec_fetch_site": "cross-site"}, {"host": "evil.example"}):
        asking.refused("PUT", "/v1/bench/targets/evil", 403, target, **given)
        asking.refused("DELETE", f"{RUNS}/{done}", 403, **given)
    for refused, headers in (
        ("401", {}),
        ("403", {"origin": "https://evil.example"}),
        ("403", {"host": "evil.example"}),
    ):
        with pytest.raises(InvalidStatus, match=refused), stranger.socket("/v1/bench/ws", **headers):
            pass


# ---- targets and keys ------------------------------------------------------------------------------------------------


def test_a_key_is_kept_masked_and_bound_to_its_address(asking: Asking, home: Home) -> None:
    at = "/v1/bench/targets/own"
    told = asking.ask("PUT", at, {"url": asking.url, "kind": "openai", "key": FOREIGN_KEY})
    assert (told["name"], told["url"], told["key"]) == ("own", asking.url, "••••et-2")
    (path,) = home.folder.rglob("bench-targets.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    named = {**spec(asking), "targets": [{"url": asking.url, "models": ["fake"], "key": "kept:own"}]}
    elsewhere = {**named, "targets": [{**named["targets"][0], "url": "http://127.0.0.1:1"}]}
    assert "belongs to" in asking.refused("POST", RUNS, 400, elsewhere)["message"]
    assert asking.ask("PUT", at, {"url": f"{asking.url}/v1"})["key"] == "••••et-2", "the same scheme, host and port"
    assert asking.ask("PUT", at, {"url": "http://127.0.0.1:2"})["key"] is None, "another address drops it"
    asking.ask("PUT", at, {"url": asking.url, "key": KEY})
    made = asking.ask("POST", f"{RUNS}?calibrate=false", named, 201)
    assert asking.until(made["id"], "done", "failed")["state"] == "done", "the key was sent"
    done = home.run("bench", "resume", made["id"], "--json")
    assert done.returncode == 0, "the command line has it, too"
    assert asking.ask("DELETE", f"{at}/key")["key"] is None
    assert "No key is kept" in asking.refused("POST", RUNS, 400, named)["message"]
    assert asking.ask("DELETE", at)["deleted"] is True
    assert asking.refused("DELETE", at, 404)["code"] == "target_not_found"
    for wrong in (
        {"url": "ftp://x"},
        {"url": asking.url, "key": "a b"},
        {"url": asking.url, "key": "k" * 9000},
        {"url": asking.url, "models": ["m"]},
        {},
    ):
        asking.refused("PUT", at, 400, wrong)


def test_a_target_may_have_any_name_that_its_address_can_tell(asking: Asking) -> None:
    names = ("a/b", "quotes \" and '", "<b>&amp;</b>", "ünï 🐙 名", "100 %", "?x=1#y", "+ +", "a//b", "k" * 100)
    for name in names:
        at = f"/v1/bench/targets/{urllib.parse.quote(name, safe='')}"
        assert asking.ask("PUT", at, {"url": asking.url, "key": FOREIGN_KEY})["name"] == name
        assert asking.ask("DELETE", f"{at}/key")["key"] is None
        assert name in [one["name"] for one in asking.ask("GET", "/v1/bench/targets")["data"]]
        assert asking.ask("DELETE", at)["id"] == name
    for name in ("x/key", "k" * 101):
        asking.refused("PUT", f"/v1/bench/targets/{urllib.parse.quote(name, safe='')}", 400, {"url": asking.url})


def test_a_client_names_no_files_and_no_variables(asking: Asking, home: Home) -> None:
    for reference in ("env:HOME", f"file:{home.models}", "keyring:x"):
        target = {"url": asking.url, "models": ["fake"], "key": reference}
        assert asking.refused("POST", RUNS, 403, {**spec(asking), "targets": [target]})["code"] == "key_not_allowed"
    dataset = {**spec(asking), "dataset": {"path": "/etc/passwd"}, "scenarios": ["dataset"]}
    for path in (RUNS, "/v1/bench/estimate"):
        assert asking.refused("POST", path, 403, dataset)["code"] == "file_not_allowed"


@LONG
def test_a_key_stands_in_no_file_and_no_argument(asking: Asking, home: Home, server: Server) -> None:
    asking.ask("PUT", "/v1/bench/targets/canary", {"url": asking.url, "key": KEY})
    target = {"url": asking.url, "models": ["slow"], "key": "kept:canary"}
    given = {**spec(asking, requests=200), "targets": [target]}
    made = asking.ask("POST", f"{RUNS}?calibrate=false", given, 201)["id"]
    with asking.events(f"{RUNS}/{made}/events") as events:
        next(one for one in events if one["type"] == "progress")
    processes = psutil.Process(server.process.pid).children(recursive=True)
    assert any("heylook_llm.bench.sender" in process.cmdline() for process in processes)
    for process in processes:
        assert KEY not in " ".join((*process.cmdline(), *process.environ().values()))
    asking.ask("POST", f"{RUNS}/{made}/cancel")
    asking.until(made, "cancelled")
    asking.ask("DELETE", "/v1/bench/targets/canary")
    for path in home.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    for form in FORMS:
        assert KEY.encode() not in asking.raw("GET", f"{RUNS}/{made}/export?format={form}")[2]


# ---- comparison, documentation ---------------------------------------------------------------------------------------


def test_a_run_notes_its_machine_and_where_its_models_were_computed(asking: Asking, done: str) -> None:
    manifest = asking.ask("GET", f"{RUNS}/{done}")["manifest"]
    (target,) = manifest["targets"].values()
    assert set(target["models"]["fake"]) == {"compute", "bytes", "gpu_bytes"}
    assert target["models"]["fake"]["bytes"] > 0
    assert manifest["machine"]["available_cores"] > 0
    (system,) = asking.ask("POST", "/v1/bench/compare", {"runs": [done]})["systems"]
    assert system["machine"] == manifest["machine"]
    assert system["about"]["models"] == target["models"]


def test_runs_and_exported_files_are_compared(asking: Asking, done: str) -> None:
    exported = asking.raw("GET", f"{RUNS}/{done}/export?format=json")[2].decode()
    lines = asking.raw("GET", f"{RUNS}/{done}/export?format=jsonl")[2].decode()
    files = [{"name": "a.json", "text": exported}, {"name": "lines.jsonl", "text": lines}]
    told = asking.ask("POST", "/v1/bench/compare", {"runs": [done], "files": files, "measures": ["ttft.p50"]})
    assert [line["quantity"] for line in told["lines"]] == ["ttft.p50"] * 2
    for line in told["lines"]:
        assert len(line["sides"]) == 3
        assert line["words"] == "no difference shown", "they are the same samples"
    assert [system["name"] for system in told["systems"]] == ["whole", "whole", "lines.jsonl"]
    wrong: list[dict[str, Any]] = [{}, {"runs": "last"}, {"runs": ["last"], "measures": ["nonsense"]}, {"reports": []}]
    for body in [*wrong, {"files": [{"name": "x", "text": "{}"}]}]:
        asking.refused("POST", "/v1/bench/compare", 400, body)
    assert (
        asking.refused("POST", "/v1/bench/compare", 400, {"files": [{"name": "x", "text": "no"}]})["param"] == "files"
    )


def test_the_document_describes_every_route_and_what_it_replies(asking: Asking, done: str) -> None:
    document = asking.ask("GET", "/openapi.json")
    paths = {path for path in document["paths"] if path.startswith("/v1/bench")}
    reads = [
        ("/v1/bench/presets", "/v1/bench/presets"),
        ("/v1/bench/found", "/v1/bench/found"),
        ("/v1/bench/targets", "/v1/bench/targets"),
        (RUNS, RUNS),
        (f"{RUNS}/{{name}}", f"{RUNS}/{done}"),
        (f"{RUNS}/{{name}}/report", f"{RUNS}/{done}/report"),
        (f"{RUNS}/{{name}}/result", f"{RUNS}/{done}/result"),
        (f"{RUNS}/{{name}}/samples", f"{RUNS}/{done}/samples"),
        (f"{RUNS}/{{name}}/points", f"{RUNS}/{done}/points"),
        (f"{RUNS}/{{name}}/rows", f"{RUNS}/{done}/rows?sort=ttft&descending=true"),
    ]
    for route, path in reads:
        holds(document, route, "get", 200, asking.ask("GET", path))
    estimate = document["paths"]["/v1/bench/estimate"]["post"]
    example = estimate["requestBody"]["content"]["application/json"]["example"]
    holds(document, "/v1/bench/estimate", "post", 200, asking.ask("POST", "/v1/bench/estimate", example))
    comparing = asking.ask("POST", "/v1/bench/compare", {"runs": [done]})
    holds(document, "/v1/bench/compare", "post", 200, comparing)
    operations = [operation for path in paths for operation in document["paths"][path].values()]
    assert len(operations) == 23
    assert all(one["summary"] and one["description"] and one["tags"] == ["Bench"] for one in operations)


@LONG
def test_the_document_with_the_bench_s_routes_holds_to_its_standard(asking: Asking) -> None:
    validate(asking.ask("GET", "/openapi.json"))


def holds(document: dict[str, Any], route: str, method: str, status: int, value: Any) -> None:
    """Raises where a reply isn't what the document says."""
    (content,) = document["paths"][route][method]["responses"][str(status)]["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_store_is_only_its_users(home: Home, done: str) -> None:
    (path,) = home.folder.rglob("bench.sqlite3")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
