"""The children of each endpoint, rendered again only when something changes that they depend on.

Most reconciles find an endpoint as it was: the sidecars are polled every few seconds. What such a reconcile needs of
the children is kept from the last rendering (`Outline`); the manifests are not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.capacity import configuration_hash
from llmendpoint_operator.endpoint.desired import Present, desired
from llmendpoint_operator.endpoint.pod.ollama import image_problem, ollama_image
from llmendpoint_operator.endpoint.resources.statefulset import pod_template_problem
from llmendpoint_operator.kube.capabilities import Capabilities
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, Outline
from llmendpoint_operator.settings import ChildSettings


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the children of an endpoint depend on. If two of them are equal, their children are equal.

    `spec` is the hash of the spec and of the Modelfiles that it refers to. The generation would not do: a new version
    of the schema may add defaults to a spec that nobody has changed.
    """

    owner: Owner
    spec: str
    settings: ChildSettings
    capabilities: Capabilities
    present: Present


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is kept of a rendering.

    `problem` is what is wrong with the spec. `config_digest` is the SHA-256 of the sidecar's configuration file, and
    `configuration` is the hash of the GPUs and Ollama.
    """

    inputs: Inputs
    outlines: tuple[Outline, ...]
    problem: str
    config_digest: str
    configuration: str


class Renderings:
    """The last rendering of each endpoint."""

    def __init__(self) -> None:
        self._last: dict[Key, Rendered] = {}

    def of(self, key: Key, inputs: Inputs, spec: LLMEndpointSpec) -> tuple[Rendered, DesiredChildren]:
        """Return the rendering of these inputs, and the children. `spec` is the spec whose hash is in the inputs."""
        known = self._last.get(key)
        if known is not None and known.inputs == inputs:
            return known, DesiredChildren(known.outlines, lambda: _manifests(inputs, spec))
        children = DesiredChildren.of(_manifests(inputs, spec))
        rendered = self._last[key] = _rendered(inputs, spec, children)
        return rendered, children

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._last.pop(key, None)


def _manifests(inputs: Inputs, spec: LLMEndpointSpec) -> list[Manifest]:
    return desired(inputs.owner, spec, inputs.settings, inputs.capabilities, inputs.present)


def _rendered(inputs: Inputs, spec: LLMEndpointSpec, children: DesiredChildren) -> Rendered:
    config_map = children.manifest(ChildKey("ConfigMap", layout.config_map_name(inputs.owner)))
    statefulset = children.manifest(ChildKey("StatefulSet", layout.statefulset_name(inputs.owner)))
    images = inputs.settings.images
    return Rendered(
        inputs=inputs,
        outlines=children.outlines,
        problem=image_problem(spec, images) or pod_template_problem(statefulset, spec.pod_template),
        config_digest=hashlib.sha256(config_map["data"][layout.CONFIG_FILE].encode()).hexdigest(),
        configuration=configuration_hash(spec, ollama_image(spec, images)),
    )
