"""Types of the classifier: what a pod was built from, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

#: Kubelet resets the back-off of a container that has run for so long, so that an older failure is over.
RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Trouble:
    """The reason why a pod does not run, and a message that names the pod, quotes Kubernetes and gives advice.

    `since` is the time since which a pod has been unschedulable.
    """

    reason: str
    message: str
    since: datetime | None = None


@dataclass(frozen=True)
class Origin:
    """What the spec says about a pod, as far as advice depends on it.

    `gpu` is the extended resource of the GPUs, and `gpus` their number. `products` are the accepted values of the label
    `product_label`. `selectors` are the other fields of the spec that select nodes. `claims` are the
    ResourceClaimTemplates and ResourceClaims, as "Kind name". By the name of the container, `fields` are the fields of
    the spec that set the resources, and `memory_limits` the limits that the operator sets. `claim` is the field that
    names an existing claim.
    """

    gpu: str = ""
    gpus: int = 0
    products: tuple[str, ...] = ()
    product_label: str = ""
    selectors: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    memory_limits: Mapping[str, str] = field(default_factory=dict)
    claim: str = "spec.storage.claimName"

    def resources(self, container: str) -> str:
        """Return the field of the spec that sets the resources of a container."""
        return self.fields.get(container, "spec.pod.resources")


def quoted(text: str, limit: int = 400) -> str:
    """Return a text of Kubernetes on one line, shortened to `limit` characters, without a period at its end."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
