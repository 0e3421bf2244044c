"""Node.js and the packages of the lock files, which tests install from the npm registry when they first need them.

`python -m support.node FOLDER` installs the packages of a folder.
"""

from __future__ import annotations

import fcntl
import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NodeError(Exception):
    """Why there is no Node.js, or no packages, on this machine."""


@functools.cache
def node_with_packages(folder: Path) -> str:
    """Return Node.js, with the packages of the lock file in a folder installed. Raise NodeError if one is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise NodeError("`node` and `npm` are not on the PATH")
    lock, installed = folder / "package-lock.json", folder / "node_modules/.package-lock.json"
    with _locked(lock):
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NodeError(f"`npm ci` cannot install the packages of {lock}: {done.stderr[-500:]}")
    return node


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time install: `npm ci` first deletes what is there, which another process may use."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        node_with_packages(Path(sys.argv[1]))
    except NodeError as error:
        sys.exit(str(error))
