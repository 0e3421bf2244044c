"""Whether something else explains what a server does not do. The rules are silent about consequences."""

from __future__ import annotations

from llmendpoint_common.diagnosis.facts import MachineFacts, PrometheusFacts
from llmendpoint_common.diagnosis.places import place

#: Prometheus hands new targets to its scrapers every 5 s, and those read them every 5 s, so a server that has just been
#: started has no targets for up to 10 s (`updatert` and `DiscoveryReloadInterval` in its source).
_SECONDS_TO_TARGETS = 15.0


def is_explained(url: str, facts: MachineFacts) -> bool:
    """Return whether a crashed process or a taken port is why a server does not answer."""
    mine = place(url)
    crashed = any(process.url and place(process.url) == mine and not process.is_running for process in facts.processes)
    return crashed or (mine[0] == "localhost" and any(port.port == mine[1] for port in facts.ports))


def is_too_young(server: PrometheusFacts) -> bool:
    """Whether targets may only be missing because Prometheus was started a few seconds ago."""
    return not server.targets and server.age is not None and server.age < _SECONDS_TO_TARGETS
