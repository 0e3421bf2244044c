"""The command line as a program."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmendpoint_common.process.version import VERSION


@pytest.mark.parametrize("package", ["llmendpoint_cli", "llmendpoint_cli.main"])
def test_it_runs_as_a_module(package: str) -> None:
    done = subprocess.run([sys.executable, "-m", package, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"llmendpoint {VERSION}\n"
