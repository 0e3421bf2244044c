"""Checks: one line for each part of a machine or a cluster, with its result.

Findings are only about faults. Checks also list the parts without a fault, and those that could not be checked. So an
empty list of findings does not leave open whether anything was checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_common.diagnosis.facts import (
    ClusterFacts,
    EndpointFacts,
    LoadedModel,
    MachineFacts,
    SidecarFacts,
    Target,
)
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity
from llmendpoint_common.diagnosis.places import host_and_port

_GIB = 2**30
_MODEL_REASONS = tuple(reason.value for reason in ModelReason)


class CheckState(StrEnum):
    """The result of a check."""

    OK = "ok"
    WRONG = "wrong"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """A part that was checked. `words` describe the observation, or the reason for which it could not be checked."""

    name: str
    state: CheckState
    words: str


def machine_checks(facts: MachineFacts, findings: Iterable[Finding]) -> tuple[Check, ...]:
    """Return the checks of a machine."""
    causes = _causes(findings)
    checks = (*_of_ollama(facts), *_of_processes(facts), _prometheus(facts), *_of_the_machine(facts))
    return tuple(_judged(name, words, of, causes, unknown=unknown) for name, words, of, unknown in checks)


def cluster_checks(facts: ClusterFacts, findings: Iterable[Finding]) -> tuple[Check, ...]:
    """Return the checks of a cluster."""
    found = list(findings)
    causes = _causes(found)
    checks = [_judged("cluster", facts.url, (Cause.CLUSTER_UNREACHABLE,), causes)]
    if facts.error:
        return tuple(checks)
    definitions = (Cause.DEFINITIONS_ABSENT, Cause.DEFINITIONS_OUTDATED)
    checks.append(_judged("definitions", "the kinds of this version are installed", definitions, causes))
    if LLMENDPOINT in facts.absent:
        return tuple(checks)
    checks.append(_operator(facts, causes))
    wrong = {finding.subject for finding in found if finding.severity is not Severity.INFO}
    if facts.operator is None or facts.operator.is_serving:
        checks += [_endpoint(endpoint, wrong) for endpoint in facts.endpoints]
    if not facts.endpoints:
        checks.append(_judged("endpoints", "the cluster has none", (Cause.ENDPOINT_NOT_FOUND,), causes))
    checks += [Check("rights", CheckState.NOT_CHECKED, words) for words in facts.unread]
    return tuple(checks)


#: A name, the observation in words, the causes of findings about it, and whether it could not be checked.
_Row = tuple[str, str, Sequence[str], bool]


def _causes(findings: Iterable[Finding]) -> set[str]:
    return {finding.cause for finding in findings if finding.severity is not Severity.INFO}


def _judged(name: str, words: str, of: Sequence[str], causes: set[str], *, unknown: bool = False) -> Check:
    if causes.intersection(of):
        return Check(name, CheckState.WRONG, "see below")
    return Check(name, CheckState.NOT_CHECKED if unknown else CheckState.OK, words)


def _of_ollama(facts: MachineFacts) -> Iterator[_Row]:
    answering = [ollama for ollama in facts.ollamas if ollama.silence is None]
    versions = ", ".join(
        f"{'simulated ' if ollama.is_simulated else ''}{ollama.version} at {host_and_port(ollama.url)}"
        for ollama in answering
    )
    of = (Cause.OLLAMA_NOT_RUNNING, Cause.OLLAMA_NOT_ANSWERING, Cause.OLLAMA_VERSION_UNSUPPORTED, Cause.OLLAMA_HUNG,
          Cause.UPSTREAM_LOOP)  # fmt: skip
    yield "Ollama", versions or "no Ollama answers", of, not answering
    loaded = [model for ollama in answering for model in ollama.loaded]
    words = f"{sum(len(ollama.models) for ollama in answering)} on the disk, {len(loaded)} in memory"
    absent = "no model is in memory" if answering else "no Ollama answers"
    yield "models", words if answering else absent, (Cause.MODEL_MISSING, *_MODEL_REASONS), not answering
    yield "memory", _memory(loaded) or absent, (Cause.PARTLY_ON_CPU,), not loaded
    contexts = ", ".join(f"{model.name} {model.context} tokens" for model in loaded if model.context)
    yield "context", contexts or absent, (Cause.CONTEXT_CUT,), not contexts
    disk = facts.disk
    words = "the folder of the models was not found" if disk is None else f"{disk.free / _GIB:.0f} GiB are free"
    yield "disk", words, (Cause.DISK_NEARLY_FULL, Cause.DISK_FULL), disk is None


def _memory(loaded: Sequence[LoadedModel]) -> str:
    if not loaded:
        return ""
    if all(model.vram >= model.size for model in loaded):
        return "all loaded models are entirely in GPU memory"
    return "models run on the CPU: no GPU was found"


def _of_processes(facts: MachineFacts) -> Iterator[_Row]:
    count = len(facts.processes)
    words = f"{count} of {count} run" if count else "no stack is up; `llmendpoint up` starts one"
    yield "processes", words, (Cause.PROCESS_CRASHED, Cause.UNIT_OUTDATED), not count
    yield "ports", "no other program has a port that is needed", (Cause.PORT_TAKEN,), False
    of = (Cause.SIDECAR_NOT_RUNNING, Cause.SIDECAR_NOT_ANSWERING, Cause.SIDECAR_NOT_READY)
    answering = [sidecar for sidecar in facts.sidecars if sidecar.status is not None]
    words = ", ".join(_sidecar(sidecar) for sidecar in answering) or "none runs; `llmendpoint up` starts one"
    # Without a fault of its own, a sidecar waits for Ollama or for its models, which a finding says.
    yield "sidecar", words, of, not all(map(_is_ready, answering)) or not answering


def _is_ready(sidecar: SidecarFacts) -> bool:
    return sidecar.status is not None and sidecar.status.ready


def _sidecar(sidecar: SidecarFacts) -> str:
    words = "is ready" if _is_ready(sidecar) else "is not ready, see below"
    return f"{sidecar.name} at {host_and_port(sidecar.url)} {words}"


def _prometheus(facts: MachineFacts) -> _Row:
    of = (
        Cause.PROMETHEUS_NOT_RUNNING,
        Cause.PROMETHEUS_WITHOUT_TARGETS,
        Cause.SIDECAR_NOT_SCRAPED,
        Cause.TARGET_DOWN,
    )
    server = facts.prometheus
    if server is None or server.silence is not None:
        return "Prometheus", "none answers; it is optional", of, True
    if not server.targets:
        return "Prometheus", "it has just started, and has not read its targets yet", of, True
    return "Prometheus", f"{_count(server.targets)} at {host_and_port(server.url)}", of, False


def _count(targets: Sequence[Target]) -> str:
    return "1 target" if len(targets) == 1 else f"{len(targets)} targets"


def _of_the_machine(facts: MachineFacts) -> Iterator[_Row]:
    limit = "unlimited" if facts.file_limit is None else str(facts.file_limit)
    yield "file limit", limit, (Cause.FILE_LIMIT_LOW,), False
    is_compared = any(server.skew is not None for server in facts.servers)
    words = "the same as that of the servers" if is_compared else "no server sent its time"
    yield "clock", words, (Cause.CLOCK_SKEW, Cause.CLOCK_JUMPED), not is_compared


def _operator(facts: ClusterFacts, causes: set[str]) -> Check:
    if facts.operator is None:
        return Check("operator", CheckState.NOT_CHECKED, "you may not read Leases")
    return _judged("operator", "it renews its Lease", (Cause.OPERATOR_NOT_RUNNING,), causes)


def _endpoint(endpoint: EndpointFacts, wrong: set[str]) -> Check:
    name = f"{endpoint.namespace}/{endpoint.name}"
    if f"{LLMENDPOINT} {name}" in wrong:
        return Check(name, CheckState.WRONG, "see below")
    ready = next((condition for condition in endpoint.conditions if condition.type == "Ready"), None)
    return Check(name, CheckState.OK, "scaled to zero" if ready is None else ready.message)
