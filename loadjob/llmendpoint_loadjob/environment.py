"""Describes where a run ran, for its summary."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from llmendpoint_common.contracts.loadrun import Environment
from llmendpoint_common.process.version import VERSION

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def environment() -> Environment:
    """Return the environment of this process. What it runs against is filled in by whoever knows it."""
    return Environment(
        version=VERSION,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=available_cpus(),
    )


def available_cpus() -> float:
    """Return the number of CPUs that this process may use, with the limit of its cgroup (cgroup v2)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_MAX.read_text().split()[:2]
        return min(float(usable), int(quota) / int(period))
    except (OSError, ValueError):
        return float(usable)


def utc_now() -> str:
    """Return the time as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
