"""Settings of a program from flags and environment variables. A flag overrides its variable.

Each program has a prefix of its own, so that the settings of one program never reach another: `--drain-delay` of the
sidecar is also `LLMENDPOINT_SIDECAR_DRAIN_DELAY`. A list is written as `[a, b]` in a variable.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import configargparse

from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import (
    parse_address,
    parse_duration,
    parse_integer,
    parse_number,
    parse_positive,
)
from llmendpoint_common.process.version import VERSION

E = TypeVar("E", bound=Enum)

#: How `--help` writes the value of an option, by the function that parses it.
_VALUE_NAMES: dict[Callable[[str], Any], str] = {
    parse_address: "[HOST]:PORT",
    parse_duration: "DURATION",
    parse_integer: "N",
    parse_level: "LEVEL",
    parse_number: "NUMBER",
    parse_positive: "N",
    Path: "PATH",
}
_VARIABLES = """The variable in brackets sets an option as well; the option on the command line overrides it.
For a repeatable option, write the variable as [a, b]."""


class Flags:
    """A command line. Every option has an environment variable, which `--help` shows; `--version` prints the version.

    A wrong flag or value ends the process with exit code 2, one sentence on stderr, and a line that points to `--help`.
    """

    def __init__(self, program: str, environment_prefix: str, description: str, examples: str = "") -> None:
        self._parser = _Parser(
            prog=program,
            usage=f"{program} [options]",
            description=f"{description}\n\n{_VARIABLES}",
            epilog=examples,
            auto_env_var_prefix=environment_prefix,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_config_file_help=False,
            add_env_var_help=False,
        )
        self._parser.add_argument("--version", action="version", version=f"{program} {VERSION}")
        self._prefix = environment_prefix
        self._lists: dict[str, list[Any]] = {}

    def group(self, title: str) -> Group:
        """Start a group of options under its own heading of the help text."""
        return Group(self._parser.add_argument_group(title), self._prefix, self._lists)

    def parse(
        self, arguments: Sequence[str] | None, environment: Mapping[str, str] | None = None
    ) -> argparse.Namespace:
        """Return the values of all options.

        If `arguments` or `environment` is None, the command line or the environment of the process is used.
        """
        namespace: argparse.Namespace = self._parser.parse_args(
            None if arguments is None else list(arguments), env_vars=os.environ if environment is None else environment
        )
        for name, default in self._lists.items():
            if getattr(namespace, name) is None:
                setattr(namespace, name, list(default))
        return namespace

    def refuse(self, sentence: str) -> NoReturn:
        """End the process with exit code 2 and `sentence`. For rules that concern several options."""
        self._parser.error(sentence)


class Group:
    """Options under one heading of the help text."""

    def __init__(self, group: Any, prefix: str, lists: dict[str, list[Any]]) -> None:
        self._group = group
        self._prefix = prefix
        self._lists = lists

    def option(
        self,
        name: str,
        parse: Callable[[str], Any],
        default: str | Sequence[str] | None,
        text: str,
        *,
        value: str | None = None,
    ) -> None:
        """Add `--name VALUE`. The default is written as a user writes it; a list makes the option repeatable.

        `text` names the unit, `value` replaces VALUE in the help text, which also shows the default.
        """
        repeatable = default is not None and not isinstance(default, str)
        if repeatable:
            self._lists[name.replace("-", "_")] = [parse(item) for item in default or ()]
        self._group.add_argument(
            f"--{name}",
            type=_typed(parse),
            default=None if repeatable else default,
            action="append" if repeatable else "store",
            metavar=value or _VALUE_NAMES.get(parse, "VALUE"),
            help=self._help(text + _notes(default), name),
        )

    def switch(self, name: str, text: str) -> None:
        """Add `--name`, which is off by default; its variable is `true` or `false`."""
        self._group.add_argument(f"--{name}", action="store_true", help=self._help(text, name))

    def _help(self, text: str, name: str) -> str:
        variable = self._prefix + name.upper().replace("-", "_")
        return f"{text} [{variable}]".replace("%", "%%")


def choice(kind: type[E]) -> Callable[[str], E]:
    """Return a parser for the values of an enum of strings, whose error lists the values."""

    def parse(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not known; choose {one_of(str(item.value) for item in kind)}") from None

    return parse


def one_of(words: Iterable[str]) -> str:
    """Return words as a sentence lists alternatives: `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    """The parser of ConfigArgParse, with errors that are one sentence instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and `message`, which names the variable if the value came from there."""
        option, separator, sentence = message.removeprefix("argument ").partition(": ")
        for variable, (action, _) in self.get_source_to_settings_dict().get("environment_variables", {}).items():
            if separator and option in action.option_strings:
                option = variable
        sys.stderr.write(f"{self.prog}: {option}{separator}{sentence}\nSee --help for all options.\n")
        sys.exit(exit_codes.USAGE)


def _notes(default: str | Sequence[str] | None) -> str:
    """Return what the help text says of the default, in parentheses."""
    if default is None or isinstance(default, str):
        return f" (default: {default})" if default else ""
    return f" (repeatable; default: {', '.join(default)})" if default else " (repeatable)"


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser for argparse, which keeps the sentence of an error only in an error class of its own."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
