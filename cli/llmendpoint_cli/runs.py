"""Runs on the command line: a file, the folder of a run, or a LoadTest on a cluster."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from llmendpoint_cli.cluster.names import parse_object_name
from llmendpoint_common.contracts.loadrun import Summary, exit_code_of
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import ClusterError, NoClusterError, OutputError
from llmendpoint_common.process.flags import Group
from llmendpoint_loadjob.report.files import read_summary
from llmendpoint_loadjob.report.left import with_progress
from llmendpoint_loadjob.report.pods import merged_summary, pods_of


class Run(NamedTuple):
    """A run: its name, its summary, and the exit code of its verdict.

    A run on a cluster has no folder. `pods` are the folders of the pods, if it is a copy of a volume.
    """

    name: str
    summary: Summary | None
    exit_code: int
    message: str = ""
    folder: Path | None = None
    pods: tuple[Path, ...] = ()


def cluster_options(group: Group) -> None:
    """Add the options that choose a cluster."""
    group.option("kubeconfig", Path, None, "kubeconfig (default: as kubectl, KUBECONFIG or ~/.kube/config)")
    group.option("context", str, None, "context of the kubeconfig (default: the current one)", value="NAME")


def find_run(text: str, options: Namespace, *, is_awaited: bool = False) -> Run:
    """Return the run that a path or the name of a LoadTest means. A path that exists takes precedence.

    Raises OutputError or ClusterError.
    """
    path = Path(text)
    if path.exists():
        pods = pods_of(path)
        if pods:
            summary = merged_summary(pods)
            return Run(text, summary, exit_code_of(summary.verdict, summary.reason), pods=tuple(pods))
        folder = path if path.is_dir() else path.parent
        summary = with_progress(folder, read_summary(path))
        return Run(text, summary, exit_code_of(summary.verdict, summary.reason), folder=folder)
    if text.endswith("/") or text.startswith((".", "/", "~")):
        raise OutputError(f"{text}: No such file or directory")
    try:
        parse_object_name(text)
    except ValueError:
        raise OutputError(f"{text}: neither a file nor the name of a LoadTest (NAMESPACE/NAME)") from None
    # The package kubernetes takes more than a second to load.
    from llmendpoint_cli.cluster.results import fetch  # noqa: PLC0415

    try:
        name, outcome = asyncio.run(fetch(text, options, is_awaited=is_awaited))
    except NoClusterError as error:
        raise ClusterError(f"{text}: no such file or folder, and not a LoadTest, because {error}") from None
    message = f"{outcome.verdict} ({outcome.reason}): {outcome.message}"
    return Run(str(name), outcome.summary, outcome.exit_code, message)


FAILURES = (ClusterError, OutputError)


def exit_code_of_error(error: ClusterError | OutputError) -> int:
    """Return the exit code of an error."""
    return error.exit_code if isinstance(error, OutputError) else exit_codes.ERROR
