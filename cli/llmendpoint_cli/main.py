"""`llmendpoint COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from llmendpoint_cli.commands.demo import run_demo
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.units import parse_duration
from llmendpoint_loadjob import main as loadjob
from llmendpoint_sidecar import main as sidecar
from llmendpoint_simulator import main as simulator

_HELP = """llmendpoint: a metered, load-tested Ollama endpoint on one machine

commands:
  demo       meter a model server (a real Ollama, else the simulator), drive it, judge it; ends by itself
  load       drive a model server and judge it
  sidecar    run the metering proxy in front of an Ollama
  simulate   run the simulated Ollama

`llmendpoint COMMAND --help` tells each command's options.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is the command's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "demo": _demo,
        "load": lambda rest: loadjob.main(rest, "llmendpoint load"),
        "sidecar": sidecar.main,
        "simulate": simulator.main,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return exit_codes.OK
    command = commands.get(words[0])
    if command is None:
        print(f"llmendpoint: no command {words[0]!r}; there are {', '.join(commands)}", file=sys.stderr)
        return exit_codes.USAGE
    return command(words[1:])


def _demo(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="llmendpoint demo", description="The main job on one machine, in 15 seconds.")
    parser.add_argument("--duration", default="8s", help="how long to send (default 8s)")
    options = parser.parse_args(arguments)
    try:
        parse_duration(options.duration)
    except ValueError as error:
        parser.error(str(error))
    return run_demo(options.duration)


if __name__ == "__main__":
    sys.exit(main())
