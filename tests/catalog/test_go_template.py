"""Ollama's templates as Jinja: what they render to, by the real sandbox; and what is refused."""

import datetime

import pytest

from heylook_llm import core
from heylook_llm.catalog import go_template
from heylook_llm.worker.prompt import ChatTemplate

pytestmark = pytest.mark.unit
NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
OLD = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""
NEW = """{{- if or .System .Tools }}<sys>
{{- if .System }}{{ .System }}{{ end }}
{{- if .Tools }} tools:
{{- range .Tools }} {{ .Function.Name }}({{ range $name, $type := .Function.Parameters.Properties }}{{ $name }}:
{{- $type.Type }};{{ end }}) {{ . }}{{ end }}
{{- end }}</sys>
{{- end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<user>{{ .Content }}</user>
{{- else if eq .Role "assistant" }}<bot>
{{- if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}
{{- if .Content }}{{ .Content }}{{ else if .ToolCalls }}
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}
{{- end }}{{ if not $last }}</bot>{{ end }}
{{- else if eq .Role "tool" }}<tool {{ .ToolName }}>{{ .Content }}</tool>
{{- end }}
{{- if and $last (ne .Role "assistant") }}<bot>{{ end }}
{{- end }}"""


def said(role: str, text: str, **more: object) -> core.Message:
    return core.Message(role, (core.TextPart(text),) if text else (), **more)  # type: ignore[arg-type]  # fields by name


def render(source: str, *messages: core.Message, **more: object) -> str:
    prompt = core.ChatPrompt(messages, **more)  # type: ignore[arg-type]  # fields by name
    return ChatTemplate(source, model="m").render(prompt, NOW).text


def test_an_old_template_is_written_once_for_each_exchange() -> None:
    talk = (said("system", "S"), said("user", 'Ü "1" \\ {{ x }}'), said("assistant", "A"), said("user", "2"))
    assert render(OLD, *talk) == (
        "<|im_start|>system\nS<|im_end|>\n"
        '<|im_start|>user\nÜ "1" \\ {{ x }}<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n'
        "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render("{{ .Prompt }}!", said("user", "hi")) == "hi!"
    begun = core.ChatPrompt((said("user", "hi"), said("assistant", "So")), continue_last=True)
    assert ChatTemplate(OLD, model="m").render(begun, NOW).text.endswith("<|im_start|>assistant\nSo")


def test_a_new_template_ranges_over_messages() -> None:
    tool = core.Tool("f", "d", {"type": "object", "properties": {"a": {"type": "int"}, "b": {"type": "str"}}})
    call = core.ToolCall("1", "f", '{"a": 1}')
    talk = (
        said("system", "S"),
        said("user", "q"),
        said("assistant", "", tool_calls=(call,)),
        said("tool", "7", name="f"),
        said("assistant", "seven", reasoning="hm"),
        said("user", "more"),
    )
    text = render(NEW, *talk, tools=(tool,))
    assert text.startswith('<sys>S tools: f(a:int;b:str;) {"type": "function", "function": {"name": "f"')
    assert text.endswith(
        '</sys><user>q</user><bot>{"name": "f", "arguments": {"a": 1}}</bot><tool f>7</tool>'
        "<bot><think>hm</think>seven</bot><user>more</user><bot>"
    )
    known = ChatTemplate(NEW, model="m")
    assert {"chat", "tools", "thinking"} <= set(known.capabilities())
    assert known.takes_system


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{- /* a\ncomment */ -}}  {{ .Prompt }}", "UAV"),
        ('{{ "a\\n\\u00fc\\"" }}{{ `b\\n` }}{{ len .Messages }}', 'a\nü"b\\n3'),
        ("{{ range .Messages }}{{ end }}{{ if .Tools }}t{{ else if .Messages }}s{{ else }}n{{ end }}", "s"),
        ("{{ with .Messages }}<{{ len . }}>{{ else }}none{{ end }}", "<3>"),
        ("{{ $n := 0 }}{{ range $i, $m := .Messages }}{{ $n = $i }}{{ end }}{{ $n }}", "2"),
        ("{{ $r := `` }}{{ range $m := .Messages }}{{ $r = $m.Role }}{{ end }}{{ $r }}", "user"),
        ("{{ range .Messages }}{{ if eq .Role `assistant` }}{{ break }}{{ end }}{{ .Content }}{{ end }}", "U"),
        ("{{ range .Messages }}{{ if eq .Role `assistant` }}{{ continue }}{{ end }}{{ .Content }}{{ end }}", "UV"),
        (
            "{{ range .Tools }}x{{ else }}no tools{{ end }}{{ len .Messages | printf `, %d of %s` 1 }}",
            "no tools, 1 of 3",
        ),
        ("{{ if and (gt (len .Messages) 1) (not .Think) (or .Suffix .Messages) }}yes{{ end }}", "yes"),
        ("{{ if .IsThinkSet }}set{{ else }}unset{{ end }}{{ .ThinkLevel }}{{ len .Messages }}", "unset3"),
        ("{{ currentDate }} {{ len .Messages }}", "2026-01-02 3"),
        ('{{ with index .Messages 1 }}{{ print .Role "-" .Content }}{{ end }}', "assistant-A"),
        ("{{ range slice .Messages 1 2 }}{{ json .Content }}{{ end }}", '"A"'),
        ("{{ range .Messages }}{{ .Content -}}\n  {{- .Thinking }}{{ end }}", "UAV"),
        ("{{ range .Messages }}{{ if (and (le 1 2) (ge 2 1) (lt 1 2)) }}{{ .Content }}{{ end }}{{ end }}", "UAV"),
    ],
)
def test_what_go_has(source: str, text: str) -> None:
    assert go_template.is_go(source)
    assert render(source, said("user", "U"), said("assistant", "A"), said("user", "V")) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ .Nope }}", ".Nope"),
        ("{{ range .Messages }}{{ .Nope }}{{ end }}", ".Nope"),
        ("{{ toTypeScriptType .Prompt }}{{ .Prompt }}", "toTypeScriptType"),
        ("{{ if .Prompt }}x", "without its `end`"),
        ("{{ .Prompt }}{{ end }}", "ends nothing"),
        ("{{ $x }}", "$x"),
        ("{{ eq .Role }}", ".Role"),
        ("{{ eq .Prompt }}", "arguments"),
        ("{{ .Prompt | }}", "empty action"),
        ("{{ (.Prompt }}", "parenthesis"),
        ("{{ .Prompt) }}", "parenthesis"),
        ("{{ .Prompt & 1 }}", "can't be read"),
        ("{{ .Prompt", "can't be read"),
        ("{{ /* never", "comment"),
        ('{{ define "x" }}{{ .Prompt }}{{ end }}', "define"),
        ("{{ . }}", "all that there is"),
        ('{{ "\\UFFFFFFFF" }}{{ .Prompt }}', "character"),
        ("{{ if .Prompt }}" * 60, "nested deeper"),
        ("{{ " + "(" * 60 + ".Prompt }}", "nested deeper"),
        ("{{ .Prompt }}" + "x" * go_template.MAX_CHARACTERS, "longer"),
    ],
)
def test_what_is_refused(source: str, words: str) -> None:
    with pytest.raises(go_template.GoTemplateError) as caught:
        go_template.to_jinja(source)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "source",
    ["{{ messages }}", "{{ ('a' * 9) }}", "{{ not x }}", "{{ range(5) | join }}", "{% if x %}{{ .5 }}{% endif %}", "x"],
)
def test_jinja_is_left_alone(source: str) -> None:
    assert not go_template.is_go(source)
