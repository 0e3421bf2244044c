"""Gathers the facts about this machine: its servers, and what `llmendpoint up` has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import msgspec

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import is_running
from llmendpoint_cli.stack.logfile import tail_of
from llmendpoint_cli.stack.request import DASHBOARD_PORT, PROMETHEUS_PORT, up_command
from llmendpoint_cli.stack.service import outdated_unit
from llmendpoint_cli.stack.state import (
    Kind,
    Phase,
    ProcessRecord,
    Program,
    Stack,
    read_process,
    read_processes,
    read_stack,
)
from llmendpoint_cli.stack.upstreams import url_of_machine
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_common.diagnosis.facts import MachineFacts, ProcessFacts
from llmendpoint_common.diagnosis.gather import (
    OllamaPlace,
    Places,
    PrometheusPlace,
    SidecarPlace,
    gather,
)
from llmendpoint_common.diagnosis.host import NeededPort, observe
from llmendpoint_common.diagnosis.places import is_local, place
from llmendpoint_common.process.exit_codes import exit_text

_PROMETHEUS_URL = f"http://127.0.0.1:{PROMETHEUS_PORT}"
_SIDECAR_URL = f"http://127.0.0.1:{ADMIN_PORT}"
_CONTEXT_VARIABLE = "OLLAMA_CONTEXT_LENGTH"
#: Number of lines at the end of a log among which the last words are searched, and their maximum length.
_LAST_LINES, _LAST_WORDS = 20, 200
_OLLAMA, _OURS, _PROMETHEUS = ("ollama", "llmendpoint"), ("llmendpoint",), ("prometheus",)


class _LogLine(msgspec.Struct):
    """A line of a log in JSON."""

    message: str


async def machine_facts(options: Namespace) -> MachineFacts:
    """Return the facts about this machine.

    Servers are those of the options, otherwise those of the stack, and otherwise those at the usual ports.
    """
    folders = Folders()
    stack = await asyncio.to_thread(read_stack, folders)
    # The servers are on this machine, or named by the user, so HTTP_PROXY does not apply.
    async with aiohttp.ClientSession() as session:
        return await facts_of(session, places_of(options, stack), folders, stack)


async def facts_of(
    session: aiohttp.ClientSession, places: Places, folders: Folders, stack: Stack | None
) -> MachineFacts:
    """Return the facts about servers, about this machine, and about the programs of a stack."""
    facts = await gather(session, places)
    records = await asyncio.to_thread(read_processes, folders)
    facts = await asyncio.to_thread(observe, facts, list(_needed(places, stack)), _sidecar_pid(stack, records))
    facts = replace(facts, unit=await asyncio.to_thread(outdated_unit))
    if stack is None:
        return facts
    processes = tuple(await asyncio.to_thread(_processes, folders, stack))
    full = await asyncio.to_thread(folders.full_disk)
    up = up_command(stack.request, stack.environment)
    return replace(facts, processes=processes, up=up, state_folder=folders.given, full_disk=full)


def places_of(options: Namespace, stack: Stack | None) -> Places:
    """Return the servers to ask. A server that is neither named in the options nor part of the stack may be absent."""
    sidecars = tuple(SidecarPlace(name, url) for name, url in options.sidecar)
    if not sidecars and stack is not None:
        sidecars = tuple(SidecarPlace(one.name, one.admin_url, True, one.upstream_url) for one in stack.sidecars)
    upstreams = [sidecar.upstream for sidecar in sidecars if sidecar.upstream]
    urls = dict.fromkeys(options.ollama or upstreams or [url_of_machine(os.environ.get("OLLAMA_HOST", ""), PROXY_PORT)])
    wanted, by = wanted_context(options.context_length, stack)
    ollamas = tuple(OllamaPlace(url, tuple(options.model), wanted, by) for url in urls)
    return Places(
        ollamas, sidecars or (SidecarPlace("ollama", _SIDECAR_URL, False),), _prometheus_place(options, stack)
    )


def wanted_context(asked: int | None, stack: Stack | None) -> tuple[int | None, str]:
    """Return the context length, in tokens, that requests need, and who says so. `asked` is that of an option."""
    if asked is not None:
        return asked, "you ask"
    for program in stack.programs if stack is not None else ():
        length = program.environment.get(_CONTEXT_VARIABLE, "")
        if program.kind is Kind.OLLAMA and length.isdecimal():
            return int(length), "the stack asks"
    return None, ""


def _prometheus_place(options: Namespace, stack: Stack | None) -> PrometheusPlace | None:
    """Return the Prometheus to ask. If a stack without Prometheus is up, the usual port is not checked."""
    if options.prometheus:
        return PrometheusPlace(options.prometheus, is_expected=True)
    if stack is not None:
        return PrometheusPlace(stack.prometheus_url, is_expected=True) if stack.prometheus_url else None
    return PrometheusPlace(_PROMETHEUS_URL, is_expected=False)


def _needed(places: Places, stack: Stack | None) -> Iterator[NeededPort]:
    """Yield the ports of this machine that are needed, with the programs that may have them."""
    for ollama in places.ollamas:
        if is_local(ollama.url):
            yield NeededPort(place(ollama.url)[1], "Ollama", _OLLAMA)
    for sidecar in places.sidecars:
        if is_local(sidecar.url):
            yield NeededPort(
                place(sidecar.url)[1], "the metering sidecar", _OURS, "--metrics-listen", sidecar.is_expected
            )
    if places.prometheus is not None and places.prometheus.is_expected and is_local(places.prometheus.url):
        yield NeededPort(place(places.prometheus.url)[1], "Prometheus", _PROMETHEUS, "--prometheus-listen")
    yield from _ports_of_the_stack(stack)


def _ports_of_the_stack(stack: Stack | None) -> Iterator[NeededPort]:
    if stack is None:
        yield NeededPort(PROXY_PORT, "the metering sidecar", _OURS, "--listen", is_in_use=False)
        yield NeededPort(DASHBOARD_PORT, "the dashboard", _OURS, "--dashboard-listen", is_in_use=False)
        return
    for sidecar in stack.sidecars:
        yield NeededPort(place(sidecar.proxy_url)[1], "the metering sidecar", _OURS, "--listen")
    if stack.dashboard_url:
        yield NeededPort(place(stack.dashboard_url)[1], "the dashboard", _OURS, "--dashboard-listen")


def _sidecar_pid(stack: Stack | None, records: dict[str, ProcessRecord]) -> int | None:
    if stack is None:
        return None
    running = (record for record in records.values() if record.kind is Kind.SIDECAR and _runs(record))
    return next((record.pid for record in running), None)


def _processes(folders: Folders, stack: Stack) -> Iterator[ProcessFacts]:
    supervisors = [one for one in read_processes(folders).values() if one.kind is Kind.SUPERVISOR]
    is_supervised = any(map(_runs, supervisors))
    for program in stack.programs:
        yield _process(folders, program, read_process(folders, program.name), is_supervised=is_supervised)


def _process(folders: Folders, program: Program, record: ProcessRecord | None, *, is_supervised: bool) -> ProcessFacts:
    running = record is not None and record.phase in (Phase.RUNNING, Phase.STOPPING) and _runs(record)
    urls = {program.ready_url, program.live_url, program.address} - {""}
    facts = ProcessFacts(
        program.name,
        running,
        program.ready_url or program.live_url,
        is_supervised=is_supervised,
        ports=tuple(sorted({place(url)[1] for url in urls if is_local(url)})),
    )
    if record is None:
        return replace(facts, last_words=_last_words(folders, program.name))
    words = "" if running and not record.restarts else _why_ended(record) or _last_words(folders, program.name)
    return replace(facts, since=record.since, restarts=record.restarts, exit_code=record.exit_code, last_words=words)


def _why_ended(record: ProcessRecord) -> str:
    """Return the message of the supervisor, or an empty text if it has only the exit code."""
    code = record.exit_code
    return "" if code is not None and record.message.endswith(exit_text(code)) else record.message


def _runs(record: ProcessRecord) -> bool:
    return is_running(record.pid, record.start_ticks, record.command)


def _last_words(folders: Folders, name: str) -> str:
    """Return the last line of a log that is not empty, and only the message of one in JSON."""
    lines = tail_of(folders.logs / f"{name}.log", _LAST_LINES).splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    with contextlib.suppress(msgspec.DecodeError):
        last = msgspec.json.decode(last, type=_LogLine).message
    return last[:_LAST_WORDS]
