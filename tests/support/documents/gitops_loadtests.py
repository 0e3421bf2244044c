"""LoadTests in every state, for `support.documents.gitops_states`."""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import LOADTEST, FaultReason, LoadTestReason
from llmendpoint_common.contracts.loadrun import Api, MetricName, Objective, RunDocument, RunLoad, RunTarget, Summary
from llmendpoint_loadjob.result.timings import Sample
from llmendpoint_operator.loadtest import phases
from support.documents.gitops_states import NOW, Manifest, State, deleting, edited, manifest
from support.load.outcomes import Outcome, summarize

SPEC = {
    "endpointRef": {"name": "assistant"},
    "load": {"concurrency": 2, "duration": "30s"},
    "slo": [{"metric": "TTFT", "percentile": 95, "threshold": "1s"}],
}
TARGET = ResolvedTarget("http://assistant.models.svc:11434", Api.OLLAMA_CHAT, "tiny:latest", "sha256:1", "none")
DEADLINE = "2026-01-02T03:14:05Z"
SAMPLE = Sample("id", "q", "Math", 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2)


def loadtest(*history: phases.Phase, generation: int = 1) -> Manifest:
    """Return a load test with the status that the operator has written after these phases."""
    body = manifest(LOADTEST, "smoke", SPEC, generation)
    for phase in history:
        body = {**body, "status": phases.loadtest_status(body, phase, NOW)}
    return body


def summary(outcome: Outcome, *objectives: Objective) -> Summary:
    """Return the summary of a run, as the load pod writes it."""
    document = RunDocument(RunTarget(TARGET.url), TARGET.model, RunLoad(concurrency=2), objectives=objectives)
    return summarize(outcome, document)


def loadtests() -> Iterator[State]:
    """Yield a load test in each state."""
    waiting = phases.waiting("LLMEndpoint assistant is not Ready. The run starts when it is Ready.")
    yield State("new", manifest(LOADTEST, "smoke", SPEC), "InProgress", "Progressing", "Waiting for the operator")
    suspended = manifest(LOADTEST, "smoke", {**SPEC, "suspend": True})
    status = phases.loadtest_status(suspended, phases.suspended(), NOW)
    yield State("suspended", {**suspended, "status": status}, "Current", "Healthy", "Complete")
    yield State("pending", loadtest(waiting), "InProgress", "Progressing", "Complete")
    yield from _runs()
    violation = "spec.target.url: the operator's policy does not allow 'example.org'."
    yield State("policy-violation", loadtest(phases.forbidden(violation)), "Failed", "Degraded", "Stalled")
    held = loadtest(phases.held(FaultReason.QUOTA_EXCEEDED, "Job/smoke: exceeded quota: small.", DEADLINE))
    yield State("held", held, "InProgress", "Progressing", "Complete")
    served = "LLMEndpoint assistant does not have the model other:1b. It has tiny:latest."
    refused = loadtest(phases.refused(LoadTestReason.MODEL_NOT_SERVED, served, DEADLINE))
    yield State("model-not-served", refused, "Failed", "Degraded", "Stalled")
    invalid = loadtest(phases.failed("spec.load.rate: must be greater than 0", NOW))
    yield State("invalid-spec", invalid, "Failed", "Degraded", "Passed")


def _runs() -> Iterator[State]:
    described = phases.description(parse_spec({"spec": SPEC}), TARGET)
    begun = phases.starting("smoke", {"smoke-result-0": "uid-2"}, described, NOW)
    running = phases.running(40, "120 requests, 0 errors, 2400 tokens")
    objective, strict = Objective(MetricName.TTFT, 1.0, 95), Objective(MetricName.TTFT, 0.05, 95)
    good = Outcome([SAMPLE] * 20, duration=1.0, offered=20, sent=20)
    slow = Outcome([SAMPLE] * 20, duration=1.0, offered=200, sent=20)
    passed = loadtest(begun, phases.finished(summary(good, objective), NOW))
    yield State("running", loadtest(begun, running), "InProgress", "Progressing", "Complete")
    yield State("passed", passed, "Current", "Healthy", "Passed")
    yield State("passed-edited", edited(passed, ttlSecondsAfterFinished=60), "InProgress", "Healthy", "Passed")
    for name, result, expected in (
        ("no-objectives", summary(good), ("Current", "Healthy")),
        ("failed", summary(good, strict), ("Failed", "Degraded")),
        ("too-few-requests", summary(Outcome([], duration=1.0, offered=0, sent=0), objective), ("Failed", "Degraded")),
        ("invalid", summary(slow, objective), ("Failed", "Degraded")),
    ):
        yield State(name, loadtest(begun, phases.finished(result, NOW)), *expected, "Passed")
    error = phases.failed("The Job of this run was deleted. Create another LoadTest to run it again.", NOW)
    yield State("error", loadtest(begun, error), "Failed", "Degraded", "Passed")
    canceled = loadtest(begun, running, phases.canceled("The pod of this run was deleted.", NOW))
    yield State("canceled", canceled, "Failed", "Degraded", "Passed")
    late = loadtest(begun, phases.overdue("Pod smoke-0 cannot be scheduled.", NOW))
    yield State("overdue", late, "Failed", "Degraded", "Passed")
    yield State("deleting", deleting(loadtest(begun, running)), "Terminating", "Progressing", "Complete")
