"""Result files: `summary.json` and `requests.jsonl`. They contain no text of prompts or responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_loadjob.result.timings import Sample


def write_files(folder: Path, summary: Summary, samples: Sequence[Sample]) -> None:
    """Write both files into `folder`, which is created if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    (folder / "summary.json").write_bytes(encoded + b"\n")
    with (folder / "requests.jsonl").open("wb") as lines:
        for sample in samples:
            lines.write(msgspec.json.encode(_row(sample)) + b"\n")


def _row(sample: Sample) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(sample)
    # The error message of a server may quote the prompt.
    row.pop("detail")
    return row | {"ttft": sample.ttft, "tpot": sample.tpot, "request_latency": sample.request_latency}
