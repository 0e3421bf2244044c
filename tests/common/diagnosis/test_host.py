"""What a machine knows about itself."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmendpoint_common.diagnosis import host
from llmendpoint_common.diagnosis.facts import (
    DiskFacts,
    MachineFacts,
    OllamaFacts,
    PortOwner,
    SidecarFacts,
    Silence,
    SilenceKind,
)
from llmendpoint_common.diagnosis.host import NeededPort, file_limit, models_disk, observe, port_owner
from llmendpoint_common.diagnosis.rules import machine_findings
from support.api_server.control_plane import free_port
from support.waiting import wait_until


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of another program."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", request.param, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: port_owner(port))
    yield port
    process.kill()
    process.wait()


def test_the_process_that_has_a_port(listener: int) -> None:
    owner = port_owner(listener)
    assert owner is not None
    assert owner.pid not in (None, os.getpid())
    assert "-m http.server" in owner.command


def test_a_port_that_nobody_has() -> None:
    assert port_owner(free_port()) is None


def test_a_connection_is_not_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert port_owner(client.getsockname()[1]) is None
        assert port_owner(server.getsockname()[1]) == PortOwner(os.getpid(), port_owner_command())


def port_owner_command() -> str:
    return " ".join(Path("/proc/self/cmdline").read_text().split("\0")).strip()


def test_a_port_of_another_program_is_taken_unless_it_answers_as_expected(listener: int) -> None:
    url = f"http://127.0.0.1:{listener}"
    needed = [NeededPort(listener, "the sidecar", ("llmendpoint",), "--admin-listen")]
    silence = Silence(SilenceKind.FOREIGN, "HTTP 404")
    foreign = MachineFacts(1.0, sidecars=(SidecarFacts("a", url, silence=silence),))
    (port,) = observe(foreign, needed).ports
    assert (port.port, port.option) == (listener, "--admin-listen")
    answering = MachineFacts(1.0, sidecars=(SidecarFacts("a", url),))
    assert observe(answering, needed).ports == ()
    mine = [NeededPort(listener, "the sidecar", ("http.server",))]
    assert observe(foreign, mine).ports == ()


@pytest.mark.parametrize(
    ("command", "is_ollama"),
    [("/usr/local/bin/ollama serve", True), ("ollama serve", True), ("/opt/ollama/venv/bin/python x.py", False)],
)
def test_a_program_is_recognized_by_its_name(monkeypatch: pytest.MonkeyPatch, command: str, *, is_ollama: bool) -> None:
    monkeypatch.setattr(host, "port_owner", lambda port: PortOwner(7, command))
    needed = [NeededPort(1, "Ollama", ("ollama", "llmendpoint"))]
    assert (observe(MachineFacts(1.0), needed).ports == ()) is is_ollama


@pytest.mark.parametrize(("kind", "is_taken"), [(SilenceKind.FOREIGN, True), (SilenceKind.TIMEOUT, False)])
def test_a_process_of_another_user_has_a_port_only_if_it_answers_wrongly(
    monkeypatch: pytest.MonkeyPatch, kind: SilenceKind, *, is_taken: bool
) -> None:
    """Ollama often runs as a service with a user of its own, and may be hung."""
    monkeypatch.setattr(host, "port_owner", lambda port: PortOwner())
    facts = MachineFacts(1.0, ollamas=(OllamaFacts("http://127.0.0.1:11434", Silence(kind, "no")),))
    ports = observe(facts, [NeededPort(11434, "Ollama", ("ollama",))]).ports
    assert bool(ports) is is_taken


def test_a_long_command_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "port_owner", lambda port: PortOwner(7, "x" * 500))
    (port,) = observe(MachineFacts(1.0), [NeededPort(1, "Ollama", ("ollama",))]).ports
    assert port.owner.command == f"{'x' * 57}..."


def test_the_limit_of_files_is_that_of_the_process() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    expected = None if hard == resource.RLIM_INFINITY else hard
    assert file_limit() == file_limit(os.getpid()) == expected
    # A process that has ended has no limit of its own.
    assert file_limit(2**22 + 1) == expected


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_the_limit_of_another_process() -> None:
    process = subprocess.Popen(["prlimit", "--nofile=700:700", "sleep", "60"])
    try:
        wait_until(lambda: file_limit(process.pid) == 700)
    finally:
        process.kill()
        process.wait()


def test_a_disk_with_models_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    real = models_disk()
    assert real is not None
    assert (real.path, real.total) == (str(tmp_path), shutil.disk_usage(tmp_path).total)
    usage = SimpleNamespace(free=2**30, total=2**40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    facts = observe(MachineFacts(1.0, ollamas=(OllamaFacts("http://127.0.0.1:1", version="0.17.4"),)))
    assert facts.disk == DiskFacts(str(tmp_path), 2**30, 2**40)
    assert "DiskNearlyFull" in [finding.cause for finding in machine_findings(facts)]


def test_the_disk_of_another_machine_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    remote = OllamaFacts("http://gpu.example:11434", version="0.17.4", is_local=False)
    assert observe(MachineFacts(1.0, ollamas=(remote,))).disk is None
