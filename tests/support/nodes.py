"""Processes of pods, as their node sees them: signals reach them without a shell or a permission inside the pod."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

_FIND = """for process in /proc/[0-9]*; do
  grep -qE '{uid}' "$process/cgroup" 2>/dev/null || continue
  tr '\\0' ' ' < "$process/cmdline" | grep -q '{words}' && echo "${{process#/proc/}}"
done
true"""


class Node:
    """The node of a pod: this machine, or a container of kind. The test is skipped if neither has the pod."""

    def __init__(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        #: The drivers of cgroups write the UID with dashes or underscores.
        self._uid = f"{uid}|{uid.replace('-', '_')}"
        self._prefix = self._find_node(pod["spec"]["nodeName"])

    def processes(self, words: str) -> list[int]:
        """Return the IDs of the pod's processes whose command line contains these words."""
        return [int(line) for line in self._run(_FIND.format(uid=self._uid, words=words)).split()]

    def signal(self, name: str, process: int) -> None:
        """Send a signal, such as `STOP`."""
        self._run(f"kill -{name} {process}")

    def files(self, process: int, folder: str) -> list[str]:
        """Return the names in a folder, as a process sees it."""
        return self._run(f"ls -A /proc/{process}/root{folder}").split()

    def _find_node(self, name: str) -> list[str]:
        docker = shutil.which("docker")
        if docker and not subprocess.run([docker, "inspect", name], check=False, capture_output=True).returncode:
            return [docker, "exec", name, "sh", "-c"]
        here = ["sh", "-c"]
        found = subprocess.run([*here, _FIND.format(uid=self._uid, words="")], check=False, capture_output=True)
        if not found.stdout.split():
            pytest.skip(f"the processes of node {name} are not visible: neither on this machine nor with docker exec")
        return here

    def _run(self, script: str) -> str:
        return subprocess.run([*self._prefix, script], check=True, capture_output=True, text=True, timeout=60).stdout
