"""Settings of the load generator, parsed once from flags and environment variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.contracts.sidecar import PROXY_PORT
from llmendpoint_common.process.flags import Flags, Group, choice, one_of
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import (
    Address,
    parse_address,
    parse_duration,
    parse_integer,
    parse_number,
    parse_positive,
)
from llmendpoint_loadjob.client.requests import RequestOptions, Target, parse_target
from llmendpoint_loadjob.load.arrivals import Arrivals
from llmendpoint_loadjob.load.run import Load
from llmendpoint_loadjob.result.objectives import Objective, parse_objective

ENVIRONMENT_PREFIX = "LLMENDPOINT_LOAD_"

_EXAMPLES = """examples:
  llmendpoint load --model llama3.2:3b --concurrency 4 --duration 30s --slo ttft:p95=1s --slo error_rate=1%
  llmendpoint load --url http://127.0.0.1:8000/v1 --api openai-chat --model m --rate 2 --arrivals poisson

exit codes: 0 Passed or no objectives, 99 Failed, 98 Invalid (the client was the limit), 1 run error, 2 wrong setting
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
    """Return a rate in requests per second."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100_000:
        raise ValueError(f"{text!r} is not a rate; write requests per second, like 2 or 0.5")
    return rate


def parse_settings(arguments: Sequence[str] | None = None, program: str = "llmendpoint_loadjob") -> Settings:
    """Return the settings of a command line. A wrong one ends the process with exit code 2."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Send load to a model server, measure it, and judge it.", _EXAMPLES)
    _target_options(flags.group("target"))
    _load_options(flags.group("load"))
    _question_options(flags.group("questions"))
    result = flags.group("result")
    result.option("slo", parse_objective, [], "objective: ttft:p95=1s, tpot:p95=50ms, request_latency:p99=30s, "
                  "error_rate=1% or attainment=95%", value="OBJECTIVE")  # fmt: skip
    result.option("out", Path, None, "folder to write summary.json and requests.jsonl to")
    result.option("result-config-map", str, None, "ConfigMap to write the result to, in a pod of a cluster",
                  value="NAMESPACE/NAME")  # fmt: skip
    result.option("status-listen", parse_address, None, "address for progress and metrics while the run lasts")
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
        questions=options.questions or shipped_questions(),
        categories=tuple(options.category),
        shuffled=not options.in_order,
        objectives=tuple(options.slo),
        out=options.out,
        result_config_map=options.result_config_map,
        status_listen=options.status_listen,
        log_level=options.log_level,
    )


def _target_options(group: Group) -> None:
    group.option("url", parse_target, f"http://127.0.0.1:{PROXY_PORT}", "base URL of the model server", value="URL")
    group.option("api", choice(Api), "ollama-chat", one_of(Api), value="API")
    group.option("model", str, None, "name of the model to ask; required", value="NAME")
    group.option("api-key", str, None, "API key, sent as a bearer token; the variable keeps it off the command line",
                 value="KEY")  # fmt: skip
    group.option("timeout", parse_duration, "5m", "limit for one whole request")


def _load_options(group: Group) -> None:
    group.option("concurrency", parse_positive, None, "closed loop: number of users, each of which waits for its "
                 "answer before it sends again; 1 without --rate")  # fmt: skip
    group.option("rate", parse_rate, None, "open loop: requests per second, independent of the answers", value="RATE")
    group.option("arrivals", choice(Arrivals), "poisson", "gaps between requests of an open loop: "
                 + one_of(Arrivals), value="LAW")  # fmt: skip
    group.option("duration", parse_duration, "30s", "how long requests are sent")
    group.option("warmup", parse_duration, "0", "how long requests are sent before that, without counting")
    group.option("max-requests", parse_positive, None, "number of requests after which the run ends")
    group.option("seed", parse_integer, "1", "seed of schedule and questions; the same seed gives the same run")


def _question_options(group: Group) -> None:
    group.option("questions", Path, None, "folder of question files; without it, the shipped questions")
    group.option("category", str, [], "category to ask; without it, all categories are asked",
                 value="NAME")  # fmt: skip
    group.switch("in-order", "ask questions in the order of the files, not shuffled")
    group.switch("no-stream", "request whole answers instead of streams")
    group.option("max-tokens", parse_positive, None, "limit of tokens per answer; without it, the question's own limit")
    group.option("temperature", parse_number, None, "sampling temperature; without it, the server chooses")
