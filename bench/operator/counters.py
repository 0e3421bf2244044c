"""Requests that the API server has received, from its own counters."""

from __future__ import annotations

import re
from collections import Counter

#: The resources of the operators. The API server itself sends requests for others.
_RESOURCES = frozenset(
    {
        "llmendpoints", "loadtests", "configmaps", "serviceaccounts", "services", "statefulsets", "pods", "jobs", "roles",
        "rolebindings", "servicemonitors", "persistentvolumeclaims", "events", "networkpolicies", "poddisruptionbudgets",
        "horizontalpodautoscalers", "ingresses",
    }
)  # fmt: skip
_SERIES = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
# The benchmark and the API server itself are exempt from flow control, and nobody else has this flow schema.
_DISPATCHED = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="service-accounts".*\} (\S+)$', re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
#: Key of the number of all requests of the operator, those for Leases and the API's description included.
ALL = "all"
READS = frozenset({"GET", "LIST", "WATCH"})


def counted(metrics: str) -> Counter[str]:
    """Return the number of requests by verb and resource, such as `APPLY services`, and of all of the operator's user.

    Watches are counted when they end, and in `ALL` when they begin.
    """
    counts: Counter[str] = Counter()
    for text, value in _SERIES.findall(metrics):
        labels = dict(_LABEL.findall(text))
        if labels["resource"] in _RESOURCES:
            name = "/".join(part for part in (labels["resource"], labels["subresource"]) if part)
            failed = "" if labels["code"].startswith("2") else f" {labels['code']}"
            counts[f"{labels['verb']} {name}{failed}"] += int(float(value))
    counts[ALL] = sum(int(float(value)) for value in _DISPATCHED.findall(metrics))
    return counts


def writes(counts: Counter[str]) -> int:
    """Return the number of requests that are not reads.

    The API server writes Events too, for example about cluster IP addresses. They are not counted, as far as the number
    of all requests of the operator shows that they are not the operator's.
    """
    events = sum(number for name, number in counts.items() if name.split()[1:2] == ["events"])
    others = sum(number for name, number in counts.items() if name != ALL and not _is_read(name))
    foreign = max(0, sum(number for name, number in counts.items() if name != ALL) - counts[ALL])
    return others - min(events, foreign)


def _is_read(name: str) -> bool:
    return name.split(maxsplit=1)[0] in READS
