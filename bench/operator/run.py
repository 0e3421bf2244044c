"""Measure the operator with many endpoints on a real API server, beside an operator with controller-runtime.

    python bench/operator/run.py                      # ours and the peer, 1,000 endpoints, two rounds (a quarter of an hour)
    python bench/operator/run.py --rounds 1 --system llmendpoint --phase edit

Needs etcd and kube-apiserver (KUBEBUILDER_ASSETS or PATH), and Go for the peer. Each run of an operator has a new API
server. The benchmark plays the StatefulSet controller's part: it reports the replicas of each StatefulSet as ready.
There are no pods. etcd does not wait for the disk. Rounds are interleaved. Prints a table; `--out` writes JSON.

Phases:
  start     the operator on an empty cluster
  create    all endpoints, as fast as the API server accepts them, until all children exist and all statuses say so
  edit      one edit after the other, until a watch shows the changed child (`applied`) and the status (`observed`)
  delete    one deleted child after the other, until a watch shows the new one
  rest      nothing happens; the requests are counted
  restart   the operator with all endpoints in place, until it is settled
  failover  a second replica, and `kill -9` of the first one, until an edit is applied
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Shared code of the benchmarks and of the tests.
sys.path[:0] = [str(HERE.parent / "proxy"), *(str(ROOT / name) for name in ("tests", "common", "operator"))]

import phases  # noqa: E402
import systems  # noqa: E402
from harness import machine  # noqa: E402
from report import show, verdicts  # noqa: E402
from systems import OURS, PEER, System  # noqa: E402

from cluster import Cluster  # noqa: E402
from support.api_server.control_plane import HOW, find, running_control_plane  # noqa: E402

#: The phases that can be left out.
PHASES = ("edit", "delete", "rest", "restart", "failover")


async def measure(system: System, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run all phases of one round with one operator."""
    with running_control_plane(folder) as plane:
        assert plane.client is not None
        for rule in systems.PEER_RULES:
            plane.client.apply(rule)
        async with Cluster(plane.admin) as cluster:
            bench = phases.Bench(system, plane, cluster, folder, options.endpoints)
            try:
                for name, work in _work(options, system).items():
                    begin = time.monotonic()
                    await work(bench)
                    print(f"  {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
            finally:
                if bench.operator is not None:
                    bench.operator.end()
    return bench.results


def _work(options: argparse.Namespace, system: System) -> dict[str, Callable[[phases.Bench], Awaitable[None]]]:
    work: dict[str, Callable[[phases.Bench], Awaitable[None]]] = {
        "edit": partial(phases.edit, number=options.edits),
        "delete": partial(phases.delete, number=options.deletions),
        "rest": partial(phases.rest, seconds=options.rest),
        "restart": phases.restart,
    }
    if system.elects:
        work["failover"] = phases.failover
    chosen = {name: phase for name, phase in work.items() if not options.phase or name in options.phase}
    return {"start": phases.start, "create": phases.create, **chosen}


def wanted(folder: Path, options: argparse.Namespace) -> list[System]:
    """Return the operators to measure."""
    names = options.system or [OURS, PEER]
    found = [systems.ours() if OURS in names else None, systems.peer(folder) if PEER in names else None]
    return [system for system in found if system is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--edits", type=int, default=300, help="number of edits")
    parser.add_argument("--deletions", type=int, default=150, help="number of deleted children")
    parser.add_argument("--rest", type=float, default=65.0, help="seconds of rest")
    parser.add_argument(
        "--phase", action="append", choices=PHASES, help="measure only this one after the creation; repeatable"
    )
    parser.add_argument("--system", action="append", choices=(OURS, PEER), help="measure only this one; repeatable")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    missing = [name for name in ("etcd", "kube-apiserver") if find(name) is None]
    if missing:
        parser.error(f"no {' and no '.join(missing)} here: {HOW}")
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name)
        chosen = wanted(whole, options)
        for number in range(options.rounds):
            for system in chosen:
                print(f"round {number + 1}: {system.name}", file=sys.stderr)
                folder = whole / f"{number}-{system.name}"
                folder.mkdir()
                results.setdefault(system.name, []).append(asyncio.run(measure(system, folder, options)))
    show(results)
    judged = verdicts(results.get(OURS, []))
    print("\ntargets")
    for one in judged:
        print(f"{'met   ' if one['met'] else 'MISSED'} {one['target']}: {one['measured']:g} (bound {one['bound']:g})")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        arguments = {key: value for key, value in vars(options).items() if key != "out"}
        whole_results = {"machine": machine(), "options": arguments, "targets": judged, "results": results}
        options.out.write_text(json.dumps(whole_results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
