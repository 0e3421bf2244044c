"""Settings of the load generator, parsed once from flags, environment variables and the run document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmendpoint_common.contracts.loadrun import RunDocument, parse_run_document
from llmendpoint_common.process.errors import RunDocumentError
from llmendpoint_common.process.flags import Flags, Group
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address
from llmendpoint_loadjob.dataset.questions import shipped_questions
from llmendpoint_loadjob.run_flags import add_run_flags, document_of_flags, given_run_flags, parse_url

ENVIRONMENT_PREFIX = "LLMENDPOINT_LOAD_"

_EXAMPLES = """examples:
  llmendpoint load --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  llmendpoint load --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson
  llmendpoint load --run run.json --out results

exit codes: 0 Passed or no objectives, 99 Failed, 98 Invalid (the client was the limit), 1 run error, 2 wrong setting
"""


@dataclass(frozen=True)
class Settings:
    """The run, and what belongs to this process alone. `result_config_map` is NAMESPACE/NAME, in a pod of a cluster."""

    document: RunDocument
    questions: Path
    api_key: str | None
    out: Path | None
    result_config_map: str | None
    status_listen: Address | None
    log_level: str


def parse_settings(
    arguments: Sequence[str] | None = None,
    program: str = "llmendpoint_loadjob",
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of a command line. A wrong one ends the process with exit code 2.

    If `arguments` or `environment` is None, the command line or the environment of the process is used.
    RunDocumentError if the file of `--run` cannot be used.
    """
    flags = Flags(program, ENVIRONMENT_PREFIX, "Send load to a model server, measure it, and judge it.", _EXAMPLES)
    run = flags.group("run document")
    run.option("run", Path, None, "JSON file that describes the whole run (docs/schemas/run.schema.json), instead of "
               "the options for target, load and requests")  # fmt: skip
    add_run_flags(flags)
    _process_options(flags.group("process"))
    options = flags.parse(arguments, environment)
    given = given_run_flags(options)
    if options.run is not None and given:
        flags.refuse(f"--run describes the whole run and excludes {', '.join(given)}")
    try:
        document = document_of_flags(options) if options.run is None else read_run_document(options.run)
    except ValueError as error:
        flags.refuse(str(error))
    return Settings(
        document=document,
        questions=options.questions or shipped_questions(),
        api_key=options.api_key,
        out=options.out,
        result_config_map=options.result_config_map,
        status_listen=options.status_listen,
        log_level=options.log_level,
    )


def read_run_document(path: Path) -> RunDocument:
    """Return the document in a file. RunDocumentError names the file and the field."""
    try:
        document = parse_run_document(path.read_bytes(), str(path))
    except OSError as error:
        raise RunDocumentError(f"{path}: {error.strerror}") from error
    try:
        parse_url(document.target.url)
    except ValueError as error:
        raise RunDocumentError(f"{path}: target.url: {error}") from error
    return document


def _process_options(group: Group) -> None:
    group.option("questions", Path, None, "folder of question files; without it, the shipped questions")
    group.option("api-key", str, None, "API key, sent as a bearer token; the variable keeps it off the command line",
                 value="KEY")  # fmt: skip
    group.option("out", Path, None, "folder to write summary.json and requests.jsonl to")
    group.option("result-config-map", str, None, "ConfigMap to write the result to, in a pod of a cluster",
                 value="NAMESPACE/NAME")  # fmt: skip
    group.option("status-listen", parse_address, None, "address for progress and metrics while the run lasts")
    group.option("log-level", parse_level, "info", "debug, info, warning or error")
