"""Names of containers and volumes, and folders, in the pods of endpoints. A spec must not use them otherwise."""

from __future__ import annotations

from typing import Final

# Containers
OLLAMA_CONTAINER: Final = "ollama"
METERING_CONTAINER: Final = "metering"

# Volumes
MODELS_VOLUME: Final = "models"
HOME_VOLUME: Final = "home"
TMP_VOLUME: Final = "tmp"
CONFIG_VOLUME: Final = "config"
SIGNALS_VOLUME: Final = "signals"
CA_BUNDLE_VOLUME: Final = "ca-bundle"
#: Prefix of the volumes with API keys. An index follows it.
KEYS_VOLUME_PREFIX: Final = "keys-"
#: The volumes of the operator, besides those that begin with one of `VOLUME_PREFIXES`.
VOLUMES: Final = (MODELS_VOLUME, HOME_VOLUME, TMP_VOLUME, CONFIG_VOLUME, SIGNALS_VOLUME, CA_BUNDLE_VOLUME)
#: Prefixes of the operator's volumes. `llmendpoint-` is for volumes of later versions.
VOLUME_PREFIXES: Final = (KEYS_VOLUME_PREFIX, "llmendpoint-")

# Folders in the containers
MODELS_FOLDER: Final = "/models"
HOME_FOLDER: Final = "/home/ollama"
TMP_FOLDER: Final = "/tmp"  # noqa: S108 - an empty volume of the pod
CONFIG_FOLDER: Final = "/etc/llmendpoint"
KEYS_FOLDER: Final = "/etc/llmendpoint-keys"
SIGNALS_FOLDER: Final = "/run/llmendpoint"
#: Folder of the sidecar below which it has the volumes with GGUF files, at the same paths as Ollama has them.
GGUF_ROOT: Final = "/run/llmendpoint-gguf"
#: Folder in which the sidecar remembers how it created models. Ollama does not use it.
STATE_FOLDER: Final = f"{MODELS_FOLDER}/.llmendpoint"
CA_BUNDLE_FOLDER: Final = "/etc/llmendpoint-ca"
#: Folders of the Ollama container that have mounts of the operator, programs and their configuration, or that container
#: runtimes do not allow as mounts. A mount over a program could replace the Ollama that is metered.
OLLAMA_FOLDERS: Final = (
    MODELS_FOLDER,
    HOME_FOLDER,
    TMP_FOLDER,
    "/bin",
    "/sbin",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/run",
    "/var/run",
    "/proc",
    "/sys",
    "/dev",
)


def is_own_volume(name: str) -> bool:
    """Return whether a volume of this name is one of the operator."""
    return name in VOLUMES or name.startswith(VOLUME_PREFIXES)


def own_folder(path: str) -> str:
    """Return the folder of `OLLAMA_FOLDERS` that a mount at this path would hide or be in, or nothing."""
    return next((own for own in OLLAMA_FOLDERS if f"{path}/".startswith(f"{own}/") or own.startswith(f"{path}/")), "")
