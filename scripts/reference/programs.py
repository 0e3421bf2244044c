"""Generates the reference of the command lines: options, environment variables and defaults of each program."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_cli.commands import demo, doctor, down, load, logs, questions, results, status, traffic, up
from llmendpoint_common.process.flags import Flags, Option
from llmendpoint_dashboard import settings as dashboard
from llmendpoint_loadjob import settings as loadjob
from llmendpoint_operator import settings as operator
from llmendpoint_sidecar import settings as sidecar
from llmendpoint_simulator import settings as simulator
from reference.markdown import HEADER, code, plain, table

_TEXT = """# Programs

Each option can also be set with an environment variable, and the command line takes precedence. Separate the values of
a repeatable option like this: `VARIABLE='[a, b]'`. The variable of an option without a value is `true` or `false`. All
programs also have `--help` and `--version`. A wrong option or value ends a program with exit code 2.

"""
#: The command line of each program, and how it is started.
_PROGRAMS = (
    (operator.command_line(), ["python -m llmendpoint_operator"]),
    (sidecar.command_line(), ["python -m llmendpoint_sidecar", "llmendpoint sidecar"]),
    (loadjob.command_line(), ["python -m llmendpoint_loadjob"]),
    (simulator.command_line(), ["python -m llmendpoint_simulator", "llmendpoint simulate"]),
    (up.command_line(), ["llmendpoint up"]),
    (status.command_line(), ["llmendpoint status"]),
    (logs.command_line(), ["llmendpoint logs"]),
    (down.command_line(), ["llmendpoint down"]),
    (dashboard.command_line(), ["python -m llmendpoint_dashboard"]),
    (demo.command_line(), ["llmendpoint demo"]),
    (load.command_line(), ["llmendpoint load"]),
    (traffic.command_line(), ["llmendpoint traffic"]),
    (results.command_line(), ["llmendpoint results [RUN]"]),
    (results.compare_command_line(), ["llmendpoint results compare BASELINE RUN"]),
    (doctor.command_line(), ["llmendpoint doctor"]),
    (questions.list_command_line(), ["llmendpoint questions list"]),
    (questions.validate_command_line(), ["llmendpoint questions validate"]),
    (questions.sample_command_line(), ["llmendpoint questions sample"]),
)


def programs_page() -> str:
    """Return the page of all programs."""
    return (HEADER + _TEXT + "".join(_program(*program) for program in _PROGRAMS)).rstrip() + "\n"


def _program(flags: Flags, commands: Sequence[str]) -> str:
    started = " or ".join(code(command) for command in commands)
    parts = [f"## {flags.program}\n\n{plain(flags.description)} Started with {started}.\n\n"]
    for title, options in flags.groups.items():
        parts.append(f"**{title[0].upper()}{title[1:]}**\n\n")
        parts.append(table(["option", "variable", "default", "description"], [_row(option) for option in options]))
        parts.append("\n")
    return "".join(parts)


def _row(option: Option) -> list[str]:
    name = code(f"{option.name} {option.value}" if option.value else option.name)
    text = f"{plain(option.text)} (repeatable)" if option.repeatable else plain(option.text)
    return [name, code(option.variable), code(option.default) if option.default else "", text]
