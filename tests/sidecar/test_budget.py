"""The budget: memory and file limits as the kernel states them, and bounds that fit into them."""

from __future__ import annotations

import os
import resource
from dataclasses import fields
from pathlib import Path

import pytest

from llmendpoint_sidecar.budget import SMALL_BODY_BYTES, Budget, budget_of, file_limit, memory_limit, raise_file_limit

KIB, MIB, GIB = 1024, 1024**2, 1024**3
MANY_FILES = 1_048_576
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_of(budget: Budget, connection_bytes: int = 16 * KIB) -> int:
    """Return the memory that the proxy keeps if every bound is reached. A record takes 2 KiB, and a decoder 8 MiB."""
    return (
        budget.held_small_bytes
        + budget.held_large_bytes
        + budget.head_bytes
        + budget.unsent_bytes
        + budget.connections * connection_bytes
        + budget.records * 2 * KIB
        + budget.decoders * 8 * MIB
    )


@pytest.mark.parametrize("workers", [1, 2, 4, 16])
@pytest.mark.parametrize("memory", [192 * MIB, 512 * MIB, GIB, 4 * GIB, 64 * GIB])
def test_all_bounds_together_fit_into_the_memory(memory: int, workers: int) -> None:
    processes = 64 * MIB + (workers * 40 * MIB if workers > 1 else 0)
    own = max(memory * 7 // 8 - processes, workers * 24 * MIB)
    assert workers * memory_of(budget_of(memory, MANY_FILES, workers)) <= own
    assert workers * memory_of(budget_of(memory, MANY_FILES, workers, tls=True), 48 * KIB) <= own


def test_the_default_container_keeps_three_bodies_of_64_mib_and_2944_connections() -> None:
    budget = budget_of(512 * MIB, MANY_FILES)
    assert budget.body_bytes == 64 * MIB
    assert budget.held_large_bytes > 3 * budget.body_bytes
    assert (budget.connections, budget.records, budget.decoders) == (2944, 4096, 2)


def test_without_a_limit_the_bounds_do_not_grow_with_the_machine() -> None:
    assert budget_of(64 * GIB, MANY_FILES) == budget_of(1024 * GIB, MANY_FILES)
    assert budget_of(64 * GIB, MANY_FILES).body_bytes == 64 * MIB


@pytest.mark.parametrize("memory", [0, 32 * MIB, 96 * MIB])
def test_a_limit_that_is_too_low_still_leaves_useful_bounds(memory: int) -> None:
    budget = budget_of(memory, 0, 4)
    assert all(getattr(budget, field.name) > 0 for field in fields(budget))
    assert budget.body_bytes > SMALL_BODY_BYTES


@pytest.mark.parametrize("files", [256, 1024, 4096])
def test_every_connection_has_a_file_for_itself_and_one_for_the_upstream(files: int) -> None:
    assert 2 * budget_of(64 * GIB, files).connections + 64 <= files


def machine(root: Path, cgroup: str, **files: str) -> Path:
    """Create the files of a machine. Names have `__` for `/`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_the_limit_of_a_container_is_that_of_its_cgroup(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", **{"memory.max": str(96 * MIB)})
    assert memory_limit(root) == 96 * MIB


def test_the_lowest_limit_of_the_ancestors_applies(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/pods/one/sidecar\n",
        **{
            "pods__memory.max": str(200 * MIB),
            "pods__one__memory.max": str(90 * MIB),
            "pods__one__sidecar__memory.max": "max",
        },
    )
    assert memory_limit(root) == 90 * MIB


def test_version_1_of_cgroups_is_read_with_and_without_its_own_root(tmp_path: Path) -> None:
    lines = "9:cpu,cpuacct:/pods/one\n8:memory:/pods/one\n"
    inside = machine(tmp_path / "inside", lines, **{"memory__memory.limit_in_bytes": str(80 * MIB)})
    outside = machine(
        tmp_path / "outside",
        lines,
        **{
            "memory__pods__one__memory.limit_in_bytes": str(70 * MIB),
            "memory__memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert memory_limit(inside) == 80 * MIB
    assert memory_limit(outside) == 70 * MIB


@pytest.mark.parametrize("cgroup", ["", "0::/\n", "0::/../..\n", "nonsense", "0:memory\n", "1:memory:\n"])
def test_without_a_readable_limit_it_is_the_memory_of_the_machine(tmp_path: Path, cgroup: str) -> None:
    assert memory_limit(machine(tmp_path, cgroup, **{"memory.max": "max"})) == MACHINE


def test_the_soft_limit_of_files_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        raise_file_limit()
        assert file_limit() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
