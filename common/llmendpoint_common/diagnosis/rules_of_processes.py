"""Rules about the processes of a machine: ports, crashes, sidecars, the limit of open files, and the clock."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from llmendpoint_common.contracts.sidecar import ModelPhase, ModelReason, ModelStatus, SidecarStatus
from llmendpoint_common.diagnosis.commands import (
    command_for,
    instead_of_foreign,
    is_named_upstream,
    restarted,
    started_again,
)
from llmendpoint_common.diagnosis.explained import is_explained
from llmendpoint_common.diagnosis.facts import (
    MachineFacts,
    OllamaFacts,
    OutdatedUnit,
    PortFacts,
    ProcessFacts,
    SidecarFacts,
    Silence,
    SilenceKind,
)
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity
from llmendpoint_common.diagnosis.places import host_and_port, place
from llmendpoint_common.diagnosis.sentences import as_sentence, full_state_folder, not_ollama
from llmendpoint_common.process.exit_codes import exit_text

#: Each connection of a client may need a second one to Ollama, so this is enough for about 2000 clients.
_FEW_FILES = 4096
_MANY_FILES = 65536
#: Restarts within this time that are reported. The supervisor keeps running, but requests fail in the meantime.
_MANY_RESTARTS = 3
_RECENTLY_SECONDS = 600.0
#: The header Date has whole seconds, and an answer takes time.
_SKEW_SECONDS = 5.0
#: A process that does not listen so soon after its start may still be starting.
_START_SECONDS = 15.0
_STEP_SECONDS = 1.0
#: Commands for a model that failed, by the reason. The message of the sidecar has the advice.
_MODEL_COMMANDS: dict[str, str] = {
    ModelReason.MODEL_NOT_FOUND: "ollama pull {name}",
    ModelReason.PULL_FAILED: "ollama pull {name}",
    ModelReason.DIGEST_MISMATCH: "ollama list",
    ModelReason.NOT_ON_GPU: "ollama ps",
    ModelReason.LOAD_FAILED: "ollama run {name} hello",
}


def process_faults(facts: MachineFacts) -> Iterator[Finding]:
    """Yield the findings about ports, processes, sidecars, limits and the clock."""
    for port in facts.ports:
        yield _port_taken(port, facts)
    if facts.processes and not any(one.is_running or one.is_supervised for one in facts.processes):
        yield _stack_ended(facts)
    else:
        for process in facts.processes:
            yield from _crashed(process, facts)
    for sidecar in facts.sidecars:
        yield from _sidecar(sidecar, facts)
    if facts.full_disk is not None:
        sentence, advice = full_state_folder(facts.full_disk)
        folder = facts.full_disk.folder
        yield Finding(Severity.ERROR, Cause.DISK_FULL, folder, sentence, advice, f"df -h {shlex.quote(folder)}")
    if facts.unit is not None:
        yield _unit(facts.unit)
    yield from _file_limit(facts)
    yield from _clock(facts)


def _port_taken(port: PortFacts, facts: MachineFacts) -> Finding:
    owner = port.owner
    if owner.pid is None:
        by, command = "by a process of another user", f"sudo lsof -nP -iTCP:{port.port} -sTCP:LISTEN"
    else:
        by, command = f"by {owner.command} (process {owner.pid})", f"kill {owner.pid}"
    other = f", or choose another port with `llmendpoint up {port.option}`" if port.option else ""
    sentence = f"Port {port.port}, which {port.needed_by} needs, is taken {by}."
    severity, advice = Severity.ERROR, f"Stop that process{other}."
    ollama = next((one for one in facts.ollamas if place(one.url) == ("localhost", port.port)), None)
    if ollama is not None:
        advice = instead_of_foreign(ollama, facts)
        if is_named_upstream(ollama, facts):
            command = f"ps -fp {owner.pid}" if owner.pid is not None else command
            if ollama.silence is not None and ollama.silence.kind is SilenceKind.FOREIGN:
                answer = as_sentence(not_ollama(host_and_port(ollama.url), ollama.silence.error))
                sentence = f"{answer} The port is taken {by}."
    if not port.is_in_use:
        severity = Severity.INFO
        advice = "If you do not stop that process, `llmendpoint up` uses the next free port."
    return Finding(severity, Cause.PORT_TAKEN, f"port {port.port}", sentence, advice, command)


def _stack_ended(facts: MachineFacts) -> Finding:
    names = ", ".join(process.name for process in facts.processes)
    return Finding(
        Severity.ERROR,
        Cause.PROCESS_CRASHED,
        "stack",
        f"The stack that `llmendpoint up` started does not run any more ({names}), for example because the machine was "
        "restarted.",
        "Start it again. To start it with the machine, use `llmendpoint up --service`.",
        facts.up,
    )


def _crashed(process: ProcessFacts, facts: MachineFacts) -> Iterator[Finding]:
    if any(port.is_in_use and port.port in process.ports for port in facts.ports):
        # It ends because another program has its port.
        return
    how = "" if process.exit_code is None else f" with {exit_text(process.exit_code)}"
    words = f" Its last words: {process.last_words}" if process.last_words else ""
    if not process.is_running:
        advice = "Its log says why." if process.is_supervised else "Start the stack again; the log says why it ended."
        command = f"llmendpoint logs {process.name}" if process.is_supervised else facts.up
        sentence = f"{process.name}, which `llmendpoint up` started, has ended{how}.{words}"
        yield Finding(Severity.ERROR, Cause.PROCESS_CRASHED, process.name, sentence, advice, command)
    elif process.restarts >= _MANY_RESTARTS and _is_recent(process, facts.now):
        sentence = f"{process.name} ends again and again{how}: it was started again {process.restarts} times.{words}"
        command = f"llmendpoint logs {process.name}"
        yield Finding(Severity.WARNING, Cause.PROCESS_CRASHED, process.name, sentence, "Its log says why.", command)


def _is_recent(process: ProcessFacts, now: float) -> bool:
    return process.since is not None and now - process.since < _RECENTLY_SECONDS


def _sidecar(sidecar: SidecarFacts, facts: MachineFacts) -> Iterator[Finding]:
    if sidecar.status is not None:
        yield from _status(sidecar, sidecar.status, facts)
    elif sidecar.silence is not None and sidecar.is_expected and not is_explained(sidecar.url, facts):
        seconds = seconds_since_start(sidecar.url, sidecar.silence, facts)
        yield _silent(sidecar, sidecar.silence, facts) if seconds is None else _starting(sidecar, seconds)


def seconds_since_start(url: str, silence: Silence, facts: MachineFacts) -> float | None:
    """Return how long the process of a silent server runs if it may still be starting, otherwise None."""
    mine = place(url)
    for process in facts.processes if silence.kind is SilenceKind.REFUSED else ():
        if process.url and place(process.url) == mine and process.is_running and process.since is not None:
            seconds = facts.now - process.since
            return seconds if seconds < _START_SECONDS else None
    return None


def _starting(sidecar: SidecarFacts, seconds: float) -> Finding:
    subject = f"sidecar {sidecar.name}"
    sentence = f"The metering sidecar {sidecar.name} was started {max(0, seconds):.0f} s ago, and does not answer yet."
    return Finding(Severity.INFO, Cause.SIDECAR_NOT_READY, subject, sentence, "Wait.", "llmendpoint status")


def _silent(sidecar: SidecarFacts, silence: Silence, facts: MachineFacts) -> Finding:
    where, subject = host_and_port(sidecar.url), f"sidecar {sidecar.name}"
    if silence.kind is SilenceKind.REFUSED:
        return Finding(
            Severity.ERROR,
            Cause.SIDECAR_NOT_RUNNING,
            subject,
            f"The metering sidecar {sidecar.name} does not run: nothing listens on {where}. Requests that Ollama "
            "answers are not metered.",
            "Start it.",
            facts.up,
        )
    if silence.kind is SilenceKind.FOREIGN:
        return Finding(
            Severity.ERROR,
            Cause.PORT_TAKEN,
            f"port {place(sidecar.url)[1]}",
            f"What answers at {where} is not a metering sidecar: {silence.error}.",
            "Stop that program, or name the admin address of the sidecar with --sidecar.",
            f"sudo lsof -nP -iTCP:{place(sidecar.url)[1]} -sTCP:LISTEN",
        )
    return Finding(
        Severity.ERROR,
        Cause.SIDECAR_NOT_ANSWERING,
        subject,
        f"The metering sidecar {sidecar.name} does not answer at {where}: {silence.error}.",
        "Start it again. Its log says more (`llmendpoint logs`).",
        f"llmendpoint down && {facts.up}",
    )


def _status(sidecar: SidecarFacts, status: SidecarStatus, facts: MachineFacts) -> Iterator[Finding]:
    """Yield the reasons for which a sidecar that answers is not ready, except that its Ollama does not answer."""
    subject = f"sidecar {sidecar.name}"
    if status.stalled is not None:
        sentence = status.stalled.message
        ollama = _upstream_of(sidecar, facts)
        advice, command = restarted(ollama, facts)
        if ollama is None or not ollama.is_simulated:
            advice += " If it happens again, check the GPU (`dmesg`, `nvidia-smi`)."
        yield Finding(Severity.ERROR, Cause.OLLAMA_HUNG, subject, sentence, advice, command)
        return
    if not status.upstream_up:
        yield from _without_upstream(sidecar, facts)
        return
    failed = [model for model in status.models if model.phase is ModelPhase.FAILED]
    for model in failed:
        yield _failed(model, sidecar.upstream)
    if not status.ready and not failed:
        yield _not_ready(sidecar, status, facts)


def _upstream_of(sidecar: SidecarFacts, facts: MachineFacts) -> OllamaFacts | None:
    """Return the Ollama behind a sidecar. If the sidecar's upstream is not known, it is the only one."""
    if sidecar.upstream:
        return next((one for one in facts.ollamas if place(one.url) == place(sidecar.upstream)), None)
    return facts.ollamas[0] if len(facts.ollamas) == 1 else None


def _without_upstream(sidecar: SidecarFacts, facts: MachineFacts) -> Iterator[Finding]:
    """Yield a finding about a sidecar without upstream, unless there is already one about its Ollama."""
    if any(ollama.silence is not None for ollama in facts.ollamas):
        return
    at = f" at {host_and_port(sidecar.upstream)}" if sidecar.upstream else ""
    if facts.ollamas:
        is_same = any(sidecar.upstream and place(ollama.url) == place(sidecar.upstream) for ollama in facts.ollamas)
        other = facts.ollamas[0].url
        yield Finding(
            Severity.ERROR,
            Cause.SIDECAR_NOT_READY,
            f"sidecar {sidecar.name}",
            f"The metering sidecar {sidecar.name} cannot reach its upstream{at}, although Ollama answers"
            f"{'' if is_same else f' at {host_and_port(other)}'}.",
            "Start the sidecar again." if is_same else "Start the sidecar with the address of Ollama.",
            started_again(facts, sidecar, None if is_same else other),
        )
        return
    yield Finding(
        Severity.ERROR,
        Cause.OLLAMA_NOT_RUNNING,
        "Ollama",
        f"Ollama{at}, behind the metering sidecar {sidecar.name}, does not answer.",
        "Start it.",
        "ollama serve",
    )


def _failed(model: ModelStatus, upstream: str) -> Finding:
    command = "llmendpoint logs"
    if model.reason in _MODEL_COMMANDS:
        command = _MODEL_COMMANDS[model.reason].format(name=model.name)
        command = command_for(upstream, command) if upstream else command
    sentence = model.message if model.name in model.message else f"{model.name}: {model.message}"
    return Finding(Severity.ERROR, model.reason, model.name, sentence, "", command)


def _not_ready(sidecar: SidecarFacts, status: SidecarStatus, facts: MachineFacts) -> Finding:
    subject = f"sidecar {sidecar.name}"
    busy = next((model for model in status.models if model.phase is not ModelPhase.READY), None)
    if busy is not None:
        step = busy.message or "is waiting to be pulled or loaded"
        sentence = f"The metering sidecar {sidecar.name} is not ready yet: {busy.name}: {step}."
        return Finding(Severity.INFO, Cause.SIDECAR_NOT_READY, subject, sentence, "Wait.", "llmendpoint status")
    if status.draining:
        sentence = f"The metering sidecar {sidecar.name} is shutting down."
        return Finding(Severity.WARNING, Cause.SIDECAR_NOT_READY, subject, sentence, "Start it.", facts.up)
    sentence = f"The metering sidecar {sidecar.name} is not ready, and does not say why."
    return Finding(Severity.ERROR, Cause.SIDECAR_NOT_READY, subject, sentence, "Its log says more.", "llmendpoint logs")


def _unit(unit: OutdatedUnit) -> Finding:
    severity = Severity.WARNING if unit.is_broken else Severity.INFO
    sentence = f"The systemd unit {unit.path} {unit.problem}."
    advice = "Write it again. It is used when systemd starts the stack the next time."
    return Finding(severity, Cause.UNIT_OUTDATED, "systemd unit", sentence, advice, unit.command)


def _file_limit(facts: MachineFacts) -> Iterator[Finding]:
    limit = facts.file_limit
    if limit is None or limit >= _FEW_FILES:
        return
    command = (
        f"sudo launchctl limit maxfiles {_MANY_FILES} unlimited && {facts.up}"
        if facts.is_macos
        else f"sudo prlimit --pid $$ --nofile={_MANY_FILES} && llmendpoint down && {facts.up}"
    )
    yield Finding(
        Severity.WARNING,
        Cause.FILE_LIMIT_LOW,
        "file limit",
        f"The metering sidecar may open only {limit} files, which is enough for about {max(1, limit // 2)} clients at "
        "the same time. It refuses the others.",
        "Raise the limit and start the stack again. For a systemd unit, set LimitNOFILE.",
        command,
    )


def _clock(facts: MachineFacts) -> Iterator[Finding]:
    skew, server = _largest_skew(facts)
    jump = _jump(facts)
    command = "sudo sntp -sS time.apple.com" if facts.is_macos else "sudo timedatectl set-ntp true"
    if abs(skew) > _SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        yield Finding(
            Severity.WARNING,
            Cause.CLOCK_SKEW,
            "clock",
            f"The clock of {server} is {abs(skew):.0f} s {direction} the clock of this machine. Times in reports and "
            "on the dashboard do not match.",
            "Synchronize the clocks of both machines.",
            command,
        )
    elif jump:
        yield Finding(
            Severity.WARNING,
            Cause.CLOCK_JUMPED,
            "clock",
            f"The clock of this machine was changed: {jump}. Prometheus rejects samples that are older than those it "
            "has, until the time has caught up.",
            "Keep the clock synchronized, which changes it slowly.",
            command,
        )


def _largest_skew(facts: MachineFacts) -> tuple[float, str]:
    """Return the largest difference of a server's clock from ours, and the server."""
    skews = [(ollama.skew, f"Ollama ({host_and_port(ollama.url)})") for ollama in facts.ollamas]
    skews += [(sidecar.skew, f"the sidecar {sidecar.name}") for sidecar in facts.sidecars]
    if facts.prometheus is not None:
        skews.append((facts.prometheus.skew, f"Prometheus ({host_and_port(facts.prometheus.url)})"))
    known = [(skew, server) for skew, server in skews if skew is not None]
    return max(known, key=lambda one: abs(one[0]), default=(0.0, ""))


def _jump(facts: MachineFacts) -> str:
    """Return the evidence that the clock was set, as a part of a sentence, or an empty text."""
    if abs(facts.clock_step) > _STEP_SECONDS:
        direction = "forward" if facts.clock_step > 0 else "back"
        return f"it moved {direction} by {abs(facts.clock_step):.0f} s during this check"
    for process in facts.processes:
        if process.since is not None and process.since - facts.now > _SKEW_SECONDS:
            return f"{process.name} was started {process.since - facts.now:.0f} s from now"
    targets = facts.prometheus.targets if facts.prometheus is not None else ()
    for target in targets:
        if target.last_scrape is not None and target.last_scrape - facts.now > _SKEW_SECONDS:
            ahead = target.last_scrape - facts.now
            return f"Prometheus scraped {host_and_port(target.url)} {ahead:.0f} s from now"
    return ""
