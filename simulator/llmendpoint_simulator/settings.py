"""Settings of the simulator, parsed once from flags and environment variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import (
    Address,
    parse_address,
    parse_duration,
    parse_integer,
    parse_number,
    parse_positive,
)
from llmendpoint_simulator.behaviour import Behaviour

ENVIRONMENT_PREFIX = "LLMENDPOINT_SIMULATOR_"

_DEFAULT_MODEL = "simulated:latest"
_EXAMPLES = """examples:
  python -m llmendpoint_simulator --ttft 200ms --inter-token 20ms --tokens 50 --parallel 4
  curl localhost:11434/api/chat -d '{"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}'
  curl localhost:11434/simulator/ledger
  curl -X PUT localhost:11434/simulator/behaviour -d '{"ttft": 1.5}'
  python -m llmendpoint_simulator --known-latency --ttft 200ms --inter-token 20ms --parallel 1000 --capacity 30
"""


@dataclass(frozen=True)
class Settings:
    """Settings of a simulator. `behaviour` is the initial behaviour, and `known_latency` selects exact times."""

    listen: Address
    behaviour: Behaviour
    known_latency: bool
    log_level: str


def command_line(program: str = "llmendpoint_simulator") -> Flags:
    """Return the options of the simulator. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Run a simulated Ollama with known timings and a ledger.", _EXAMPLES)
    flags.group("address").option("listen", parse_address, f"127.0.0.1:{OLLAMA_PORT}", "address for clients")
    timing = flags.group("timing (250ms, 15s, 1h30m)")
    timing.option("ttft", parse_duration, "200ms", "time to first token")
    timing.option("inter-token", parse_duration, "20ms", "time between two tokens")
    timing.option("load", parse_duration, "0", "time to load a model that is not in memory")
    timing.option("pull", parse_duration, "0", "time to pull a model")
    size = flags.group("size")
    size.option("tokens", parse_positive, "50", "number of tokens in a response")
    size.option("tokens-per-chunk", parse_positive, "1", "number of tokens in one chunk of a stream")
    size.option("parallel", parse_positive, "4", "number of requests that run at the same time for each model")
    size.option(
        "max-queue", parse_positive, "512", "number of requests that may wait for each model; further ones get 503"
    )
    known = flags.group("known latency")
    known.switch("known-latency", "send each chunk at its exact time, and record in the ledger how exact it was; every "
                 "model name is served, with texts, and without faults, tools and formats")  # fmt: skip
    known.option("capacity", parse_rate, "0", "requests per second that the server can follow, with --known-latency; 0 "
                 "is no limit", value="RATE")  # fmt: skip
    known.option("ttft-cv", parse_rate, "0", "coefficient of variation of the time to first token, with "
                 "--known-latency; 0 is the same time for all requests", value="NUMBER")  # fmt: skip
    known.option("seed", parse_integer, "0", "seed of the times to first token")
    models = flags.group("models")
    models.option("model", str, [_DEFAULT_MODEL], "name of a model that is present", value="NAME")
    models.option("embedding-model", str, [], "name of an embedding model that is present", value="NAME")
    models.option("registry-model", str, [], "name of a model that can be pulled", value="NAME")
    flags.group("logs").option("log-level", parse_level, "info", "debug, info, warning or error")
    return flags


def parse_rate(text: str) -> float:
    """Return a number that is not negative."""
    number = parse_number(text)
    if number < 0:
        raise ValueError(f"{text!r} is negative; write 0 or a positive number")
    return number


def parse_settings(arguments: Sequence[str] | None = None, program: str = "llmendpoint_simulator") -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2."""
    flags = command_line(program)
    options = vars(flags.parse(arguments))
    known = options.pop("known_latency")
    alone = ("capacity", "ttft_cv") if not known else ("load", "pull")
    for name in alone:
        if options[name]:
            only = "needs" if not known else "cannot be combined with"
            flags.refuse(f"--{name.replace('_', '-')} {only} --known-latency")
    return Settings(
        listen=options.pop("listen"),
        known_latency=known,
        log_level=options.pop("log_level"),
        behaviour=Behaviour(
            models=tuple(options.pop("model")),
            embedding_models=tuple(options.pop("embedding_model")),
            registry=tuple(options.pop("registry_model")),
            **options,
        ),
    )
