"""Chat templates: what they render, what they can, what they refuse, and what they may not do to us."""

import datetime
import threading
import time
from pathlib import Path

import pytest

from heylook_llm import core
from heylook_llm.errors import BadRequest, EngineError, UnsupportedFeature
from heylook_llm.worker.prompt import CHATML, ChatTemplate, offered
from heylook_llm.worker.providers.fake_script import TEMPLATE as HERMES
from tests.worker.client import chat

pytestmark = pytest.mark.unit

NOW = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.UTC)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
)
BUNDLED = Path(__file__).parents[2] / "tools" / "tiny_model" / "chat_template.jinja"
WEATHER = core.Tool("weather", "Says it.", {"type": "object", "properties": {"city": {"type": "string", "n": "ö"}}})


def template(source: str, bos: str = "") -> ChatTemplate:
    """A compiled template."""
    return ChatTemplate(source, model="m", bos=bos)


def render(source: str, prompt: core.ChatPrompt, bos: str = "") -> str:
    """The text of a chat."""
    return template(source, bos).render(prompt, NOW).text


def test_chatml() -> None:
    assert render(CHATML, chat("system: S", "U", "A", "V")) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "capabilities"),
    [(CHATML, ("chat",)), (HERMES, ("chat", "tools", "thinking")), (NO_SYSTEM, ("chat",))],
)
def test_capabilities_are_read_from_the_template(source: str, capabilities: tuple[str, ...]) -> None:
    assert template(source).capabilities() == capabilities


def test_the_bundled_models_template() -> None:
    found = template(BUNDLED.read_text(encoding="utf-8"))
    assert found.capabilities() == ("chat", "tools", "thinking")
    thinking = found.render(chat("Why?", thinking=True), NOW)
    assert thinking.text.endswith("<think>\n")
    assert thinking.reasoning == "open"
    assert found.render(chat("Why?"), NOW).reasoning == "auto"


def test_a_system_text_moves_into_the_first_turn_where_the_role_is_unknown() -> None:
    assert render(NO_SYSTEM, chat("system: Be kind.", "Hi"), bos="<bos>") == (
        "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n"
    )


def test_developer_is_system_where_the_template_has_no_such_role() -> None:
    prompt = core.ChatPrompt((core.Message("developer", (core.TextPart("S"),)), core.Message("user")))
    assert render(CHATML, prompt).startswith("<|im_start|>system\nS<|im_end|>")
    kept = "{% for m in messages %}{% if m.role == 'developer' %}D:{% endif %}{{ m.content }}{% endfor %}"
    assert render(kept, prompt) == "D:S"
    named_only = "{% for m in messages if m.role in ('user', 'system') %}{{ m.content }}{% endfor %} A developer's."
    assert render(named_only, prompt) == "S A developer's."


def test_what_a_template_raises_is_a_bad_request_in_its_words() -> None:
    with pytest.raises(BadRequest, match=r"^Conversation roles must alternate$"):
        render(NO_SYSTEM, core.ChatPrompt((core.Message("user"), core.Message("user"))))


def test_tools_are_written_as_the_client_ordered_them() -> None:
    text = render(HERMES, chat("Hi", tools=(WEATHER,)))
    assert '"function": {"name": "weather", "description": "Says it.", "parameters": {"type": "object"' in text
    assert '"n": "ö"' in text


def test_tools_are_written_as_they_were_sent() -> None:
    def written(tool: core.Tool) -> str:
        return render("{{ tools[0].function | tojson }}", chat("Hi", tools=(tool,)))

    assert written(core.Tool("f")) == '{"name": "f", "parameters": {}}'
    assert written(core.Tool("f", "", strict=True)) == (
        '{"name": "f", "description": "", "parameters": {}, "strict": true}'
    )
    adds = "{% for t in tools or [] %}{{ t.function.name + ': ' + t.function.description }}.{% endfor %}"
    assert render(adds, chat("Hi", tools=(core.Tool("f"), core.Tool("g", "G")))) == "f: .g: G."


def test_tools_need_a_template_that_knows_them() -> None:
    with pytest.raises(UnsupportedFeature, match='"m" does not support tools'):
        render(CHATML, chat("Hi", tools=(WEATHER,)))
    assert render(CHATML, chat("Hi", tools=(WEATHER,), tool_choice=core.ToolChoice("none"))) == render(
        CHATML, chat("Hi")
    )


def test_thinking_needs_a_template_that_knows_it() -> None:
    with pytest.raises(UnsupportedFeature, match='"m" does not support thinking'):
        render(CHATML, chat("Hi", thinking="high"))
    assert render(CHATML, chat("Hi", thinking=False)) == render(CHATML, chat("Hi"))


def test_thinking_levels_reach_the_template() -> None:
    source = "{{ reasoning_effort | default('none') }} {{ enable_thinking | default('unset') }}"
    assert render(source, chat("Hi", thinking="low")) == "low True"
    assert render(source, chat("Hi", thinking=False)) == "none False"
    assert render(source, chat("Hi")) == "none unset"


def test_the_allowed_tools_only() -> None:
    prompt = chat("Hi", tools=(WEATHER, core.Tool("add")), tool_choice=core.ToolChoice("auto", ("add",)))
    assert [tool.name for tool in offered(prompt)] == ["add"]


def test_earlier_calls_and_their_results() -> None:
    call = core.Message("assistant", tool_calls=(core.ToolCall("call_1", "add", '{"a": 1, "b": "ö"}'),))
    answer = core.Message("tool", (core.TextPart("3"),), tool_call_id="call_1", name="add")
    text = render(HERMES, core.ChatPrompt((core.Message("user"), call, answer), (WEATHER,)))
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "ö"}}\n</tool_call>' in text
    assert "<tool_response>\n3\n</tool_response>" in text


def test_the_last_turn_is_continued() -> None:
    assert render(CHATML, chat("U", "Once up", continue_last=True)).endswith("<|im_start|>assistant\nOnce up")
    assert template(HERMES).render(chat("U", "Once up", continue_last=True), NOW).reasoning == "none"
    thinking = render(HERMES, chat("U", "So", continue_last=True, thinking=True))
    assert thinking.endswith("<think>\n\n</think>\n\nSo")


def test_helpers_of_hugging_face_templates() -> None:
    source = (
        "{{ strftime_now('%Y-%m-%d') }} {{ {'b': 'ö<', 'a': 1} | tojson }} {{ [1] | tojson(indent=2) }}"
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
        "{% endfor %}{% generation %}G{% endgeneration %}{{ 'a' ~ 1 }}{{ messages[0].content.split('x')[-1] }}"
    )
    assert render(source, chat("1x2")) == '2026-11-20 {"b": "ö<", "a": 1} [\n  1\n]02Ga12'


def test_images_need_vision() -> None:
    with pytest.raises(UnsupportedFeature, match='"m" does not support vision'):
        render(CHATML, core.ChatPrompt((core.Message("user", (core.ImagePart(b"", 0, 0),)),)))


def test_a_template_that_does_not_compile() -> None:
    with pytest.raises(EngineError, match="doesn't compile"):
        template("{% for %}")


BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "long range": "{{ range(10**9) | list | length }}",
    "repetition": "{{ ('a' * 10**10) | length }}",
    "list repetition": "{{ ([1] * 10**10) | length }}",
    "doubling": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "adding": "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "output": "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'aaaaaaaaaaaaaaaa' }}{% endfor %}{% endfor %}",
    "padding": "{{ 'a'.ljust(10**10) }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "percent": "{{ '%09999999999d' % 1 }}",
    "format filter": "{{ '%09999999999d' | format(1) }}",
    "center": "{{ 'a' | center(10**10) }}",
    "indent": "{{ 'a\n' | indent(10**10) }}",
    "tojson": "{{ [1] | tojson(indent=10**9) }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "replace": "{{ ('a' * 10**6).replace('a', 'b' * 10**6) | length }}",
    "replace filter": "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) | length }}",
    "percent, width from an argument": "{{ '%*d' % (10**9, 1) }}",
    "percent, precision from an argument": "{{ '%.*f' | format(10**9, 1.0) }}",
    "format, width from an argument": "{{ '{:>{}}'.format(1, 10**9) }}",
    "doubling a list": "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "indenting many lines": "{{ ('a\\n' * 10**6) | indent(9999) | length }}",
    "wrapping many words": "{{ ('a ' * 10**6) | wordwrap(1, true, 'b' * 10**5) | length }}",
    "wrapping a long word": "{{ ('a' * 10**6) | wordwrap(1) | length }}",
    "links": "{{ ('a@b.c ' * 10**6) | urlize | length }}",
    "slice": "{{ [1] | slice(10**9) | list | length }}",
    "join": "{{ ('a' * 10**6).join(range(99999) | map('string') | list) | length }}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS.keys())
def test_template_bombs_end_as_an_error_of_the_template(source: str) -> None:
    bomb = template("{% if messages[0].content == 'now' %}" + source + "{% endif %}")
    began = time.monotonic()
    with pytest.raises(EngineError, match="chat template of model 'm'"):
        bomb.render(chat("now"), NOW)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS.keys())
def test_a_template_that_always_bursts_has_its_time_once(source: str) -> None:
    """What it can is found out in several renders, but the model's load must not take that many deadlines."""
    began = time.monotonic()
    assert template(source).capabilities()[:1] == ("chat",)
    assert time.monotonic() - began < 10


def test_what_others_compute_meanwhile_is_not_the_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is taken from the render for most of the time."""
    long = template("{% for _ in range(20000) %}{{ loop.index }}{% endfor %}")
    began = time.thread_time()
    text = long.render(chat("U"), NOW).text
    monkeypatch.setattr("heylook_llm.worker.prompt.DEADLINE_SECONDS", 4 * (time.thread_time() - began))
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            pass

    others = [threading.Thread(target=compute) for _ in range(12)]
    for other in others:
        other.start()
    try:
        assert long.render(chat("U"), NOW).text == text
    finally:
        over.set()
        for other in others:
            other.join()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ strftime_now.__self__.__class__.__subclasses__() }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ ('{0.__class__}' | attr('format'))('') }}",
        "{{ messages.append(1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
    ],
)
def test_the_sandbox_lets_nothing_out(source: str) -> None:
    escape = template("{% if messages[0].content == 'now' %}" + source + "{% endif %}")
    try:
        text = escape.render(chat("now"), NOW).text
    except (EngineError, BadRequest):
        return
    assert "class" not in text
    assert "Environment" not in text


def test_a_template_that_breaks_says_how_but_not_what_it_held() -> None:
    with pytest.raises(EngineError, match="fails with ZeroDivisionError"):
        render("{{ 1 // 0 }}", chat("U"))
    with pytest.raises(EngineError) as caught:
        render("{{ messages[0].items() + 1 }}", chat("U"))
    assert "dict_items" not in caught.value.message
