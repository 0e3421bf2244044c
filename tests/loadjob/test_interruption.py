"""A run that is stopped: it ends immediately, its result is partial, and it never passes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from llmendpoint_common.contracts.loadrun import (
    RESULT_KEY,
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunTarget,
    Summary,
    Verdict,
    VerdictReason,
    parse_result,
    write_run_document,
)
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import PublishError, RunResultError
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob import publish as publishing
from llmendpoint_loadjob.publish import publish
from support.load.load_runs import Driven
from support.load.runs import answered, measure
from support.servers import StartSimulator
from support.tls import issue, issue_without_key_identifiers
from support.waiting import eventually

OBJECTIVES = (Objective(MetricName.ERROR_RATE, 0.5),)


def document(url: str, load: RunLoad) -> RunDocument:
    return RunDocument(RunTarget(url), "simulated", load, objectives=OBJECTIVES)


def partial() -> Summary:
    stopped = document("http://x", RunLoad(concurrency=1))
    return summarize(measure([answered()], stopped, interrupted=True), stopped)


@pytest.mark.parametrize(
    "load", [RunLoad(concurrency=4, duration_seconds=3600), RunLoad(rate=50, duration_seconds=3600)]
)
async def test_a_stopped_run_abandons_its_requests_and_keeps_what_was_measured(
    start_simulator: StartSimulator, load: RunLoad
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1, parallel=100)
    driven = Driven(document(simulator.url, load))
    run = driven.run
    running = asyncio.create_task(run.run())
    await eventually(lambda: run.progress().requests >= 5)
    simulator.behave(ttft=3600)
    await eventually(lambda: run.progress().in_flight >= 4)
    run.stop()
    await asyncio.wait_for(running, 30)
    assert driven.measurements.interrupted
    assert len(driven.samples) >= 5
    assert {sample.error for sample in driven.samples} == {None}
    # The abandoned requests end on the server too.
    await eventually(lambda: all(slots.running == 0 for slots in simulator.simulator.store.slots.values()))


def test_an_interrupted_run_is_canceled_although_its_objectives_were_met() -> None:
    summary = partial()
    assert (summary.verdict, summary.reason, summary.partial) == (Verdict.NONE, VerdictReason.CANCELED, True)
    assert summary.message == (
        "The load generator was stopped before the end of the run. The result is partial (1 measured request), and no "
        "objective was judged."
    )
    assert summary.requests == 1


def test_a_partial_result_with_a_verdict_is_refused() -> None:
    fields = json.loads(msgspec.json.encode(partial()))
    assert parse_result(json.dumps(fields)).partial
    with pytest.raises(RunResultError, match="a partial result has the verdict Passed"):
        parse_result(json.dumps({**fields, "verdict": "Passed"}))


async def test_sigterm_ends_the_process_with_a_partial_report(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    (tmp_path / "run.json").write_text(
        write_run_document(document(simulator.url, RunLoad(concurrency=1, duration_seconds=3600)))
    )
    arguments = ["--run", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    await eventually(lambda: len(simulator.simulator.ledger.entries) >= 3)
    simulator.behave(ttft=3600)
    process.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == exit_codes.INTERRUPTED
    assert b"None (Canceled): The load generator was stopped before the end of the run" in output
    assert json.loads((tmp_path / "out/summary.json").read_text())["partial"] is True


async def test_a_closed_terminal_ends_the_process_with_a_partial_report(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    terminal, own = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        "setsid", "--ctty", sys.executable, "-m", "llmendpoint_loadjob", f"--url={simulator.url}", "--model=simulated",
        "--concurrency=1", "--duration=1h", f"--out={tmp_path / 'out'}", stdin=own, stdout=own, stderr=own,
    )  # fmt: skip
    os.close(own)
    await eventually(lambda: len(simulator.simulator.ledger.entries) >= 3)
    # The kernel sends SIGHUP, and every further write to the terminal fails.
    os.close(terminal)
    assert await asyncio.wait_for(process.wait(), 30) != 0
    assert json.loads((tmp_path / "out/summary.json").read_text())["reason"] == "Canceled"
    assert (tmp_path / "out/report.html").exists()


@dataclass
class ApiServer:
    """An API server that answers each patch with the next status, and then with the last one, or not at all (0)."""

    statuses: list[int] = field(default_factory=lambda: [200])
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if not status:
            await asyncio.sleep(3600)
        return web.json_response({}, status=status)


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The CA of the cluster, and the certificate of the API server with its key."""
    certificate, key = issue(tmp_path, "localhost")
    return certificate, certificate, key


@pytest.fixture
async def api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: tuple[Path, Path, Path]
) -> AsyncIterator[ApiServer]:
    """An API server as a pod sees it: its address in the environment, token and certificate in the mounted folder."""
    authority, certificate, key = certificates
    (tmp_path / "token").write_text("token\n")
    (tmp_path / "ca.crt").write_bytes(authority.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ApiServer()
    app = web.Application()
    app.router.add_patch("/api/v1/namespaces/ns/configmaps/smoke-result-0", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    monkeypatch.setattr(publishing, "_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(runner.addresses[0][1]))
    yield server
    await runner.cleanup()


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def write(api_server: ApiServer, stopping: asyncio.Event) -> Callable[[], Awaitable[None]]:
    return lambda: publish(partial(), "ns/smoke-result-0", stopping)


async def test_a_failed_write_is_repeated(
    api_server: ApiServer, write: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_PAUSE_SECONDS", 0.01)
    api_server.statuses = [500, 403, 429, 200]
    await write()
    assert parse_result(json.loads(api_server.bodies[-1])["data"][RESULT_KEY]) == partial()
    assert len(api_server.bodies) == 4


class TestCertificateWithoutAuthorityKeyIdentifier:
    """kubectl accepts such an API server, and Python 3.13 does not by default."""

    @pytest.fixture
    def certificates(self, tmp_path: Path) -> tuple[Path, Path, Path]:
        return issue_without_key_identifiers(tmp_path)

    @pytest.mark.usefixtures("strict_defaults")
    async def test_is_accepted(self, api_server: ApiServer, write: Callable[[], Awaitable[None]]) -> None:
        await write()
        assert len(api_server.bodies) == 1

    @pytest.mark.usefixtures("strict_defaults")
    async def test_is_refused_if_another_authority_signed_it(
        self,
        api_server: ApiServer,
        write: Callable[[], Awaitable[None]],
        stopping: asyncio.Event,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other, _ = issue(tmp_path, "kubernetes")
        (tmp_path / "ca.crt").write_bytes(other.read_bytes())
        monkeypatch.setattr(publishing, "_STOPPING_LIMIT_SECONDS", 0.5)
        stopping.set()
        with pytest.raises(PublishError, match="certificate verify failed"):
            await write()
        assert not api_server.bodies


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_pod_that_is_being_stopped_gives_up_when_its_permission_or_map_is_gone(
    api_server: ApiServer, write: Callable[[], Awaitable[None]], stopping: asyncio.Event, status: int
) -> None:
    api_server.statuses = [status]
    stopping.set()
    with pytest.raises(PublishError, match=f"smoke-result-0: HTTP {status}"):
        await asyncio.wait_for(write(), 5)
    assert len(api_server.bodies) == 1


async def test_a_stop_ends_the_wait_for_the_next_attempt(
    api_server: ApiServer, write: Callable[[], Awaitable[None]], stopping: asyncio.Event
) -> None:
    api_server.statuses = [403]
    writing = asyncio.ensure_future(write())
    await eventually(lambda: bool(api_server.bodies))
    assert not writing.done()
    stopping.set()
    with pytest.raises(PublishError, match="HTTP 403"):
        await asyncio.wait_for(writing, 5)


@pytest.mark.parametrize("status", [0, 503])
async def test_a_stop_limits_the_time_for_an_api_server_that_fails_or_does_not_answer(
    api_server: ApiServer,
    write: Callable[[], Awaitable[None]],
    stopping: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr(publishing, "_STOPPING_LIMIT_SECONDS", 0.7)
    api_server.statuses = [status]
    writing = asyncio.ensure_future(write())
    await eventually(lambda: bool(api_server.bodies))
    stopping.set()
    with pytest.raises(PublishError, match=r"HTTP 503|does not answer"):
        await asyncio.wait_for(writing, 5)
