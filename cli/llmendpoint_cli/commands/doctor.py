"""`llmendpoint doctor`: findings about this machine or endpoints of a cluster, each with the command that fixes it."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Sequence
from urllib.parse import urlsplit

from llmendpoint_cli.cluster.names import ObjectName, parse_object_name
from llmendpoint_cli.doctor.machine import machine_facts
from llmendpoint_cli.doctor.output import Format, print_report
from llmendpoint_cli.runs import cluster_options
from llmendpoint_common.diagnosis.checks import Check, cluster_checks, machine_checks
from llmendpoint_common.diagnosis.findings import Finding, is_wrong
from llmendpoint_common.diagnosis.rules import cluster_findings, machine_findings
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StdoutError
from llmendpoint_common.process.flags import Flags, choice, one_of
from llmendpoint_common.process.units import parse_positive

ENVIRONMENT_PREFIX = "LLMENDPOINT_DOCTOR_"

_DESCRIPTION = """Find problems, their causes, and the commands that fix them. It changes nothing.

Without a name and without a cluster option, this machine is checked: Ollama, its models, the metering sidecar,
Prometheus, ports, processes, limits and the clock. With one, the cluster is checked instead: the definitions, the
operator, and one LLMEndpoint or all of them."""
_EXAMPLES = """examples:
  llmendpoint doctor
  llmendpoint doctor --model llama3.2:3b --context-length 16384
  llmendpoint doctor team-a/assistant
  llmendpoint doctor --context production --format json

exit codes: 0 nothing is wrong, 1 something is wrong (an error or a warning), 2 an option is wrong
"""


def command_line(program: str = "llmendpoint doctor") -> Flags:
    """Return the options."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _EXAMPLES)
    flags.positional("NAME", "NAMESPACE/NAME of an LLMEndpoint (default: this machine)", "?")
    group = flags.group("this machine")
    group.option(
        "ollama", parse_url, [], "an Ollama to check (default: those of the stack, or OLLAMA_HOST)", value="URL"
    )
    group.option(
        "sidecar",
        parse_sidecar,
        [],
        "admin address of a metering sidecar that should run (default: those of the stack, or port 8001)",
        value="[NAME=]URL",
    )
    group.option(
        "prometheus",
        parse_url,
        None,
        "a Prometheus that should scrape the sidecars (default: that of the stack, or port 9090)",
        value="URL",
    )
    group.option("model", str, [], "a model that should be present", value="NAME")
    group.option(
        "context-length",
        parse_positive,
        None,
        "number of tokens of the longest requests, to find a context that is too short",
    )
    cluster_options(flags.group("cluster"))
    flags.group("output").option(
        "format", choice(Format), "text", f"format of the report: {one_of(Format)}", value="FORMAT"
    )
    return flags


def parse_url(text: str) -> str:
    """Return a URL without a slash at its end. The scheme is `http` if it is missing. Raises ValueError."""
    url = text if "://" in text else f"http://{text}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_valid_port(url):
        raise ValueError(f"{text!r} is not a URL; write it like http://127.0.0.1:11434")
    return url.rstrip("/")


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def parse_sidecar(text: str) -> tuple[str, str]:
    """Parse `NAME=URL` or `URL`. Without a name, it is `ollama`. Raises ValueError."""
    name, separator, url = text.partition("=")
    return (name or "ollama", parse_url(url)) if separator else ("ollama", parse_url(text))


def main(arguments: Sequence[str], program: str = "llmendpoint doctor") -> int:
    """Check the machine or the cluster, print the report, and return the exit code."""
    flags = command_line(program)
    options = flags.parse(arguments)
    endpoint = _endpoint(flags, options)
    of_a_cluster = endpoint is not None or options.kubeconfig is not None or options.context is not None
    try:
        checks, findings = asyncio.run(_of_a_cluster(endpoint, options) if of_a_cluster else _of_the_machine(options))
        print_report(checks, findings, options.format)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except StdoutError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    return exit_codes.ERROR if is_wrong(findings) else exit_codes.OK


def _endpoint(flags: Flags, options: Namespace) -> ObjectName | None:
    if options.name is None:
        return None
    try:
        return parse_object_name(options.name)
    except ValueError as error:
        flags.refuse(str(error))


async def _of_the_machine(options: Namespace) -> tuple[Sequence[Check], Sequence[Finding]]:
    facts = await machine_facts(options)
    findings = machine_findings(facts)
    return machine_checks(facts, findings), findings


async def _of_a_cluster(endpoint: ObjectName | None, options: Namespace) -> tuple[Sequence[Check], Sequence[Finding]]:
    # The package kubernetes takes more than a second to load.
    from llmendpoint_cli.cluster.diagnosis import cluster_facts  # noqa: PLC0415

    facts = await cluster_facts(endpoint, options)
    findings = cluster_findings(facts)
    return cluster_checks(facts, findings), findings
