"""The policy file (`--policy`): YAML or JSON with a list of allowed values for each rule.

A rule that is absent or null allows every value, and an empty list allows none. The file is read once, when the
operator starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from llmendpoint_common.api.endpoint.network import ServiceType
from llmendpoint_common.process.errors import PolicyError

_Item = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^\S+$")]
_Items = tuple[_Item, ...] | None


class Policy(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The allowed values by rule. `rules.py` has the fields that each rule covers, and how values are compared."""

    image_prefixes: _Items = None
    priority_classes: _Items = None
    service_types: tuple[ServiceType, ...] | None = None
    host_names: _Items = None
    ingress_classes: _Items = None
    ingress_annotations: _Items = None
    service_annotations: _Items = None
    secret_names: _Items = None
    pod_label_prefixes: _Items = None
    pod_annotations: _Items = None
    target_hosts: _Items = None
    toleration_keys: _Items = None
    service_account_names: _Items = None
    claim_names: _Items = None
    volume_types: _Items = None
    pod_template_fields: _Items = None


#: The policy if there is no file.
ALLOW_ALL = Policy()


def read_policy(path: Path) -> Policy:
    """Return the policy in a file. Raises PolicyError, which names the file, and the field or the line."""
    try:
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise PolicyError(f"{path}: not valid UTF-8") from None
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error


def parse_policy(text: str, file: str) -> Policy:
    """Return the policy in a text. `file` is its name for errors. Raises PolicyError."""
    try:
        document: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}: " if error.problem_mark else " "
        raise PolicyError(f"{file}:{line}not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise PolicyError(f"{file}: not valid YAML: {error}") from error
    try:
        policy = msgspec.convert({} if document is None else document, type=Policy)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$")
        place = field.strip(".`")
        raise PolicyError(f"{file}: {f'{place}: ' if place else ''}{reason}") from error
    for index, prefix in enumerate(policy.image_prefixes or ()):
        if not _has_registry(prefix):
            raise PolicyError(
                f"{file}: imagePrefixes[{index}]: {prefix!r} does not begin with a registry; write for example "
                f"docker.io/{prefix}"
            )
    return policy


def _has_registry(prefix: str) -> bool:
    """Return whether a prefix begins with a registry. An image without one is compared as an image of docker.io."""
    registry = prefix.partition("/")[0]
    return "." in registry or ":" in registry or registry == "localhost"
