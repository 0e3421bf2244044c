"""Commands and queries in the documentation: each command is covered by a test, and Prometheus can parse the queries.

`test_walks.py` runs the pages about one machine. `tests/operator/apiserver/test_documented_commands.py` runs commands that
look at objects of a cluster.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_cli.main import main as llmendpoint
from llmendpoint_common.process.flags import Flags
from support.documents.documented import (
    PAGES,
    ROOT,
    SHELLS,
    Block,
    Command,
    all_commands,
    blocks_of,
    commands,
    commands_of,
    lines,
    programs,
)
from support.documents.rendered import CHART, by_name, needs_helm, rendered

RUNBOOKS = [page for page in PAGES if page.parent.name == "runbooks"]
KUBECTL, HELM = commands("kubectl"), commands("helm")
LLMENDPOINT, MAKE = commands("llmendpoint"), commands("make")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SCRIPTS = [block for block in BLOCKS if block.language in SHELLS]
#: Languages of blocks. One without a language is output, or a drawing.
LANGUAGES = {*SHELLS, "", "text", "yaml", "json", "promql", "python", "nginx"}
#: The test that covers the commands of a program. Words after the program narrow it down.
COVERED: dict[tuple[str, ...], str] = {
    ("kubectl",): "tests/docs/test_commands.py::test_kubectl_knows_the_flags",
    ("helm",): "tests/docs/test_commands.py::test_helm_knows_the_flags",
    ("llmendpoint",): "tests/docs/test_commands.py::test_llmendpoint_accepts_the_options",
    ("make",): "tests/docs/test_commands.py::test_make_has_the_target",
    ("docker",): "tests/docs/test_commands.py::test_images_are_pushed_under_the_names_that_the_chart_uses",
    ("cat", "VERSION"): "tests/docs/test_commands.py::test_images_are_pushed_under_the_names_that_the_chart_uses",
    ("git", "clone"): "tests/docs/test_commands.py::test_the_source_is_cloned_from_its_address",
    ("sh", "install.sh"): "tests/cli/test_install.py::test_it_installs_from_a_clone_and_uninstalls",
    ("curl",): "tests/docs/test_commands.py::test_curl_knows_the_options",
    ("openssl", "rand"): "tests/docs/test_commands.py::test_openssl_makes_keys",
    ("python", "-m", "llmendpoint_dashboard"): "tests/docs/test_walks.py::test_the_commands_of_a_page_work",
    ("python", "-m", "http.server"): "tests/docs/test_walks.py::test_the_commands_of_a_page_work",
    ("python", "scripts/draw_dashboards.py"): "tests/docs/test_commands.py::test_scripts_accept_the_options",
    ("ollama", "run"): "tests/clients/test_keys.py::test_ollamas_command_line_sends_no_key",
    ("npm", "install"): "tests/docs/test_commands.py::test_npm_has_the_package_in_its_lock_file",
    ("promtool", "check", "rules"): "tests/docs/test_commands.py::test_the_groups_for_a_prometheus_without_the_prometheus_operator_are_a_rule_file",
    ("diff",): "tests/docs/test_commands.py::test_filters_know_the_options",
    ("grep",): "tests/docs/test_commands.py::test_filters_know_the_options",
    ("sed",): "tests/docs/test_commands.py::test_filters_know_the_options",
    ("sort",): "tests/docs/test_commands.py::test_filters_know_the_options",
    ("cosign", "verify"): "tests/scripts/test_release.py::test_the_documented_verification_names_the_workflow",
    ("gh", "attestation", "verify"): "tests/scripts/test_release.py::test_the_documented_verification_names_the_workflow",
}  # fmt: skip
_SUFFIX = re.compile(r"_(bucket|sum|count)$")

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def run(*words: str, folder: Path = ROOT, **rest: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True, **rest)


def rule_of(command: Command) -> str | None:
    """Return the test that covers a command: that of the longest beginning of its words."""
    words = (command.program, *command.words[1:])
    found = [rule for rule in COVERED if words[: len(rule)] == rule]
    return COVERED[max(found, key=len)] if found else None


def assert_known(command: Command, program: str) -> None:
    """Assert that a program accepts the flags of a command. With --help, it reads them, and does nothing else."""
    words = command.words[: command.words.index("--")] if "--" in command.words else command.words
    done = run(program, *words[1:], "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout, done.stdout


def named(command: Command) -> str:
    return f"{command.place}: {' '.join(command.words)}"


def test_every_command_is_covered_by_a_test() -> None:
    uncovered = [named(command) for command in all_commands() if rule_of(command) is None]
    assert uncovered == []


def test_the_tests_that_cover_commands_exist() -> None:
    missing = [
        test for test in {*COVERED.values()} if test.partition("::")[2] not in functions(ROOT / test.partition("::")[0])
    ]
    assert missing == []


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_a_command_that_nothing_covers_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n1. Do it:\n\n    ```sh\n    FOO=1 kubectl get llm | nonsense --now\n    ```\n")
    (block,) = blocks_of(page)
    (kubectl, nonsense) = [
        Command(page, line, tuple(line.split()), number)
        for number, line in ((6, "kubectl get llm"), (6, "nonsense --now"))
    ]
    assert [(found.words, found.number) for found in all_commands([page])] == [
        (kubectl.words, kubectl.number),
        (nonsense.words, nonsense.number),
    ]
    assert rule_of(kubectl) is not None
    assert rule_of(nonsense) is None
    assert block.number == 6


def test_every_block_has_a_language_that_is_checked() -> None:
    assert [f"{block.place}: {block.language}" for block in BLOCKS if block.language not in LANGUAGES] == []


def test_no_command_is_in_a_block_without_a_language() -> None:
    begins = ("$ ", "kubectl ", "helm ", "llmendpoint ", "curl ", "make ")
    found = [
        f"{block.place}: {line}"
        for block in BLOCKS
        if block.language in ("", "text")
        for line in block.text.splitlines()
        if line.startswith(begins) and "──" not in line
    ]
    assert found == []


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.place)
def test_a_shell_can_parse_the_block(block: Block) -> None:
    script = block.text if block.language != "console" else "\n".join(line for _, line in block.script)
    done = run("sh", "-n", input=script)
    assert done.returncode == 0, done.stderr


def test_there_are_commands_on_most_runbooks() -> None:
    with_commands = {command.page for command in KUBECTL if command.page in RUNBOOKS}
    assert len(with_commands) >= 20


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("command", KUBECTL, ids=lambda command: command.place)
def test_kubectl_knows_the_flags(command: Command) -> None:
    assert_known(command, "kubectl")


@needs_helm
@pytest.mark.parametrize("command", HELM, ids=lambda command: command.place)
def test_helm_knows_the_flags(command: Command) -> None:
    assert_known(command, "helm")


@needs_helm
@pytest.mark.parametrize(
    "command",
    [
        command
        for command in HELM
        if "charts/llmendpoint" in command.words and command.words[1] in ("install", "upgrade")
    ],
    ids=lambda command: command.place,
)
def test_the_chart_accepts_the_values(command: Command) -> None:
    words = list(command.words[2:])
    settings = [
        word
        for option, value in itertools.pairwise(words)
        if option in ("--set", "--set-string", "--namespace")
        for word in (option, value)
    ]
    # Values that are kept from the installation before.
    done = run("helm", "template", "llmendpoint", str(CHART), "--kube-version", "1.29.0", *settings)
    assert done.returncode == 0, done.stderr


def scripts_of_ci() -> list[Block]:
    """Return the scripts in the examples of pipelines."""
    page = ROOT / "docs/how-to/load-test-in-ci.md"
    found = []
    for block in (block for block in blocks_of(page) if block.language == "yaml"):
        document = yaml.safe_load(block.text)
        steps = [step for job in document.get("jobs", {}).values() for step in job["steps"]]
        scripts = [step["run"] for step in steps if "run" in step]
        scripts += [line for job in document.values() if isinstance(job, dict) for line in job.get("script", [])]
        text = "\n".join(scripts).replace("$MODEL_SERVER", "http://model.example")
        found.append(Block(page, "sh", text, block.number))
    return found


CI = [command for block in scripts_of_ci() for command in commands_of(block)]


def test_the_pipelines_have_commands_that_are_covered() -> None:
    assert {command.program for command in CI} == {"git", "sh", "llmendpoint", "curl"}
    assert [named(command) for command in CI if command.program not in {rule[0] for rule in COVERED}] == []
    for block in scripts_of_ci():
        assert run("sh", "-n", input=block.text).returncode == 0


class Accepted(BaseException):
    """A program has read its options without an error."""


@pytest.mark.parametrize(
    "command", [*LLMENDPOINT, *(command for command in CI if command.program == "llmendpoint")], ids=lambda command: command.place
)  # fmt: skip
def test_llmendpoint_accepts_the_options(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parse: Callable[..., Any] = Flags.parse

    def parse_only(*arguments: Any, **rest: Any) -> None:
        parse(*arguments, **rest)
        raise Accepted

    monkeypatch.setattr(Flags, "parse", parse_only)
    monkeypatch.setenv("LLMENDPOINT_STATE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Accepted):
        llmendpoint(command.words[1:])


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("command", MAKE, ids=lambda command: command.place)
def test_make_has_the_target(command: Command) -> None:
    done = run("make", "--dry-run", *command.words[1:])
    assert done.returncode == 0, done.stderr


@needs_helm
def test_images_are_pushed_under_the_names_that_the_chart_uses(tmp_path: Path) -> None:
    """`docker` is a program that writes its arguments down."""
    for name in ("docker", "make"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/calls"\n')
        (tmp_path / name).chmod(0o755)
    scripts = [block for block in SCRIPTS if any(command.program == "docker" for command in commands_of(block))]
    assert scripts
    for block in scripts:
        (tmp_path / "calls").unlink(missing_ok=True)
        done = run("sh", "-eu", "-c", block.text, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
        tagged = {call[2]: call[3] for call in calls if call[:2] == ["docker", "tag"]}
        assert [call[2] for call in calls if call[:2] == ["docker", "push"]] == [*tagged.values()], block.place
        assert tagged.keys() <= chart_images(), block.place
        for source, copy in tagged.items():
            assert copy.partition("/")[2] == source.partition("/")[2], block.place


def chart_images() -> set[str]:
    """Return the images of the chart, with all of its parts."""
    text = run(
        "helm", "template", "x", str(CHART), "--kube-version", "1.29.0", "--set", "dashboard.enabled=true",
        "--set", "dashboard.auth.secretKeyRef.name=token",
    ).stdout  # fmt: skip
    return set(re.findall(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9./-]+:[a-z0-9.-]+", text))


def test_the_source_is_cloned_from_its_address() -> None:
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    assert [command.words[2] for command in commands("git")] == [source] * len(commands("git"))


@pytest.mark.parametrize("command", commands("curl"), ids=lambda command: command.place)
def test_curl_knows_the_options(command: Command) -> None:
    # An option that curl does not know ends it with 2. The address cannot be reached.
    words = [re.sub(r"https?://[^/ ]+|^localhost:\d+", "http://127.0.0.1:1", word) for word in command.words[1:]]
    words = [word for word in words if word not in ("--retry-connrefused",)]
    done = run("curl", *words, "--max-time", "1")
    assert done.returncode == 7, done.stderr


def test_openssl_makes_keys() -> None:
    for command in commands("openssl"):
        done = run(*command.words)
        assert re.fullmatch(r"[0-9a-f]{32,}\n", done.stdout), command.place


@pytest.mark.parametrize(
    "command",
    [command for name in ("grep", "sed", "sort", "diff") for command in commands(name)],
    ids=lambda command: command.place,
)
def test_filters_know_the_options(command: Command, tmp_path: Path) -> None:
    words = [word for word in command.words if not word.endswith(".yaml")]
    files = [str(tmp_path / word) for word in command.words if word.endswith(".yaml")]
    for name in files:
        Path(name).write_text("a\n")
    done = run(*words, *files, input="a\n")
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""


def test_scripts_accept_the_options() -> None:
    for command in commands("python"):
        if command.words[1].endswith(".py"):
            done = run(sys.executable, command.words[1], "--help")
            options = [word for word in command.words if word.startswith("--")]
            assert all(option in done.stdout for option in options), done.stdout + done.stderr


def test_npm_has_the_package_in_its_lock_file() -> None:
    for command in commands("npm"):
        folder = ROOT / command.words[command.words.index("--prefix") + 1]
        package = command.words[-1].partition("@")[0]
        assert f'"node_modules/{package}"' in (folder / "package-lock.json").read_text(), command.place


@pytest.mark.parametrize("page", [*RUNBOOKS, ROOT / "docs/monitoring.md", ROOT / "docs/scaling.md"],
                         ids=lambda page: page.stem)  # fmt: skip
def test_blocks_of_a_shell_have_commands_alone(page: Path) -> None:
    found = {Path(name).name for line in lines(page, "sh") for name in programs(line)}
    assert found <= {rule[0] for rule in COVERED}


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
