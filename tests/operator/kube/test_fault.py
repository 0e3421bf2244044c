"""Faults of several children as one condition."""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault, condition_of, in_words
from support.fakes import refusal

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


def test_different_refusals_keep_their_sentences() -> None:
    hook, quota = (
        _fault("Service", WEBHOOK),
        _fault("ConfigMap", 'configmaps "assistant" is forbidden: exceeded quota: q'),
    )
    assert in_words([hook, quota]) == f"{hook.message}; {quota.message}"


def test_a_sentence_that_is_about_no_child_names_the_children_once() -> None:
    faults = [Fault(FaultReason.FORBIDDEN, f"{kind}/a", "a may not be written") for kind in ("Service", "ConfigMap")]
    assert in_words(faults) == "Service/a, ConfigMap/a: a may not be written"
