"""The command line as a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("output", "reason"), [("/dev/full", "No space left on device"), ("&-", "it is closed")], ids=["full", "closed"]
)
@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("--help", "llmendpoint"),
        ("load --help", "llmendpoint load"),
        ("status", "llmendpoint status"),
        ("down", "llmendpoint down"),
        ("questions", "llmendpoint questions"),
        ("questions sample", "llmendpoint questions sample"),
        ("doctor --format json", "llmendpoint doctor"),
    ],
)
def test_output_that_is_lost_is_an_error(tmp_path: Path, words: str, program: str, output: str, reason: str) -> None:
    done = subprocess.run(
        f"exec {sys.executable} -m llmendpoint_cli {words} >{output}", shell=True, check=False, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"LLMENDPOINT_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"{program}: the result could not be written to stdout: {reason}\n"


def test_the_help_of_traffic_describes_traffic_and_its_default_server() -> None:
    shown = {command: help_of(command) for command in ("load", "traffic")}
    assert "Send requests at a low rate" in shown["traffic"]
    assert "llmendpoint traffic --detach --rate" in shown["traffic"]
    assert "--sweep 0.5:20 --slo" not in shown["traffic"]
    for text in shown.values():
        assert "default: the first proxy of the stack that is up, otherwise http://127.0.0.1:11435" in text


def help_of(command: str) -> str:
    """Return the help text in one line."""
    done = subprocess.run([sys.executable, "-m", "llmendpoint_cli", command, "--help"], check=True, capture_output=True,
                          text=True)  # fmt: skip
    return " ".join(done.stdout.split())
