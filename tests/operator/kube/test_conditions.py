"""Merge of conditions into those of an object."""

from __future__ import annotations

from datetime import UTC, datetime

from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.kube.conditions import MAX_MESSAGE, Condition, is_true, merge

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_transition_time_moves_only_with_the_status() -> None:
    old = [
        {"type": "Ready", "status": "True", "reason": "A", "message": "m", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    ]
    same = merge(old, [Condition("Ready", True, "B", "n")], 2, NOW)
    assert same[0]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert (same[0]["reason"], same[0]["observedGeneration"]) == ("B", 2)
    assert merge(old, [Condition("Ready", None, "C", "o")], 2, NOW)[0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_the_default_condition_of_a_new_object_lends_nobody_its_transition_time() -> None:
    unseen = {
        "type": "Reconciling",
        "status": "True",
        "observedGeneration": 0,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    (row,) = merge([unseen], [Condition("Reconciling", True, "A", "m")], 1, NOW)
    assert row["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_condition_that_no_longer_applies_is_dropped() -> None:
    old = merge([], [Condition("GPUOffloaded", True, "A", "m")], 1, NOW)
    assert merge(old, [], 2, NOW) == []


def test_members_of_enums_are_written_as_plain_strings() -> None:
    (row,) = merge([], [Condition(EndpointCondition.READY, True, EndpointReason.MODELS_ANSWER, "m")], 1, NOW)
    assert (type(row["type"]), type(row["reason"])) == (str, str)
    assert (row["type"], row["status"], row["reason"]) == ("Ready", "True", "ModelsAnswer")


def test_long_messages_are_cut() -> None:
    (row,) = merge([], [Condition("Ready", False, "A", "x" * 5000)], 1, NOW)
    assert len(row["message"]) == MAX_MESSAGE


def test_is_true() -> None:
    rows = merge([], [Condition("Ready", True, "A", "m"), Condition("Degraded", None, "B", "m")], 1, NOW)
    assert is_true(rows, "Ready")
    assert not is_true(rows, "Degraded")
    assert not is_true(rows, "Absent")
