"""The bodies and replies of /v1/rerank in the shapes of Jina, Cohere, vLLM, llama-server and TEI, by bytes."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, UnsupportedFeature
from heylook_llm.server.wire import ollama, rerank
from tests.server.scripted import INFO
from tests.wire.asking import ARRIVAL

pytestmark = pytest.mark.unit

LINE = core.Timeline()
SCORES = core.Scores((0.0, 4.0, -4.0), (5, 6, 7))
DOCUMENTS = ["a", {"text": "b"}, "c"]


def ranking(**fields: Any) -> rerank.Rerank:
    return rerank.parse(json.dumps({"model": "m", "query": "q"} | fields).encode(), ARRIVAL)


def replied(scores: core.Scores = SCORES, **fields: Any) -> Any:
    return json.loads(ranking(**fields).reply(scores, LINE).body)


def test_documents_are_texts_or_objects_with_a_text() -> None:
    operation = ranking(documents=DOCUMENTS, truncate=True, max_tokens_per_doc=9).operation(INFO)
    assert operation == core.Rerank(
        "q", ("a", "b", "c"), truncate=True, document_tokens=9, received_ns=ARRIVAL.received_ns
    )


def test_the_reply_holds_what_each_client_reads() -> None:
    told = replied(documents=DOCUMENTS)
    assert told["id"] == "rerank-" + "0123456789abcdef" * 2
    assert (told["object"], told["model"]) == ("list", "m")
    assert [result["index"] for result in told["results"]] == [1, 0, 2]
    scores = [result["relevance_score"] for result in told["results"]]
    assert scores == pytest.approx([0.98201379, 0.5, 0.01798621])
    assert all(set(result) == {"index", "relevance_score"} for result in told["results"])
    assert told["usage"] == {"prompt_tokens": 18, "total_tokens": 18}
    assert told["meta"] == {
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": 18, "output_tokens": 0},
    }


def test_the_best_with_their_documents() -> None:
    told = replied(documents=DOCUMENTS, top_n=2, return_documents=True)
    assert [result["document"] for result in told["results"]] == [{"text": "b"}, {"text": "a"}]
    assert len(replied(documents=DOCUMENTS, top_n=100)["results"]) == 3


def test_equal_scores_keep_their_order() -> None:
    told = replied(core.Scores((1.0, 1.0, 1.0), (1, 1, 1)), documents=DOCUMENTS)
    assert [result["index"] for result in told["results"]] == [0, 1, 2]


def test_the_form_of_text_embeddings_inference() -> None:
    told = replied(texts=["a", "b", "c"], return_text=True, raw_scores=True)
    assert told == [
        {"index": 1, "score": 4.0, "text": "b"},
        {"index": 0, "score": 0.0, "text": "a"},
        {"index": 2, "score": -4.0, "text": "c"},
    ]
    assert replied(texts=["a", "b", "c"])[1] == {"index": 0, "score": 0.5}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({}, "documents", "missing_required_parameter"),
        ({"documents": []}, "documents", "invalid_value"),
        ({"texts": []}, "texts", "invalid_value"),
        ({"documents": "a"}, "documents", "invalid_type"),
        ({"documents": ["a", 5]}, "documents[1]", "invalid_type"),
        ({"documents": ["a", None]}, "documents[1]", "invalid_type"),
        ({"documents": [{"image": "x"}]}, "documents[0]", "invalid_type"),
        ({"documents": [{"text": 5}]}, "documents[0]", "invalid_type"),
        ({"documents": ["x"] * 100_000}, "documents", "invalid_value"),
        ({"texts": ["x"] * 100_000}, "texts", "invalid_value"),
        ({"documents": ["a"], "query": ""}, "query", "invalid_value"),
        ({"documents": ["a"], "query": None}, "query", "missing_required_parameter"),
        ({"documents": ["a"], "query": ["q"]}, "query", "invalid_type"),
        ({"documents": ["a"], "top_n": 0}, "top_n", "invalid_value"),
        ({"documents": ["a"], "top_n": "2"}, "top_n", "invalid_type"),
        ({"documents": ["a"], "model": " "}, "model", "missing_required_parameter"),
        ({"documents": ["a"], "max_tokens_per_doc": 0}, "max_tokens_per_doc", "invalid_value"),
        ({"documents": ["a"], "return_documents": 1}, "return_documents", "invalid_type"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        ranking(**fields)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_ignored_fields_are_named() -> None:
    inquiry = ranking(documents=["a"], rank_fields=["text"], user="me", foo=1)
    assert inquiry.asked.ignored == ("rank_fields", "foo")


def test_errors_in_the_words_of_the_path() -> None:
    error = ContextLengthExceeded(limit_tokens=4, prompt_tokens=5)
    told = json.loads(ranking(documents=["a"]).error(error).body)["error"]
    assert (told["code"], told["param"]) == ("context_length_exceeded", "documents")
    assert json.loads(ranking(texts=["a"]).error(error).body)["error"]["param"] == "texts"
    body = b'{"model": "m", "query": "q", "documents": ["a"]}'
    words = rerank.parse(body, ARRIVAL, ollama.error).error(UnsupportedFeature("does not support rerank"))
    assert json.loads(words.body) == {"error": "does not support rerank"}


@given(st.floats(-1e4, 1e4))
def test_a_score_is_a_share(logit: float) -> None:
    assert 0 <= rerank.sigmoid(logit) <= 1
    assert rerank.sigmoid(logit) + rerank.sigmoid(-logit) == pytest.approx(1)
    if abs(logit) < 500:
        assert rerank.sigmoid(logit) == pytest.approx(1 / (1 + math.exp(-logit)))
