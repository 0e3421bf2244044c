"""`llmendpoint traffic`: sends requests at a low rate, in the foreground or as a part of the stack."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from llmendpoint_cli.api_keys import use_key_of_stack
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import running_stack, supervisor_runs, wait_for_stack
from llmendpoint_cli.stack.identity import send
from llmendpoint_cli.stack.lock import exclusive
from llmendpoint_cli.stack.runs import DEFAULT_PROXY
from llmendpoint_cli.stack.state import Kind, Program, Stack, read_process, write_stack
from llmendpoint_cli.stack.stop import supervisor_of
from llmendpoint_cli.stack.traffic import traffic_programs
from llmendpoint_common.contracts.loadrun.presets import Scenario
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import InputError, StackError
from llmendpoint_common.process.flags import Flags
from llmendpoint_loadjob import settings as loadjob
from llmendpoint_loadjob.inputs import read_inputs
from llmendpoint_loadjob.main import refuse, run_settings

_DESCRIPTION = """Send requests at a low rate, so that metrics and the dashboard have data: the scenario Traffic of
`llmendpoint load`, whose options change it. It runs until it is stopped, unless an option limits it."""
_EXAMPLES = """examples:
  COMMAND
      send requests to a model of the stack that is up, until Ctrl-C
  COMMAND --detach --rate 0.5 --category Math
      send them in the background, as a part of the stack
  COMMAND --stop
      end the traffic in the background
  COMMAND --url http://127.0.0.1:11434 --model llama3.2:3b --rate 2
      send requests to another model server

exit codes: 0 the traffic was started or stopped, or ended by a limit; 1 no stack is up, or it could not be changed, or
nothing was answered; 2 invalid option or file; 130 interrupted
"""
_OWN = ("--detach", "--stop")
_WAIT_SECONDS = 20.0
_NO_STACK = "no stack is up; run `llmendpoint up` first, or leave out --detach and name --url and --model"


def command_line(program: str = "llmendpoint traffic") -> Flags:
    """Return the options of the load generator, and those of traffic in the background."""
    flags = loadjob.command_line(program, loadjob.HelpTexts(_DESCRIPTION, _EXAMPLES, DEFAULT_PROXY))
    group = flags.group("background")
    group.switch(
        "detach", "send the traffic in the background, as a part of the stack that is up; `llmendpoint down` ends it"
    )
    group.switch("stop", "end the traffic in the background")
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint traffic") -> int:
    """Run the scenario Traffic, and return the exit code. Its options are those of `llmendpoint load`.

    If a stack is up, its proxy and a model of its server are the defaults.
    """
    flags = command_line(program)
    words = [f"--scenario={Scenario.TRAFFIC}", *arguments]
    options = flags.parse(words)
    try:
        if options.stop:
            return _stop()
        if options.detach:
            return _detach(flags, options, [word for word in arguments if word not in _OWN])
        use_key_of_stack(options)
        _fill(options)
        return run_settings(loadjob.settings_of(flags, options), program)
    except (InputError, ValueError) as error:
        return refuse(program, error)
    except StackError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code


def _fill(options: Namespace) -> None:
    """Set the target and the model that the user did not choose to those of the stack."""
    stack = running_stack(Folders()) if options.run is None and options.url is None else None
    if stack is None or not stack.sidecars:
        return
    programs = traffic_programs(stack.sidecars[:1], [], options.model or stack.model, _warn)
    for word in programs[0].command if programs else ():
        name, _, value = word.partition("=")
        if name in ("--url", "--model"):
            setattr(options, name[2:], value)


def _detach(flags: Flags, options: Namespace, words: list[str]) -> int:
    if options.api_key is not None:
        flags.refuse(
            "--api-key cannot be combined with --detach, because the list of processes shows it; use --api-key-file"
        )
    folders = Folders()
    with _stack(folders) as stack:
        own_key = options.api_key_file
        use_key_of_stack(options)
        key = options.api_key_file if own_key is None else None
        programs = _programs(stack, options, words if key is None else [*words, f"--api-key-file={key}"])
        # Errors in the options are reported here, and not in a log.
        read_inputs(loadjob.settings_of(flags, flags.parse(programs[0].command[3:], environment={})))
        kept = [program for program in stack.programs if program.kind is not Kind.TRAFFIC]
        _change(folders, msgspec.structs.replace(stack, programs=(*kept, *programs)))
        if len(kept) < len(stack.programs):
            print("These options replace those of the traffic that ran in the background.")
        for program in programs:
            _await(folders, program.name, runs=True)
            print(f"{program.name}: runs in the background; `llmendpoint traffic --stop` or `llmendpoint down` ends it")
    return exit_codes.OK


def _stop() -> int:
    folders = Folders()
    with _stack(folders, "no stack is up, so no traffic runs in the background") as stack:
        ending = [program.name for program in stack.programs if program.kind is Kind.TRAFFIC]
        if not ending:
            print("No traffic runs in the background.")
            return exit_codes.OK
        kept = tuple(program for program in stack.programs if program.name not in ending)
        _change(folders, msgspec.structs.replace(stack, programs=kept))
        for name in ending:
            _await(folders, name, runs=False)
            print(f"{name}: ended")
    return exit_codes.OK


@contextlib.contextmanager
def _stack(folders: Folders, without: str = _NO_STACK) -> Iterator[Stack]:
    """Hold the lock of the stack, and return it. Raises StackError with the text `without` if none is up."""
    if not folders.root.is_dir() or not supervisor_runs(folders):
        raise StackError(without)
    with exclusive(folders.root):
        stack = wait_for_stack(folders)
        if stack is None or not supervisor_runs(folders):
            raise StackError(without)
        yield stack


def _programs(stack: Stack, options: Namespace, words: list[str]) -> list[Program]:
    sidecars = stack.sidecars if options.url is None else stack.sidecars[:1]
    # The folder of the user, so that paths in the options mean the same.
    folder = str(Path.cwd())
    programs = [msgspec.structs.replace(program, folder=folder)
                for program in traffic_programs(sidecars, words, options.model or stack.model, _warn)]  # fmt: skip
    if not programs:
        raise StackError("there is no model to send requests to; choose one with --model NAME")
    return programs


def _change(folders: Folders, stack: Stack) -> None:
    """Replace the list of programs, and tell the supervisor."""
    try:
        write_stack(folders, stack)
    except OSError as error:
        raise StackError(f"{folders.root}: the state of the stack cannot be written: {error.strerror}") from error
    supervisor = supervisor_of(folders)
    if supervisor is None or not send(supervisor.pid, supervisor.start_ticks, signal.SIGHUP, supervisor.command):
        raise StackError(
            "the supervisor of the stack cannot be reached; `llmendpoint down` and `up` start the stack again"
        )


def _await(folders: Folders, name: str, *, runs: bool) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        record = read_process(folders, name)
        if runs == (record is not None and record.pid > 0):
            return
        time.sleep(0.05)
    raise StackError(
        f"{name} did not {'start' if runs else 'end'} within {_WAIT_SECONDS:g} s; `llmendpoint logs {name}`"
    )


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)
