"""Renderings: kept while nothing changes that the children depend on, and never used for anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.snapshots import hash_of
from llmendpoint_operator.endpoint import rendering
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.endpoint.desired import Present, desired
from llmendpoint_operator.endpoint.rendering import Inputs, Renderings
from llmendpoint_operator.kube.capabilities import ALL_KINDS, Capabilities
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.settings import Actuator, ChildSettings, Images, MetricsAccess
from support.in_memory.children import KEY, endpoint_body, newer
from support.in_memory.endpoints import OWNER, SETTINGS, endpoint_spec
from support.in_memory.fakes import FakeDiscovery, FakeObjects

SPEC: dict[str, Any] = {
    "autoscaling": {"maxReplicas": 3},
    "disruptionBudget": {"minAvailable": 1},
    "podTemplate": {"spec": {"volumes": [{"name": "extra", "emptyDir": {}}]}},
}
BEFORE = Inputs(OWNER, hash_of(SPEC), replace(SETTINGS, actuator=Actuator.HPA), ALL_KINDS, Present(1))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[LLMEndpointSpec]:
    """The specs that were rendered."""
    specs: list[LLMEndpointSpec] = []

    def counting(owner: Any, spec: LLMEndpointSpec, *rest: Any) -> list[Manifest]:
        specs.append(spec)
        return desired(owner, spec, *rest)

    monkeypatch.setattr(rendering, "desired", counting)
    return specs


def manifests(inputs: Inputs, spec: LLMEndpointSpec) -> list[Manifest]:
    return desired(inputs.owner, spec, inputs.settings, inputs.capabilities, inputs.present)


def test_equal_inputs_are_rendered_once(rendered: list[LLMEndpointSpec]) -> None:
    renderings, spec = Renderings(), endpoint_spec(**SPEC)
    first, children = renderings.of(KEY, BEFORE, spec)
    second, kept = renderings.of(KEY, replace(BEFORE, present=Present(1)), spec)
    assert second == first
    assert kept.outlines == children.outlines
    assert len(rendered) == 1


def test_the_manifests_of_a_kept_rendering_are_rendered_when_they_are_needed() -> None:
    renderings, spec = Renderings(), endpoint_spec(**SPEC)
    renderings.of(KEY, BEFORE, spec)
    _, kept = renderings.of(KEY, BEFORE, spec)
    assert [*kept.manifests] == manifests(BEFORE, spec)
    assert [outline.stamp for outline in kept.outlines] == [hash_of(manifest) for manifest in manifests(BEFORE, spec)]


CHANGED = {
    "the endpoint was deleted and created again": {"owner": replace(OWNER, uid="uid-2")},
    "image": {"settings": replace(BEFORE.settings, images=Images("sidecar:2", "loadjob:1", "ollama:1"))},
    "platform": {"settings": replace(BEFORE.settings, openshift=True)},
    "monitor labels": {"settings": replace(BEFORE.settings, monitor_labels={"release": "prometheus"})},
    "actuator": {"settings": replace(BEFORE.settings, actuator=Actuator.KEDA, prometheus_url="http://prometheus")},
    "access to metrics": {"settings": replace(BEFORE.settings, metrics_access=MetricsAccess("elsewhere"))},
    "a kind went": {"capabilities": Capabilities(ALL_KINDS.kinds - {"ServiceMonitor"})},
    "scaled to zero": {"present": Present(0)},
    "a pod loads its models": {"present": Present(1, loading=True)},
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_every_change_of_an_input_gives_other_children(change: dict[str, Any]) -> None:
    renderings, spec, after = Renderings(), endpoint_spec(**SPEC), replace(BEFORE, **change)
    _, before = renderings.of(KEY, BEFORE, spec)
    _, children = renderings.of(KEY, after, spec)
    assert [*children.manifests] == manifests(after, spec)
    assert children.outlines != before.outlines


def test_what_is_known_of_a_spec_follows_its_changes() -> None:
    renderings = Renderings()
    before, _ = renderings.of(KEY, BEFORE, endpoint_spec(**SPEC))
    changed = {**SPEC, "ollama": {"image": "ollama:2"}, "models": [{"name": "other:latest"}],
               "pod": {"volumes": SPEC["podTemplate"]["spec"]["volumes"]}}  # fmt: skip
    after, _ = renderings.of(KEY, replace(BEFORE, spec=hash_of(changed)), endpoint_spec(**changed))
    assert before.problem == ""
    assert after.problem == "spec.podTemplate.spec.volumes[0].name: extra is a volume in spec.pod.volumes."
    assert before.config_digest != after.config_digest
    assert before.configuration != after.configuration


class World:
    """The controller of an endpoint on a cluster in memory. Its children are settled."""

    def __init__(self) -> None:
        self.objects, self.discovery, self.inventory = FakeObjects(), FakeDiscovery(), Inventory(lambda: 0.0)
        self.seconds = 0.0
        self.cluster = Cluster(self.objects, self.inventory, self.discovery, None, self.now)  # type: ignore[arg-type]
        self.controller = EndpointController(self.cluster, SETTINGS)

    def now(self) -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def show(self, **spec: Any) -> None:
        body = endpoint_body()
        self.inventory.shows("LLMEndpoint", {**body, "spec": {**body["spec"], **spec}})

    async def writes(self) -> list[str]:
        """Reconcile the endpoint, and return the writes of its children."""
        self.objects.calls.clear()
        await self.controller.reconcile(KEY)
        return [call for call in self.objects.calls if not call.startswith(("status", "get"))]


@pytest.fixture
def world() -> World:
    return World()


async def settled(world: World, **spec: Any) -> World:
    world.show(**spec)
    await world.writes()
    assert await world.writes() == []
    return world


async def test_an_unchanged_endpoint_is_not_rendered_again(world: World, rendered: list[LLMEndpointSpec]) -> None:
    await settled(world)
    assert len(rendered) == 1


async def test_a_changed_status_is_not_a_reason_to_render(world: World, rendered: list[LLMEndpointSpec]) -> None:
    await settled(world)
    known = world.inventory.resource(KEY)
    assert known is not None
    world.inventory.shows("LLMEndpoint", newer(known, status={**known["status"], "replicas": 5}))
    assert await world.writes() == []
    assert len(rendered) == 1


async def test_a_default_that_a_new_schema_adds_is_applied_although_the_generation_is_the_same(world: World) -> None:
    await settled(world)
    world.show(service={"port": 8080})
    assert "apply Service/assistant" in await world.writes()


async def test_other_settings_of_the_next_operator_are_applied(world: World) -> None:
    await settled(world)
    images = ChildSettings(Images("sidecar:2", "loadjob:1", "ollama:1"))
    world.controller = EndpointController(world.cluster, images)
    assert await world.writes() == ["apply StatefulSet/assistant"]


async def test_a_kind_that_appears_or_goes_changes_the_children(world: World) -> None:
    await settled(world)
    world.discovery.missing.update(("ServiceMonitor", "PodMonitor"))
    assert "apply Service/assistant-pods" in await world.writes()
    world.discovery.missing.clear()
    assert "apply Service/assistant-pods" in await world.writes()


async def test_a_changed_text_in_a_config_map_is_applied(world: World) -> None:
    source = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prompts", "namespace": "ns"}}
    world.objects.put({**source, "data": {"brief": "FROM tiny:latest"}})
    reference = {"configMapKeyRef": {"name": "prompts", "key": "brief"}}
    await settled(world, models=[{"name": "tiny:latest"}, {"name": "brief:1", "modelfile": reference}])
    world.objects.put({**source, "data": {"brief": "FROM tiny:latest\nSYSTEM Be brief."}})
    world.seconds = 31
    assert await world.writes() == ["apply ConfigMap/assistant"]


def _deleted(world: World, body: Manifest) -> None:
    world.objects.remove("Service", "assistant")
    world.inventory.gone("Service", newer(body))


def _edited(world: World, body: Manifest) -> None:
    world.inventory.shows("Service", newer(body, spec={**body["spec"], "selector": {}}))


@pytest.mark.parametrize(("change", "write"), [(_deleted, "create"), (_edited, "apply")])
async def test_a_child_that_others_change_is_written_from_the_kept_rendering(
    world: World, change: Callable[[World, Manifest], None], write: str
) -> None:
    await settled(world)
    body = world.objects.get_now("Service", "assistant")
    change(world, body)
    assert await world.writes() == [f"{write} Service/assistant"]
    assert world.objects.get_now("Service", "assistant")["spec"] == body["spec"]


async def test_an_endpoint_that_was_created_again_gets_its_own_children(world: World) -> None:
    await settled(world)
    for body in [world.objects.get_now("Service", name) for name in ("assistant", "assistant-pods")]:
        world.objects.remove("Service", body["metadata"]["name"])
        world.inventory.gone("Service", newer(body))
    world.inventory.shows("LLMEndpoint", endpoint_body(uid="uid-second"))
    await world.writes()
    (reference,) = world.objects.get_now("Service", "assistant")["metadata"]["ownerReferences"]
    assert reference["uid"] == "uid-second"
