"""`llmendpoint status`: the programs of the stack on this machine, and their health."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import Health, health_of, supervisor_runs, wait_for_stack
from llmendpoint_cli.stack.state import Stack
from llmendpoint_cli.stack.stop import find_processes
from llmendpoint_cli.stack.summary import simulation
from llmendpoint_common.diagnosis.sentences import full_state_folder
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.flags import Flags, choice, one_of
from llmendpoint_common.process.units import format_duration

ENVIRONMENT_PREFIX = "LLMENDPOINT_STATUS_"
_DESCRIPTION = "Show what `llmendpoint up` started, since when it runs, where, and whether it is healthy."
_NOTES = """states:
  healthy      it runs and answers
  unhealthy    it runs, and the last column says what is wrong
  restarting   it has ended, and is started again after a while
  dead         it does not run

examples:
  llmendpoint status
  llmendpoint status --format json | jq -r '.processes[] | select(.healthy | not) | .name'

exit codes: 0 all is healthy, 1 something is not, or no stack is up, 2 invalid option
"""
_COLUMNS = ("NAME", "STATE", "ADDRESS", "PID", "SINCE", "RESTARTS")


class Format(StrEnum):
    """Formats of the output."""

    TABLE = "table"
    JSON = "json"


def command_line(program: str = "llmendpoint status") -> Flags:
    """Return the options of `status`. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _NOTES)
    flags.group("output").option("format", choice(Format), Format.TABLE, one_of(Format), value="FORMAT")
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint status") -> int:
    """Print the state of the stack. Return 0 if all is healthy, else 1."""
    options = command_line(program).parse(arguments)
    folders = Folders()
    stack = wait_for_stack(folders, 3.0)
    rows = [] if stack is None else health_of(folders, stack)
    healthy = stack is not None and all(row.healthy for row in rows)
    if options.format is Format.JSON:
        print(json.dumps(_document(folders, stack, rows, healthy=healthy), indent=2))
    elif stack is None:
        print(_no_stack(folders))
    else:
        _print(stack, rows)
        if full := folders.full_disk():
            print("\n" + " ".join(full_state_folder(full)))
    return exit_codes.OK if healthy else exit_codes.ERROR


def _no_stack(folders: Folders) -> str:
    if supervisor_runs(folders) or find_processes(folders):
        return "The files of the stack are damaged, and processes of it run. `llmendpoint down` ends them."
    return "No stack is up. `llmendpoint up` starts one."


def _document(folders: Folders, stack: Stack | None, rows: list[Health], *, healthy: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"up": stack is not None, "healthy": healthy, "folder": str(folders.root)}
    if stack is None:
        return document
    return document | {
        "version": stack.version,
        "since": _time(stack.since),
        "endpoints": [
            {
                "name": sidecar.name,
                "url": sidecar.proxy_url,
                "metrics": f"{sidecar.admin_url}/metrics",
                "upstream": sidecar.upstream_url,
                "simulated": sidecar.simulated,
            }
            for sidecar in stack.sidecars
        ],
        "dashboard": stack.dashboard_url or None,
        "prometheus": stack.prometheus_url or None,
        "leftOut": list(stack.left_out),
        "diskIsFull": folders.full_disk() is not None,
        "processes": [row._asdict() | {"since": None if row.since is None else _time(row.since)} for row in rows],
    }


def _print(stack: Stack, rows: list[Health]) -> None:
    # Output to a file or a pipe keeps its columns, because programs read them.
    is_narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if is_narrow else sys.maxsize
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[index]) for line in (_COLUMNS, *cells)) for index in range(len(_COLUMNS))]
    if sum(widths) + 2 * len(widths) <= width:
        print(_line(_COLUMNS, widths))
        for row, line in zip(rows, cells, strict=True):
            print(_line(line, widths))
            if row.message:
                print(f"  {row.message}")
    else:
        for row in rows:
            print("\n".join(_narrow(row)))
    if sentence := simulation(stack):
        print(f"\n{sentence}")


def _cells(row: Health) -> tuple[str, ...]:
    since = "" if row.since is None else format_duration(max(0.0, time.time() - row.since))
    return row.name, row.state, row.address, str(row.pid or ""), since, str(row.restarts or "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _narrow(row: Health) -> Iterator[str]:
    """Yield the lines of a row for a narrow terminal."""
    _, state, address, pid, since, restarts = _cells(row)
    yield f"{row.name}: {state}"
    if address:
        yield f"  {address}"
    if pid:
        yield f"  process {pid}, for {since}"
    if restarts:
        yield f"  restarts: {restarts}"
    if row.message:
        yield f"  {row.message}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
