"""What is answered, and where it ends: chats, raw prompts, several answers, stops, lengths."""

from typing import Any

import pytest

from tests.contract.subjects import ANSWERS, CAPITAL, COUNT, Refused, Subject

pytestmark = pytest.mark.integration

ANSWER = ANSWERS[COUNT]
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
MOST_STOPS = [f"never {at}" for at in range(15)]


def told(chunks: list[Any]) -> str:
    """The text of a streamed chat."""
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def counted(usage: dict[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and answer."""
    return usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.asks("chat")
@pytest.mark.parametrize("question", list(ANSWERS))
def test_a_chat_is_answered(subject: Subject, question: str) -> None:
    assert subject.text(question) == ANSWERS[question]


@pytest.mark.asks("chat")
def test_a_stream_says_what_a_whole_reply_says(subject: Subject) -> None:
    whole = subject.chat()
    chunks = list(subject.chat_lines(stream_options={"include_usage": True}))
    assert told(chunks) == whole["choices"][0]["message"]["content"] == ANSWER
    assert len(chunks) > 10
    assert counted(chunks[-1]["usage"]) == counted(whole["usage"])
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"


@pytest.mark.asks("chat")
def test_ollamas_api_says_the_same(subject: Subject) -> None:
    messages = [{"role": "user", "content": subject.said(COUNT)}]
    whole = subject.ollama("/api/chat", messages=messages, think=False)
    assert whole["message"]["content"] == ANSWER
    options = {"temperature": 0, "num_predict": 200}
    lines = list(subject.lines("/api/chat", messages=messages, think=False, options=options))
    assert "".join(line["message"]["content"] for line in lines) == ANSWER
    assert lines[-1]["done_reason"] == whole["done_reason"] == "stop"
    assert lines[-1]["eval_count"] == whole["eval_count"] > 10


@pytest.mark.asks("completion")
def test_a_raw_prompt_is_continued_as_text_and_as_tokens(subject: Subject) -> None:
    prompt = TURN.format(subject.said(CAPITAL))
    assert subject.complete(prompt)["choices"][0]["text"] == ANSWERS[CAPITAL]
    assert subject.complete(subject.tokens(prompt))["choices"][0]["text"] == ANSWERS[CAPITAL]
    raw = subject.ollama("/api/generate", prompt=prompt, raw=True)
    assert raw["response"] == ANSWERS[CAPITAL]


@pytest.mark.asks("completion")
def test_several_prompts_in_one_request(subject: Subject) -> None:
    prompts = [TURN.format(subject.said(question)) for question in ANSWERS]
    reply = subject.complete(prompts, max_tokens=200)
    assert [choice["text"] for choice in reply["choices"]] == list(ANSWERS.values())
    alone = [subject.complete(prompt, max_tokens=200)["usage"] for prompt in prompts]
    assert counted(reply["usage"]) == tuple(map(sum, zip(*map(counted, alone), strict=True)))


@pytest.mark.asks("completion")
def test_a_prompt_is_echoed_where_asked(subject: Subject) -> None:
    [choice] = subject.complete("abc", echo=True, max_tokens=3)["choices"]
    assert choice["text"].startswith("abc")


@pytest.mark.asks("infill")
def test_text_between_a_prompt_and_a_suffix(subject: Subject) -> None:
    """What a model can, it says of itself; who can't is refused."""
    subject.chat(max_tokens=1)
    capabilities = subject.http.get(f"/v1/models/{subject.model}").json()["capabilities"]
    if "insert" in capabilities:
        reply = subject.complete("def add(a, b):\n", suffix="\n    return c", max_tokens=8)
        assert reply["usage"]["completion_tokens"] > 0
        return
    with pytest.raises(Refused, match="does not support insert") as refused:
        subject.complete("def add(a, b):\n", suffix="\n    return c", max_tokens=8)
    assert (refused.value.status, refused.value.error["param"]) == (400, "suffix")


# ---- several answers -------------------------------------------------------------------------------------------------


@pytest.mark.asks("n")
def test_several_answers_count_their_prompt_once(subject: Subject) -> None:
    one = subject.chat()
    three = subject.chat(n=3)
    assert [choice["message"]["content"] for choice in three["choices"]] == [ANSWER] * 3
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    prompt, answer = counted(one["usage"])
    assert counted(three["usage"]) == (prompt, 3 * answer)


@pytest.mark.asks("n")
def test_several_answers_in_a_stream(subject: Subject) -> None:
    texts = ["", "", ""]
    for chunk in subject.chat_lines(n=3):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == [ANSWER] * 3


# ---- stops -----------------------------------------------------------------------------------------------------------


@pytest.mark.asks("stop")
@pytest.mark.parametrize("stop", ["7", ", 8, 9", "1", "0, 11", "20", [*MOST_STOPS, "5"], ["12", "9, 1", "14"]])
def test_a_stop_string_ends_the_text_before_it(subject: Subject, stop: str | list[str]) -> None:
    first = min(ANSWER.index(one) for one in ([stop] if isinstance(stop, str) else stop) if one in ANSWER)
    [choice] = subject.chat(stop=stop)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (ANSWER[:first], "stop")
    assert told(list(subject.chat_lines(stop=stop))) == ANSWER[:first]


@pytest.mark.asks("stop")
def test_a_stop_string_that_never_comes_changes_nothing(subject: Subject) -> None:
    assert subject.text(stop=["20.", "21", "x"]) == ANSWER


@pytest.mark.asks("stop")
def test_a_stop_string_is_left_in_the_text_where_asked(subject: Subject) -> None:
    assert subject.text(stop="7, 8", include_stop_str_in_output=True) == ANSWER[: ANSWER.index("7, 8") + 4]


@pytest.mark.asks("stop")
def test_a_stop_token_ends_the_text(subject: Subject) -> None:
    reply = subject.ollama("/api/generate", prompt=subject.said(COUNT), think=False)
    asked, answered = reply["context"][: reply["prompt_eval_count"]], reply["context"][reply["prompt_eval_count"] :]
    stop = answered[len(answered) // 2]
    before = answered.index(stop)
    [choice] = subject.complete(asked, max_tokens=200, stop_token_ids=[stop])["choices"]
    assert choice["finish_reason"] == "stop"
    assert subject.post("/detokenize", tokens=answered[:before])["content"] == choice["text"]


# ---- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.asks("length")
@pytest.mark.parametrize("most", [1, 5, 9])
def test_a_text_ends_at_its_limit(subject: Subject, most: int) -> None:
    reply = subject.chat(max_tokens=most)
    [choice] = reply["choices"]
    assert choice["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == most
    assert ANSWER.startswith(choice["message"]["content"])


@pytest.mark.asks("length")
def test_the_end_waits_for_the_least_tokens(subject: Subject) -> None:
    usual = subject.chat()["usage"]["completion_tokens"]
    reply = subject.chat(min_tokens=usual + 20, max_tokens=usual + 60)
    assert reply["choices"][0]["message"]["content"].startswith(ANSWER)
    assert reply["usage"]["completion_tokens"] > usual + 19


@pytest.mark.asks("length")
def test_the_end_is_ignored_where_asked(subject: Subject) -> None:
    usual = subject.chat()["usage"]["completion_tokens"]
    reply = subject.chat(ignore_eos=True, max_tokens=usual + 30)
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == usual + 30
