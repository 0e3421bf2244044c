"""The report in a real browser: accessible, readable at desktop and phone width, in both themes, without a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.results.comparison import compare
from llmendpoint_loadjob.report.page.compare_page import comparison_page
from llmendpoint_loadjob.report.page.page import report_page
from support.dashboard.accessibility import violations
from support.load.reports import HOSTILE, smallest, summary

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

PAGES = {
    "report": report_page(summary()),
    "hostile": report_page(summary(model=HOSTILE)),
    "empty": report_page(smallest()),
    "comparison": comparison_page(
        compare(summary(), summary(scale=1.3, seed=7, run={"model": "other"}), ("one", "two"))
    ),
}


def opened(browser: Any, tmp_path: Path, page: str, *, width: int, theme: str, bypass_csp: bool = False) -> Any:
    (tmp_path / "page.html").write_text(page)
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=bypass_csp, offline=True
    )
    tab = context.new_page()
    tab.problems = []
    tab.on("console", lambda message: tab.problems.append(message.text))
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("dialog", lambda dialog: tab.problems.append(dialog.message))
    tab.on("request", lambda request: None if request.url.startswith("file:") else tab.problems.append(request.url))
    tab.goto(f"file://{tmp_path}/page.html")
    return tab


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits(
    browser: Any, axe: str, tmp_path: Path, name: str, width: int, theme: str
) -> None:
    # axe is injected as a script, which the policy of the page does not allow.
    tab = opened(browser, tmp_path, PAGES[name], width=width, theme=theme, bypass_csp=True)
    assert violations(tab, axe) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_follows_its_own_policy(browser: Any, tmp_path: Path, name: str) -> None:
    tab = opened(browser, tmp_path, PAGES[name], width=1280, theme="light")
    tab.wait_for_load_state("networkidle")
    assert tab.problems == []
    # A page whose style sheet is blocked has the default font of the browser.
    assert "system-ui" in tab.evaluate("getComputedStyle(document.body).fontFamily")
    tab.context.close()


def test_the_themes_differ_and_each_chart_is_shown_once(browser: Any, tmp_path: Path) -> None:
    colours = set()
    for theme, width in (("light", 1280), ("dark", 390)):
        tab = opened(browser, tmp_path, PAGES["report"], width=width, theme=theme)
        colours.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        shown = tab.evaluate(
            "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg[role=img]')]"
            ".filter(s => s.getBoundingClientRect().width > 0).length)"
        )
        assert set(shown) == {1}
        tab.context.close()
    assert len(colours) == 2


def test_no_text_leaves_its_figure_card(browser: Any, tmp_path: Path) -> None:
    for width in (1280, 700, 390, 320):
        tab = opened(browser, tmp_path, PAGES["report"], width=width, theme="light")
        assert tab.evaluate("[...document.querySelectorAll('.figures div')].every(d => d.scrollWidth <= d.clientWidth)")
        tab.context.close()


def test_a_print_has_no_cut_tables(browser: Any, tmp_path: Path) -> None:
    tab = opened(browser, tmp_path, PAGES["report"], width=1280, theme="dark")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("[...document.querySelectorAll('.scroll')].every(d => d.scrollHeight <= d.clientHeight + 1)")
    assert len(tab.pdf(format="A4")) > 10_000
    tab.context.close()
