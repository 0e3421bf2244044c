"""`llmendpoint questions`: lists, checks and samples the questions of load runs."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.text import Text

from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import QuestionError, StdoutError
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_common.process.units import parse_integer, parse_positive
from llmendpoint_loadjob.dataset.questions import (
    Question,
    categories,
    read_questions,
    sample,
    shipped_questions,
    skipped,
    validate,
)
from llmendpoint_loadjob.report.console import print_grid
from llmendpoint_loadjob.report.streams import output_console

ENVIRONMENT_PREFIX = "LLMENDPOINT_QUESTIONS_"

_USAGE = """usage: llmendpoint questions COMMAND [options]

Show and check the questions of load tests.

commands:
  list       the categories of a folder of question files, with the number of questions
  validate   check question files; every error is printed with its file and line
  sample     print some questions

Each command reads the shipped questions unless it is given files or folders.

exit codes: 0, or 2 if a file is invalid
"""


def list_command_line(program: str = "llmendpoint questions list") -> Flags:
    """Return the options of `list`."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "List the categories of question files.")
    flags.positional("PATH", "folder of question files, or one file (default: the shipped questions)", "?")
    flags.group("output").switch("json", "print JSON")
    return flags


def validate_command_line(program: str = "llmendpoint questions validate") -> Flags:
    """Return the options of `validate`."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Check question files, and print every error with its file and line.")
    flags.positional("PATH", "folders of question files, or files (default: the shipped questions)", "*")
    return flags


def sample_command_line(program: str = "llmendpoint questions sample") -> Flags:
    """Return the options of `sample`."""
    flags = Flags(program, ENVIRONMENT_PREFIX, "Print some questions.")
    flags.positional("PATH", "folder of question files, or one file (default: the shipped questions)", "?")
    group = flags.group("choice")
    group.option("category", str, None, "category of the questions (default: all)", value="NAME")
    group.option("count", parse_positive, "3", "number of questions")
    group.option("seed", parse_integer, "1", "the same seed picks the same questions")
    flags.group("output").switch("json", "print JSON")
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint questions") -> int:
    """Run a command on questions and return the exit code."""
    commands: dict[str, tuple[Callable[[str], Flags], Callable[[Namespace], int]]] = {
        "list": (list_command_line, _list),
        "validate": (validate_command_line, _validate),
        "sample": (sample_command_line, _sample),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return exit_codes.OK
    if arguments[0] not in commands:
        print(f"{program}: {arguments[0]!r} is not a command; choose {', '.join(commands)}", file=sys.stderr)
        return exit_codes.USAGE
    flags, command = commands[arguments[0]]
    name = f"{program} {arguments[0]}"
    options = flags(name).parse(arguments[1:])
    try:
        return command(options)
    except (QuestionError, StdoutError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, StdoutError) else exit_codes.USAGE


def _read(options: Namespace) -> list[Question]:
    return read_questions(Path(options.path) if options.path else shipped_questions())


def _list(options: Namespace) -> int:
    counts = categories(_read(options))
    with tolerated_output():
        if options.json:
            _print_json([row._asdict() for row in counts])
            return exit_codes.OK
        rows = [("category", "questions", "turns", "expect", "words")]
        rows += [
            (row.name, str(row.questions), str(row.with_turns), str(row.with_expect), str(row.words)) for row in counts
        ]
        console = output_console()
        print_grid(console, rows)
        total = sum(row.questions for row in counts)
        console.print(Text(f"{total} questions in {len(counts)} categories"), soft_wrap=True)
    return exit_codes.OK


def _validate(options: Namespace) -> int:
    paths = [Path(path) for path in options.path] or [shipped_questions()]
    errors = validate(paths)
    for message in (*skipped(paths), *errors):
        print(message, file=sys.stderr)
    if errors:
        return exit_codes.USAGE
    count = sum(len(read_questions(path)) for path in paths)
    with tolerated_output():
        print("1 question is valid" if count == 1 else f"{count} questions are valid")
    return exit_codes.OK


def _sample(options: Namespace) -> int:
    picked = sample(_read(options), options.category, options.count, options.seed)
    with tolerated_output():
        if options.json:
            _print_json([_fields(question) for question in picked])
            return exit_codes.OK
        console = output_console()
        for question in picked:
            console.print(Text(f"{question.category} / {question.id}", "bold"), soft_wrap=True)
            if question.system:
                console.print(Text(f"system: {question.system}", "dim"), soft_wrap=True)
            console.print(Text(question.prompt), soft_wrap=True)
            for turn in question.turns:
                console.print(Text(f"then: {turn}", "dim"), soft_wrap=True)
            console.print()
    return exit_codes.OK


def _fields(question: Question) -> dict[str, object]:
    fields = {
        "id": question.id, "category": question.category, "system": question.system, "prompt": question.prompt,
        "turns": list(question.turns), "maxTokens": question.max_tokens,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value not in (None, [])}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
