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

_DESCRIPTION = "Send requests to a model server, measure the responses, and check them against objectives."
_EXAMPLES = """examples:
  COMMAND --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  COMMAND --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson
  COMMAND --run run.json --out results

exit codes: 0 Passed or no objectives, 99 Failed, 98 Invalid (the load generator was the bottleneck), 1 the run could
not be completed, 2 invalid option, run document or question file, 130 interrupted twice
"""


@dataclass(frozen=True)
class Settings:
    """The run document, and settings of the process. `result_config_map` is NAMESPACE/NAME."""

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
    """Return the settings of a command line. An invalid setting ends the process with exit code 2.

    If `arguments` or `environment` is None, the command line or the environment of the process is used. `program` is
    the name in messages. Raises RunDocumentError if the file of `--run` cannot be read or is invalid.
    """
    command = program if " " in program else f"python -m {program}"
    examples = _EXAMPLES.replace("COMMAND", command)
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, examples)
    run = flags.group("run document")
    run.option("run", Path, None, "run document (docs/schemas/run.schema.json), which replaces the options for target, "
               "load and requests")  # fmt: skip
    add_run_flags(flags)
    _process_options(flags.group("process"))
    options = flags.parse(arguments, environment)
    given = given_run_flags(options)
    if options.run is not None and given:
        flags.refuse(f"--run cannot be combined with {', '.join(given)}")
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
    """Return the document in a file. Raises RunDocumentError, which names the file and the field."""
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
    group.option("questions", Path, None, "folder of question files (default: the shipped questions)")
    group.option("api-key", str, None, "API key, sent as a bearer token; prefer the environment variable, so that the "
                 "key is not visible in the list of processes", value="KEY")  # fmt: skip
    group.option("out", Path, None, "folder for the files summary.json and requests.jsonl")
    group.option("result-config-map", str, None, "ConfigMap that receives the result; only works in a pod",
                 value="NAMESPACE/NAME")  # fmt: skip
    group.option("status-listen", parse_address, None, "address of /status and /metrics during the run")
    group.option("log-level", parse_level, "info", "debug, info, warning or error")
