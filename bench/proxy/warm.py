"""The data path without sockets, again and again: what Python itself takes for a request and for a chunk, warm.

    python bench/proxy/warm.py

Client and upstream are handed bytes and write to nowhere, so there is no kernel in these figures, and no cold cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.keys import Keyring
from llmendpoint_sidecar.proxy.server import Proxy
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection
from llmendpoint_sidecar.runtime import tune_garbage_collector

CHUNKS = 100
_HEAD = (b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
         b"Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: ollama-python/0.6.1 (x86_64 linux) Python/3.11.7\r\n"
         b"Content-Length: %d\r\n\r\n%b")  # fmt: skip
_BODY = b'{"model":"bench:latest","messages":[{"role":"user","content":"%b"}],"stream":true}'
_LINE = b'{"model":"bench:latest","created_at":"2026-11-25T00:00:00.000000Z","message":{"role":"assistant","content":" token"},"done":false}\n'
_FINAL = (b'{"model":"bench:latest","created_at":"2026-11-25T00:00:00.000000Z","message":{"role":"assistant","content":""},'
          b'"done":true,"done_reason":"stop","total_duration":1000,"prompt_eval_count":7,"eval_count":1}')  # fmt: skip
_DATE = b"Date: Wed, 25 Nov 2026 00:00:00 GMT\r\n"
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n%bContent-Length: %d\r\n\r\n%b" % (
    _DATE,
    len(_FINAL),
    _FINAL,
)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n%bTransfer-Encoding: chunked\r\n\r\n" % _DATE


class Nowhere:
    """A transport that takes everything and sends nothing."""

    def write(self, data: bytes) -> None:
        """Drop it."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """There is nothing to read."""

    resume_reading = close = abort = pause_reading


def connected() -> tuple[Callable[[bytes], None], Callable[[bytes], None], Meter]:
    """Return how a client and its upstream are handed bytes, and the meter."""
    model_labels = ModelLabels(lambda: None)
    model_labels.list(["bench:latest"])
    meter = Meter(Metrics(), model_labels, time.monotonic)
    admission = Admission(meter.in_flight, Keyring([]), time.monotonic)
    proxy = Proxy(Address("127.0.0.1", 1), Timeouts(), meter.begin, admission, time.monotonic)
    client, upstream = proxy.new_connection(), UpstreamConnection(lambda _: None)
    client.connection_made(Nowhere())  # type: ignore[arg-type]
    upstream.connection_made(Nowhere())  # type: ignore[arg-type]
    proxy.pool.release(upstream)
    return client.data_received, upstream.data_received, meter


def microseconds(count: int, answer: list[bytes]) -> float:
    """Return the time of one request that is answered so, in microseconds of CPU."""
    client, upstream, meter = connected()
    bodies = [_BODY % (b"x" * length) for length in range(50)]
    requests = [_HEAD % (len(body), body) for body in bodies]
    begin = time.process_time()
    for index in range(count):
        client(requests[index % 50])
        for piece in answer:
            upstream(piece)
    meter.settle()
    taken = 1e6 * (time.process_time() - begin) / count
    if meter.metrics.total("requests") != count:
        raise SystemExit("not every request was counted")
    return taken


def main() -> int:
    tune_garbage_collector()
    chunk = b"%x\r\n%b\r\n" % (len(_LINE), _LINE)
    last = b"%x\r\n%b\n\r\n0\r\n\r\n" % (len(_FINAL) + 1, _FINAL)
    stream = [_STREAM + chunk, *[chunk] * (CHUNKS - 1), last]
    request = min(microseconds(20_000, [_WHOLE]) for _ in range(5))
    streamed = min(microseconds(300, stream) for _ in range(5)) / CHUNKS
    print(f"Python {sys.version.split()[0]}: {request:.1f} µs a request, {streamed:.2f} µs a chunk (the least of five)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
