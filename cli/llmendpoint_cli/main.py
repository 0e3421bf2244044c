"""`llmendpoint COMMAND`: selects and runs a command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from llmendpoint_cli.commands import demo, doctor, load, questions, results, traffic
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar import main as sidecar
from llmendpoint_simulator import main as simulator

_PROGRAM = "llmendpoint"
_HELP = """usage: llmendpoint COMMAND [options]

Run a metered, load-tested Ollama endpoint on one machine, without a cluster.

commands:
  demo       run the metering proxy in front of a model server and a short load test through it
  load       send requests to a model server and check the responses against objectives
  traffic    send requests at a low rate until it is stopped
  results    show the result of a load test, fetch it from a cluster, or compare two
  doctor     say what is wrong with this machine or with endpoints of a cluster, and how to mend it
  questions  list, check and sample the questions of load tests
  sidecar    run the metering proxy in front of Ollama
  simulate   run a simulated Ollama

options:
  -h, --help   show this help message and exit
  --version    show the version and exit

`llmendpoint COMMAND --help` lists the options and exit codes of a command.

exit codes:
  0    success; for demo, load and results: the objectives were met, or there were none
  1    the command failed; for doctor: something is wrong
  2    invalid command, option or file
  98   demo, load, results: the run cannot tell, for example because the load generator was the bottleneck
  99   demo, load, results: an objective was missed
  130  demo, load, results: interrupted, so the result is partial; other commands: interrupted twice
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. If `arguments` is None, the command line of the process is used."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[Sequence[str], str], int]] = {
        "demo": demo.main,
        "load": load.main,
        "traffic": traffic.main,
        "results": results.main,
        "doctor": doctor.main,
        "questions": questions.main,
        "sidecar": sidecar.main,
        "simulate": simulator.main,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return exit_codes.OK
    if words[0] == "--version":
        print(f"{_PROGRAM} {VERSION}")
        return exit_codes.OK
    command = commands.get(words[0])
    if command is None:
        sentence = f"{words[0]!r} is not a command; the commands are {', '.join(commands)}"
        print(f"{_PROGRAM}: {sentence}\nSee --help for all commands.", file=sys.stderr)
        return exit_codes.USAGE
    return command(words[1:], f"{_PROGRAM} {words[0]}")


if __name__ == "__main__":
    sys.exit(main())
