"""What `status` of a LoadTest shows of a result."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.api.loadtest.status import SloState, SweepState
from llmendpoint_common.contracts.loadrun import SweepResult
from llmendpoint_operator.loadtest.results import result_fields, slo_state
from support.load.reports import summary
from support.load.runs import answered, run


@pytest.mark.parametrize(
    ("settings", "met"),
    [
        pytest.param({}, [True, False], id="complete"),
        pytest.param({"interrupted": True}, [None, None], id="interrupted"),
        pytest.param({"throttled": 50.0}, [None, None], id="limited by the load generator"),
    ],
)
def test_an_objective_is_met_or_missed_only_if_the_run_can_tell(
    settings: dict[str, Any], met: list[bool | None]
) -> None:
    state = slo_state(run([answered()] * 20, "ttft:p95=1s", "tpot:p95=1ms", **settings))
    assert [item.get("met") for item in state] == met
    for item in state:
        assert SloState.model_validate(item).met == item.get("met")
        assert not {"judged", "needed"} & set(item)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (SweepResult(8.1, 7.6, 8.5), {"rate": "8.1", "low": "7.6", "high": "8.5"}),
        (SweepResult(None, 0.0, 1.0), {"low": "0", "high": "1"}),
        # The highest rate that was tried is 16.
        (SweepResult(16.0, 16.0, 16.0), {"rate": "16", "low": "16"}),
        (SweepResult(15.5, 15.1, 16.0), {"rate": "15.5", "low": "15.1"}),
        (SweepResult(8.0, 8.0, 20.0), {"rate": "8", "low": "8"}),
    ],
)
def test_a_sweep_has_no_upper_bound_if_the_capacity_may_be_above_all_rates(
    found: SweepResult, state: dict[str, str]
) -> None:
    shown = result_fields(summary(sweep=found))["summary"]["sweep"]
    assert shown == state
    assert SweepState.model_validate(shown).high == state.get("high")
