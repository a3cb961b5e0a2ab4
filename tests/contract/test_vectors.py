"""Vectors of texts, and tokens of them, on every provider."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.subjects import CONTEXT, Subject

pytestmark = pytest.mark.integration

TEXTS = [
    "Paris is the capital of France.",
    "7",
    "A much longer text that holds many words. " * 6,
    "Count from 1 to 20.",
]


def vectors(subject: Subject, path: str = "/v1/embeddings", **fields: Any) -> tuple[np.ndarray[Any, Any], Any]:
    """The vectors of a request, and the whole reply."""
    reply = httpx.post(subject.server.url + path, json={"model": subject.provider, **fields}, timeout=100)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    found = told["embeddings"] if path == "/api/embed" else [entry["embedding"] for entry in told["data"]]
    return np.array(found), told


@pytest.mark.asks("embeddings")
def test_texts_have_the_same_vectors_together_and_alone(subject: Subject) -> None:
    together, told = vectors(subject, input=TEXTS)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)
    assert told["usage"]["prompt_tokens"] > len(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        alone, _ = vectors(subject, input=text)
        assert alone[0] @ vector > 0.999
    assert together[0] @ together[1] < 0.999


@pytest.mark.asks("embeddings")
def test_vectors_are_cut_to_their_dimensions(subject: Subject) -> None:
    whole, _ = vectors(subject, input=TEXTS[0])
    cut, _ = vectors(subject, input=TEXTS[0], dimensions=8)
    assert np.allclose(cut[0], whole[0][:8] / np.linalg.norm(whole[0][:8]), atol=1e-4)


@pytest.mark.asks("embeddings")
def test_a_text_beyond_the_context_is_refused_or_cut(subject: Subject) -> None:
    long = "many words and more " * CONTEXT
    body = {"model": subject.provider, "input": long}
    refused = httpx.post(f"{subject.server.url}/v1/embeddings", json=body, timeout=100)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    _, told = vectors(subject, "/api/embed", input=long)
    assert told["prompt_eval_count"] == CONTEXT


@pytest.mark.asks("rerank")
def test_documents_are_scored_against_a_query_together_as_alone(subject: Subject) -> None:
    ranks = subject if subject.provider == "mlx" else subject.sibling("ranks")
    documents = ["Paris", "Rome is old", "bread and wine"]

    def scores(*texts: str) -> dict[str, float]:
        found = ranks.post("/v1/rerank", query="Which is a city?", documents=list(texts))["results"]
        assert [one["relevance_score"] for one in found] == sorted(
            (one["relevance_score"] for one in found), reverse=True
        )
        return {texts[one["index"]]: one["relevance_score"] for one in found}

    together = scores(*documents)
    assert len(set(together.values())) > 1
    for text in documents:
        assert scores(text)[text] == pytest.approx(together[text], abs=1e-3)


@pytest.mark.asks("tokens")
def test_tokens_become_the_same_text_again(subject: Subject) -> None:
    def asked(path: str, **fields: Any) -> Any:
        reply = httpx.post(subject.server.url + path, json={"model": subject.provider, **fields}, timeout=100)
        assert reply.status_code == 200, reply.text
        return reply.json()

    text = "Gr\u00fc\u00dfe \N{GRINNING FACE} 42"
    tokens = asked("/tokenize", content=text)["tokens"]
    assert asked("/detokenize", tokens=tokens)["content"] == text
    prompt = asked("/apply-template", messages=[{"role": "user", "content": text}])["prompt"]
    assert text in prompt
    counted = asked("/tokenize", messages=[{"role": "user", "content": text}])["count"]
    assert counted > len(tokens)
