"""Golden renders: YAML files with the children of whole resources, as they are sent to the API server.

`golden/NAME.spec.yaml` is the spec, `golden/NAME.yaml` its children in apply order. With UPDATE_GOLDEN=1 in the
environment, the renders are written before they are compared; review the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """YAML without aliases, with long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def read_spec(folder: Path, name: str) -> dict[str, Any]:
    """Return the spec of a golden render."""
    return dict(yaml.safe_load((folder / f"{name}.spec.yaml").read_text()))


def assert_golden(folder: Path, name: str, manifests: list[dict[str, Any]]) -> None:
    """Compare manifests with a golden render. They are compared as data, because the order of fields has no meaning."""
    path = folder / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        test = folder.parent.relative_to(Path(__file__).parents[3]) / "test_golden.py"
        header = f"# Rendered from {name}.spec.yaml by {test}; UPDATE_GOLDEN=1 rewrites it.\n---\n"
        path.write_text(header + yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=110))
    assert manifests == list(yaml.safe_load_all(path.read_text()))
