"""Traces of Mooncake and Azure are replayed as they are, and an invalid one is rejected with file, line and field."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from itertools import islice, takewhile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.process.errors import TraceError
from llmendpoint_loadjob.dataset.prompts import prompts_of_trace, text_of_questions
from llmendpoint_loadjob.dataset.questions import read_questions, shipped_questions
from llmendpoint_loadjob.dataset.synthetic import Text, estimated_tokens
from llmendpoint_loadjob.dataset.traces import TraceRequest, read_trace

MOONCAKE = """\
{"timestamp": 3000, "input_length": 1200, "output_length": 50, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 3]}
{"timestamp": 4500, "input_length": 600, "output_length": 1, "hash_ids": [0, 4]}
{"timestamp": 9000, "input_length": 100, "output_length": 9, "hash_ids": [5]}
"""
AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:59.9799600,480,10
2023-11-16 18:18:00.0799601,110,27
2023-11-16 18:18:02,34,12
"""


@pytest.fixture(scope="module")
def text() -> Text:
    return text_of_questions(read_questions(shipped_questions()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def test_a_trace_of_mooncake_is_read_as_it_is(path: Path) -> None:
    path.write_text(MOONCAKE)
    assert list(read_trace(path)) == [
        TraceRequest(0.0, 1200, 50, (0, 1, 2)),
        TraceRequest(0.0, 1100, 7, (0, 1, 3)),
        TraceRequest(1.5, 600, 1, (0, 4)),
        TraceRequest(6.0, 100, 9, (5,)),
    ]


@pytest.mark.parametrize("change", [lambda text: text, lambda text: "\ufeff" + text.replace("\n", "\r\n") + "\r\n"])
def test_a_trace_of_azure_is_read_as_it_is(path: Path, change: object) -> None:
    assert callable(change)
    path.write_bytes(str(change(AZURE)).encode())
    requests = list(read_trace(path))
    assert [(request.input_tokens, request.output_tokens) for request in requests] == [(480, 10), (110, 27), (34, 12)]
    assert [request.offset_seconds for request in requests] == pytest.approx([0, 0.1000001, 2.02004], abs=1e-6)
    assert {request.blocks for request in requests} == {()}


@pytest.mark.parametrize(("scale", "offsets"), [(0.5, [0, 0, 0.75, 3]), (2, [0, 0, 3, 12])])
def test_times_can_be_scaled(path: Path, scale: float, offsets: list[float]) -> None:
    path.write_text(MOONCAKE)
    assert [request.offset_seconds for request in read_trace(path, scale)] == offsets


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_scale_that_is_not_positive_is_refused(path: Path, scale: float) -> None:
    with pytest.raises(ValueError, match="time scale must be a positive number"):
        read_trace(path, scale)


def test_a_replay_can_end_early_without_reading_the_rest(path: Path) -> None:
    path.write_text(MOONCAKE + "not a request\n")
    assert len(list(read_trace(path, limit=4))) == 4
    with pytest.raises(TraceError, match="trace:5: "):
        list(read_trace(path))


@pytest.mark.parametrize(
    ("trace", "line", "reason"),
    [
        ("", 0, "the trace has no requests"),
        ("\n\n", 0, "the trace has no requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", 0, "the trace has no requests"),
        ("arrived_at,prompt\n", 1, "neither with a JSON object nor with TIMESTAMP,ContextTokens,GeneratedTokens"),
        (MOONCAKE + "{\n", 5, "not valid JSON"),
        (MOONCAKE + "[" * 100_000 + "\n", 5, "."),
        (MOONCAKE + '{"timestamp": 9000, "input_length": 5}\n', 5, "output_length"),
        (
            MOONCAKE + '{"timestamp": 9000, "input_length": "5", "output_length": 5}\n',
            5,
            "input_length: Expected `int`",
        ),
        (
            MOONCAKE + '{"timestamp": 9000, "input_length": -5, "output_length": 5}\n',
            5,
            "input_length: must be a whole",
        ),
        (MOONCAKE + '{"timestamp": 9000, "input_length": 5, "output_length": 1e99}\n', 5, "output_length"),
        (MOONCAKE + '{"timestamp": null, "input_length": 5, "output_length": 5}\n', 5, "timestamp: Expected `float`"),
        (MOONCAKE + '{"timestamp": 1, "input_length": 5, "output_length": 5}\n', 5, "before that of the line above"),
        (MOONCAKE + '{"timestamp": 1e300, "input_length": 5, "output_length": 5}\n', 5, "more than a year after"),
        (MOONCAKE + '{"timestamp": 9000, "input_length": 5, "output_length": 5, "hash_ids": [null]}\n', 5, "hash_ids"),
        (AZURE + "2023-11-16 18:18:05.0,1\n", 5, "the line has 2 fields instead of 3"),
        (AZURE + "2023-11-31 18:18:05.0,1,1\n", 5, "TIMESTAMP: must be a time like"),
        (AZURE + "yesterday,1,1\n", 5, "TIMESTAMP: must be a time like"),
        (AZURE + "2023-11-16 18:18:05.0,²,1\n", 5, "ContextTokens: must be a whole number"),
        (AZURE + "2023-11-16 18:18:05.0,1,1.5\n", 5, "GeneratedTokens: must be a whole number"),
        (AZURE + "2023-11-16 18:18:05.0,1," + "9" * 5000 + "\n", 5, "GeneratedTokens: must be a whole number"),
        (AZURE + "x" * 2_000_000 + "\n", 5, "the line is longer than 1024 KiB"),
        (AZURE + "2023-11-16 18:18:05.0,\udcff,1\n", 5, "byte 23 of the line is not valid UTF-8"),
    ],
)
def test_a_wrong_trace_is_refused_with_file_line_and_field(path: Path, trace: str, line: int, reason: str) -> None:
    path.write_bytes(trace.encode("utf-8", "surrogateescape"))
    place = f"trace:{line}" if line else "trace"
    with pytest.raises(TraceError, match=rf"{place}: .*{reason}"):
        list(read_trace(path))


@given(st.sampled_from([MOONCAKE, AZURE]), st.integers(0, 250), st.one_of(st.binary(max_size=20), st.just(b"[" * 9999)))
def test_any_damage_is_read_or_refused_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, trace: str, place: int, damage: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(trace.encode()[:place] + damage + trace.encode()[place:])
    with contextlib.suppress(TraceError):
        list(read_trace(path))


def test_a_fifo_is_refused_without_waiting_for_a_writer(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(TraceError, match="trace: the file is not a regular file"):
        list(read_trace(path))


def test_a_trace_that_does_not_exist_is_named(path: Path) -> None:
    with pytest.raises(TraceError, match="trace: the file cannot be read: No such file"):
        list(read_trace(path))


def test_a_long_trace_needs_the_memory_of_one_line(path: Path) -> None:
    with path.open("w") as file:
        for index in range(100_000):
            file.write(f'{{"timestamp": {index}, "input_length": 5, "output_length": 5, "hash_ids": [{index}]}}\n')
    tracemalloc.start()
    assert sum(1 for _ in read_trace(path)) == 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


# Prompts of a trace


def prompts(path: Path, text: Text, trace: str = MOONCAKE, **options: int) -> list[str]:
    path.write_text(trace)
    replay = prompts_of_trace(read_trace(path), text, options.pop("seed", 1), **options)
    return [prompt.messages[0][1] for _, prompt in replay]


def common(one: str, other: str) -> int:
    """Return the estimated tokens of the words with which both begin."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one.split(), other.split(), strict=False))
    return sum(estimated_tokens(word) for word, _ in same)


def test_prompts_have_the_lengths_of_the_trace(path: Path, text: Text) -> None:
    for trace, lengths in ((MOONCAKE, [1200, 1100, 600, 100]), (AZURE, [480, 110, 34])):
        made = [sum(map(estimated_tokens, prompt.split())) for prompt in prompts(path, text, trace)]
        assert made == pytest.approx(lengths, rel=0.02, abs=20)


def test_equal_blocks_give_equal_text_and_others_do_not(path: Path, text: Text) -> None:
    first, second, third, fourth = prompts(path, text)
    assert common(first, second) == pytest.approx(1024, abs=40)
    assert common(first, third) == pytest.approx(512, abs=40)
    assert common(first, fourth) == 0
    # The whole of a block that is cut in one request is the beginning of the same block in another one.
    longer = MOONCAKE + '{"timestamp": 9000, "input_length": 1536, "output_length": 9, "hash_ids": [0, 4, 6]}\n'
    assert prompts(path, text, longer)[-1].startswith(third)


def test_requests_without_blocks_share_nothing(path: Path, text: Text) -> None:
    first, second, third = prompts(path, text, AZURE)
    assert common(first, second) == common(second, third) == 0


def test_tokens_that_no_block_describes_are_filled_with_text_of_their_own(path: Path, text: Text) -> None:
    line = '{"timestamp": 0, "input_length": 1000, "output_length": 9, "hash_ids": [0]}\n'
    first, second = prompts(path, text, line * 2)
    assert common(first, second) == pytest.approx(512, abs=20)
    assert sum(map(estimated_tokens, first.split())) == pytest.approx(1000, rel=0.02)


def test_the_same_seed_makes_the_same_prompts(path: Path, text: Text) -> None:
    assert prompts(path, text) == prompts(path, text)
    assert common(prompts(path, text)[0], prompts(path, text, seed=2)[0]) == 0


def test_requests_that_exceed_the_context_are_cut_and_marked(path: Path, text: Text) -> None:
    path.write_text(MOONCAKE)
    replay = prompts_of_trace(read_trace(path), text, 1, max_tokens=607)
    cut = [
        (sum(map(estimated_tokens, sent.messages[0][1].split())), sent.max_tokens, sent.is_cut) for _, sent in replay
    ]
    assert [output for _, output, _ in cut] == [50, 7, 1, 9]
    assert [is_cut for _, _, is_cut in cut] == [True, True, False, False]
    assert [tokens for tokens, _, _ in cut] == pytest.approx([557, 600, 600, 100], abs=40)


def test_a_replay_has_offsets_and_output_limits(path: Path, text: Text) -> None:
    path.write_text(MOONCAKE)
    replay = list(prompts_of_trace(read_trace(path), text, 1))
    assert [(offset, prompt.id, prompt.category, prompt.max_tokens) for offset, prompt in replay] == [
        (0.0, "trace-0", "Trace", 50), (0.0, "trace-1", "Trace", 7),
        (1.5, "trace-2", "Trace", 1), (6.0, "trace-3", "Trace", 9),
    ]  # fmt: skip


@pytest.mark.optional
@pytest.mark.parametrize("file", ["mooncake-conversation-600.jsonl", "azure-llm-2023-code-1500.csv"])
def test_a_published_trace_is_replayed_as_it_is(text: Text, file: str) -> None:
    folder = os.environ.get("LLMENDPOINT_TRACES")
    if folder is None:
        pytest.skip("set LLMENDPOINT_TRACES to a folder with the published traces")
    requests = list(read_trace(Path(folder) / file))
    assert len(requests) == int(file.partition(".")[0].rpartition("-")[2])
    replay = prompts_of_trace(islice(requests, 50), text, 1)
    for (_, prompt), request in zip(replay, requests, strict=False):
        tokens = sum(map(estimated_tokens, prompt.messages[0][1].split()))
        assert tokens == pytest.approx(request.input_tokens, rel=0.02, abs=20)
