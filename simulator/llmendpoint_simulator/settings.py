"""The simulator's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address, parse_duration, parse_positive
from llmendpoint_simulator.behaviour import Behaviour

_EXAMPLES = """examples:
  python -m llmendpoint_simulator --ttft 200ms --inter-token 20ms --tokens 50 --parallel 4
  curl localhost:11434/api/chat -d '{"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}'
  curl localhost:11434/simulator/ledger
  curl -X PUT localhost:11434/simulator/behaviour -d '{"ttft": 1.5}'
"""


@dataclass(frozen=True)
class Settings:
    """Where to listen, and how to behave at first."""

    listen: Address
    behaviour: Behaviour
    log_level: str


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line; ends the process with 2 where one is wrong."""
    flags = Flags("llmendpoint_simulator", "Ollama's API with known timings and a ledger.", _EXAMPLES)
    flags.group("address").option("listen", parse_address, Address("127.0.0.1", 11434), "where clients connect")
    timing = flags.group("timing (250ms, 15s, 1h30m)")
    timing.option("ttft", parse_duration, 0.2, "time to first token", shown="200ms")
    timing.option("inter-token", parse_duration, 0.02, "between two tokens", shown="20ms")
    timing.option("load", parse_duration, 0.0, "to load a model that is not in memory", shown="0")
    timing.option("pull", parse_duration, 0.0, "to pull a model", shown="0")
    size = flags.group("size")
    size.option("tokens", parse_positive, 50, "tokens of an answer")
    size.option("tokens-per-chunk", parse_positive, 1, "tokens in one piece of a stream")
    size.option("parallel", parse_positive, 4, "requests that run at once, a model")
    size.option("max-queue", parse_positive, 512, "requests that wait; more get 503")
    models = flags.group("models")
    models.option("model", str, ["simulated:latest"], "a model that is there; repeatable", action="append")
    models.option("embedding-model", str, [], "an embedding model that is there; repeatable", action="append")
    models.option("registry-model", str, [], "a model that can be pulled; repeatable", action="append")
    flags.group("logs").option("log-level", parse_level, "info", "debug, info, warning or error")
    options = vars(flags.parse(arguments))
    named = options.pop("model")
    # `append` adds to its default: the default counts only where nothing was named.
    models_present = tuple(named[1:] or named)
    return Settings(
        listen=options.pop("listen"),
        log_level=options.pop("log_level"),
        behaviour=Behaviour(
            models=models_present,
            embedding_models=tuple(options.pop("embedding_model")),
            registry=tuple(options.pop("registry_model")),
            **options,
        ),
    )
