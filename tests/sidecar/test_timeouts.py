"""Time limits of the data path, against a clock that the tests set."""

from __future__ import annotations

import pytest

from llmendpoint_common.process.units import parse_duration
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.settings import parse_settings
from support.wire.data_path import Clock, DataPath

LIMITS = Timeouts()
MINUTE = 60.0
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"5\r\nhello\r\n"


def post(path: str, body: bytes = b'{"model":"m"}') -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)


class Timed(DataPath):
    """A data path whose clock a test sets. `sleep` lets time pass and checks the time limits."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(clock=self.clock)

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.client.check_timeouts(self.clock.now, LIMITS)

    def answer(self, data: bytes) -> None:
        self.upstreams[-1][0].data_received(data)

    def outcomes(self) -> dict[str, int]:
        return dict(self.metrics.totals_by("requests", "outcome"))


@pytest.fixture
def path() -> Timed:
    return Timed()


def test_the_defaults_are_those_of_the_flags() -> None:
    flags = parse_settings([])
    assert (LIMITS.connect, LIMITS.first_byte) == (flags.connect_timeout, flags.first_byte_timeout)
    assert (LIMITS.idle, LIMITS.keep_alive) == (flags.idle_timeout, flags.keep_alive_timeout)
    assert (LIMITS.first_byte, LIMITS.idle) == (parse_duration("1h"), parse_duration("30m"))
    assert LIMITS.client == parse_duration("2m")


def test_an_answer_that_takes_eleven_minutes_is_delivered(path: Timed) -> None:
    path.client.data_received(post("/api/generate"))
    path.sleep(11 * MINUTE)
    path.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert path.wire.written.endswith(b"\r\n\r\n{}")


def test_a_stream_may_pause_while_a_tool_call_is_composed(path: Timed) -> None:
    path.client.data_received(post("/v1/chat/completions"))
    path.answer(STREAM_HEAD + PIECE)
    path.sleep(29 * MINUTE)
    path.answer(PIECE + b"0\r\n\r\n")
    assert path.wire.written.endswith(PIECE + PIECE + b"0\r\n\r\n")


def test_a_stream_that_is_silent_for_longer_than_the_idle_timeout_is_cut(path: Timed) -> None:
    path.client.data_received(post("/api/chat"))
    path.answer(STREAM_HEAD + PIECE)
    path.sleep(LIMITS.idle + 1)
    assert path.wire.closed
    assert path.outcomes() == {"upstream_timeout": 1}


def test_an_upstream_that_never_answers_is_a_504_after_the_first_byte_timeout(path: Timed) -> None:
    path.client.data_received(post("/api/chat"))
    path.sleep(LIMITS.first_byte - 1)
    assert not path.wire.written
    path.sleep(2)
    assert path.wire.written.startswith(b"HTTP/1.1 504 ")
    assert path.upstreams[0][1].closed


@pytest.mark.parametrize("route", ["/api/pull", "/api/push", "/api/create", "/api/blobs/sha256:0"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_transfer_of_model_files_may_be_silent_for_hours(path: Timed, route: str, begun: bool) -> None:
    path.client.data_received(post(route))
    if begun:
        path.answer(STREAM_HEAD + PIECE)
    path.sleep(24 * 60 * MINUTE)
    assert not path.wire.closed
    path.answer((b"" if begun else STREAM_HEAD) + b"0\r\n\r\n")
    assert path.wire.written.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("route", ["/api/pull", "/api/chat", "/api/blobs/sha256:0"])
def test_a_client_that_is_silent_inside_its_request_gets_408_after_two_minutes(path: Timed, route: str) -> None:
    path.client.data_received(post(route)[:-1])
    path.sleep(LIMITS.client - 1)
    assert not path.wire.written
    path.sleep(2)
    assert path.wire.written.startswith(b"HTTP/1.1 408 ")
    assert path.outcomes() == {"rejected": 1}


def test_a_client_that_may_still_be_sending_gets_time_to_read_a_large_response(path: Timed) -> None:
    path.client.data_received(post("/api/chat") + b"this is not HTTP\r\n\r\n")
    path.client.pause_writing()
    path.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert b"HTTP/1.1 400 " in path.wire.written
    path.sleep(10)
    assert not path.wire.aborted
    path.client.resume_writing()
    path.sleep(2)
    assert not path.wire.aborted
    path.sleep(2)
    assert path.wire.aborted


@pytest.mark.parametrize("route", ["/api/pull", "/api/chat"])
def test_a_client_that_does_not_read_its_response_is_ended_after_two_minutes(path: Timed, route: str) -> None:
    path.client.data_received(post(route))
    path.answer(STREAM_HEAD + PIECE)
    path.client.pause_writing()
    path.sleep(LIMITS.client - 1)
    assert not path.wire.closed
    path.sleep(2)
    assert path.wire.closed


def test_an_upstream_that_stops_reading_a_request_is_ended_after_the_first_byte_timeout(path: Timed) -> None:
    path.client.data_received(post("/api/chat")[:-1])
    path.upstreams[0][0].pause_writing()
    assert not path.wire.reading
    path.sleep(LIMITS.first_byte - 1)
    assert not path.wire.written
    path.sleep(2)
    assert path.wire.written.startswith(b"HTTP/1.1 504 ")


def test_an_upload_of_a_file_may_wait_for_the_upstream_for_hours(path: Timed) -> None:
    path.client.data_received(post("/api/blobs/sha256:0")[:-1])
    path.upstreams[0][0].pause_writing()
    path.sleep(24 * 60 * MINUTE)
    assert not path.wire.written
    path.upstreams[0][0].resume_writing()
    path.client.data_received(b"}")
    assert path.upstreams[0][1].written.endswith(b'{"model":"m"}')


def test_a_connection_without_a_request_is_closed_after_the_keep_alive_timeout(path: Timed) -> None:
    path.client.data_received(post("/api/chat"))
    path.sleep(LIMITS.keep_alive + 1)
    path.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    path.sleep(LIMITS.keep_alive - 1)
    assert not path.wire.closed
    path.sleep(2)
    assert path.wire.closed


def test_a_client_that_does_not_read_cannot_keep_its_connection_from_closing(path: Timed) -> None:
    """A transport that is closed first sends what it has buffered, which a client can prevent by not reading."""
    path.client.data_received(post("/api/chat").replace(b"Host", b"Connection: close\r\nHost"))
    aborted: list[bool] = []
    path.wire.close = lambda: None  # type: ignore[method-assign]
    path.wire.abort = lambda: aborted.append(True)  # type: ignore[method-assign]
    path.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    path.sleep(LIMITS.client - 1)
    assert not aborted
    path.sleep(2)
    assert aborted
