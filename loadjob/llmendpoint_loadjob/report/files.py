"""Result files: `summary.json`, `report.html` and `summary.csv`, beside `requests.jsonl`.

They contain no text of prompts or responses. Each is replaced as a whole, so that a reader never sees half of one,
and a run that is killed leaves its last partial summary.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.loadrun import RESULT_KEY, Summary
from llmendpoint_common.process.errors import OutputError
from llmendpoint_loadjob.dataset.files import open_regular
from llmendpoint_loadjob.report.flat import summary_csv
from llmendpoint_loadjob.report.page.page import report_page

REQUESTS, REPORT, TABLE = "requests.jsonl", "report.html", "summary.csv"
#: Free space that a run needs at least: the final files, and the lines of a few thousand requests.
_MIN_FREE_BYTES = 4 * 1024 * 1024
_UNREADABLE = "the file cannot be read: "


class OutputFolder:
    """The folder of a run's result files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Create the folder, and check that files can be written. Raises OutputError with the reason.

        Files of an earlier run are removed, because they would stand beside those of this one.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=".llmendpoint-") as probe:
                probe.write(bytes(64 * 1024))
                probe.flush()
                os.fsync(probe.fileno())
            free = os.statvfs(self.path)
            if free.f_bavail * free.f_frsize < _MIN_FREE_BYTES:
                raise OutputError(f"{self.path}: less than {_MIN_FREE_BYTES // 2**20} MiB are free")
            for name in (RESULT_KEY, REPORT, TABLE):
                (self.path / name).unlink(missing_ok=True)
        except FileExistsError:
            raise OutputError(f"{self.path}: a file with this name exists; --out names a folder") from None
        except OSError as error:
            raise OutputError(f"{self.path}: cannot write results: {error.strerror}") from error

    def write_partial(self, summary: Summary) -> None:
        """Replace `summary.json` while the run continues. Raises OSError."""
        self._replace(RESULT_KEY, encode_summary(summary))

    def write(self, summary: Summary) -> None:
        """Write all files of a run that has ended. Raises OSError."""
        self._replace(RESULT_KEY, encode_summary(summary))
        self._replace(REPORT, report_page(summary).encode())
        self._replace(TABLE, summary_csv([summary]).encode())

    def _replace(self, name: str, content: bytes) -> None:
        waiting = self.path / f".{name}.part"
        with waiting.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(self.path / name)


def encode_summary(summary: Summary) -> bytes:
    """Return a summary as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def read_summary(path: Path) -> Summary:
    """Return the summary in a file, or in the folder of a run. Raises OutputError with the reason."""
    file = path / RESULT_KEY if path.is_dir() else path
    try:
        with open_regular(file, lambda _, reason: OutputError(f"{file}: {reason.removeprefix(_UNREADABLE)}")) as opened:
            return msgspec.json.decode(opened.read(), type=Summary)
    except OSError as error:
        raise OutputError(f"{file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise OutputError(f"{file}: not a result of a load run: {error}") from None
