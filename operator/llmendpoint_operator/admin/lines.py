"""Text of series in the exposition format, and the series that all kinds of resources have.

The text is built here, because the samples of prometheus_client take ten times as long: a thousand endpoints have more
than 30,000 series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from llmendpoint_operator.kube.owner import Manifest

#: Returns the lines of a family for one resource, given the name of the family and the body of the resource.
Lines: TypeAlias = Callable[[str, Manifest], Iterable[str]]

_STATUSES = ("True", "False", "Unknown")


class Family(NamedTuple):
    """A family of gauges: its name, its HELP text, and its lines for one resource."""

    name: str
    help: str
    lines: Lines


def conditions(label: str) -> Lines:
    """Return the lines of a family with all conditions. `label` is the label with the name of the resource."""

    def lines(name: str, body: Manifest) -> Iterator[str]:
        labels = who(body, label)
        for condition in status_of(body).get("conditions") or []:
            start = f'{name}{{{labels},type="{escaped(condition["type"])}",status="'
            for status in _STATUSES:
                yield f'{start}{status}"}} {int(status == condition["status"])}\n'

    return lines


def condition_help(kinds: str) -> str:
    """Return the HELP text of a family with conditions."""
    return f"Conditions of {kinds}. The value is 1 for the status that the condition has, and 0 for the others."


def status_of(body: Manifest) -> Mapping[str, Any]:
    """Return the status of a resource, which is empty until the operator has seen the resource."""
    return body.get("status") or {}


def who(body: Manifest, label: str) -> str:
    """Return the labels with the namespace and the name of a resource."""
    metadata = body["metadata"]
    return f'namespace="{metadata["namespace"]}",{label}="{metadata["name"]}"'


def line(name: str, labels: str, more: Mapping[str, Any], value: float = 1) -> str:
    """Return a sample. `labels` are labels as text, and `more` are others whose values are escaped here."""
    rest = "".join(f',{label}="{escaped(str(text))}"' for label, text in more.items())
    return f"{name}{{{labels}{rest}}} {value}\n"


def escaped(text: str) -> str:
    """Return the value of a label as the exposition format requires it."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
