"""Send requests in random pieces, with random faults, and compare the meter with the simulator's ledger.

    python bench/proxy/reconcile.py                     # 100,000 requests, as fast as possible
    python bench/proxy/reconcile.py --minutes 60        # paced streams for an hour; one client in ten disconnects early

The simulator and the sidecar run as separate processes. The exit code is 1 if the counts of requests or tokens differ.
The resident memory of the sidecar is printed after each batch; it should not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from typing import Any

import harness

SIMULATOR, PROXY, ADMIN = 22434, 22435, 22436
BATCH, CONNECTIONS = 2000, 50
#: With `reset`, chunks in transit may be lost. With all other faults, every chunk that was sent must be counted.
FAULTS = ("none", "none", "none", "none", "status_500", "stream_error", "truncate", "no_done", "reset")
ROUTES = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages")


def call(url: str, method: str = "GET", body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())


def counters() -> Counter[str]:
    """Return the meter's counters, and the number of requests whose client disconnected (`left`)."""
    found: Counter[str] = Counter()
    for line in call(f"http://127.0.0.1:{ADMIN}/metrics").decode().splitlines():
        name, _, rest = line.partition("{")
        if name in (
            "llmendpoint_requests_total",
            "llmendpoint_prompt_tokens_total",
            "llmendpoint_generation_tokens_total",
        ):
            value = int(float(rest.rpartition(" ")[2]))
            found[name.removeprefix("llmendpoint_")] += value
            if 'outcome="client_cancelled"' in rest:
                found["left"] += value
    return found


def request(path: str, random_: random.Random) -> bytes:
    words = " ".join("word" for _ in range(random_.randint(1, 30)))
    body: dict[str, Any] = {"model": "simulated", "prompt": words, "messages": [{"role": "user", "content": words}]}
    body |= {"stream": random_.random() < 0.8, "stream_options": {"include_usage": True}, "max_tokens": 9}
    data = json.dumps(body).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % (path.encode(), len(data))
        + data
    )


async def converse(data: bytes, random_: random.Random, leaving: float) -> bool:
    """Send one request in up to four pieces, and read until the proxy closes the connection.

    With the probability `leaving`, the client disconnects after a random time. Returns whether any data was received.
    """
    answered = False
    reader, writer = await asyncio.open_connection("127.0.0.1", PROXY)
    try:
        cuts = sorted(random_.randrange(len(data)) for _ in range(random_.randint(0, 3)))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            writer.write(data[begin:end])
            await asyncio.sleep(0)
        patience = random_.expovariate(4) if random_.random() < leaving else None
        async with asyncio.timeout(patience):
            while await reader.read(65536):
                answered = True
    except (ConnectionError, TimeoutError):
        pass
    writer.close()
    return answered


async def batch(count: int, random_: random.Random, leaving: float) -> int:
    """Send `count` requests. Return the number of clients that disconnected before they received any data."""
    left, unanswered = iter(range(count)), 0

    async def worker() -> None:
        nonlocal unanswered
        for _ in left:
            # Two statements, because `unanswered += not await ...` would read `unanswered` before other workers change it.
            answered = await converse(request(random_.choice(ROUTES), random_), random_, leaving)
            unanswered += not answered

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return unanswered


def check(number: int, unanswered: int, fault: str, before: Counter[str]) -> list[str]:
    """Return the differences between the meter and the ledger for one batch."""
    deadline = time.monotonic() + 10
    while (grown := counters() - before)["requests_total"] < number and time.monotonic() < deadline:
        time.sleep(0.05)
    entries = json.loads(call(f"http://127.0.0.1:{SIMULATOR}/simulator/ledger?entries={BATCH}"))["entries"]
    whole = [entry for entry in entries if entry["outcome"] == "completed"]
    cut = sum(entry["sent"] for entry in entries if entry["outcome"] != "completed")
    exact = sum(entry["generation_tokens"] for entry in whole)
    seen = grown["generation_tokens_total"]
    wrong = []
    # If a client disconnects immediately, its request may not have been read by the proxy or the simulator.
    least = number - unanswered
    if not least <= len(entries) <= number or not max(least, len(entries)) <= grown["requests_total"] <= number:
        wrong.append(f"requests: sent {number}, served {len(entries)}, metered {grown['requests_total']}")
    # If a client disconnects while the last chunk is in transit, the simulator counts a complete response, but the proxy
    # counts only the chunks that it received.
    races = max(0, grown["left"] - sum(entry["outcome"] == "cancelled" for entry in entries))
    longest = max((entry["generation_tokens"] for entry in whole), default=0)
    if not (exact - races * longest <= seen <= exact + cut):
        wrong.append(
            f"{fault}: {seen} tokens metered; the ledger has {exact}, and {cut} chunks of incomplete responses"
        )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="run for this number of minutes, with paced streams")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    paced = options.minutes > 0
    random_ = random.Random(options.seed)
    simulator = [
        f"--listen=127.0.0.1:{SIMULATOR}",
        "--ttft=0",
        "--inter-token=0",
        "--parallel=64",
        "--max-queue=100000",
    ]
    sidecar = [f"--listen=127.0.0.1:{PROXY}", f"--admin-listen=127.0.0.1:{ADMIN}", f"--upstream=http://127.0.0.1:{SIMULATOR}",
               "--drain-delay=0", "--log-level=error"]  # fmt: skip
    wrong: list[str] = []
    memory: list[float] = []
    with ExitStack() as stack:
        pids = []
        for name, arguments in (("simulator", simulator), ("sidecar", sidecar)):
            process = subprocess.Popen(
                [sys.executable, "-m", f"llmendpoint_{name}", *arguments], stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            pids.append(process.pid)
        time.sleep(3)
        call(f"http://127.0.0.1:{ADMIN}/readyz")
        begin, done = time.monotonic(), 0
        while time.monotonic() - begin < 60 * options.minutes if paced else done < options.requests:
            number = BATCH // 2 if paced else min(BATCH, options.requests - done)
            fault = random_.choice(FAULTS)
            behaviour = {"fault": fault, "fault_after": random_.randint(0, 4), "tokens": random_.randint(1, 8)}
            if paced:
                behaviour |= {"ttft": 0.05, "inter_token": 0.02, "tokens": random_.randint(5, 60)}
            call(f"http://127.0.0.1:{SIMULATOR}/simulator/behaviour", "PUT", behaviour)
            call(f"http://127.0.0.1:{SIMULATOR}/simulator/ledger", "DELETE")
            before = counters()
            unanswered = asyncio.run(batch(number, random_, 0.1 if paced else 0.0))
            differences = check(number, unanswered, fault, before)
            wrong += differences
            print(*differences, sep="\n", end="\n" if differences else "")
            done += number
            memory.append(harness.megabytes(pids[1]))
            print(f"{done:7d} requests, {time.monotonic() - begin:5.0f} s, sidecar {memory[-1]:5.1f} MB, "
                  f"{fault}, {len(wrong)} differences", flush=True)  # fmt: skip
    sixth = max(1, len(memory) // 6)
    print(f"resident, medians: {statistics.median(memory[:sixth]):.1f} MB in the first sixth, "
          f"{statistics.median(memory[-sixth:]):.1f} MB in the last; {max(memory):.1f} MB at most")  # fmt: skip
    print("exact" if not wrong else f"{len(wrong)} DIFFERENCES")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
