"""The rules, which turn the facts about a machine or a cluster into findings. They have no side effects.

Each fault has one finding, that of its cause. Consequences of another fault are not reported: if Ollama does not run,
the sidecar is not ready, and if the sidecar does not run, Prometheus cannot scrape it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from llmendpoint_common.diagnosis.commands import in_state_folder
from llmendpoint_common.diagnosis.facts import ClusterFacts, MachineFacts
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_common.diagnosis.rules_of_clusters import cluster_faults
from llmendpoint_common.diagnosis.rules_of_ollama import ollama_faults
from llmendpoint_common.diagnosis.rules_of_processes import process_faults
from llmendpoint_common.diagnosis.rules_of_prometheus import prometheus_faults

_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def machine_findings(facts: MachineFacts) -> tuple[Finding, ...]:
    """Return the findings about a machine, errors first."""
    found = _in_order([*process_faults(facts), *ollama_faults(facts), *prometheus_faults(facts)])
    if not facts.state_folder:
        return found
    return tuple(
        replace(
            finding,
            advice=in_state_folder(finding.advice, facts.state_folder),
            command=in_state_folder(finding.command, facts.state_folder),
        )
        for finding in found
    )


def cluster_findings(facts: ClusterFacts) -> tuple[Finding, ...]:
    """Return the findings about a cluster, errors first."""
    return _in_order(cluster_faults(facts))


def _in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    unique = {finding.key: finding for finding in found}
    return tuple(sorted(unique.values(), key=lambda finding: _ORDER.index(finding.severity)))
