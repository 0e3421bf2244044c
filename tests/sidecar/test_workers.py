"""Several processes on one port: sums of metrics, one configuration, drains, and workers that die or do not answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llmendpoint_common.api.endpoint.spec import parse_spec
from llmendpoint_common.api.translate.sidecar_arguments import SidecarAddresses, sidecar_arguments
from llmendpoint_common.api.translate.sidecar_config import config_text, sidecar_config
from llmendpoint_common.contracts.sidecar import ModelPhase, SidecarConfig, SidecarStatus
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.budget import process_budget
from llmendpoint_sidecar.settings import parse_settings
from llmendpoint_sidecar.workers.supervisor import Supervisor
from support.private import seconds_without_workers, workers_of
from support.servers import RunningSimulator, StartSimulator
from support.tls import issue, subject


class Running:
    """A sidecar with two worker processes."""

    def __init__(self, process: asyncio.subprocess.Process, addresses: SidecarAddresses) -> None:
        self.process = process
        self.url = f"http://{addresses.listen}"
        self.admin = f"http://{addresses.admin_listen}"
        self.log: list[str] = []

    async def read_log(self) -> None:
        """Collect the messages of the log until the process ends."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log.append(json.loads(line)["message"] if line.startswith(b"{") else line.decode())

    def said(self, part: str) -> list[str]:
        """Return the messages that contain `part`."""
        return [message for message in self.log if part in message]

    def workers(self) -> list[int]:
        """Return the process IDs of the live workers."""
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if lives(int(child))
        ]

    async def samples(self) -> dict[str, float]:
        """Scrape the sidecar, and return all samples by name and labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def status(self) -> SidecarStatus:
        """Return what the sidecar reports to the operator."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/status") as response:
            return msgspec.json.decode(await response.read(), type=SidecarStatus)

    async def total(self, family: str) -> float:
        return sum(value for name, value in (await self.samples()).items() if name.partition("{")[0] == family)

    async def chat(self, tokens: int = 3, headers: dict[str, str] | None = None) -> int:
        """Send a request on a new connection, for which the kernel chooses a worker, and return the status."""
        body = {
            "model": "simulated",
            "messages": [{"role": "user", "content": "hello"}],
            "options": {"num_predict": tokens},
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/chat", json=body, headers=headers) as response,
        ):
            await response.read()
            return response.status


def lives(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sockets_of(pid: int) -> int:
    """Return the number of open sockets of a process."""
    return sum(link.readlink().name.startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())


def free_port() -> int:
    sockets = bind_sockets(Address("127.0.0.1", 0))
    port = port_of(sockets)
    sockets[0].close()
    return port


@asynccontextmanager
async def running(upstream: int, *flags: str) -> AsyncIterator[Running]:
    addresses = local_addresses(upstream)
    arguments = [
        "--workers", "2", "--listen", addresses.listen, "--admin-listen", addresses.admin_listen,
        "--upstream", addresses.upstream, "--drain-delay", "0", *flags,
    ]  # fmt: skip
    async with started(addresses, arguments) as sidecar:
        yield sidecar


def local_addresses(upstream: int) -> SidecarAddresses:
    """Return addresses of a sidecar on free ports, in front of the upstream with a port."""
    return SidecarAddresses(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{upstream}")


@asynccontextmanager
async def started(addresses: SidecarAddresses, arguments: Sequence[str]) -> AsyncIterator[Running]:
    """Start a sidecar, and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_sidecar", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    sidecar = Running(process, addresses)
    reading = asyncio.create_task(sidecar.read_log())
    try:
        await until(lambda: answers(f"{sidecar.admin}/readyz"))
        yield sidecar
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(asyncio.gather(process.wait(), reading), 20)


async def answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def loses(sidecar: Supervisor, count: int) -> bool:
    """Return whether so many workers miss pings."""
    return sum(not worker.answers for worker in workers_of(sidecar)) == count


async def in_flight(sidecar: Running, count: int) -> bool:
    """Return whether so many requests are running or waiting."""
    samples = await sidecar.samples()
    return samples["llmendpoint_num_requests_running"] + samples["llmendpoint_num_requests_waiting"] == count


async def said(sidecar: Running, part: str) -> bool:
    """Return whether the log has a message that contains `part`."""
    return bool(sidecar.said(part))


async def has_counted(sidecar: Running, requests: int) -> None:
    """Wait until the sidecar has counted this number of requests. A worker counts one just after the client has read the response."""
    await until(lambda: _counts(sidecar, requests))


async def _counts(sidecar: Running, requests: int) -> bool:
    return await sidecar.total("llmendpoint_requests_total") == requests


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Wait until an asynchronous check returns True."""
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(0.02)


@pytest.fixture
async def simulator(start_simulator: StartSimulator) -> RunningSimulator:
    return await start_simulator(tokens=3)


async def test_what_workers_count_adds_up_to_the_token(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        before = {pid: sockets_of(pid) for pid in sidecar.workers()}
        assert len(before) == 2
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(60)))) == {200}
        await has_counted(sidecar, 60)
        entries = simulator.simulator.ledger.entries
        assert len(entries) == 60
        tokens = sum(entry.generation_tokens for entry in entries)
        assert await sidecar.total("llmendpoint_generation_tokens_total") == tokens > 0
        # The same holds for each bucket of histograms.
        assert await sidecar.total("llmendpoint_e2e_request_latency_seconds_count") == 60
        # Both workers had requests, because both have connections to the upstream.
        assert all(sockets_of(pid) > count for pid, count in before.items())
        async with aiohttp.ClientSession() as session, session.get(f"{sidecar.admin}/status") as response:
            assert (await response.json())["totals"]["requests"] == 60


async def test_running_and_waiting_are_those_of_all_workers_together(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=30.0, parallel=2)
    async with running(simulator.port, "--parallel", "2") as sidecar:
        tasks = [asyncio.create_task(sidecar.chat()) for _ in range(7)]

        async def all_there() -> bool:
            samples = await sidecar.samples()
            return (samples["llmendpoint_num_requests_running"], samples["llmendpoint_num_requests_waiting"]) == (2, 5)

        await until(all_there)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        async def none_there() -> bool:
            samples = await sidecar.samples()
            return not samples["llmendpoint_num_requests_running"] and not samples["llmendpoint_num_requests_waiting"]

        await until(none_there)


async def test_a_record_is_found_whichever_worker_carried_the_request(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        names = [f"mine-{index}" for index in range(12)]
        await asyncio.gather(*(sidecar.chat(headers={"X-Request-ID": name}) for name in names))
        async with aiohttp.ClientSession() as session:
            for name in names:
                async with session.get(f"{sidecar.admin}/status/requests/{name}") as response:
                    assert (await response.json())["requestId"] == name
            async with session.get(f"{sidecar.admin}/status/requests/nobody") as response:
                assert response.status == 404


async def test_the_last_requests_of_all_workers_are_listed_in_the_order_of_their_ends(
    simulator: RunningSimulator,
) -> None:
    async with running(simulator.port) as sidecar:
        names = [f"mine-{index}" for index in range(12)]
        for name in names:
            await sidecar.chat(headers={"X-Request-ID": name})
        async with aiohttp.ClientSession() as session:

            async def listed(limit: int) -> list[dict[str, Any]]:
                async with session.get(f"{sidecar.admin}/status/requests?limit={limit}") as response:
                    return list((await response.json())["requests"])

            async with asyncio.timeout(30):
                while len(await listed(100)) < len(names):  # noqa: ASYNC110 - the list is asked for over HTTP
                    await asyncio.sleep(0.01)
            records, last = await listed(100), await listed(5)
        # A worker records the end of a request just after the client has read it, so two ends can be in either order.
        assert {record["requestId"] for record in records} == set(names)
        assert [record["time"] for record in records] == sorted(record["time"] for record in records)
        assert last == records[-5:]


async def test_the_first_of_several_records_is_found_whichever_worker_carried_it(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        for tokens in range(1, 9):
            await sidecar.chat(tokens, headers={"X-Request-ID": "again"})
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{sidecar.admin}/status/requests/again") as response,
        ):
            assert (await response.json())["generationTokens"] == 1


async def test_a_worker_that_dies_is_replaced_and_its_counts_stay(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        await asyncio.gather(*(sidecar.chat() for _ in range(20)))
        await has_counted(sidecar, 20)
        victim = sidecar.workers()[0]
        os.kill(victim, signal.SIGKILL)

        async def two_again() -> bool:
            return len(sidecar.workers()) == 2 and victim not in sidecar.workers()

        await until(two_again)
        assert await sidecar.total("llmendpoint_requests_total") == 20
        # Connections that waited on the dead worker's socket are served by the next worker.
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(20)))) == {200}
        await has_counted(sidecar, 40)


async def test_a_worker_that_is_stopped_for_a_moment_keeps_its_streams_and_its_last_metrics(
    simulator: RunningSimulator,
) -> None:
    async with running(simulator.port) as sidecar:
        await asyncio.gather(*(sidecar.chat() for _ in range(20)))
        await has_counted(sidecar, 20)
        children = sidecar.workers()
        os.kill(children[0], signal.SIGSTOP)
        try:
            assert await sidecar.total("llmendpoint_requests_total") == 20
        finally:
            os.kill(children[0], signal.SIGCONT)
        await asyncio.gather(*(sidecar.chat() for _ in range(20)))
        assert sidecar.workers() == children
        # Late responses were not mistaken for responses to later requests.
        await has_counted(sidecar, 40)


async def test_streams_in_flight_finish_in_a_drain_and_no_worker_stays(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.5, tokens=20, inter_token=0.02)
    async with running(simulator.port) as sidecar:
        children = sidecar.workers()
        asked = [asyncio.create_task(sidecar.chat(20)) for _ in range(8)]
        await until(lambda: in_flight(sidecar, 8))
        sidecar.process.terminate()
        assert await asyncio.gather(*asked) == [200] * 8
        assert await asyncio.wait_for(sidecar.process.wait(), 20) == 0
        assert not any(map(lives, children))


async def test_workers_end_with_a_parent_that_is_killed(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        children = sidecar.workers()
        os.kill(sidecar.process.pid, signal.SIGKILL)

        async def all_gone() -> bool:
            return not any(map(lives, children))

        await until(all_gone)


async def test_limits_are_counted_by_each_worker_alone(simulator: RunningSimulator, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"defaultTenant": {"requestsPerMinute": 5}}))
    async with running(simulator.port, "--config", str(config)) as sidecar:
        began = time.monotonic()
        statuses = Counter(await asyncio.gather(*(sidecar.chat() for _ in range(60))))
        # Two workers with five requests each, and a few more because the buckets refill during the test.
        assert 5 <= statuses[200] <= 2 * (5 + 5 / 60 * (time.monotonic() - began))
        assert statuses[429] == 60 - statuses[200]


async def test_a_changed_configuration_reaches_agent_and_workers(simulator: RunningSimulator, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    async with running(simulator.port, "--config", str(config)) as sidecar:
        assert await sidecar.chat() == 200
        models = [{"name": "simulated:latest", "load": "OnDemand"}]
        config.write_text(json.dumps({"models": models, "defaultTenant": {"allowedModels": []}}))

        async def declared() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{sidecar.admin}/status") as response:
                return [model["name"] for model in (await response.json())["models"]] == ["simulated:latest"]

        await until(declared)

        async def refused_by_all() -> bool:
            return set(await asyncio.gather(*(sidecar.chat() for _ in range(20)))) == {403}

        await until(refused_by_all)


async def test_a_changed_file_is_read_by_one_process_and_logged_once(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "a").write_text("key-of-a")
    (keys / "empty").write_text("")
    async with running(simulator.port, "--config", str(config), "--keys", str(keys)) as sidecar:
        assert await sidecar.chat(headers={"x-api-key": "key-of-a"}) == 200
        (keys / "b").write_text("key-of-b")

        async def accepted_by_all() -> bool:
            asked = (sidecar.chat(headers={"Authorization": "Bearer key-of-b"}) for _ in range(20))
            return set(await asyncio.gather(*asked)) == {200}

        await until(accepted_by_all)
        config.write_text(json.dumps({"modelManagement": "Forbidden"}))
        await until(lambda: said(sidecar, f"reloaded {config}"))
        # The line is written when all workers use the file.
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                headers = {"x-api-key": "key-of-a", "Connection": "close"}
                async with session.post(f"{sidecar.url}/api/pull", json={"model": "x"}, headers=headers) as response:
                    assert response.status == 403
        assert sidecar.said("reloaded") == ["reloaded the API keys of 2 tenants", f"reloaded {config}"]
        assert len(sidecar.said("it is empty")) == 1
        assert not [line for line in sidecar.log if "key-of" in line]
        for pid in (sidecar.process.pid, *sidecar.workers()):
            command = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
            assert b"key-of" not in command


async def test_a_new_worker_uses_what_the_others_use_and_not_the_file(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"defaultTenant": {"allowedModels": []}}))
    async with running(simulator.port, "--config", str(config)) as sidecar:
        config.write_text('{"defaultTenant"')
        await until(lambda: said(sidecar, "the previous configuration stays in use"))
        victims = sidecar.workers()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

        async def replaced() -> bool:
            return len(sidecar.workers()) == 2 and not set(victims) & set(sidecar.workers())

        await until(replaced)
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(20)))) == {403}
        assert len(sidecar.said("the previous configuration stays in use")) == 1


async def test_every_worker_uses_a_renewed_certificate(simulator: RunningSimulator, tmp_path: Path) -> None:
    cert, key = issue(tmp_path, "first")
    async with running(simulator.port, "--tls-cert", str(cert), "--tls-key", str(key)) as sidecar:
        port = int(sidecar.url.rpartition(":")[2])
        assert await subject(port, cert) == "first"
        issue(tmp_path, "second")
        await until(lambda: said(sidecar, f"reloaded the TLS certificate {cert}"))
        assert {await subject(port, cert) for _ in range(10)} == {"second"}
        # A new worker, too, gets it from the supervisor.
        key.write_text("broken")
        os.kill(sidecar.workers()[0], signal.SIGKILL)

        async def two_again() -> bool:
            return len(sidecar.workers()) == 2

        await until(two_again)
        assert {await subject(port, cert) for _ in range(10)} == {"second"}


async def test_a_worker_that_does_not_answer_is_replaced_and_all_connections_are_served(
    simulator: RunningSimulator, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    async with running(simulator.port, "--worker-timeout", "2s", "--config", str(config)) as sidecar:
        healthy, stopped = sidecar.workers()
        os.kill(stopped, signal.SIGSTOP)
        # About half of them wait for the worker that is stopped. Others and the probes are answered meanwhile.
        asked = [asyncio.create_task(sidecar.chat()) for _ in range(20)]
        assert await answers(f"{sidecar.admin}/readyz")
        assert await answers(f"{sidecar.admin}/livez")
        # What changes meanwhile is used by the worker that answers, and by the successor of the other.
        config.write_text(json.dumps({"modelManagement": "Forbidden"}))
        assert set(await asyncio.wait_for(asyncio.gather(*asked), 20)) == {200}
        assert healthy in sidecar.workers()
        assert not lives(stopped)
        assert sidecar.said("worker 1 has not answered for 2 s; replacing it") or sidecar.said("worker 0 has not")
        await until(lambda: said(sidecar, f"reloaded {config}"))
        assert await sidecar.total("llmendpoint_worker_restarts_total") == 1
        assert (await sidecar.samples())['llmendpoint_worker_restarts_total{reason="no_answer"}'] == 1
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                url, headers = f"{sidecar.url}/api/pull", {"Connection": "close"}
                async with session.post(url, json={"model": "x"}, headers=headers) as response:
                    assert response.status == 403


async def test_the_streams_of_a_worker_that_does_not_answer_are_cut(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.0, tokens=10_000, inter_token=0.02, parallel=20)
    async with running(simulator.port, "--worker-timeout", "1s") as sidecar:
        asked = [asyncio.create_task(sidecar.chat(10_000)) for _ in range(12)]
        await until(lambda: in_flight(sidecar, 12))
        os.kill(sidecar.workers()[0], signal.SIGSTOP)
        cut, _ = await asyncio.wait(asked, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
        assert cut
        # The streams of the other worker go on, and Ollama no longer works for those that were cut.
        left = [task for task in asked if not task.done()]
        await until(lambda: in_flight(sidecar, len([task for task in asked if not task.done()])))
        assert left
        assert "which cuts off about" in "".join(sidecar.said("has not answered for 1 s"))
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_a_supervisor_that_was_stopped_itself_kills_no_worker(simulator: RunningSimulator) -> None:
    async with running(simulator.port, "--worker-timeout", "1s") as sidecar:
        children = sidecar.workers()
        for stopped in ((sidecar.process.pid,), (*children, sidecar.process.pid)):
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            # Time has to pass: twice the timeout.
            await asyncio.sleep(2)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            assert await answers(f"{sidecar.admin}/livez")
            assert set(await asyncio.gather(*(sidecar.chat() for _ in range(10)))) == {200}
        assert sidecar.workers() == children
        assert await sidecar.total("llmendpoint_worker_restarts_total") == 0


async def test_a_worker_that_is_stopped_is_continued_so_that_it_ends(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        children = sidecar.workers()
        os.kill(children[0], signal.SIGSTOP)
        sidecar.process.terminate()
        assert await asyncio.wait_for(sidecar.process.wait(), 20) == 0
        assert not any(map(lives, children))
    assert not sidecar.said("has not answered")


async def test_a_worker_that_is_stopped_during_a_drain_is_killed(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.0, tokens=10_000, inter_token=0.02)
    async with running(simulator.port, "--worker-timeout", "1s") as sidecar:
        asked = asyncio.create_task(sidecar.chat(10_000))
        await until(lambda: in_flight(sidecar, 1))
        sidecar.process.terminate()

        async def only_the_busy_one() -> bool:
            return len(sidecar.workers()) == 1

        await until(only_the_busy_one)
        os.kill(sidecar.workers()[0], signal.SIGSTOP)
        assert await asyncio.wait_for(sidecar.process.wait(), 20) == 0
        await asyncio.gather(asked, return_exceptions=True)


async def test_without_any_worker_the_probe_of_readiness_fails(simulator: RunningSimulator) -> None:
    async with running(simulator.port, "--worker-timeout", "5s") as sidecar:
        for pid in sidecar.workers():
            os.kill(pid, signal.SIGSTOP)

        async def not_ready() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"{sidecar.admin}/readyz") as response:
                return (response.status, await response.text()) == (503, "not ready: no worker process answers\n")

        await until(not_ready)
        assert await answers(f"{sidecar.admin}/livez")
        await until(lambda: answers(f"{sidecar.admin}/readyz"))
        assert await sidecar.chat() == 200


async def test_liveness_fails_only_if_no_worker_answers_for_a_minute(
    simulator: RunningSimulator, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seconds_without_workers() == 60
    # A minute passes in 1.2 s.
    monkeypatch.setattr("llmendpoint_sidecar.workers.supervisor._CHECK_SECONDS", 0.02)
    local = Address("127.0.0.1", 0)
    flags = ["--workers=2", f"--upstream=http://127.0.0.1:{simulator.port}", "--worker-timeout=10s"]
    settings = replace(parse_settings(flags), listen=local, admin_listen=local)
    sidecar = Supervisor(settings, SidecarConfig(), flags)
    try:
        await sidecar.start()
        url = f"http://127.0.0.1:{port_of(sidecar.admin_sockets)}/livez"
        pids = [worker.process.pid for worker in workers_of(sidecar)]
        os.kill(pids[0], signal.SIGSTOP)
        # One worker misses pings, which is no reason to fail.
        await until(lambda: loses(sidecar, 1))
        async with http.get(url) as response:
            assert response.status == 200
        os.kill(pids[1], signal.SIGSTOP)

        async def fails() -> bool:
            async with http.get(url) as response:
                return (response.status, await response.text()) == (503, "no worker process answers\n")

        await until(fails)
    finally:
        await sidecar.stop()


async def test_the_bounds_of_the_workers_are_logged_once(simulator: RunningSimulator) -> None:
    async with running(simulator.port, "--log-level", "debug") as sidecar:
        await until(lambda: said(sidecar, "bounds of each process"))
        (line,) = sidecar.said("bounds of each process that carries requests: ")
        assert f"held_large_bytes={process_budget(2).held_large_bytes}," in line


async def test_a_wrong_certificate_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    broken = tmp_path / "tls.pem"
    broken.write_text("no certificate")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_sidecar", "--workers", "2", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
        "--tls-cert", str(broken), "--tls-key", str(broken), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"Traceback" not in errors
    assert str(broken).encode() in errors


async def test_a_port_that_other_workers_share_is_refused_to_a_second_sidecar(simulator: RunningSimulator) -> None:
    async with running(simulator.port) as sidecar:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "llmendpoint_sidecar", "--workers", "2", "--listen", sidecar.url.removeprefix("http://"),
            "--admin-listen", "127.0.0.1:0", stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"Address already in use; choose another port with --listen" in errors


async def test_a_hung_ollama_is_noticed_over_all_workers(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(parallel=2)
    async with running(simulator.port, "--stall-after", "2s", "--parallel", "2") as sidecar:
        assert await sidecar.chat() == 200
        simulator.behave(fault="hang")
        # The requests of both workers end, and both refuse new ones.
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(12)))) == {504}
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(12)))) == {503}
        samples = await sidecar.samples()
        assert samples["llmendpoint_upstream_stalled"] == samples["llmendpoint_upstream_stalls_total"] == 1
        assert not await answers(f"{sidecar.admin}/readyz")
        # A worker that starts meanwhile refuses them too.
        (first, _) = sidecar.workers()
        os.kill(first, signal.SIGKILL)
        await until(lambda: restarted(sidecar, first))
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(12)))) == {503}
        simulator.behave(fault="none")
        await until(lambda: answers(f"{sidecar.admin}/readyz"))
        assert await sidecar.chat() == 200


async def test_the_sidecar_of_a_pod_with_workers_reports_to_the_operator(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator()
    spec = parse_spec({"spec": {"models": [{"name": "simulated:latest"}], "metering": {"workers": 2}}})
    file = tmp_path / "config.json"
    file.write_text(config_text(sidecar_config(spec)))
    addresses = local_addresses(simulator.port)
    arguments = sidecar_arguments(spec, config_file=str(file), key_folders=[], addresses=addresses)
    async with started(addresses, [*arguments, "--drain-delay=0"]) as sidecar:
        assert len(sidecar.workers()) == 2
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(12)))) == {200}
        await has_counted(sidecar, 12)
        status = await sidecar.status()
        assert [(model.name, model.phase) for model in status.models] == [("simulated:latest", ModelPhase.READY)]
        assert (status.totals.requests, status.config_digest != "") == (12, True)


async def restarted(sidecar: Running, worker: int) -> bool:
    """Return whether a worker was replaced."""
    workers = sidecar.workers()
    return len(workers) == 2 and worker not in workers and await sidecar.total("llmendpoint_worker_restarts_total") == 1
