"""Measures the dashboard with many sidecars and browsers: CPU time, memory, bytes and delays.

    PYTHONPATH=common:dashboard python bench/dashboard/run.py --endpoints 500 --browsers 10 --seconds 60

The dashboard runs as a process of its own. One other process answers as all sidecars, each on a port of its own, with
pages like those of a real sidecar. At each poll, the counters of the share `--busy` of the sidecars grow; the others are
idle. A third process is all browsers: it reads the events, and measures how old the time of the section `overview` is
when it arrives. Figures are printed as JSON. They are only comparable if nothing else runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

_BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_OPERATIONS = ("chat", "openai_chat", "generate")
_OUTCOMES = ("ok", "length", "client_cancelled", "upstream_5xx")
_TENANTS = ("red", "blue", "")
_TICKS = os.sysconf("SC_CLK_TCK")


class FakeSidecar:
    """Answers as the admin port of a sidecar. Each poll of a busy one finds 20 more requests."""

    def __init__(self, number: int, *, busy: bool) -> None:
        self.models = [f"model-{number % 40}:latest", f"model-{(number + 7) % 40}:latest"]
        self.busy = busy
        self.requests = 0
        self._random = random.Random(number)

    def status(self) -> dict[str, Any]:
        models = [
            {"name": name, "phase": "Ready", "present": True, "loaded": True, "digest": "sha256:" + "0" * 64,
             "sizeBytes": 4_000_000_000, "vramBytes": 5_000_000_000, "loadedBytes": 5_000_000_000}
            for name in self.models
        ]  # fmt: skip
        return {"version": "1", "ready": True, "draining": False, "upstreamUp": True, "upstreamVersion": "0.17.4",
                "models": models, "totals": {"requests": self.requests}}  # fmt: skip

    def metrics(self) -> str:
        self.requests += 20 if self.busy else 0
        lines = []
        for model in self.models:
            for operation in _OPERATIONS:
                labels = f'model_name="{model}",operation="{operation}"'
                for tenant in _TENANTS:
                    lines += [
                        f'llmendpoint_requests_total{{{labels},code="200",outcome="{outcome}",tenant="{tenant}"}} '
                        f"{self.requests}.0"
                        for outcome in _OUTCOMES
                    ]
                    lines.append(
                        f'llmendpoint_prompt_tokens_total{{{labels},tenant="{tenant}"}} {self.requests * 50}.0'
                    )
                    lines.append(
                        f'llmendpoint_generation_tokens_total{{{labels},tenant="{tenant}"}} {self.requests * 90}.0'
                    )
                for family in (
                    "time_to_first_token_seconds",
                    "inter_chunk_latency_seconds",
                    "e2e_request_latency_seconds",
                    "request_queue_time_seconds",
                    "request_prefill_time_seconds",
                    "request_decode_time_seconds",
                ):
                    for place, bound in enumerate(_BOUNDS):
                        lines.append(f'llmendpoint_{family}_bucket{{le="{bound}",{labels}}} {self.requests * place}.0')
                    lines.append(f'llmendpoint_{family}_bucket{{le="+Inf",{labels}}} {self.requests * 18}.0')
            running = self._random.randrange(4) if self.busy else 0
            lines += [
                f'llmendpoint_model_requests_running{{model_name="{model}"}} {running}.0',
                f'llmendpoint_model_loaded{{model_name="{model}"}} 1.0',
                f'llmendpoint_model_size_bytes{{model_name="{model}"}} 5e+09',
                f'llmendpoint_model_vram_bytes{{model_name="{model}"}} 5e+09',
            ]
        return "\n".join(lines) + "\n"

    def records(self) -> dict[str, Any]:
        if not self.busy:
            return {"requests": []}
        now = time.time()
        record = {"time": now, "requestId": f"{self._random.random()}", "tenant": "red", "modelName": self.models[0],
                  "operation": "chat", "code": 200, "outcome": "ok", "duration": 1.5, "timeToFirstToken": 0.2,
                  "promptTokens": 50, "generationTokens": 90, "queue": 0.1, "load": 0.0, "prefill": 0.1, "decode": 1.2}  # fmt: skip
        return {"requests": [record]}


def sidecars(count: int, busy: float, ports: Any) -> None:
    """Run all sidecars, and send their ports."""

    async def serve() -> None:
        found = []
        for number in range(count):
            fake = FakeSidecar(number, busy=random.Random(number).random() < busy)

            async def status(_: web.Request, fake: FakeSidecar = fake) -> web.Response:
                return web.json_response(fake.status())

            async def metrics(_: web.Request, fake: FakeSidecar = fake) -> web.Response:
                return web.Response(text=fake.metrics())

            async def requests(_: web.Request, fake: FakeSidecar = fake) -> web.Response:
                return web.json_response(fake.records())

            app = web.Application()
            app.add_routes(
                [web.get("/status", status), web.get("/metrics", metrics), web.get("/status/requests", requests)]
            )
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            sock = socket.create_server(("127.0.0.1", 0))
            found.append(sock.getsockname()[1])
            await web.SockSite(runner, sock).start()
        ports.put(found)
        await asyncio.Event().wait()

    asyncio.run(serve())


async def browse(url: str, seconds: float, result: dict[str, list[float]]) -> None:
    """Read the events as one browser, and record bytes and ages."""
    headers = {"Accept-Encoding": "gzip"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        async with session.get(f"{url}/api/v1/events", headers=headers) as response:
            unpack = zlib.decompressobj(16 + zlib.MAX_WBITS)
            rest, received, plain, first = "", 0, 0, 0
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        part = await response.content.readany()
                except TimeoutError:
                    break
                text = unpack.decompress(part).decode()
                received, plain = received + len(part), plain + len(text)
                *events, rest = (rest + text).split("\n\n")
                for event in events:
                    if "event: state\n" in event:
                        first = len(event)
                    place = event.find('"name":"overview","value":{"time":')
                    if place >= 0:
                        sent = float(event[place + 34 :].split(",", 1)[0])
                        result["age"].append(time.time() - sent)
                    result["events"].append(len(event))
            result["received"].append(received)
            result["plain"].append(plain)
            result["state"].append(first)
        async with session.get(f"{url}/api/v1/history?range=1h", headers=headers) as response:
            await response.read()
        for _ in range(5):
            begun = time.perf_counter()
            async with session.get(
                f"{url}/api/v1/history?range=15m&model=model-{random.randrange(40)}:latest"
            ) as response:
                await response.read()
            result["history"].append(time.perf_counter() - begun)


def browsers(url: str, count: int, seconds: float, out: Any) -> None:
    """Run all browsers, and send what they measured."""

    async def run() -> dict[str, list[float]]:
        result: dict[str, list[float]] = {
            name: [] for name in ("age", "events", "received", "plain", "state", "history")
        }
        await asyncio.gather(*(browse(url, seconds, result) for _ in range(count)))
        return result

    out.put(asyncio.run(run()))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(endpoints: int, count: int, busy: float, seconds: float) -> dict[str, Any]:
    """Run everything, and return the figures."""
    context = multiprocessing.get_context("spawn")
    queue, out = context.Queue(), context.Queue()
    servers = context.Process(target=sidecars, args=(endpoints, busy, queue), daemon=True)
    servers.start()
    ports = queue.get(timeout=120)
    port = free_port()
    command = [sys.executable, "-m", "llmendpoint_dashboard", f"--listen=127.0.0.1:{port}", "--log-level=warning"]
    command += [f"--sidecar=pod-{number}=http://127.0.0.1:{one}" for number, one in enumerate(ports)]
    dashboard = subprocess.Popen(command)
    try:
        # Everything is read once, and the window is full.
        time.sleep(40)
        readers = context.Process(target=browsers, args=(f"http://127.0.0.1:{port}", count, seconds, out))
        used, begun = cpu_seconds(dashboard.pid), time.monotonic()
        if count:
            readers.start()
            result = out.get(timeout=seconds + 120)
            readers.join()
        else:
            time.sleep(seconds)
            result = {}
        spent, passed = cpu_seconds(dashboard.pid) - used, time.monotonic() - begun
        ages = sorted(result.get("age", [0.0]))
        return {
            "endpoints": endpoints,
            "browsers": count,
            "busy": busy,
            "cpuPercent": round(100 * spent / passed, 1),
            "residentMiB": round(resident_bytes(dashboard.pid) / 2**20, 1),
            "stateBytes": max(result.get("state", [0])),
            "bytesPerSecondAndBrowser": round(sum(result.get("received", [])) / max(1, count) / seconds),
            "plainBytesPerSecondAndBrowser": round(sum(result.get("plain", [])) / max(1, count) / seconds),
            "eventsPerSecond": round(len(result.get("events", [])) / max(1, count) / seconds, 2),
            "ageOfOverviewP50": round(statistics.median(ages), 3),
            "ageOfOverviewMax": round(ages[-1], 3),
            "historySecondsMax": round(max(result.get("history", [0.0])), 3),
        }
    finally:
        dashboard.terminate()
        dashboard.wait(20)
        servers.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=500)
    parser.add_argument("--browsers", type=int, default=10)
    parser.add_argument("--busy", type=float, default=0.2, help="share of the sidecars with traffic")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    print(json.dumps(measure(options.endpoints, options.browsers, options.busy, options.seconds), indent=2))


if __name__ == "__main__":
    main()
