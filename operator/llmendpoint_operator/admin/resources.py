"""Metrics about the resources that this process serves, computed from the inventory when they are scraped.

Only the process that serves a namespace exposes its resources, so that no series exists twice. The text is built here,
because the samples of prometheus_client take ten times as long: a thousand endpoints have 27,000 series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.kube.owner import Manifest

Lines = Callable[[str, Manifest], Iterable[str]]

_STATUSES = ("True", "False", "Unknown")
#: Resources per piece of text. The event loop can do other work after each piece.
_BATCH = 50


class ResourceSeries:
    """Renders the metrics of all resources in namespaces that this process serves."""

    def __init__(self, inventory: Inventory, serves: Callable[[str], bool]) -> None:
        self._inventory = inventory
        self._serves = serves

    def render(self, *, openmetrics: bool) -> Iterator[bytes]:
        """Yield the families as text. It is the same in both formats."""
        yield from self._families(
            LLMENDPOINT,
            (
                ("llmendpoint_info", "LLMEndpoints; the value is 1.", _info),
                ("llmendpoint_model_info", "Models of LLMEndpoints; the value is 1.", _models),
                ("llmendpoint_condition", _condition_help("LLMEndpoints"), _conditions),
            ),
        )
        yield from self._families(
            LOADTEST,
            (
                ("llmendpoint_loadtest_info", "LoadTests; the value is 1.", _loadtest_info),
                (
                    "llmendpoint_loadtest_condition",
                    _condition_help("LoadTests"),
                    partial(_conditions, label="loadtest"),
                ),
            ),
        )

    def _families(self, kind: str, families: Sequence[tuple[str, str, Lines]]) -> Iterator[bytes]:
        """Yield the families of a kind. Each resource is decoded once; an empty piece lets other work run meanwhile."""
        keys = sorted(key for key in self._inventory.resources() if key.kind == kind and self._serves(key.namespace))
        texts = [[f"# HELP {name} {text}\n# TYPE {name} gauge\n".encode()] for name, text, _ in families]
        for begin in range(0, len(keys), _BATCH):
            found = [self._inventory.resource(key) for key in keys[begin : begin + _BATCH]]
            for (name, _, lines), text in zip(families, texts, strict=True):
                text.append("".join(line for body in found if body for line in lines(name, body)).encode())
                yield b""
        for text in texts:
            yield b"".join(text)


def _condition_help(kinds: str) -> str:
    return f"Conditions of {kinds}. The value is 1 for the status that the condition has, and 0 for the others."


def _info(name: str, body: Manifest) -> Iterator[str]:
    status = body.get("status") or {}
    yield _line(name, _who(body), {"gpu": status.get("gpu", ""), "url": status.get("url", "")})


def _models(name: str, body: Manifest) -> Iterator[str]:
    for model in body["spec"].get("models") or []:
        yield _line(name, _who(body), {"model_name": model["name"], "load": model.get("load", "")})


def _conditions(name: str, body: Manifest, label: str = "llmendpoint") -> Iterator[str]:
    who = _who(body, label)
    for condition in (body.get("status") or {}).get("conditions") or []:
        start = f'{name}{{{who},type="{_escaped(condition["type"])}",status="'
        for status in _STATUSES:
            yield f'{start}{status}"}} {int(status == condition["status"])}\n'


def _loadtest_info(name: str, body: Manifest) -> Iterator[str]:
    endpoint = (body["spec"].get("endpointRef") or {}).get("name", "")
    labels = {"llmendpoint": endpoint, "verdict": (body.get("status") or {}).get("verdict", "")}
    yield _line(name, _who(body, "loadtest"), labels)


def _who(body: Manifest, label: str = "llmendpoint") -> str:
    metadata = body["metadata"]
    return f'namespace="{metadata["namespace"]}",{label}="{metadata["name"]}"'


def _line(name: str, who: str, labels: dict[str, Any]) -> str:
    rest = "".join(f',{label}="{_escaped(str(value))}"' for label, value in labels.items())
    return f"{name}{{{who}{rest}}} 1\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
