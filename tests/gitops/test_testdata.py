"""The test data of the Go tests is current. With UPDATE_GOLDEN=1 in the environment, it is written before.

It lies in the layout of Argo CD's `resource_customizations`: one file per state, and `health_test.yaml` with the
expected health. `tests/gitops/testdata/kstatus.yaml` has the status that kstatus computes for the same files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmendpoint_common.contracts.cluster import GROUP
from support.documents.gitops_endpoints import endpoints
from support.documents.gitops_loadtests import loadtests
from support.documents.gitops_states import KINDS, State, schedules

ROOT = Path(__file__).parents[2]
CHECKS = ROOT / "manifests" / "argocd" / "resource_customizations" / GROUP
EXPECTED = ROOT / "tests" / "gitops" / "testdata" / "kstatus.yaml"
HEADER = "# Written by tests/gitops/test_testdata.py from the operator's own functions; UPDATE_GOLDEN=1 rewrites it.\n"
STATES = [*endpoints(), *loadtests(), *schedules()]


class Dumper(yaml.SafeDumper):
    """Writes YAML without aliases, and indents lists as yamllint requires."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text(document: Any) -> str:
    return HEADER + yaml.dump(document, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True)


def path_of(state: State) -> Path:
    return CHECKS / state.kind / "testdata" / f"{state.name}.yaml"


def files() -> Iterator[tuple[Path, str]]:
    """Yield every file of the test data."""
    for state in STATES:
        yield path_of(state), text(state.body)
    for kind in KINDS:
        tests = [
            {
                "healthStatus": {"status": state.health, "message": state.message},
                "inputPath": f"testdata/{state.name}.yaml",
            }
            for state in STATES
            if state.kind == kind
        ]
        yield CHECKS / kind / "health_test.yaml", text({"tests": tests})
    rows = [{"path": str(path_of(state).relative_to(CHECKS)), "status": state.kstatus} for state in STATES]
    yield EXPECTED, text(rows)


def test_the_test_data_is_what_the_operator_writes() -> None:
    wanted = dict(files())
    if os.environ.get("UPDATE_GOLDEN"):
        for path, content in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    stale = [str(path) for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    assert not stale, "run the test with UPDATE_GOLDEN=1, and review the difference"


def test_no_file_is_left_over() -> None:
    assert {path.name for path in CHECKS.glob("*/testdata/*")} == {f"{state.name}.yaml" for state in STATES}
