"""Programs that use client libraries as their users do. Each runs in its own process, against several servers.

The programs for Python are in `tests/clients/programs`, and those for JavaScript in `tests/clients/js`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from support.node import NodeError, node_with_packages

_ROOT = Path(__file__).parents[3]
_JAVASCRIPT = _ROOT / "tests/clients/js"
#: Python with the libraries of requirements/clients.txt, which `make clients` installs.
_CLIENTS_PYTHON = _ROOT / "build/clients/bin/python"

#: Programs whose libraries `make test` has.
SDKS = ("ollama_sdk", "openai_sdk", "anthropic_sdk", "ollama.mjs", "openai.mjs", "anthropic.mjs")
#: Programs that need the libraries of requirements/clients.txt.
FRAMEWORKS = ("langchain_sdk", "llama_index_sdk", "litellm_sdk")

_NEED_FRAMEWORKS = {*FRAMEWORKS, "keys_frameworks"}

_TIMEOUT_SECONDS = 110
#: Fields that differ between two answers to the same request: names, times and durations.
_VOLATILE = frozenset(
    {
        "id", "call_id", "item_id", "request_id", "tool_call_id", "created", "created_at", "completed_at", "modified_at",
        "expires_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
    }
)  # fmt: skip
_NAMES = re.compile(
    r"\b(req|msg|resp|rs|fc|call|cmpl|chatcmpl)[_-][0-9a-f_]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)

Results = dict[str, Any]


class Target(NamedTuple):
    """A server for a program: its URL, an API key, a model that it has, and one that it does not have."""

    name: str
    url: str
    model: str
    key: str = "a key that nobody reads"
    missing: str = "no-such-model"


async def run_program(program: str, targets: list[Target], home: Path, **environment: str) -> dict[str, Results]:
    """Run a program and return its results by target and call, without what differs between two equal answers.

    If the program cannot run here, the test is skipped, and fails if `CI` is set.
    """
    command = _command(program)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment_of(home), **environment},
    )
    given = json.dumps([target._asdict() for target in targets]).encode()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            out, err = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    results: dict[str, Results] = stable(json.loads(out))
    return results


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of a program. It has no keys and no addresses of the user."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PYTHONPATH": str(_ROOT / "tests")}


def stable(value: Any) -> Any:
    """Return a result without times and without names that the server makes up."""
    match value:
        case dict():
            return {name: stable(inner) for name, inner in value.items() if name not in _VOLATILE}
        case list():
            return [stable(inner) for inner in value]
        case str():
            return _NAMES.sub("NAME", value)
    return value


def failures(results: Results) -> Results:
    """Return the calls that raised, without those that are meant to."""
    return {
        name: result
        for name, result in results.items()
        if isinstance(result, dict) and "raised" in result and not name.startswith("error")
    }


def _command(program: str) -> list[str]:
    if program.endswith(".mjs"):
        return [_node(), str(_JAVASCRIPT / program)]
    return [python_with(frameworks=program in _NEED_FRAMEWORKS), "-m", f"clients.programs.{program}"]


def python_with(*, frameworks: bool) -> str:
    """Return the Python that has the SDKs or the frameworks. Without it, the test is skipped, and fails if `CI` is set."""
    if not frameworks:
        return sys.executable
    if not _CLIENTS_PYTHON.exists():
        _cannot_run("needs the libraries of requirements/clients.txt: run `make clients`")
    return str(_CLIENTS_PYTHON)


def _node() -> str:
    try:
        return node_with_packages(_JAVASCRIPT)
    except NodeError as error:
        _cannot_run(f"needs Node.js: {error}")


def _cannot_run(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
