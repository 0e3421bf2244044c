"""What `helm install` prints: commands that work with the values that were given."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
import yaml

from support.documents.rendered import CHART, needs_helm

pytestmark = needs_helm

Notes = Callable[..., str]
DASHBOARD = "dashboard.enabled=true,dashboard.auth.secretKeyRef.name=token"
HEADER = "dashboard.enabled=true,dashboard.auth.mode=Header,dashboard.auth.header.trustedProxies={10.9.0.0/16}"


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """A function that returns the notes for the given values.

    Helm only renders notes if it is connected to a cluster. So they are an object of a copy of the chart.
    """
    chart = tmp_path_factory.mktemp("notes") / "llmendpoint"
    shutil.copytree(CHART, chart)
    templates = chart / "templates"
    text = (templates / "NOTES.txt").read_text()
    (templates / "_notes.tpl").write_text('{{- define "notes" -}}\n' + text + "{{- end }}")
    (templates / "notes.yaml").write_text('text: {{ include "notes" . | toJson }}')

    def render(*values: str) -> str:
        flags = [part for value in values for part in ("--set", value)]
        command = ["helm", "template", "llm", str(chart), "--kube-version", "1.29.0", "--namespace", "system", "-s",
                   "templates/notes.yaml", *flags]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["text"])

    return render


def commands(text: str, word: str) -> list[str]:
    """Return the lines with commands of kubectl that contain a word."""
    return [line.strip() for line in text.splitlines() if line.startswith("   kubectl ") and word in line]


@pytest.mark.parametrize("word", ["apply -f -", "llmendpoint/assistant", "service/assistant", "loadtest"])
def test_an_operator_of_some_namespaces_has_its_first_endpoint_in_one_of_them(notes: Notes, word: str) -> None:
    found = commands(notes("operator.watchNamespaces={team-a,team-b}"), word)
    assert found
    assert {line.startswith("kubectl --namespace team-a ") for line in found} == {True}
    assert not [line for line in commands(notes(), word) if "--namespace" in line]


def test_a_dashboard_behind_a_proxy_is_not_opened_by_a_forwarded_port_which_it_would_refuse(notes: Notes) -> None:
    text = notes(HEADER)
    assert not commands(text, "port-forward service/llm-llmendpoint-dashboard")
    assert "http://llm-llmendpoint-dashboard.system.svc:3001" in text
    assert "X-Forwarded-User" in text
    assert "10.9.0.0/16" in text
    ingress = notes(HEADER, "dashboard.ingress.enabled=true,dashboard.ingress.host=llm.example.com")
    assert "http://llm.example.com/" in ingress


def test_a_dashboard_with_a_token_says_how_to_open_it_and_where_the_token_is(notes: Notes) -> None:
    text = notes(DASHBOARD, "dashboard.service.port=80,dashboard.auth.secretKeyRef.key=password")
    assert commands(text, "--namespace system port-forward service/llm-llmendpoint-dashboard 3001:80")
    (command,) = commands(text, "get secret")
    assert command.startswith("kubectl --namespace system get secret token ")
    assert 'index .data "password"' in command
    assert "get secret" not in notes("dashboard.enabled=true,dashboard.auth.mode=None")
    assert "dashboard" not in notes()


def test_a_request_is_sent_when_the_forwarded_port_listens(notes: Notes) -> None:
    text = notes()
    (command,) = commands(text, "port-forward")
    assert command.endswith(" &")
    assert "curl --retry 5 --retry-connrefused http://127.0.0.1:11434/" in text


def test_definitions_that_the_chart_does_not_install_are_named_with_their_command(notes: Notes) -> None:
    text = notes("crds.install=false,crds.keep=false")
    assert commands(text, "apply --server-side -f manifests/crds/")
    # They are not part of the release.
    assert "are deleted" not in text
    assert "are deleted" in notes("crds.keep=false")
    assert not commands(notes(), "manifests/crds/")
