"""Send 100,000 requests in random pieces, under random faults, and reconcile the meter with the simulator's ledger.

    python bench/proxy/reconcile.py [--requests 100000]

Simulator and sidecar are processes of their own. Ends with 1 where a token or a request is missing or too many. Prints
resident memory as it goes: it has to stay flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SIMULATOR, PROXY, ADMIN = 22434, 22435, 22436
BATCH, CONNECTIONS = 2000, 50
#: A reset may destroy pieces on their way; all other faults leave what was sent to be counted.
FAULTS = ("none", "none", "none", "none", "status_500", "stream_error", "truncate", "no_done", "reset")
ROUTES = ("/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages")


def call(url: str, method: str = "GET", body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())


def counters() -> Counter[str]:
    """Return the meter's counters, and requests by outcome."""
    found: Counter[str] = Counter()
    for line in call(f"http://127.0.0.1:{ADMIN}/metrics").decode().splitlines():
        name, _, rest = line.partition("{")
        if name in (
            "llmendpoint_requests_total",
            "llmendpoint_prompt_tokens_total",
            "llmendpoint_generation_tokens_total",
        ):
            found[name.removeprefix("llmendpoint_")] += int(float(rest.rpartition(" ")[2]))
    return found


def request(path: str, random_: random.Random) -> bytes:
    words = " ".join("word" for _ in range(random_.randint(1, 30)))
    body: dict[str, Any] = {"model": "simulated", "prompt": words, "messages": [{"role": "user", "content": words}]}
    body |= {"stream": random_.random() < 0.8, "stream_options": {"include_usage": True}, "max_tokens": 9}
    data = json.dumps(body).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data))
        + data
    )


async def converse(data: bytes, random_: random.Random) -> None:
    """Send one request in up to four pieces, and read until the proxy closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PROXY)
    try:
        cuts = sorted(random_.randrange(len(data)) for _ in range(random_.randint(0, 3)))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            writer.write(data[begin:end])
            await asyncio.sleep(0)
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    writer.close()


async def batch(count: int, random_: random.Random) -> None:
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await converse(request(random_.choice(ROUTES), random_), random_)

    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


def check(number: int, fault: str, before: Counter[str]) -> list[str]:
    """Return what does not agree, for one batch."""
    deadline = time.monotonic() + 10
    while (grown := counters() - before)["requests_total"] < number and time.monotonic() < deadline:
        time.sleep(0.05)
    entries = json.loads(call(f"http://127.0.0.1:{SIMULATOR}/simulator/ledger?entries={BATCH}"))["entries"]
    whole = [entry for entry in entries if entry["outcome"] == "completed"]
    cut = sum(entry["sent"] for entry in entries if entry["outcome"] != "completed")
    exact = sum(entry["generation_tokens"] for entry in whole)
    seen = grown["generation_tokens_total"]
    wrong = []
    if not grown["requests_total"] == len(entries) == number:
        wrong.append(f"requests: sent {number}, served {len(entries)}, metered {grown['requests_total']}")
    if not (exact <= seen <= exact + cut):
        wrong.append(
            f"{fault}: {seen} tokens metered; the ledger has {exact}, and {cut} pieces of answers that were cut"
        )
    return wrong


def resident_megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
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
        while done < options.requests:
            number = min(BATCH, options.requests - done)
            fault = random_.choice(FAULTS)
            behaviour = {"fault": fault, "fault_after": random_.randint(0, 4), "tokens": random_.randint(1, 8)}
            call(f"http://127.0.0.1:{SIMULATOR}/simulator/behaviour", "PUT", behaviour)
            call(f"http://127.0.0.1:{SIMULATOR}/simulator/ledger", "DELETE")
            before = counters()
            asyncio.run(batch(number, random_))
            wrong += check(number, fault, before)
            done += number
            print(f"{done:7d} requests, {time.monotonic() - begin:5.0f} s, sidecar {resident_megabytes(pids[1]):5.1f} MB, "
                  f"{fault}, {len(wrong)} differences", flush=True)  # fmt: skip
    for line in wrong:
        print(line)
    print("exact" if not wrong else f"{len(wrong)} DIFFERENCES")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
