"""Rules about Ollama: whether it runs, its version, its models, and where they are in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.diagnosis.commands import (
    command_for,
    if_elsewhere,
    instead_of_foreign,
    restarted,
    with_context,
    with_model,
    with_upstream,
)
from llmendpoint_common.diagnosis.explained import is_explained
from llmendpoint_common.diagnosis.facts import LoadedModel, MachineFacts, OllamaFacts, Silence, SilenceKind
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity
from llmendpoint_common.diagnosis.places import host_and_port, place
from llmendpoint_common.diagnosis.sentences import as_sentence, leads_back, not_ollama, partly_on_cpu

#: Versions with which the metering is tested, as (major, minor, patch). Each patch of the last minor version counts.
OLDEST_VERSION = (0, 17, 4)
NEWEST_VERSION = (0, 33)
SUPPORTED_VERSIONS = "0.17.4 to 0.33"

_GIB = 2**30
_LITTLE_DISK = 5 * _GIB
_VERY_LITTLE_DISK = _GIB
#: Contexts are rounded down to a multiple of this number of tokens.
_CONTEXT_STEP = 1024
_ANY_MODEL = "llama3.2:1b"


def ollama_faults(facts: MachineFacts) -> Iterator[Finding]:
    """Yield the findings about each Ollama, and about the disk of its models."""
    for ollama in facts.ollamas:
        for finding in _faults_of(ollama, facts):
            # Findings with the same subject are the same fault, and two servers can have the same fault.
            is_alone = len(facts.ollamas) == 1 or finding.cause == Cause.PORT_TAKEN
            subject = finding.subject if is_alone else f"{finding.subject} at {host_and_port(ollama.url)}"
            yield replace(finding, subject=subject)
    yield from _disk(facts)


def _faults_of(ollama: OllamaFacts, facts: MachineFacts) -> Iterator[Finding]:
    if ollama.silence is not None:
        if not is_explained(ollama.url, facts):
            yield _silent(ollama, ollama.silence, facts)
        return
    yield from _version(ollama)
    yield from _missing(ollama, facts)
    for model in ollama.loaded:
        yield from _memory(model, ollama, facts)
        yield from _context(model, ollama, facts)


def _silent(ollama: OllamaFacts, silence: Silence, facts: MachineFacts) -> Finding:
    where = host_and_port(ollama.url)
    if silence.kind is SilenceKind.REFUSED and ollama.is_local:
        return Finding(
            Severity.ERROR,
            Cause.OLLAMA_NOT_RUNNING,
            "Ollama",
            f"Ollama does not run: nothing listens on {where}.",
            "Start it. If the command is not found, install it from https://ollama.com/download. "
            f"{if_elsewhere(ollama, facts)}",
            command_for(ollama.url, "ollama serve"),
        )
    if silence.kind is SilenceKind.TIMEOUT:
        return Finding(
            Severity.ERROR,
            Cause.OLLAMA_NOT_ANSWERING,
            "Ollama",
            f"Ollama accepts connections at {where}, but does not answer: {silence.error}.",
            *restarted(ollama, facts),
        )
    if silence.kind is SilenceKind.FOREIGN:
        return Finding(
            Severity.ERROR,
            Cause.PORT_TAKEN,
            f"port {place(ollama.url)[1]}",
            as_sentence(not_ollama(where, silence.error)),
            instead_of_foreign(ollama, facts),
            f"sudo lsof -nP -iTCP:{place(ollama.url)[1]} -sTCP:LISTEN"
            if ollama.is_local
            else f"curl {ollama.url}/api/version",
        )
    if silence.kind is SilenceKind.LOOP:
        return Finding(
            Severity.ERROR,
            Cause.UPSTREAM_LOOP,
            "Ollama",
            as_sentence(leads_back(where)),
            with_upstream(ollama, facts),
            f"curl {ollama.url}/api/version",
        )
    return Finding(
        Severity.ERROR,
        Cause.OLLAMA_NOT_RUNNING,
        "Ollama",
        f"Ollama at {where} cannot be reached: {silence.error}.",
        "Start it on that machine, and let it listen on an address that others can reach (OLLAMA_HOST). Check the "
        "network.",
        f"curl {ollama.url}/api/version",
    )


def _version(ollama: OllamaFacts) -> Iterator[Finding]:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", ollama.version)
    # A build without a version, such as one from the source, has 0.0.0.
    if match is None or ollama.is_simulated or match[0] == "0.0.0":
        return
    version = tuple(int(part) for part in match.groups())
    if version < OLDEST_VERSION:
        yield Finding(
            Severity.ERROR,
            Cause.OLLAMA_VERSION_UNSUPPORTED,
            "Ollama",
            f"Ollama {ollama.version} is too old: versions {SUPPORTED_VERSIONS} are supported. Token counts and "
            "timings may be missing.",
            "Install a newer version, and restart Ollama.",
            "curl -fsSL https://ollama.com/install.sh | sh",
        )
    elif version[:2] > NEWEST_VERSION:
        yield Finding(
            Severity.WARNING,
            Cause.OLLAMA_VERSION_UNSUPPORTED,
            "Ollama",
            f"Ollama {ollama.version} is newer than the versions that are supported ({SUPPORTED_VERSIONS}). What has "
            "changed since may not be metered.",
            "Upgrade llmendpoint, or install a supported version of Ollama.",
            f"curl -fsSL https://ollama.com/install.sh | OLLAMA_VERSION={NEWEST_VERSION[0]}.{NEWEST_VERSION[1]}.0 sh",
        )


def _missing(ollama: OllamaFacts, facts: MachineFacts) -> Iterator[Finding]:
    present = {model_key(model.name) for model in ollama.models}
    # The model agent of a sidecar reports its models itself, with what keeps them from being pulled.
    reported = {
        model_key(model.name) for sidecar in facts.sidecars if sidecar.status for model in sidecar.status.models
    }
    wanted = [name for name in ollama.wanted_models if model_key(name) not in present | reported]
    for name in wanted:
        yield _model_missing(name, f"Ollama at {host_and_port(ollama.url)} does not have the model {name}.", ollama)
    if not ollama.models and not ollama.wanted_models and not reported:
        yield _model_missing(_ANY_MODEL, f"Ollama at {host_and_port(ollama.url)} does not have a model.", ollama)


def _model_missing(name: str, sentence: str, ollama: OllamaFacts) -> Finding:
    advice, command = with_model(ollama, name)
    if name == _ANY_MODEL and not (ollama.models or ollama.is_simulated):
        advice = f"Pull one, for example {name}."
    return Finding(Severity.ERROR, Cause.MODEL_MISSING, name, sentence, advice, command)


def _memory(model: LoadedModel, ollama: OllamaFacts, facts: MachineFacts) -> Iterator[Finding]:
    """Yield a finding if a part of a model runs on the CPU, with the reason."""
    if model.vram >= model.size or (model.vram == 0 and not (facts.has_gpu and ollama.is_local)):
        return
    why, advice, command = _why_on_cpu(model, ollama, facts)
    sentence = f"{partly_on_cpu(model.name, model.vram, model.size)} {why}"
    yield Finding(Severity.WARNING, Cause.PARTLY_ON_CPU, model.name, sentence, advice, command)


def _why_on_cpu(model: LoadedModel, ollama: OllamaFacts, facts: MachineFacts) -> tuple[str, str, str]:
    """Return the cause, advice and a command."""
    if model.gpu_layers is not None:
        why = f"Its parameter num_gpu puts only {model.gpu_layers} of its layers on the GPU."
        show = command_for(ollama.url, f"ollama show --modelfile {model.name}")
        return why, "Create the model again without this parameter.", show
    others = sorted((other for other in ollama.loaded if other.name != model.name and other.vram), key=_by_vram)
    if model.vram == 0 and not others:
        why = "Ollama does not use the GPU of this machine."
        advice = "Check the driver (`nvidia-smi` or `rocm-smi`) and what Ollama says about GPUs in its log."
        log = "grep -i gpu ~/.ollama/logs/server.log" if facts.is_macos else "journalctl -u ollama | grep -i gpu"
        return why, advice, log
    if others and model.vram + sum(other.vram for other in others) >= model.size:
        names = ", ".join(other.name for other in others)
        why = f"Other models are in the memory of the GPU: {names}."
        return why, "Unload them, and load this model again.", command_for(ollama.url, f"ollama stop {others[-1].name}")
    weights = next((one.size for one in ollama.models if model_key(one.name) == model_key(model.name)), 0)
    if model.context and weights and weights <= model.vram:
        fitting = _fitting_context(model, model.context, weights)
        why = f"Its weights fit, but not with a context of {model.context} tokens."
        return why, *with_context(ollama, fitting, facts)
    why = "It is larger than the memory of the GPU that is free."
    return (
        why,
        "Use a smaller model, or one with a stronger quantization.",
        command_for(ollama.url, f"ollama show {model.name}"),
    )


def _by_vram(model: LoadedModel) -> int:
    return model.vram


def _fitting_context(model: LoadedModel, context: int, weights: int) -> int:
    """Return how many tokens of context fit beside the weights. Their memory grows in proportion to their number."""
    per_token = max(1.0, (model.size - weights) / context)
    fitting = int((model.vram - weights) / per_token)
    return max(_CONTEXT_STEP, fitting // _CONTEXT_STEP * _CONTEXT_STEP)


def _context(model: LoadedModel, ollama: OllamaFacts, facts: MachineFacts) -> Iterator[Finding]:
    """Yield a finding if the context is shorter than wanted. Ollama cuts longer prompts without an error."""
    wanted = model.wanted_context
    if wanted is None or not model.context or model.context >= wanted:
        return
    sentence = (
        f"{model.name} has a context of {model.context} tokens, but {model.wanted_by} for {wanted}. Ollama cuts off "
        "the beginning of longer prompts without an error."
    )
    if model.longest_context is not None and model.longest_context < wanted:
        advice = (
            f"The model was trained for {model.longest_context} tokens at most. Use another model, or ask for less."
        )
        command = command_for(ollama.url, f"ollama show {model.name}")
    else:
        advice, command = with_context(ollama, wanted, facts)
        advice += " Or set `num_ctx` in the options of the requests."
    yield Finding(Severity.WARNING, Cause.CONTEXT_CUT, model.name, sentence, advice, command)


def _disk(facts: MachineFacts) -> Iterator[Finding]:
    disk = facts.disk
    if disk is None or disk.free >= _LITTLE_DISK:
        return
    loaded = {model_key(model.name) for ollama in facts.ollamas for model in ollama.loaded}
    idle = [
        (model.size, model.name, ollama.url)
        for ollama in facts.ollamas
        for model in ollama.models
        if ollama.is_local and model_key(model.name) not in loaded
    ]
    advice, command = "Free space on it.", f"du -sh {disk.path}"
    if idle:
        _, name, url = max(idle)
        advice = f"Delete a model that is not needed. {name} is the largest that is not in memory."
        command = command_for(url, f"ollama rm {name}")
    yield Finding(
        Severity.ERROR if disk.free < _VERY_LITTLE_DISK else Severity.WARNING,
        Cause.DISK_NEARLY_FULL,
        disk.path,
        f"The disk with the models is nearly full: {disk.free / _GIB:.1f} GiB of {disk.total / _GIB:.0f} GiB are free "
        f"at {disk.path}. Pulls of models fail.",
        advice,
        command,
    )
