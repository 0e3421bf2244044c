"""The login of the dashboard in a real browser, which sends other headers with a form than a client of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.dashboard.accessibility import violations
from support.dashboard.dashboard_stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard that asks for a token. Its sidecar does not answer."""
    folder: Path = tmp_path_factory.mktemp("login")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    stack = Stack(folder)
    try:
        stack.start_dashboard("--auth", "token", "--auth-token-file", str(folder / "token"))
        yield stack.url
    finally:
        stack.stop()


def test_a_user_logs_in_with_the_token(browser: Any, url: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(url)
    tab.get_by_label("Token").fill("another-token-that-is-wrong")
    tab.keyboard.press("Enter")
    tab.get_by_text("The token is wrong.").wait_for()
    tab.get_by_label("Token").fill(TOKEN)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#link[data-link=live]")
    context.close()


def test_the_page_that_was_asked_for_opens_after_the_login(browser: Any, url: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"{url}#/requests?outcome=errors")
    tab.get_by_label("Token").fill("another-token-that-is-wrong")
    tab.keyboard.press("Enter")
    tab.get_by_text("The token is wrong.").wait_for()
    tab.get_by_label("Token").fill(TOKEN)
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name="Requests", exact=True).wait_for()
    assert tab.url.endswith("/#/requests?outcome=errors")
    context.close()


def test_a_page_whose_login_has_ended_asks_for_the_token(browser: Any, url: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(url)
    tab.get_by_label("Token").fill(TOKEN)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#link[data-link=live]")
    context.clear_cookies()
    # The page notices when it connects again, for example after it was hidden.
    tab.evaluate("() => { dispatchEvent(new Event('online')); }")
    tab.wait_for_selector("input[type=password]")
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_login_is_accessible_and_fits(browser: Any, axe: str, url: str, width: int, theme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme, bypass_csp=True)
    tab = context.new_page()
    tab.goto(url)
    assert violations(tab, axe) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    context.close()
