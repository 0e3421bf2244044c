"""Settings of the load generator, parsed once from flags, environment variables and the run document."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from llmendpoint_common.contracts.loadrun import RunBaseline, RunDocument, parse_run_document
from llmendpoint_common.process.errors import APIKeyError, RunDocumentError
from llmendpoint_common.process.flags import Flags, Group, choice, one_of
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address
from llmendpoint_loadjob.dataset.questions import shipped_questions
from llmendpoint_loadjob.flag_document import document_of_flags
from llmendpoint_loadjob.load.run import check_slice
from llmendpoint_loadjob.report.output import OutputFormat
from llmendpoint_loadjob.run_flags import DEFAULT_URL, add_run_flags, given_run_flags
from llmendpoint_loadjob.run_values import WHOLE, Slice, parse_config_map, parse_slice, parse_url

ENVIRONMENT_PREFIX = "LLMENDPOINT_LOAD_"

_MAX_KEY_BYTES = 16 * 1024
_DESCRIPTION = "Send requests to a model server, measure the responses, and check them against objectives."
_EXAMPLES = """examples:
  COMMAND --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  COMMAND --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson
  COMMAND --model m --scenario Ramp --out results
  COMMAND --model m --stage 1m:rate=2 --stage 5m:rate=10:ramp --slo ttft:p95=1s
  COMMAND --model m --sweep 0.5:20 --slo ttft:p95=1s --slo error_rate=1%
  COMMAND --run run.json --out results

exit codes: 0 Passed, or None without objectives; 99 Failed; 98 Invalid (the run cannot tell, for example because the
load generator was the bottleneck or too few requests were measured); 1 Error: the run could not be completed, or
nothing was answered; 2 invalid option, run document, question file or output folder; 130 interrupted
"""


@dataclass(frozen=True)
class Settings:
    """The run document, and settings of the process. `result_config_map` is NAMESPACE/NAME."""

    document: RunDocument
    questions: tuple[Path, ...]
    api_key: str | None
    out: Path | None
    result_config_map: str | None
    status_listen: Address | None
    log_level: str
    trace: Path | None = None
    baseline: Path | None = None
    cacert: Path | None = None
    sidecar: str | None = None
    format: OutputFormat = OutputFormat.TABLE
    slice: Slice = WHOLE


class HelpTexts(NamedTuple):
    """Texts of `--help` in which programs with these options differ.

    `COMMAND` in the examples is replaced by the command. `default_url` is the server of a run without `--url`.
    """

    description: str = _DESCRIPTION
    examples: str = _EXAMPLES
    default_url: str = DEFAULT_URL


def command_line(program: str = "llmendpoint_loadjob", texts: HelpTexts = HelpTexts()) -> Flags:  # noqa: B008
    """Return the options of the load generator. `program` is the name in messages."""
    command = program if " " in program else f"python -m {program}"
    examples = texts.examples.replace("COMMAND", command)
    flags = Flags(program, ENVIRONMENT_PREFIX, texts.description, examples)
    run = flags.group("run document")
    run.option("run", Path, None, "run document (docs/schemas/run.schema.json), which replaces the options for target, "
               "load, prompts, requests and judgement")  # fmt: skip
    add_run_flags(flags, texts.default_url)
    _input_options(flags.group("process"))
    _output_options(flags.group("process"))
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
    return settings_of(flags, flags.parse(arguments, environment))


def settings_of(flags: Flags, options: Namespace) -> Settings:
    """Return the settings for the parsed options of `command_line`. Errors are those of `parse_settings`."""
    given = given_run_flags(flags, options)
    if options.run is not None and given:
        flags.refuse(f"--run cannot be combined with {', '.join(given)}")
    if options.api_key is not None and options.api_key_file is not None:
        flags.refuse("set either --api-key or --api-key-file, not both")
    try:
        document = document_of_flags(options) if options.run is None else _document_of_file(options)
        check_slice(document, options.slice)
    except ValueError as error:
        flags.refuse(str(error))
    return Settings(
        document=document,
        questions=tuple(options.questions) or (shipped_questions(),),
        api_key=options.api_key if options.api_key_file is None else read_api_key(options.api_key_file),
        out=options.out,
        result_config_map=options.result_config_map,
        status_listen=options.status_listen,
        log_level=options.log_level,
        trace=options.trace,
        baseline=options.baseline,
        cacert=options.cacert,
        sidecar=options.sidecar,
        format=options.format,
        slice=options.slice,
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


def _document_of_file(options: Namespace) -> RunDocument:
    """Return the document of `--run`, which says whether there is a trace. A baseline can be added to any document."""
    document = read_run_document(options.run)
    if (document.trace is None) != (options.trace is None):
        raise ValueError(
            f"{options.run} has no trace, so --trace cannot be used with it"
            if document.trace is None
            else f"{options.run} replays a trace, whose file --trace has to name"
        )
    if document.baseline is not None and options.baseline is None:
        raise ValueError(f"{options.run} compares with a baseline, whose file --baseline has to name")
    if document.baseline is None and options.baseline is not None:
        return msgspec.structs.replace(document, baseline=RunBaseline())
    return document


def _input_options(group: Group) -> None:
    group.option("questions", Path, [], "folder of question files, or one file; if not set, the shipped questions")
    group.option("api-key-file", Path, None, "file with the API key, which is sent as a bearer token; white space "
                 "around the key is ignored")  # fmt: skip
    group.option("api-key", parse_api_key, None, "API key, sent as a bearer token; prefer --api-key-file or the "
                 "environment variable, so that the key is not visible in the list of processes",
                 value="KEY")  # fmt: skip
    group.option("cacert", Path, None, "file with the certificates of the authorities that may have signed the "
                 "server's certificate (default: those of the system)")  # fmt: skip
    group.option("sidecar", parse_url, None, "base URL of the sidecar's admin port, such as http://127.0.0.1:8001; its "
                 "records split the time to first token, and its token counts are compared", value="URL")  # fmt: skip
    group.option("slice", parse_slice, "0/1", "part of the run that this process sends, INDEX/COUNT", value="I/P")


def _output_options(group: Group) -> None:
    group.option("out", Path, None, "folder for the files summary.json, requests.jsonl, report.html and their CSV")
    group.option("format", choice(OutputFormat), "table", f"result on stdout: {one_of(OutputFormat)}", value="FORMAT")
    group.option("result-config-map", parse_config_map, None, "ConfigMap that receives the result; only works in a pod",
                 value="NAMESPACE/NAME")  # fmt: skip
    group.option("status-listen", parse_address, None, "address of /status and /metrics during the run")
    group.option("log-level", parse_level, "info", "debug, info, warning or error")
