"""`llmendpoint logs`: the output of the programs of the stack."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.loglines import Follower, Line, last_lines, log_names, readable
from llmendpoint_cli.stack.state import read_stack
from llmendpoint_common.diagnosis.sentences import full_state_folder
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.streams import check_output
from llmendpoint_common.process.units import parse_positive

ENVIRONMENT_PREFIX = "LLMENDPOINT_LOGS_"
_DESCRIPTION = """Show the output of the programs that `llmendpoint up` started, in the order of time, each line with
the name of its program. The logs stay after `llmendpoint down`, 50 MiB of each program at most. Our
programs write no prompts and no responses."""
_NOTES = """examples:
  llmendpoint logs                       the last 100 lines of all programs
  llmendpoint logs -f sidecar            follow one program
  llmendpoint logs --tail 20 dashboard prometheus

exit codes: 0 success, 1 there are no logs, 2 invalid option or name
"""
_POLL_SECONDS = 0.2
_COLOURS = (36, 33, 32, 35, 34, 31)


def command_line(program: str = "llmendpoint logs") -> Flags:
    """Return the options of `logs`. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _NOTES)
    flags.positional("NAME", "names of programs, as `llmendpoint status` shows them, or supervisor (default: all)", "*")
    group = flags.group("output")
    group.switch("follow", "show new lines until it is stopped", alias="f")
    group.option("tail", parse_positive, "100", "number of lines to start with")
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint logs") -> int:
    """Print logs, and return the exit code."""
    flags = command_line(program)
    options = flags.parse(arguments)
    folders = Folders()
    stack = read_stack(folders)
    known = dict.fromkeys((*log_names(folders.logs), *(each.name for each in (stack.programs if stack else ()))))
    for name in options.name:
        if name not in known:
            flags.refuse(f"there is no log of {name!r}; there are logs of {', '.join(known) or 'nothing yet'}")
    names = options.name or list(known)
    if not names:
        print(f"{program}: there are no logs in {folders.logs}; `llmendpoint up` starts a stack", file=sys.stderr)
        return exit_codes.ERROR
    if stack is not None and (full := folders.full_disk()):
        print(f"{program}: {' '.join(full_state_folder(full))}", file=sys.stderr)
    printer = _Printer(names)
    try:
        followers = [Follower(folders.logs, name) for name in names] if options.follow else []
        printer.show(last_lines(folders.logs, names, options.tail))
        while followers:
            printer.show(line for follower in followers for line in follower.read())
            time.sleep(_POLL_SECONDS)
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would report the pipe again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass
    return exit_codes.OK


class _Printer:
    """Prints lines with the name of their program, in colours on a terminal."""

    def __init__(self, names: Sequence[str]) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._width = max(map(len, names))
        self._has_colours = self._is_terminal and "NO_COLOR" not in os.environ
        self._colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}

    def show(self, lines: Iterable[Line]) -> None:
        """Print lines. Raises BrokenPipeError, and StdoutError if they are lost for another reason."""
        for line in lines:
            name = f"{line.name:<{self._width}} |"
            if self._has_colours:
                name = f"\033[{self._colours[line.name]}m{name}\033[0m"
            print(name, readable(line.text) if self._is_terminal else line.text)
        sys.stdout.flush()
        check_output()
