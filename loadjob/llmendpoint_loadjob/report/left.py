"""Messages about results that are not those of a whole run: of a part of it, without a file, or of a killed process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.loadrun import (
    PROGRESS_FILE,
    RunProgress,
    RunState,
    Summary,
    Verdict,
    VerdictReason,
)
from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.folder_lock import is_locked
from llmendpoint_loadjob.report.files import REQUESTS, open_result
from llmendpoint_loadjob.report.words import count_of

_BLOCK = 1 << 20
#: Characters of a message. The contract allows 4096.
_MAX_MESSAGE = 4000


def without_files(summary: Summary, failure: str, left: str) -> Summary:
    """Return a summary of which a file could not be written. Its verdict is Error, unless the run was interrupted.

    `left` is a sentence about what was written.
    """
    fact = f"The results could not be written: {failure}. {left}"
    # The name of a folder may contain any character.
    fact = "".join(char if char.isprintable() else " " for char in fact)[:_MAX_MESSAGE]
    if summary.partial:
        return msgspec.structs.replace(summary, message=f"{summary.message} {fact}"[:_MAX_MESSAGE])
    return msgspec.structs.replace(summary, verdict=Verdict.ERROR, reason=VerdictReason.RUN_ERROR, message=fact)


def as_part(summary: Summary, part: int, parts: int) -> Summary:
    """Return the summary of one of several parts of a run, with a message that says so. Parts are counted from 0."""
    fact = f"This is part {part}/{parts} of a run, with about 1/{parts} of its load, and the verdict is only about it."
    return msgspec.structs.replace(summary, message=f"{fact} {summary.message}"[:_MAX_MESSAGE])


def with_progress(folder: Path, summary: Summary) -> Summary:
    """Return the summary in a folder with a message that says whether its run continues, or was killed."""
    progress = read_progress(folder)
    if not summary.partial or progress is None or progress.state is RunState.ENDED:
        return summary
    if is_locked(folder):
        message = (
            f"The run has not ended ({progress.percent} % done). These are its results until now "
            f"({count_of(summary.requests, 'measured request')}), and no objective was judged."
        )
    else:
        message = (
            f"The load generator was killed before the end of the run (process {progress.pid}, last seen at "
            f"{progress.updated_at}). The result is partial: it has {count_of(summary.requests, 'measured request')}, "
            f"and {REQUESTS} has {count_of(lines_of(folder), 'line')}. No objective was judged."
        )
    return msgspec.structs.replace(summary, message=message)


def read_progress(folder: Path) -> RunProgress | None:
    """Return the progress of a run, or None if its folder has none that can be read."""
    with suppress(OSError, msgspec.DecodeError, UnicodeError, RecursionError):
        file = folder / PROGRESS_FILE
        return msgspec.json.decode(file.read_bytes(), type=RunProgress) if file.is_file() else None
    return None


def lines_of(folder: Path) -> int:
    """Return the number of complete request lines in a folder."""
    count = 0
    with suppress(OSError, OutputError), open_result(folder / REQUESTS) as file:
        while block := file.read(_BLOCK):
            count += block.count(b"\n")
    return count
