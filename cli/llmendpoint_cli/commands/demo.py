"""`llmendpoint demo`: starts the metering proxy in front of a model server, runs a short load test, and exits.

With `--keep`, the programs are those of `llmendpoint up`, and keep running. Otherwise they end with the demo, and leave
the state folder alone. The demo passes all settings to the other programs as arguments, so that their environment
variables have no effect.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from llmendpoint_cli.commands import up
from llmendpoint_cli.direct import open_url
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import supervisor_runs, wait_for_stack
from llmendpoint_cli.stack.ports import PORT_TAKEN, free_port
from llmendpoint_cli.stack.process import demo_folder, process
from llmendpoint_cli.stack.request import DASHBOARD_PORT
from llmendpoint_cli.stack.runs import new_run
from llmendpoint_cli.stack.signals import interrupt_at_hangup
from llmendpoint_cli.stack.state import Kind
from llmendpoint_cli.stack.upstreams import url_of_machine
from llmendpoint_cli.upstream import SIMULATED_MODEL, SIMULATED_PARALLEL, Upstream, find_ollama, ollama_parallel
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT, Metric
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.units import parse_duration
from llmendpoint_loadjob import main as loadjob

ENVIRONMENT_PREFIX = "LLMENDPOINT_DEMO_"
_ATTEMPTS = 3
T = TypeVar("T")

_DESCRIPTION = "Run the metering proxy in front of a model server, the dashboard, and a short load test through it."
_NOTES = """The demo uses the Ollama of this machine (OLLAMA_HOST, unless that is the proxy, or port 11434) if it has a
local model that answers within 3 seconds, otherwise the simulator.

exit codes: 0 the objectives were met, 99 one was missed, 98 the load generator was the bottleneck, 1 the demo failed,
2 invalid option, 130 interrupted
"""
# The timing of a simulator that we start is known, so there are objectives for latency. That of any other model server
# depends on the machine, and so does the number of requests: p75 needs 4, which is one of each user, and an error rate
# would need 20.
_SIMULATED_OBJECTIVES = ("ttft:p95=1s", "tpot:p95=50ms", "error_rate=0%")
_REAL_OBJECTIVES = ("request_latency:p75=1m",)
_SHOWN_METRICS = (
    Metric.REQUESTS,
    Metric.PROMPT_TOKENS,
    Metric.GENERATION_TOKENS,
    f"{Metric.TIME_TO_FIRST_TOKEN}_count",
)


def command_line(program: str = "llmendpoint demo") -> Flags:
    """Return the options of the demo. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _NOTES)
    flags.group("load").option("duration", _duration, "8s", "duration of the load", value="DURATION")
    flags.group("process").switch("keep", "leave everything running, until `llmendpoint down`")
    return flags


def main(arguments: Sequence[str] | None = None, program: str = "llmendpoint demo") -> int:
    """Run the demo and return the exit code of the load generator, or 1 if a process did not start."""
    options = command_line(program).parse(arguments)
    duration: str = options.duration
    console = Console()

    def say(sentence: str) -> None:
        console.print(f"[bold cyan]•[/] {sentence}", highlight=False, soft_wrap=True)

    interrupt_at_hangup()
    try:
        if options.keep:
            return _run_in_stack(say, console, duration)
        with contextlib.ExitStack() as stack:
            return _run(stack, say, console, duration)
    except StackError as error:
        console.print(Text(str(error), "red"), soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        if options.keep:
            say("interrupted; `llmendpoint status` shows what runs, and `llmendpoint down` ends it")
        else:
            say("interrupted; all programs of the demo have ended")
        return exit_codes.INTERRUPTED


def _duration(text: str) -> str:
    """Check a duration and return it unchanged, to pass it to the load generator."""
    parse_duration(text)
    return text


def _run(stack: contextlib.ExitStack, say: Callable[[str], None], console: Console, duration: str) -> int:
    target = _proxy(stack, say, _upstream(stack, say))
    proxy, admin = target.proxy, target.admin
    say(
        f"metering proxy: http://127.0.0.1:{proxy} (accepts any Ollama client), metrics: http://127.0.0.1:{admin}/metrics"
    )
    runs = demo_folder()
    dashboard = _dashboard(stack, say, runs, target)
    code, out = _load(target, runs / "demo", say, duration)
    _show_metrics(f"http://127.0.0.1:{admin}/metrics", console)
    say(f"report: {out}/report.html, results: summary.json, summary.csv and requests.jsonl beside it")
    say("next: `llmendpoint load --help`, or on a cluster `kubectl apply -k manifests/` (see README.md)")
    say(f"the dashboard at {dashboard} ends now; `llmendpoint demo --keep`, or make demo KEEP=1, leaves it running")
    return code


class Target(NamedTuple):
    """A model server, the ports of the sidecar in front of it, and the objectives of a load test."""

    upstream: Upstream
    proxy: int
    admin: int
    objectives: tuple[str, ...]


def sidecar_arguments(target: Target) -> list[str]:
    """Return the arguments of the sidecar, which has to know how many requests the model server runs."""
    parallel = ollama_parallel() if target.upstream.is_real else SIMULATED_PARALLEL
    return ["--listen", f"127.0.0.1:{target.proxy}", "--admin-listen", f"127.0.0.1:{target.admin}",
            "--upstream", target.upstream.url, "--drain-delay", "0", "--parallel", str(parallel)]  # fmt: skip


def _proxy(stack: contextlib.ExitStack, say: Callable[[str], None], upstream: Upstream) -> Target:
    """Start the sidecar, and return what a load test has to know about it."""
    objectives = _REAL_OBJECTIVES if upstream.is_real else _SIMULATED_OBJECTIVES

    def start() -> Target:
        target = Target(upstream, free_port(PROXY_PORT, say), free_port(ADMIN_PORT, say), objectives)
        ready = f"http://127.0.0.1:{target.admin}/readyz"
        stack.enter_context(process("llmendpoint_sidecar", sidecar_arguments(target), ready))
        return target

    return _on_free_ports(start, say)


def _dashboard(stack: contextlib.ExitStack, say: Callable[[str], None], runs: Path, target: Target) -> str:
    """Start the dashboard, and return its URL."""

    def start() -> str:
        port = free_port(DASHBOARD_PORT, say)
        url = f"http://127.0.0.1:{port}"
        name = "ollama" if target.upstream.is_real else "simulator"
        arguments = [f"--listen=127.0.0.1:{port}", f"--sidecar={name}=http://127.0.0.1:{target.admin}",
                     f"--runs={runs}", f"--load-url={name}=http://127.0.0.1:{target.proxy}",
                     f"--upstream={name}={target.upstream.url}",
                     *([] if target.upstream.is_real else [f"--simulated={name}"])]  # fmt: skip
        stack.enter_context(process("llmendpoint_dashboard", arguments, f"{url}/livez"))
        return url

    url = _on_free_ports(start, say)
    say(f"dashboard: {url}")
    return url


def _load(target: Target, out: Path, say: Callable[[str], None], duration: str) -> tuple[int, Path]:
    """Send the load, and return the exit code and the folder of the result."""
    say(f"load test: {duration}, 4 users, the shipped questions, objectives {', '.join(target.objectives)}")
    load = ["--url", f"http://127.0.0.1:{target.proxy}", "--model", target.upstream.model, "--concurrency", "4",
            "--duration", duration, "--max-tokens", "32", "--out", str(out), "--log-level", "warning",
            "--sidecar", f"http://127.0.0.1:{target.admin}"]  # fmt: skip
    for objective in target.objectives:
        load += ["--slo", objective]
    return loadjob.main(load, "llmendpoint demo", environment={}), out


def _run_in_stack(say: Callable[[str], None], console: Console, duration: str) -> int:
    """Send the load through the stack of `llmendpoint up`, which is started if none is up, and keeps running."""
    folders = Folders()
    if not supervisor_runs(folders) and (code := up.main([], "llmendpoint up")):
        return code
    stack = wait_for_stack(folders)
    if stack is None or not stack.sidecars:
        raise StackError("the stack cannot be used; `llmendpoint down` ends it")
    sidecar = stack.sidecars[0]
    found = find_ollama(sidecar.upstream_url)
    if isinstance(found, str):
        raise StackError(f"no load test was sent, because {found}")
    is_ours = any(program.kind is Kind.SIMULATOR for program in stack.programs)
    objectives = _SIMULATED_OBJECTIVES if is_ours else _REAL_OBJECTIVES
    target = Target(found, _port(sidecar.proxy_url), _port(sidecar.admin_url), objectives)
    code, out = _load(target, new_run(folders), say, duration)
    _show_metrics(f"{sidecar.admin_url}/metrics", console)
    say(f"report: {out}/report.html")
    if stack.dashboard_url:
        say(f"dashboard: {stack.dashboard_url}")
    say("everything keeps running; `llmendpoint down` (or make down) ends it")
    return code


def _port(url: str) -> int:
    return urlsplit(url).port or 80


def _upstream(stack: contextlib.ExitStack, say: Callable[[str], None]) -> Upstream:
    """Return the Ollama on this machine if it answers, otherwise start the simulator and return its address."""
    found = find_ollama(url_of_machine(os.environ.get("OLLAMA_HOST", "").strip(), PROXY_PORT))
    if isinstance(found, Upstream) and found.is_real:
        say(f"upstream: the Ollama at {found.url}, model {found.model}")
        return found
    reason = f"what answers at {found.url} is a simulator too" if isinstance(found, Upstream) else found
    say(f"upstream: the simulator, because {reason}")

    def start() -> Upstream:
        port = free_port(OLLAMA_PORT, say)
        url = f"http://127.0.0.1:{port}"
        arguments = ["--listen", f"127.0.0.1:{port}", "--ttft", "100ms", "--inter-token", "10ms",
                     "--parallel", str(SIMULATED_PARALLEL)]  # fmt: skip
        stack.enter_context(process("llmendpoint_simulator", arguments, f"{url}/api/version"))
        return Upstream(url, SIMULATED_MODEL, is_real=False)

    return _on_free_ports(start, say)


def _on_free_ports(start: Callable[[], T], say: Callable[[str], None]) -> T:
    """Call `start`, which chooses free ports and starts a program on them, again if another program takes one first."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return start()
        except StackError as error:
            if attempt == _ATTEMPTS or os.strerror(errno.EADDRINUSE) not in str(error):
                raise
            say(PORT_TAKEN)
    raise AssertionError("unreachable")


def _show_metrics(url: str, console: Console) -> None:
    """Print selected metrics of the sidecar."""
    try:
        with open_url(url, 5.0) as response:
            lines = response.read().decode().splitlines()
    except OSError as error:
        raise StackError(f"the metrics at {url} cannot be read: {reason_of(error)}") from error
    console.print("metrics of the sidecar:", highlight=False, soft_wrap=True)
    for line in lines:
        if line.startswith(_SHOWN_METRICS):
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
