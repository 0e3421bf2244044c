"""`llmendpoint doctor` on a machine with real processes: each fault that is injected gives exactly its cause."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.state import Kind, Phase, Program
from llmendpoint_common.diagnosis.host import port_owner
from support.api_server.control_plane import free_port
from support.machine.doctor_machine import (
    Machine,
    ScriptedServer,
    a_machine,
    answers,
    fetch,
    scripted_server,
    stopped,
    url,
)
from support.machine.local_stack import shown
from support.machine.real_ollama import MODEL, RealOllama, running_ollama
from support.waiting import wait_until

GIB = 2**30


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    """A real Ollama with a model in memory."""
    with running_ollama(tmp_path_factory.mktemp("ollama"), OLLAMA_NUM_PARALLEL="1") as real:
        fetch(
            f"{real.url}/api/generate", {"model": MODEL, "prompt": "a", "stream": False, "options": {"num_predict": 1}}
        )
        yield real


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with a_machine(tmp_path) as made:
        yield made


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """An Ollama whose answers a test changes. It has a model in the memory of a GPU."""
    tags = {"models": [{"name": "a:latest", "size": GIB}, {"name": "b:latest", "size": GIB}]}
    loaded = {"models": [{"name": "a:latest", "size": 2 * GIB, "size_vram": 2 * GIB, "context_length": 4096}]}
    script = {"/api/version": {"version": "0.17.4"}, "/api/tags": tags, "/api/ps": loaded, "/api/show": {}}
    with scripted_server(script) as server:
        yield server


def needs_prometheus() -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("needs Prometheus: put `prometheus` on the PATH")


def job(target: str, **fields: Any) -> dict[str, Any]:
    return {"job_name": "job", "static_configs": [{"targets": [target.removeprefix("http://")]}], **fields}


def test_nothing_is_wrong_with_a_machine_that_works(machine: Machine, ollama: RealOllama) -> None:
    needs_prometheus()
    machine.sidecar(ollama.port)
    machine.prometheus(job(machine.sidecars[0].admin_url))
    code, report = machine.doctor()
    assert (code, report["findings"]) == (0, [])
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert {name for name, state in states.items() if state != "ok"} <= {"disk"}


# Ollama


def test_an_ollama_that_does_not_run(machine: Machine) -> None:
    machine.sidecar(free_port())
    finding = machine.only()
    at = machine.sidecars[0].upstream_url.removeprefix("http://")
    assert (finding["cause"], finding["command"]) == ("OllamaNotRunning", f"OLLAMA_HOST={at} ollama serve")


def test_an_ollama_that_does_not_answer(machine: Machine, ollama: RealOllama) -> None:
    machine.sidecar(ollama.port)
    owner = port_owner(ollama.port)
    assert owner is not None
    assert owner.pid is not None
    with stopped(owner.pid):
        assert machine.cause() == "OllamaNotAnswering"


def test_an_ollama_that_is_too_old(machine: Machine, scripted: ScriptedServer) -> None:
    scripted.answers["/api/version"] = {"version": "0.12.6"}
    machine.sidecar(scripted.port)
    assert machine.cause() == "OllamaVersionUnsupported"


def test_a_program_that_is_not_ollama(machine: Machine) -> None:
    port = free_port()
    other = machine.run(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    wait_until(lambda: port_owner(port))
    finding = machine.only("--ollama", url(port), "--sidecar", url(machine_sidecar(machine, port)))
    assert (finding["cause"], finding["command"]) == ("PortTaken", f"kill {other.pid}")
    assert "http.server" in finding["sentence"]


def machine_sidecar(machine: Machine, upstream: int) -> int:
    machine.sidecar(upstream)
    return int(machine.sidecars[0].admin_url.rpartition(":")[2])


def test_an_ollama_without_a_model(machine: Machine, scripted: ScriptedServer) -> None:
    scripted.answers |= {"/api/tags": {"models": []}, "/api/ps": {"models": []}}
    machine.sidecar(scripted.port)
    assert machine.cause() == "ModelMissing"


def test_a_model_that_is_missing(machine: Machine, ollama: RealOllama) -> None:
    machine.sidecar(ollama.port)
    finding = machine.only("--model", MODEL, "--model", "nope:1b")
    assert (finding["cause"], finding["command"]) == (
        "ModelMissing",
        f"OLLAMA_HOST=127.0.0.1:{ollama.port} ollama pull nope:1b",
    )


def test_a_model_that_is_partly_on_the_cpu(machine: Machine, scripted: ScriptedServer) -> None:
    machine.sidecar(scripted.port)
    (model,) = scripted.answers["/api/ps"]["models"]
    model["size_vram"] = GIB * 3 // 2
    finding = machine.only()
    assert (finding["cause"], finding["subject"]) == ("PartlyOnCPU", "a:latest")
    assert finding["sentence"].startswith("Only 75 % of a:latest is in GPU memory.")
    assert "not with a context of 4096 tokens" in finding["sentence"]
    other = {"name": "b:latest", "size": GIB, "size_vram": GIB, "context_length": 4096}
    scripted.answers["/api/ps"]["models"].append(other)
    assert machine.only()["command"] == f"OLLAMA_HOST=127.0.0.1:{scripted.port} ollama stop b:latest"


def test_a_context_that_is_shorter_than_requests_want(machine: Machine, ollama: RealOllama) -> None:
    machine.sidecar(ollama.port)
    assert machine.cause("--context-length", "1000000") == "ContextCut"


def test_a_context_that_is_shorter_than_the_model_wants(machine: Machine, ollama: RealOllama) -> None:
    """Ollama cuts `num_ctx` off at the context for which a model was trained, and only its log says so."""
    body = {"model": "wide", "from": MODEL, "parameters": {"num_ctx": 10_000_000}, "stream": False}
    fetch(f"{ollama.url}/api/create", body)
    request = {"model": "wide", "prompt": "a", "stream": False, "options": {"num_predict": 1}}
    fetch(f"{ollama.url}/api/generate", request)
    machine.sidecar(ollama.port)
    try:
        finding = machine.only()
        assert (finding["cause"], finding["subject"]) == ("ContextCut", "wide:latest")
        assert "its Modelfile asks for 10000000" in finding["sentence"]
    finally:
        fetch(f"{ollama.url}/api/generate", {"model": "wide", "keep_alive": 0, "stream": False})
        delete = urllib.request.Request(f"{ollama.url}/api/delete", b'{"model": "wide"}', method="DELETE")
        urllib.request.urlopen(delete, timeout=30).close()


# The sidecar, ports and processes


def test_a_sidecar_that_does_not_run(machine: Machine, scripted: ScriptedServer) -> None:
    machine.add_sidecar(scripted.port)
    finding = machine.only()
    assert (finding["cause"], finding["command"]) == ("SidecarNotRunning", shown(machine.folders, "up"))


def test_a_sidecar_that_does_not_answer(machine: Machine, scripted: ScriptedServer) -> None:
    with stopped(machine.sidecar(scripted.port).pid):
        assert machine.cause() == "SidecarNotAnswering"


def test_a_port_that_another_program_has(machine: Machine, scripted: ScriptedServer) -> None:
    port = int(machine.add_sidecar(scripted.port).admin_url.rpartition(":")[2])
    other = machine.run(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    wait_until(lambda: port_owner(port))
    finding = machine.only()
    assert (finding["cause"], finding["command"]) == ("PortTaken", f"kill {other.pid}")


def test_a_model_that_cannot_be_pulled(machine: Machine, ollama: RealOllama, tmp_path: Path) -> None:
    config = tmp_path / "models.json"
    registry = {"host": f"127.0.0.1:{free_port()}", "repository": "library/nope", "insecure": True}
    config.write_text(json.dumps({"models": [{"name": "nope:1b", "registry": registry}]}))
    machine.sidecar(ollama.port, f"--config={config}")
    admin = machine.sidecars[0].admin_url
    wait_until(lambda: fetch(f"{admin}/status")["models"][0]["phase"] == "Failed")
    finding = machine.only("--model", "nope:1b")
    (model,) = fetch(f"{admin}/status")["models"]
    assert finding["cause"] == model["reason"] == "PullFailed"
    assert model["message"] in finding["sentence"]
    # The sidecar runs on machines without a cluster, too.
    assert " pod " not in model["message"]


def test_a_model_that_the_simulator_lacks(machine: Machine) -> None:
    port = free_port()
    machine.run(sys.executable, "-m", "llmendpoint_simulator", f"--listen=127.0.0.1:{port}", "--model=a")
    wait_until(lambda: answers(f"{url(port)}/api/version"))
    machine.sidecar(port)
    finding = machine.only("--model", "a", "--model", "b:1b")
    assert (finding["cause"], finding["subject"]) == ("ModelMissing", "b:1b")
    subprocess.run(finding["command"], shell=True, check=True, stdout=subprocess.DEVNULL)
    assert machine.doctor("--model", "a", "--model", "b:1b")[0] == 0


def test_an_ollama_that_is_hung(machine: Machine) -> None:
    port = free_port()
    machine.run(sys.executable, "-m", "llmendpoint_simulator", f"--listen=127.0.0.1:{port}", "--model=a", "--ttft=0")
    wait_until(lambda: answers(f"{url(port)}/api/version"))
    machine.sidecar(port, "--stall-after=3s", "--parallel=1")
    sidecar = machine.sidecars[0]
    request = {"model": "a", "messages": [{"role": "user", "content": "a"}], "stream": False}
    fetch(f"{sidecar.proxy_url}/api/chat", request)
    behaviour = urllib.request.Request(f"{url(port)}/simulator/behaviour", b'{"fault": "hang"}', method="PUT")
    urllib.request.urlopen(behaviour, timeout=30).close()

    def ask() -> None:
        # The sidecar ends the request.
        with suppress(OSError):
            fetch(f"{sidecar.proxy_url}/api/chat", request)

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    stalled = wait_until(lambda: fetch(f"{sidecar.admin_url}/status").get("stalled"), 60)
    finding = machine.only()
    assert (finding["cause"], finding["sentence"]) == ("OllamaHung", stalled["message"])
    subprocess.run(finding["command"], shell=True, check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: machine.doctor()[0] == 0, 60)


def test_a_process_that_has_crashed(machine: Machine, scripted: ScriptedServer) -> None:
    process = machine.sidecar(scripted.port)
    process.kill()
    process.wait()
    machine.record(
        "sidecar-1", Kind.SIDECAR, process.pid, start_ticks=1, phase=Phase.RESTARTING, exit_code=-9, restarts=1
    )
    (machine.folders.logs / "sidecar-1.log").write_text("started\nout of memory\n\n")
    finding = machine.only()
    assert (finding["cause"], finding["command"]) == ("ProcessCrashed", shown(machine.folders, "logs sidecar-1"))
    assert "has ended with signal SIGKILL. Its last words: out of memory" in finding["sentence"]


def test_a_stack_that_did_not_survive_a_restart_of_the_machine(machine: Machine, scripted: ScriptedServer) -> None:
    machine.add_sidecar(scripted.port)
    machine.prometheus_url = url(free_port())
    for name in ("supervisor", "sidecar-1", "prometheus"):
        machine.record(name, Kind(name.removesuffix("-1")), 2**22 + 1, start_ticks=1)
    machine.programs += [
        Program("sidecar-1", Kind.SIDECAR, (), ready_url=f"{machine.sidecars[0].admin_url}/readyz"),
        Program("prometheus", Kind.PROMETHEUS, (), ready_url=f"{machine.prometheus_url}/-/ready"),
    ]
    finding = machine.only()
    assert (finding["cause"], finding["subject"], finding["command"]) == (
        "ProcessCrashed",
        "stack",
        shown(machine.folders, "up"),
    )


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_a_low_limit_of_open_files(machine: Machine, scripted: ScriptedServer) -> None:
    machine.sidecar(scripted.port)
    machine.programs.clear()
    for record in (machine.folders.processes).glob("sidecar*"):
        record.unlink()
    finding = machine.only(files=1024)
    assert finding["cause"] == "FileLimitLow"
    assert "only 1024 files" in finding["sentence"]


# The clock


def test_a_server_whose_clock_is_wrong(machine: Machine, scripted: ScriptedServer) -> None:
    machine.sidecar(scripted.port)
    scripted.ahead = 3600
    finding = machine.only()
    assert finding["cause"] == "ClockSkew"
    assert "3600 s ahead of the clock of this machine" in finding["sentence"]


def test_a_clock_that_was_set_back(machine: Machine, scripted: ScriptedServer) -> None:
    process = machine.sidecar(scripted.port)
    machine.record("sidecar-1", Kind.SIDECAR, process.pid, since=time.time() + 600)
    assert machine.cause() == "ClockJumped"


# Prometheus


def test_a_prometheus_that_does_not_run(machine: Machine, scripted: ScriptedServer) -> None:
    machine.sidecar(scripted.port)
    machine.prometheus_url = url(free_port())
    assert machine.cause() == "PrometheusNotRunning"


def test_a_prometheus_without_targets(machine: Machine, scripted: ScriptedServer) -> None:
    needs_prometheus()
    machine.sidecar(scripted.port)
    machine.prometheus()
    # A Prometheus that has just started may not have read its list of targets yet, so nothing is said for some time.
    report = wait_until(lambda: next((found for _, found in [machine.doctor()] if found["findings"]), None))
    assert [finding["cause"] for finding in report["findings"]] == ["PrometheusWithoutTargets"]


def test_a_prometheus_that_does_not_scrape_the_sidecar(machine: Machine, scripted: ScriptedServer) -> None:
    needs_prometheus()
    machine.sidecar(scripted.port)
    machine.prometheus(job("SELF"))
    assert machine.cause() == "SidecarNotScraped"


def test_a_target_that_is_down(machine: Machine, scripted: ScriptedServer) -> None:
    needs_prometheus()
    machine.sidecar(scripted.port)
    machine.prometheus(job(machine.sidecars[0].admin_url, metrics_path="/nope"))
    finding = machine.only()
    assert finding["cause"] == "TargetDown"
    assert "404" in finding["sentence"]


def test_a_sidecar_that_does_not_run_is_why_a_target_is_down(machine: Machine, scripted: ScriptedServer) -> None:
    needs_prometheus()
    address = machine.add_sidecar(scripted.port)
    machine.prometheus(job(address.admin_url))
    assert machine.cause() == "SidecarNotRunning"
