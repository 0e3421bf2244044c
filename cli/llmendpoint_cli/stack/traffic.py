"""Background traffic as a part of the stack: one load generator with the scenario Traffic for each sidecar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from llmendpoint_cli.stack.state import Kind, Program, SidecarAddress
from llmendpoint_cli.upstream import Upstream, find_ollama
from llmendpoint_common.contracts.loadrun.presets import Scenario

SIMULATED_MODEL = "simulated:latest"


def traffic_programs(
    sidecars: Sequence[SidecarAddress], arguments: Sequence[str], model: str, say: Callable[[str], None]
) -> list[Program]:
    """Return the programs that send requests through each of the sidecars.

    `arguments` are options of `llmendpoint load`. If `model` is empty, a model of the upstream is chosen; an upstream
    without one gets no traffic, and `say` is told why.
    """
    programs = []
    for sidecar in sidecars:
        chosen = model or _model_of(sidecar, say)
        if chosen:
            name = "traffic" if len(sidecars) == 1 else f"traffic-{sidecar.name}"
            programs.append(_program(name, sidecar, chosen, arguments))
    return programs


def _program(name: str, sidecar: SidecarAddress, model: str, arguments: Sequence[str]) -> Program:
    options = (f"--scenario={Scenario.TRAFFIC}", f"--url={sidecar.proxy_url}", f"--model={model}")
    command = (sys.executable, "-m", "llmendpoint_loadjob", *options, *arguments)
    return Program(name, Kind.TRAFFIC, command, stop_seconds=12.0)


def _model_of(sidecar: SidecarAddress, say: Callable[[str], None]) -> str:
    if sidecar.simulated:
        return SIMULATED_MODEL
    found = find_ollama(sidecar.upstream_url)
    if isinstance(found, Upstream):
        return found.model
    say(f"no traffic for {sidecar.name}, because {found}")
    return ""
