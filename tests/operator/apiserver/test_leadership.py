"""Several operator processes on one API server: failover, two installations, probes, metrics and logs.

The operators of different installations have different sidecar images, so that a fight would change StatefulSets.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LEASE_NAME, LLMENDPOINT
from llmendpoint_operator.cluster.kinds import TABLE
from llmendpoint_operator.kube.rbac import namespace_rules, own_rules
from llmendpoint_operator.leadership.claims import DURATION
from support.api_server.control_plane import OPERATOR_NAMESPACE, OPERATOR_USER, ControlPlane
from support.api_server.fault_proxy import Fault, FaultProxy, watches
from support.api_server.manifests import endpoint, loadtest
from support.api_server.operator_process import OperatorProcess, run_operator
from support.api_server.rights import role
from support.waiting import wait_until

OTHER = "other-system"
#: Kinds that the API server of these tests does not have. The operator looks for them once per minute.
OPTIONAL = {kind.plural for kind in TABLE if kind.optional}
_REQUEST = re.compile(r'llmendpoint_operator_api_requests_total\{code="(.*)",resource="(.*)",verb="(.*)"\} (\S+)')

Start = Callable[..., OperatorProcess]


@pytest.fixture(scope="module")
def control_plane(start_control_plane: Callable[..., Any]) -> Iterator[ControlPlane]:
    """An API server on which no operator of other tests runs."""
    with start_control_plane() as plane:
        assert plane.client is not None
        plane.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHER}})
        for item in role("llmendpoint-own", OTHER, own_rules(cluster_wide=True), OPERATOR_USER):
            plane.client.apply(item)
        yield plane


@pytest.fixture
def start(control_plane: ControlPlane, tmp_path: Path, api: Any) -> Iterator[Start]:
    """Start operators with leader election. They are ended after the test, and their Leases deleted."""
    client = control_plane.client
    assert client is not None
    for item in role("llmendpoint", api.namespace, namespace_rules(), OPERATOR_USER):
        client.apply(item)
    with ExitStack() as stack:
        count = 0

        def begin(pod: str, *flags: str, home: str = OPERATOR_NAMESPACE, **variables: str) -> OperatorProcess:
            nonlocal count
            count += 1
            folder = tmp_path / str(count)
            folder.mkdir()
            image = f"--sidecar-image={home}.example/sidecar:1"
            process = run_operator(
                control_plane.operator, folder, "--leader-election", f"--own-namespace={home}", image, *flags,
                POD_NAME=pod, **variables,
            )  # fmt: skip
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            return process

        yield begin
    for namespace in (OPERATOR_NAMESPACE, OTHER, api.namespace):
        if client.get("Lease", namespace, LEASE_NAME) is not None:
            client.delete("Lease", namespace, LEASE_NAME)
    for body in client.items(LLMENDPOINT, api.namespace):
        client.delete(LLMENDPOINT, api.namespace, body["metadata"]["name"])


def leads(process: OperatorProcess) -> bool:
    return process.metric("llmendpoint_operator_leader") == 1


def is_ready(process: OperatorProcess) -> bool:
    return process.page("readyz")[0] == 200


def requests(process: OperatorProcess) -> dict[tuple[str, str], int]:
    """Return the number of requests of a process by verb and resource, without those of optional kinds."""
    found: dict[tuple[str, str], int] = {}
    for _, resource, verb, value in _REQUEST.findall(process.page("metrics")[1]):
        if resource not in OPTIONAL:
            found[verb, resource] = found.get((verb, resource), 0) + int(float(value))
    return found


def writes(process: OperatorProcess) -> dict[tuple[str, str], int]:
    """Return the writes of a process, except those of Leases and Events."""
    reads = ("get", "list", "watch")
    return {
        key: number
        for key, number in requests(process).items()
        if key[0] not in reads and key[1] not in ("leases", "events")
    }


def renewals(process: OperatorProcess) -> int:
    return requests(process).get(("update", "leases"), 0)


def seconds_until(check: Callable[[], Any], limit: float = 60.0) -> float:
    begun = time.monotonic()
    wait_until(check, limit, 0.02)
    return time.monotonic() - begun


def seconds_to_heal(api: Any) -> float:
    """Delete a child, and return the time until an operator has made it again."""
    api.delete("Service", "assistant")
    return seconds_until(lambda: api.get("Service", "assistant"))


def has_replicas(api: Any, replicas: int) -> bool:
    return bool(api.get("StatefulSet", "assistant")["spec"]["replicas"] == replicas)


def made(api: Any, name: str = "assistant", **spec: Any) -> None:
    api.apply(endpoint(name, **spec))
    wait_until(lambda: "observedGeneration" in ((api.get(LLMENDPOINT, name) or {}).get("status") or {}))


def test_a_standby_takes_over_after_a_crash_and_immediately_after_an_orderly_end(api: Any, start: Start) -> None:
    first = start("pod-a")
    wait_until(lambda: leads(first))
    second, third = start("pod-b"), start("pod-c")
    made(api)
    for standby in (second, third):
        wait_until(partial(is_ready, standby))
        assert f"Standby: {OPERATOR_NAMESPACE}/pod-a serves all namespaces" in standby.page("readyz")[1]
        assert not leads(standby)
        assert writes(standby) == {}
    first.kill()
    crash = seconds_to_heal(api)
    (leader,) = [process for process in (second, third) if leads(process)]
    (last,) = [process for process in (second, third) if process is not leader]
    leader.terminate()
    begun = time.monotonic()
    end = seconds_to_heal(api)
    assert leader.wait(60) == 0
    print(
        f"\nfailover after kill -9: {crash:.1f} s; after SIGTERM: {end:.2f} s; ended after {time.monotonic() - begun:.1f} s"
    )
    assert crash < 20
    # The others may take the Lease of a process that has crashed only after this time.
    assert end < DURATION
    assert leads(last)


def test_a_process_that_was_stopped_writes_nothing_when_it_runs_again(api: Any, start: Start) -> None:
    first = start("pod-a", "--sidecar-image=paused.example/sidecar:1")
    wait_until(lambda: leads(first))
    made(api)
    second = start("pod-b")
    wait_until(lambda: is_ready(second))

    def writes_at_rest() -> dict[tuple[str, str], int] | None:
        """Return the writes of the first process, or None if there is another one before its next renewal."""
        found, count = writes(first), renewals(first)
        wait_until(lambda: renewals(first) > count)
        return found if writes(first) == found else None

    before = wait_until(writes_at_rest)
    first.send_signal(signal.SIGSTOP)
    wait_until(lambda: leads(second), 30)
    wait_until(lambda: "paused.example" not in json.dumps(api.get("StatefulSet", "assistant")))
    # Work for the first one is waiting in its connections when it wakes up.
    for replicas in range(2, 6):
        api.apply(endpoint("assistant", replicas=replicas))
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 5)
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: "Standby" in first.page("readyz")[1], 30)
    assert writes(first) == before
    assert api.get("StatefulSet", "assistant")["metadata"]["generation"] == generation
    assert leads(second)


def test_at_rest_a_leader_only_renews_its_lease_and_a_standby_sends_nothing(api: Any, start: Start) -> None:
    first = start("pod-a")
    wait_until(lambda: leads(first))
    second = start("pod-b")
    made(api, replicas=0)
    wait_until(lambda: is_ready(second))
    wait_until(lambda: first.metric("llmendpoint_operator_queue_depth") == 0)

    def rests() -> bool:
        """Return whether nothing but renewals is sent until there are three of them."""
        before, standby = requests(first), requests(second)
        wait_until(lambda: renewals(first) >= before.get(("update", "leases"), 0) + 3)
        changed = {key for key, number in requests(first).items() if number != before.get(key, 0)}
        return changed == {("update", "leases")} and requests(second) == standby

    # Lists follow the start.
    wait_until(rests)


def test_a_second_cluster_wide_installation_stands_back_and_takes_over_later(api: Any, start: Start) -> None:
    first = start("pod-a")
    wait_until(lambda: leads(first))
    made(api)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod-x", "namespace": OTHER},
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    }
    uid = api.client.apply(pod)["metadata"]["uid"]
    second = start("pod-x", "--installation=second", home=OTHER, POD_UID=uid)
    sentence = f"Installation {OPERATOR_NAMESPACE}/llmendpoint serves all namespaces (Lease {OPERATOR_NAMESPACE}/{LEASE_NAME}, held by {OPERATOR_NAMESPACE}/pod-a)."
    wait_until(lambda: sentence in second.page("readyz")[1])
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    for replicas in (2, 3):
        api.apply(endpoint("assistant", replicas=replicas))
        wait_until(partial(has_replicas, api, replicas))
    wait_until(lambda: renewals(second) >= 3, 40)
    assert api.get("StatefulSet", "assistant")["metadata"]["generation"] == generation + 2
    assert second.page("readyz")[0] == 503
    assert second.page("livez")[0] == 200
    assert not leads(second)
    assert writes(second) == {}
    assert (
        f'scope_conflict{{installation="{OPERATOR_NAMESPACE}/llmendpoint",scope=""}} 1.0' in second.page("metrics")[1]
    )
    assert [entry["message"] for entry in second.entries() if sentence in entry["message"]]
    events = [event for event in api.client.items("Event", OTHER) if event["involvedObject"]["uid"] == uid]
    assert [event["reason"] for event in events] == ["StandingBack"]
    assert sentence in events[0]["message"]
    assert is_ready(first)
    first.terminate()
    assert first.wait(60) == 0
    took = seconds_until(lambda: leads(second))
    print(f"\nthe second installation serves {took:.0f} s after the first ended")
    wait_until(lambda: "other-system.example" in json.dumps(api.get("StatefulSet", "assistant")))
    assert is_ready(second)


def test_a_cluster_wide_operator_leaves_a_namespace_to_its_own_operator(api: Any, start: Start) -> None:
    wide = start("pod-a")
    wait_until(lambda: leads(wide))
    made(api)
    narrow = start("pod-b", f"--namespace={api.namespace}", "--installation=narrow", home=OTHER)
    wait_until(lambda: leads(narrow), 30)
    wait_until(lambda: "other-system.example" in json.dumps(api.get("StatefulSet", "assistant")))
    before = writes(wide)
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    api.apply(endpoint("assistant", replicas=2))
    assert seconds_to_heal(api) < 3
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 2)
    wait_until(lambda: renewals(wide) and renewals(narrow) >= 3, 30)
    assert api.get("StatefulSet", "assistant")["metadata"]["generation"] == generation + 1
    assert writes(wide) == before
    assert leads(wide)
    status, text = wide.page("readyz")
    assert status == 200
    assert f"Namespace {api.namespace} is left to installation {OTHER}/narrow" in text
    # Each namespace has the metrics of its resources once.
    assert f'llmendpoint_info{{namespace="{api.namespace}"' not in wide.page("metrics")[1]
    assert f'llmendpoint_info{{namespace="{api.namespace}"' in narrow.page("metrics")[1]


def test_of_two_installations_for_a_namespace_the_first_serves(api: Any, start: Start) -> None:
    first = start("pod-a", f"--namespace={api.namespace}")
    wait_until(lambda: leads(first), 30)
    made(api)
    second = start("pod-b", f"--namespace={api.namespace}", home=OTHER)
    sentence = f"Installation {OPERATOR_NAMESPACE}/llmendpoint serves namespace {api.namespace}"
    wait_until(lambda: sentence in second.page("readyz")[1])
    assert second.page("readyz")[0] == 503
    assert writes(second) == {}
    assert is_ready(first)


def test_a_namespace_that_does_not_exist_leaves_the_others_served(api: Any, start: Start) -> None:
    process = start("pod-a", f"--namespace={api.namespace}", "--namespace=not-there")
    wait_until(lambda: f'leader{{scope="{api.namespace}"}} 1.0' in process.page("metrics")[1], 30)
    assert 'leader{scope="not-there"} 0.0' in process.page("metrics")[1]
    status, text = process.page("readyz")
    assert status == 200
    assert "namespace not-there at present" in text
    made(api)


def test_the_leader_exposes_the_resources_and_itself(api: Any, start: Start) -> None:
    process = start("pod-a")
    wait_until(lambda: leads(process))
    made(api, models=[{"name": "tiny:latest"}, {"name": "other:1b", "load": "OnDemand"}])
    api.apply(loadtest("check"))
    complete = f'llmendpoint_loadtest_condition{{namespace="{api.namespace}",loadtest="check",type="Complete"'
    # For a moment, a reconcile waits in the queue, or a renewal of the Lease has not arrived through the watch.
    at_rest = (complete, "llmendpoint_operator_queue_depth 0.0\n", "llmendpoint_operator_canary_age_seconds 0.0\n")
    page = wait_until(lambda: page_with(process, at_rest))
    who = f'namespace="{api.namespace}",llmendpoint="assistant"'
    url = f"http://assistant.{api.namespace}.svc:11434"
    assert f'llmendpoint_info{{{who},gpu="1 x nvidia.com/gpu",url="{url}"}} 1\n' in page
    assert f'llmendpoint_model_info{{{who},model_name="other:1b",load="OnDemand"}} 1\n' in page
    for status, value in (("True", 0), ("False", 1), ("Unknown", 0)):
        assert f'llmendpoint_condition{{{who},type="Ready",status="{status}"}} {value}\n' in page
    for family in (
        'reconciles_total{kind="LLMEndpoint",result="success"}', 'reconcile_duration_seconds_bucket{kind="LLMEndpoint",le="0.1"}',
        'queue_latency_seconds_count{kind="LLMEndpoint"}', 'leader{scope=""} 1.0', "watch_problems 0.0",
        'api_requests_total{code="201",resource="statefulsets",verb="apply"} 1.0',
    ):  # fmt: skip
        assert f"llmendpoint_operator_{family}" in page
    assert "process_resident_memory_bytes" in page


def page_with(process: OperatorProcess, texts: tuple[str, ...]) -> str:
    """Return the page of metrics if it has all texts, and otherwise an empty text."""
    page = process.page("metrics")[1]
    return page if all(text in page for text in texts) else ""


def test_lines_of_a_reconcile_name_the_object_and_no_line_has_a_credential(
    api: Any, start: Start, control_plane: ControlPlane
) -> None:
    process = start("pod-a", "--log-level=debug")
    wait_until(lambda: leads(process))
    made(api)
    name = {"kind": "LLMEndpoint", "namespace": api.namespace, "name": "assistant"}
    lines = wait_until(lambda: [entry for entry in process.entries() if entry.items() >= name.items()])
    assert all(line["reconcileID"] for line in lines)
    process.terminate()
    assert process.wait(60) == 0
    text = process.log.read_text()
    for kubeconfig in (control_plane.operator, control_plane.admin):
        token = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
        assert token not in text


#: Runs the operator with a shorter patience for dead watches: a quarter of the real times.
_IMPATIENT = """
import sys
from llmendpoint_operator.watching import canary
canary.RESTART_SECONDS, canary.UNHEALTHY_SECONDS, canary.FATAL_SECONDS = 5.0, 15.0, 30.0
from llmendpoint_operator.main import main
sys.exit(main())
"""


def test_dead_watches_are_shown_by_livez_and_then_end_the_process(
    api: Any, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """The watches of Leases are open and deliver nothing, and starting kopf again does not help."""
    proxy = FaultProxy(control_plane.operator, tmp_path)
    try:
        process = run_operator(
            proxy.kubeconfig, tmp_path, "--leader-election", program=("-c", _IMPATIENT), POD_NAME="pod-a"
        )
        try:
            wait_until(lambda: leads(process), 30)
            assert process.page("livez") == (200, "ok\n")
            with proxy.fault(Fault(watches("leases"), silent=True)):
                proxy.silence(watches("leases"))
                status, text = wait_until(
                    lambda: next((page for page in [process.page("livez")] if page[0] != 200), None), 60
                )
                assert status == 503
                assert "have not arrived through the watch of Leases" in text
                # It still renews its Lease and serves, because children are watched by other means.
                assert leads(process)
                assert process.wait(60) == 1
            last = process.entries()[-1]
            assert last["level"] == "critical"
            assert "the watches are dead" in last["message"]
            lease = api.client.get("Lease", OPERATOR_NAMESPACE, LEASE_NAME)
            assert lease["spec"]["holderIdentity"] == ""
        finally:
            process.kill()
            process.wait(20)
            api.client.delete("Lease", OPERATOR_NAMESPACE, LEASE_NAME)
    finally:
        proxy.close()


def test_without_an_api_server_it_is_alive_and_not_ready_and_ends_when_asked(
    tmp_path: Path, control_plane: ControlPlane
) -> None:
    kubeconfig = json.loads(control_plane.operator.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    process = run_operator(path, tmp_path, "--leader-election", POD_NAME="pod-a")
    try:
        wait_until(lambda: "has not answered for" in process.page("readyz")[1], 30)
        assert process.page("readyz")[0] == 503
        assert process.page("livez") == (200, "ok\n")
        assert not leads(process)
        process.terminate()
        assert seconds_until(lambda: process.poll() is not None) < 10
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait(20)
