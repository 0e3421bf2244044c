"""What `llmendpoint up`, `status`, `doctor` and the dashboard say about a stack with a fault: the same."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.machine.doctor_machine import Machine, a_machine, answers, scripted_server, stopped
from support.machine.local_stack import LocalStack, free_ports, local_stack, shown
from support.waiting import wait_until

#: Options of a stack with all parts, on ports of its own.
_LISTEN = ("--listen", "--metrics-listen", "--dashboard-listen", "--prometheus-listen")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with a_machine(tmp_path / "machine") as machine:
        yield machine


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with local_stack(tmp_path / "state", HOME=str(tmp_path)) as stack:
        yield stack


def simulator(machine: Machine, *options: str) -> str:
    """Start a simulator, and return its URL."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    machine.run(sys.executable, "-m", "llmendpoint_simulator", f"--listen=127.0.0.1:{port}", "--model=a", *options)
    wait_until(lambda: answers(f"{url}/api/version"))
    return url


def options() -> list[str]:
    return [f"{name}=127.0.0.1:{port}" for name, port in zip(_LISTEN, free_ports(len(_LISTEN)), strict=True)]


def by_command(stack: LocalStack) -> list[dict[str, Any]]:
    """Return the findings of `llmendpoint doctor`."""
    found: list[dict[str, Any]] = json.loads(stack.run("doctor", "--format", "json").stdout)["findings"]
    return found


def says(stack: LocalStack, sentence: str) -> bool:
    return sentence in stack.run("status").stdout


def by_dashboard(stack: LocalStack) -> list[dict[str, Any]]:
    """Return the findings that the dashboard shows."""
    url = json.loads(stack.run("status", "--format", "json").stdout)["dashboard"]
    with urllib.request.urlopen(f"{url}/api/v1/state", timeout=10) as response:
        rows: list[dict[str, Any]] = json.load(response)["sections"]["doctor"]
    return [{name: value for name, value in row.items() if name != "key"} for row in rows]


def test_a_prometheus_that_does_not_start_is_a_failure_and_has_no_address(stack: LocalStack, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "prometheus").write_text("#!/bin/sh\necho no configuration >&2\nexit 3\n")
    (programs / "prometheus").chmod(0o755)
    stack.environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    given = ["up", "--simulator", *options()]
    address = given[-1].partition("=")[2]
    for _ in range(2):
        done = stack.run(*given)
        assert done.returncode == 1, done.stdout
        assert f"http://{address}" not in done.stdout
        assert "dashboard" in done.stdout
    wait_until(lambda: [one["cause"] for one in by_dashboard(stack)] == ["ProcessCrashed"], 30)
    [finding] = by_dashboard(stack)
    assert finding in by_command(stack)
    assert finding["command"] == shown(stack.folders, "logs prometheus")
    stack.down()


def test_the_dashboard_starts_a_stack_again_with_its_options(stack: LocalStack, machine: Machine) -> None:
    upstreams = [f"--upstream={name}={simulator(machine)}" for name in ("gpu1", "gpu2")]
    given = [*options()[:3], "--no-prometheus", *upstreams]
    assert stack.run("up", *given).returncode == 0
    with stopped(stack.record("sidecar-gpu1").pid):
        wait_until(lambda: [one["cause"] for one in by_dashboard(stack)] == ["SidecarNotAnswering"], 40)
        [finding] = by_dashboard(stack)
        assert finding in by_command(stack)
        assert finding["command"].startswith(f"{shown(stack.folders, 'down')} && ")
        assert f"{shown(stack.folders, 'up')} " in finding["command"]
        assert all(option in finding["command"] for option in given)
    stack.down()


def test_an_upstream_that_is_not_ollama_is_said_everywhere(stack: LocalStack) -> None:
    with scripted_server({}) as server:
        where = server.url.removeprefix("http://")
        sentence = f"what answers at {where} is not Ollama: GET /api/version was answered with HTTP "
        done = stack.run("up", *options()[:3], "--no-prometheus", f"--upstream=a={server.url}")
        assert f"model server a: {sentence}" in done.stdout
        wait_until(partial(says, stack, sentence), 20)
        wait_until(lambda: [one["cause"] for one in by_dashboard(stack)] == ["PortTaken"], 30)
        [finding] = by_command(stack)
        assert finding["sentence"].startswith(f"W{sentence[1:]}")
        assert finding in by_dashboard(stack)
        assert (
            f"Start the stack again with the address of an Ollama: `{shown(stack.folders, 'down')} && "
            in finding["advice"]
        )
        assert "--upstream=a=URL" in finding["advice"]
        assert not finding["command"].startswith("kill")
        stack.down()


def test_two_stacks_that_are_each_others_upstream_are_a_loop(stack: LocalStack, tmp_path: Path) -> None:
    first, second = free_ports(2)
    with local_stack(tmp_path / "second") as other:
        stack.up(f"--listen=localhost:{first}", f"--upstream=a=http://127.0.0.1:{second}")
        other.up(f"--listen=localhost:{second}", f"--upstream=a=http://127.0.0.1:{first}")
        for each, upstream in ((stack, second), (other, first)):
            sentence = (
                f"the upstream 127.0.0.1:{upstream} leads back to the proxy, so that no request reaches an Ollama"
            )
            wait_until(partial(says, each, sentence), 20)
            [finding] = by_command(each)
            assert (finding["cause"], finding["sentence"]) == ("UpstreamLoop", f"T{sentence[1:]}.")
        other.down()
    stack.down()


def test_the_proxy_has_the_parallel_requests_of_a_simulator_that_runs(stack: LocalStack, machine: Machine) -> None:
    stack.up("--upstream", f"a={simulator(machine, '--parallel=2')}")
    assert "--parallel=2" in stack.record("sidecar").command
    stack.down()
