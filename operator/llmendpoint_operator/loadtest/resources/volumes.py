"""The volumes of a load pod, where they are mounted, and the arguments that name their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.loadrun import RESULT_KEY, RUN_KEY
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.copies import baseline_name, trace_name
from llmendpoint_operator.loadtest.resources.questions import questions_volume
from llmendpoint_operator.loadtest.resources.run import run_name

_FOLDER = "/etc/llmendpoint"
QUESTIONS_FOLDER, TRACE_FOLDER = f"{_FOLDER}/questions", f"{_FOLDER}/trace"
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOKEN_SECONDS = 3600
_KEY_FILE, _CA_FILE = "key", "ca.crt"
_RESULTS = "/results"
#: The field with the claim for the files of a run.
CLAIM_FIELD = "spec.results.persistentVolumeClaim.claimName"
#: A part of the LoadTest's UID, so that the files of an earlier LoadTest of this name are not overwritten.
_UID_CHARACTERS = 8
# Kubelet gives the files of a Secret to the group of the pod (fsGroup).
_KEY_MODE = 0o440


class Mounted(NamedTuple):
    """A volume with its path in the container, and the argument that names it, if there is one."""

    volume: Manifest
    path: str
    argument: str = ""
    read_only: bool = True

    @property
    def mount(self) -> Manifest:
        """The mount in the container."""
        mount = {"name": self.volume["name"], "mountPath": self.path}
        return {**mount, "readOnly": True} if self.read_only else mount


def mounted(owner: Owner, spec: LoadTestSpec, questions: Sequence[Manifest]) -> list[Mounted]:
    """Return all volumes of a load pod. `questions` are the ConfigMaps with its questions."""
    return [
        Mounted(_config_map("run", run_name(owner)), f"{_FOLDER}/run", f"--run={_FOLDER}/run/{RUN_KEY}"),
        *_questions(questions),
        *_trace(owner, spec),
        *_baseline(owner, spec),
        _token(),
        *_api_key(spec),
        *_ca_bundle(spec),
        *_results(spec),
        Mounted({"name": "tmp", "emptyDir": {}}, "/tmp", read_only=False),  # noqa: S108 - an empty volume of the pod
    ]


def _config_map(name: str, config_map: str, *items: Manifest) -> Manifest:
    return {"name": name, "configMap": {"name": config_map, **({"items": [*items]} if items else {})}}


def _questions(snapshots: Sequence[Manifest]) -> list[Mounted]:
    if not snapshots:
        return []
    return [Mounted(questions_volume(snapshots), QUESTIONS_FOLDER, f"--questions={QUESTIONS_FOLDER}")]


def _trace(owner: Owner, spec: LoadTestSpec) -> list[Mounted]:
    if spec.dataset.trace is None:
        return []
    # The end of the key, such as .csv, says what the format is.
    argument = f"--trace={TRACE_FOLDER}/{spec.dataset.trace.config_map_key_ref.key}"
    return [Mounted(_config_map("trace", trace_name(owner)), TRACE_FOLDER, argument)]


def _baseline(owner: Owner, spec: LoadTestSpec) -> list[Mounted]:
    if spec.baseline_ref is None:
        return []
    path = f"{_FOLDER}/baseline"
    return [Mounted(_config_map("baseline", baseline_name(owner)), path, f"--baseline={path}/{RESULT_KEY}")]


def _api_key(spec: LoadTestSpec) -> list[Mounted]:
    """Return the volume with the API key, or nothing if the run has none.

    It has only the one entry of the Secret. The key is a file, because everyone who can read pods can read command
    lines, and because a text in a container's environment can be quoted by any other text of the container.
    """
    reference = spec.request.api_key_secret_ref
    if reference is None:
        return []
    items = [{"key": reference.key, "path": _KEY_FILE}]
    volume = {"name": "api-key", "secret": {"secretName": reference.name, "defaultMode": _KEY_MODE, "items": items}}
    return [Mounted(volume, f"{_FOLDER}/api-key", f"--api-key-file={_FOLDER}/api-key/{_KEY_FILE}")]


def _ca_bundle(spec: LoadTestSpec) -> list[Mounted]:
    reference = spec.target.ca_bundle_ref if spec.target else None
    if reference is None:
        return []
    volume = _config_map("ca-bundle", reference.name, {"key": reference.key, "path": _CA_FILE})
    return [Mounted(volume, f"{_FOLDER}/ca", f"--cacert={_FOLDER}/ca/{_CA_FILE}")]


def _results(spec: LoadTestSpec) -> list[Mounted]:
    if spec.results is None:
        return []
    volume = {
        "name": "results",
        "persistentVolumeClaim": {"claimName": spec.results.persistent_volume_claim.claim_name},
    }
    return [Mounted(volume, _RESULTS, read_only=False)]


def results_folder(owner: Owner) -> str:
    """Return the folder of a run in the volume for its results."""
    return f"{_RESULTS}/{owner.name}-{owner.uid[:_UID_CHARACTERS]}"


def _token() -> Mounted:
    """Return the volume with a projected token. Only load pods have a token."""
    sources: list[Manifest] = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_SECONDS}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return Mounted({"name": "token", "projected": {"sources": sources}}, _TOKEN_PATH)
