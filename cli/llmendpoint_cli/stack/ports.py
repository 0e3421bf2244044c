"""Free ports for the processes of the local stack."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.units import LOCALHOST, Address

_SEARCHED_PORTS = 50
_LISTEN = "0A"


class Ports:
    """Chooses ports that are free, each of them once. What differs from the wish is reported with `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._taken: set[int] = set()
        self._reserved: set[int] = set()

    def reserve(self, ports: Iterable[int]) -> None:
        """Keep ports from being chosen as a replacement of another one, because clients know them."""
        self._reserved.update(ports)

    def free(self, wanted: Address, *, is_given: bool = False) -> Address:
        """Return `wanted` if its port is free, otherwise the same address with the next free port.

        Raises StackError if the user has chosen the port (`is_given`) and it is in use, or if no port is free.
        """
        for port in range(wanted.port, min(wanted.port + _SEARCHED_PORTS, 65536)):
            if port in self._taken or (port in self._reserved and port != wanted.port):
                continue
            if _is_free(wanted.host, port):
                self._taken.add(port)
                if port != wanted.port:
                    self._say(f"port {wanted.port} is in use{self._holder(wanted.port)}: using {port}")
                return Address(wanted.host, port)
            if is_given:
                raise StackError(f"port {port} is in use{self._holder(port)}; end that program, or choose another port")
        raise StackError(
            f"the ports from {wanted.port} to {wanted.port + _SEARCHED_PORTS - 1} are all in use; stop a process that "
            "uses one of them"
        )

    def _holder(self, port: int) -> str:
        if port in self._taken:
            return " by another program of the stack"
        name = holder_of(port)
        return f" by {name}" if name else ""


def free_port(wanted: int, say: Callable[[str], None]) -> int:
    """Return the port `wanted` if it is free, otherwise the next free port, which is reported with `say`."""
    return Ports(say).free(Address(LOCALHOST, wanted)).port


def is_taken(address: Address) -> bool:
    """Return whether a program listens on an address."""
    return not _is_free(address.host, address.port)


def holder_of(port: int) -> str:
    """Return which process listens on a port, such as `ollama (process 812)`, or an empty text if that is unknown.

    Processes of other users can be seen by root only.
    """
    return _holder_by_proc(port) if sys.platform == "linux" else _holder_by_lsof(port)


def _holder_by_proc(port: int) -> str:
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return ""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            with os.scandir(folder / "fd") as files:
                if any(os.readlink(file) in sockets for file in files):  # noqa: PTH115
                    return f"{(folder / 'comm').read_text().strip()} (process {folder.name})"
        except OSError:
            continue
    return ""


def _listening(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port, from /proc/net/tcp and tcp6 (proc_net_tcp(5))."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _holder_by_lsof(port: int) -> str:
    program = shutil.which("lsof")
    if program is None:
        return ""
    command = [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=5)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    fields = {line[0]: line[1:] for line in done.stdout.splitlines() if line}
    return f"{fields['c']} (process {fields['p']})" if fields.keys() >= {"p", "c"} else ""


def _is_free(host: str | None, port: int) -> bool:
    """Return whether a port can be bound on an address, and on loopback, where the stack itself connects."""
    hosts = {None: ("0.0.0.0", "::"), LOCALHOST: ("127.0.0.1", "::1")}.get(host, (host or "",))
    return all(_can_bind(name, port) for name in dict.fromkeys((*hosts, "127.0.0.1")))


def _can_bind(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError:
        # A machine without IPv6 cannot bind ::1, and needs not.
        return family == socket.AF_INET6 and not _has_ipv6()
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
