"""Command lines of all programs: help with defaults and variables, version, and errors with exit code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_common.contracts.loadrun import Arrivals
from llmendpoint_common.process.flags import Flags, choice
from llmendpoint_loadjob.settings import parse_settings as parse_load_settings
from llmendpoint_operator.settings import parse_settings as parse_operator_settings
from llmendpoint_sidecar.settings import parse_settings as parse_sidecar_settings
from llmendpoint_simulator.settings import parse_settings as parse_simulator_settings

VERSION = (Path(__file__).parents[3] / "VERSION").read_text().strip()
PREFIXES = {
    "llmendpoint_sidecar": "LLMENDPOINT_SIDECAR_",
    "llmendpoint_simulator": "LLMENDPOINT_SIMULATOR_",
    "llmendpoint_loadjob": "LLMENDPOINT_LOAD_",
    "llmendpoint_operator": "LLMENDPOINT_OPERATOR_",
}
MODULES = list(PREFIXES)


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment, timeout=60
    )


@pytest.mark.parametrize("module", MODULES)
def test_help_names_each_variable_and_default(module: str) -> None:
    done = run(module, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert f"[{PREFIXES[module]}LOG_LEVEL]" in done.stdout
    assert "default: info" in done.stdout
    variables = re.findall(r"\[(LLMENDPOINT_\w+)\]", done.stdout)
    options = [line for line in re.findall(r"^  --\w\S*", done.stdout, re.MULTILINE) if line != "  --version"]
    assert len(variables) == len(options)
    assert all(variable.startswith(PREFIXES[module]) for variable in variables)


@pytest.mark.parametrize("module", MODULES)
def test_help_shows_no_empty_default(module: str) -> None:
    text = " ".join(run(module, "--help", COLUMNS="200").stdout.split())
    assert not re.search(r"default:? ?(\[\]|None|\)|\[LLM)", text)


def test_help_says_which_options_are_repeatable() -> None:
    text = " ".join(run("llmendpoint_simulator", "--help", COLUMNS="200").stdout.split())
    assert "name of a model that is present (repeatable; default: simulated:latest)" in text
    assert "name of a model that can be pulled (repeatable)" in text


@pytest.mark.parametrize("module", MODULES)
def test_each_program_says_its_version(module: str) -> None:
    done = run(module, "--version")
    assert (done.returncode, done.stdout) == (0, f"{module} {VERSION}\n")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--log-level", "loud"], "--log-level: 'loud' is not a log level; choose debug, info, warning or error"),
        (["--fly"], "unrecognized arguments: --fly"),
        (["--log-level"], "--log-level: expected one argument"),
    ],
)
def test_a_wrong_flag_or_value_ends_with_2_and_one_sentence(module: str, arguments: list[str], sentence: str) -> None:
    done = run(module, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"{module}: {sentence}\nSee --help for all options.\n"


@pytest.mark.parametrize("name", ["Bad_NS", "A", "a.b", "-a", "a" * 64, ""])
@pytest.mark.parametrize("option", ["--namespace", "--own-namespace"])
def test_a_name_that_no_namespace_can_have_ends_the_operator_with_2(
    option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_operator_settings([f"{option}={name}"])
    assert ended.value.code == 2
    assert f"{option}: {name!r} is not the name of a namespace; use at most 63 lowercase" in capsys.readouterr().err
    assert parse_operator_settings([f"{option}=team-a1"]) is not None


def test_a_rule_over_several_options_is_one_sentence_too() -> None:
    done = run("llmendpoint_sidecar", "--tls-cert", "x.pem")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith("llmendpoint_sidecar: set both --tls-cert and --tls-key, or neither")


def test_a_variable_sets_and_a_flag_wins() -> None:
    wrong = run("llmendpoint_sidecar", LLMENDPOINT_SIDECAR_IDLE_TIMEOUT="never")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("llmendpoint_sidecar: LLMENDPOINT_SIDECAR_IDLE_TIMEOUT: 'never' is not a duration;")
    overridden = run(
        "llmendpoint_sidecar",
        "--idle-timeout",
        "1s",
        "--config",
        "/nowhere.json",
        LLMENDPOINT_SIDECAR_IDLE_TIMEOUT="2s",
    )
    assert "/nowhere.json" in overridden.stderr
    assert overridden.returncode == 2


def test_the_variables_of_one_program_do_not_reach_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMENDPOINT_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("LLMENDPOINT_MODEL", "other:1b")
    assert parse_sidecar_settings([]).listen.port == 11435
    assert parse_simulator_settings([]).listen.port == 11434
    assert parse_simulator_settings([]).behaviour.models == ("simulated:latest",)
    monkeypatch.setenv("LLMENDPOINT_LOAD_MODEL", "asked:1b")
    monkeypatch.setenv("LLMENDPOINT_SIDECAR_LISTEN", "127.0.0.1:2")
    assert parse_load_settings([]).document.model == "asked:1b"
    assert parse_simulator_settings([]).behaviour.models == ("simulated:latest",)
    assert parse_simulator_settings([]).listen.port == 11434
    assert parse_sidecar_settings([]).listen.port == 2


def test_a_caller_can_pass_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMENDPOINT_LOAD_RATE", "1")
    document = parse_load_settings(["--model", "m", "--concurrency", "2"], environment={}).document
    assert (document.load.concurrency, document.load.rate) == (2, None)
    given = parse_load_settings([], environment={"LLMENDPOINT_LOAD_MODEL": "n"}).document
    assert (given.model, given.load.rate) == ("n", None)


def test_a_list_replaces_its_default_and_is_read_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def models(*arguments: str) -> tuple[str, ...]:
        return parse_simulator_settings(arguments).behaviour.models

    assert models() == ("simulated:latest",)
    assert models("--model", "a", "--model", "b") == ("a", "b")
    monkeypatch.setenv("LLMENDPOINT_SIMULATOR_MODEL", "[c, d]")
    assert models() == ("c", "d")
    assert models("--model", "a") == ("a",)
    monkeypatch.setenv("LLMENDPOINT_SIMULATOR_MODEL", "e")
    assert models() == ("e",)


def test_a_list_of_one_call_does_not_reach_the_next() -> None:
    flags = Flags("program", "PROGRAM_", "Text.")
    flags.group("group").option("name", str, ["x"], "text")
    flags.parse([]).name.append("y")
    assert flags.parse([]).name == ["x"]


def test_a_choice_lists_the_values() -> None:
    assert choice(Arrivals)("poisson") is Arrivals.POISSON
    with pytest.raises(ValueError, match="'often' is not valid; choose constant, poisson or gamma"):
        choice(Arrivals)("often")
