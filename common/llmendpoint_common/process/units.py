"""Parsers for durations, shares, numbers and addresses in the notation of flags and fields, and a format for durations.

A parser raises ValueError with a sentence that quotes the text and shows the valid form.
"""

from __future__ import annotations

import ipaddress
import math
import re
from typing import NamedTuple

#: Host of an address that means the loopback interface: 127.0.0.1 and, if the machine has IPv6, ::1.
LOCALHOST = "localhost"
#: Pattern of a duration in the CRD schemas: `250ms`, `15s`, `1h30m`.
DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|h|m|s)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")


class Address(NamedTuple):
    """Host and port that a server listens on. If the host is None, the server listens on every interface.

    With the host `localhost`, it listens on the loopback interface, with IPv4 and IPv6.
    """

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect. A host name other than `localhost` counts as reachable."""
        if self.host == LOCALHOST:
            return True
        try:
            return self.host is not None and ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `250ms`, `15s`, `1h30m` or `0`."""
    if text == "0":
        return 0.0
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write it like 250ms, 15s or 1h30m")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Return a duration in seconds as text with three significant digits: `212ms`, `1.43s`, `2m05s`."""
    if not seconds:
        return "0s"
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def parse_share(text: str) -> float:
    """Return the fraction, 0 to 1, of a share such as `1%` or `99.5%`."""
    match = _SHARE.fullmatch(text)
    if not match or float(match[1]) > 100:
        raise ValueError(f"{text!r} is not a share; write it like 1% or 99.5%")
    return float(match[1]) / 100


def parse_address(text: str) -> Address:
    """Parse an address such as `:11435`, `localhost:11435`, `127.0.0.1:11435` or `[::1]:11435`."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; write it like :11435 or 127.0.0.1:11435")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} has an IPv6 address without brackets; write it like [::1]:{port}")
    return Address(host.strip("[]") or None, int(port))


def parse_integer(text: str) -> int:
    """Return a whole number, which may be negative."""
    if not text.removeprefix("-").isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def parse_number(text: str) -> float:
    """Return a finite number such as `0.7`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number; write it like 0.7")
    return number


def parse_positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)
