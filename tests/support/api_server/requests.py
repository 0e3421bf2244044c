"""Counts of API requests, from the API server's own metric `apiserver_request_total`."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from llmendpoint_operator.cluster.kinds import TABLE, Role
from support.api_server.apiclient import Client

#: Number of requests by verb and resource. A subresource follows after a slash.
Counts: TypeAlias = Counter[tuple[str, str]]

_SERIES = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
#: The API server itself reads and writes other resources (leases, endpoints), but none of these. Our own Lease is renewed
#: all the time.
_RESOURCES = frozenset(kind.plural for kind in TABLE if kind.role is not Role.COORDINATED)


def counted(client: Client) -> Counts:
    """Return the number of requests so far for the kinds of the table.

    Watches are not counted, because they reconnect from time to time. Nor are lists of Services: the API server itself
    lists them every few minutes, to repair its tables of addresses and ports.
    """
    counts: Counts = Counter()
    for text, value in _SERIES.findall(client.request("GET", "/metrics")):
        labels = dict(_LABEL.findall(text))
        if labels["resource"] in _RESOURCES and labels["verb"] != "WATCH":
            name = "/".join(part for part in (labels["resource"], labels["subresource"]) if part)
            counts[labels["verb"], name] += int(float(value))
    del counts["LIST", "services"]
    return counts


def counted_when_quiet(client: Client, seconds: float = 2.0) -> Counts:
    """Wait until no request is sent for some seconds, and return the number of requests so far."""
    last, since = counted(client), time.monotonic()
    deadline = since + 60
    while time.monotonic() - since < seconds:
        assert time.monotonic() < deadline, "requests do not stop"
        time.sleep(0.2)
        now = counted(client)
        if now != last:
            last, since = now, time.monotonic()
    return last


def counted_during(client: Client, action: Callable[[], object], seconds: float = 2.0) -> Counts:
    """Perform an action, and return the number of requests that it causes, including its own."""
    before = counted_when_quiet(client, seconds)
    action()
    return counted_when_quiet(client, seconds) - before
