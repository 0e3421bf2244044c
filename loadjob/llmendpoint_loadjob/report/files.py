"""Result files: `summary.json`, `report.html`, `summary.csv` and `progress.json`, beside `requests.jsonl`.

They contain no text of prompts or responses. Each is replaced as a whole, so that a reader never sees half of one,
and a run that is killed leaves its last partial summary.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from llmendpoint_common.contracts.loadrun import PROGRESS_FILE, RESULT_KEY, RunProgress, RunState, Summary
from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.files import replace_file
from llmendpoint_loadjob.dataset.files import open_regular
from llmendpoint_loadjob.report.flat import summary_csv
from llmendpoint_loadjob.report.folder_lock import FolderLock
from llmendpoint_loadjob.report.page.page import report_page

REQUESTS, REPORT, TABLE = "requests.jsonl", "report.html", "summary.csv"
#: Free space that a run needs at least: the final files, and the lines of a few thousand requests.
_MIN_FREE_BYTES = 4 * 1024 * 1024
#: Space that is taken until the end of the run, so that summary and report fit if the disk becomes full.
_RESERVE_BYTES = 2 * 1024 * 1024
_UNREADABLE = "the file cannot be read: "


class OutputFolder:
    """The folder of a run's result files. Threads may write to it: what was written last for a file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FolderLock(path)
        self._writing = threading.Lock()
        #: Closing it frees its space. It has no name, so that the kernel frees it too if the process is killed.
        self._reserve: IO[bytes] | None = None
        #: Whether `summary.json` is that of the run that has ended.
        self.has_result = False
        self._is_closing = False
        self._has_ended = False

    def prepare(self) -> None:
        """Create the folder, and check that files can be written. Raises OutputError with the reason.

        Files of an earlier run are removed, because they would stand beside those of this one. No other run can use
        the folder until `release`, or until the process ends.
        """
        self.has_result = self._is_closing = self._has_ended = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.take()
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".llmendpoint-") as probe:
                probe.write(bytes(64 * 1024))
                probe.flush()
                os.fsync(probe.fileno())
            free = os.statvfs(self.path)
            if free.f_bavail * free.f_frsize < _MIN_FREE_BYTES:
                raise OutputError(f"{self.path}: less than {_MIN_FREE_BYTES // 2**20} MiB are free")
            for name in (RESULT_KEY, REPORT, TABLE, PROGRESS_FILE):
                (self.path / name).unlink(missing_ok=True)
        except FileExistsError:
            raise OutputError(f"{self.path}: a file with this name exists; --out names a folder") from None
        except OSError as error:
            raise OutputError(f"{self.path}: cannot write results: {error.strerror}") from error

    def reserve(self) -> None:
        """Take the space that the files of the end need. Without it, they may not fit, which `write` reports."""
        with suppress(OSError):
            self._reserve = tempfile.TemporaryFile(dir=self.path, buffering=0)  # noqa: SIM115 - open until the end
            self._reserve.write(bytes(_RESERVE_BYTES))

    def release(self) -> None:
        """Let other runs use the folder."""
        self._free_reserve()
        self._lock.release()

    def write_partial(self, summary: Summary) -> None:
        """Replace `summary.json` while the run continues, but not when it has ended. Raises OSError."""
        content = encode_summary(summary)
        with self._writing:
            if not self.has_result and not self._is_closing:
                self._replace(RESULT_KEY, content)

    def write_progress(self, progress: RunProgress) -> None:
        """Replace `progress.json`, but never that of a run that has ended. Raises OSError."""
        content = msgspec.json.encode(progress) + b"\n"
        with self._writing:
            if self._has_ended:
                return
            self._has_ended = progress.state is RunState.ENDED
            try:
                self._replace(PROGRESS_FILE, content, is_durable=self._has_ended)
            except OSError:
                if not self._has_ended:
                    raise
                # A file of one block can be overwritten on a full disk. Half of it does not harm as much as the claim
                # that the run continues.
                with (self.path / PROGRESS_FILE).open("r+b") as file:
                    file.write(content)
                    file.truncate()

    def write(self, summary: Summary) -> None:
        """Write all files of a run that has ended, as far as possible. Raises OSError if one could not be written."""
        with self._writing:
            self._is_closing = True
            self._free_reserve()
            self._replace(RESULT_KEY, encode_summary(summary))
            self.has_result = True
            self._replace(REPORT, report_page(summary).encode())
            self._replace(TABLE, summary_csv([summary]).encode())

    def _free_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            with suppress(OSError):
                reserve.close()

    def _replace(self, name: str, content: bytes, *, is_durable: bool = True) -> None:
        replace_file(self.path / name, content, part=self.path / f".{name}.part", is_durable=is_durable)


def encode_summary(summary: Summary) -> bytes:
    """Return a summary as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def read_summary(path: Path) -> Summary:
    """Return the summary in a file, or in the folder of a run. Raises OutputError with the reason."""
    file = path / RESULT_KEY if path.is_dir() else path
    try:
        with open_result(file) as opened:
            return msgspec.json.decode(opened.read(), type=Summary)
    except OSError as error:
        raise OutputError(f"{file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise OutputError(f"{file}: not a result of a load run: {error}") from None


def open_result(path: Path) -> BinaryIO:
    """Return an open file of a run. A FIFO or a device is refused. Raises OutputError."""
    return open_regular(path, lambda _, reason: OutputError(f"{path}: {reason.removeprefix(_UNREADABLE)}"))
