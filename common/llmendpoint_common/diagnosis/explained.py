"""Finds the fault that explains why a server does not answer, so that the rules report only the cause."""

from __future__ import annotations

from llmendpoint_common.diagnosis.facts import MachineFacts
from llmendpoint_common.diagnosis.places import place


def is_explained(url: str, facts: MachineFacts) -> bool:
    """Return whether a crashed process or a taken port is why a server does not answer."""
    mine = place(url)
    crashed = any(process.url and place(process.url) == mine and not process.is_running for process in facts.processes)
    return crashed or (mine[0] == "localhost" and any(port.port == mine[1] for port in facts.ports))
