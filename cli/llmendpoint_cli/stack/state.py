"""State files of the local stack: what `up` started, and the processes that run now.

`stack.json` has the programs that should run, and `processes/NAME.json` a process that runs. They are replaced as a
whole, and only by the command that holds the lock of the state folder and by the supervisor. A file that cannot be read
counts as absent, because processes are also found without their files.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Container, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from llmendpoint_cli.stack.folders import NO_SPACE, Folders
from llmendpoint_common.diagnosis.places import place
from llmendpoint_common.process.files import replace_file

_STACK = "stack.json"
_PROCESSES = "processes"


class Kind(StrEnum):
    """Kinds of the programs of a stack. They determine how it is checked that a program is healthy."""

    SUPERVISOR = "supervisor"
    OLLAMA = "ollama"
    SIMULATOR = "simulator"
    SIDECAR = "sidecar"
    DASHBOARD = "dashboard"
    PROMETHEUS = "prometheus"
    TRAFFIC = "traffic"


class Phase(StrEnum):
    """Phases of a program under the supervisor."""

    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"


class Program(msgspec.Struct, frozen=True, rename="camel"):
    """A program that the supervisor keeps running.

    `environment` is added to the variables of the user, without those of our programs. `ready_url` answers with 200
    when the program is healthy, and `live_url` with any status when it has started. Both are empty if it serves
    nothing. `stop_seconds` is how long it may take to end after SIGTERM. `folder` is its working directory, or empty
    for the state folder.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    address: str = ""
    ready_url: str = ""
    live_url: str = ""
    environment: dict[str, str] = {}
    stop_seconds: float = 10.0
    folder: str = ""


class SidecarAddress(msgspec.Struct, frozen=True, rename="camel"):
    """A sidecar of the stack, by the name of its upstream. `simulated` is whether the upstream is the simulator."""

    name: str
    proxy_url: str
    admin_url: str
    upstream_url: str
    simulated: bool = False


class Stack(msgspec.Struct, frozen=True, rename="camel"):
    """What `up` started. `since` is a Unix time, and `request` has the options of `up` that were given.

    The programs are in the order in which they start. They end in reverse order.
    """

    version: str
    since: float
    request: dict[str, Any]
    sidecars: tuple[SidecarAddress, ...]
    programs: tuple[Program, ...]
    dashboard_url: str = ""
    prometheus_url: str = ""
    #: What `up -f` leaves out, as sentences.
    left_out: tuple[str, ...] = ()
    #: The first model of the file of `up -f` that requests may use, or empty.
    model: str = ""
    #: All models of the file, in its order.
    models: tuple[str, ...] = ()
    #: The models that tenants may use, by the tenant. None: all models.
    allowed_models: dict[str, tuple[str, ...] | None] = {}
    #: The models that all other tenants and, if no key is needed, all requests may use. None: all models.
    other_models: tuple[str, ...] | None = None
    #: The variables of Ollama in the environment of `up`.
    environment: dict[str, str] = {}

    def program(self, name: str) -> Program | None:
        """Return the program with a name, or None."""
        return next((program for program in self.programs if program.name == name), None)

    def without(self, names: Container[str]) -> Stack:
        """Return the stack without some of its programs, and without the addresses of those."""
        gone = {program.kind for program in self.programs if program.name in names}
        return msgspec.structs.replace(
            self,
            programs=tuple(program for program in self.programs if program.name not in names),
            dashboard_url="" if Kind.DASHBOARD in gone else self.dashboard_url,
            prometheus_url="" if Kind.PROMETHEUS in gone else self.prometheus_url,
        )

    @property
    def tenants(self) -> dict[str, str]:
        """The files with the API keys of the tenants, by the tenant, in the order of `--key`."""
        keys = self.request.get("--key")
        rows = (str(key).partition("=") for key in keys) if isinstance(keys, list) else ()
        return {tenant: path for tenant, _, path in rows}

    def is_proxy(self, url: str | None) -> bool:
        """Return whether requests to a URL go to a proxy of the stack. Without a URL, they go to its first address.

        With `metering.mode: Exporter`, the stack has no proxy, and its addresses are those of the model servers.
        """
        sidecar = self.sidecar_at(url) if url is not None else next(iter(self.sidecars), None)
        return sidecar is not None and place(sidecar.proxy_url) != place(sidecar.upstream_url)

    def sidecar_at(self, url: str) -> SidecarAddress | None:
        """Return the sidecar whose proxy a URL names by host and port, or None. Names of this machine are equal."""
        return next((sidecar for sidecar in self.sidecars if place(sidecar.proxy_url) == place(url)), None)


class ProcessRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A process of the stack: content of `processes/NAME.json`.

    `start_ticks` is the start time in clock ticks since boot, or None if the system does not tell (macOS). `since` is
    the Unix time of the start. `restarts` counts how often the program was started again since `up`. The exit code is
    that of the last process that ended: negative for a signal, None if none has ended.
    """

    name: str
    pid: int
    start_ticks: int | None
    command: tuple[str, ...]
    address: str
    since: float
    kind: Kind
    phase: Phase = Phase.RUNNING
    restarts: int = 0
    exit_code: int | None = None
    message: str = ""


def read_stack(folders: Folders | None = None) -> Stack | None:
    """Return what `up` started, or None if no stack is up. A damaged file counts as absent.

    Its processes may have ended in the meantime; `read_processes` returns their states.
    """
    for root in (folders or Folders()).places:
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode((root / _STACK).read_bytes(), type=Stack)
    return None


def write_stack(folders: Folders, stack: Stack) -> None:
    """Replace `stack.json`. Raises OSError."""
    write_file(folders, _STACK, msgspec.json.format(msgspec.json.encode(stack), indent=2) + b"\n")


def read_process(folders: Folders, name: str) -> ProcessRecord | None:
    """Return the record of a process, or None. A damaged file counts as absent."""
    return _record(folders, f"{name}.json")


def read_processes(folders: Folders) -> dict[str, ProcessRecord]:
    """Return all records that can be read, by the name of the process."""
    names: set[str] = set()
    for root in folders.places:
        with contextlib.suppress(OSError):
            names.update(path.name for path in (root / _PROCESSES).iterdir())
    records = (_record(folders, name) for name in sorted(names) if name.endswith(".json"))
    return {record.name: record for record in records if record is not None}


def write_process(folders: Folders, record: ProcessRecord) -> None:
    """Replace the record of a process. Raises OSError."""
    write_file(folders, f"{_PROCESSES}/{record.name}.json", msgspec.json.encode(record) + b"\n")


def remove_process(folders: Folders, name: str) -> None:
    """Remove the record of a process, if there is one."""
    _remove(root / _PROCESSES / f"{name}.json" for root in folders.places)


def remove_state(folders: Folders) -> None:
    """Remove `stack.json` and all records, also damaged ones and parts of files. Logs and runs stay."""
    first, *others = folders.places
    _remove(first.glob(f".{_STACK}*"))
    _remove([first / _STACK])
    _remove((first / _PROCESSES).glob("*"))
    _remove((first / _PROCESSES).glob(".*"))
    for root in others:
        # A folder of this user only, which has nothing but files of the stack.
        shutil.rmtree(root, ignore_errors=True)


def write_file(folders: Folders, name: str, content: bytes) -> None:
    """Replace a file of the state, readable by the user only. If the disk is full, the file is written in memory.

    Raises OSError if this fails too.
    """
    first, *others = folders.places
    try:
        replace_private_file(first / name, content)
    except OSError as error:
        if error.errno not in NO_SPACE or not others:
            raise
        # The old content would be read first.
        _remove([first / name])
        (others[0] / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        others[0].chmod(0o700)
        replace_private_file(others[0] / name, content)
        return
    _remove(root / name for root in others)


def replace_private_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole, readable by the user only. Raises OSError."""
    replace_file(path, content, part=path.with_name(f".{path.name}.{secrets.token_hex(4)}"), mode=0o600)


def _record(folders: Folders, file: str) -> ProcessRecord | None:
    for root in folders.places:
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeError, RecursionError):
            return msgspec.json.decode((root / _PROCESSES / file).read_bytes(), type=ProcessRecord)
    return None


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        with contextlib.suppress(OSError):
            path.unlink()
