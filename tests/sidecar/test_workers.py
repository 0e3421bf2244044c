"""Several processes on one port: metrics are summed, streams finish in a drain, and a dead worker is replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import Address
from support.servers import RunningSimulator, StartSimulator


class Running:
    """A sidecar with two worker processes."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin_port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.admin = f"http://127.0.0.1:{admin_port}"

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
    port, admin_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_sidecar", "--workers", "2", "--listen", f"127.0.0.1:{port}",
        "--admin-listen", f"127.0.0.1:{admin_port}", "--upstream", f"http://127.0.0.1:{upstream}",
        "--drain-delay", "0", *flags, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    sidecar = Running(process, port, admin_port)
    try:
        await until(lambda: answers(f"{sidecar.admin}/readyz"))
        yield sidecar
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 20)


async def answers(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
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
        entries = simulator.simulator.ledger.entries
        assert await sidecar.total("llmendpoint_requests_total") == len(entries) == 60
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
        assert await sidecar.total("llmendpoint_requests_total") == 20
        victim = sidecar.workers()[0]
        os.kill(victim, signal.SIGKILL)

        async def two_again() -> bool:
            return len(sidecar.workers()) == 2 and victim not in sidecar.workers()

        await until(two_again)
        assert await sidecar.total("llmendpoint_requests_total") == 20
        # Connections that waited on the dead worker's socket are served by the next worker.
        assert set(await asyncio.gather(*(sidecar.chat() for _ in range(20)))) == {200}

        async def all_counted() -> bool:
            return await sidecar.total("llmendpoint_requests_total") == 40

        await until(all_counted)


async def test_a_worker_that_does_not_answer_keeps_its_streams_and_its_last_metrics(
    simulator: RunningSimulator,
) -> None:
    async with running(simulator.port) as sidecar:
        await asyncio.gather(*(sidecar.chat() for _ in range(20)))
        assert await sidecar.total("llmendpoint_requests_total") == 20
        children = sidecar.workers()
        os.kill(children[0], signal.SIGSTOP)
        try:
            assert await sidecar.total("llmendpoint_requests_total") == 20
        finally:
            os.kill(children[0], signal.SIGCONT)
        await asyncio.gather(*(sidecar.chat() for _ in range(20)))
        assert sidecar.workers() == children

        async def all_counted() -> bool:
            return await sidecar.total("llmendpoint_requests_total") == 40

        # Late responses were not mistaken for responses to later requests.
        await until(all_counted)


async def test_streams_in_flight_finish_in_a_drain_and_no_worker_stays(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.5, tokens=20, inter_token=0.02)
    async with running(simulator.port) as sidecar:
        children = sidecar.workers()
        asked = [asyncio.create_task(sidecar.chat(20)) for _ in range(8)]

        async def all_there() -> bool:
            samples = await sidecar.samples()
            running_, waiting = samples["llmendpoint_num_requests_running"], samples["llmendpoint_num_requests_waiting"]
            return running_ + waiting == 8

        await until(all_there)
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
        statuses = Counter(await asyncio.gather(*(sidecar.chat() for _ in range(60))))
        # Two workers with five requests each, and a few more because the buckets refill during the test.
        assert 5 <= statuses[200] <= 12
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
