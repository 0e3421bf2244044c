"""What a page of the dashboard says about its connection before the first state has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.dashboard import dashboard_states as states
from support.dashboard.dashboard_pages import Pages, serving

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

EVENTS, STATE = "**/api/v1/events", "**/api/v1/state"
#: Records each state of the connection that the page shows.
RECORD_LINKS = """
  window.links_ = [];
  new MutationObserver(() => {
    const link = document.querySelector("#link")?.dataset.link;
    if (link && link !== window.links_.at(-1)) window.links_.push(link);
  }).observe(document, { subtree: true, childList: true, attributes: true });
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Pages]:
    with serving(states.fill_machine) as pages:
        yield pages


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_a_page_whose_events_are_refused_polls_and_does_not_say_that_the_server_does_not_answer(
    machine: Pages, tab: Any
) -> None:
    tab.add_init_script(RECORD_LINKS)
    tab.route(EVENTS, lambda route: route.abort())
    tab.goto(machine.url)
    tab.wait_for_selector("#link[data-link=polling]", timeout=60_000)  # Chromium starts cold, beside other tests
    tab.wait_for_selector(".tile")
    assert tab.evaluate("window.links_") == ["connecting", "polling"]


def test_a_page_without_data_does_not_name_their_age(machine: Pages, tab: Any) -> None:
    for refused in (EVENTS, STATE):
        tab.route(refused, lambda route: route.abort())
    tab.goto(machine.url)
    tab.wait_for_selector("#link[data-link=lost]", timeout=60_000)
    assert tab.inner_text(".banner.bad").endswith(
        "The dashboard's server does not answer. The page tries again by itself."
    )
    assert "old" not in tab.inner_text("#link")


def test_before_the_first_state_a_page_does_not_say_what_a_machine_lacks(machine: Pages, tab: Any) -> None:
    # A request that is neither continued nor answered is held back.
    tab.route(EVENTS, lambda route: None)
    tab.route(STATE, lambda route: None)
    tab.goto(machine.url)
    tab.wait_for_selector("#link[data-link=connecting]", timeout=60_000)
    assert "Endpoints" not in tab.inner_text(".nav")
    assert "needs Prometheus" not in tab.inner_text("main")
    assert tab.get_by_label("7d", exact=True).is_enabled()
