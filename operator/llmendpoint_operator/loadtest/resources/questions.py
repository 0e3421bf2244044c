"""The ConfigMaps with the questions of a run. They are copies, so that later changes do not affect the run.

The pod has one folder per source, named like it, so that two sources may have entries of the same name, and so that an
error of the load generator (`…/questions/SOURCE/ENTRY:LINE: REASON`) says which ConfigMap and which entry to correct.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.cluster import GROUP
from llmendpoint_common.process.errors import NotReadyError
from llmendpoint_operator.kube.owner import Manifest, Owner

#: The annotation with the name of the ConfigMap that a copy was made of.
SOURCE_ANNOTATION = f"{GROUP}/questions-source"
_SUFFIXES = (".yaml", ".yml")
# `kubectl create configmap` puts files that are not valid UTF-8 into binaryData. The load generator says what is wrong
# with them.
_FIELDS = ("data", "binaryData")


def require_files(source: Manifest) -> Manifest:
    """Return a ConfigMap that a LoadTest names. Raises NotReadyError if it has no question files."""
    if not question_files(source):
        raise NotReadyError(
            f"ConfigMap {source['metadata']['name']} in spec.dataset.questions.configMapRefs has no entry whose name "
            "ends in .yaml or .yml.",
            "The run starts when it has one.",
        )
    return source


def snapshot(owner: Owner, sources: Sequence[Manifest]) -> list[Manifest]:
    """Return one ConfigMap per source, with only the question files (`.yaml`, `.yml`) of the source.

    A source that occurs twice, or that has no question files, is left out.
    """
    unique = {source["metadata"]["name"]: source for source in sources if question_files(source)}
    return [
        {
            **owner.child(
                "ConfigMap", f"{owner.name}-questions-{index}", "questions", annotations={SOURCE_ANNOTATION: name}
            ),
            **{field: entries for field in _FIELDS if (entries := _entries(source, field))},
        }
        for index, (name, source) in enumerate(unique.items())
    ]


def questions_volume(snapshots: Sequence[Manifest]) -> Manifest:
    """Return the volume `questions` with the files of all copies, each in a folder with the name of its source."""
    return {"name": "questions", "projected": {"sources": [{"configMap": _projection(copy)} for copy in snapshots]}}


def _projection(copy: Manifest) -> Manifest:
    source = copy["metadata"]["annotations"][SOURCE_ANNOTATION]
    items = [{"key": name, "path": f"{source}/{name}"} for name in question_files(copy)]
    return {"name": copy["metadata"]["name"], "items": items}


def question_files(config_map: Manifest) -> list[str]:
    """Return the names of the entries that are question files."""
    return sorted(name for field in _FIELDS for name in _entries(config_map, field))


def _entries(config_map: Manifest, field: str) -> dict[str, str]:
    entries = config_map.get(field) or {}
    return {name: text for name, text in entries.items() if name.lower().endswith(_SUFFIXES)}
