"""Rules about a Prometheus of a machine: whether it runs, and whether it scrapes the sidecars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmendpoint_common.diagnosis.explained import is_explained
from llmendpoint_common.diagnosis.facts import MachineFacts, PrometheusFacts, SidecarFacts, Silence, SilenceKind, Target
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity
from llmendpoint_common.diagnosis.places import host_and_port, place
from llmendpoint_common.diagnosis.rules_of_processes import seconds_since_start

_SUBJECT = "Prometheus"
#: Prometheus hands new targets to its scraper every 5 s (discovery.Manager, `updatert`), and lists none before.
_DISCOVERY_SECONDS = 15.0


def prometheus_faults(facts: MachineFacts) -> Iterator[Finding]:
    """Yield the findings about Prometheus and its targets."""
    server = facts.prometheus
    if server is None:
        return
    if server.silence is not None:
        is_starting = seconds_since_start(server.url, server.silence, facts) is not None
        if server.is_expected and not is_starting and not is_explained(server.url, facts):
            yield _silent(server, server.silence, facts.up)
        return
    answering = [sidecar for sidecar in facts.sidecars if sidecar.status is not None]
    if not server.targets:
        if not _is_young(server, facts.now):
            yield _without_targets(server, answering, facts.up)
        return
    for sidecar in answering:
        target = _target_of(sidecar, server)
        if target is None:
            yield _not_scraped(sidecar, server, facts.up)
        elif target.health == "down":
            yield _down(target)


def _is_young(server: PrometheusFacts, now: float) -> bool:
    """Return whether Prometheus started so recently that it may not have read its list of targets."""
    return server.started is not None and now - server.started < _DISCOVERY_SECONDS


def _target_of(sidecar: SidecarFacts, server: PrometheusFacts) -> Target | None:
    """Return the target of a sidecar. Only ports are compared, because Prometheus may run in a container."""
    port = place(sidecar.url)[1]
    return next((target for target in server.targets if place(target.url)[1] == port), None)


def _silent(server: PrometheusFacts, silence: Silence, up: str) -> Finding:
    where = host_and_port(server.url)
    if silence.kind is SilenceKind.REFUSED:
        sentence = f"Prometheus does not run: nothing listens on {where}. The dashboard shows the last hour only."
        return Finding(Severity.WARNING, Cause.PROMETHEUS_NOT_RUNNING, _SUBJECT, sentence, "Start it.", up)
    if silence.kind is SilenceKind.FOREIGN:
        return Finding(
            Severity.ERROR,
            Cause.PORT_TAKEN,
            f"port {place(server.url)[1]}",
            f"What answers at {where} is not Prometheus: {silence.error}.",
            "Stop that program, or name the address of Prometheus with --prometheus.",
            f"sudo lsof -nP -iTCP:{place(server.url)[1]} -sTCP:LISTEN",
        )
    sentence = f"Prometheus does not answer at {where}: {silence.error}."
    command = f"llmendpoint down && {up}"
    return Finding(Severity.WARNING, Cause.PROMETHEUS_NOT_RUNNING, _SUBJECT, sentence, "Start it again.", command)


def _job(sidecars: Sequence[SidecarFacts]) -> str:
    """Return the item of `scrape_configs` for sidecars."""
    places = ", ".join(f"'{host_and_port(sidecar.url)}'" for sidecar in sidecars) or "'127.0.0.1:8001'"
    return f"{{job_name: llmendpoint, static_configs: [{{targets: [{places}]}}]}}"


def _mended(server: PrometheusFacts, sidecars: Sequence[SidecarFacts], up: str) -> tuple[str, str]:
    """Return advice and the command for a configuration without our targets."""
    if server.is_expected:
        advice = "Start the stack again, which writes the configuration of its Prometheus anew."
        return advice, f"llmendpoint down && {up}"
    return (
        f"Add this item to `scrape_configs` in its configuration, and restart Prometheus: {_job(sidecars)}",
        "sudo systemctl restart prometheus",
    )


def _without_targets(server: PrometheusFacts, sidecars: Sequence[SidecarFacts], up: str) -> Finding:
    sentence = f"Prometheus at {host_and_port(server.url)} has no targets, so it records nothing."
    mend = _mended(server, sidecars, up)
    return Finding(Severity.WARNING, Cause.PROMETHEUS_WITHOUT_TARGETS, _SUBJECT, sentence, *mend)


def _not_scraped(sidecar: SidecarFacts, server: PrometheusFacts, up: str) -> Finding:
    sentence = (
        f"Prometheus at {host_and_port(server.url)} does not scrape the metering sidecar {sidecar.name} "
        f"({host_and_port(sidecar.url)}): none of its {len(server.targets)} targets has this port."
    )
    subject = f"sidecar {sidecar.name}"
    return Finding(Severity.WARNING, Cause.SIDECAR_NOT_SCRAPED, subject, sentence, *_mended(server, [sidecar], up))


def _down(target: Target) -> Finding:
    return Finding(
        Severity.WARNING,
        Cause.TARGET_DOWN,
        target.url,
        f"Prometheus cannot scrape {target.url}: {target.error or 'it does not say why'}.",
        "Correct the scheme, the address or the path of the target. This shows what Prometheus should get:",
        f"curl {target.url}",
    )
