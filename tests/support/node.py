"""Node.js and the packages of the lock files, which tests install from the npm registry when they first need them."""

from __future__ import annotations

import functools
import shutil
import subprocess
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
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run([npm, "ci"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NodeError(f"`npm ci` cannot install the packages of {lock}: {done.stderr[-500:]}")
    return node
