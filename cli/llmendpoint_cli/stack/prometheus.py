"""Configuration of the Prometheus that `up` starts: it scrapes the sidecars of the stack, and has the chart's rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from llmendpoint_cli.stack.state import SidecarAddress
from llmendpoint_common.process.units import Address

#: The rules that need only series of the sidecars. Prometheus shows alerts, and does not send them.
_RULES = ("records.yaml", "traffic.yaml")
#: How long samples are kept, as the dashboard shows them, and how much disk they may use.
RETENTION_TIME, RETENTION_SIZE = "7d", "1GB"
#: The rules of the chart are grouped by namespace and endpoint.
NAMESPACE = "local"


def prometheus_config(sidecars: Sequence[SidecarAddress]) -> str:
    """Return the configuration file, in YAML."""
    document: dict[str, Any] = {
        "global": {"scrape_interval": "5s", "scrape_timeout": "4s", "evaluation_interval": "15s"},
        "rule_files": [str(shipped_rules() / name) for name in _RULES if (shipped_rules() / name).is_file()],
        "scrape_configs": [
            {
                "job_name": "llmendpoint",
                "static_configs": [
                    {
                        "targets": [sidecar.admin_url.removeprefix("http://")],
                        "labels": {"namespace": NAMESPACE, "llmendpoint": sidecar.name},
                    }
                    for sidecar in sidecars
                ],
            }
        ],
    }
    return "# Written by `llmendpoint up`.\n" + yaml.safe_dump(document, sort_keys=False)


def prometheus_command(program: str, config: Path, data: Path, listen: Address) -> tuple[str, ...]:
    """Return the command line. Prometheus listens on one address only."""
    return (
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={RETENTION_TIME}",
        f"--storage.tsdb.retention.size={RETENTION_SIZE}",
        f"--web.listen-address={_host(listen)}:{listen.port}",
    )


def shipped_rules() -> Path:
    """Return the folder with the rules of the chart: in the wheel, or in a clone."""
    packaged = Path(__file__).parents[1] / "data" / "rules"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "charts" / "llmendpoint" / "files" / "rules"


def _host(address: Address) -> str:
    if address.host is None:
        return "0.0.0.0"
    if address.host == "localhost":
        return "127.0.0.1"
    return f"[{address.host}]" if ":" in address.host else address.host
