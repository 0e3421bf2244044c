"""Settings from flags and environment: `--drain-delay` is also `LLMENDPOINT_DRAIN_DELAY`, and the flag wins."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import configargparse

ENVIRONMENT_PREFIX = "LLMENDPOINT_"


class Flags:
    """A command line whose every option has an environment variable, shown by `--help`.

    A wrong value ends the process with exit code 2 and one sentence on stderr.
    """

    def __init__(self, program: str, description: str, examples: str = "") -> None:
        self._parser = configargparse.ArgumentParser(
            prog=program,
            description=description,
            epilog=examples,
            auto_env_var_prefix=ENVIRONMENT_PREFIX,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_config_file_help=False,
            add_env_var_help=False,
        )

    def group(self, title: str) -> Group:
        """Start a group of options under its own heading of the help text."""
        return Group(self._parser.add_argument_group(title))

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Return all options; exits with 2 where one is wrong."""
        namespace: argparse.Namespace = self._parser.parse_args(None if arguments is None else list(arguments))
        return namespace

    def refuse(self, sentence: str) -> None:
        """End with exit code 2 and `sentence`: for rules that span options."""
        self._parser.error(sentence)


class Group:
    """Options that belong together."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def option(self, name: str, parse: Callable[[str], Any], default: Any, text: str, **extra: Any) -> None:
        """Add `--name VALUE`; `text` names the unit, the default and the variable are appended."""
        shown = "" if default in (None, []) else f"; default {extra.pop('shown', default)}"
        variable = ENVIRONMENT_PREFIX + name.upper().replace("-", "_")
        self._group.add_argument(
            f"--{name}", type=_typed(parse), default=default, help=f"{text}{shown} [{variable}]", **extra
        )

    def switch(self, name: str, text: str) -> None:
        """Add `--name`, off by default."""
        variable = ENVIRONMENT_PREFIX + name.upper().replace("-", "_")
        self._group.add_argument(f"--{name}", action="store_true", help=f"{text} [{variable}]")


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn a parser's ValueError into argparse's own error, which keeps the sentence."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
