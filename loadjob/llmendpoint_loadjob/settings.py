"""Settings of the load generator, parsed once from flags, environment variables and the run document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmendpoint_common.contracts.loadrun import RunDocument, parse_run_document
from llmendpoint_common.process.errors import APIKeyError, RunDocumentError
from llmendpoint_common.process.flags import Flags, Group
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address
from llmendpoint_loadjob.dataset.questions import shipped_questions
from llmendpoint_loadjob.run_flags import add_run_flags, document_of_flags, given_run_flags, parse_url

ENVIRONMENT_PREFIX = "LLMENDPOINT_LOAD_"

_MAX_KEY_BYTES = 16 * 1024
_DESCRIPTION = "Send requests to a model server, measure the responses, and check them against objectives."
_EXAMPLES = """examples:
  COMMAND --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  COMMAND --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson
  COMMAND --run run.json --out results

exit codes: 0 Passed or no objectives, 99 Failed, 98 Invalid (the load generator was the bottleneck), 1 the run could
not be completed, 2 invalid option, run document or question file, 130 interrupted
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


def command_line(program: str = "llmendpoint_loadjob") -> Flags:
    """Return the options of the load generator. `program` is the name in messages."""
    command = program if " " in program else f"python -m {program}"
    examples = _EXAMPLES.replace("COMMAND", command)
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, examples)
    run = flags.group("run document")
    run.option("run", Path, None, "run document (docs/schemas/run.schema.json), which replaces the options for target, "
               "load and requests")  # fmt: skip
    add_run_flags(flags)
    _process_options(flags.group("process"))
    return flags


def parse_settings(
    arguments: Sequence[str] | None = None,
    program: str = "llmendpoint_loadjob",
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2.

    If `arguments` or `environment` is None, the command line or the environment of the process is used. `program` is
    the name in messages. Raises RunDocumentError or APIKeyError if the file of `--run` or of `--api-key-file` cannot be
    read or is invalid.
    """
    flags = command_line(program)
    options = flags.parse(arguments, environment)
    given = given_run_flags(options)
    if options.run is not None and given:
        flags.refuse(f"--run cannot be combined with {', '.join(given)}")
    if options.api_key is not None and options.api_key_file is not None:
        flags.refuse("set either --api-key or --api-key-file, not both")
    try:
        document = document_of_flags(options) if options.run is None else read_run_document(options.run)
    except ValueError as error:
        flags.refuse(str(error))
    return Settings(
        document=document,
        questions=options.questions or shipped_questions(),
        api_key=options.api_key if options.api_key_file is None else read_api_key(options.api_key_file),
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


def read_api_key(path: Path) -> str:
    """Return the API key in a file, without white space around it. Raises APIKeyError, which does not quote the key."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise APIKeyError(f"{path}: {error.strerror}") from error
    if len(data) > _MAX_KEY_BYTES:
        raise APIKeyError(f"{path}: the API key is longer than {_MAX_KEY_BYTES // 1024} KiB")
    try:
        # Editors and `kubectl create secret --from-file` leave a byte-order mark and a line end in the file.
        return parse_api_key(data.decode("utf-8-sig").strip())
    except UnicodeDecodeError:
        raise APIKeyError(f"{path}: the API key is not valid UTF-8") from None
    except ValueError as error:
        raise APIKeyError(f"{path}: {error}") from None


def parse_api_key(text: str) -> str:
    """Return an API key that can be sent in a header. Raises ValueError, which does not quote it."""
    if not text:
        raise ValueError("the API key is empty")
    if not text.isprintable():
        raise ValueError("the API key contains a control character, for example a line end")
    return text


def _process_options(group: Group) -> None:
    group.option("questions", Path, None, "folder of question files (default: the shipped questions)")
    group.option("api-key-file", Path, None, "file with the API key, which is sent as a bearer token; white space "
                 "around the key is ignored")  # fmt: skip
    group.option("api-key", parse_api_key, None, "API key, sent as a bearer token; prefer --api-key-file or the "
                 "environment variable, so that the key is not visible in the list of processes",
                 value="KEY")  # fmt: skip
    group.option("out", Path, None, "folder for the files summary.json and requests.jsonl")
    group.option("result-config-map", str, None, "ConfigMap that receives the result; only works in a pod",
                 value="NAMESPACE/NAME")  # fmt: skip
    group.option("status-listen", parse_address, None, "address of /status and /metrics during the run")
    group.option("log-level", parse_level, "info", "debug, info, warning or error")
