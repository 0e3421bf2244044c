"""Settings of a program from flags and environment variables. A flag takes precedence over its variable.

Each program has its own prefix, so that the settings of one program never reach another. For example, `--drain-delay`
of the sidecar can also be set with `LLMENDPOINT_SIDECAR_DRAIN_DELAY`. A list is written as `[a, b]` in a variable.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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

#: Placeholder of an option's value in `--help`, by the function that parses the value.
_VALUE_NAMES: dict[Callable[[str], Any], str] = {
    parse_address: "[HOST]:PORT",
    parse_duration: "DURATION",
    parse_integer: "N",
    parse_level: "LEVEL",
    parse_number: "NUMBER",
    parse_positive: "N",
    Path: "PATH",
}
_VARIABLES = """Every option can also be set with the environment variable in brackets. The command line takes
precedence. Separate the values of a repeatable option like this: VARIABLE='[a, b]'. Set the variable of an option
without a value to true or false."""


@dataclass(frozen=True)
class Option:
    """An option, for the reference of all programs.

    `value` is the placeholder of its value, and empty for a switch. `default` is text as on the command line, or None.
    `text` is the help text without default and variable.
    """

    name: str
    value: str
    default: str | None
    text: str
    variable: str
    repeatable: bool = False


class Flags:
    """A command line. Every option has an environment variable, which `--help` shows. `--version` prints the version.

    An invalid flag or value ends the process with exit code 2. It prints one sentence and a hint at `--help` to stderr.
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
        self.program = program
        self.description = description
        #: The options that were added, by the title of their group.
        self.groups: dict[str, list[Option]] = {}
        self._groups: dict[str, Group] = {}
        self._prefix = environment_prefix
        self._lists: dict[str, list[Any]] = {}
        self._variables: Mapping[str, str] = {}

    def group(self, title: str) -> Group:
        """Return the group of options with a title, which is its heading in the help text."""
        if title not in self._groups:
            options = self.groups.setdefault(title, [])
            self._groups[title] = Group(self._parser.add_argument_group(title), self._prefix, self._lists, options)
        return self._groups[title]

    def positional(self, name: str, text: str, count: str | None = None) -> None:
        """Add an argument without a name. `count` is argparse's: `*` for any number, `?` for at most one."""
        shown = f"[{name}]" if count in ("*", "?") else name
        self._parser.usage = f"{self._parser.usage} {shown}"
        self._parser.add_argument(name.lower(), nargs=count, metavar=name, help=text)

    def parse(
        self, arguments: Sequence[str] | None, environment: Mapping[str, str] | None = None
    ) -> argparse.Namespace:
        """Return the values of all options.

        If `arguments` or `environment` is None, the command line or the environment of the process is used.
        """
        words = sys.argv[1:] if arguments is None else list(arguments)
        variables = os.environ if environment is None else environment
        self._parser.words = words
        self._variables = variables
        self._refuse_undecodable(words, variables)
        namespace: argparse.Namespace = self._parser.parse_args(words, env_vars=variables)
        for name, default in self._lists.items():
            if getattr(namespace, name) is None:
                setattr(namespace, name, list(default))
        return namespace

    def is_given(self, name: str) -> bool:
        """Return whether an option was set in the last `parse`, by its flag or its variable. `name` is without `--`."""
        return self._parser.is_given(f"--{name}") or self._prefix + name.upper().replace("-", "_") in self._variables

    def refuse(self, sentence: str) -> NoReturn:
        """End the process with exit code 2 and `sentence`. Use it for rules that involve several options."""
        self._parser.error(sentence)

    def _refuse_undecodable(self, words: Sequence[str], variables: Mapping[str, str]) -> None:
        """Refuse bytes that are not UTF-8. Python replaces each with a lone surrogate (PEP 383)."""
        for word in words:
            if not _is_text(word):
                self.refuse(f"the argument {_printable(word)} is not valid UTF-8")
        for name, value in variables.items():
            if name.startswith(self._prefix) and not _is_text(value):
                self.refuse(f"the variable {_printable(name)} is not valid UTF-8")


class Group:
    """Options under one heading of the help text."""

    def __init__(self, group: Any, prefix: str, lists: dict[str, list[Any]], options: list[Option]) -> None:
        self._group = group
        self._prefix = prefix
        self._lists = lists
        self._options = options

    def option(
        self,
        name: str,
        parse: Callable[[str], Any],
        default: str | Sequence[str] | None,
        text: str,
        *,
        value: str | None = None,
        alias: str | None = None,
    ) -> None:
        """Add the option `--name VALUE`.

        `default` is text, as on the command line. If it is a list, the option is repeatable. `text` is the help text,
        with the unit; the default is added to it. `value` is the placeholder of the value in the help text. `alias` is
        another spelling of the option, which has no variable; with one letter, it is written with one dash. If `parse`
        is Path, an empty path is refused: it would be the current folder.
        """
        repeatable = default is not None and not isinstance(default, str)
        if repeatable:
            self._lists[name.replace("-", "_")] = [parse(item) for item in default or ()]
        metavar = value or _VALUE_NAMES.get(parse, "VALUE")
        spellings = _spellings(name, alias)
        text += f"; also {spellings[1]}" if alias else ""
        self._group.add_argument(
            *spellings,
            env_var=self._variable(name),
            dest=name.replace("-", "_"),
            type=_typed(parse),
            default=None if repeatable else default,
            action="append" if repeatable else "store",
            metavar=metavar,
            help=self._help(text + _notes(default), name),
        )
        shown = default if default is None or isinstance(default, str) else ", ".join(default)
        self._options.append(Option(f"--{name}", metavar, shown or None, text, self._variable(name), repeatable))

    def switch(self, name: str, text: str, *, alias: str | None = None) -> None:
        """Add `--name`, which takes no value and is off by default. Its variable is `true` or `false`."""
        spellings = _spellings(name, alias)
        text += f"; also {spellings[1]}" if alias else ""
        self._group.add_argument(
            *spellings,
            env_var=self._variable(name),
            dest=name.replace("-", "_"),
            action="store_true",
            help=self._help(text, name),
        )
        self._options.append(Option(f"--{name}", "", None, text, self._variable(name)))

    def _help(self, text: str, name: str) -> str:
        return f"{text} [{self._variable(name)}]".replace("%", "%%")

    def _variable(self, name: str) -> str:
        return self._prefix + name.upper().replace("-", "_")


def _spellings(name: str, alias: str | None) -> tuple[str, ...]:
    if alias is None:
        return (f"--{name}",)
    return f"--{name}", f"-{alias}" if len(alias) == 1 else f"--{alias}"


def choice(kind: type[E]) -> Callable[[str], E]:
    """Return a parser for a string enum. Its error message lists the valid values."""

    def parse(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not valid; choose {one_of(str(item.value) for item in kind)}") from None

    return parse


def one_of(words: Iterable[str]) -> str:
    """Join words as alternatives, such as `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    """A parser that prints one sentence instead of the usage if an argument is invalid."""

    #: The command line that is parsed, without the name of the program.
    words: Sequence[str] = ()

    def is_given(self, name: str) -> bool:
        """Return whether the command line has a flag."""
        return any(word.partition("=")[0] == name for word in self.words)

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and `message`. If the value comes from a variable, the message names it."""
        option, separator, sentence = message.removeprefix("argument ").partition(": ")
        # argparse joins the spellings of an option with slashes.
        names = option.split("/")
        option = next((name for name in names if self.is_given(name)), names[0]) if separator else option
        # The parser has no sources before it parses.
        sources = self.get_source_to_settings_dict() if hasattr(self, "_source_to_settings") else {}
        for variable, (action, _) in sources.get("environment_variables", {}).items():
            if separator and option in action.option_strings:
                option = variable
        sys.stderr.write(f"{self.prog}: {option}{separator}{sentence}\nSee --help for all options.\n")
        sys.exit(exit_codes.USAGE)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _printable(text: str) -> str:
    return f"'{text.encode(errors='surrogateescape').decode(errors='backslashreplace')}'"


def _notes(default: str | Sequence[str] | None) -> str:
    """Return the part of the help text that shows the default."""
    if default is None or isinstance(default, str):
        return f" (default: {default})" if default else ""
    return f" (repeatable; default: {', '.join(default)})" if default else " (repeatable)"


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Wrap `parse` so that a ValueError becomes an ArgumentTypeError: argparse discards the message of a ValueError."""
    function = _path if parse is Path else parse

    def convert(text: str) -> Any:
        try:
            return function(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _path(text: str) -> Path:
    if not text:
        raise ValueError("the path is empty")
    return Path(text)
