"""`llmendpoint load`: a load run from this machine, or, with `--endpoint`, as a LoadTest on a cluster.

Without arguments on a terminal, it asks which scenario to run.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from llmendpoint_cli.api_keys import use_key_of_stack
from llmendpoint_cli.cluster.names import parse_object_name
from llmendpoint_cli.commands.picker import Answers, ask
from llmendpoint_cli.runs import cluster_options
from llmendpoint_cli.stack.runs import DEFAULT_PROXY, output_in_stack, use_stack
from llmendpoint_common.process import lifecycle
from llmendpoint_common.process.errors import InputError
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_loadjob import settings as loadjob
from llmendpoint_loadjob.flag_document import document_of_flags
from llmendpoint_loadjob.inputs import read_inputs
from llmendpoint_loadjob.main import refuse, run_inputs
from llmendpoint_loadjob.report.files import OutputFolder
from llmendpoint_loadjob.run_flags import is_given

#: Options that are about this machine, or whose value is a file on it.
_LOCAL = ("--run", "--url", "--insecure", "--trace", "--baseline", "--max-regression", "--questions", "--api-key",
          "--api-key-file", "--cacert", "--sidecar", "--result-config-map", "--status-listen")  # fmt: skip


def command_line(program: str = "llmendpoint load") -> Flags:
    """Return the options of the load generator, and those of a run on a cluster."""
    flags = loadjob.command_line(program, loadjob.HelpTexts(default_url=DEFAULT_PROXY))
    group = flags.group("cluster")
    group.option("endpoint", parse_object_name, None, "run on the cluster, as a LoadTest of this LLMEndpoint",
                 value="NAMESPACE/NAME")  # fmt: skip
    group.option("name", parse_object_name, None, "name of the LoadTest (default: one that the API server makes)",
                 value="NAME")  # fmt: skip
    cluster_options(group)
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint load") -> int:
    """Run a load test, and return the exit code of its verdict."""
    if not arguments and sys.stdin.isatty() and sys.stdout.isatty():
        answers = ask()
        if not isinstance(answers, Answers):
            return answers
        arguments = answers.arguments
    flags = command_line(program)
    options = flags.parse(arguments)
    if options.endpoint is None:
        for name in ("--name", "--kubeconfig", "--context"):
            if is_given(options, name):
                flags.refuse(f"{name} is only allowed with --endpoint")
        return _on_machine(flags, options, program)
    return _on_cluster(flags, options, program)


def _on_machine(flags: Flags, options: Namespace, program: str) -> int:
    """Run a load test from this machine. If a stack is up and `--out` is not set, the stack stores the result."""
    try:
        use_key_of_stack(options)
        folders = use_stack(options)
        settings = loadjob.settings_of(flags, options)
        configure_logs(settings.log_level)
        inputs = read_inputs(settings)
    except (InputError, ValueError) as error:
        return refuse(program, error)
    # The folder comes last: a run that is refused has no result.
    folder = output_in_stack(folders) if folders is not None and settings.out is None else None
    if folder is not None:
        settings, inputs = replace(settings, out=folder.path), replace(inputs, folder=folder)
    return run_inputs(settings, inputs, program)


def _on_cluster(flags: Flags, options: Namespace, program: str) -> int:
    for name in _LOCAL:
        if is_given(options, name):
            flags.refuse(f"{name} cannot be combined with --endpoint; set it in the spec of a LoadTest")
    model, options.model = options.model, options.model or "the model of the endpoint"
    folder = None if options.out is None else OutputFolder(options.out)
    try:
        document = document_of_flags(options)
        if folder is not None:
            folder.prepare()
    except ValueError as error:
        flags.refuse(str(error))
    except InputError as error:
        return refuse(program, error)
    configure_logs(options.log_level)

    # The package kubernetes takes more than a second to load.
    from llmendpoint_cli.cluster.runner import ClusterRun  # noqa: PLC0415

    return lifecycle.run(ClusterRun(options, document, model, folder, program).serve)
