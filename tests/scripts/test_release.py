"""The release: its notes, and the workflow that publishes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from release_notes import release_notes

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-26\n\n### Added\n\n- A thing.\n\n## [1.1.0] - 2026-01-01\n\n- Old.\n"


def jobs(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return dict(document["jobs"])


def test_the_notes_are_the_section_of_the_version() -> None:
    assert release_notes("v1.2.0", "1.2.0", CHANGELOG) == "### Added\n\n- A thing.\n"
    assert release_notes("v1.1.0", "1.1.0", CHANGELOG) == "- Old.\n"


@pytest.mark.parametrize(
    ("tag", "version", "sentence"),
    [
        ("v1.2.1", "1.2.0", "the tag is v1.2.1, but the file VERSION has 1.2.0"),
        ("1.2.0", "1.2.0", "the tag of this version is v1.2.0"),
        ("v1.3.0", "1.3.0", "CHANGELOG.md has no section about 1.3.0"),
        ("v1.2", "1.2", "CHANGELOG.md has no section about 1.2;"),
    ],
)
def test_a_version_that_is_not_prepared_is_not_released(tag: str, version: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        release_notes(tag, version, CHANGELOG)


def test_every_action_is_pinned_by_one_commit_with_its_version() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for used in re.findall(r"uses: (\S+.*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            if not used.startswith("./"):
                name, commit = re.fullmatch(r"(\S+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", used).groups()  # type: ignore[union-attr]
                pins.setdefault(name, set()).add(commit)
    assert pins
    assert {name: commits for name, commits in pins.items() if len(commits) > 1} == {}


def test_a_release_publishes_every_image_and_only_after_ci() -> None:
    release = jobs("release.yaml")
    names = sorted(path.parent.name for path in ROOT.glob("*/Containerfile"))
    assert sorted(release["images"]["strategy"]["matrix"]["name"]) == names
    assert release["images"]["needs"] == "ci"
    assert release["ci"]["uses"] == "./.github/workflows/ci.yaml"
    assert release["chart"]["needs"] == "images"
    assert {"images", "chart"} <= set(release["publish"]["needs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_at_most_and_a_job_says_what_it_writes(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] in ({}, {"contents": "read"})
    for name, job in document["jobs"].items():
        assert "write-all" not in str(job.get("permissions")), name


def test_each_job_that_publishes_signs() -> None:
    for name, job in jobs("release.yaml").items():
        if job.get("permissions", {}).get("packages") == "write":
            steps = str(job["steps"])
            assert "cosign sign --yes" in steps, name
            assert "actions/attest-build-provenance@" in steps, name
            assert job["permissions"]["id-token"] == "write", name


def test_the_documented_verification_names_the_workflow() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    identity = re.search(
        r"--certificate-identity https://github\.com/llmendpoint/llmendpoint/(\S+)@refs/tags/vVERSION", text
    )
    assert identity is not None
    workflow = (ROOT / identity[1]).read_text(encoding="utf-8")
    assert "cosign sign" in workflow
    assert "attest" in workflow
    assert "gh attestation verify oci://ghcr.io/llmendpoint/operator:VERSION --repo llmendpoint/llmendpoint" in text
