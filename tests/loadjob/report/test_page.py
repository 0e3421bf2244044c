"""The report as a page: one file that needs no network and no script, in which all text is text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from llmendpoint_common.contracts.loadrun import StepResult, Summary, SweepResult, Verdict, VerdictReason
from llmendpoint_common.results.comparison import compare
from llmendpoint_loadjob.report.page.chart import HEIGHT, WIDTHS, Axis, Frame, axes
from llmendpoint_loadjob.report.page.compare_page import comparison_page
from llmendpoint_loadjob.report.page.page import report_page
from llmendpoint_loadjob.report.page.scales import Scale, linear, logarithmic
from support.load.reports import HOSTILE, smallest, summary


class Elements(HTMLParser):
    """All elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


def pages() -> list[str]:
    hostile = summary(model=HOSTILE)
    return [
        report_page(summary()),
        report_page(smallest()),
        report_page(hostile),
        comparison_page(compare(summary(), summary(scale=1.3, seed=7), (HOSTILE, "after"))),
    ]


@pytest.mark.parametrize("page", pages(), ids=["full", "empty", "hostile", "compared"])
def test_a_page_runs_nothing_and_loads_nothing(page: str) -> None:
    elements = Elements(page)
    assert not elements.open
    assert not elements.named("script", "iframe", "object", "embed", "img", "form", "base")
    for _, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "xlink:href")]
        assert attributes.get("href") in (None, "data:,")
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.parametrize("page", pages()[:1])
def test_the_policy_of_a_page_allows_its_own_style_sheet_alone(page: str) -> None:
    policy = next(item["content"] for item in Elements(page).named("meta") if "http-equiv" in item) or ""
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy


def test_names_are_text() -> None:
    page = report_page(summary(model=HOSTILE))
    assert "<script" not in page
    assert HOSTILE in Elements(page).text


def test_control_characters_and_directions_are_replaced() -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", report_page(summary(model="a\u202eb\u2066")))


@pytest.mark.parametrize("page", [pages()[0], pages()[3]], ids=["full", "compared"])
def test_each_chart_is_described_and_has_a_table(page: str) -> None:
    elements = Elements(page)
    charts = [item for item in elements.named("svg") if item.get("role") == "img"]
    assert len(charts) >= 4
    identities = [item["id"] for _, item in elements.found if "id" in item]
    assert len(set(identities)) == len(identities)
    for chart in charts:
        assert set((chart["aria-labelledby"] or "").split()) <= set(identities)
    for section in page.split("<section>")[1:]:
        if 'role="img"' in section:
            assert "<table" in section


@pytest.mark.parametrize(
    "words",
    ["Failed", "ObjectivesMissed: TTFT p95 was 612ms", "Where the time to first token goes", "≤ 500ms", "580ms to 655ms",
     "the queue is full", "reduce the load, or add replicas", "90 % of 40", "NVIDIA L4", "durationSeconds",
     "the highest rate that met every objective is 8.1 requests/s", "7.6 to 8.5 requests/s", "sha256:a80c4f17acd5",
     "2026-03-01T12:00:00Z", "TTFO: the responses had no thinking", "from 94 s on, requests in flight grew",
     "2 requests are missing in the records", "49.0 % worse"],
)  # fmt: skip
def test_the_page_of_a_run_has(words: str) -> None:
    assert words in Elements(report_page(summary())).text


def test_thresholds_are_drawn_into_the_distributions() -> None:
    page = report_page(summary())
    for identity, label in (("cdf-ttft", "p95 ≤ 500ms"), ("cdf-request-latency", "p99 ≤ 10s")):
        chart = page.partition(f'id="{identity}-wide-title"')[2].partition("</svg>")[0]
        assert 'class="threshold"' in chart
        assert label in chart


def test_a_distribution_ends_at_the_share_of_the_requests_that_were_answered() -> None:
    text = Elements(report_page(summary())).text
    assert "Time to first token (TTFT): latency that a share of all requests does not exceed" in text
    # 60 of 1,000 requests failed.
    assert re.search(r"95 %never", text)
    assert not re.search(r"90 %never", text)


def test_failures_are_marked_in_the_timeline() -> None:
    chart = report_page(summary()).partition('id="load-wide-title"')[2].partition("</svg>")[0]
    assert chart.count('class="failure"') == sum(bucket.errors > 0 for bucket in summary().timeline)


def test_an_interrupted_run_says_so_first() -> None:
    page = report_page(summary(partial=True, verdict=Verdict.NONE, reason=VerdictReason.CANCELED))
    assert "Interrupted: a partial result, which is not judged" in Elements(page).text.partition("Objectives")[0]
    assert "not judged" in Elements(page).text.partition("Objectives")[2]


def sample_of(count: int) -> Summary:
    buckets = summary().timeline * (count // 60 + 1)
    return summary(timeline=buckets[:count])


def test_the_size_of_a_page_is_bounded() -> None:
    assert len(report_page(sample_of(600))) < 1_000_000


@pytest.mark.parametrize("width", [width for _, width in WIDTHS])
def test_the_last_label_of_an_axis_is_inside_of_its_chart(width: int) -> None:
    frame = Frame(width, HEIGHT)
    x = Axis(Scale(0, 0.4, frame.left, frame.right), "latency", lambda at: f"{1000 * at:.0f}ms")
    drawn = axes(frame, x, Axis(linear(1, frame.bottom, frame.top), "", str))
    assert f'<text x="{width}" y="{frame.bottom + 17}" class="label end">400ms</text>' in drawn
    assert re.search('class="label middle">[123]00ms</text>', drawn)


def test_scales_end_at_round_values() -> None:
    scale = linear(873.0, 0.0, 100.0)
    assert (scale.high, scale.ticks(4)) == (1000.0, [0.0, 250.0, 500.0, 750.0, 1000.0])
    assert scale(2000.0) == 100.0
    latencies = logarithmic(0.013, 4.1, 0.0, 100.0)
    assert (latencies.low, latencies.high) == (0.01, 5.0)
    assert latencies(0.01) == 0.0
    assert latencies.ticks(4) == pytest.approx([0.01, 0.1, 1.0])


def test_the_page_of_a_sweep_names_its_rate_and_why_a_rate_was_too_high() -> None:
    step = StepResult("16/s", 16.0, 16.0, 90, 0, 9.0, None, None, met=False, reason="latencies grew by 1.2s")
    page = report_page(summary(steps=(step,), sweep=SweepResult(15.5, 15.1, 16.0, "found")))
    assert "<dt>highest rate, requests/s</dt><dd>15.5</dd>" in page
    assert "<dt>TTFT p95, all rates</dt>" in page
    assert "95 % confidence interval: 15.1 or more requests/s." in page
    assert "missed: latencies grew by 1.2s" in page
    assert "all rates" not in report_page(summary(sweep=None))
