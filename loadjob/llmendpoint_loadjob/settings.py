"""The load generator's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.process.flags import Flags, Group
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address, parse_duration, parse_positive
from llmendpoint_loadjob.client.requests import RequestOptions, Target, parse_target
from llmendpoint_loadjob.load.arrivals import Arrivals
from llmendpoint_loadjob.load.run import Load
from llmendpoint_loadjob.result.objectives import Objective, parse_objective

_EXAMPLES = """examples:
  llmendpoint load --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  llmendpoint load --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson

exit codes: 0 Passed or no objectives, 99 Failed, 98 Invalid (the client was the limit), 1 run error, 2 usage
"""


@dataclass(frozen=True)
class Settings:
    """Everything about one run. `result_config_map` is NAMESPACE/NAME, in a pod of a cluster."""

    target: Target
    options: RequestOptions
    load: Load
    questions: Path
    categories: tuple[str, ...]
    shuffled: bool
    objectives: tuple[Objective, ...]
    out: Path | None
    result_config_map: str | None
    status_listen: Address | None
    log_level: str


def shipped_questions() -> Path:
    """Return the folder of the shipped questions: in the package, or at the root of a source tree."""
    packaged = Path(__file__).parent / "data" / "questions"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "questions"


def parse_rate(text: str) -> float:
    """Return requests a second."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100_000:
        raise ValueError(f"{text!r} is not a rate; write requests a second, like 2 or 0.5")
    return rate


def parse_settings(arguments: Sequence[str] | None = None, program: str = "llmendpoint_loadjob") -> Settings:
    """Return the settings of a command line; ends the process with 2 where one is wrong."""
    flags = Flags(program, "Drive a model server, measure it, and judge it.", _EXAMPLES)
    _target_options(flags.group("target"))
    _load_options(flags.group("load"))
    _question_options(flags.group("questions"))
    result = flags.group("result")
    result.option("slo", parse_objective, [], "objective: ttft:p95=1s, tpot:p95=50ms, request_latency:p99=30s, "
                  "error_rate=1%%, attainment=95%%; repeatable", action="append")  # fmt: skip
    result.option("out", Path, None, "folder for summary.json and requests.jsonl")
    result.option("result-config-map", str, None, "NAMESPACE/NAME that takes the result, in a cluster")
    result.option("status-listen", parse_address, None, "serve progress and metrics here while the run lasts")
    result.option("log-level", parse_level, "info", "debug, info, warning or error")
    options = flags.parse(arguments)
    if not options.model:
        flags.refuse("--model is missing; name the model that the target serves")
    if options.concurrency and options.rate:
        flags.refuse("--concurrency and --rate exclude each other: a closed loop, or an open one")
    return Settings(
        target=options.url,
        options=RequestOptions(
            options.api, options.model, not options.no_stream, options.max_tokens, options.temperature, options.api_key
        ),
        load=Load(
            concurrency=None if options.rate else options.concurrency or 1,
            rate=options.rate,
            arrivals=options.arrivals,
            duration=options.duration,
            warmup=options.warmup,
            max_requests=options.max_requests,
            timeout=options.timeout,
            seed=options.seed,
        ),
        questions=options.questions,
        categories=tuple(options.category),
        shuffled=not options.in_order,
        objectives=tuple(options.slo),
        out=options.out,
        result_config_map=options.result_config_map,
        status_listen=options.status_listen,
        log_level=options.log_level,
    )


def _target_options(group: Group) -> None:
    group.option("url", parse_target, parse_target("http://127.0.0.1:11435"), "base URL of the model server",
                 shown="http://127.0.0.1:11435")  # fmt: skip
    group.option("api", Api, Api.OLLAMA_CHAT, "ollama-chat or openai-chat", shown="ollama-chat")
    group.option("model", str, "", "the model to ask")
    group.option("api-key", str, None, "sent as a bearer token; better given by the variable")
    group.option("timeout", parse_duration, 300.0, "for one whole request", shown="5m")


def _load_options(group: Group) -> None:
    group.option(
        "concurrency", parse_positive, None, "closed loop: so many users, each waits for its answer; 1 if no --rate"
    )
    group.option("rate", parse_rate, None, "open loop: requests a second, whatever the answers do")
    group.option("arrivals", Arrivals, Arrivals.POISSON, "constant or poisson gaps of the open loop", shown="poisson")
    group.option("duration", parse_duration, 30.0, "how long to send", shown="30s")
    group.option("warmup", parse_duration, 0.0, "sent before, and left out of the result", shown="0")
    group.option("max-requests", parse_positive, None, "end after so many requests")
    group.option("seed", int, 1, "the same seed gives the same schedule and the same questions")


def _question_options(group: Group) -> None:
    group.option("questions", Path, shipped_questions(), "folder of question files", shown="the shipped ones")
    group.option("category", str, [], "only this category; repeatable", action="append")
    group.switch("in-order", "ask in the files' order, not shuffled")
    group.switch("no-stream", "ask for whole answers, not streams")
    group.option("max-tokens", parse_positive, None, "bound of every answer; else the question's own")
    group.option("temperature", float, None, "sampling temperature; else the server's")
