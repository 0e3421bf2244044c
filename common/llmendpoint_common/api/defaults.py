"""Defaults of the resources. Each default is defined only here.

Most defaults are part of the schema. If a field belongs to a union, or if another field can make its default wrong, the
schema has no default. Then the code that reads the spec uses the default from here, and the description of the field
names it. Durations are strings as in the API, and resources are Kubernetes quantities.

Pods of endpoints request ephemeral storage, but have no limit for it. Kubelet adds the limits of all containers of a
pod, and evicts the pod if its logs, container file systems and emptyDir volumes together exceed the sum. With
`storage.type: Ephemeral`, the models are in such a volume, so a limit of the sidecar alone would evict the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import IncludeUsage, Load, ModelManagement

# Models and replicas of an endpoint
REPLICAS: Final = 1
#: Maximum number of models of an endpoint.
MAX_MODELS: Final = 32
LOAD: Final = Load.PRELOAD

# Autoscaling
MIN_REPLICAS: Final = 1
TARGET_UTILIZATION: Final = "80%"
#: The default of a HorizontalPodAutoscaler.
SCALE_DOWN_DELAY: Final = "5m"

# GPUs of a replica
GPU_COUNT: Final = 1
GPU_RESOURCE: Final = "nvidia.com/gpu"

# Ollama's settings
NUM_PARALLEL: Final = 1
#: The maximum of an endpoint, so that memory is the only limit and a new model does not restart the pods.
MAX_LOADED_MODELS: Final = MAX_MODELS
OLLAMA_REQUESTS: Final[Mapping[str, str]] = {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "256Mi"}

# Storage of a replica
STORAGE_SIZE: Final = "50Gi"

# The metering sidecar
MODEL_MANAGEMENT: Final = ModelManagement.FORBIDDEN
INCLUDE_USAGE: Final = IncludeUsage.PASSTHROUGH
#: Maximum number of requests that wait for one model, per worker of a replica.
MAX_WAITING: Final = 256
CONNECT_TIMEOUT: Final = "5s"
#: Long enough for a model that has to be loaded first, and for a long generation with `stream: false`.
FIRST_BYTE_TIMEOUT: Final = "1h"
#: A healthy stream can pause for minutes, for example while a tool call is composed.
IDLE_TIMEOUT: Final = "30m"
KEEP_ALIVE_TIMEOUT: Final = "5m"
#: Longer than any healthy silence that is known: a generation with `stream: false` can take a quarter of an hour.
STALL_AFTER: Final = "30m"
#: Processes of the sidecar.
WORKERS: Final = 1
#: CPU and memory are those of one process.
METERING_REQUESTS: Final[Mapping[str, str]] = {"cpu": "100m", "memory": "96Mi", "ephemeral-storage": "64Mi"}
METERING_LIMITS: Final[Mapping[str, str]] = {"memory": "512Mi"}

# Service, monitoring and pods of an endpoint
SERVICE_PORT: Final = OLLAMA_PORT
SCRAPE_INTERVAL: Final = "15s"
TERMINATION_GRACE_SECONDS: Final = 300
#: Time after SIGTERM during which the proxy still accepts connections, until the cluster stops sending new ones.
DRAIN_DELAY_SECONDS: Final = 5
#: Part of the grace period that is left for closing after the proxy has drained.
STOP_MARGIN_SECONDS: Final = 2

# Load tests
LOAD_CONCURRENCY: Final = 1
LOAD_DURATION: Final = "30s"
LOAD_WARMUP: Final = "0s"
LOAD_DRAIN_TIMEOUT: Final = "1m"
LOAD_SEED: Final = 1
LOAD_PARALLELISM: Final = 1
SWEEP_MIN_RATE: Final = "0.1"
SWEEP_STEP_DURATION: Final = "1m"
SWEEP_PRECISION: Final = "5%"
TRACE_TIME_SCALE: Final = "1"
MAX_REGRESSION: Final = "10%"
REQUEST_TIMEOUT: Final = "5m"
TIME_ZONE: Final = "Etc/UTC"
#: The defaults of a CronJob.
SUCCESSFUL_RUNS: Final = 3
FAILED_RUNS: Final = 1
LOADJOB_REQUESTS: Final[Mapping[str, str]] = {"cpu": "500m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
LOADJOB_LIMITS: Final[Mapping[str, str]] = {"memory": "1Gi", "ephemeral-storage": "1Gi"}


def in_words(resources: Mapping[str, str]) -> str:
    """Return resources as text for the description of a field, such as "100m CPU and 96Mi memory"."""
    names = {"cpu": "CPU", "memory": "memory", "ephemeral-storage": "ephemeral storage"}
    *first, last = (f"{quantity} {names.get(name, name)}" for name, quantity in resources.items())
    return f"{', '.join(first)} and {last}" if first else last
