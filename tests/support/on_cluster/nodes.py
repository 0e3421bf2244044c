"""Processes of pods, as their node sees them: signals reach them without a shell or a permission inside the pod."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
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

    @contextlib.contextmanager
    def blocked(self, source: str, port: int) -> Iterator[None]:
        """Drop what an address sends to a port of the pod."""
        rule = f"INPUT -s {source} -p tcp --dport {port} -j DROP"
        enter = f"nsenter --net=/proc/{self.processes('')[0]}/ns/net iptables"
        self._run(f"{enter} -I {rule}")
        try:
            yield
        finally:
            self._run(f"{enter} -D {rule}")

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


class ControlPlane:
    """The API server and etcd of the cluster, whose processes a test can kill.

    On kind, kubelet starts them again. Elsewhere, the variable E2E_RESTORE is the command that does. Without either, or if
    the processes are not visible, the test is skipped.
    """

    def __init__(self) -> None:
        config = json.loads(subprocess.check_output(["kubectl", "config", "view", "--minify", "-o", "json"]))
        self._port = config["clusters"][0]["cluster"]["server"].rpartition(":")[2]
        self._restore = os.environ.get("E2E_RESTORE", "")
        self._container = self._find_kind(config["current-context"])
        if not self._container and not self._restore:
            pytest.skip("the control plane cannot be started again: this is not kind, and E2E_RESTORE is not set")
        if self._api_server() is None:
            pytest.skip("the process of the API server is not visible")

    def kill(self, component: str, seconds: float = 0) -> None:
        """Send SIGKILL to `kube-apiserver` or `etcd`, and start it again after this time (on kind, kubelet does)."""
        if self._container:
            subprocess.run(["docker", "exec", self._container, "pkill", "-KILL", "-x", component], check=True)
            return
        found = self._api_server()
        assert found is not None, "the API server does not run"
        process, arguments = found
        if component == "etcd":
            (url,) = re.findall(r"--etcd-servers=(\S+)", arguments)
            ((process, _),) = (one for one in self._processes("etcd") if url in one[1])
        os.kill(process, signal.SIGKILL)
        time.sleep(seconds)
        subprocess.run(["sh", "-c", self._restore], check=True, capture_output=True, timeout=120)

    def _api_server(self) -> tuple[int, str] | None:
        if self._container:
            return 0, ""
        # Tests of other parts run API servers of their own.
        found = self._processes("kube-apiserver")
        return next((one for one in found if f"--secure-port={self._port}" in one[1]), None)

    @staticmethod
    def _processes(name: str) -> list[tuple[int, str]]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                arguments = path.read_bytes().decode(errors="replace").split("\0")
                if Path(arguments[0]).name == name:
                    found.append((int(path.parent.name), " ".join(arguments[1:])))
        return found

    @staticmethod
    def _find_kind(context: str) -> str:
        docker, name = shutil.which("docker"), f"{context.removeprefix('kind-')}-control-plane"
        found = docker and not subprocess.run([docker, "inspect", name], check=False, capture_output=True).returncode
        return name if found else ""
