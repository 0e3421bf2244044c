"""Commands and queries in the documentation: the programs know the flags, and Prometheus can parse the queries.

`tests/operator/apiserver/test_documented_commands.py` runs those that look at objects.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.documented import PAGES, ROOT, Command, commands, lines, programs
from support.rendered import CHART, by_name, needs_helm, rendered

RUNBOOKS = [page for page in PAGES if page.parent.name == "runbooks"]
KUBECTL, HELM = commands("kubectl"), commands("helm")
#: Programs that may occur in a block of a shell, besides words of the shell itself.
PROGRAMS = {"kubectl", "helm", "curl", "grep", "promtool", "sed", "make", "python", "llmendpoint"}
_SUFFIX = re.compile(r"_(bucket|sum|count)$")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)


def assert_known(command: Command, program: str) -> None:
    """Assert that a program accepts the flags of a command. With --help, it reads them, and does nothing else."""
    words = command.words[: command.words.index("--")] if "--" in command.words else command.words
    done = run(program, *words[1:], "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout, done.stdout


def test_there_are_commands_on_most_runbooks() -> None:
    with_commands = {command.page for command in KUBECTL if command.page in RUNBOOKS}
    assert len(with_commands) >= 20


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("command", KUBECTL, ids=lambda command: command.name)
def test_kubectl_knows_the_flags(command: Command) -> None:
    assert_known(command, "kubectl")


@needs_helm
@pytest.mark.parametrize("command", HELM, ids=lambda command: command.name)
def test_helm_knows_the_flags(command: Command) -> None:
    assert_known(command, "helm")


@pytest.mark.parametrize("page", [*RUNBOOKS, ROOT / "docs/monitoring.md", ROOT / "docs/scaling.md"],
                         ids=lambda page: page.stem)  # fmt: skip
def test_blocks_of_a_shell_have_commands_alone(page: Path) -> None:
    found = {Path(name).name for line in lines(page, "sh") for name in programs(line)}
    assert found <= PROGRAMS


@needs_helm
def test_the_objects_of_the_operator_that_runbooks_name_exist() -> None:
    named = {
        f"Deployment/{word.partition('/')[2]}"
        for command in KUBECTL
        for word in command.words
        if word.startswith(("deployment/", "deploy/"))
    }
    assert named == {"Deployment/llmendpoint"}
    assert by_name(rendered()).keys() >= named


@needs_helm
@needs_promtool
def test_the_groups_for_a_prometheus_without_the_prometheus_operator_are_a_rule_file(tmp_path: Path) -> None:
    (line,) = [line for line in lines(ROOT / "docs/monitoring.md", "sh") if line.startswith("helm template")]
    # A helm that is built from its Go module does not know the version of Kubernetes, which the chart asks for.
    script = line.replace(" charts/llmendpoint", f" {CHART} --kube-version 1.29.0")
    done = run("sh", "-ec", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (check,) = commands("promtool", [ROOT / "docs/monitoring.md"])
    checked = run(*check.words, folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    spec = by_name(rendered("--set", "monitoring.rules=Enabled"))["PrometheusRule/llmendpoint"]["spec"]
    assert yaml.safe_load((tmp_path / "llmendpoint.rules.yaml").read_text()) == spec


def documented_queries() -> list[tuple[Path, str]]:
    return [(page, line) for page in PAGES for line in lines(page, "promql")]


@needs_promtool
def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"q{number}", "expr": query} for number, (_, query) in enumerate(documented_queries())]
    assert len(rules) > 10
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = run("promtool", "check", "rules", str(tmp_path / "rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_queries_name_metrics_that_exist() -> None:
    known = set(re.findall(r"^\| `(llmendpoint[a-z0-9_:]+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
    for path in (CHART / "files/rules").glob("*.yaml"):
        groups = yaml.safe_load(path.read_text())["groups"]
        known |= {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    for page, query in documented_queries():
        text = re.sub(r'"[^"]*"', '""', query)
        names = set(re.findall(r"\bllmendpoint[a-z0-9_]*(?::[a-z0-9_:]+)?", text)) - {"llmendpoint"}
        unknown = {name for name in names if name not in known and _SUFFIX.sub("", name) not in known}
        assert names, (page.stem, query)
        # The chart makes this series from its values.
        assert unknown <= {"llmendpoint:gpu_hourly_price"}, (page.stem, unknown)
