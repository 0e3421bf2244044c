"""Selects the upstream of the local stack: an Ollama with a local model that answers."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from llmendpoint_cli.direct import open_url
from llmendpoint_common.api import defaults
from llmendpoint_common.process.reasons import reason_of

#: Model of the simulator.
SIMULATED_MODEL = "simulated:latest"
_PROBE_SECONDS = 3.0
#: Requests that the simulator runs at the same time for each model.
SIMULATED_PARALLEL = 4


def ollama_parallel() -> int:
    """Return the number of requests that an Ollama of this machine runs at the same time for each model.

    Ollama does not report it. One that is started here has this environment, and one that runs often has it too.
    """
    text = os.environ.get("OLLAMA_NUM_PARALLEL", "")
    return int(text) if text.isdecimal() and int(text) > 0 else defaults.NUM_PARALLEL


@dataclass(frozen=True)
class Upstream:
    """An upstream for the sidecar, and the model to send requests to. `is_real` is False for the simulator."""

    url: str
    model: str
    is_real: bool


def find_ollama(url: str) -> Upstream | str:
    """Return the model server at `url` if a local completion model of it answers within 3 s, otherwise the reason."""
    try:
        local = _local_models(url)
    except (OSError, ValueError) as error:
        return f"nothing answers at {url} ({reason_of(error)})"
    # A model in memory answers immediately. Loading any other model may take longer than 3 s.
    for name in _loaded_first(url, local):
        try:
            if not _completes(url, name):
                continue
            _call(
                f"{url}/api/generate", {"model": name, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
            )
        except (OSError, ValueError) as error:
            return f"{name} at {url} does not answer within {_PROBE_SECONDS:g} s ({reason_of(error)})"
        return Upstream(url, name, is_real=not is_simulator(url))
    return f"the Ollama at {url} has no local completion model (`ollama pull llama3.2:1b` pulls one)"


def local_models(url: str) -> list[str]:
    """Return the names of the models on the disk of the Ollama at `url`, or none if it does not answer."""
    try:
        return _local_models(url)
    except (OSError, ValueError):
        return []


def model_of(url: str) -> str:
    """Return a local completion model of the Ollama at `url`, first one in memory, or an empty text. Loads none."""
    try:
        return next((name for name in _loaded_first(url, _local_models(url)) if _completes(url, name)), "")
    except (OSError, ValueError):
        return ""


def is_simulator(url: str) -> bool:
    """Return whether the model server at a URL is the simulator, which has routes that Ollama does not have."""
    return simulated_parallel(url) > 0


def simulated_parallel(url: str) -> int:
    """Return how many requests the simulator at a URL runs at the same time for each model, or 0 if it is not one."""
    try:
        parallel = _call(f"{url}/simulator/behaviour", None).get("parallel")
    except (OSError, ValueError):
        return 0
    return parallel if isinstance(parallel, int) and parallel > 0 else SIMULATED_PARALLEL


def _loaded_first(url: str, names: list[str]) -> list[str]:
    loaded = _in_memory(url)
    return sorted(names, key=lambda name: name not in loaded)


def _completes(url: str, name: str) -> bool:
    return "completion" in _call(f"{url}/api/show", {"model": name}).get("capabilities", ["completion"])


def _local_models(url: str) -> list[str]:
    names = [str(row.get("name", "")) for row in _call(f"{url}/api/tags", None).get("models", [])]
    return [name for name in names if "cloud" not in name.rpartition(":")[2]]


def _in_memory(url: str) -> set[str]:
    try:
        return {str(row.get("name", "")) for row in _call(f"{url}/api/ps", None).get("models", [])}
    except (OSError, ValueError):
        return set()


def _call(url: str, body: dict[str, Any] | None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data)  # noqa: S310 - the scheme is ours
    with open_url(request, _PROBE_SECONDS) as response:
        answer = json.loads(response.read())
    return answer if isinstance(answer, dict) else {}
