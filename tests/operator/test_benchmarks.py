"""The benchmarks of the operator run, and count the children that an endpoint has."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from llmendpoint_operator.endpoint.desired import desired
from llmendpoint_operator.kube.capabilities import Capabilities
from support.in_memory.endpoints import OWNER, SETTINGS, endpoint_spec

BENCH = Path(__file__).parents[2] / "bench/operator"


def children() -> Counter[str]:
    """Return the children of the smallest endpoint in a cluster without optional kinds."""
    return Counter(item["kind"] for item in desired(OWNER, endpoint_spec(), SETTINGS, Capabilities(frozenset())))


def test_the_benchmark_expects_the_children_of_the_smallest_endpoint() -> None:
    (text,) = re.findall(r"^CHILDREN = (\{.*\})$", (BENCH / "phases.py").read_text(), re.MULTILINE)
    assert ast.literal_eval(text) == children()


def test_the_benchmark_without_an_api_server_runs() -> None:
    command = [sys.executable, str(BENCH / "warm.py"), "--endpoints", "3"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # An apply per child, a status and an Event.
    assert f"requests per first reconcile: {children().total() + 2}\n" in done.stdout
    assert "requests after the restart: 0\n" in done.stdout
