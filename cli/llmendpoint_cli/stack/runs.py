"""Results of load tests in the state folder: those of `llmendpoint load` while a stack is up, for the dashboard."""

from __future__ import annotations

import secrets
import shutil
import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import running_stack
from llmendpoint_cli.stack.summary import first_model
from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.folder_lock import is_locked
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_loadjob.report.files import OutputFolder, read_summary
from llmendpoint_loadjob.run_flags import DEFAULT_URL

KEPT_RUNS = 100
#: Default of `--url`, as `--help` shows it.
DEFAULT_PROXY = f"the first proxy of the stack that is up, otherwise {DEFAULT_URL}"


def use_stack(options: Namespace) -> Folders | None:
    """Let a run use the stack that is up, and return the folders of the stack. Return None if no stack is up.

    A run without `--url` goes to the first proxy of the stack, which has another port if the default one was taken.
    A run without `--model` asks a model of that proxy. Through a proxy of the stack, its records are used too
    (`--sidecar`).
    """
    folders = Folders()
    stack = running_stack(folders)
    if stack is None:
        return None
    if options.url is None and options.run is None and stack.sidecars:
        options.url = stack.sidecars[0].proxy_url
        options.model = options.model or first_model(stack) or None
    if options.sidecar is None and options.run is None:
        sidecar = stack.sidecar_at(options.url or DEFAULT_URL)
        options.sidecar = None if sidecar is None else sidecar.admin_url
    return folders


def first_proxy() -> str:
    """Return the URL of the first proxy of the stack that is up. Empty if no stack is up, or if it has no proxy."""
    stack = running_stack(Folders())
    return stack.sidecars[0].proxy_url if stack is not None and stack.sidecars else ""


def output_in_stack(folders: Folders) -> OutputFolder | None:
    """Create the folder of a new run in the state folder, print its path to stderr, and return it.

    Return None if the folder cannot be written, for example because the disk is full: the run continues without it.
    """
    try:
        folder = OutputFolder(new_run(folders))
        folder.prepare()
    except (OSError, OutputError) as error:
        print(f"the result is not stored: {reason_of(error)}", file=sys.stderr)
        return None
    print(f"the result is stored in {folder.path}", file=sys.stderr)
    return folder


def new_run(folders: Folders) -> Path:
    """Return the folder of a new run, which does not exist yet. The oldest runs are removed. Raises OSError."""
    remove_old_runs(folders.runs, KEPT_RUNS - 1)
    return folders.runs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def remove_old_runs(folder: Path, kept: int) -> None:
    """Remove the oldest runs in a folder, except `kept` of them and those that still run. Raises OSError."""
    if not folder.is_dir():
        return
    runs = sorted((run for run in folder.iterdir() if run.is_dir() and not run.is_symlink()),
                  key=lambda run: run.stat().st_mtime, reverse=True)  # fmt: skip
    for run in runs[kept:]:
        if not is_locked(run):
            shutil.rmtree(run, ignore_errors=True)


def stored_runs(folder: Path) -> list[str]:
    """Return a line for each run in a folder, the newest first: its folder, and its result or state."""
    runs = sorted((run for run in folder.iterdir() if run.is_dir()), reverse=True) if folder.is_dir() else []
    return [f"{run}  {_state(run)}" for run in runs]


def _state(run: Path) -> str:
    if is_locked(run):
        return "running"
    try:
        summary = read_summary(run)
    except OutputError:
        return "no result"
    return f"{summary.verdict} ({summary.reason}), {summary.requests} requests to {summary.model}"
