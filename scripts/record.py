"""Record `llmendpoint up`, a load test, `status` and `down` in a terminal, for the README: docs/images/recording.svg.

The commands really run, in front of the simulator; times without output are shortened. On Linux, they run in a network
namespace of their own, if that is allowed, so that default ports are free.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from recording.drawing import svg
from recording.terminal import COLUMNS, ROWS, record, write_cast

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "llmendpoint up --simulator",
    "llmendpoint load --model simulated --concurrency 4 --duration 8s --slo ttft:p95=1s",
    "llmendpoint status",
    "llmendpoint down",
)
DESCRIPTION = "A terminal: llmendpoint up starts proxy, metrics and dashboard; a load test passes; down ends all."
_IN_NAMESPACE = "LLMENDPOINT_RECORDING_NAMESPACE"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/recording.svg", help="file of the animation")
    parser.add_argument("--cast", type=Path, help="also write an asciicast v2 to this file")
    options = parser.parse_args()
    _enter_namespace()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = _environment(home)
        try:
            events = record(COMMANDS, home, environment)
        except subprocess.CalledProcessError as error:
            print(f"{error}\n{error.output}", file=sys.stderr)
            return 1
        finally:
            subprocess.run(
                ["bash", "-c", "llmendpoint down --timeout 1s"], env=environment, check=False, capture_output=True
            )
    # The home of a reader, and not the temporary folder.
    events = [event._replace(text=event.text.replace(str(home), "/home/me")) for event in events]
    if options.cast:
        write_cast(events, options.cast)
    options.out.write_text(svg(events, COLUMNS, ROWS, DESCRIPTION), encoding="utf-8")
    print(f"{options.out}: {options.out.stat().st_size // 1024} KiB, {events[-1].seconds:.0f} s", file=sys.stderr)
    return 0


def _environment(home: Path) -> dict[str, str]:
    """Return the environment of a user without an Ollama, whose command `llmendpoint` is that of this source tree."""
    programs = home / ".local/bin"
    programs.mkdir(parents=True)
    (programs / "llmendpoint").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmendpoint_cli "$@"\n')
    (programs / "llmendpoint").chmod(0o755)
    paths = [str(ROOT / name) for name in ("common", "sidecar", "operator", "loadjob", "simulator", "dashboard", "cli")]
    return {
        "HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
        "LANG": "C.UTF-8",
        "LLMENDPOINT_STATE_DIR": str(home / "state"),
    }


def _enter_namespace() -> None:
    """Start this program again in a network namespace, with nothing but loopback. Without the right to, go on here."""
    if os.environ.get(_IN_NAMESPACE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
            fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
        return
    unshare = shutil.which("unshare")
    enter = [unshare or "unshare", "--map-root-user", "--net", "--"]
    if unshare and subprocess.run([*enter, "true"], check=False, capture_output=True).returncode == 0:
        os.execve(unshare, [*enter, sys.executable, *sys.argv], {**os.environ, _IN_NAMESPACE: "1"})


if __name__ == "__main__":
    sys.exit(main())
