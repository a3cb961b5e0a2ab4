"""The bodies and replies of /v1/embeddings, /api/embed and /api/embeddings, by bytes."""

import base64
import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, EngineError, HeylookError, ModelNotFound
from heylook_llm.server.wire import llama_server_embedding, ollama_embedding, openai_embedding, vectors
from heylook_llm.server.wire.exchange import Bounds
from tests.server.scripted import INFO
from tests.wire.asking import ARRIVAL

pytestmark = pytest.mark.unit

LINE = core.Timeline(received_ns=1_000, load_end_ns=3_000, submitted_ns=4_000, closed_ns=9_000)
PAIR = core.Vectors((struct.pack("<2f", 0.6, 0.8), struct.pack("<2f", -1.0, 0.0)), (3, 4))


def openai_of(**fields: Any) -> openai_embedding.Embedding:
    return openai_embedding.parse(json.dumps({"model": "m", "input": "hi"} | fields).encode(), ARRIVAL)


def embed_of(**fields: Any) -> ollama_embedding.Embed:
    return ollama_embedding.parse_embed(json.dumps({"model": "m", "input": "hi"} | fields).encode(), ARRIVAL)


def older_of(**fields: Any) -> ollama_embedding.Embeddings:
    return ollama_embedding.parse_embeddings(json.dumps({"model": "m", "prompt": "hi"} | fields).encode(), ARRIVAL)


def asked(inquiry: Any, info: core.ModelInfo = INFO) -> core.Embed:
    operation = inquiry.operation(info)
    assert isinstance(operation, core.Embed)
    return operation


def text(value: str) -> core.TextPrompt:
    return core.TextPrompt(value)


# ---- vectors as text -------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_numbers_and_base64_are_the_same_vector(values: list[float]) -> None:
    vector = struct.pack(f"<{len(values)}f", *values)
    assert json.loads(vectors.numbers(vector)) == values
    assert base64.b64decode(json.loads(vectors.packed(vector))) == vector


def test_an_array_of_nothing() -> None:
    assert vectors.array([]) == b"[]"


# ---- POST /v1/embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("hi", (text("hi"),)),
        ("", (text(""),)),
        (["a", "", "b"], (text("a"), text(""), text("b"))),
        ([1, 2, 3], (core.TokenPrompt((1, 2, 3)),)),
        ([[1, 2], [3]], (core.TokenPrompt((1, 2)), core.TokenPrompt((3,)))),
        (["a", [5]], (text("a"), core.TokenPrompt((5,)))),
    ],
)
def test_every_form_of_input(given: Any, prompts: tuple[core.Prompt, ...]) -> None:
    operation = asked(openai_of(input=given))
    assert operation == core.Embed(prompts, received_ns=ARRIVAL.received_ns)
    assert operation.normalize
    assert not operation.truncate


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": []}, "input", "invalid_value"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": {}}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": True}, "input", "invalid_type"),
        ({"input": ["a", 5]}, "input[1]", "invalid_type"),
        ({"input": ["a", None]}, "input[1]", "invalid_type"),
        ({"input": [True]}, "input[0]", "invalid_type"),
        ({"input": [1, "a"]}, "input[1]", "invalid_type"),
        ({"input": [1, 2.5]}, "input[1]", "invalid_type"),
        ({"input": [[1], [True]]}, "input[1][0]", "invalid_type"),
        ({"input": [[1], []]}, "input[1]", "invalid_value"),
        ({"input": [[[1]]]}, "input[0][0]", "invalid_type"),
        ({"input": [-1]}, "input[0]", "invalid_value"),
        ({"input": [2**31]}, "input[0]", "invalid_value"),
        ({"input": ["x"] * (Bounds().max_inputs + 1)}, "input", "invalid_value"),
        ({"input": ["x"] * 100_000}, "input", "invalid_value"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"encoding_format": 5}, "encoding_format", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": -3}, "dimensions", "invalid_value"),
        ({"dimensions": "8"}, "dimensions", "invalid_type"),
        ({"dimensions": 1.5}, "dimensions", "invalid_type"),
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_type"),
        ({"add_special_tokens": "yes"}, "add_special_tokens", "invalid_type"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        openai_of(**fields)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert len(refused.value.message) < 400


def test_as_many_inputs_as_the_server_allows() -> None:
    assert len(asked(openai_of(input=["x"] * Bounds().max_inputs)).prompts) == Bounds().max_inputs


def test_dimensions_beyond_the_model_are_refused() -> None:
    assert INFO.n_embedding == 64
    assert asked(openai_of(dimensions=64)).dimensions == 64
    with pytest.raises(BadRequest, match="64 numbers") as refused:
        asked(openai_of(dimensions=65))
    assert refused.value.param == "dimensions"
    unknown = msgspec.structs.replace(INFO, n_embedding=None)
    assert asked(openai_of(dimensions=65), unknown).dimensions == 65


def test_special_tokens_can_be_left_out() -> None:
    assert asked(openai_of(add_special_tokens=False)).prompts == (core.TextPrompt("hi", add_special=False),)


def test_the_reply_in_numbers_and_in_base64() -> None:
    expected = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.6000000238418579, 0.800000011920929]},
            {"object": "embedding", "index": 1, "embedding": [-1.0, 0.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    for named in ({}, {"encoding_format": "float"}):
        reply = openai_of(**named).reply(PAIR, LINE)
        assert json.loads(reply.body) == expected
        assert reply.media_type == "application/json"
    packed = json.loads(openai_of(encoding_format="base64").reply(PAIR, LINE).body)
    for entry, vector in zip(packed["data"], PAIR.vectors, strict=True):
        assert base64.b64decode(entry["embedding"]) == vector
    assert {**packed, "data": None} == {**expected, "data": None}


def test_the_model_is_echoed_safely() -> None:
    assert json.loads(openai_of(model='a"\u2028b').reply(PAIR, LINE).body)["model"] == 'a"\u2028b'


def test_a_text_beyond_the_context_is_input() -> None:
    reply = openai_of().error(ContextLengthExceeded(limit_tokens=4, prompt_tokens=5))
    assert reply.status == 400
    told = json.loads(reply.body)["error"]
    assert (told["code"], told["param"]) == ("context_length_exceeded", "input")
    assert "maximum context length is 4 tokens" in told["message"]


def test_ignored_fields() -> None:
    inquiry = openai_of(user="me", foo=1, truncate_prompt_tokens=5, keep_alive="5m")
    assert inquiry.asked.ignored == ("truncate_prompt_tokens", "foo")
    assert inquiry.asked.keep_alive == "5m"


# ---- POST /api/embed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "prompts"),
    [("hi", ("hi",)), (["a", "", "b"], ("a", "", "b")), ("", ()), ([], ()), (None, ())],
)
def test_the_input_of_embed(given: Any, prompts: tuple[str, ...]) -> None:
    operation = asked(embed_of(input=given))
    assert operation.prompts == tuple(map(text, prompts))
    assert operation.truncate
    assert operation.normalize


def test_input_may_be_absent() -> None:
    assert asked(ollama_embedding.parse_embed(b'{"model": "m"}', ARRIVAL)).prompts == ()


@pytest.mark.parametrize("given", [5, True, {}, [1, 2], ["a", 5], [["a"]], [None]])
def test_other_types_are_an_invalid_input_type(given: Any) -> None:
    with pytest.raises(BadRequest, match=r"^invalid input type$"):
        embed_of(input=given)


def test_too_many_inputs_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"100000 texts.*8192"):
        embed_of(input=["x"] * 100_000)


@pytest.mark.parametrize(("asks", "gets"), [(None, None), (8, 8), (5000, 5000), (0, None), (-1, None)])
def test_dimensions_that_make_no_sense_are_all(asks: int | None, gets: int | None) -> None:
    assert asked(embed_of(dimensions=asks)).dimensions == gets


def test_options_of_embed() -> None:
    inquiry = embed_of(options={"num_ctx": 128, "temperature": 0, "num_gpu": 1, "seed": None}, truncate=False, foo=1)
    operation = asked(inquiry)
    assert (operation.n_ctx, operation.truncate, inquiry.asked.request.n_ctx) == (128, False, 128)
    assert inquiry.asked.ignored == ("foo", "options.temperature", "options.num_gpu")
    with pytest.raises(BadRequest, match='option "num_ctx" must be of type integer'):
        embed_of(options={"num_ctx": "many"})
    with pytest.raises(BadRequest, match='option "num_ctx" must be at most 2147483647'):
        embed_of(options={"num_ctx": 10**18})


def test_names_of_models() -> None:
    with pytest.raises(ModelNotFound, match="model '' not found"):
        embed_of(model="")
    with pytest.raises(BadRequest, match="model is required"):
        older_of(model="")
    for of in (embed_of, older_of):
        with pytest.raises(BadRequest, match="invalid model name"):
            of(model="../x")


def test_the_reply_of_embed() -> None:
    reply = embed_of(model="M:latest").reply(PAIR, LINE)
    assert reply.media_type == "application/json; charset=utf-8"
    assert json.loads(reply.body) == {
        "model": "M:latest",
        "embeddings": [[0.6000000238418579, 0.800000011920929], [-1.0, 0.0]],
        "total_duration": 8_000,
        "load_duration": 2_000,
        "prompt_eval_count": 7,
    }
    warm = msgspec.structs.replace(LINE, load_end_ns=None)
    assert json.loads(embed_of().reply(PAIR, warm).body)["load_duration"] == 3_000


def test_the_reply_to_nothing_leaves_zeros_out() -> None:
    empty = embed_of(input=[]).reply(core.Vectors((), ()), core.Timeline())
    assert json.loads(empty.body) == {"model": "m", "embeddings": []}


def test_the_older_form() -> None:
    operation = asked(older_of(options={"num_ctx": 64}))
    assert operation == core.Embed(
        (text("hi"),), normalize=False, truncate=True, n_ctx=64, received_ns=ARRIVAL.received_ns
    )
    assert json.loads(older_of().reply(PAIR, LINE).body) == {"embedding": [0.6000000238418579, 0.800000011920929]}
    assert asked(older_of(prompt="")).prompts == ()
    assert json.loads(older_of(prompt="").reply(core.Vectors((), ()), LINE).body) == {"embedding": []}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            ContextLengthExceeded(limit_tokens=4, prompt_tokens=5),
            400,
            "the input length exceeds the context length (5 tokens, the context has 4)",
        ),
        (EngineError("embedding contains NaN or Inf values", code="embedding_not_finite"), 400, "NaN or Inf values"),
        (EngineError("broken"), 500, "broken"),
        (ModelNotFound(model="x"), 404, 'model "x" not found, try pulling it first'),
        (BadRequest("no", param="input"), 400, "no"),
    ],
)
def test_errors_in_ollamas_words(error: HeylookError, status: int, words: str) -> None:
    for inquiry in (embed_of(), older_of()):
        reply = inquiry.error(error)
        assert reply.status == status
        assert words in json.loads(reply.body)["error"]


# ---- POST /embedding of llama-server ---------------------------------------------------------------------------------


def native_of(**fields: Any) -> llama_server_embedding.NativeEmbedding:
    return llama_server_embedding.parse(json.dumps({"model": "m"} | fields).encode(), ARRIVAL)


def test_llama_servers_form() -> None:
    inquiry = native_of(content=["hi", [1, 2]], foo=1)
    assert asked(inquiry) == core.Embed((text("hi"), core.TokenPrompt((1, 2))), received_ns=ARRIVAL.received_ns)
    assert inquiry.asked.ignored == ("foo",)
    assert json.loads(inquiry.reply(PAIR, LINE).body) == [
        {"index": 0, "embedding": [[0.6000000238418579, 0.800000011920929]]},
        {"index": 1, "embedding": [[-1.0, 0.0]]},
    ]
    assert asked(native_of(input="hi")).prompts == (text("hi"),)


@pytest.mark.parametrize(
    ("norm", "vector"),
    [
        (-1, [3, -4, 0]),
        (0, [24570, -32760, 0]),
        (1, [3 / 7, -4 / 7, 0]),
        (3, [3 / 91 ** (1 / 3), -4 / 91 ** (1 / 3), 0]),
    ],
)
def test_llama_servers_norms(norm: int, vector: list[float]) -> None:
    inquiry = native_of(content="hi", embd_normalize=norm)
    assert not asked(inquiry).normalize
    answer = core.Vectors((struct.pack("<3f", 3, -4, 0), struct.pack("<3f", 0, 0, 0)), (1, 1))
    told = json.loads(inquiry.reply(answer, LINE).body)
    assert told[0]["embedding"][0] == pytest.approx(vector, rel=1e-6)
    assert told[1]["embedding"] == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "content"),
        ({"content": []}, "content"),
        ({"input": [5, "x"]}, "input[1]"),
        ({"content": "x", "embd_normalize": -2}, "embd_normalize"),
        ({"content": "x", "image_data": [{}]}, "image_data"),
    ],
)
def test_llama_servers_refusals(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        native_of(**fields)
    assert caught.value.param == param


def test_llama_servers_errors() -> None:
    long = native_of(input="hi").error(ContextLengthExceeded(limit_tokens=5, prompt_tokens=9))
    assert (long.status, json.loads(long.body)["error"]["param"]) == (400, "input")
