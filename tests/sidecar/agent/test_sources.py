"""Models from files and Modelfiles, against the simulator: what is made, when it is made again, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, Gguf, Load, ModelPhase, Registry, SidecarConfig
from llmendpoint_sidecar.inputs.files import Inputs
from llmendpoint_sidecar.main import Sidecar
from support.servers import RunningSimulator, StartSidecar, StartSimulator
from support.waiting import eventually

BASE = DeclaredModel("base:1", Load.ON_DEMAND)
BRIEF = DeclaredModel("brief:1", Load.ON_DEMAND, modelfile="FROM base:1\nSYSTEM Be brief.")


def config(*models: DeclaredModel, **fields: Any) -> SidecarConfig:
    return SidecarConfig(models=models, allowed_hosts=("*",), **fields)


def with_fields(model: DeclaredModel, **fields: Any) -> DeclaredModel:
    return msgspec.structs.replace(model, **fields)


def names(simulator: RunningSimulator) -> set[str]:
    return set(simulator.simulator.store.present)


def digest(simulator: RunningSimulator, name: str) -> str:
    return simulator.simulator.store.present[name]


async def until_settled(sidecar: Sidecar) -> None:
    def settled() -> bool:
        return all(model.phase is ModelPhase.READY and model.serving for model in sidecar.status().models)

    await eventually(settled)


@pytest.fixture
def gguf(tmp_path: Path) -> Gguf:
    (tmp_path / "a.gguf").write_bytes(b"GGUF" * 700_000)
    return Gguf("/a.gguf", str(tmp_path))


async def test_a_model_is_created_from_a_base_that_is_pulled_first(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[], registry=["base:1"])
    sidecar = await start_sidecar(simulator.port, config(BRIEF))
    await until_settled(sidecar)
    assert simulator.simulator.store.content("brief:1").system == "Be brief."
    await eventually(lambda: names(simulator) == {"base:1", "brief:1"})


async def test_a_base_that_is_declared_too_is_awaited_and_not_pulled(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    """Its name may not exist in the public registry, as it comes from another one."""
    simulator = await start_simulator(models=[], registry=["reg.example/library/base:1"])
    base = with_fields(BASE, registry=Registry("reg.example", "library/base"))
    sidecar = await start_sidecar(simulator.port, config(BRIEF, base))
    await until_settled(sidecar)
    store = simulator.simulator.store
    assert store.content("brief:1").weights == store.content("base:1").weights


async def test_a_new_version_of_a_declared_base_changes_what_was_made_from_it(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[], registry=["one/base:1", "two/base:1"])
    first = with_fields(BASE, registry=Registry("one", "base:1"))
    simulator.behave(registry=["one/base:1", "two/base:1"])
    sidecar = await start_sidecar(simulator.port, config(first, BRIEF))
    await until_settled(sidecar)
    before = digest(simulator, "brief:1")
    second = with_fields(BASE, registry=Registry("two", "base:1"))
    sidecar.configure(Inputs(config(second, BRIEF)))
    await eventually(lambda: digest(simulator, "brief:1") != before)
    store = simulator.simulator.store
    assert store.content("brief:1").weights == store.content("base:1").weights == digest(simulator, "two/base:1")


async def test_a_changed_modelfile_changes_the_model(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["base:1"])
    sidecar = await start_sidecar(simulator.port, config(BRIEF))
    await until_settled(sidecar)
    sidecar.configure(Inputs(config(with_fields(BRIEF, modelfile="FROM base:1\nSYSTEM Be long."))))
    assert not sidecar.status().models[0].serving
    await until_settled(sidecar)
    assert simulator.simulator.store.content("brief:1").system == "Be long."


async def test_a_model_that_somebody_else_changed_is_made_again(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=["base:1", "other:1"])
    sidecar = await start_sidecar(simulator.port, config(BRIEF))
    await until_settled(sidecar)
    store = simulator.simulator.store
    store.add("brief:1", store.content("other:1"))
    await eventually(lambda: store.content("brief:1").system == "Be brief.")


async def test_a_file_is_uploaded_once(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, gguf: Gguf, tmp_path: Path
) -> None:
    simulator = await start_simulator(models=[])
    model = DeclaredModel("file:1", gguf=gguf, modelfile="SYSTEM Be brief.")
    first = await start_sidecar(simulator.port, config(model), state_folder=tmp_path / "state")
    await until_settled(first)
    before = digest(simulator, "file:1")
    await first.stop()
    # Neither the file nor the memory of Ollama's blobs is needed again.
    Path(gguf.file).unlink()
    second = await start_sidecar(simulator.port, config(model), state_folder=tmp_path / "state")
    await until_settled(second)
    assert digest(simulator, "file:1") == before


async def test_a_file_that_changed_is_read_again_when_the_pod_restarts(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, gguf: Gguf, tmp_path: Path
) -> None:
    simulator = await start_simulator(models=[])
    model = DeclaredModel("file:1", Load.ON_DEMAND, gguf=gguf)
    first = await start_sidecar(simulator.port, config(model), state_folder=tmp_path / "state")
    await until_settled(first)
    before = digest(simulator, "file:1")
    await first.stop()
    Path(gguf.file).write_bytes(b"GGUF and something else")
    await start_sidecar(simulator.port, config(model), state_folder=tmp_path / "state")
    await eventually(lambda: digest(simulator, "file:1") != before)


async def test_a_file_that_is_missing_is_named_as_users_know_it(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    simulator = await start_simulator(models=[])
    model = DeclaredModel("file:1", gguf=Gguf("/volumes/a.gguf", str(tmp_path)))
    sidecar = await start_sidecar(simulator.port, config(model))
    await eventually(lambda: sidecar.status().models[0].reason == "FileNotReadable")
    message = sidecar.status().models[0].message
    assert message.startswith("/volumes/a.gguf cannot be read: No such file or directory.")
    assert "pod.ollamaVolumeMounts" in message
    assert str(tmp_path) not in message
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes/a.gguf").write_bytes(b"GGUF")
    await until_settled(sidecar)


async def test_a_file_that_is_missing_on_one_machine_has_no_advice_about_pods(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    simulator = await start_simulator(models=[])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("file:1", gguf=Gguf(f"{tmp_path}/a.gguf"))))
    await eventually(lambda: sidecar.status().models[0].reason == "FileNotReadable")
    message = sidecar.status().models[0].message
    assert message.startswith(f"{tmp_path}/a.gguf cannot be read: No such file or directory.")
    assert "path on the machine" in message
    assert "ollamaVolumeMounts" not in message


async def test_a_name_that_ollama_refuses_is_not_blamed_on_the_network(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[])
    sidecar = await start_sidecar(simulator.port, config(DeclaredModel("../x:1")))
    await eventually(lambda: sidecar.status().models[0].reason == "ModelNotFound")
    message = "../x:1 is not a name that Ollama accepts: invalid model name. Correct the name."
    assert sidecar.status().models[0].message == message


async def test_a_base_that_does_not_exist_is_named(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(models=[])
    sidecar = await start_sidecar(simulator.port, config(BRIEF))
    await eventually(lambda: sidecar.status().models[0].reason == "ModelNotFound")
    assert sidecar.status().models[0].message.startswith("base:1 was not found")


async def test_a_pinned_digest_holds_for_every_source(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, gguf: Gguf
) -> None:
    simulator = await start_simulator(models=["base:1"], registry=["reg/a:1", "c:1"])
    wrong = "sha256:" + "0" * 64
    models = (
        with_fields(BRIEF, digest=wrong),
        DeclaredModel("file:1", digest=wrong, gguf=gguf),
        DeclaredModel("a:1", digest=wrong, registry=Registry("reg", "a:1")),
        DeclaredModel("c:1", digest=wrong),
    )
    sidecar = await start_sidecar(simulator.port, config(*models))
    await eventually(lambda: {model.reason for model in sidecar.status().models} == {"DigestMismatch"})
    assert not sidecar.status().ready
    # What has another digest never gets the declared name, except by a pull of that name.
    assert {name for name in names(simulator) if not name.startswith("llmendpoint/")} == {"base:1", "reg/a:1", "c:1"}
    right = with_fields(BRIEF, digest=None)
    sidecar.configure(Inputs(config(right)))
    await until_settled(sidecar)
    pinned = with_fields(right, digest=f"sha256:{digest(simulator, 'brief:1')}")
    sidecar.configure(Inputs(config(pinned)))
    await until_settled(sidecar)
