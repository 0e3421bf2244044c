"""Faults of several children as one condition."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault, condition_of, final, in_words, name_conflicts, needed
from support.in_memory.fakes import refusal

WEBHOOK = 'Internal error occurred: failed calling webhook "w.example.org": no endpoints available'


def _fault(kind: str, message: str) -> Fault:
    return classify(refusal(500, message), ChildKey(kind, "assistant"))


def test_children_with_the_same_refusal_share_its_sentence() -> None:
    faults = [_fault(kind, WEBHOOK) for kind in ("ServiceAccount", "ConfigMap", "Service")]
    condition = condition_of("Degraded", faults, status=True)
    assert condition.reason == FaultReason.WEBHOOK_FAILED
    assert condition.message.count(WEBHOOK) == 1
    alone = faults[0].message.removeprefix("ServiceAccount/assistant: ")
    assert condition.message == f"ServiceAccount/assistant, ConfigMap/assistant, Service/assistant: {alone}"


@pytest.mark.parametrize(
    ("kind", "is_needed", "needs_a_person", "is_used"),
    [
        ("Service", True, True, True),
        ("Ingress", True, True, False),
        ("HTTPRoute", True, True, False),
        ("NetworkPolicy", True, True, False),
        ("ServiceMonitor", True, False, False),
    ],
)
def test_what_a_name_conflict_means(kind: str, is_needed: bool, needs_a_person: bool, is_used: bool) -> None:
    taken = [Fault(FaultReason.NAME_CONFLICT, f"{kind}/a", "a is taken")]
    assert (bool(needed(taken)), bool(final(taken)), bool(name_conflicts(taken))) == (
        is_needed,
        needs_a_person,
        is_used,
    )


@pytest.mark.parametrize(("kind", "is_needed"), [("HTTPRoute", True), ("ServiceMonitor", False)])
def test_a_missing_kind_matters_if_the_spec_asks_for_it(kind: str, is_needed: bool) -> None:
    lacking = [Fault(FaultReason.UNKNOWN_KIND, f"{kind}/a", "there is no such kind")]
    assert bool(needed(lacking)) == is_needed
    assert final(lacking) == []


def test_different_refusals_keep_their_sentences() -> None:
    hook, quota = (
        _fault("Service", WEBHOOK),
        _fault("ConfigMap", 'configmaps "assistant" is forbidden: exceeded quota: q'),
    )
    assert in_words([hook, quota]) == f"{hook.message}; {quota.message}"


def test_a_sentence_that_is_about_no_child_names_the_children_once() -> None:
    faults = [Fault(FaultReason.FORBIDDEN, f"{kind}/a", "a may not be written") for kind in ("Service", "ConfigMap")]
    assert in_words(faults) == "Service/a, ConfigMap/a: a may not be written"
