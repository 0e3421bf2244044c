"""The lanes of `make test`: together they have each test file, and none has a file of another one."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

import lanes
import pytest

ROOT = Path(lanes.__file__).parents[1]


class Selection:
    """The arguments of pytest in a lane, and the test files that they select."""

    def __init__(self, command: Sequence[str]) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("paths", nargs="+")
        parser.add_argument("--ignore", action="append", default=[])
        parser.add_argument("-m", dest="markers")
        for option in ("-o", "--durations"):
            parser.add_argument(option)
        words = command[command.index("pytest") + 1 :]
        self._given = parser.parse_intermixed_args(words)
        self.markers = self._given.markers

    def has(self, file: Path) -> bool:
        def is_below(paths: Sequence[str]) -> bool:
            return any(file.is_relative_to(path) for path in paths)

        return is_below(self._given.paths) and not is_below(self._given.ignore)


@pytest.fixture
def stages(tmp_path: Path) -> list[dict[str, Selection]]:
    """The lanes with pytest of each stage, by their names."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    words = subprocess.run(["scripts/test", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    _, *arguments = words.splitlines()
    return [{lane.name: Selection(lane.command) for lane in stage} for stage in lanes.parse(arguments).stages]


def test_each_test_file_is_in_one_lane(stages: list[dict[str, Selection]]) -> None:
    first, _ = stages
    # The processes of the API tests share their modules out among themselves.
    wanted = [["api-1", "api-2"], ["servers"], ["pages"], ["others"]]
    files = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    found = {file: [name for name, lane in first.items() if lane.has(file)] for file in files}
    assert {file: names for file, names in found.items() if names not in wanted} == {}
    assert all(names in found.values() for names in wanted)


def test_the_tests_that_the_lanes_leave_out_run_afterwards(stages: list[dict[str, Selection]]) -> None:
    first, second = stages
    (together,) = {lane.markers for name, lane in first.items() if not name.startswith("api-")}
    # `make clients`, `make e2e` and `make e2e-keda` run the other ones.
    assert together == "not cluster and not clients and not keda and not alone"
    assert {name: lane.markers for name, lane in second.items()} == {"alone": "alone"}
