"""All pages of docs/reference, by their file name."""

from __future__ import annotations

from pathlib import Path

from llmendpoint_operator.crd.definitions import custom_resource_definitions
from reference.markdown import HEADER, plain
from reference.metrics import metrics_page
from reference.programs import programs_page
from reference.resources import resource_page
from reference.values import values_page


def reference_pages(chart: Path) -> dict[str, str]:
    """Return the pages. `chart` is the folder of the chart."""
    pages: dict[str, str] = {}
    index = [f"{HEADER}# Reference\n\nThese pages are generated from the code.\n\n"]
    for definition in custom_resource_definitions():
        kind = definition["spec"]["names"]["kind"]
        name = f"{kind.lower()}.md"
        pages[name] = resource_page(definition)
        description = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"]
        index.append(f"- [{kind}]({name}): {plain(description)}\n")
    pages["values.md"] = values_page(chart)
    pages["programs.md"] = programs_page()
    pages["metrics.md"] = metrics_page()
    index += [
        "- [Values of the chart](values.md): defaults and rules.\n",
        "- [Programs](programs.md): options, environment variables and defaults.\n",
        "- [Metrics](metrics.md): names, types and labels.\n",
        "- [JSON schemas](../schemas/): documents that the programs read and serve.\n",
    ]
    pages["README.md"] = "".join(index)
    return pages
