"""An earlier version of the chart and the operator, from the history of the repository."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: The version from which upgrades are tested: the last commit before all fields of LLMEndpoint were implemented. When
#: there is a release, its tag replaces this.
COMMIT = "dd3f713bb74fbdd08153e99392c863fcc7fb7e3d"


def extracted(folder: Path, commit: str = COMMIT) -> Path:
    """Extract the chart and the operator of a commit. Skips the test in a clone that does not have it."""
    command = ["git", "-C", str(ROOT), "archive", commit, "charts", "operator", "common"]
    done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"commit {commit}, from which the upgrade starts, is not in this clone (git fetch --unshallow)")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
