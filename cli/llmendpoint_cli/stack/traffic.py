"""Background traffic as a part of the stack: one load generator with the scenario Traffic for each sidecar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import msgspec

from llmendpoint_cli.stack.state import Kind, Program, SidecarAddress, Stack
from llmendpoint_cli.upstream import SIMULATED_MODEL, Upstream, find_ollama, local_models
from llmendpoint_common.contracts.loadrun.presets import Scenario


def traffic_programs(
    sidecars: Sequence[SidecarAddress], arguments: Sequence[str], model: str, say: Callable[[str], None]
) -> list[Program]:
    """Return the programs that send requests through each of the sidecars.

    `arguments` are options of `llmendpoint load`. If `model` is empty, a model of the upstream is chosen; an upstream
    without one gets no traffic, and `say` gets the reason.
    """
    programs = []
    for sidecar in sidecars:
        chosen = model or _model_of(sidecar, say)
        if chosen:
            name = "traffic" if len(sidecars) == 1 else f"traffic-{sidecar.name}"
            programs.append(_program(name, sidecar, chosen, arguments))
    return programs


def continued_traffic(earlier: Stack, stack: Stack) -> list[Program]:
    """Return the traffic of an earlier stack with the same request, sent through the proxies of a new one."""
    proxies = {sidecar.name: sidecar.proxy_url for sidecar in stack.sidecars}
    moved = {f"--url={old.proxy_url}": f"--url={proxies[old.name]}" for old in earlier.sidecars if old.name in proxies}
    return [
        msgspec.structs.replace(program, command=tuple(moved.get(word, word) for word in program.command))
        for program in earlier.programs
        if program.kind is Kind.TRAFFIC
    ]


def _program(name: str, sidecar: SidecarAddress, model: str, arguments: Sequence[str]) -> Program:
    options = (f"--scenario={Scenario.TRAFFIC}", f"--url={sidecar.proxy_url}", f"--model={model}")
    command = (sys.executable, "-m", "llmendpoint_loadjob", *options, *arguments)
    return Program(name, Kind.TRAFFIC, command, stop_seconds=12.0)


def _model_of(sidecar: SidecarAddress, say: Callable[[str], None]) -> str:
    if sidecar.simulated:
        # The one of the stack may not run yet, and has this model. Another one may have been started with other models.
        names = local_models(sidecar.upstream_url)
        return SIMULATED_MODEL if not names or SIMULATED_MODEL in names else names[0]
    found = find_ollama(sidecar.upstream_url)
    if isinstance(found, Upstream):
        return found.model
    say(f"no traffic for {sidecar.name}, because {found}")
    return ""
