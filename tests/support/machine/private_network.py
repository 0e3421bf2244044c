"""A network of its own for a test, so that programs can use their default ports, whatever runs on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# Brings the loopback interface up (ioctl SIOCSIFFLAGS with IFF_UP | IFF_RUNNING), and keeps the namespace.
_HOLD = """
import fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
print("up", flush=True)
sys.stdin.read()
"""


class PrivateNetwork:
    """A network namespace with nothing but loopback. Commands in it see no other program of this machine."""

    def __init__(self, holder: int) -> None:
        self._enter = ["nsenter", "--target", str(holder), "--user", "--net", "--preserve-credentials", "--"]

    def command(self, *words: str) -> list[str]:
        """Return the words that run a command in the namespace."""
        return [*self._enter, *words]

    def shell(
        self, line: str, folder: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of a shell to its end."""
        return subprocess.run(
            self.command("bash", "-uc", line),
            cwd=folder,
            env=dict(environment),
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )


@contextlib.contextmanager
def private_network() -> Iterator[PrivateNetwork]:
    """Make a network namespace. Raises OSError if this machine does not allow it."""
    command = ["unshare", "--map-root-user", "--net", "--", sys.executable, "-c", _HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            if holder.stdout.readline() != b"up\n":
                raise OSError(holder.stderr.read().decode(errors="replace"))
            yield PrivateNetwork(holder.pid)
        finally:
            holder.stdin.close()


def clean_environment(home: Path, path: Path) -> dict[str, str]:
    """Return the environment of a user with an empty home, who finds programs in `path` first."""
    kept = {name: os.environ[name] for name in ("LANG", "PYTHONPATH", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "PATH": f"{path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
