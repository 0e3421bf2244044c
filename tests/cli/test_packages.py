"""Every command runs with the packages of `requirements/cli.txt` alone, which are those that `install.sh` installs."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from llmendpoint_cli.main import _COMMANDS
from support.machine.local_stack import LocalStack, local_stack

ROOT = Path(__file__).parents[2]
#: The packages of the command line, and those that have its commands and the programs of a stack.
OURS = (
    "llmendpoint_cli",
    "llmendpoint_dashboard",
    "llmendpoint_loadjob",
    "llmendpoint_sidecar",
    "llmendpoint_simulator",
)
#: Modules that need another extra, and that are imported only if an option asks for them.
OF_OTHER_EXTRAS = ("llmendpoint_sidecar.records.otlp",)
#: Python imports this module first. In every process of a test, the other packages of this environment are absent.
HOOK = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
"""
IMPORT_ALL = f"""
import importlib, pkgutil

for package in {OURS}:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not module.name.endswith(".__main__") and module.name not in {OF_OTHER_EXTRAS}:
            importlib.import_module(module.name)
"""


def absent_modules() -> set[str]:
    """Return the top-level modules of this environment that no package in `requirements/cli.txt` has."""
    lines = (ROOT / "requirements" / "cli.txt").read_text().splitlines()
    kept = {"llmendpoint", *(_normalized(line.partition("==")[0]) for line in lines if "==" in line)}
    return {
        module for module, packages in packages_distributions().items() if kept.isdisjoint(map(_normalized, packages))
    }


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    """The command line without the other packages of this environment, in all its processes."""
    folder = tmp_path / "hook"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK.format(absent=sorted(absent_modules())))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    with local_stack(tmp_path / "state") as made:
        yield made


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of an API server that has nothing."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NotFound)
    threading.Thread(target=server.serve_forever).start()
    path = tmp_path / "kubeconfig"
    path.write_text(
        textwrap.dedent(f"""\
        apiVersion: v1
        kind: Config
        current-context: c
        clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{server.server_port}"}}}}]
        users: [{{name: u, user: {{}}}}]
        contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
        """)
    )
    yield path
    server.shutdown()
    server.server_close()


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        """Write nothing."""


def test_every_module_can_be_imported(stack: LocalStack) -> None:
    assert "cronsim" in absent_modules()
    command = [sys.executable, "-W", "error", "-c", IMPORT_ALL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=stack.environment)
    assert done.returncode == 0, done.stderr


def test_every_command_runs(stack: LocalStack, kubeconfig: Path) -> None:
    """Modules that are imported late, and the programs of a stack, need no other packages either."""
    lines = [
        ("up --simulator --no-prometheus", "dashboard"),
        ("status", "simulator"),
        ("load --model simulated --concurrency 1 --max-requests 2", "NoObjectives"),
        ("results", "simulated"),
        ("traffic --detach", "runs in the background"),
        ("doctor", "Ollama"),
        (f"doctor default/assistant --kubeconfig {kubeconfig}", "LLMEndpoint"),
        ("logs", "proxy on"),
        ("down", "Nothing runs any more"),
        ("demo --help", "usage"),
        ("questions list", "Math"),
        ("sidecar --help", "usage"),
        ("simulate --help", "usage"),
    ]
    assert {words.partition(" ")[0] for words, _ in lines} == set(_COMMANDS)
    for words, expected in lines:
        done = stack.run(*words.split())
        assert "No module named" not in done.stdout + done.stderr
        assert expected in done.stdout, done.stdout + done.stderr
