"""Translates the spec of an LLMEndpoint into environment variables of Ollama, which has no flags."""

from __future__ import annotations

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec

#: The folders in which Go programs on Linux look for certificates (crypto/x509, root_linux.go). SSL_CERT_DIR replaces
#: this list. The file with the certificates of the image, such as /etc/ssl/certs/ca-certificates.crt, is read besides,
#: unless SSL_CERT_FILE is set.
_CERTIFICATE_FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs")


def ollama_environment(
    spec: LLMEndpointSpec, *, address: str, models_folder: str, home_folder: str, ca_folder: str
) -> dict[str, str]:
    """Return the environment variables by name.

    `address` is the HOST:PORT on which Ollama listens. It is a loopback address, except if clients connect to Ollama
    without the proxy. `ca_folder` contains the bundle of `spec.ollama.caBundleRef`. The other fields of `spec.ollama`
    override `env`.
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
    if ollama.ca_bundle_ref:
        variables["SSL_CERT_DIR"] = ":".join((ca_folder, *_CERTIFICATE_FOLDERS))
    derived = {name: str(value) for name, value in variables.items() if value is not None}
    # The API server rejects most of these names in `spec.ollama.env`, but only with the current schema.
    return fixed | derived | given | fixed | derived
