"""The command line as a program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from llmendpoint_common.process.version import VERSION


@pytest.mark.parametrize("package", ["llmendpoint_cli", "llmendpoint_cli.main"])
def test_it_runs_as_a_module(package: str) -> None:
    done = subprocess.run([sys.executable, "-m", package, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"llmendpoint {VERSION}\n"


def test_a_reader_that_has_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "llmendpoint_cli", "--help"],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
