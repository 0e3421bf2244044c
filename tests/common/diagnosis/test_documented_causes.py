"""Every cause has a row in docs/doctor.md, and the page names no cause that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from llmendpoint_common.contracts.cluster import EndpointReason, FaultReason, PodReason
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_common.diagnosis.findings import Cause

PAGE = (Path(__file__).parents[3] / "docs/doctor.md").read_text()
_NAME = re.compile(r"`([A-Z][A-Za-z]*[a-z][A-Z][A-Za-z]*|GPU[A-Z][A-Za-z]+)`")


def test_every_cause_has_a_row() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in _NAME.findall(row)}
    assert {cause.value for cause in Cause} <= documented


def test_every_name_on_the_page_exists() -> None:
    reasons = [reason.value for kind in (Cause, EndpointReason, FaultReason, PodReason, ModelReason) for reason in kind]
    assert set(_NAME.findall(PAGE)) <= {*reasons, "LimitNOFILE"}
