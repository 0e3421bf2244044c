"""The main job on one machine: meter a model server, drive it, judge it."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Callable

from rich.console import Console

from llmendpoint_cli.stack.ports import free_port
from llmendpoint_cli.stack.process import demo_folder, process
from llmendpoint_cli.upstream import Upstream, find_ollama
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, METRIC_PREFIX, PROXY_PORT
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StackError
from llmendpoint_loadjob import main as loadjob

_SIMULATED_MODEL = "simulated:latest"
# With the simulator the timing is known, so latency is judged; a real Ollama's depends on the machine.
_SIMULATED_OBJECTIVES = ("ttft:p95=1s", "tpot:p95=50ms", "error_rate=0%")
_REAL_OBJECTIVES = ("error_rate=0%",)


def run_demo(duration: str) -> int:
    """Run the demo; return 0 where the verdict is Passed, else the load generator's exit code."""
    console = Console()

    def say(sentence: str) -> None:
        console.print(f"[bold cyan]•[/] {sentence}", highlight=False, soft_wrap=True)

    try:
        with contextlib.ExitStack() as stack:
            return _demo(stack, say, console, duration)
    except StackError as error:
        console.print(f"[red]{error}[/]", highlight=False, soft_wrap=True)
        return exit_codes.ERROR


def _demo(stack: contextlib.ExitStack, say: Callable[[str], None], console: Console, duration: str) -> int:
    upstream = _upstream(stack, say)
    proxy, admin = free_port(PROXY_PORT, say), free_port(ADMIN_PORT, say)
    arguments = ["--listen", f"127.0.0.1:{proxy}", "--admin-listen", f"127.0.0.1:{admin}",
                 "--upstream", upstream.url, "--drain-delay", "0"]  # fmt: skip
    stack.enter_context(process("llmendpoint_sidecar", arguments, f"http://127.0.0.1:{admin}/readyz"))
    say(f"metering proxy: http://127.0.0.1:{proxy} (any Ollama client), metrics: http://127.0.0.1:{admin}/metrics")
    out = demo_folder()
    objectives = _REAL_OBJECTIVES if upstream.is_real else _SIMULATED_OBJECTIVES
    say(f"load test: {duration}, 4 users over the shipped questions, objectives {', '.join(objectives)}")
    load = ["--url", f"http://127.0.0.1:{proxy}", "--model", upstream.model, "--concurrency", "4",
            "--duration", duration, "--max-tokens", "32", "--out", str(out), "--log-level", "warning"]  # fmt: skip
    for objective in objectives:
        load += ["--slo", objective]
    code = loadjob.main(load, "llmendpoint demo")
    _show_meter(f"http://127.0.0.1:{admin}/metrics", console)
    say(f"result files: {out}/summary.json and requests.jsonl")
    say("next: `llmendpoint load --help`, or on a cluster `kubectl apply -k manifests/` (README)")
    return code


def _upstream(stack: contextlib.ExitStack, say: Callable[[str], None]) -> Upstream:
    found = find_ollama(f"http://127.0.0.1:{OLLAMA_PORT}")
    if isinstance(found, Upstream):
        say(f"upstream: the Ollama at {found.url}, model {found.model}")
        return found
    say(f"upstream: the simulator, because {found}")
    port = free_port(OLLAMA_PORT, say)
    url = f"http://127.0.0.1:{port}"
    arguments = ["--listen", f"127.0.0.1:{port}", "--ttft", "100ms", "--inter-token", "10ms"]
    stack.enter_context(process("llmendpoint_simulator", arguments, f"{url}/api/version"))
    return Upstream(url, _SIMULATED_MODEL, is_real=False)


def _show_meter(url: str, console: Console) -> None:
    """Print what the sidecar counted of it."""
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - loopback
        lines = response.read().decode().splitlines()
    wanted = ("requests_total", "prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count")
    console.print("what the meter counted:", highlight=False, soft_wrap=True)
    for line in lines:
        if line.startswith(tuple(METRIC_PREFIX + name for name in wanted)):
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
