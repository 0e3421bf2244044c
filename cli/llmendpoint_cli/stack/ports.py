"""Free ports for the processes of the local stack."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable

from llmendpoint_common.diagnosis.host import port_owner
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.units import LOCALHOST, Address

_SEARCHED_PORTS = 50
#: Said when a program cannot listen on a port that was free a moment ago.
PORT_TAKEN = "another program has taken one of the ports meanwhile: choosing again"


class Ports:
    """Chooses ports that are free, each of them once. `say` gets a sentence about each port that differs."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._taken: set[int] = set()
        self._reserved: set[int] = set()

    def reserve(self, ports: Iterable[int]) -> None:
        """Keep ports from being chosen as a replacement of another one, because clients know them."""
        self._reserved.update(ports)

    def free(self, wanted: Address, *, is_given: bool = False, is_further: bool = False) -> Address:
        """Return `wanted` if its port is free, otherwise the same address with the next free port.

        That the stack itself has the port is not reported for a further program of the same kind (`is_further`).
        Raises StackError if the user has chosen the port (`is_given`) and it is in use, if no port is free, or if this
        machine cannot listen on the address.
        """
        if is_given and wanted.port in self._taken:
            raise StackError(f"port {wanted.port} is in use by another program of the stack; choose another port")
        for port in range(wanted.port, min(wanted.port + _SEARCHED_PORTS, 65536)):
            if port in self._taken or (port in self._reserved and port != wanted.port):
                continue
            if _is_free(wanted.host, port):
                is_expected = port == wanted.port or (is_further and wanted.port in self._taken)
                self._taken.add(port)
                if not is_expected:
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
    """Return whether a program listens on an address. Raises StackError if no program can."""
    return not _is_free(address.host, address.port)


def holder_of(port: int) -> str:
    """Return which process listens on a port, such as `ollama (process 812)`, or an empty text if that is unknown.

    Processes of other users can be seen by root only.
    """
    owner = port_owner(port)
    if owner is None or owner.pid is None or not owner.command:
        return ""
    return f"{owner.command.split()[0].rpartition('/')[2]} (process {owner.pid})"


def _is_free(host: str | None, port: int) -> bool:
    """Return whether a port can be bound on an address, and on loopback, to which the stack itself connects."""
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
    except OSError as error:
        # A machine without IPv6 cannot bind ::1, and does not need it.
        if family == socket.AF_INET6 and not _has_ipv6():
            return True
        if error.errno == errno.EADDRINUSE:
            return False
        reason = reason_of(error)
        if isinstance(error, socket.gaierror):
            reason = f"the name {host} is not known ({reason})"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = f"{host} is not an address of this machine"
        raise StackError(f"cannot listen on {Address(host, port)}: {reason}") from error
    return True


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
