"""OpenAI's files and batches by its own client: what goes in, what comes out, and what a restart makes of it."""

import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest

from tests.conftest import FAKES
from tests.serving import Running, running

pytestmark = pytest.mark.integration
CHAT: Final = "/v1/chat/completions"


def asking(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)


@pytest.fixture
def client(fake_server: Running) -> Iterator[openai.OpenAI]:
    with asking(fake_server) as made:
        yield made


def said(text: str, model: str = "fake") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": f"[[say:{text}]]"}]}


def lines(bodies: dict[str, dict[str, Any]], url: str = CHAT) -> bytes:
    rows = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name, body in bodies.items()]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def uploaded(client: openai.OpenAI, data: bytes) -> str:
    return client.files.create(file=("in.jsonl", data), purpose="batch").id


def ended(client: openai.OpenAI, identity: str) -> Any:
    while (batch := client.batches.retrieve(identity)).status in (
        "validating",
        "in_progress",
        "finalizing",
        "cancelling",
    ):
        continue
    return batch


def rows(client: openai.OpenAI, file: str | None) -> dict[str, Any]:
    """The lines of a file, by their names; each name stands once."""
    found: dict[str, Any] = {}
    for line in client.files.content(file).text.splitlines() if file else ():
        row = json.loads(line)
        assert row["custom_id"] not in found
        found[row["custom_id"]] = row
    return found


def test_a_file_comes_back_as_it_went(client: openai.OpenAI) -> None:
    data = b'{"custom_id": "\xc3\xa9"}\r\n\x00\n'
    file = client.files.create(
        file=("a b.jsonl", data), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (file.object, file.bytes, file.filename, file.purpose, file.status) == (
        "file", len(data), "a b.jsonl", "batch", "processed",
    )  # fmt: skip
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == data
    other = uploaded(client, b"x")
    newest = [one.id for one in client.files.list(limit=1)]
    assert newest[0] == other
    assert file.id in newest, "the client asks for page after page"
    assert [one.id for one in client.files.list(order="asc", after=file.id)] == [other]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object") as gone:
        client.files.content(file.id)
    assert gone.value.code == "file_not_found"


def test_a_batch_is_answered_line_by_line(client: openai.OpenAI) -> None:
    bodies = {f"request {at}": said(f"answer {at}") for at in range(20)}
    bodies |= {"wrong": {"model": "fake", "messages": []}, "unknown": said("x", "nope")}
    source = uploaded(client, lines(bodies))
    batch = client.batches.create(
        input_file_id=source, endpoint=CHAT, completion_window="24h", metadata={"purpose": "test"}
    )
    assert (batch.object, batch.input_file_id, batch.endpoint) == ("batch", source, CHAT)
    done = ended(client, batch.id)
    assert (done.status, done.metadata, done.errors) == ("completed", {"purpose": "test"}, None)
    assert done.request_counts.model_dump() == {"total": 22, "completed": 20, "failed": 2}
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at < done.expires_at
    out = rows(client, done.output_file_id)
    assert set(out) == {f"request {at}" for at in range(20)}
    for at in range(20):
        response = out[f"request {at}"]["response"]
        assert response["status_code"] == 200
        assert response["request_id"].startswith("req_")
        assert response["body"]["choices"][0]["message"]["content"] == f"answer {at}"
    errors = rows(client, done.error_file_id)
    assert {name: row["response"]["status_code"] for name, row in errors.items()} == {"wrong": 400, "unknown": 404}
    assert errors["unknown"]["response"]["body"]["error"]["code"] == "model_not_found"
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    client.files.delete(source)


@pytest.mark.parametrize(
    ("endpoint", "body", "answer"),
    [
        ("/v1/completions", {"model": "fake", "prompt": "[[say:x]]"}, {"object": "text_completion"}),
        ("/v1/embeddings", {"model": "fake", "input": "x"}, {"object": "list"}),
    ],
)
def test_other_endpoints(client: openai.OpenAI, endpoint: Any, body: dict[str, Any], answer: dict[str, Any]) -> None:
    source = uploaded(client, lines({"a": body}, endpoint))
    batch = client.batches.create(input_file_id=source, endpoint=endpoint, completion_window="24h")
    (row,) = rows(client, ended(client, batch.id).output_file_id).values()
    assert answer.items() <= row["response"]["body"].items()


WRONG = [
    (b"", "empty_file", None),
    (b"{\n", "invalid_json", 1),
    (b"[]\n", "invalid_json_line", 1),
    (lines({"a": {}}, "/v1/embeddings"), "mismatched_endpoint", 1),
    (b'\n{"custom_id": "", "url": "/v1/chat/completions", "body": {}}\n', "missing_required_parameter", 2),
    (lines({"a": said("x")}) * 2, "duplicate_custom_id", 2),
    (lines({"a": {**said("x"), "stream": True}}), "unsupported_value", 1),
]


@pytest.mark.parametrize(("data", "code", "line"), WRONG)
def test_a_file_that_is_wrong_fails_its_batch(client: openai.OpenAI, data: bytes, code: str, line: int | None) -> None:
    batch = client.batches.create(input_file_id=uploaded(client, data), endpoint=CHAT, completion_window="24h")
    failed = ended(client, batch.id)
    assert (failed.status, failed.output_file_id) == ("failed", None)
    assert failed.failed_at is not None
    (problem,) = failed.errors.data
    assert (problem.code, problem.line) == (code, line)


def test_a_batch_yields_and_can_be_cancelled(client: openai.OpenAI, fake_server: Running) -> None:
    long = {**said("x", "slow"), "messages": [{"role": "user", "content": "[[count:100]]"}]}
    source = uploaded(client, lines({f"a{at}": long for at in range(30)}))
    batch = client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
    while len(flying := httpx.get(f"{fake_server.url}/v1/requests").json()["data"]) < 8:
        continue
    assert len(flying) == 8, "no more at a time"
    answer = client.chat.completions.create(**said("now", "slow"))
    assert answer.choices[0].message.content == "now"
    with pytest.raises(openai.ConflictError, match=batch.id) as busy:
        client.files.delete(source)
    assert busy.value.response.headers["x-should-retry"] == "false"
    assert client.batches.cancel(batch.id).status == "cancelling"
    done = ended(client, batch.id)
    assert done.status == "cancelled"
    assert done.cancelling_at <= done.cancelled_at
    errors, out = rows(client, done.error_file_id), rows(client, done.output_file_id)
    assert len(errors) + len(out) == 30
    assert {row["error"]["code"] for row in errors.values()} == {"batch_cancelled"}
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    while httpx.get(f"{fake_server.url}/v1/requests").json()["data"]:
        continue


def test_what_is_refused(client: openai.OpenAI, fake_server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose must be 'batch'"):
        client.files.create(file=("a", b"x"), purpose="assistants")
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        client.files.create(file=("a", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1})
    wrong: Any = "/v1/moderations"
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id="x", endpoint=wrong, completion_window="24h")
    assert refused.value.param == "endpoint"
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    plain = httpx.post(f"{fake_server.url}/v1/files", json={})
    assert (plain.status_code, plain.json()["error"]["code"]) == (400, "invalid_content_type")
    for path in ("/v1/files?limit=0", f"/v1/files?limit={'9' * 5000}", "/v1/batches?after=none", "/v1/files?order=up"):
        assert httpx.get(fake_server.url + path).status_code == 400


def test_a_restart_goes_on_where_a_killed_server_was(tmp_path: Path) -> None:
    data = tmp_path / "state"
    options: dict[str, Any] = {"data_folder": str(data)}
    bodies = {f"a{at}": said("0123456789" if at % 2 else "x", "slow") for at in range(16)}
    with running(FAKES, tmp_path, **options) as first, asking(first) as client:
        source = uploaded(client, lines(bodies))
        batch = client.batches.create(input_file_id=source, endpoint=CHAT, completion_window="24h")
        while not (counts := client.batches.retrieve(batch.id).request_counts) or not counts.completed:
            continue
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    torn = next((data / "batches" / "files").glob("*-output.part"))
    answered = torn.read_bytes()
    torn.write_bytes(answered + b'{"id":"batch_req_torn","custom_id":"a15","resp')
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (data / "batches").rglob("*") if path.is_file()}
    assert modes == {0o600}
    with running(FAKES, tmp_path, **options) as second, asking(second) as client:
        done = ended(client, batch.id)
        assert (done.status, done.request_counts.completed, done.error_file_id) == ("completed", 16, None)
        text = client.files.content(done.output_file_id).content
        assert text.startswith(answered), "what was answered isn't asked again"
        assert set(rows(client, done.output_file_id)) == set(bodies)
