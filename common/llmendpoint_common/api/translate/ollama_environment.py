"""Translates the spec of an LLMEndpoint into environment variables of Ollama, which has no flags."""

from __future__ import annotations

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec


def ollama_environment(spec: LLMEndpointSpec, *, address: str, models_folder: str, home_folder: str) -> dict[str, str]:
    """Return the environment variables by name.

    `address` is the HOST:PORT on which Ollama listens. It is a loopback address, except if clients connect to Ollama
    without the proxy. `spec.ollama.env` overrides all variables except OLLAMA_HOST, OLLAMA_MODELS and HOME.
    """
    ollama = spec.ollama
    fixed = {"OLLAMA_HOST": address, "OLLAMA_MODELS": models_folder, "HOME": home_folder}
    variables: dict[str, str | int | None] = {
        "OLLAMA_NUM_PARALLEL": ollama.num_parallel,
        "OLLAMA_MAX_LOADED_MODELS": ollama.max_loaded_models or defaults.MAX_LOADED_MODELS,
        "OLLAMA_MAX_QUEUE": ollama.max_queue,
        "OLLAMA_CONTEXT_LENGTH": ollama.context_length,
        "OLLAMA_KEEP_ALIVE": ollama.keep_alive,
        "OLLAMA_FLASH_ATTENTION": None if ollama.flash_attention is None else int(ollama.flash_attention),
        "OLLAMA_KV_CACHE_TYPE": ollama.kv_cache_type.value if ollama.kv_cache_type else None,
    }
    given = {variable.name: variable.value for variable in ollama.env}
    derived = {name: str(value) for name, value in variables.items() if value is not None}
    # The API server rejects the fixed names in `spec.ollama.env`, but only with the current schema.
    return fixed | derived | given | fixed
