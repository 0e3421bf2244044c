"""Reads what a run needs before it can start: its target, questions, trace and baseline.

Objects that are not ours, such as ConfigMaps with questions, are not watched. They are read from the API server.
"""

from __future__ import annotations

from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST, QUESTIONS_LABEL, LoadTestCondition
from llmendpoint_common.contracts.loadrun import RESULT_KEY
from llmendpoint_common.process.errors import NotReadyError
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.context import Context, Run
from llmendpoint_operator.loadtest.resources.copies import Sources
from llmendpoint_operator.loadtest.resources.questions import question_files, require_files
from llmendpoint_operator.loadtest.target import resolve

_WHEN_COMPLETE = "The run starts when it has ended with a complete result."


def target_of(context: Context, run: Run) -> ResolvedTarget:
    """Return the target. Raises NotReadyError or RunRefusedError."""
    reference, namespace = run.spec.endpoint_ref, run.owner.namespace
    name = reference.name if reference else ""
    return resolve(run.spec, namespace, context.cluster.inventory.resource(Key(LLMENDPOINT, namespace, name)))


async def sources_of(context: Context, run: Run) -> Sources:
    """Read everything that the run copies. Raises NotReadyError, which names what does not exist."""
    dataset = run.spec.dataset
    has_questions = dataset.synthetic is None and dataset.trace is None
    return Sources(
        await _questions(context, run) if has_questions else (),
        await _trace(context, run) if dataset.trace else None,
        await _baseline(context, run) if run.spec.baseline_ref else None,
    )


async def _questions(context: Context, run: Run) -> list[Manifest]:
    questions = run.spec.dataset.questions
    if questions is None or not questions.config_map_refs:
        return await _default_questions(context)
    return [
        require_files(await _read(context, run, reference.name, "spec.dataset.questions.configMapRefs"))
        for reference in questions.config_map_refs
    ]


async def _default_questions(context: Context) -> list[Manifest]:
    labeled = await context.cluster.objects.list("ConfigMap", context.own_namespace, {QUESTIONS_LABEL: "true"})
    found = [source for source in labeled if question_files(source)]
    if not found:
        raise NotReadyError(
            f"No ConfigMap in namespace {context.own_namespace} has the label {QUESTIONS_LABEL}=true and an entry "
            "whose name ends in .yaml or .yml. Install the questions of the chart, or set "
            "spec.dataset.questions.configMapRefs."
        )
    return sorted(found, key=lambda source: str(source["metadata"]["name"]))


async def _trace(context: Context, run: Run) -> Manifest | None:
    trace = run.spec.dataset.trace
    if trace is None:
        return None
    name, key = trace.config_map_key_ref.name, trace.config_map_key_ref.key
    source = await _read(context, run, name, "spec.dataset.trace.configMapKeyRef")
    if all(key not in (source.get(part) or {}) for part in ("data", "binaryData")):
        raise NotReadyError(
            f"ConfigMap {name} in spec.dataset.trace.configMapKeyRef has no key {key}.", "The run starts when it has."
        )
    return source


async def _baseline(context: Context, run: Run) -> str | None:
    """Return the summary of the baseline, which has to be complete."""
    reference, namespace = run.spec.baseline_ref, run.owner.namespace
    if reference is None:
        return None
    named = f"LoadTest {reference.name} in spec.baselineRef"
    found = context.cluster.inventory.resource(Key(LOADTEST, namespace, reference.name))
    if found is None:
        raise NotReadyError(f"{named} does not exist.", _WHEN_COMPLETE)
    status = found.get("status") or {}
    if not is_true(status.get("conditions") or [], LoadTestCondition.COMPLETE):
        raise NotReadyError(f"{named} has not ended yet.", _WHEN_COMPLETE)
    kept = status.get("resultConfigMap") or {}
    if "summary" not in status or status["summary"].get("partial") or not kept:
        raise NotReadyError(
            f"{named} has no complete result (verdict {status.get('verdict')}). Name a LoadTest that has one."
        )
    result = await context.cluster.objects.get("ConfigMap", namespace, kept["name"])
    text = ((result or {}).get("data") or {}).get(RESULT_KEY)
    if result is None or result["metadata"]["uid"] != kept["uid"] or not text:
        raise NotReadyError(f"ConfigMap {kept['name']}, the result of {named}, does not exist. Name another LoadTest.")
    return str(text)


async def _read(context: Context, run: Run, name: str, field: str) -> Manifest:
    source = await context.cluster.objects.get("ConfigMap", run.owner.namespace, name)
    if source is None:
        raise NotReadyError(f"ConfigMap {name} in {field} does not exist.", "The run starts when it exists.")
    return source
