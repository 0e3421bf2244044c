"""Starts a stack: its files, its supervisor, and the wait until its programs answer."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import answers_itself
from llmendpoint_cli.stack.identity import MARK
from llmendpoint_cli.stack.logfile import tail_of
from llmendpoint_cli.stack.plan import Plan
from llmendpoint_cli.stack.signals import deferred, one_at_a_time, uninterrupted
from llmendpoint_cli.stack.state import (
    Kind,
    Phase,
    Program,
    Stack,
    read_process,
    replace_private_file,
    write_stack,
)
from llmendpoint_cli.stack.stop import stop_stack
from llmendpoint_cli.stack.supervisor import SUPERVISOR, supervisor_command
from llmendpoint_common.process.errors import StackError
from llmendpoint_sidecar.inputs.keys import read_keys

Say = Callable[[str], None]
#: Programs without which the stack is of no use. If one of them does not start, nothing is left running.
_NEEDED = (Kind.OLLAMA, Kind.SIMULATOR, Kind.SIDECAR)
_START_SECONDS = 40.0
_SHOWN_LINES = 12


class Started(NamedTuple):
    """A stack that was started: its supervisor, and the names of the programs that did not start."""

    supervisor: subprocess.Popen[bytes]
    failed: tuple[str, ...] = ()


def start_stack(folders: Folders, plan: Plan, say: Say) -> Started:
    """Start the programs of a plan, and wait until they answer.

    Raises StackError if a needed program does not start; then none is left running. A program that is not needed, such
    as the dashboard, is only reported, and started again by the supervisor.
    """
    _write_files(folders, plan)
    try:
        write_stack(folders, plan.stack)
    except OSError as error:
        raise StackError(f"{folders.root}: the state of the stack cannot be written: {error.strerror}") from error
    with one_at_a_time():
        return _start(folders, plan.stack, say)


def _start(folders: Folders, stack: Stack, say: Say) -> Started:
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        # An interruption between the start and the assignment would leave a supervisor that is not known.
        with deferred():
            supervisor = subprocess.Popen(  # noqa: S603 - the command is ours
                supervisor_command(folders), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, cwd=folders.root, env=_environment(folders),
            )  # fmt: skip
        failed = tuple(_wait(folders, stack, supervisor, say))
    except BaseException as error:
        # Another Ctrl-C must not leave half of the stack.
        with uninterrupted():
            if isinstance(error, KeyboardInterrupt):
                with contextlib.suppress(OSError):  # the terminal may be gone
                    say("interrupted: ending what was started")
            stop_stack(folders, _silent, seconds=5.0)
            if supervisor is not None:
                supervisor.wait()
        raise
    return Started(supervisor, failed)


def _write_files(folders: Folders, plan: Plan) -> None:
    """Write configuration files, links to API keys and the token of the dashboard."""
    try:
        # With a full disk, these folders are in memory. They are removed when a stack, or a failed start, ends.
        for folder in (folders.written, folders.configs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in plan.files.items():
            replace_private_file(folders.configs / name, text.encode())
        _link_keys(folders, plan)
        if plan.token and not folders.token.is_file():
            replace_private_file(folders.token, secrets.token_urlsafe(32).encode() + b"\n")
    except OSError as error:
        raise StackError(f"{folders.root}: a configuration file cannot be written: {error.strerror}") from error


def _link_keys(folders: Folders, plan: Plan) -> None:
    """Link the files of API keys into one folder, as the sidecar reads them. Keys are not copied."""
    for link in folders.keys.iterdir() if folders.keys.is_dir() else ():
        link.unlink()
    for tenant, path in plan.keys.items():
        if not path.is_file() or not os.access(path, os.R_OK):
            raise StackError(f"--key {tenant}={path}: the file does not exist, or you cannot read it")
        folders.keys.mkdir(mode=0o700, exist_ok=True)
        (folders.keys / tenant).symlink_to(path)
    _refuse_unusable_keys(folders.keys, plan)


def _refuse_unusable_keys(folder: Path, plan: Plan) -> None:
    """Raise StackError for a key with which no client could send requests. The sidecar only logs it."""
    if not plan.keys:
        return
    for report in read_keys([folder], pepper=b"").reports:
        if report.level >= logging.ERROR:
            raise StackError(f"--key: {report.sentence}")


def _environment(folders: Folders) -> dict[str, str]:
    environment = {**os.environ, MARK: str(folders.root)}
    if "PYTHONPATH" in environment:
        # The working directory of the programs is another one.
        paths = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths if path)
    return environment


def _wait(folders: Folders, stack: Stack, supervisor: subprocess.Popen[bytes], say: Say) -> Iterator[str]:
    """Wait until all programs answer, and yield the names of those that do not start."""
    deadline = time.monotonic() + _START_SECONDS
    waiting = {program.name: program for program in stack.programs}
    while waiting:
        if supervisor.poll() is not None:
            raise StackError(
                f"the supervisor ended with exit code {supervisor.returncode}:\n{_tail(folders, SUPERVISOR)}"
            )
        for program in list(waiting.values()):
            if _has_started(folders, program):
                del waiting[program.name]
            elif _has_failed(folders, program):
                _fail(folders, program, say, "ended")
                del waiting[program.name]
                yield program.name
        if time.monotonic() > deadline:
            for program in waiting.values():
                _fail(folders, program, say, f"did not answer within {_START_SECONDS:g} s")
                yield program.name
            return
        time.sleep(0.02)


def _has_started(folders: Folders, program: Program) -> bool:
    record = read_process(folders, program.name)
    if record is None or record.phase is not Phase.RUNNING:
        return False
    if not program.live_url:
        return True
    return answers_itself(record.pid, program.live_url)


def _has_failed(folders: Folders, program: Program) -> bool:
    record = read_process(folders, program.name)
    return record is not None and record.phase is Phase.RESTARTING


def _fail(folders: Folders, program: Program, say: Say, what: str) -> None:
    record = read_process(folders, program.name)
    reason = f": {record.message}" if record is not None and record.message else ""
    log = _tail(folders, program.name)
    sentence = f"{program.name} {what}{reason}" + (f"\n{log}" if log else "")
    if program.kind in _NEEDED:
        raise StackError(sentence)
    say(f"{sentence}\nIt is started again. `llmendpoint logs {program.name}` shows its output.")


def _tail(folders: Folders, name: str) -> str:
    return "\n".join(f"  {name} | {line}" for line in tail_of(folders.logs / f"{name}.log", _SHOWN_LINES).splitlines())


def _silent(_: str) -> None:
    """Drop a sentence."""
