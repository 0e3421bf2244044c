"""Leader election in virtual time: replicas of one installation, two installations, and what goes wrong."""

from __future__ import annotations

from functools import partial

import pytest

from llmendpoint_operator.leadership.election import Phase
from support.in_memory.elections import Process, World


def has_one_writer(world: World) -> bool:
    return len(world.writers("x")) == 1


def phase(process: Process) -> Phase:
    return process.election.standing(process.clock()).phase


def holds(world: World, process: Process, seconds: float) -> None:
    """Check that a process is the only writer to its namespace for some seconds."""
    end = world.now + seconds
    while world.now < end:
        assert world.writers(process.me.home) == [process]
        world.run(0.2)


def pair(world: World, **how: str) -> tuple[Process, Process]:
    """Return a leader and a standby of the same installation."""
    first = world.start("one", **how)
    world.run_until(lambda: first.would_write(how.get("namespace", "x")))
    second = world.start("one", **how)
    world.run(20)
    assert phase(second) is Phase.STANDBY
    return first, second


def test_a_single_operator_serves_the_cluster_after_two_requests_and_keeps_its_lease() -> None:
    world = World()
    only = world.start("one")
    assert world.run_until(lambda: only.would_write("any")) < 0.2
    assert only.would_write("one")
    for _ in range(600):
        world.run(0.5)
        assert only.would_write("any")
    lease = world.leases["one"]
    assert lease["spec"]["holderIdentity"] == "one/pod-0"
    assert lease["spec"]["leaseTransitions"] == 0
    assert int(lease["metadata"]["resourceVersion"]) - 10 == pytest.approx(300 / 5, abs=2)


@pytest.mark.parametrize("scope", ["", "x"])
def test_a_standby_takes_over_within_20_seconds_of_a_crash(scope: str) -> None:
    world = World()
    first, second = pair(world, namespace=scope)
    for _ in range(5):
        world.run(world.random.uniform(0, 5))
        first.kill()
        assert 9 < world.run_until(partial(second.would_write, "x")) < 17
        first, second = second, world.start("one", namespace=scope)
        world.run(8)


@pytest.mark.parametrize("scope", ["", "x"])
def test_a_standby_takes_over_immediately_if_the_lease_is_given_back(scope: str) -> None:
    world = World()
    first, second = pair(world, namespace=scope)
    first.end()
    assert world.run_until(lambda: second.would_write("x")) < 0.5


def test_a_holder_whose_renewals_fail_stops_before_the_standby_starts() -> None:
    world = World()
    first, second = pair(world)
    first.reaches_server = False
    stopped = world.run_until(lambda: not first.would_write("x"))
    assert 5 <= stopped <= 10.1
    assert not second.would_write("x")
    assert world.run_until(lambda: second.would_write("x")) + stopped < 20
    first.reaches_server = True
    world.run(10)
    assert world.writers("x") == [second]
    assert phase(first) is Phase.STANDBY


def test_an_outage_of_the_api_server_leaves_one_leader_and_no_gap_after_it() -> None:
    world = World()
    first, _ = pair(world)
    world.run(3)
    world.is_up = False
    world.run(30)
    assert world.writers("x") == []
    world.is_up = True
    world.run_until(lambda: len(world.writers("x")) == 1, 12)
    assert first.election is not None


def test_a_process_that_was_paused_does_not_write_when_it_wakes_up() -> None:
    world = World()
    first, second = pair(world)
    first.pause()
    world.run_until(lambda: second.would_write("x"))
    world.run(60)
    first.go_on()
    assert not first.would_write("x")
    world.run(30)
    assert world.writers("x") == [second]


def test_wall_clocks_that_differ_or_jump_change_nothing() -> None:
    world = World()
    first = world.start("one", skew=-86400.0)
    world.run(1)
    second = world.start("one", skew=86400.0, offset=1e6)
    world.run(60)
    assert world.writers("x") == [first]
    first._skew = 3e6
    world.run(60)
    assert world.writers("x") == [first]
    first.kill()
    assert world.run_until(lambda: second.would_write("x")) < 17


def test_three_replicas_have_one_successor() -> None:
    world = World(3)
    replicas = [world.start("one") for _ in range(3)]
    world.run(20)
    for _ in range(2):
        (leader,) = world.writers("x")
        leader.kill()
        world.run_until(lambda: len(world.writers("x")) == 1)
        replicas.remove(leader)
    world.run(20)
    assert len(world.writers("x")) == 1


def test_a_standby_whose_watch_is_dead_reads_the_lease_itself() -> None:
    world = World()
    first, second = pair(world)
    second.lose_watch()
    world.run(60)
    assert world.writers("x") == [first]
    first.kill()
    assert world.run_until(lambda: second.would_write("x")) < 25


def test_a_label_that_somebody_adds_does_not_take_the_lease_away() -> None:
    world = World()
    first, _ = pair(world)
    lease = world.leases["one"]
    world.write(
        {**lease, "metadata": {**lease["metadata"], "annotations": {**lease["metadata"]["annotations"], "a": "b"}}}
    )
    for _ in range(100):
        world.run(0.2)
        assert world.writers("x") == [first]
    assert world.leases["one"]["metadata"]["annotations"]["a"] == "b"


def test_a_deleted_lease_is_made_again_by_its_holder() -> None:
    world = World()
    first, second = pair(world)
    world.delete("one")
    assert world.run_until(lambda: "one" in world.leases) < 0.5
    world.run(1)
    assert world.writers("x") == [first]
    assert phase(second) is Phase.STANDBY


# Two installations.


def test_a_deleted_lease_of_another_installation_is_forgotten_after_a_while() -> None:
    world = World()
    narrow = world.start("two", namespace="a")
    world.run(20)
    wide = world.start("one")
    world.run(20)
    narrow.kill()
    world.delete("a")
    assert 29 < world.run_until(lambda: wide.would_write("a")) < 38
    assert "a" not in world.leases


def test_cluster_against_cluster_the_first_stays_and_the_second_takes_over_when_it_ends() -> None:
    world = World()
    first = world.start("one")
    world.run(10)
    second = world.start("two")
    world.run(10)
    holds(world, first, 120)
    standing = second.election.standing(second.clock())
    assert standing.phase is Phase.YIELDING
    assert standing.conflict
    assert standing.other is not None
    assert standing.other.holder == "one/pod-0"
    assert world.leases["two"]["metadata"]["annotations"]["llmendpoint.dev/serving"] == "false"
    first.end()
    assert 29 < world.run_until(lambda: second.would_write("x")) < 36
    # The first one comes back, and now it is the second.
    again = world.start("one")
    world.run(60)
    assert world.writers("x") == [second]
    assert phase(again) in (Phase.YIELDING, Phase.STANDBY)


def test_cluster_against_cluster_a_restart_or_a_failover_is_not_a_takeover() -> None:
    world = World()
    first = world.start("one")
    other = world.start("two")
    world.run(60)
    leader = world.writers("x")[0]
    assert leader in (first, other)
    standby = world.start(leader.me.home)
    world.run(5)
    leader.kill()
    world.run_until(lambda: standby.would_write("x"), 17)
    standby.end()
    world.run(20)
    third = world.start(leader.me.home)
    world.run_until(lambda: third.would_write("x"), 2)


def test_cluster_against_cluster_started_at_the_same_time_one_of_them_serves() -> None:
    for seed in range(30):
        world = World(seed)
        processes = [world.start(name) for name in ("one", "two", "three")]
        world.run_until(partial(has_one_writer, world), 60)
        (leader,) = world.writers("x")
        world.run(30)
        assert world.writers("x") == [leader]
        assert leader in processes


def test_cluster_against_namespace_the_namespace_is_left_to_its_operator() -> None:
    world = World()
    wide = world.start("one")
    world.run(30)
    narrow = world.start("two", namespace="a")
    assert 10 < world.run_until(lambda: narrow.would_write("a")) < 14
    holds(world, narrow, 60)
    assert world.writers("b") == [wide]
    standing = wide.election.standing(wide.clock())
    assert standing.left_out == (("a", "two/two"),)
    assert not standing.conflict
    narrow.end()
    assert 29 < world.run_until(lambda: wide.would_write("a")) < 32
    assert world.leases["a"]["spec"]["holderIdentity"] == ""
    # It comes back: the Lease is no longer its own, so it claims the namespace again.
    again = world.start("two", namespace="a")
    assert 10 < world.run_until(lambda: again.would_write("a")) < 14


def test_namespace_first_the_cluster_wide_operator_leaves_it_out_from_the_start() -> None:
    world = World()
    narrow = world.start("two", namespace="a")
    world.run(30)
    wide = world.start("one")
    world.run_until(lambda: wide.would_write("b"))
    holds(world, narrow, 60)


def test_a_failover_in_the_namespace_does_not_bring_the_cluster_wide_operator_back() -> None:
    world = World()
    wide = world.start("one")
    first, second = pair(world, namespace="a", home="one")
    first.kill()
    assert world.run_until(lambda: second.would_write("a")) < 17
    assert wide.would_write("b")


def test_namespace_against_namespace_the_holder_serves() -> None:
    world = World()
    first = world.start("one", namespace="a")
    world.run(20)
    second = world.start("two", namespace="a")
    holds(world, first, 60)
    standing = second.election.standing(second.clock())
    assert standing.conflict
    assert standing.other is not None
    assert standing.other.installation == "one/one"
    first.end()
    assert 41 < world.run_until(lambda: second.would_write("a")) < 50


def test_two_installations_in_one_namespace_share_the_lease() -> None:
    world = World()
    first = world.start("one", home="ops")
    world.run(1)
    second = world.start("two", home="ops")
    third = world.start("three", namespace="ops")
    world.run(60)
    assert world.writers("ops") == [first]
    assert phase(second) is phase(third) is Phase.STANDBY


# All that can go wrong, at random.


@pytest.mark.parametrize("seed", range(150))
def test_never_two_writers_whatever_happens(seed: int) -> None:
    """Clocks of different speeds, slow requests, lost responses, dead watches, pauses, crashes and restarts.

    A request in flight is stopped when `may_write` turns false. It is assumed to last half a second more.
    """
    world = World(seed)
    world.request_delay, world.watch_delay = world.random.choice([(0.05, 0.2), (2.0, 1.0), (5.0, 3.0)])
    last: dict[str, tuple[Process, float]] = {}

    def check() -> None:
        for namespace in ("a", "b"):
            writers = world.writers(namespace)
            assert len(writers) < 2, f"{world.now:.2f} s: {[writer.me for writer in writers]}"
            if writers:
                before, when = last.get(namespace, (writers[0], 0.0))
                # A process that ended has stopped its requests before it gave the Lease back.
                assert before is writers[0] or before.has_ended or world.now - when > 0.5, (
                    f"{world.now:.2f} s: too soon"
                )
                last[namespace] = writers[0], world.now

    world.after = check
    kinds = [("one", ""), ("one", ""), ("two", ""), ("three", "a"), ("three", "a"), ("four", "a")]
    running = [start(world, *kind) for kind in world.random.sample(kinds, 4)]
    for _ in range(60):
        world.run(world.random.uniform(0, 12))
        trouble(world, running)
    world.after = lambda: None
    world.is_up, world.request_delay, world.watch_delay = True, 0.02, 0.1
    for process in running:
        process.reaches_server = True
        process.get_watch()
        process.go_on()
    # The world is well again, and each namespace has a writer, if an operator serves it.
    wide = any(process.me.reach.value != "Namespace" for process in running)
    wanted = {"a"} | ({"b"} if wide else set())
    world.run_until(lambda: all(len(world.writers(namespace)) == 1 for namespace in wanted), 240)


def start(world: World, installation: str, namespace: str) -> Process:
    speed = world.random.uniform(0.97, 1.03)
    return world.start(installation, namespace=namespace, speed=speed, offset=world.random.uniform(0, 1e5))


def trouble(world: World, running: list[Process]) -> None:
    process = world.random.choice(running)
    match world.random.randrange(8):
        case 0:
            process.pause()
        case 1:
            process.go_on()
        case 2:
            process.reaches_server = not process.reaches_server
        case 3:
            world.random.choice((process.lose_watch, process.get_watch))()
        case 4:
            (process.kill if world.random.random() < 0.5 or process._paused is not None else process.end)()
            running.remove(process)
            running.append(start(world, process.me.installation.partition("/")[2], namespace_of(process)))
        case 5:
            world.is_up = not world.is_up
        case 6:
            world.is_up = True
        case _:
            for each in running:
                each.reaches_server = True
                each.get_watch()
                each.go_on()


def namespace_of(process: Process) -> str:
    return process.me.home if process.me.reach.value == "Namespace" else ""
