"""Merges `spec.podTemplate` into an endpoint's pod: a strategic merge by name that only adds.

Items of lists are matched as in a strategic merge patch of Kubernetes: containers, volumes and variables by `name`,
mounts by `mountPath`, devices by `devicePath`. What the template may contain is checked when the spec is parsed
(`llmendpoint_common.api.endpoint.template`). What is left to check here depends on the pod: an item with the key of an
existing one would change it, and a mount needs a volume.

Additional init containers come before Ollama, so that they can prepare what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llmendpoint_common.contracts.pod import OLLAMA_CONTAINER
from llmendpoint_operator.kube import pod_security
from llmendpoint_operator.kube.owner import Manifest

_CONTAINERS = ("initContainers", "containers")
#: The lists of a container that are merged, with the field that identifies an item.
_MERGE_KEYS = {"env": "name", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}
_PATH = "spec.podTemplate.spec"
_SHOWN_PROBLEMS = 5


def overlay(pod: Manifest, template: Manifest | None) -> Manifest:
    """Return the pod with the additions of a template."""
    additions = (template or {}).get("spec", {})
    if not additions:
        return pod
    lists = {name: additions.get(name, []) for name in (*_CONTAINERS, "volumes")}
    to_ollama: Manifest = next((item for item in lists["initContainers"] if _is_ollama(item)), {})
    added = {name: [_restricted(item) for item in lists[name] if not _is_ollama(item)] for name in _CONTAINERS}
    return {
        **pod,
        **{name: value for name, value in additions.items() if name not in lists},
        "initContainers": [
            *added["initContainers"],
            *(_extended(item, to_ollama) if _is_ollama(item) else item for item in pod["initContainers"]),
        ],
        "containers": [*pod["containers"], *added["containers"]],
        "volumes": [*pod["volumes"], *lists["volumes"]],
    }


def template_problem(pod: Manifest, claims: Iterable[str], template: Manifest | None) -> str:
    """Return sentences if a template does not fit the pod that `overlay` has returned for it, otherwise nothing.

    `claims` are the names of volumes that the StatefulSet adds to the pod.
    """
    additions = (template or {}).get("spec", {})
    found = [*_changes(pod, additions), *_missing_volumes(pod, claims, additions)]
    return " ".join(found[:_SHOWN_PROBLEMS])


def _changes(pod: Manifest, additions: Manifest) -> Iterator[str]:
    """Yield the items that would change an existing one."""
    volumes = {volume["name"] for volume in _before(pod, additions, "volumes")}
    for index, volume in enumerate(additions.get("volumes", [])):
        if volume["name"] in volumes:
            yield f"{_PATH}.volumes[{index}].name: {volume['name']} is a volume in spec.pod.volumes."
    ollama = next(item for item in pod["initContainers"] if _is_ollama(item))
    for place, item in _indexed(additions, ("initContainers",)):
        for field, key in _MERGE_KEYS.items() if _is_ollama(item) else ():
            taken = {each[key] for each in _before(ollama, item, field)}
            for number, each in enumerate(item.get(field, [])):
                if each[key] in taken:
                    yield (
                        f"{place}.{field}[{number}]: {each[key]} is set by the operator or in the spec, and cannot be "
                        "changed here."
                    )


def _missing_volumes(pod: Manifest, claims: Iterable[str], additions: Manifest) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod["volumes"]} | {*claims}
    for place, item in _indexed(additions, _CONTAINERS):
        for field in ("volumeMounts", "volumeDevices"):
            for number, each in enumerate(item.get(field, [])):
                if each["name"] not in volumes:
                    yield f"{place}.{field}[{number}].name: {each['name']} is not a volume of the pod."


def _before(merged: Manifest, additions: Manifest, field: str) -> list[Manifest]:
    """Return the items that a list had before the additions, which `overlay` puts at its end."""
    items: list[Manifest] = merged.get(field, [])
    return items[: len(items) - len(additions.get(field, []))]


def _indexed(additions: Manifest, fields: Sequence[str]) -> Iterator[tuple[str, Manifest]]:
    for field in fields:
        for index, item in enumerate(additions.get(field, [])):
            yield f"{_PATH}.{field}[{index}]", item


def _is_ollama(container: Manifest) -> bool:
    return bool(container["name"] == OLLAMA_CONTAINER)


def _extended(container: Manifest, additions: Manifest) -> Manifest:
    """Return the container of Ollama with additional items in its lists, and additional fields."""
    lists = {field: [*container.get(field, []), *additions[field]] for field in _MERGE_KEYS if additions.get(field)}
    return {**container, **{name: value for name, value in additions.items() if name not in _MERGE_KEYS}, **lists}


def _restricted(container: Manifest) -> Manifest:
    """Return an additional container that meets the *restricted* standard, and the end of whose log can be quoted."""
    context = {**pod_security.container_security_context(), **container.get("securityContext", {})}
    policy = container.get("terminationMessagePolicy", "FallbackToLogsOnError")
    return {**container, "terminationMessagePolicy": policy, "securityContext": context}
