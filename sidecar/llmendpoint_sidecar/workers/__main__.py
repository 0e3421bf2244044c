"""Entry point of a worker: `python -m llmendpoint_sidecar.workers CHANNEL SOCKET[,SOCKET] FLAGS…`.

Only the supervisor starts it. CHANNEL and SOCKET are file descriptors that the worker inherits. FLAGS is the command
line of the sidecar.
"""

from __future__ import annotations

import socket
import sys

from llmendpoint_common.process import lifecycle
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_sidecar.runtime import tune_garbage_collector
from llmendpoint_sidecar.settings import parse_settings
from llmendpoint_sidecar.workers.worker import work


def main() -> int:
    """Run one worker, and return its exit code."""
    channel, sockets, *arguments = sys.argv[1:]
    settings = parse_settings(arguments)
    configure_logs(settings.log_level)
    end = socket.socket(fileno=int(channel))
    listening = [socket.socket(fileno=int(number)) for number in sockets.split(",")]
    tune_garbage_collector()
    return lifecycle.run(lambda stopping: work(settings, end, listening, stopping))


if __name__ == "__main__":
    sys.exit(main())
