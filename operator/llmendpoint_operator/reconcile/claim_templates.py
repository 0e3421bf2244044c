"""The sizes in the claim templates of StatefulSets, which Kubernetes does not allow to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmendpoint_common.api.quantity import parse_quantity
from llmendpoint_operator.kube.owner import Manifest


def requested(claim: Manifest) -> str:
    """Return the size that a claim, or the template of one, requests."""
    return str(claim["spec"]["resources"]["requests"]["storage"])


def outgrows(manifest: Manifest, live: Manifest) -> bool:
    """Return whether a template in a manifest requests more storage than the same one in the live object."""
    before = _sizes(live)
    return any(
        parse_quantity(size) > parse_quantity(before[name]) for name, size in _sizes(manifest).items() if name in before
    )


def with_sizes_of(manifest: Manifest, live: Manifest) -> Manifest:
    """Return a manifest whose templates request the same storage as those of the live object."""
    before = _sizes(live)
    templates = [_resized(each, before.get(each["metadata"]["name"], "")) for each in _templates(manifest)]
    return {**manifest, "spec": {**manifest["spec"], "volumeClaimTemplates": templates}} if templates else manifest


def _templates(body: Manifest) -> list[Manifest]:
    return list(body.get("spec", {}).get("volumeClaimTemplates") or [])


def _sizes(body: Manifest) -> Mapping[str, str]:
    return {template["metadata"]["name"]: requested(template) for template in _templates(body)}


def _resized(template: Manifest, size: str) -> Manifest:
    if not size:
        return template
    spec: dict[str, Any] = template["spec"]
    resources = {**spec["resources"], "requests": {**spec["resources"]["requests"], "storage": size}}
    return {**template, "spec": {**spec, "resources": resources}}
