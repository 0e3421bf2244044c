"""What GitOps tools and kubectl rely on: server-side defaults, differences, dry runs and field managers."""

from __future__ import annotations

from typing import Any

from support.manifests import endpoint, loadtest


def test_a_new_object_reads_as_not_observed_before_the_operator_has_seen_it(api: Any) -> None:
    for manifest in (endpoint("new"), loadtest("new")):
        written = api.apply(manifest)
        assert written["metadata"]["generation"] == 1
        assert written["status"]["observedGeneration"] == -1
        assert (api.get(manifest["kind"], "new") or {})["status"]["observedGeneration"] == -1
