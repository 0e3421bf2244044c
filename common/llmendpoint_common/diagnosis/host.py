"""Observes this machine: the processes that listen on ports, disks, limits and GPUs. Linux and macOS."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from llmendpoint_common.diagnosis.facts import (
    DiskFacts,
    MachineFacts,
    PortFacts,
    PortOwner,
    Silence,
    SilenceKind,
)
from llmendpoint_common.diagnosis.places import is_local, place

_PROC = Path("/proc")
#: The state LISTEN in /proc/net/tcp (include/net/tcp_states.h).
_LISTEN = "0A"
_LSOF_SECONDS = 5.0
#: The devices of the drivers of NVIDIA and AMD. Macs with Apple silicon always have a GPU.
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd")
_MODEL_FOLDERS = ("~/.ollama/models", "/usr/share/ollama/.ollama/models", "/var/lib/ollama/models")
_OPEN_FILES = re.compile(r"^Max open files\s+(?P<soft>\S+)\s+(?P<hard>\S+)", re.MULTILINE)
_SHOWN_COMMAND = 60


@dataclass(frozen=True, slots=True)
class NeededPort:
    """A port that one of our processes needs.

    `programs` are beginnings of the names of programs that may listen on it. `option` is the option of
    `llmendpoint up` that selects another port. `is_in_use` is whether the process should run now.
    """

    port: int
    needed_by: str
    programs: tuple[str, ...]
    option: str = ""
    is_in_use: bool = True


def observe(facts: MachineFacts, needed: Sequence[NeededPort] = (), sidecar_pid: int | None = None) -> MachineFacts:
    """Add the facts about this machine to those from its servers."""
    return replace(
        facts,
        ports=tuple(_taken(facts, needed)),
        disk=models_disk() if any(ollama.is_local for ollama in facts.ollamas) else None,
        file_limit=file_limit(sidecar_pid),
        has_gpu=has_gpu(),
        is_macos=sys.platform == "darwin",
    )


def port_owner(port: int) -> PortOwner | None:
    """Return the process that listens on a TCP port, or None if none does."""
    if sys.platform != "linux":
        return _owner_by_lsof(port)
    sockets = set(_listening(port))
    return _owner_of(sockets) if sockets else None


def is_listening(session: int, port: int) -> bool | None:
    """Return whether a process of a session listens on a TCP port of this machine, or None if that is unknown."""
    if sys.platform != "linux":
        owner = _owner_by_lsof(port)
        return None if owner is None or owner.pid is None else _is_in(session, owner.pid)
    links = {f"socket:[{inode}]" for inode in _listening(port)}
    if not links:
        return None
    return any(_is_in(session, pid) and not links.isdisjoint(_files(pid)) for pid in _pids())


def file_limit(pid: int | None = None) -> int | None:
    """Return how many files the sidecar may open: the hard limit, to which it raises its own.

    `pid` is the sidecar. Without it, the limit of this process is returned, which a sidecar would inherit.
    """
    if pid is not None:
        with contextlib.suppress(OSError):
            found = _OPEN_FILES.search((_PROC / str(pid) / "limits").read_text(encoding="utf-8"))
            if found:
                return int(found["hard"]) if found["hard"].isdecimal() else None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def has_gpu() -> bool:
    """Return whether the machine has a GPU with a driver that Ollama can use."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    root = Path("/")
    return any(next(root.glob(pattern.removeprefix("/")), None) is not None for pattern in _GPU_DEVICES)


def models_disk() -> DiskFacts | None:
    """Return the file system with the models of Ollama, or None if its folder is not found."""
    for folder in (os.environ.get("OLLAMA_MODELS", ""), *_MODEL_FOLDERS):
        path = Path(folder).expanduser()
        if folder and path.is_dir():
            usage = shutil.disk_usage(path)
            return DiskFacts(str(path), usage.free, usage.total)
    return None


def _taken(facts: MachineFacts, needed: Sequence[NeededPort]) -> Iterator[PortFacts]:
    """Yield the ports on which a program listens other than the one that needs the port."""
    silent = _silences(facts)
    answering = _answering(facts)
    for want in needed:
        owner = None if want.port in answering else port_owner(want.port)
        if owner is None:
            continue
        is_foreign = silent.get(want.port) is SilenceKind.FOREIGN if owner.pid is None else not _is(owner, want)
        if is_foreign:
            yield PortFacts(want.port, want.needed_by, _shown(owner), want.option, want.is_in_use)


def _is(owner: PortOwner, want: NeededPort) -> bool:
    """Return whether a word of a command line, such as `/usr/bin/ollama` or `llmendpoint_sidecar`, is the program."""
    names = (word.rpartition("/")[2] for word in owner.command.split())
    return any(name.startswith(want.programs) for name in names)


def _silences(facts: MachineFacts) -> dict[int, SilenceKind]:
    """Return the reasons for which servers of this machine do not answer, by port."""
    return {place(url)[1]: silence.kind for url, silence in _servers(facts) if silence is not None}


def _answering(facts: MachineFacts) -> set[int]:
    """Return the ports on which the expected servers of this machine answer."""
    return {place(url)[1] for url, silence in _servers(facts) if silence is None}


def _servers(facts: MachineFacts) -> Iterator[tuple[str, Silence | None]]:
    return ((server.url, server.silence) for server in facts.servers if is_local(server.url))


def _shown(owner: PortOwner) -> PortOwner:
    if len(owner.command) <= _SHOWN_COMMAND:
        return owner
    return replace(owner, command=f"{owner.command[: _SHOWN_COMMAND - 3]}...")


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _owner_of(inodes: set[str]) -> PortOwner:
    """Return the process that has one of these sockets. It is unknown if the process belongs to another user."""
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in _PROC.iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            if any(_target(file) in links for file in (process / "fd").iterdir()):
                return PortOwner(int(process.name), _command(process))
    return PortOwner()


def _pids() -> Iterator[int]:
    return (int(process.name) for process in _PROC.iterdir() if process.name.isdecimal())


def _is_in(session: int, pid: int) -> bool:
    try:
        return os.getsid(pid) == session
    except OSError:
        return False


def _files(pid: int) -> set[str]:
    """Return the targets of the file descriptors of a process, or none if it has ended."""
    with contextlib.suppress(OSError):
        return {_target(file) for file in (_PROC / str(pid) / "fd").iterdir()}
    return set()


def _target(file: Path) -> str:
    """Return the target of a file descriptor, or an empty text if it has been closed in the meantime."""
    try:
        return str(file.readlink())
    except OSError:
        return ""


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return " ".join(word.decode(errors="replace") for word in words if word)


def _owner_by_lsof(port: int) -> PortOwner | None:
    program = shutil.which("lsof") or "/usr/sbin/lsof"
    command = [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LSOF_SECONDS)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[:1]: line[1:] for line in done.stdout.splitlines() if line}
    return PortOwner(int(fields["p"]), fields.get("c", "")) if fields.get("p", "").isdecimal() else None
