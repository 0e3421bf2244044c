"""The dashboard over a running stack: numbers equal the simulator's ledger, live updates, reconnects, load tests."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.dashboard.dashboard_stack import MODEL, Stack, running_stack

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

#: The dashboard promises to show what happened after at most this time.
PROMPTLY_MS = 2000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        running.chat(stream=False)
        yield running


@pytest.fixture
def open_page(browser: Any, stack: Stack) -> Iterator[Callable[[str], Any]]:
    """Open a page of the dashboard. At the end of the test, there must be no problem on its console."""
    contexts = []

    def opened(hash_: str) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        contexts.append(context)
        tab = context.new_page()
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text) if message.type != "log" else None)
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.goto(f"{stack.url}{hash_}")
        tab.wait_for_selector("#link[data-link=live]")
        return tab

    yield opened
    for context in contexts:
        context.close()


def test_the_numbers_of_requests_equal_the_ledger(stack: Stack, open_page: Callable[[str], Any]) -> None:
    for _ in range(5):
        stack.chat(stream=True)
    tab = open_page("#/requests")
    ledger = stack.ledger()
    tab.wait_for_function(
        "n => document.querySelector('caption')?.textContent.startsWith(`${n} request`)", arg=ledger["completed"]
    )
    caption = tab.inner_text("caption")
    assert caption == (
        f"{ledger['completed']} requests with {ledger['prompt_tokens']} tokens in and "
        f"{ledger['generation_tokens']} tokens out, 0 errors"
    )
    assert tab.problems == []


@pytest.mark.alone
def test_a_request_appears_within_two_seconds(stack: Stack, open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/requests")
    tab.wait_for_selector("caption")
    count = int(re.match(r"\d+", tab.inner_text("caption"))[0])  # type: ignore[index]
    stack.chat(stream=True)
    tab.wait_for_function(
        "n => parseInt(document.querySelector('caption')?.textContent) > n", arg=count, timeout=PROMPTLY_MS
    )


@pytest.mark.alone
def test_requests_in_flight_appear_within_two_seconds(stack: Stack, open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/overview")
    tile = "[...document.querySelectorAll('.tile')].find(t => t.textContent.startsWith('Running')).querySelector('.figure')"
    tab.wait_for_function(f"() => {tile}.textContent === '0'")
    stack.behave(ttft=6.0)
    senders = [threading.Thread(target=stack.chat) for _ in range(3)]
    try:
        for sender in senders:
            sender.start()
        # The simulator runs 4 requests at the same time, so none of them waits.
        tab.wait_for_function(f"() => {tile}.textContent === '3'", timeout=PROMPTLY_MS)
    finally:
        for sender in senders:
            sender.join()
        stack.behave(ttft=0.03)


def test_the_simulator_is_named(open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/overview")
    tab.wait_for_selector(".banner")
    assert "simulator and not from a model" in tab.inner_text(".banner")


def test_a_model_on_the_page_is_the_one_of_the_simulator(open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/models")
    tab.wait_for_function("name => document.querySelector('main')?.textContent.includes(name)", arg=MODEL)
    assert tab.problems == []


def test_the_page_reconnects_after_a_restart_of_the_server(stack: Stack, open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/requests")
    tab.wait_for_selector("caption")
    stack.stop_dashboard()
    tab.wait_for_selector("#link:not([data-link=live])")
    tab.wait_for_function("() => document.querySelector('#link')?.textContent.includes('old')", timeout=20_000)
    stack.start_dashboard()
    tab.wait_for_selector("#link[data-link=live]", timeout=30_000)
    stack.chat(stream=True)
    tab.wait_for_function(
        "n => document.querySelector('caption')?.textContent.startsWith(`${n} request`)",
        arg=stack.ledger()["completed"],
    )


@pytest.mark.alone
def test_a_hidden_page_catches_up(stack: Stack, open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/requests")
    tab.wait_for_selector("caption")
    # Chromium without a window never hides a page, so the state is set as a background tab has it.
    hide = (
        "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    tab.evaluate(hide, True)
    tab.wait_for_selector("#link[data-link=asleep]", timeout=15_000)
    before = tab.inner_text("caption")
    stack.chat(stream=True)
    assert tab.inner_text("caption") == before
    tab.evaluate(hide, False)
    tab.wait_for_function(
        "n => document.querySelector('caption')?.textContent.startsWith(`${n} request`)",
        arg=stack.ledger()["completed"], timeout=PROMPTLY_MS,
    )  # fmt: skip


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["refused", "held back"])
def test_polling_replaces_events_that_do_not_come_through(browser: Any, stack: Stack, fault: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    # A request that is neither continued nor answered is held back, as by a proxy that waits for the end of a response.
    tab.route("**/api/v1/events", lambda route: route.abort() if fault == "refused" else None)
    tab.goto(f"{stack.url}#/requests")
    tab.wait_for_selector("#link[data-link=polling]", timeout=20_000)
    stack.chat(stream=True)
    tab.wait_for_function(
        "n => document.querySelector('caption')?.textContent.startsWith(`${n} request`)",
        arg=stack.ledger()["completed"], timeout=PROMPTLY_MS * 2,
    )  # fmt: skip
    tab.unroute("**/api/v1/events")
    tab.wait_for_selector("#link[data-link=live]", timeout=20_000)
    context.close()


def test_the_form_starts_a_load_test_that_passes(open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/loadtests?view=new")
    tab.get_by_role("radio", name="Users", exact=True).check()
    tab.get_by_label("Duration", exact=False).fill("3s")
    tab.get_by_label("Name", exact=False).fill("from-the-page")
    tab.get_by_label("Objectives", exact=False).fill("ttft:p50=5s\nerror_rate=1%")
    tab.get_by_role("combobox", name="Model").fill(MODEL)
    tab.get_by_role("button", name="Start the load test").click()
    tab.wait_for_selector(".progress", timeout=20_000)
    tab.wait_for_selector(".verdict", timeout=60_000)
    assert tab.inner_text(".verdict h2").startswith("Passed")
    assert tab.inner_text(".objectives").count("met") == 2
    with tab.context.expect_page() as opened:
        tab.get_by_role("link", name="Open the report").click()
    assert "Passed" in opened.value.inner_text("body")
    assert tab.problems == []


def test_the_form_marks_the_field_that_is_wrong(open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/loadtests?view=new")
    tab.get_by_role("combobox", name="Model").fill(MODEL)
    field = tab.get_by_label("Duration", exact=False)
    field.fill("soon")
    tab.get_by_role("button", name="Start the load test").click()
    tab.wait_for_selector("[aria-invalid=true]")
    assert field.get_attribute("aria-invalid") == "true"
    sentence = tab.locator(f"#{field.get_attribute('aria-describedby')}")
    assert "'soon' is not a duration" in sentence.inner_text()
    assert tab.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    field.fill("30s")
    assert tab.locator("[aria-invalid=true]").count() == 0
    tab.get_by_label("Objectives", exact=False).fill("speed=1s")
    tab.get_by_role("button", name="Show the manifest").click()
    tab.wait_for_selector("textarea[aria-invalid=true]")
    # Browsers write each answer with an error to the console.
    assert all("422" in problem for problem in tab.problems)


def test_nothing_is_loaded_from_elsewhere(stack: Stack, open_page: Callable[[str], Any]) -> None:
    tab = open_page("#/overview")
    tab.wait_for_selector(".tile")
    urls = tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(url.startswith(stack.url) for url in urls)
    with urllib.request.urlopen(stack.url, timeout=30) as response:
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert Path(stack.folder / "dashboard.log").exists()
