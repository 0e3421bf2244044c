"""Every process: help that lists defaults and variables, errors that are one sentence with exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MODULES = ["llmendpoint_sidecar", "llmendpoint_simulator", "llmendpoint_loadjob", "llmendpoint_operator"]


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment, timeout=60
    )


@pytest.mark.parametrize("module", MODULES)
def test_help_names_each_variable_and_default(module: str) -> None:
    done = run(module, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert "[LLMENDPOINT_LOG_LEVEL]" in done.stdout
    assert "default" in done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_a_wrong_value_ends_with_2_and_a_sentence(module: str) -> None:
    done = run(module, "--log-level", "loud")
    assert done.returncode == 2
    assert "'loud' is not a log level; choose debug, info, warning or error" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_variable_sets_and_a_flag_wins() -> None:
    wrong = run("llmendpoint_sidecar", LLMENDPOINT_IDLE_TIMEOUT="never")
    assert wrong.returncode == 2
    assert "'never' is not a duration" in wrong.stderr
    overridden = run(
        "llmendpoint_sidecar", "--idle-timeout", "1s", "--config", "/nowhere.json", LLMENDPOINT_IDLE_TIMEOUT="2s"
    )
    assert "/nowhere.json" in overridden.stderr
    assert overridden.returncode == 2
