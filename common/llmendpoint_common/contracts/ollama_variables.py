"""Environment variables of the Ollama container that `ollama.env` must not set, and the fields that set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Variables that the operator sets, because they are about its mounts and keep the meter in the path.
FIXED: Final = ("OLLAMA_HOST", "OLLAMA_MODELS", "HOME")
#: Variables for which `spec.ollama` has a field.
FIELDS: Final[Mapping[str, str]] = {
    "OLLAMA_NUM_PARALLEL": "numParallel",
    "OLLAMA_MAX_LOADED_MODELS": "maxLoadedModels",
    "OLLAMA_MAX_QUEUE": "maxQueue",
    "OLLAMA_CONTEXT_LENGTH": "contextLength",
    "OLLAMA_KEEP_ALIVE": "keepAlive",
    "OLLAMA_FLASH_ATTENTION": "flashAttention",
    "OLLAMA_KV_CACHE_TYPE": "kvCacheType",
}
#: Variables with which the dynamic linker loads code into a program (ld.so(8)).
CODE: Final = ("LD_AUDIT", "LD_PRELOAD")
#: Variables with which programs of Go, such as Ollama, find the certificates that they trust.
TRUST: Final = ("SSL_CERT_DIR", "SSL_CERT_FILE")


def template_problem(name: str) -> str:
    """Return why `spec.podTemplate` cannot set a variable of Ollama, or nothing.

    The variables in `FIXED` are found when the template is merged with the pod.
    """
    if name in FIELDS:
        return f"{name}: set spec.ollama.{FIELDS[name]} instead"
    if name in CODE:
        return f"{name} is not allowed, because it loads code into the Ollama that is metered"
    if name in TRUST:
        return f"{name}: set spec.ollama.caBundleRef instead, or the variable in spec.ollama.env"
    return ""
