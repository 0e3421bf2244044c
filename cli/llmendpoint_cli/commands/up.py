"""`llmendpoint up`: starts the metering proxy, metrics, the dashboard and Prometheus on one machine."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from llmendpoint_cli.manifest.endpoint import Endpoint, read_endpoint
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.foreground import stay
from llmendpoint_cli.stack.health import health_of, supervisor_runs, wait_for_stack
from llmendpoint_cli.stack.lock import exclusive
from llmendpoint_cli.stack.plan import Plan, make_plan
from llmendpoint_cli.stack.ports import PORT_TAKEN, is_taken
from llmendpoint_cli.stack.request import Request, differences, parse_key, parse_upstream
from llmendpoint_cli.stack.service import write_service
from llmendpoint_cli.stack.signals import interrupt_at_hangup, uninterrupted
from llmendpoint_cli.stack.start import Started, start_stack
from llmendpoint_cli.stack.state import Kind, Stack, read_stack
from llmendpoint_cli.stack.stop import find_processes, stop_stack
from llmendpoint_cli.stack.summary import exposure, where
from llmendpoint_cli.stack.traffic import continued_traffic
from llmendpoint_cli.stack.upstreams import choose_upstreams
from llmendpoint_common.diagnosis.sentences import full_state_folder
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import ManifestError, StackError
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.units import Address, parse_address
from llmendpoint_loadjob.run_values import parse_rate

ENVIRONMENT_PREFIX = "LLMENDPOINT_UP_"
Say = Callable[[str], None]
_ATTEMPTS = 3

_DESCRIPTION = """Start a metered Ollama endpoint on this machine: the metering proxy, its metrics, the dashboard and,
if it is installed, Prometheus. The programs keep running when the terminal closes, and are started again if they end.
By default, they listen on loopback."""
_NOTES = """model server:
  Without --upstream, it is the Ollama of this machine. If none answers and Ollama is installed, it is started, and
  otherwise the simulator takes its place, whose responses are made up.

examples:
  llmendpoint up
      start everything; then `ollama run llama3.2:3b` with OLLAMA_HOST=127.0.0.1:11435 is metered
  llmendpoint up -f llmendpoint.yaml
      use the spec of an LLMEndpoint: models are pulled and loaded, limits and timeouts apply. Fields without a meaning
      on one machine are named, each with the reason.
  llmendpoint up --upstream gpu1=http://10.0.0.5:11434 --upstream gpu2=http://10.0.0.6:11434
      one proxy for each Ollama, on ports 11435 and 11436, and one dashboard over all
  llmendpoint up --listen :11435 --key team-a=keys/team-a.txt
      also serve other machines; each client needs an API key
  llmendpoint up --service
      write a unit of systemd that starts it when you log in

then:
  llmendpoint status    what runs, and whether it is healthy
  llmendpoint logs -f   the output of all programs
  llmendpoint load      send a load test through the proxy
  llmendpoint down      end everything

files:
  ~/.local/state/llmendpoint has the state, the logs and the results of load tests. LLMENDPOINT_STATE_DIR names another
  folder, for a second stack beside the first one.

exit codes: 0 everything runs, 1 a program did not start, 2 invalid option or file, 130 interrupted
"""


def command_line(program: str = "llmendpoint up") -> Flags:
    """Return the options of `up`. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _NOTES)
    what = flags.group("model server")
    what.option("file", Path, None, "manifest with an LLMEndpoint, as for a cluster", alias="f")
    what.option("upstream", parse_upstream, [], "an Ollama and its name; without a name, it is called ollama",
                value="[NAME=]URL")  # fmt: skip
    what.switch("simulator", "use the simulator, even if an Ollama answers")
    what.option("key", parse_key, [], "file with the API key of a tenant; with one or more, every request needs a key",
                value="TENANT=FILE")  # fmt: skip
    where_ = flags.group("addresses")
    for name, text in (
        ("listen", "address of the proxy (default: localhost:11435); further proxies have the next ports"),
        ("metrics-listen", "address of metrics and status of the proxy (default: localhost:8001)"),
        (
            "dashboard-listen",
            "address of the dashboard (default: localhost:3001); if others can reach it, it needs a token",
        ),
        ("prometheus-listen", "address of Prometheus (default: localhost:9090)"),
    ):
        where_.option(name, _parse_address, None, f"{text}; without a host: every interface",
                      value="[HOST]:PORT")  # fmt: skip
    parts = flags.group("parts")
    parts.switch("no-dashboard", "do not start the dashboard")
    parts.switch("no-prometheus", "do not start Prometheus, even if it is installed")
    parts.option("traffic", parse_rate, None, "also send background traffic, in requests per second", value="RATE")
    process = flags.group("process")
    process.switch(
        "foreground",
        "stay, and end everything with Ctrl-C, SIGTERM, or when the terminal closes; for systemd and containers",
    )
    process.switch("service", "write a user unit of systemd with these options, and start nothing")
    return flags


def _parse_address(text: str) -> Address:
    """Return an address whose port is not 0. Port 0 means any free port, and clients need to know the port."""
    address = parse_address(text)
    if address.port == 0:
        raise ValueError(f"{text!r} has no port; write it like :11435 or 127.0.0.1:11435")
    return address


def main(arguments: Sequence[str], program: str = "llmendpoint up") -> int:
    """Start the stack, and return the exit code."""
    flags = command_line(program)
    options = flags.parse(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        endpoint = None if options.file is None else read_endpoint(options.file)
        request = _request(flags, options, endpoint)
        if options.service:
            return write_service(request, _printer(console))
        if options.foreground:
            interrupt_at_hangup()
        return _up(request, endpoint, console, is_foreground=options.foreground)
    except ManifestError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except StackError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        with uninterrupted():
            print(f"{program}: interrupted; {_what_runs(Folders())}", file=sys.stderr)
        return exit_codes.INTERRUPTED


def _request(flags: Flags, options: Namespace, endpoint: Endpoint | None) -> Request:
    names = [upstream.name for upstream in options.upstream]
    if len(set(names)) < len(names):
        flags.refuse("two --upstream have the same name; give each its own: --upstream gpu1=URL --upstream gpu2=URL")
    tenants = [key.tenant for key in options.key]
    if len(set(tenants)) < len(tenants):
        flags.refuse("two --key have the same tenant")
    if options.simulator and options.upstream:
        flags.refuse("--simulator cannot be combined with --upstream")
    if options.service and options.foreground:
        flags.refuse("--service cannot be combined with --foreground")
    return Request(
        upstreams=tuple(options.upstream),
        simulator=options.simulator,
        file=None if options.file is None else options.file.absolute(),
        manifest="" if endpoint is None else endpoint.digest,
        keys=tuple(options.key),
        listen=options.listen,
        metrics_listen=options.metrics_listen,
        dashboard_listen=options.dashboard_listen,
        prometheus_listen=options.prometheus_listen,
        dashboard=not options.no_dashboard,
        prometheus=not options.no_prometheus,
        traffic=options.traffic,
    )


def _up(request: Request, endpoint: Endpoint | None, console: Console, *, is_foreground: bool) -> int:
    def say(sentence: str) -> None:
        console.print(f"[bold cyan]•[/] {_plain(sentence)}")

    folders = Folders()
    folders.create()
    if full := folders.full_disk():
        say(" ".join(full_state_folder(full)))
    with exclusive(folders.root):
        running = wait_for_stack(folders) if supervisor_runs(folders) else None
        if running is not None and is_foreground:
            raise StackError("a stack runs already, and not in this terminal; `llmendpoint down` ends it")
        if running is not None:
            return _already(folders, running, request, console)
        # It is there if the supervisor was killed, or the machine was restarted.
        earlier = read_stack(folders)
        stop_stack(folders, say)
        plan, started = _start(request, endpoint, folders, say, earlier)
    shown = plan.stack.without(started.failed)
    if is_foreground:
        return stay(folders, started.supervisor, lambda: _show(folders, shown, request, console), say)
    # The supervisor outlives this process.
    started.supervisor.returncode = 0
    _show(folders, shown, request, console)
    for sentence in _unready(folders, plan.stack):
        say(sentence)
    return exit_codes.ERROR if started.failed else exit_codes.OK


def _start(
    request: Request, endpoint: Endpoint | None, folders: Folders, say: Say, earlier: Stack | None
) -> tuple[Plan, Started]:
    """Start the stack. If another program takes one of the chosen ports meanwhile, choose again."""
    upstreams = choose_upstreams(request, say)
    for attempt in range(1, _ATTEMPTS + 1):
        plan = make_plan(request, endpoint, upstreams, folders, say)
        if attempt == 1:
            for sentence in plan.stack.left_out:
                say(f"left out: {sentence}")
        plan = _with_traffic(plan, earlier, say if attempt == 1 else _drop)
        try:
            return plan, start_stack(folders, plan, say)
        except StackError as error:
            addresses = [parse_address(program.address) for program in plan.stack.programs if program.address]
            # The other program may be gone already, or may not accept connections yet.
            was_taken = any(map(is_taken, addresses)) or os.strerror(errno.EADDRINUSE) in str(error)
            if not was_taken or attempt == _ATTEMPTS:
                raise
            say(PORT_TAKEN)
    raise AssertionError("unreachable")


def _with_traffic(plan: Plan, earlier: Stack | None, say: Say) -> Plan:
    """Add the background traffic of a stack that was not ended with `down`, if the request is the same."""
    if earlier is None or not any(program.kind is Kind.TRAFFIC for program in earlier.programs):
        return plan
    if earlier.request != plan.stack.request:
        say(
            "the background traffic of the earlier stack, which had other options, is not started again; "
            "`llmendpoint traffic --detach` starts some"
        )
        return plan
    say("background traffic: as before the earlier stack ended; `llmendpoint traffic --stop` ends it")
    others = [program for program in plan.stack.programs if program.kind is not Kind.TRAFFIC]
    programs = (*others, *continued_traffic(earlier, plan.stack))
    return replace(plan, stack=msgspec.structs.replace(plan.stack, programs=programs))


def _drop(_: str) -> None:
    """Drop a sentence that was said before."""


def _already(folders: Folders, running: Stack, request: Request, console: Console) -> int:
    found = differences(running.request, request.document())
    if found:
        raise StackError(
            f"a stack runs already, with other options: {'; '.join(found)}. `llmendpoint down` ends it, and then "
            "`llmendpoint up` starts the new one. For a second stack beside it, set LLMENDPOINT_STATE_DIR to "
            "another folder"
        )
    console.print("The stack runs already, with the same options.")
    sick = [health for health in health_of(folders, running) if not health.healthy]
    ended = [health.name for health in sick if health.pid is None]
    _show(folders, running.without(ended), request, console)
    if sick:
        console.print(f"Not healthy: {', '.join(health.name for health in sick)}. `llmendpoint status` says why.")
    return exit_codes.ERROR if ended else exit_codes.OK


def _unready(folders: Folders, stack: Stack) -> Iterator[str]:
    """Yield a sentence for each proxy whose models, as the file names them, are not ready yet."""
    if not stack.model:
        return
    sidecars = {program.name for program in stack.programs if program.kind is Kind.SIDECAR}
    for health in health_of(folders, stack):
        if health.name in sidecars and not health.healthy:
            yield f"{health.name} is not ready yet: {health.message} (`llmendpoint status` shows when it is)"


def _show(folders: Folders, stack: Stack, request: Request, console: Console) -> None:
    console.print()
    width = console.width if console.is_terminal else shutil.get_terminal_size((100, 24)).columns
    for line in where(folders, stack, width):
        console.print(_plain(line))
    for sentence in exposure(stack, request):
        console.print(f"[yellow]open:[/] {_plain(sentence)}")


def _what_runs(folders: Folders) -> str:
    """Return what an interrupted `up` leaves: all, nothing, or parts of a stack."""
    if supervisor_runs(folders):
        return "the stack runs, as `llmendpoint status` shows, and `llmendpoint down` ends it"
    left = ", ".join(f"{process.name} (process {process.pid})" for process in find_processes(folders))
    return f"these processes still run, and `llmendpoint down` ends them: {left}" if left else "nothing runs"


def _printer(console: Console) -> Say:
    return lambda sentence: console.print(_plain(sentence))


def _plain(text: str) -> str:
    """Return a text in which rich does not take square brackets for markup."""
    return text.replace("[", r"\[")
