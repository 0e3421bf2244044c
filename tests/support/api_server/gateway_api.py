"""The CustomResourceDefinitions of the Gateway API, from its Go module."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

_MODULE = "sigs.k8s.io/gateway-api"
#: The versions that tests use, and the checksums of their modules, as `go mod download -json` prints them.
_SUMS = {
    "v1.4.1": "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8=",
    "v1.1.0": "h1:DsLDXCi6jR+Xz8/xd0Z1PYl2Pn0TyaFMOPPZIj4inDM=",
}
CURRENT = "v1.4.1"
#: The last version whose standard channel has no timeouts in an HTTPRoute.
WITHOUT_TIMEOUTS = "v1.1.0"


def http_routes(version: str = CURRENT) -> dict[str, Any]:
    """Return the definition of the kind HTTPRoute in the standard channel of a version."""
    path = _folder(version) / "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
    return dict(yaml.safe_load(path.read_text()))


@functools.cache
def _folder(version: str) -> Path:
    """Return the folder of the module, which Go downloads into its cache. Without Go, the test is skipped."""
    if shutil.which("go") is None:
        message = f"GATEWAY TESTS DID NOT RUN: no go here, which downloads the definitions of {_MODULE}"
        pytest.fail(message, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip(message)
    command = ["go", "mod", "download", "-json", f"{_MODULE}@{version}"]
    # Outside the module of tests/gitops, whose go.mod is not concerned.
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", timeout=300)
    found = json.loads(done.stdout)
    assert found["Sum"] == _SUMS[version]
    return Path(found["Dir"])
