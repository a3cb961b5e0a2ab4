"""Vectors and scores over HTTP: the real openai and ollama clients, raw requests as other clients send them."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import ollama
import openai
import pytest

from heylook_llm.worker.providers.fake_embedding import WIDTH
from tests.attacks.raw import connect, post, until_idle
from tests.serving import Running, running

pytestmark = pytest.mark.integration

MODELS = """
default_model: embedder
max_loaded_models: 4
models:
  - {id: embedder, aliases: [text-embedding-3-small], provider: fake, config: {pooling: mean, n_ctx: 512}}
  - {id: ranker, provider: fake, config: {pooling: rank, n_ctx: 512}}
  - {id: chatty, provider: fake, config: {n_ctx: 512}}
  - {id: slow, provider: fake, config: {n_ctx: 512, prefill_tokens_per_second: 2000}}
"""
TEXTS = ["near", "near!", "wholly other"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(MODELS, tmp_path_factory.mktemp("embedders")) as it:
        yield it


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as made:
        yield made


# ---- openai ----------------------------------------------------------------------------------------------------------


def test_openais_client_gets_the_same_vectors_in_each_format(client: openai.OpenAI) -> None:
    asked = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    plain = client.embeddings.create(model="embedder", input=TEXTS, encoding_format="float")
    assert [entry.index for entry in asked.data] == [0, 1, 2]
    assert [entry.embedding for entry in asked.data] == [entry.embedding for entry in plain.data]
    assert asked.model == "text-embedding-3-small"
    assert asked.usage.prompt_tokens == asked.usage.total_tokens == 5 + 6 + 13
    near, nearer, other = (np.array(entry.embedding) for entry in asked.data)
    assert len(near) == WIDTH
    assert np.linalg.norm(near) == pytest.approx(1)
    assert near @ nearer > near @ other


def test_dimensions_and_tokens(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model="embedder", input="near").data[0].embedding
    cut = client.embeddings.create(model="embedder", input="near", dimensions=4).data[0].embedding
    assert np.allclose(cut, np.array(whole[:4]) / np.linalg.norm(whole[:4]), atol=1e-6)
    tokens = client.embeddings.create(model="embedder", input=[[*b"near", 259], [*b"x"]])
    assert np.allclose(tokens.data[0].embedding, whole, atol=1e-6)


async def test_openais_async_client_and_many_at_once(server: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        alone = await client.embeddings.create(model="embedder", input="number 7")
        replies = await asyncio.gather(
            *(client.embeddings.create(model="embedder", input=f"number {at}") for at in range(20))
        )
    assert np.allclose(replies[7].data[0].embedding, alone.data[0].embedding, atol=1e-6)


def test_any_model_embeds_but_one_that_ranks(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model="chatty", input="x").data[0].embedding) == WIDTH
    with pytest.raises(openai.BadRequestError, match="POST /v1/rerank"):
        client.embeddings.create(model="ranker", input="x")


def test_a_model_that_embeds_does_not_chat(client: openai.OpenAI, server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support chat"):
        client.chat.completions.create(model="embedder", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError, match="does not support completion"):
        client.completions.create(model="embedder", prompt="hi")
    with pytest.raises(ollama.ResponseError, match='"ranker" does not support chat'):
        ollama.Client(server.url).chat("ranker", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, "input is empty"),
        ({"input": ["x"] * 100_000}, "8192"),
        ({"input": "x" * 600}, "maximum context length is 512 tokens. However, your input[0] resulted in 601"),
        ({"input": ["fine", "x" * 600]}, "input[1] resulted in 601"),
        ({"input": [999]}, "Token 999"),
        ({"input": {"a": 1}}, "Invalid type for 'input'"),
        ({"input": [["x"]]}, "Invalid type for 'input[0][0]'"),
        ({"dimensions": 33}, f"have {WIDTH} numbers"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": "nope"}, "not found"),
    ],
)
def test_hostile_bodies_get_openais_error(server: Running, fields: dict[str, Any], words: str) -> None:
    reply = httpx.post(f"{server.url}/v1/embeddings", json={"model": "embedder", "input": "x"} | fields)
    assert reply.status_code == (404 if "model" in fields else 400)
    assert words in reply.json()["error"]["message"]


def test_numbers_that_json_lacks_are_refused(server: Running) -> None:
    for body in (b'{"input": NaN}', b'{"input": [1e999]}', b'{"input": "x", "dimensions": Infinity}'):
        reply = httpx.post(f"{server.url}/v1/embeddings", content=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


def test_a_vector_without_numbers_is_the_models_fault(server: Running) -> None:
    reply = httpx.post(f"{server.url}/v1/embeddings", json={"input": "[[nan]]"})
    assert (reply.status_code, reply.headers["x-should-retry"]) == (500, "false")
    reply = httpx.post(f"{server.url}/api/embed", json={"model": "embedder", "input": "[[nan]]"})
    assert (reply.status_code, reply.json()) == (400, {"error": "embedding contains NaN or Inf values"})


# ---- ollama ----------------------------------------------------------------------------------------------------------


def test_ollamas_client_embeds(server: Running) -> None:
    client = ollama.Client(server.url)
    reply = client.embed("embedder", TEXTS)
    assert [len(vector) for vector in reply.embeddings] == [WIDTH] * 3
    assert np.linalg.norm(reply.embeddings[2]) == pytest.approx(1)
    assert reply.prompt_eval_count == 24
    assert reply.total_duration is not None
    assert reply.total_duration >= (reply.load_duration or 0) > 0
    assert client.embed("embedder", "near").embeddings[0] == reply.embeddings[0]
    assert len(client.embed("embedder", "near", dimensions=5).embeddings[0]) == 5
    assert client.embed("embedder", []).embeddings == []


def test_ollamas_older_form(server: Running) -> None:
    client = ollama.Client(server.url)
    older = client.embeddings("embedder", "near").embedding
    unit = client.embed("embedder", "near").embeddings[0]
    assert np.linalg.norm(older) != pytest.approx(1)
    assert np.allclose(np.array(older) / np.linalg.norm(older), unit, atol=1e-6)
    assert client.embeddings("embedder", "").embedding == []


async def test_ollamas_async_client(server: Running) -> None:
    assert len((await ollama.AsyncClient(server.url).embed("embedder", "x")).embeddings) == 1


def test_a_long_text_is_cut_or_refused(server: Running) -> None:
    client = ollama.Client(server.url)
    cut = httpx.post(f"{server.url}/api/embed", json={"model": "embedder", "input": "x" * 600})
    assert cut.json()["prompt_eval_count"] == 512
    assert cut.headers["x-heylook-truncated"] == "89"
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length") as refused:
        client.embed("embedder", "x" * 600, truncate=False)
    assert refused.value.status_code == 400
    shorter = client.embed("embedder", "x" * 600, options={"num_ctx": 64})
    assert shorter.prompt_eval_count == 64


def test_what_ollama_says_of_what_it_can_not_do(server: Running) -> None:
    with pytest.raises(ollama.ResponseError, match='model "nope" not found, try pulling it first') as missing:
        ollama.Client(server.url).embed("nope", "x")
    assert missing.value.status_code == 404
    for body in ({"input": 5}, {"input": ["a", 5]}):
        reply = httpx.post(f"{server.url}/api/embed", json={"model": "embedder", **body})
        assert (reply.status_code, reply.json()) == (400, {"error": "invalid input type"})


def test_what_each_model_can_do(server: Running) -> None:
    can = {model["id"]: model["capabilities"] for model in httpx.get(f"{server.url}/v1/capabilities").json()["models"]}
    assert (can["embedder"], can["ranker"]) == (["embedding"], ["rerank"])
    assert "chat" in can["chatty"]
    assert ollama.Client(server.url).show("embedder").capabilities == ["embedding"]


# ---- rerank ----------------------------------------------------------------------------------------------------------

RANKING: dict[str, Any] = {
    "model": "ranker",
    "query": "red apple",
    "documents": ["blue", {"text": "a red apple"}, "red"],
}


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/reranking", "/reranking", "/v2/rerank", "/api/rerank"])
def test_documents_are_ranked(server: Running, path: str) -> None:
    reply = httpx.post(server.url + path, json=RANKING | {"top_n": 2, "return_documents": True}).json()
    assert [(result["index"], result["document"]["text"]) for result in reply["results"]] == [
        (1, "a red apple"),
        (2, "red"),
    ]
    assert reply["results"][0]["relevance_score"] == pytest.approx(1 / (1 + np.exp(-4)))


def test_text_embeddings_inferences_form(server: Running) -> None:
    body = {"model": "ranker", "query": "red apple", "texts": ["blue", "red"], "raw_scores": True}
    assert httpx.post(f"{server.url}/rerank", json=body).json() == [
        {"index": 1, "score": 0.0},
        {"index": 0, "score": -4.0},
    ]


def test_what_can_not_be_ranked_is_refused(server: Running) -> None:
    for model in ("embedder", "chatty"):
        reply = httpx.post(f"{server.url}/v1/rerank", json=RANKING | {"model": model})
        assert reply.status_code == 400
        assert f'"{model}" does not support rerank' in reply.json()["error"]["message"]
    reply = httpx.post(f"{server.url}/api/rerank", json=RANKING | {"model": "embedder"})
    assert (reply.status_code, type(reply.json()["error"])) == (400, str)
    long = RANKING | {"documents": ["fine", "x " * 400]}
    reply = httpx.post(f"{server.url}/v1/rerank", json=long)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "documents")
    reply = httpx.post(f"{server.url}/v1/rerank", json=long | {"truncate": True})
    assert reply.status_code == 200
    assert int(reply.headers["x-heylook-truncated"]) > 0


# ---- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_leaving_stops_a_long_list(server: Running, path: str) -> None:
    httpx.post(f"{server.url}/v1/models/slow/load", timeout=30)
    sock = connect(server)
    sock.sendall(post(path, json.dumps({"model": "slow", "input": ["x" * 500] * 8000}).encode()))
    while not any(entry["state"] == "prefill" for entry in httpx.get(f"{server.url}/v1/requests").json()["data"]):
        continue
    sock.close()
    until_idle(server, "slow")
    reply = httpx.post(server.url + path, json={"model": "slow", "input": "x"}, timeout=30)
    assert reply.status_code == 200
