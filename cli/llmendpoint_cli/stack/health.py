"""Checks whether the programs of the stack are healthy. All checks run at the same time, within about two seconds."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, NamedTuple

from llmendpoint_cli.direct import open_url
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import is_running
from llmendpoint_cli.stack.request import up_command
from llmendpoint_cli.stack.state import Kind, Phase, ProcessRecord, Program, Stack, read_process, read_stack
from llmendpoint_cli.stack.supervisor import SUPERVISOR
from llmendpoint_common.diagnosis.host import is_listening
from llmendpoint_common.diagnosis.places import host_and_port, place
from llmendpoint_common.diagnosis.sentences import wrong_upstream
from llmendpoint_common.process.folder_lock import is_locked

_PROBE_SECONDS = 5.0
_VERSION = "/api/version"


class Health(NamedTuple):
    """A row of `status`. `since` is a Unix time, or None if nothing runs. `message` is empty if all is well."""

    name: str
    healthy: bool
    state: str
    address: str
    pid: int | None
    since: float | None
    restarts: int
    message: str


def health_of(folders: Folders, stack: Stack) -> list[Health]:
    """Return the state of the supervisor and of each program, in the order in which they start."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        programs = pool.map(lambda program: _program(folders, program), stack.programs)
        return [_supervisor(folders, stack), *programs]


def supervisor_runs(folders: Folders) -> bool:
    """Return whether a supervisor runs. It holds a lock, so this does not depend on state files."""
    return is_locked(folders.processes)


def running_stack(folders: Folders) -> Stack | None:
    """Return the stack that is up. None if no supervisor runs, or if the file of the stack cannot be read."""
    return read_stack(folders) if supervisor_runs(folders) else None


def wait_for_stack(folders: Folders, seconds: float = 6.0) -> Stack | None:
    """Return the stack of a supervisor that runs. It writes a damaged file again within a few seconds."""
    deadline = time.monotonic() + seconds
    while True:
        stack = read_stack(folders)
        if stack is not None or time.monotonic() > deadline or not supervisor_runs(folders):
            return stack
        time.sleep(0.1)


def answers(url: str, seconds: float = _PROBE_SECONDS) -> bool:
    """Return whether a server answers at a URL, with any status."""
    return probe(url, seconds) is not None


def answers_itself(pid: int, url: str) -> bool:
    """Return whether a server answers at a URL, and the process `pid`, or a child of it, is that server.

    Another program may have taken the port before the process did. The process has to lead its own session. If the
    system does not tell who listens on the port, any server counts.
    """
    return answers(url, 1.0) and _is_listening(pid, url)


def is_ready_itself(pid: int, url: str) -> bool:
    """Return whether a server answers at a URL with success, and is that of the process, as for `answers_itself`."""
    answer = probe(url, 1.0)
    return answer is not None and answer[0] < HTTPStatus.BAD_REQUEST and _is_listening(pid, url)


def is_silent(url: str, seconds: float) -> bool:
    """Return whether a server accepts a connection and does not answer within `seconds`."""
    try:
        with open_url(url, seconds):
            return False
    except (OSError, ValueError) as error:
        return isinstance(getattr(error, "reason", error), TimeoutError)


def probe(url: str, seconds: float = _PROBE_SECONDS) -> tuple[int, str] | None:
    """Return status and body of a response, or None if nothing answers."""
    try:
        with open_url(url, seconds, accepts_errors=True) as response:
            return response.status, response.read(65536).decode(errors="replace")
    except (OSError, ValueError):
        return None


def ollama_version(url: str) -> str:
    """Return the version of the Ollama that answers at a URL, or an empty text."""
    answer = probe(url + _VERSION)
    return "" if answer is None else _version(*answer)


def foreign_answer(url: str) -> str:
    """Return a part of a sentence about what answers at a URL if it is not Ollama, otherwise an empty text."""
    answer = probe(url + _VERSION)
    if answer is None or _version(*answer):
        return ""
    return wrong_upstream(host_and_port(url), _VERSION, answer[0])


def _version(status: int, body: str) -> str:
    version = as_json(body).get("version")
    return version if status == HTTPStatus.OK and isinstance(version, str) else ""


def as_json(body: str) -> dict[str, Any]:
    """Return a JSON object, or an empty one if the text is not a JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_listening(pid: int, url: str) -> bool:
    return is_listening(pid, place(url)[1]) is not False


def _supervisor(folders: Folders, stack: Stack) -> Health:
    record = read_process(folders, SUPERVISOR)
    if not supervisor_runs(folders):
        # A supervisor that was asked to end, but not by `down`, has left its record.
        was_asked = record is not None and record.phase is Phase.STOPPING
        how = "it was asked to end" if was_asked else "it was killed"
        message = f"{how}; `{up_command(stack.request, stack.environment)}` starts the stack again"
        return Health(SUPERVISOR, False, "dead", "", None, None, 0, message)
    if record is None:
        return Health(SUPERVISOR, True, "running", "", None, None, 0, "")
    stopping = record.phase is Phase.STOPPING
    return Health(SUPERVISOR, not stopping, str(record.phase), "", record.pid, record.since, 0,
                  "llmendpoint down is ending the stack" if stopping else "")  # fmt: skip


def _program(folders: Folders, program: Program) -> Health:
    record = read_process(folders, program.name)
    if record is None or not is_running(record.pid, record.start_ticks, record.command):
        return _not_running(program, record)
    message = _problem(program)
    state = "healthy" if not message else "unhealthy"
    return Health(program.name, not message, state, program.address, record.pid, record.since, record.restarts, message)


def _not_running(program: Program, record: ProcessRecord | None) -> Health:
    state, message, restarts = "dead", f"it does not run; llmendpoint logs {program.name}", 0
    if record is not None:
        restarts = record.restarts
        if record.phase is Phase.RESTARTING:
            state, message = "restarting", f"{record.message}; llmendpoint logs {program.name}"
    return Health(program.name, False, state, program.address, None, None, restarts, message)


def _problem(program: Program) -> str:
    """Return the problem of a running program, or an empty string."""
    if not program.ready_url:
        return ""
    answer = probe(program.ready_url)
    if answer is None:
        return f"nothing answers at {program.ready_url}"
    status, body = answer
    if status < 400:
        return ""
    if program.kind is Kind.SIDECAR:
        reason = body.strip().removeprefix("not ready: ").partition("\n")[0]
        return reason or f"HTTP {status}"
    return f"{program.ready_url} answers with HTTP {status}"
