"""Replaces references to ConfigMaps with Modelfiles by the texts in them, which only the caller can read."""

from __future__ import annotations

from collections.abc import Mapping

from llmendpoint_common.api.endpoint.models import (
    MAX_MODELFILE,
    MAX_MODELFILES,
    Model,
    Modelfile,
    check_bases,
    check_modelfile,
)
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec


def with_modelfiles(spec: LLMEndpointSpec, texts: Mapping[str, str]) -> LLMEndpointSpec:
    """Return a spec in which every Modelfile is inline. `texts` has the texts of referenced ones, by model name.

    Raises ValueError with a sentence if a text is not a valid Modelfile, or too long.
    """
    if not texts:
        return spec
    models = [_with_text(model, texts[model.name]) if model.name in texts else model for model in spec.models]
    lengths = [len(model.modelfile.inline or "") for model in models if model.modelfile]
    if sum(lengths) > MAX_MODELFILES:
        raise ValueError(f"all Modelfiles together have more than {MAX_MODELFILES} characters")
    check_bases(models)
    return spec.model_copy(update={"models": models})


def _with_text(model: Model, text: str) -> Model:
    if len(text) > MAX_MODELFILE:
        raise ValueError(f"{model.name}: the Modelfile has more than {MAX_MODELFILE} characters")
    check_modelfile(model, text)
    return model.model_copy(update={"modelfile": Modelfile(inline=text)})
