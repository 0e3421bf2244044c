"""The arguments of a Job against the load generator, which has to know each one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmendpoint_loadjob.settings import Settings, parse_settings
from support.documents.golden import read_spec
from support.in_memory.loadtests import children

GOLDEN = Path(__file__).parent / "golden"


def settings_of(name: str, folder: Path) -> Settings:
    """Return the settings of a pod of a golden render, with its files below a folder."""
    rendered = children(read_spec(GOLDEN, name))
    (container,) = rendered["Job/smoke"]["spec"]["template"]["spec"]["containers"]
    arguments = [text.replace("$(JOB_COMPLETION_INDEX)", "1") for text in container["args"]]
    run = folder / "etc/llmendpoint/run"
    run.mkdir(parents=True)
    (run / "run.json").write_text(rendered["ConfigMap/smoke-run"]["data"]["run.json"])
    key = folder / "etc/llmendpoint/api-key"
    key.mkdir(parents=True)
    (key / "key").write_text("sk-1")
    return parse_settings([text.replace("=/etc/", f"={folder}/etc/") for text in arguments], environment={})


@pytest.mark.parametrize("name", ["minimal", "everything", "several-pods", "trace"])
def test_the_load_generator_knows_every_argument(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    assert settings.result_config_map == f"ns/smoke-result-{1 if name == 'several-pods' else 0}"


def test_each_pod_sends_its_slice(tmp_path: Path) -> None:
    settings = settings_of("several-pods", tmp_path)
    assert (settings.slice.part, settings.slice.parts) == (1, 4)
    assert str(settings.out) == "/results/smoke-uid-1/pod-1"
