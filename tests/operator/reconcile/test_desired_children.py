"""Desired children: what a plan reads of them, and when their manifests are rendered."""

from __future__ import annotations

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.reconcile.desired_children import DesiredChildren
from llmendpoint_operator.reconcile.plan import Apply, Keep, plan, stamped
from support.in_memory.children import KEY, OWNER, config_map, live, newer, stateful_set

CONFIG, SET = ChildKey("ConfigMap", "assistant"), ChildKey("StatefulSet", "assistant")


class Rendering:
    """Children whose outlines are known, and the number of times that they are rendered."""

    def __init__(self, *manifests: Manifest) -> None:
        self.manifests, self.times = manifests, 0
        self.children = DesiredChildren(DesiredChildren.of(manifests).outlines, self._render)

    def _render(self) -> tuple[Manifest, ...]:
        self.times += 1
        return self.manifests


def test_a_child_needs_the_ones_that_its_pods_use() -> None:
    children = DesiredChildren.of([config_map(), stateful_set()])
    assert [(outline.key, outline.needs) for outline in children.outlines] == [(CONFIG, ()), (SET, (CONFIG,))]


def test_children_that_are_as_we_left_them_are_not_rendered() -> None:
    inventory, rendering = Inventory(), Rendering(config_map(), stateful_set())
    for manifest in rendering.manifests:
        inventory.wrote_child(KEY, live(manifest))
    assert plan(OWNER, rendering.children, inventory.seen(KEY), (), ()) == [Keep(CONFIG), Keep(SET)]
    assert rendering.times == 0


def test_a_child_that_others_changed_is_compared_and_written_with_its_manifest() -> None:
    inventory, rendering = Inventory(), Rendering(config_map(), stateful_set())
    for manifest in rendering.manifests:
        body = live(manifest)
        inventory.wrote_child(KEY, body)
        inventory.shows(body["kind"], newer(body, data={}, spec={}))
    uids = ("uid-ConfigMap-assistant", "uid-StatefulSet-assistant")
    assert plan(OWNER, rendering.children, inventory.seen(KEY), (), ()) == [
        Apply(stamped(config_map()), uids[0]),
        Apply(stamped(stateful_set()), uids[1], (CONFIG,)),
    ]
    assert rendering.times == 1
