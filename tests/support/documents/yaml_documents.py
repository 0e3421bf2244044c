"""Large files of YAML, such as CRDs and the rendered chart, read quickly."""

from __future__ import annotations

from typing import Any

import yaml

# libyaml's parser is about ten times as fast. It is missing where PyYAML was built without it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a text, without empty ones."""
    return [document for document in yaml.load_all(text, _LOADER) if document]
