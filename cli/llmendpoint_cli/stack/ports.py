"""Free ports for the processes of the local stack."""

from __future__ import annotations

import socket
from collections.abc import Callable

from llmendpoint_common.process.errors import StackError

_SEARCHED_PORTS = 50


def free_port(wanted: int, say: Callable[[str], None]) -> int:
    """Return the port `wanted` if it is free, otherwise the next free port, which is reported with `say`."""
    for port in range(wanted, wanted + _SEARCHED_PORTS):
        if _is_free(port):
            if port != wanted:
                say(f"port {wanted} is in use: using {port}")
            return port
    raise StackError(
        f"the ports from {wanted} to {wanted + _SEARCHED_PORTS - 1} are all in use; stop a process that uses one of "
        "them"
    )


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError:
            if family == socket.AF_INET:
                return False
    return True
