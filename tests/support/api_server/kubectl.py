"""kubectl as a user of a real API server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any


class Kubectl:
    """Runs kubectl in one namespace."""

    def __init__(self, program: str, kubeconfig: Path, namespace: str) -> None:
        self._command = [program, "--kubeconfig", str(kubeconfig), "--namespace", namespace]

    def run(self, *arguments: str, documents: list[dict[str, Any]] | str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl with documents on its standard input."""
        text = documents if isinstance(documents, str) else json.dumps(_list(documents))
        # What kubectl caches about the API belongs to one API server, and to one version of the CRDs.
        environment = os.environ | {"KUBECACHEDIR": str(Path(self._command[2]).parent / "kubectl-cache")}
        return subprocess.run(
            [*self._command, *arguments], input=text, capture_output=True, text=True, check=False, env=environment
        )

    def ok(self, *arguments: str, documents: list[dict[str, Any]] | str = "") -> str:
        """Run kubectl, which must succeed, and return its output."""
        done = self.run(*arguments, documents=documents)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def difference(self, documents: list[dict[str, Any]] | str, *flags: str) -> str:
        """Return the output of `kubectl diff`, which is empty if an apply would change nothing."""
        done = self.run("diff", "--filename=-", *flags, documents=documents)
        assert done.returncode in (0, 1), done.stderr
        assert bool(done.stdout) == bool(done.returncode), done.stderr
        return done.stdout


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}
