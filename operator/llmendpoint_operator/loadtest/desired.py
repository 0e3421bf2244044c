"""All children of a load run, in the order in which they are applied: what the Job needs comes before the Job."""

from __future__ import annotations

from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources import copies
from llmendpoint_operator.loadtest.resources.copies import Sources
from llmendpoint_operator.loadtest.resources.job import job
from llmendpoint_operator.loadtest.resources.questions import snapshot
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.loadtest.resources.run import run_config_map
from llmendpoint_operator.settings import ChildSettings


def desired(
    owner: Owner, spec: LoadTestSpec, target: ResolvedTarget, sources: Sources, settings: ChildSettings
) -> list[Manifest]:
    """Return the manifests of all children. The last one is the Job, which starts the run."""
    questions = snapshot(owner, sources.questions)
    made = [run_config_map(owner, run_document(spec, target)), *questions]
    if sources.trace is not None and spec.dataset.trace is not None:
        made.append(copies.trace(owner, sources.trace, spec.dataset.trace.config_map_key_ref.key))
    if sources.baseline is not None:
        made.append(copies.baseline(owner, sources.baseline))
    return [*made, *access(owner, spec.load.parallelism), job(owner, spec, questions, settings)]
