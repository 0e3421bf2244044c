"""The environment of the Ollama container, tried with the real Ollama: a private CA, proxies, and the probes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmendpoint_common.api.translate.ollama_environment import ollama_environment
from support.in_memory.endpoints import endpoint_spec, pod
from support.machine.real_ollama import RealOllama, ollama_program, running_ollama
from support.on_cluster.private_registry import MODEL, PrivateRegistry, private_registry

BUNDLE = {"name": "company-ca", "key": "ca.crt"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    ollama_program()
    with private_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def ca_folder(registry: PrivateRegistry, tmp_path: Path) -> Path:
    """The folder with the bundle, as kubelet mounts a ConfigMap: the file is a symbolic link through another one."""
    folder = tmp_path / "llmendpoint-ca"
    version = folder / "..2026_01_02"
    version.mkdir(parents=True)
    (version / "bundle.crt").write_bytes(registry.ca.read_bytes())
    (folder / "..data").symlink_to(version.name)
    (folder / "bundle.crt").symlink_to("..data/bundle.crt")
    return folder


def variables(ca_folder: Path | str, **ollama: object) -> dict[str, str]:
    """Return the variables of a container, without those of its paths."""
    spec = endpoint_spec(ollama=ollama)
    folders = {"models_folder": "", "home_folder": "", "ca_folder": str(ca_folder)}
    made = ollama_environment(spec, address="", **folders)
    return {name: value for name, value in made.items() if not name.startswith("OLLAMA_") and name != "HOME"}


def proxied(registry: PrivateRegistry, **more: str) -> list[dict[str, str]]:
    given = {"HTTPS_PROXY": registry.proxy, "HTTP_PROXY": registry.proxy, **more}
    return [{"name": name, "value": value} for name, value in given.items()]


def pull(url: str) -> str:
    """Pull the private model, and return the last line of the answer."""
    body = json.dumps({"model": MODEL, "stream": True}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/api/pull", body), timeout=60) as response:
        return str(response.read().decode().strip().splitlines()[-1])


def test_a_bundle_and_a_proxy_lead_to_a_registry_with_a_private_ca(
    registry: PrivateRegistry, ca_folder: Path, tmp_path: Path
) -> None:
    registry.asked.clear()
    given = variables(ca_folder, caBundleRef=BUNDLE, env=proxied(registry))
    with running_ollama(tmp_path, **given) as ollama:
        assert "success" in pull(ollama.url)
        for mode in ("Proxy", "Exporter"):
            assert "private" in probe(ollama, mode, {**given, "HOME": str(tmp_path)})
    # Neither the probes nor the requests of Ollama to the processes that run models go through the proxy.
    assert set(registry.asked) == {"registry.test", "blobs.test"}


def probe(ollama: RealOllama, mode: str, given: dict[str, str]) -> str:
    """Run the command of the probes with the variables of the container, but the port of this Ollama."""
    (container,) = pod(metering={"mode": mode})["initContainers"]
    command = " ".join(container["livenessProbe"]["exec"]["command"]).replace("11434", str(ollama.port)).split()
    address = {item["name"]: item["value"] for item in container["env"]}["OLLAMA_HOST"]
    place = {
        "OLLAMA_HOST": address.replace("11434", str(ollama.port)),
        "PATH": f"{Path(ollama.program).parent}:{os.environ['PATH']}",
    }
    return subprocess.check_output(command, env={**given, **place}, text=True, timeout=20)


def test_without_the_bundle_the_certificate_is_refused(
    registry: PrivateRegistry, ca_folder: Path, tmp_path: Path
) -> None:
    with running_ollama(tmp_path, **variables(ca_folder, env=proxied(registry))) as ollama:
        assert "certificate signed by unknown authority" in pull(ollama.url)


def test_hosts_in_no_proxy_are_reached_directly(registry: PrivateRegistry, ca_folder: Path, tmp_path: Path) -> None:
    registry.asked.clear()
    env = proxied(registry, NO_PROXY="registry.test")
    with running_ollama(tmp_path, **variables(ca_folder, caBundleRef=BUNDLE, env=env)) as ollama:
        # Only the proxy knows the name.
        assert "lookup registry.test" in pull(ollama.url)
    assert registry.asked == []


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_the_certificates_of_the_image_stay_trusted(ca_folder: Path, tmp_path: Path) -> None:
    """A program of Go reads the bundle beside the file with the certificates of the system."""
    source = tmp_path / "main.go"
    source.write_text(
        'package main\nimport ("crypto/x509"; "fmt")\n'
        "func main() { pool, err := x509.SystemCertPool(); fmt.Println(len(pool.Subjects()), err) }\n"
    )
    counts = []
    for given in ({}, variables(ca_folder, caBundleRef=BUNDLE)):
        count = subprocess.check_output(["go", "run", source], env={**os.environ, **given}, text=True)
        counts.append(int(count.split()[0]))
    assert counts[1] == counts[0] + 1
