"""Lines that `up` prints about a stack: its addresses, the next commands, and the addresses that others can reach."""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.request import Request
from llmendpoint_cli.stack.state import Kind, Stack
from llmendpoint_cli.upstream import SIMULATED_MODEL, model_of
from llmendpoint_common.process.units import Address


def where(folders: Folders, stack: Stack, width: int) -> Iterator[str]:
    """Yield the lines with all addresses and the next commands."""
    rows = list(_rows(folders, stack))
    indent = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        if width >= 60:
            yield f"{name:<{indent}}{text}"
        else:
            yield name
            yield f"  {text}"
    if sentence := simulation(stack):
        yield ""
        yield sentence
    yield ""
    yield "try next:"
    yield from (f"  {line}" for line in _next(stack))


def simulation(stack: Stack) -> str:
    """Return a sentence about the model servers that are simulators, or an empty text if there are none."""
    names = [sidecar.name for sidecar in stack.sidecars if sidecar.simulated]
    if not names:
        return ""
    if len(stack.sidecars) == 1:
        return "The model server is the simulator: no model runs, and all numbers are made up."
    verb = "is the simulator" if len(names) == 1 else "are simulators"
    return f"{' and '.join(names)} {verb}: no model runs there, and the numbers are made up."


def _rows(folders: Folders, stack: Stack) -> Iterator[tuple[str, str]]:
    for sidecar in stack.sidecars:
        suffix = f" {sidecar.name}" if len(stack.sidecars) > 1 else ""
        yield f"endpoint{suffix}", f"{sidecar.proxy_url}  (any client of Ollama, OpenAI or Anthropic)"
        yield f"metrics{suffix}", f"{sidecar.admin_url}/metrics"
    if stack.dashboard_url:
        yield "dashboard", stack.dashboard_url
        if folders.token.is_file() and _has_token(stack):
            yield "token", f"in {folders.token}"
    if stack.prometheus_url:
        yield "Prometheus", stack.prometheus_url
    if any(program.kind is Kind.TRAFFIC for program in stack.programs):
        yield "traffic", "runs in the background"
    yield "files", str(folders.root)


def _has_token(stack: Stack) -> bool:
    dashboard = stack.program("dashboard")
    return dashboard is not None and "--auth=token" in dashboard.command


def _next(stack: Stack) -> Iterator[str]:
    proxy = stack.sidecars[0].proxy_url if stack.sidecars else ""
    model = first_model(stack) or "MODEL"
    if stack.dashboard_url:
        yield f"open {stack.dashboard_url}"
    yield f"llmendpoint load --url {proxy} --model {model} --concurrency 4 --duration 20s"
    if not any(program.kind is Kind.TRAFFIC for program in stack.programs):
        yield "llmendpoint traffic --detach"
    yield "llmendpoint status"
    yield "llmendpoint logs -f"
    yield "llmendpoint down"


def first_model(stack: Stack) -> str:
    """Return the model of the file, or one of the first model server, or an empty text if it has none."""
    if stack.model or not stack.sidecars:
        return stack.model
    first = stack.sidecars[0]
    return model_of(first.upstream_url) or (SIMULATED_MODEL if first.simulated else "")


def exposure(stack: Stack, request: Request) -> Iterator[str]:
    """Yield a sentence for each address that other machines can reach (docs/security.md)."""
    keys = "with an API key" if request.keys else "without an API key"
    manages = request.file is None
    what = "use models, and pull, push, create, copy and delete them" if manages else "use models"
    rows: tuple[tuple[Address | None, str], ...] = (
        (request.listen, f"everyone who can reach {{}} can {what}, {keys}"),
        (request.metrics_listen, "everyone who can reach {} can read metrics, the status and records of requests"),
        (request.dashboard_listen if stack.dashboard_url else None,
         "everyone who can reach {} and has the token can use the dashboard"),
        (request.prometheus_listen if stack.prometheus_url else None,
         "everyone who can reach {} can read all metrics in Prometheus"),
    )  # fmt: skip
    for address, sentence in rows:
        if address is not None and not address.is_loopback:
            yield sentence.format(f"port {address.port} of this machine" if address.host is None else str(address))
