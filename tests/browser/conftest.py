"""Chromium and axe-core. A machine without one of them skips the tests in this folder."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.node import NodeError, node_with_packages

HERE = Path(__file__).parent
AXE = HERE / "node_modules/axe-core/axe.min.js"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Skip the tests if something is missing, with one line in the summary. In CI, fail instead."""
    if reason := _missing():
        message = f"BROWSER TESTS DID NOT RUN: {reason}"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@functools.cache
def _missing() -> str | None:
    if _chromium() is None:
        return "there is no `chromium` and no `google-chrome` on the PATH"
    try:
        node_with_packages(HERE)
    except NodeError as error:
        return str(error)
    return None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return AXE.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        yield running
        running.close()
