"""Settings of the simulator, parsed once from flags, environment variables and a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.process.errors import InputError
from llmendpoint_common.process.flags import Flags, choice
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import (
    Address,
    parse_address,
    parse_duration,
    parse_integer,
    parse_number,
    parse_positive,
)
from llmendpoint_simulator.behaviour import Behaviour, checked, read_changes
from llmendpoint_simulator.faults import Fault
from llmendpoint_simulator.latency import parse_latency

ENVIRONMENT_PREFIX = "LLMENDPOINT_SIMULATOR_"

_DEFAULT_MODEL = "simulated:latest"
_EXAMPLES = """examples:
  python -m llmendpoint_simulator --ttft 200ms --inter-token 20ms --tokens 50 --parallel 4
      a model with 50 tokens per second, which answers four requests at the same time

  curl localhost:11434/api/chat -d '{"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}'
      ask it; the clients of Ollama, OpenAI and Anthropic work as well

  python -m llmendpoint_simulator --ttft lognormal:300ms:0.8 --jitter 0.2 --load-factor 3
      times as on a busy GPU: a long tail, uneven tokens, and three times slower if all slots are taken

  python -m llmendpoint_simulator --model small:1b --model big:70b --memory 24GB --load 8s --behaviour sizes.json
      a GPU that does not hold both models, with sizes.json: {"sizes": {"small:1b": 2e9, "big:70b": 40000000000}}

  python -m llmendpoint_simulator --registry-model llama3.2:3b --pull-speed 50MB --layers 5 --verify 20s
      a registry: a pull reports layers, bytes and a silence, as a large one does

  curl -X PUT localhost:11434/simulator/behaviour -d '{"faults": [{"fault": "truncate", "probability": 0.05},
      {"fault": "queue_full", "count": 3, "route": "/api/chat"}, {"fault": "disk_full", "model": "llama3.2:3b"}]}'
      one stream in twenty is cut, the next three chats are refused, and a pull fails

  curl localhost:11434/simulator/ledger
      what was served: requests, tokens and reasons for each model and operation

  python -m llmendpoint_simulator --known-latency --ttft 200ms --inter-token 20ms --parallel 1000 --capacity 30
      exact times, to test a load generator

All fields of a behaviour, with examples: docs/simulator.md
"""
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMGT]i?B|B|)")
_UNITS = {"": 1, "B": 1} | {
    f"{letter}{binary}B": (1024 if binary else 1000) ** power
    for power, letter in enumerate("kMGT", 1)
    for binary in ("", "i")
}
#: Options whose field of the behaviour has another name.
_FIELDS = {"model": "models", "embedding_model": "embedding_models", "image_model": "image_models",
           "registry_model": "registry"}  # fmt: skip
_OTHERS = ("listen", "known_latency", "behaviour", "log_level")


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
    _timing(flags)
    size = flags.group("size")
    size.option("tokens", parse_positive, "50", "number of tokens in a response")
    size.option("tokens-per-chunk", parse_positive, "1", "number of tokens in one chunk of a stream")
    size.option("parallel", parse_positive, "4", "number of requests that run at the same time for each model")
    size.option(
        "max-queue", parse_positive, "512", "number of requests that may wait for each model; further ones get 503"
    )
    _models(flags)
    behaviour = flags.group("behaviour")
    behaviour.option("behaviour", Path, None, "JSON file with fields of the behaviour, as PUT /simulator/behaviour "
                     "takes them; options and variables take precedence", value="FILE")  # fmt: skip
    behaviour.option("fault", choice(Fault), "none", "fault of all requests", value="FAULT")
    behaviour.option("seed", parse_integer, "0", "seed of random times and faults")
    known = flags.group("known latency")
    known.switch("known-latency", "send each chunk at its exact time, and record in the ledger how exact it was; every "
                 "model name is served, with texts, and without faults, tools and formats")  # fmt: skip
    known.option("capacity", parse_not_negative, "0", "requests per second that the server can follow, with "
                 "--known-latency; 0 is no limit", value="RATE")  # fmt: skip
    known.option("ttft-cv", parse_not_negative, "0", "coefficient of variation of the time to first token, with "
                 "--known-latency; 0 is the same time for all requests", value="NUMBER")  # fmt: skip
    flags.group("logs").option("log-level", parse_level, "info", "debug, info, warning or error")
    return flags


def _timing(flags: Flags) -> None:
    timing = flags.group("timing (250ms, 15s, 1h30m; a latency is also lognormal:MEAN:CV, gamma:MEAN:CV or "
                         "empirical:0=TIME,0.5=TIME,1=TIME)")  # fmt: skip
    timing.option("ttft", parse_latency, "200ms", "time to first token", value="LATENCY")
    timing.option("prompt-token", parse_duration, "0", "additional time to first token for each token of the prompt")
    timing.option("inter-token", parse_latency, "20ms", "time between two tokens; a distribution is drawn once for "
                  "each request", value="LATENCY")  # fmt: skip
    timing.option("jitter", parse_not_negative, "0", "share by which the time between two tokens varies, 0 to 1")
    timing.option("load-factor", parse_number, "1", "how many times slower a request is if all slots are taken")
    timing.option("load", parse_latency, "0", "time to load a model that is not in memory", value="LATENCY")
    timing.option("embed", parse_latency, "0", "time of an embedding", value="LATENCY")
    timing.option("pull", parse_duration, "0", "time to pull a model")
    timing.option("pull-speed", parse_bytes, "0", "bytes of a pull per second, instead of --pull; 0 is off",
                  value="BYTES")  # fmt: skip
    timing.option("verify", parse_duration, "0", "silence of a pull while digests are verified")


def _models(flags: Flags) -> None:
    models = flags.group("models")
    models.option("model", str, [_DEFAULT_MODEL], "name of a model that is present", value="NAME")
    models.option("embedding-model", str, [], "name of an embedding model that is present", value="NAME")
    models.option("image-model", str, [], "name of a model for images that is present", value="NAME")
    models.option("registry-model", str, [], "name of a model that can be pulled", value="NAME")
    models.option("layers", parse_positive, "1", "number of layers that a pull reports")
    models.option("memory", parse_bytes, None, "memory of the GPU, such as 24GB; without it, all models fit",
                  value="BYTES")  # fmt: skip
    models.option("cpu-factor", parse_number, "1", "how many times slower a model is that is entirely on the CPU")


def parse_not_negative(text: str) -> float:
    """Return a number that is not negative."""
    number = parse_number(text)
    if number < 0:
        raise ValueError(f"{text!r} is negative; write 0 or a positive number")
    return number


def parse_bytes(text: str) -> int:
    """Return a number of bytes such as `500MB`, `24GB` or `1.5GiB`."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write it like 500MB, 24GB or 1.5GiB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_settings(arguments: Sequence[str] | None = None, program: str = "llmendpoint_simulator") -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2."""
    flags = command_line(program)
    options = vars(flags.parse(arguments))
    others = {name: options.pop(name) for name in _OTHERS}
    known = others["known_latency"]
    alone = ("capacity", "ttft_cv") if not known else ("load", "pull")
    for name in alone:
        if options[name]:
            only = "needs" if not known else "cannot be combined with"
            flags.refuse(f"--{name.replace('_', '-')} {only} --known-latency")
    behaviour = _behaviour(flags, options, others["behaviour"])
    if not known:
        try:
            checked(behaviour)
        except ValueError as error:
            flags.refuse(f"--behaviour: {error}")
    return Settings(
        listen=others["listen"],
        known_latency=known,
        log_level=others["log_level"],
        behaviour=behaviour,
    )


def _behaviour(flags: Flags, options: dict[str, Any], path: Path | None) -> Behaviour:
    """Return the behaviour of a file, with the options that were given instead of its fields."""
    try:
        fields = {} if path is None else read_changes(path)
    except InputError as error:
        flags.refuse(f"--behaviour: {error}")
    for name, value in options.items():
        field = _FIELDS.get(name, name)
        if field not in fields or flags.is_given(name.replace("_", "-")):
            fields[field] = msgspec.to_builtins(value)
    try:
        return msgspec.convert(fields, Behaviour)
    except msgspec.ValidationError as error:
        flags.refuse(f"the behaviour is invalid: {error}")
