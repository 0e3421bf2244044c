"""The values of an endpoint's pods that rules of the policy cover: those of `spec.pod` and of `spec.podTemplate`."""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.template.containers import OllamaAddition
from llmendpoint_common.api.endpoint.template.part import Object
from llmendpoint_common.api.endpoint.template.pod import PodSpec, Template
from llmendpoint_common.api.endpoint.template.volumes import TemplateVolume
from llmendpoint_common.api.endpoint.volumes import Volume
from llmendpoint_operator.policy.use import Use, Uses

_TEMPLATE = "spec.podTemplate.spec"


def pod_images(spec: LLMEndpointSpec) -> Uses:
    """Yield the images of additional containers, and those whose content is a volume."""
    for path, volume in _volumes(spec):
        if volume.image is not None:
            yield Use(f"{path}.image.reference", volume.image.reference)
    template = _template(spec)
    for field, containers in (("initContainers", template.init_containers), ("containers", template.containers)):
        for index, container in enumerate(containers or []):
            if not isinstance(container, OllamaAddition):
                yield Use(f"{_TEMPLATE}.{field}[{index}].image", container.image)


def service_account(spec: LLMEndpointSpec) -> Uses:
    """Yield the name of the ServiceAccount, unless it is the operator's."""
    if spec.pod.service_account_name is not None:
        yield Use("spec.pod.serviceAccountName", spec.pod.service_account_name)


def claims(spec: LLMEndpointSpec) -> Uses:
    """Yield the names of existing claims, and of what new claims bind or copy: volumes, claims and snapshots.

    A selector of volumes has no name, so its value is empty, and only `*` allows it.
    """
    if spec.storage.claim_name is not None:
        yield Use("spec.storage.claimName", spec.storage.claim_name)
    for path, volume in _volumes(spec):
        if volume.persistent_volume_claim is not None:
            yield Use(f"{path}.persistentVolumeClaim.claimName", volume.persistent_volume_claim.claim_name)
    for path, template in _new_claims(spec):
        content = template.get("spec")
        if isinstance(content, dict):
            yield from _bound(f"{path}.spec", content)
            yield from _copied(f"{path}.spec", content)


def claim_annotations(spec: LLMEndpointSpec) -> Uses:
    """Yield the keys of the annotations that new claims get. Drivers of volumes read some of them."""
    for path, template in _new_claims(spec):
        metadata = template.get("metadata")
        annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
        if isinstance(annotations, dict):
            yield from (Use(f"{path}.metadata.annotations", str(key)) for key in annotations)


def volume_types(spec: LLMEndpointSpec) -> Uses:
    """Yield the types of additional volumes."""
    for path, volume in _volumes(spec):
        yield from (Use(path, name) for name in volume.types)


def template_fields(spec: LLMEndpointSpec) -> Uses:
    """Yield the names of the fields that a template sets."""
    yield from (Use(_TEMPLATE, name) for name in (spec.pod_template or {}).get("spec", {}))


def _template(spec: LLMEndpointSpec) -> PodSpec:
    return Template.model_validate(spec.pod_template).spec if spec.pod_template else PodSpec()


def _volumes(spec: LLMEndpointSpec) -> Iterator[tuple[str, Volume | TemplateVolume]]:
    """Yield all additional volumes with their paths."""
    yield from ((f"spec.pod.volumes[{index}]", volume) for index, volume in enumerate(spec.pod.volumes))
    added = _template(spec).volumes or []
    yield from ((f"{_TEMPLATE}.volumes[{index}]", volume) for index, volume in enumerate(added))


def _new_claims(spec: LLMEndpointSpec) -> Iterator[tuple[str, Object]]:
    """Yield the templates of new claims. The API server has not checked the types of their values yet."""
    for path, volume in _volumes(spec):
        if isinstance(volume, TemplateVolume) and volume.ephemeral is not None:
            template = volume.ephemeral.get("volumeClaimTemplate")
            if isinstance(template, dict):
                yield f"{path}.ephemeral.volumeClaimTemplate", template


def _bound(path: str, claim: Object) -> Uses:
    """Yield the existing volumes that a new claim would bind."""
    if claim.get("volumeName"):
        yield Use(f"{path}.volumeName", str(claim["volumeName"]))
    if claim.get("selector") is not None:
        yield Use(f"{path}.selector", "")


def _copied(path: str, claim: Object) -> Uses:
    """Yield the sources of the data of a new claim: `NAME`, or `NAMESPACE/NAME` in another namespace."""
    for field in ("dataSource", "dataSourceRef"):
        source = claim.get(field)
        if isinstance(source, dict):
            names = [str(source[key]) for key in ("namespace", "name") if source.get(key)]
            yield Use(f"{path}.{field}.name", "/".join(names))
