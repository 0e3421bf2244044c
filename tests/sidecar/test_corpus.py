"""The readers and the data path compared with an independent parser (h11), on the corpus and on damaged cases."""

from __future__ import annotations

import pytest

from llmendpoint_common.wire.http1 import heads
from support.wire import wirefuzz
from support.wire.corpus import corpus

WHOLE_PATH = {"requests": wirefuzz.try_requests, "answers": wirefuzz.try_answer}
FILES = [(kind, name) for kind in WHOLE_PATH for name in corpus(kind)]
#: Cases of one test; `python tests/support/wire/wirefuzz.py --seconds 600` tries some millions.
BLOCK = 500


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_kept_case_is_read_as_an_independent_parser_reads_it(kind: str, name: str) -> None:
    data = corpus(kind)[name]
    whole = WHOLE_PATH[kind](data, ())
    # The result does not depend on the split.
    assert WHOLE_PATH[kind](data, range(len(data))) == whole
    if name.startswith("refused-"):
        assert len(whole) == 1
        assert 400 <= whole[0] < 600


@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize("name", wirefuzz.ATTEMPTS)
def test_damaged_bytes_are_never_read_in_two_ways(name: str, block: int) -> None:
    attempt = wirefuzz.ATTEMPTS[name]
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        data, cuts = wirefuzz.damaged(attempt.kind, seed)
        try:
            attempt.run(data, cuts)
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}; the case: {data[:500]!r}, cut at {cuts}")


def test_a_proxy_that_lets_a_second_request_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check works: with a head that smuggles a request, every forwarded case is a finding."""
    smuggled = b"Content-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    monkeypatch.setattr(heads, "join_head", lambda start, lines: start + b"\r\nHost: 127.0.0.1:1\r\n" + smuggled)
    for name in ("get", "pipelined", "absolute-target"):
        with pytest.raises(wirefuzz.FindingError):
            wirefuzz.try_requests(corpus("requests")[name], ())
