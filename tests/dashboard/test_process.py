"""`python -m llmendpoint_dashboard`: its settings, its start, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_dashboard.settings import AuthMode, parse_settings
from support.waiting import wait_until

SIDECAR = "--sidecar=ollama=http://127.0.0.1:8001"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LLMENDPOINT_")} | {
    "PYTHONPATH": os.pathsep.join(sys.path)
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Started:
    """A process of the dashboard."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> Any:
        with self._opener.open(self.url + path, timeout=30) as response:
            text = response.read().decode()
        return json.loads(text) if path.startswith("/api") else text

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"X-CSRF-Token": self.get("/api/v1/session")["csrf"], "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with self._opener.open(request, timeout=30) as response:
            return json.loads(response.read())

    def answers(self) -> bool:
        try:
            return bool(self.get("/readyz") == "ok\n")
        except OSError:
            return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Return a function that starts the dashboard, and waits until it answers."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, port: int = 0, wait: bool = True) -> Started:
        port = port or free_port()
        command = [sys.executable, "-m", "llmendpoint_dashboard", f"--listen=127.0.0.1:{port}", *arguments]
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        started = Started(process, port)
        if wait:
            wait_until(started.answers)
        return started

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def refusal(*arguments: str) -> str:
    """Return what the program says about a wrong command line."""
    command = [sys.executable, "-m", "llmendpoint_dashboard", *arguments]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


def test_a_wrong_command_line_ends_with_one_sentence(tmp_path: Path) -> None:
    assert "--allow-unauthenticated" in refusal("--listen=:3001")
    assert "is not a name and a URL" in refusal("--sidecar=http://127.0.0.1:8001")
    short = tmp_path / "token"
    short.write_text("short")
    assert "shorter than 16 characters" in refusal("--auth=token", f"--auth-token-file={short}", "--listen=127.0.0.1:0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen=0.0.0.0:1"], "--allow-unauthenticated"),
        ([SIDECAR, SIDECAR], "two sidecars have the name ollama"),
        (["--simulated=ollama"], "there is no --sidecar ollama=URL"),
        ([SIDECAR, "--load-url=ollama=http://x"], "--load-url requires --runs"),
        ([SIDECAR, "--runs=runs", "--load-api-key-file=x"], "--load-api-key-file requires --load-url"),
        (["--auth=token"], "require each other"),
        (["--auth-token-file=x"], "require each other"),
        (["--auth=header"], "--auth-proxy"),
        (["--auth=header", "--auth-proxy=everywhere"], "is not a network"),
        (["--namespace=a"], "only allowed with --cluster"),
        (["--prometheus=ftp://x"], "is not a base URL"),
        (["--prometheus=http://user:secret@x"], "without user"),
        (["--max-load-duration=0"], "longer than 0s"),
        (["--allowed-host=a b"], "is not a host name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_settings(arguments, environment={})
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_settings_come_from_flags_and_variables() -> None:
    settings = parse_settings(
        ["--listen=:3001", SIDECAR, "--simulated=ollama", "--runs=runs", "--load-url=ollama=http://127.0.0.1:11435/"],
        environment={
            "LLMENDPOINT_DASHBOARD_AUTH": "header",
            "LLMENDPOINT_DASHBOARD_AUTH_PROXY": "[10.0.0.0/8, ::1]",
            "LLMENDPOINT_DASHBOARD_LISTEN": "127.0.0.1:1",
        },
    )
    assert (settings.listen.host, settings.listen.port) == (None, 3001)
    assert settings.sidecars[0].simulated
    assert settings.can_start_load_tests
    assert settings.runs == Path("runs").absolute()
    assert settings.load_urls == {"ollama": "http://127.0.0.1:11435"}
    assert settings.auth.mode is AuthMode.HEADER
    assert [str(network) for network in settings.auth.proxies] == ["10.0.0.0/8", "::1/128"]
    assert not parse_settings(["--cluster"], environment={}).can_start_load_tests


@pytest.mark.alone
def test_it_starts_answers_and_stops_on_a_signal(start: Callable[..., Started]) -> None:
    started = start(SIDECAR, "--simulated=ollama")
    assert started.get("/livez") == "ok\n"
    about = started.get("/api/v1/state")["sections"]["about"]
    assert about["mode"] == "machine"
    begun = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    _, log = started.process.communicate(timeout=30)
    assert started.process.returncode == 0
    assert time.monotonic() - begun < 5
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"info"} == {line["level"] for line in lines}
    assert lines[-1]["message"] == "stopping"


def test_a_port_in_use_is_named(start: Callable[..., Started]) -> None:
    first = start()
    second = start(port=int(first.url.rpartition(":")[2]), wait=False)
    _, log = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert "choose another address with --listen" in log


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG exists only on Linux")
def test_a_run_ends_with_a_dashboard_that_was_killed(start: Callable[..., Started], tmp_path: Path) -> None:
    upstream = free_port()
    simulator = subprocess.Popen(
        [sys.executable, "-m", "llmendpoint_simulator", f"--listen=127.0.0.1:{upstream}", "--ttft=10ms"],
        env=ENVIRONMENT,
    )
    runs = tmp_path / "runs"
    try:
        started = start(SIDECAR, f"--runs={runs}", f"--load-url=ollama=http://127.0.0.1:{upstream}")
        form = {"source": "ollama", "model": "simulated:latest", "duration": "100s"}
        key = started.post("/api/v1/loadtests", form)["key"]

        def row() -> dict[str, Any]:
            rows = started.get("/api/v1/state")["sections"]["loadtests"]
            return next((one for one in rows if one["key"] == key), {})

        wait_until(lambda: row().get("requests", 0) > 0)
        pid = json.loads((runs / key / "progress.json").read_text())["pid"]
        started.process.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        assert '"Canceled"' in (runs / key / "summary.json").read_text()
        # The next dashboard shows it.
        again = start(SIDECAR, f"--runs={runs}")
        wait_until(lambda: again.get("/api/v1/state")["sections"]["loadtests"])
        shown = again.get("/api/v1/state")["sections"]["loadtests"][0]
        assert (shown["state"], shown["reason"]) == ("ended", "Canceled")
        with pytest.raises(urllib.error.HTTPError):
            again.post(f"/api/v1/loadtests/{key}/stop", {})
    finally:
        simulator.kill()
        simulator.wait()


def test_a_cluster_that_does_not_exist_is_said_on_the_page(start: Callable[..., Started], tmp_path: Path) -> None:
    started = start("--cluster", f"--kubeconfig={tmp_path / 'absent'}", wait=False)
    wait_until(lambda: started_state(started).get("cluster", ""))
    about = started_state(started)
    assert about["mode"] == "cluster"
    assert about["cluster"].startswith("There is no cluster to connect to")
    with pytest.raises(urllib.error.HTTPError):
        started.get("/readyz")


def started_state(started: Started) -> dict[str, Any]:
    try:
        return dict(started.get("/api/v1/state")["sections"]["about"])
    except OSError:
        return {}
