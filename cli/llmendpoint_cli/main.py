"""`llmendpoint COMMAND`: selects and runs a command."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StdoutError
from llmendpoint_common.process.streams import open_streams, tolerated_output
from llmendpoint_common.process.version import VERSION

_PROGRAM = "llmendpoint"
#: The module of each command.
_COMMANDS = {
    "up": "llmendpoint_cli.commands.up",
    "status": "llmendpoint_cli.commands.status",
    "logs": "llmendpoint_cli.commands.logs",
    "down": "llmendpoint_cli.commands.down",
    "demo": "llmendpoint_cli.commands.demo",
    "load": "llmendpoint_cli.commands.load",
    "traffic": "llmendpoint_cli.commands.traffic",
    "results": "llmendpoint_cli.commands.results",
    "doctor": "llmendpoint_cli.commands.doctor",
    "questions": "llmendpoint_cli.commands.questions",
    "sidecar": "llmendpoint_sidecar.main",
    "simulate": "llmendpoint_simulator.main",
}
_HELP = """usage: llmendpoint COMMAND [options]

Run a metered, load-tested Ollama endpoint on one machine, without a cluster. Begin with `llmendpoint up`.

commands:
  up         start a metered endpoint on this machine: proxy, metrics, dashboard and Prometheus
  status     show what runs, since when, where, and whether it is healthy
  logs       show the output of what runs
  down       end what `up` started
  demo       show all of it in a few seconds: start it, send a short load test through it, and end it
  load       send requests to a model server and check the responses against objectives
  traffic    send requests at a low rate until it is stopped, also in the background
  results    show the result of a load test, fetch it from a cluster, or compare two
  doctor     find problems of this machine or of endpoints on a cluster, and how to fix them
  questions  list, check and sample the questions of load tests
  sidecar    run the metering proxy in front of Ollama
  simulate   run a simulated Ollama

options:
  -h, --help   show this help message and exit
  --version    show the version and exit

`llmendpoint COMMAND --help` lists the options and exit codes of a command.

exit codes:
  0    success; for demo, load and results: the objectives were met, or there were none
  1    the command failed, or its output could not be written; for doctor: something is wrong
  2    invalid command, option or file
  98   demo, load, results: the run cannot tell, for example because the load generator was the bottleneck
  99   demo, load, results: an objective was missed
  130  demo, load, results: interrupted, so the result is partial; other commands: interrupted twice
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. If `arguments` is None, the command line of the process is used."""
    open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = f"{_PROGRAM} {words[0]}" if words and words[0] in _COMMANDS else _PROGRAM
    try:
        try:
            return _run(words, program)
        finally:
            # Also after --help, which ends the process.
            with tolerated_output():
                sys.stdout.flush()
    except StdoutError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code


def _run(words: Sequence[str], program: str) -> int:
    """Run the command that the words name, and return its exit code."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return exit_codes.OK
    if words[0] == "--version":
        print(f"{_PROGRAM} {VERSION}")
        return exit_codes.OK
    module = _COMMANDS.get(words[0])
    if module is None:
        sentence = f"{words[0]!r} is not a command; the commands are {', '.join(_COMMANDS)}"
        print(f"{_PROGRAM}: {sentence}\nSee --help for all commands.", file=sys.stderr)
        return exit_codes.USAGE
    # Each command is imported when it runs: all of them together take a second to load.
    run: Callable[[Sequence[str], str], int] = importlib.import_module(module).main
    return run(words[1:], program)


if __name__ == "__main__":
    sys.exit(main())
