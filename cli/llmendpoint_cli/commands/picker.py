"""Asks which scenario to run, and shows what it will do, before `llmendpoint load` runs it.

The variables of the load generator (`LLMENDPOINT_LOAD_URL` and others) apply as they do to a command line: they are the
defaults of the questions, and what they set is part of the plan. If a stack is up, its first proxy is the default
server, and its API key is sent.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request

from rich.console import Console
from rich.prompt import Confirm, Prompt
from rich.table import Table
from rich.text import Text

from llmendpoint_cli.api_keys import access_of_stack
from llmendpoint_cli.direct import open_url
from llmendpoint_cli.stack.runs import first_proxy
from llmendpoint_common.contracts.loadrun import Api, RunDocument
from llmendpoint_common.contracts.loadrun.presets import PRESETS, Scenario
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import InputError
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import number
from llmendpoint_loadjob.run_flags import DEFAULT_URL
from llmendpoint_loadjob.run_values import parse_url
from llmendpoint_loadjob.settings import ENVIRONMENT_PREFIX, parse_settings, read_api_key

_SECONDS = 3.0
#: Number of times that a question is asked if the answer cannot be used.
_ATTEMPTS = 3
#: Models that are shown of those that a server lists.
_MAX_SHOWN = 12


class Answers(NamedTuple):
    """The answers as arguments of `llmendpoint load`."""

    arguments: list[str]


class Offer(NamedTuple):
    """The API of a server and the names of its models. `is_refused` is whether it asks for another API key."""

    api: Api
    models: list[str]
    is_refused: bool = False


def ask(console: Console | None = None) -> Answers | int:
    """Return the arguments of the scenario that the user picks, or an exit code if the user does not want to run it."""
    shown = console or Console(highlight=False, emoji=False)
    try:
        return _ask(shown)
    except (KeyboardInterrupt, EOFError):
        shown.print()
        return exit_codes.INTERRUPTED
    except InputError as error:
        print(f"llmendpoint load: {error}", file=sys.stderr)
        return error.exit_code


def _ask(console: Console) -> Answers | int:
    scenarios = list(Scenario)
    _show_scenarios(console, scenarios)
    picked = Prompt.ask("Scenario", console=console, default="1", choices=[
        *(str(index + 1) for index in range(len(scenarios))), *scenarios], show_choices=False)  # fmt: skip
    scenario = scenarios[int(picked) - 1] if picked.isdecimal() else Scenario(picked)
    url = _url(console)
    of_stack, usual = access_of_stack(url)
    key = _api_key(of_stack)
    api, models, is_refused = offered_models(url, key)
    if models:
        console.print(Text(f"models: {_some(models)}"))
    elif is_refused:
        console.print(Text(_refusal(url, key), "yellow"), soft_wrap=True)
    else:
        console.print(Text(f"{url} does not list its models.", "yellow"))
    model = _model(console, models, usual)
    arguments = [f"--scenario={scenario}", f"--url={url}", f"--model={model}"]
    if api is not Api.OLLAMA_CHAT:
        arguments.append(f"--api={api}")
    out = _answer(console, "Folder for the results, empty for none", _variable("OUT"))
    if out:
        arguments.append(f"--out={out}")
    console.print()
    for sentence in plan(parse_settings(arguments, "llmendpoint load").document):
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(f"command: llmendpoint load {shlex.join(arguments)}", "dim"), soft_wrap=True)
    return Answers(arguments) if Confirm.ask("Run it?", console=console, default=True) else exit_codes.OK


def _show_scenarios(console: Console, scenarios: Sequence[Scenario]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for index, scenario in enumerate(scenarios):
        table.add_row(Text(str(index + 1)), Text(scenario.value, "bold"), Text(PRESETS[scenario].description))
    console.print(table)


def _url(console: Console) -> str:
    usual = first_proxy() or DEFAULT_URL
    default = _variable("URL") or usual
    while True:
        text = _answer(console, "URL of the model server", default)
        try:
            return parse_url(text)
        except ValueError as error:
            console.print(Text(str(error), "red"), soft_wrap=True)
            default = usual


def _model(console: Console, models: Sequence[str], usual: str) -> str:
    """Return a model that the server lists. If it lists none, any name is accepted. `usual` is offered if listed."""
    first = _listed(usual, models) or next(iter(models), "")
    default = _variable("MODEL") or first
    for _ in range(_ATTEMPTS):
        answer = _answer(console, "Model", default)
        model = _listed(answer, models) if models else answer
        if model:
            return model
        wrong = f"The server does not have the model {answer!r}." if answer else "No model was named."
        advice = f"It has {_some(models)}." if models else "Write the name of a model that the server has."
        console.print(Text(f"{wrong} {advice}", "red"), soft_wrap=True)
        default = first
    raise InputError("no model of the server was named; set --model" if models else "no model was named; set --model")


def _listed(name: str, models: Sequence[str]) -> str | None:
    """Return the listed name of a model, or None. As for Ollama, a name without a tag means the tag `latest`."""
    return next((each for each in (name, f"{name}:latest") if each in models), None)


def _some(models: Sequence[str]) -> str:
    """Return the names of models in a sentence, of which the first are shown if there are many."""
    shown = ", ".join(models[:_MAX_SHOWN])
    return f"{shown} and {len(models) - _MAX_SHOWN} more" if len(models) > _MAX_SHOWN else shown


def _answer(console: Console, question: str, default: str) -> str:
    """Return an answer without white space around it. An empty default is not shown."""
    return Prompt.ask(question, console=console, default=default, show_default=bool(default)).strip()


def _variable(name: str) -> str:
    """Return the value of a variable of the load generator, or an empty text."""
    return os.environ.get(ENVIRONMENT_PREFIX + name, "").strip()


def _api_key(of_stack: Path | None) -> str:
    """Return the API key for a server: that of the variables, or that in the file of the stack, or an empty text.

    Raises APIKeyError if a file cannot be read.
    """
    named = _variable("API_KEY_FILE")
    path = Path(named) if named else None if _variable("API_KEY") else of_stack
    return _variable("API_KEY") if path is None else read_api_key(path)


def _refusal(url: str, key: str) -> str:
    what = "refuses the API key" if key else "needs an API key"
    return (
        f"{url} {what}, so its models are not known. Name a file with a key in the variable "
        f"{ENVIRONMENT_PREFIX}API_KEY_FILE, or use `llmendpoint load --api-key-file FILE`."
    )


def offered_models(url: str, key: str) -> Offer:
    """Return the API of a server and the names of its models, which are unknown if it does not list them."""
    base = url.rstrip("/").removesuffix("/v1")
    is_refused = False
    for api, path, rows_key, name in (
        (Api.OLLAMA_CHAT, "/api/tags", "models", "name"),
        (Api.OPENAI_CHAT, "/v1/models", "data", "id"),
    ):
        request = Request(base + path)  # noqa: S310 - parse_url has checked the scheme
        if key:
            # Another server, to which this one redirects, must not get the key.
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        try:
            with open_url(request, _SECONDS) as response:
                rows = json.loads(response.read(1 << 20))[rows_key]
            return Offer(api, [str(row[name]) for row in rows if isinstance(row, dict) and name in row])
        except HTTPError as error:
            is_refused |= error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return Offer(Api.OLLAMA_CHAT, [], is_refused)


def plan(document: RunDocument) -> list[str]:
    """Return sentences that say what a run will do."""
    load = document.load
    seconds = load.duration_seconds
    if load.stages:
        seconds = sum(stage.duration_seconds for stage in load.stages)
    amount = f"for {format_duration(seconds)}" if seconds < 86400 * 29 else "until it is stopped"
    if load.max_requests is not None:
        amount = f"until {load.max_requests} requests are answered, at most {format_duration(seconds)}"
    if load.sweep is not None:
        amount = f"at rates from {number(load.sweep.min_rate)} to {number(load.sweep.max_rate)} requests/s, "
        amount += f"{format_duration(load.sweep.step_seconds)} each"
    shape = _shape(document)
    sentences = [f"{shape} {amount}, to {document.model} at {document.target.url} ({document.target.api})."]
    if load.warmup_seconds:
        sentences.append(f"A warm-up of {format_duration(load.warmup_seconds)} comes first and is not measured.")
    objectives = len(document.objectives)
    sentences.append(f"{objectives} objectives are judged." if objectives else "Nothing is judged; add --slo to do so.")
    return sentences


def _shape(document: RunDocument) -> str:
    load = document.load
    if load.stages:
        levels = [stage.rate or stage.concurrency or 0 for stage in load.stages]
        unit = "users" if load.stages[0].rate is None else "requests/s"
        return f"{len(load.stages)} stage{'s' if len(load.stages) > 1 else ''} with up to {number(max(levels))} {unit}"
    if load.rate is not None:
        return f"{number(load.rate)} requests/s"
    if load.sweep is not None:
        return "A search for the highest rate"
    users = load.concurrency or 1
    return f"{users} user{'s' if users > 1 else ''}, each with one request at a time,"
