"""Runs the API tests in several processes at the same time, which share what their API servers have recorded.

`LLMENDPOINT_API_PART` is the number of a process and the number of all, such as `1/2`. `LLMENDPOINT_API_FOLDER` is a
folder that they share. Each process goes through all modules and runs those that no other has claimed before, so that all
are busy until the end, however long a module takes. The last process also runs the comparison of rights, which needs
the audit logs of all: the others leave copies of theirs in the folder when they end, because pytest deletes the folders
of tests when other runs on the machine have ended.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.waiting import wait_until


class Part:
    """A process of the API tests: its number, from 1, the number of all, and the folder that they share."""

    def __init__(self, number: int, total: int, folder: Path) -> None:
        self._number = number
        self._total = total
        self._folder = folder
        self._claims: dict[str, bool] = {}

    @property
    def is_last(self) -> bool:
        """Whether this process compares the rights."""
        return self._number == self._total

    def claims(self, module: str) -> bool:
        """Return whether this process runs a module: it does if no other has claimed it."""
        if self._total == 1:
            return True
        if module not in self._claims:
            try:
                (self._folder / f"{module}.claim").touch(exist_ok=False)
                self._claims[module] = True
            except FileExistsError:
                self._claims[module] = False
        return self._claims[module]

    def leave(self, logs: Sequence[Path]) -> None:
        """Leave copies of the audit logs of this process for the last one."""
        copies = [self._folder / f"{self._number}-{index}.log" for index in range(len(logs))]
        for log, copy in zip(logs, copies, strict=True):
            shutil.copyfile(log, copy)
        draft = self._folder / f"{self._number}.draft"
        draft.write_text(json.dumps([str(copy) for copy in copies]))
        draft.rename(self._folder / f"{self._number}.json")

    def others(self, seconds: float) -> list[Path]:
        """Wait until all other processes have ended. Return their audit logs."""
        left = [self._folder / f"{number}.json" for number in range(1, self._total + 1) if number != self._number]
        if left:
            wait_until(lambda: all(path.exists() for path in left), seconds)
        return [Path(log) for path in left for log in json.loads(path.read_text())]


def part_of(environment: Mapping[str, str] = os.environ) -> Part:
    """Return the part that the environment names. Without one, this process is the only one."""
    number, _, total = environment.get("LLMENDPOINT_API_PART", "1/1").partition("/")
    return Part(int(number), int(total), Path(environment.get("LLMENDPOINT_API_FOLDER", ".")))
