"""What `status` of a LoadTest shows of a result."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.api.loadtest.status import SloState
from llmendpoint_operator.loadtest.results import slo_state
from support.runs import answered, run


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
