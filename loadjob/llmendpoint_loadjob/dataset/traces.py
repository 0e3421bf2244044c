"""Recorded traffic: the traces of Mooncake (JSONL) and of Azure (CSV), read as they are published.

    https://github.com/kvcache-ai/Mooncake, FAST'25 release
        {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353]}
        milliseconds; `hash_ids` are blocks of 512 tokens, and requests with equal first blocks share a prefix
    https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace
        TIMESTAMP,ContextTokens,GeneratedTokens
        2023-11-16 18:17:03.9799600,4808,10

Files are read line by line: a trace of any size needs the memory of one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from llmendpoint_common.process.errors import TraceError
from llmendpoint_loadjob.dataset.files import open_regular

BLOCK_TOKENS = 512
#: A line of Mooncake's traces with 128 Ki tokens of input has 256 blocks, in about 2 KiB.
MAX_LINE_BYTES = 1024 * 1024
MAX_TOKENS = 10_000_000
MAX_OFFSET_SECONDS = 366 * 86_400.0
_AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
_AZURE_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d{1,9})?(?:\+00:00|Z)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class TraceRequest:
    """A recorded request. The offset is that from the first request of the trace, after scaling.

    `blocks` are the IDs of the blocks of the input, in their order: equal IDs are equal text. It is empty if the trace
    does not say.
    """

    offset_seconds: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()

    @property
    def tokens_in_blocks(self) -> int:
        """Number of input tokens that the blocks describe."""
        return min(self.input_tokens, len(self.blocks) * BLOCK_TOKENS)

    def blocks_with_lengths(self) -> Iterator[tuple[int, int]]:
        """Return the blocks with their lengths in tokens. All but the last are full."""
        for index, block in enumerate(self.blocks):
            length = min(BLOCK_TOKENS, self.input_tokens - index * BLOCK_TOKENS)
            if length > 0:
                yield block, length

    def within(self, max_tokens: int) -> TraceRequest:
        """Return the request, cut so that input and output fit together into the context of a model."""
        output = min(self.output_tokens, max(1, max_tokens - 1))
        return replace(self, output_tokens=output, input_tokens=max(1, min(self.input_tokens, max_tokens - output)))


@dataclass(frozen=True)
class _Line:
    """A line of a trace, with its time in seconds from an origin of its own."""

    seconds: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read_trace(path: Path, scale: float = 1.0, limit: int | None = None) -> Iterator[TraceRequest]:
    """Return the requests of a trace, at most `limit`. The first line says which of the formats the file has.

    Offsets are multiplied by `scale`: 0.5 replays in half the time, with twice the rate. Raises ValueError if `scale`
    is not a positive number. The iterator raises TraceError, which names file, line and field.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"the time scale must be a positive number, not {scale}")
    return islice(_requests(path, scale), limit)


def _requests(path: Path, scale: float) -> Iterator[TraceRequest]:
    error = partial(TraceError, str(path))
    first = last = None
    with open_regular(path, error) as file:
        for number, line in _parsed(file, error):
            first = line.seconds if first is None else first
            if last is not None and line.seconds < last:
                raise error(number, "the time is before that of the line above; sort the trace by time")
            last = line.seconds
            offset = (line.seconds - first) * scale
            if offset > MAX_OFFSET_SECONDS:
                raise error(number, "the time is more than a year after that of the first request")
            yield TraceRequest(offset, line.input_tokens, line.output_tokens, line.blocks)
        if first is None:
            raise error(0, "the trace has no requests")


def _parsed(file: BinaryIO, error: Callable[[int, str], TraceError]) -> Iterator[tuple[int, _Line]]:
    parse: Callable[[str], _Line] | None = None
    for number, raw in _lines(file, error):
        text = _decoded(raw, number, error)
        if not text:
            continue
        if parse is None:
            parse = _mooncake if text.startswith("{") else _azure
            if text == _AZURE_HEADER:
                continue
            if parse is _azure:
                raise error(number, f"the trace starts neither with a JSON object nor with {_AZURE_HEADER}")
        try:
            yield number, parse(text)
        except ValueError as reason:
            raise error(number, str(reason)) from None


def _lines(file: BinaryIO, error: Callable[[int, str], TraceError]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise error(number, f"the line is longer than {MAX_LINE_BYTES // 1024} KiB")
        yield number, raw


def _decoded(raw: bytes, number: int, error: Callable[[int, str], TraceError]) -> str:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as reason:
        raise error(number, f"byte {reason.start + 1} of the line is not valid UTF-8") from None


class _MooncakeLine(msgspec.Struct):
    """Fields of Mooncake's traces. Others are ignored."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...] = ()


_MOONCAKE = msgspec.json.Decoder(_MooncakeLine)


def _mooncake(text: str) -> _Line:
    try:
        line = _MOONCAKE.decode(text)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$")
        raise ValueError(f"{field.strip('.`')}: {reason}" if field else reason) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the line is not valid JSON: {error}") from None
    if not (math.isfinite(line.timestamp) and line.timestamp >= 0):
        raise ValueError("timestamp: must be a number of milliseconds that is not negative")
    lengths = _tokens("input_length", line.input_length), _tokens("output_length", line.output_length)
    return _Line(line.timestamp / 1000, *lengths, line.hash_ids)


def _azure(text: str) -> _Line:
    fields = text.split(",")
    if len(fields) != 3:
        raise ValueError(f"the line has {len(fields)} fields instead of 3: {_AZURE_HEADER}")
    seconds = _azure_seconds(fields[0])
    return _Line(seconds, _whole("ContextTokens", fields[1]), _whole("GeneratedTokens", fields[2]))


def _azure_seconds(text: str) -> float:
    """Return the seconds since 2000 of a time with up to 9 decimals, of which `datetime` keeps only 6."""
    found = _AZURE_TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        whole = (datetime.fromisoformat(found[1]) - datetime(2000, 1, 1)).total_seconds()  # noqa: DTZ001 - a difference
    except ValueError:
        raise ValueError("TIMESTAMP: must be a time like 2023-11-16 18:17:03.9799600") from None
    return whole + float(found[2] or 0)


def _whole(name: str, text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{name}: must be a whole number")
    return _tokens(name, int(text))


def _tokens(name: str, value: int) -> int:
    if not 0 <= value <= MAX_TOKENS:
        raise ValueError(f"{name}: must be a whole number from 0 to {MAX_TOKENS}")
    return value
