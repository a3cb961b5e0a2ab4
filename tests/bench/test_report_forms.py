"""A report in each form: by golden files for people's eyes, and with names that would run, compute or steer."""

import base64
import csv
import hashlib
import html.parser
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heylook_llm.bench.measures import MEASURES
from heylook_llm.bench.metrics import Report, report
from heylook_llm.bench.report import markdown, page, shown, tables, terminal, words, workbook
from heylook_llm.bench.sample import Cell, Pair, Sample, Target
from tests.bench.answers import MS, answer, report_of
from tests.bench.records import TARGET, cell, run
from tests.bench.test_breakdown import story

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
EVIL = (
    '=HYPERLINK("http://evil","x")</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e|`[a](b)'
)
RIVAL = Target("rival", "rival", "openai", "http://127.0.0.1:2")


def a_run() -> tuple[list[Cell], list[Sample], list[Pair]]:
    """Two targets at two levels; one of them says what it did."""
    cells, samples, pairs = [], [], []
    for place, (target, level) in enumerate((t, n) for n in (1.0, 8.0) for t in (TARGET, RIVAL)):
        made = cell(f"c{place}", ordinal=place, target_id=target.id, level=level, planned=40)
        cells.append(made)
        for n in range(40):
            if target is TARGET:
                one, pair = story(
                    n, n * 100 * MS, prefill=(20 + n % 9) * MS, decode=90 * MS, queue=(60 if n == 39 else 0) * MS
                )
                one = msgspec.structs.replace(one, id=f"c{place}-{n}", cell_id=made.id)
                pairs.append(msgspec.structs.replace(pair, sample_id=one.id))
            else:
                one = answer(n, n * 100, ttft_ms=60 + n % 7, cell_id=made.id, id=f"c{place}-{n}")
            samples.append(one)
    samples[-1] = msgspec.structs.replace(samples[-1], outcome="error", error_class="reset")
    return cells, samples, pairs


def made() -> Report:
    cells, samples, pairs = a_run()
    return report_of(samples, cells=cells, pairs=pairs, targets=(TARGET, RIVAL), limits={"ttft": 62.0})


def evil() -> tuple[Report, list[Cell], list[Sample]]:
    cells = [cell(model=EVIL), cell("cell-2", ordinal=1, model="@SUM(A1)", level=2)]
    samples = [answer(n, n * 100, server_request_id=EVIL) for n in range(30)]
    samples.append(answer(30, outcome="error", error_class=EVIL))
    target = msgspec.structs.replace(TARGET, name=EVIL)
    return report_of(samples, cells=cells, targets=(target,)), cells, samples


@pytest.mark.parametrize(("name", "form"), [("report.txt", terminal.text), ("report.md", markdown.text)])
def test_reports_for_people(name: str, form: Any) -> None:
    assert form(made()) == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_verdict_stands_first_and_says_what_came_of_it() -> None:
    one = report_of([answer(n, n * 100) for n in range(100)])
    assert terminal.text(one).splitlines()[0] == words.verdict(one)
    assert words.verdict(one) == (
        "m on null, asked by 4 clients: 99.0 tokens/s, the first token after 100 ms (median of 100), no request failed."
    )
    assert words.verdict(report_of([])) == "Nothing was measured: no request ended."
    why = report(run(), [cell()], [], {TARGET.id: TARGET}, warnings=["cell 0: there is no model 'nope'."])
    assert words.verdict(why) == "Nothing was measured: no request ended (cell 0: there is no model 'nope')."
    assert "bench show" in words.next_command(report_of([]))
    failed = report_of([answer(n, outcome="error", error_class="refused") for n in range(3)])
    assert words.verdict(failed) == "Nothing was measured: all 3 requests failed, most by refused."
    limited = msgspec.structs.replace(one, flags=["client-limited"])
    assert words.verdict(limited).startswith("Not to be trusted (client-limited): m on null")


def test_the_bar_is_as_wide_as_it_should_be_whatever_the_parts() -> None:
    for where in ({"wait": 1.0}, {"wait": 1.0, "decode": 1e-9}, {"prefill": 1.0, "decode": 2.0, "residual": -0.5}):
        assert len(terminal.bar(where)) == terminal.BAR
    assert terminal.bar({"prefill": 1.0, "decode": 3.0}, 8) == "PPDDDDDD"
    assert terminal.bar({}) == terminal.bar({"wait": 0.0}) == ""


def test_json_is_the_report() -> None:
    assert msgspec.json.decode(tables.as_json(made()), type=Report) == made()


def test_csv_holds_every_number_and_computes_nothing() -> None:
    report, *_ = evil()
    lines = list(csv.DictReader(io.StringIO(tables.as_csv(report), newline="")))
    assert [line["model"] for line in lines] == [f"'{EVIL}", "'@SUM(A1)"]
    assert lines[0]["ttft_p50_ms"] == "100.0"
    assert (lines[0]["ttft_p99_ms"], lines[0]["ttft_n"]) == ("", "30")
    assert {f"{name}_p95_ms" for name, one in MEASURES.items() if one.unit == "ms"} <= set(lines[0])
    numbers = re.compile(r"-?[0-9.e+-]+|")
    for line in lines:
        for text in line.values():
            assert numbers.fullmatch(text) or not text.startswith(("=", "+", "-", "@"))


def test_json_lines_hold_the_samples_as_they_were_kept() -> None:
    cells, samples, pairs = a_run()
    by_id = {pair.sample_id: [pair] for pair in pairs}
    lines = [json.loads(line) for line in tables.as_jsonl(cells, samples, by_id)]
    assert len(lines) == len(samples)
    for line, sample in zip(lines, samples, strict=True):
        assert all(line[name] == getattr(sample, name) for name in ("id", "outcome", "t_start", "t_end", "out_usage"))
        assert line["values_ms"]["e2e"] == pytest.approx(((sample.t_end or 0) - (sample.t_start or 0)) / 1e6)
    assert lines[0]["pairs"]["heylook"]["timeline"]["received_ns"] > 0
    rival = lines[40]
    assert len(rival["chunk_times"]) == sum(rival["chunk_tokens"]) == 10
    odd = answer(0, extra_json="{broken")
    assert json.loads(next(iter(tables.as_jsonl([cell()], [odd]))))["extra"] == "{broken"


def test_a_workbook_holds_text_as_text() -> None:
    report, cells, samples = evil()
    book = zipfile.ZipFile(io.BytesIO(workbook.as_xlsx(report, cells, samples)))
    sheets = {name: book.read(name).decode() for name in book.namelist() if name.startswith("xl/worksheets/sheet")}
    assert len(sheets) == 5
    for text in sheets.values():
        assert "<f>" not in text
        assert "<hyperlink" not in text
    assert not [name for name in book.namelist() if "rels" in name and b"evil" in book.read(name)]
    everything = "".join(sheets.values()) + book.read("xl/sharedStrings.xml").decode()
    assert ">=HYPERLINK(" in everything
    assert sheets["xl/worksheets/sheet4.xml"].count("<row") == len(samples) + 1


class Seen(html.parser.HTMLParser):
    """The tags of a page, its scripts, and whether anything of it would be fetched or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.words += data


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen(page.as_html(evil()[0]))


def test_a_page_runs_only_our_scripts_and_needs_nothing_else(seen: Seen) -> None:
    data, plotly, ours = seen.scripts
    policy = next(more["content"] or "" for tag, more in seen.tags if more.get("http-equiv"))
    for script in (plotly, ours):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert not [tag for tag, _ in seen.tags if tag in ("img", "link", "iframe", "object", "form", "a", "base")]
    assert not [more for _, more in seen.tags if {"src", "href", "onerror", "onclick"} & set(more)]
    assert "<" not in data
    assert json.loads(data)["labels"]


def test_foreign_text_stands_in_a_page_as_it_is_and_never_as_markup(seen: Seen) -> None:
    assert EVIL.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd") in seen.words
    for label in json.loads(seen.scripts[0])["labels"]:
        assert "<" not in label
    assert [tag for tag, _ in seen.tags].count("script") == 3


def test_a_page_draws_what_the_report_holds() -> None:
    data = json.loads(Seen(page.as_html(made())).scripts[0])
    assert data["labels"] == ["null · 1 client", "rival · 1 client", "null · 8 clients", "rival · 8 clients"]
    assert [(curve["name"], curve["level"]) for curve in data["curves"]] == [("null", [1, 8]), ("rival", [1, 8])]
    assert {phase["name"] for phase in data["phases"]} >= {"wait", "prefill", "residual", "first-token"}
    assert data["slow"][0]["verdict"] == "queue-bound"
    assert set(data["colors"]) >= {phase["name"] for phase in data["phases"]} | set(data["slow"][0]["phases"])
    assert len(set(data["colors"].values())) == len(data["colors"])


def test_a_page_names_the_units_of_its_numbers() -> None:
    seen = Seen(page.as_html(made()))
    assert "Times in ms; in brackets: 95 % intervals" in seen.words
    assert "tokens per second of one requesttokens/s40" in seen.words
    assert "first token (TTFT)ms40" in seen.words


def test_foreign_text_steers_no_terminal_and_is_no_markdown() -> None:
    report, *_ = evil()
    shown = terminal.text(report)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    text = markdown.text(report)
    assert not re.search(r"(?<!\\)<", text)
    assert r"\[a\]\(b\)" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", line))


def test_every_form_says_how_many_requests_kept_the_limits() -> None:
    samples = [answer(n, n * 100, ttft_ms=90 + n) for n in range(20)]
    samples.append(answer(20, 2000, ttft_ms=50, gaps_ms=()))  # of one token: nobody can say what each took
    samples.append(answer(21, outcome="error", error_class="reset"))
    told = report_of(samples, limits={"ttft": 99.5, "tpot": 20.0})
    kept = words.goodput(told.rows[0])
    assert kept is not None
    assert kept.startswith("47.6 % of 21 requests kept ttft within 99.5 ms and tpot within 20.0 ms; ")
    assert kept.endswith("; each alone: ttft by 52.4 %, tpot by 100 %; left out: 1 unjudged")
    assert kept in terminal.text(told)
    assert markdown.plain(kept) in markdown.text(told)
    assert kept in page.as_html(told)
    (within,) = shown.shown(told)["within"]
    assert within.endswith(kept)
    unjudged = report_of([answer(gaps_ms=())], limits={"tpot": 20.0}).rows[0]
    assert words.goodput(unjudged) == "no request can be judged by tpot within 20.0 ms; left out: 1 unjudged"
    assert words.goodput(report_of(samples).rows[0]) is None
