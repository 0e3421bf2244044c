"""Screenshots of the dashboard over simulator, sidecar and load generator, in both themes, at desktop and phone width.

Two load tests run through the proxy first, so that there are numbers, a history and a comparison.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.dashboard.dashboard_stack import MODEL, Stack, running_stack  # noqa: E402

IMAGES = ROOT / "docs/images"
DESKTOP, TALL, PHONE = (1280, 800), (1280, 1080), (360, 740)
#: Of each image: its name, the page, the size and the theme.
SHOTS = (
    ("overview", "#/overview", TALL, "light"),
    ("overview-dark", "#/overview", TALL, "dark"),
    ("overview-phone", "#/overview", PHONE, "light"),
    ("overview-phone-dark", "#/overview", PHONE, "dark"),
    ("models", "#/models", DESKTOP, "light"),
    ("load-test-dark", "#/loadtests?run={latest}", DESKTOP, "dark"),
    ("load-test-running", "#/loadtests", DESKTOP, "light"),
    ("load-test-phone", "#/loadtests?run={latest}", PHONE, "light"),
    ("compare", "#/loadtests?view=compare&a={first}&b={latest}", DESKTOP, "light"),
    ("new-load-test", "#/loadtests?view=new", DESKTOP, "light"),
    ("requests", "#/requests", DESKTOP, "light"),
    ("requests-phone-dark", "#/requests", PHONE, "dark"),
    ("doctor-dark", "#/doctor", DESKTOP, "dark"),
)
_OBJECTIVES = "ttft:p95=600ms\nerror_rate=1%"
_LOAD_MS = 60_000


def main() -> int:
    """Write all images."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack, sync_playwright() as started:
        stack.behave(ttft={"distribution": "gamma", "mean": 0.21, "cv": 0.3}, tokens=60)
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with _traffic(stack):
            first = _load_test(browser, stack, "before", users=4, seconds=25)
            stack.behave(ttft={"distribution": "gamma", "mean": 0.35, "cv": 0.3})
            latest = _load_test(browser, stack, "after", users=6, seconds=25)
            _start(browser, stack, "evening", users=4, seconds=60)
            for name, page, size, theme in SHOTS:
                _shoot(browser, stack.url + page.format(first=first, latest=latest), name, size, theme)
        browser.close()
    return 0


@contextmanager
def _traffic(stack: Stack) -> Iterator[None]:
    """Send a request after the other, now and then one for a model that does not exist."""
    stopping = threading.Event()

    def send() -> None:
        number = 0
        while not stopping.wait(0.2):
            number += 1
            try:
                stack.chat(**({"model": "missing:latest"} if number % 40 == 0 else {}))
            except OSError:
                continue

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _start(browser: Any, stack: Stack, name: str, *, users: int, seconds: int) -> Any:
    tab = browser.new_page()
    tab.goto(f"{stack.url}#/loadtests?view=new")
    tab.get_by_role("radio", name="Users", exact=True).check()
    tab.get_by_role("spinbutton", name="Users").fill(str(users))
    tab.get_by_label("Duration", exact=False).fill(f"{seconds}s")
    tab.get_by_label("Name", exact=False).fill(name)
    tab.get_by_role("combobox", name="Model").fill(MODEL)
    tab.get_by_label("Objectives", exact=False).fill(_OBJECTIVES)
    tab.get_by_role("button", name="Start the load test").click()
    tab.wait_for_selector(".progress")
    return tab


def _load_test(browser: Any, stack: Stack, name: str, *, users: int, seconds: int) -> str:
    """Run a load test, and return its key."""
    tab = _start(browser, stack, name, users=users, seconds=seconds)
    tab.wait_for_selector(".verdict", timeout=_LOAD_MS)
    key: str = tab.evaluate("decodeURIComponent(location.hash.split('run=')[1])")
    tab.close()
    return key


def _shoot(browser: Any, url: str, name: str, size: tuple[int, int], theme: str) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    tab = context.new_page()
    tab.goto(url)
    tab.wait_for_selector("#link[data-link=live]")
    tab.wait_for_selector("main table, main .tile, main .finding, main .empty, main .preset")
    if "overview" in url:
        tab.wait_for_selector("canvas")
    tab.wait_for_load_state("load")
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tab.screenshot(path=IMAGES / f"dashboard-{name}.png")
    context.close()


if __name__ == "__main__":
    sys.exit(main())
