"""GPUOffloaded: all loaded models are entirely in GPU memory. Endpoints without GPU do not have this condition."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.diagnosis.sentences import partly_on_cpu
from llmendpoint_operator.endpoint.conditions.model_reports import reports
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition

_TYPE = EndpointCondition.GPU_OFFLOADED
_ADVICE = (
    "Use a GPU with more memory, a smaller model, or smaller values of spec.ollama.contextLength and "
    "spec.ollama.numParallel."
)
_ADVICE_UNUSED = (
    "Ollama does not use the GPU: the log of its container says why. Check the driver of the node, and whether "
    "spec.ollama.image supports the GPU. If the log says that the memory of the GPU is too small, use a smaller model."
)


def gpu_offloaded(spec: LLMEndpointSpec, seen: Observation) -> Condition | None:
    """Return the condition. It is Unknown while no model is loaded."""
    if not spec.wanted_gpu.is_used:
        return None
    loaded = [model for model in reports(seen.pods) if model.loaded]
    if not loaded:
        message = "No model is loaded, so the use of GPU memory is not known."
        return Condition(_TYPE, None, EndpointReason.NOTHING_LOADED, message)
    partly = next((model for model in loaded if model.vram_bytes < model.loaded_bytes), None)
    if partly is None:
        return Condition(_TYPE, True, EndpointReason.WHOLLY_ON_GPU, "All loaded models are entirely in GPU memory.")
    advice = _ADVICE if partly.vram_bytes else _ADVICE_UNUSED
    message = f"{partly_on_cpu(partly.name, partly.vram_bytes, partly.loaded_bytes)} {advice}"
    return Condition(_TYPE, False, EndpointReason.PARTLY_ON_CPU, message)
