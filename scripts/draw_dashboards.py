"""Draw the data of all panels of the Grafana dashboards into one picture, from a Prometheus.

    python scripts/draw_dashboards.py --prometheus http://127.0.0.1:9090 --namespace models --out build/dashboards.png

The picture shows whether queries return what their titles promise. It does not show how Grafana draws them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import matplotlib.pyplot as plt
from dashboards.reading import panels, substituted
from matplotlib.axes import Axes

FOLDER = Path(__file__).parent.parent / "charts/llmendpoint/files/dashboards"
_COLUMNS = 6
_SERIES = 8


def series(prometheus: str, expr: str, minutes: float) -> list[dict[str, Any]]:
    """Return the series of a query over the last minutes."""
    now = time.time()
    query = urlencode({"query": expr, "start": now - minutes * 60, "end": now, "step": max(5, minutes * 60 / 120)})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=60) as response:
        return list(json.load(response)["data"]["result"])


def draw(axes: Axes, panel: dict[str, Any], found: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """Draw a panel. A panel of tables or numbers shows the course of its values."""
    axes.set_title(panel["title"], fontsize=7)
    axes.tick_params(labelsize=5)
    lines = 0
    for legend, results in found:
        for result in results:
            lines += 1
            times = [float(at) for at, _ in result["values"]]
            values = [float(value) for _, value in result["values"]]
            label = _label(legend, result["metric"])
            shown = [value if math.isfinite(value) else math.nan for value in values]
            axes.plot(
                [at - times[-1] for at in times], shown, label=label[:28] if lines <= _SERIES else None, linewidth=0.8
            )
    if lines == 0:
        axes.text(0.5, 0.5, "NO DATA", color="red", ha="center", transform=axes.transAxes)
    elif lines <= _SERIES:
        axes.legend(fontsize=4, loc="upper left")


def _label(legend: str, labels: dict[str, str]) -> str:
    """Return the legend of a series. Labels that it does not have are empty, as in Grafana."""
    if legend == "__auto":
        return " ".join(labels.values()) or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend) or "value"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="URL of Prometheus")
    parser.add_argument("--namespace", default=".*", help="value of the variable namespace, a regular expression")
    parser.add_argument("--llmendpoint", default=".*", help="value of the variable llmendpoint, a regular expression")
    parser.add_argument("--minutes", type=float, default=15, help="time that the picture shows")
    parser.add_argument("--out", type=Path, default=Path("build/dashboards.png"), help="file for the picture")
    options = parser.parse_args()
    chosen = {"namespace": options.namespace, "llmendpoint": options.llmendpoint}
    found = [
        (path.stem, panel) for path in sorted(FOLDER.glob("*.json")) for panel in panels(json.loads(path.read_text()))
    ]
    rows = math.ceil(len(found) / _COLUMNS)
    figure, grid = plt.subplots(rows, _COLUMNS, figsize=(_COLUMNS * 3.2, rows * 2.1), squeeze=False)
    for (name, panel), axes in zip(found, grid.flat, strict=False):
        results = [
            (target["legendFormat"], series(options.prometheus, substituted(target["expr"], chosen), options.minutes))
            for target in panel["targets"]
        ]
        draw(axes, {**panel, "title": f"{name}: {panel['title']}"}, results)
    for axes in grid.flat[len(found) :]:
        axes.remove()
    figure.tight_layout()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=110)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
