"""`llmendpoint traffic`: sends requests at a low rate until it is stopped, for dashboards and alerts."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.loadrun.presets import Scenario
from llmendpoint_loadjob import main as loadjob


def main(arguments: Sequence[str], program: str = "llmendpoint traffic") -> int:
    """Run the scenario Traffic, whose options are those of `llmendpoint load`, and return the exit code."""
    return loadjob.main([f"--scenario={Scenario.TRAFFIC}", *arguments], program)
