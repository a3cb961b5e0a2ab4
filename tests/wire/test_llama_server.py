"""llama-server's own dialect: bodies to Requests, Events to replies, errors."""

import json
from typing import Any

import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, ContextLengthExceeded, HeylookError, LoadFailed, UnsupportedFeature
from heylook_llm.server.wire import llama_server
from heylook_llm.server.wire.llama_server_body import BAN
from tests.server.scripted import INFO, done
from tests.wire.asking import ARRIVAL, WALL, whole

pytestmark = pytest.mark.unit


def native(**fields: Any) -> llama_server.Native:
    return llama_server.parse_completion(json.dumps({"model": "m", "prompt": "hi"} | fields).encode(), ARRIVAL)


def infill(**fields: Any) -> llama_server.Native:
    given = {"model": "m", "input_prefix": "a", "input_suffix": "b"} | fields
    return llama_server.parse_infill(json.dumps(given).encode(), ARRIVAL)


def request(**fields: Any) -> core.Request:
    return native(**fields).asked.request


def events(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.decode().split("\n\n") if line]


def streamed(exchange: llama_server.Native, *given: core.Event) -> list[dict[str, Any]]:
    exchange.adapt(INFO)
    return events(b"".join(exchange.feed(event, WALL) for event in given) + exchange.end())


TEXT = core.TextPrompt("hi")


@pytest.mark.parametrize(
    ("prompt", "understood"),
    [
        ("hi", [TEXT]),
        ("", [core.TextPrompt("")]),
        ([1, 2], [core.TokenPrompt((1, 2))]),
        ([1, "hi", 2], [core.MixedPrompt((1, "hi", 2))]),
        (["hi", 2], [core.MixedPrompt(("hi", 2))]),
        (["hi", "ho"], [TEXT, core.TextPrompt("ho")]),
        ([[1, 2], "hi", ["a", 3]], [core.TokenPrompt((1, 2)), TEXT, core.MixedPrompt(("a", 3))]),
        ({"prompt_string": "hi"}, [TEXT]),
        ([{"prompt_string": "hi", "multimodal_data": []}, "hi"], [TEXT, TEXT]),
    ],
)
def test_prompts(prompt: Any, understood: list[core.Prompt]) -> None:
    assert list(request(prompt=prompt).prompts) == understood


@pytest.mark.parametrize("prompt", [[], [[]], 5, True, [1, True], [-1], [1.5], [["a", {}]], {"text": "hi"}, [[[1]]]])
def test_what_is_no_prompt(prompt: Any) -> None:
    with pytest.raises(BadRequest) as bad:
        native(prompt=prompt)
    assert (bad.value.param or "").startswith("prompt")


def test_names_of_llama_server() -> None:
    asked = request(
        n_predict=5, temperature=3, top_k=40, typical_p=0.9, repeat_penalty=1.1, repeat_last_n=-1, mirostat=2,
        dry_multiplier=0.8, xtc_probability=0.5, seed=-1, n_probs=3, stop=["x"], n_cmpl=2, min_p=0.1, n_indent=4,
        t_max_predict_ms=500, cache_prompt=True, logit_bias=[[5, 1.5], [6, False]],
    )  # fmt: skip
    sampling = asked.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.logprobs, asked.n) == (5, 3, 3, 2)
    assert (sampling.least_indent, sampling.time_limit_seconds, sampling.seed) == (4, 0.5, None)
    assert sampling.logit_bias == {5: 1.5, 6: BAN}
    assert request(logit_bias={"7": False}).sampling.logit_bias == {7: BAN}
    for endless in ({"n_predict": -1}, {"max_tokens": -1}, {}):
        assert request(**endless).sampling.max_tokens is None
    assert request(n_predict=0).sampling.max_tokens == 0
    assert request(n_probs=0).sampling.logprobs is None
    assert request(t_max_predict_ms=-1).sampling.time_limit_seconds is None


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": [["Hello", -1]]},
        {"logit_bias": [[1, 2, 3]]},
        {"logit_bias": [[1, True]]},
        {"image_data": [{"data": "x", "id": 1}]},
        {"prompt": {"prompt_string": "x", "multimodal_data": ["aGk="]}},
        {"lora": [{"id": 0, "scale": 1}]},
        {"post_sampling_probs": True},
        {"grammar_lazy": True},
        {"n_probs": -1},
        {"n_predict": -2},
        {"grammar": "root ::= 'x'", "json_schema": {}},
    ],
)
def test_what_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        native(**fields)


def test_what_changes_nothing_is_told() -> None:
    told = native(id_slot=1, samplers=["top_k"], t_max_prompt_ms=5, min_keep=1, strange=1).asked.ignored
    assert set(told) == {"id_slot", "samplers", "t_max_prompt_ms", "min_keep", "strange"}
    neutral = native(image_data=[], lora=[], grammar_lazy=False, post_sampling_probs=False, cache_prompt=False)
    assert neutral.asked.ignored == ()


def test_a_whole_reply() -> None:
    exchange = native(prompt="hi", temperature=0, stop=["END"], return_tokens=True)
    told = whole(exchange, core.Text(0, "a\nb", (5, 6)), done(output=2))
    assert (told["content"], told["tokens"], told["stop"], told["model"]) == ("a\nb", [5, 6], True, "m")
    assert (told["tokens_predicted"], told["tokens_evaluated"], told["tokens_cached"]) == (2, 7, 8)
    assert (told["stop_type"], told["stopping_word"], told["has_new_line"], told["truncated"]) == (
        "eos",
        "",
        True,
        False,
    )
    assert (told["prompt"], told["index"]) == ("hi", 0)
    assert told["timings"]["predicted_n"] == 2
    settings = told["generation_settings"]
    assert (settings["temperature"], settings["stop"], settings["seed"]) == (0, ["END"], llama_server.RANDOM_SEED)
    assert settings["n_predict"] == settings["max_tokens"] == -1


def test_why_it_ended() -> None:
    limit = whole(native(), core.Text(0, "a"), done(reason="length"))
    assert limit["stop_type"] == "limit"
    ended = done()
    stopped = core.Done(0, "stop", ended.usage, ended.timeline, stop="x")
    assert [whole(native(), stopped)[key] for key in ("stop_type", "stopping_word")] == ["word", "x"]


def test_several_answers_are_a_list() -> None:
    told: Any = whole(native(prompt=["a", "b"]), core.Text(1, "y"), core.Text(0, "x"), done(0), done(1))
    assert [(one["index"], one["content"], one["prompt"]) for one in told] == [(0, "x", "a"), (1, "y", "b")]


def test_fields_of_the_reply_that_are_wanted() -> None:
    exchange = native(response_fields=["content", "timings/prompt_n", "generation_settings/n_predict", "no/such", "x"])
    assert whole(exchange, core.Text(0, "a"), done(prompt=7)) == {
        "content": "a",
        "timings/prompt_n": 5,
        "generation_settings/n_predict": -1,
    }


def test_a_stream_has_a_chunk_for_each_piece_and_no_end_mark() -> None:
    chunks = streamed(
        native(stream=True),
        core.Progress(0, 7, 7),
        core.Text(0, "a\n", (5,)),
        core.Text(0, "", ()),
        core.Text(0, "b", (6, 7)),
        done(output=3),
    )
    assert [chunk["content"] for chunk in chunks] == ["a\n", "b", ""]
    assert [chunk["stop"] for chunk in chunks] == [False, False, True]
    assert [chunk["tokens_predicted"] for chunk in chunks] == [1, 3, 3]
    assert [chunk["tokens_evaluated"] for chunk in chunks] == [7, 7, 7]
    assert [chunk["tokens"] for chunk in chunks] == [[5], [6, 7], []]
    assert (chunks[-1]["has_new_line"], chunks[-1]["timings"]["predicted_n"]) == (True, 3)
    assert whole(native(), core.Text(0, "a", (5,)), done())["tokens"] == [], "of a whole reply only where asked"


def test_probabilities() -> None:
    token = core.TokenLogprob(5, b"a", -0.5, (core.TopLogprob(6, b"\xff", -1e9),))
    expected = {
        "id": 5, "token": "a", "bytes": [97], "logprob": -0.5,
        "top_logprobs": [{"id": 6, "token": "", "bytes": [255], "logprob": -9999.0}],
    }  # fmt: skip
    text = core.Text(0, "a", (5,), (token,))
    assert whole(native(n_probs=1), text, done())["completion_probabilities"] == [expected]
    first, last = streamed(native(n_probs=1, stream=True), text, done())
    assert first["completion_probabilities"] == [expected]
    assert "completion_probabilities" not in last


def test_infill() -> None:
    exchange = infill(prompt="p", input_extra=[{"text": "t", "filename": "f"}, {"text": "u"}], n_predict=9)
    asked = exchange.asked.request
    assert asked.prompts == (core.InfillPrompt("a", "b", "p", (("f", "t"), ("tmp", "u"))),)
    assert (exchange.asked.needs, asked.sampling.max_tokens, asked.echo) == (("completion", "insert"), 9, True)
    assert not infill(response_fields=["content"]).asked.request.echo
    with pytest.raises(UnsupportedFeature, match="Infill is not supported by this model") as refused:
        exchange.adapt(INFO)
    assert llama_server.error_object(refused.value)["error"]["type"] == "not_supported_error"
    for missing in ("input_prefix", "input_suffix"):
        with pytest.raises(BadRequest, match=f"Missing required parameter: '{missing}'"):
            infill(**{missing: None})
    with pytest.raises(BadRequest, match=r"input_extra\[0\].text"):
        infill(input_extra=[{"filename": "f"}])


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (UnsupportedFeature("x"), "not_supported_error"),
        (ContextLengthExceeded(limit_tokens=5, prompt_tokens=9), "exceed_context_size_error"),
        (LoadFailed("x"), "server_error"),
    ],
)
def test_errors(problem: HeylookError, kind: str) -> None:
    reply = native().error(problem)
    told = json.loads(reply.body)["error"]
    assert (told["type"], told["code"], reply.status) == (kind, problem.status, problem.status)
    if isinstance(problem, ContextLengthExceeded):
        assert (told["n_ctx"], told["n_prompt_tokens"], told["param"]) == (5, 9, "prompt")
    assert events(native().failure(problem)) == [json.loads(reply.body)]
