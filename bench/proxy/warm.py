"""Measures the CPU time of the data path without sockets: per request, and per chunk of a streamed response.

    python bench/proxy/warm.py

The benchmark passes bytes directly to the connections of client and upstream, and drops all output. It measures the
proxy without a configuration, with the configuration of an endpoint, and the HTTP readers alone. The figures do not
include the time of the kernel or the cost of cold caches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig
from llmendpoint_common.process.errors import ProtocolError
from llmendpoint_common.process.units import Address
from llmendpoint_common.wire.http1.request_reader import RequestHead, RequestReader
from llmendpoint_common.wire.http1.response_reader import ResponseHead, ResponseReader
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
_OPEN = SidecarConfig()
#: What the operator writes for an endpoint without limits.
_ENDPOINT = SidecarConfig(max_waiting=256, model_management=ModelManagement.FORBIDDEN)


class Nowhere:
    """A transport that drops all written data."""

    def write(self, data: bytes) -> None:
        """Drop the data."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        """Do nothing, because there is nothing to read."""

    resume_reading = close = abort = pause_reading


def connected(config: SidecarConfig) -> tuple[Callable[[bytes], None], Callable[[bytes], None], Meter]:
    """Return functions that pass bytes to the connection of a client and to that of an upstream, and their meter."""
    model_labels = ModelLabels(lambda: None)
    model_labels.list(["bench:latest"])
    meter = Meter(Metrics(), model_labels, time.monotonic)
    admission = Admission(meter.in_flight, Keyring(None), time.monotonic)
    admission.configure(config)
    proxy = Proxy(Address("127.0.0.1", 1), Timeouts(), meter.begin, admission, time.monotonic)
    client, upstream = proxy.new_connection(), UpstreamConnection(lambda _: None)
    client.connection_made(Nowhere())  # type: ignore[arg-type]
    upstream.connection_made(Nowhere())  # type: ignore[arg-type]
    proxy.pool.release(upstream)
    return client.data_received, upstream.data_received, meter


class Ignored:
    """A handler of both readers that does nothing."""

    def request_head(self, head: RequestHead) -> None:
        """Ignore the call."""

    def request_body(self, data: bytes) -> None:
        """Ignore the call."""

    def request_end(self, trailers: bytes) -> None:
        """Ignore the call."""

    def interim(self, head: bytes) -> None:
        """Ignore the call."""

    def response_head(self, head: ResponseHead) -> None:
        """Ignore the call."""

    def response_head_alone(self) -> None:
        """Ignore the call."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Ignore the call."""

    def response_end(self, *, reusable: bool) -> None:
        """Ignore the call."""

    def response_failed(self, error: ProtocolError) -> None:
        raise error


def requests() -> list[bytes]:
    """Return requests of different lengths."""
    bodies = [_BODY % (b"x" * length) for length in range(50)]
    return [_HEAD % (len(body), body) for body in bodies]


def whole_path(count: int, answer: list[bytes], config: SidecarConfig = _OPEN) -> float:
    """Return the CPU time of one request and its response on the whole data path, in microseconds."""
    client, upstream, meter = connected(config)
    asked = requests()
    begin = time.process_time()
    for index in range(count):
        client(asked[index % 50])
        for piece in answer:
            upstream(piece)
    meter.settle()
    taken = 1e6 * (time.process_time() - begin) / count
    if meter.metrics.total("requests") != count:
        raise SystemExit("not every request was counted")
    return taken


def endpoint(count: int, answer: list[bytes]) -> float:
    """Return the same with the configuration of an endpoint."""
    return whole_path(count, answer, _ENDPOINT)


def readers(count: int, answer: list[bytes]) -> float:
    """Return the CPU time of the HTTP readers alone for one request and its response, in microseconds."""
    handler = Ignored()
    client, upstream = RequestReader(handler), ResponseReader(lambda: None)
    asked = requests()
    begin = time.process_time()
    for index in range(count):
        client.feed(asked[index % 50])
        upstream.expect(handler)
        for piece in answer:
            upstream.feed(piece)
    return 1e6 * (time.process_time() - begin) / count


def main() -> int:
    tune_garbage_collector()
    chunk = b"%x\r\n%b\r\n" % (len(_LINE), _LINE)
    last = b"%x\r\n%b\n\r\n0\r\n\r\n" % (len(_FINAL) + 1, _FINAL)
    stream = [_STREAM + chunk, *[chunk] * (CHUNKS - 1), last]
    for name, measure in (("whole path", whole_path), ("endpoint", endpoint), ("readers alone", readers)):
        request = min(measure(20_000, [_WHOLE]) for _ in range(5))
        streamed = min(measure(300, stream) for _ in range(5)) / CHUNKS
        print(f"{name}: {request:.1f} µs per request, {streamed:.2f} µs per chunk (minimum of five)")
    print(f"Python {sys.version.split()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
