"""The corpus: requests and responses as received from the network, one per file, and ways to split them.

A request in a file named `refused-…` must be refused. All other files can be damaged for fuzzing. Findings of the fuzzer
are in files named `found-…`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "sidecar" / "corpus"


def corpus(kind: str) -> dict[str, bytes]:
    """Return the files of `requests`, `answers` or `charges`, by name."""
    return {path.stem: path.read_bytes() for path in sorted((CORPUS / kind).glob("*.http"))}


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Split bytes at positions. A position beyond the end wraps around."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def all_splits(data: bytes) -> list[list[bytes]]:
    """Return the bytes unsplit, split once at every position, and split into single bytes."""
    return [[data], *(split(data, [cut]) for cut in range(1, len(data))), split(data, range(len(data)))]
