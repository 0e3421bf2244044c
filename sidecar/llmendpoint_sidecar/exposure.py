"""Log lines that say who can reach the sidecar, and what they can do there."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig
from llmendpoint_common.process.sockets import are_loopback, names_of, port_of
from llmendpoint_sidecar.settings import Settings

log = logging.getLogger(__name__)


def log_exposure(
    settings: Settings, config: SidecarConfig, sockets: Sequence[socket.socket], admin_sockets: Sequence[socket.socket]
) -> None:
    """Log who can reach the listening sockets of proxy and admin port. An exporter has no sockets of a proxy.

    It is a warning if everyone who can reach this machine can manage its models.
    """
    if sockets:
        _log_proxy(settings, sockets, manages=config.model_management is ModelManagement.ALLOWED)
    log.info("%s can read metrics, the status and records of requests, without a key", _who(admin_sockets))


def _log_proxy(settings: Settings, sockets: Sequence[socket.socket], *, manages: bool) -> None:
    what = "use models, and pull, push, create, copy and delete them" if manages else "use models"
    if settings.keys:
        log.info("%s can %s, with an API key", _who(sockets), what)
    elif manages and not are_loopback(sockets):
        log.warning(
            "%s can %s, without an API key; --keys, --listen localhost:%d or modelManagement in --config restrict this",
            _who(sockets), what, port_of(sockets),
        )  # fmt: skip
    else:
        log.info("%s can %s, without an API key", _who(sockets), what)


def _who(sockets: Sequence[socket.socket]) -> str:
    if are_loopback(sockets):
        return "programs on this machine"
    is_wildcard = any(ipaddress.ip_address(sock.getsockname()[0]).is_unspecified for sock in sockets)
    return f"everyone who can reach {f'port {port_of(sockets)} of this machine' if is_wildcard else names_of(sockets)}"
