"""Plans of stacks: ports, command lines and files, without starting anything."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import yaml

from llmendpoint_cli.manifest.endpoint import read_endpoint
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.plan import Plan, make_plan
from llmendpoint_cli.stack.ports import Ports, holder_of
from llmendpoint_cli.stack.request import Request, differences, parse_key, parse_upstream, up_command
from llmendpoint_cli.stack.state import Program
from llmendpoint_cli.stack.summary import exposure, where
from llmendpoint_cli.stack.upstreams import Upstream, choose_upstreams, url_of_machine
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.units import Address
from support.machine.doctor_machine import scripted_server
from support.machine.local_stack import free_ports

OLLAMA = Upstream("ollama", "http://127.0.0.1:11434")
KEEPING = """apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata: {name: a}
spec: {models: [{name: "a:b"}], ollama: {numParallel: 3, keepAlive: 5m, env: [{name: MY_VARIABLE, value: "1"}]}}
"""


def plan(tmp_path: Path, request: Request, *upstreams: Upstream, manifest: str = "") -> tuple[Plan, list[str]]:
    """Return the plan for a request on free ports, and what was said."""
    endpoint = None
    if manifest:
        (tmp_path / "e.yaml").write_text(manifest)
        endpoint = read_endpoint(tmp_path / "e.yaml")
    said: list[str] = []
    return make_plan(request, endpoint, upstreams or (OLLAMA,), Folders(tmp_path / "state"), said.append), said


def program(made: Plan, name: str) -> Program:
    found = made.stack.program(name)
    assert found is not None
    return found


def test_everything_listens_on_loopback_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    made, _ = plan(tmp_path, Request())
    for each in made.stack.programs:
        listening = [word for word in each.command if word.startswith("--") and "listen" in word.partition("=")[0]]
        assert listening
        assert all("=localhost:" in word or "=127.0.0.1:" in word for word in listening)
    assert list(exposure(made.stack, Request())) == []


def test_what_is_open_is_said(tmp_path: Path) -> None:
    first, second, third = free_ports(3)
    request = Request(listen=Address(None, first), metrics_listen=Address("0.0.0.0", second),
                      dashboard_listen=Address(None, third), prometheus=False)  # fmt: skip
    made, _ = plan(tmp_path, request)
    assert list(exposure(made.stack, request)) == [
        f"everyone who can reach port {first} of this machine can use models, and pull, push, create, copy and delete them, "
        "without an API key",
        f"everyone who can reach 0.0.0.0:{second} can read metrics, the status and records of requests",
        f"everyone who can reach port {third} of this machine and has the token can use the dashboard",
    ]
    assert made.token
    assert "--auth=token" in program(made, "dashboard").command


@pytest.mark.parametrize(
    ("host", "listen"),
    [
        ("127.0.0.1", "localhost"),
        ("localhost", "localhost"),
        ("[::1]", "localhost"),
        # Linux has all of 127.0.0.0/8 on the loopback interface, so this is an address of the machine like any other.
        pytest.param("127.0.0.2", None, marks=pytest.mark.skipif(sys.platform != "linux", reason="only on Linux")),
        (socket.gethostname(), None),
    ],
)
def test_an_upstream_that_is_the_address_of_the_proxy_is_refused(tmp_path: Path, host: str, listen: str | None) -> None:
    (port,) = free_ports(1)
    request = Request(listen=Address(listen, port), dashboard=False, prometheus=False)
    with pytest.raises(StackError) as refused:
        plan(tmp_path, request, Upstream("a", f"http://{host}:{port}"))
    assert f"--upstream a=http://{host}:{port} is the address at which the proxy itself would listen" in str(
        refused.value
    )


def test_an_upstream_that_is_the_address_of_another_proxy_of_the_stack_is_refused(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    request = Request(listen=Address("localhost", port), dashboard=False, prometheus=False)
    with pytest.raises(StackError, match="is the address at which the proxy of a would listen"):
        plan(tmp_path, request, OLLAMA._replace(name="a"), Upstream("b", f"http://127.0.0.1:{port}"))


def test_load_tests_of_the_page_have_the_key_of_the_first_tenant_but_ollama_does_not_get_it(tmp_path: Path) -> None:
    keys = (parse_key(f"red={tmp_path}/red.key"), parse_key(f"blue={tmp_path}/blue.key"))
    made, _ = plan(tmp_path, Request(keys=keys, prometheus=False))
    assert f"--load-api-key-file={tmp_path}/state/keys/red" in program(made, "dashboard").command
    exporter = KEEPING.replace("spec: {", "spec: {metering: {mode: Exporter}, ")
    for request, manifest in ((Request(prometheus=False), ""), (Request(keys=keys, prometheus=False), exporter)):
        made, _ = plan(tmp_path, request, manifest=manifest)
        assert not [word for word in program(made, "dashboard").command if "key" in word]


def test_traffic_has_a_tenant_and_a_model_that_it_may_use(tmp_path: Path) -> None:
    keys = (parse_key(f"red={tmp_path}/red.key"), parse_key(f"blue={tmp_path}/blue.key"))
    request = Request(keys=keys, dashboard=False, prometheus=False, traffic=1.0)
    limits = KEEPING.replace(
        "spec: {",
        "spec: {metering: {auth: {secretRefs: [{name: keys}]}, tenants: [{name: red, allowedModels: []}, {name: blue, allowedModels: ['b:1']}]}, ",
    ).replace("models: [", "models: [{name: 'a:1'}, {name: 'b:1'}, ")
    made, _ = plan(tmp_path, request, manifest=limits)
    command = program(made, "traffic").command
    assert {"--model=b:1", f"--api-key-file={tmp_path}/state/keys/blue"} < set(command)
    assert made.stack.model == "b:1"
    exporter = KEEPING.replace("spec: {", "spec: {metering: {mode: Exporter}, ")
    made, _ = plan(tmp_path, request, manifest=exporter)
    assert not [word for word in program(made, "traffic").command if "key" in word]
    nothing = KEEPING.replace("spec: {", "spec: {metering: {defaultTenant: {allowedModels: []}}, ")
    made, said = plan(tmp_path, request, manifest=nothing)
    assert "traffic" not in {one.name for one in made.stack.programs}
    assert any("no traffic, because the stack does not allow the models of its file" in sentence for sentence in said)


def test_an_open_proxy_never_loses_the_keys_that_the_file_asks_for(tmp_path: Path) -> None:
    manifest = """apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata: {name: a}
spec: {models: [{name: "a:b"}], metering: {auth: {secretRefs: [{name: keys}]}}}
"""
    [port] = free_ports(1)
    with pytest.raises(StackError, match="name a file for each tenant with --key TENANT=FILE"):
        plan(tmp_path, Request(listen=Address(None, port)), manifest=manifest)


def test_an_ollama_that_is_started_has_the_environment_of_the_file(tmp_path: Path) -> None:
    request = Request(dashboard=False, prometheus=False)
    made, _ = plan(tmp_path, request, OLLAMA._replace(is_running=False, program="/bin/ollama"), manifest=KEEPING)
    ollama = program(made, "ollama")
    assert ollama.command == ("/bin/ollama", "serve")
    assert ollama.environment["OLLAMA_NUM_PARALLEL"] == "3"
    assert not {"HOME", "OLLAMA_MODELS"} & ollama.environment.keys()
    assert made.stack.left_out == ()
    made, _ = plan(tmp_path, request, OLLAMA, manifest=KEEPING)
    # Only what the file asks for, not the defaults of a cluster.
    assert [line.partition(" ")[0] for line in made.stack.left_out] == [
        "OLLAMA_NUM_PARALLEL=3", "OLLAMA_KEEP_ALIVE=5m", "MY_VARIABLE=1"
    ]  # fmt: skip


def test_an_exporter_has_no_proxy(tmp_path: Path) -> None:
    manifest = """apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata: {name: a}
spec: {models: [{name: "a:b"}], metering: {mode: Exporter}}
"""
    made, _ = plan(tmp_path, Request(dashboard=False, prometheus=False), manifest=manifest)
    assert "--exporter" in program(made, "sidecar").command
    assert made.stack.sidecars[0].proxy_url == OLLAMA.url


def test_prometheus_scrapes_every_sidecar_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    made, _ = plan(tmp_path, Request(), OLLAMA, OLLAMA._replace(name="gpu2", url="http://10.0.0.2:11434"))
    config = yaml.safe_load(made.files["prometheus.yml"])
    targets = config["scrape_configs"][0]["static_configs"]
    assert [target["labels"]["llmendpoint"] for target in targets] == ["ollama", "gpu2"]
    assert {f"http://{target['targets'][0]}" for target in targets} == {each.admin_url for each in made.stack.sidecars}
    assert all(Path(file).is_file() for file in config["rule_files"])
    assert config["rule_files"]
    command = program(made, "prometheus").command
    assert "--storage.tsdb.retention.time=7d" in command
    assert "--storage.tsdb.retention.size=1GB" in command
    assert any(word.startswith(f"--storage.tsdb.path={tmp_path}") for word in command)


def test_the_next_ports_of_further_proxies_are_not_said_to_be_in_use(tmp_path: Path) -> None:
    port, admin = free_ports(2)
    request = Request(listen=Address("localhost", port), metrics_listen=Address("localhost", admin), dashboard=False,
                      prometheus=False)  # fmt: skip
    upstreams = (OLLAMA, OLLAMA._replace(name="gpu2"))
    made, said = plan(tmp_path, request, *upstreams)
    assert len({sidecar.proxy_url for sidecar in made.stack.sidecars}) == 2
    assert not [sentence for sentence in said if "another program of the stack" in sentence]
    # A program of another kind, such as the dashboard, does not have its usual port. That is said.
    said = []
    ports = Ports(said.append)
    ports.free(Address("localhost", port))
    ports.free(Address("localhost", port))
    assert len(said) == 1
    assert f"port {port} is in use by another program of the stack: using " in said[0]


def test_a_port_in_use_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"(process {os.getpid()})" in holder_of(port)
        with pytest.raises(StackError, match=f"port {port} is in use by "):
            plan(tmp_path, Request(metrics_listen=Address("localhost", port), dashboard=False, prometheus=False))


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        (Address("nosuchhost.invalid", 21777), "the name nosuchhost.invalid is not known ("),
        (Address("8.8.8.8", 21777), "8.8.8.8 is not an address of this machine"),
    ],
)
def test_an_address_that_this_machine_does_not_have_is_not_a_port_in_use(
    tmp_path: Path, listen: Address, reason: str
) -> None:
    with pytest.raises(StackError) as raised:
        plan(tmp_path, Request(listen=listen, dashboard=False, prometheus=False))
    assert str(raised.value).startswith(f"cannot listen on {listen}: {reason}")


def test_a_chosen_port_that_another_program_of_the_stack_has_is_refused(tmp_path: Path) -> None:
    address = Address("127.0.0.1", free_ports(1)[0])
    request = Request(listen=address, metrics_listen=address, dashboard=False, prometheus=False)
    with pytest.raises(StackError, match=f"port {address.port} is in use by another program of the stack; choose"):
        plan(tmp_path, request)


def test_the_command_that_starts_a_stack_again_has_the_variables_of_ollama(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OLLAMA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OLLAMA_MODELS", "/a b")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1234")
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    stack = plan(tmp_path, Request(dashboard=False, prometheus=False))[0].stack
    again = up_command(stack.request, stack.environment)
    assert again == "OLLAMA_HOST=127.0.0.1:1234 OLLAMA_MODELS='/a b' llmendpoint up --no-dashboard --no-prometheus"


@pytest.mark.parametrize("simulator", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_simulator_takes_the_port_of_ollama_host(
    host: str, simulator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("OLLAMA_HOST", f"{host}:{port}")
    monkeypatch.setattr("shutil.which", lambda _: None)
    [upstream] = choose_upstreams(Request(simulator=simulator), lambda _: None)
    assert (upstream.url, upstream.is_running, upstream.simulated) == (f"http://{host}:{port}", False, True)


@pytest.mark.parametrize("host", ["127.0.0.2:1", "http://127.0.0.1", "127.0.0.1:11435"])
def test_the_simulator_has_its_usual_port_if_ollama_host_names_none_for_it(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, a port that only root can use, and the address of our proxy do not count."""
    monkeypatch.setenv("OLLAMA_HOST", host)
    [upstream] = choose_upstreams(Request(simulator=True), lambda _: None)
    assert upstream.url == OLLAMA.url


@pytest.mark.parametrize("width", [40, 100])
def test_the_summary_fits_and_names_the_next_steps(tmp_path: Path, width: int) -> None:
    made, _ = plan(tmp_path, Request(prometheus=False), OLLAMA._replace(simulated=True))
    text = "\n".join(where(Folders(tmp_path), made.stack, width))
    assert made.stack.sidecars[0].proxy_url in text
    assert "llmendpoint load --url" in text
    assert "The model server is the simulator: no model runs" in text


def test_the_next_steps_name_the_model_of_the_file_or_of_the_model_server(tmp_path: Path) -> None:
    request = Request(dashboard=False, prometheus=False)
    made, _ = plan(tmp_path, request, manifest=KEEPING)
    assert "--model a:b " in next_steps(tmp_path, made)
    script = {"/api/tags": {"models": [{"name": "c:1b"}]}, "/api/ps": {}, "/api/show": {}}
    with scripted_server(script) as server:
        made, _ = plan(tmp_path, request, OLLAMA._replace(url=f"http://127.0.0.1:{server.port}"))
        assert "--model c:1b " in next_steps(tmp_path, made)
    made, _ = plan(tmp_path, request, OLLAMA._replace(url="http://127.0.0.1:1"))
    assert "--model MODEL " in next_steps(tmp_path, made)


def next_steps(tmp_path: Path, made: Plan) -> str:
    return "\n".join(where(Folders(tmp_path), made.stack, 100)).partition("try next:")[2]


@pytest.mark.parametrize(
    "text", ["gpu1", "gpu 1=http://h:1", "a=https://h", "a=http://h/path", "a=http://u:p@h", "=http://h"]
)
def test_a_wrong_upstream_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like|use lowercase letters"):
        parse_upstream(text)


@pytest.mark.parametrize("text", ["team-a", "=f", "../x=f", ".hidden=f", "a/b=f", "a="])
def test_a_tenant_cannot_leave_the_folder_of_keys(text: str) -> None:
    with pytest.raises(ValueError, match="does not name a file of a tenant"):
        parse_key(text)


def test_differences_are_named() -> None:
    before = Request(upstreams=(parse_upstream("a=http://h:1"),)).document()
    after = Request(upstreams=(parse_upstream("a=http://h:2"),), simulator=True).document()
    assert differences(before, after) == [
        "--upstream was a=http://h:1 and is now a=http://h:2", "--simulator was not set and is now set"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("gpu.example:80", "http://gpu.example:80"),
        # With a scheme, the default port is that of the scheme.
        ("http://10.0.0.1", "http://10.0.0.1:80"),
        ("https://gpu.example/", "https://gpu.example:443"),
        (":8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://127.0.0.1:8080"),
        ("[::1]", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        (' "10.0.0.1" ', "http://10.0.0.1:11434"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("127.0.0.1:x", "http://127.0.0.1:11434"),
        # That of clients of our proxy.
        ("127.0.0.1:11435", "http://127.0.0.1:11434"),
        ("http://localhost:11435", "http://127.0.0.1:11434"),
        ("gpu.example:11435", "http://gpu.example:11435"),
    ],
)
def test_the_ollama_of_the_machine_is_that_of_its_client_and_never_our_proxy(host: str, url: str) -> None:
    assert url_of_machine(host, 11435) == url


def test_the_proxy_knows_how_many_requests_the_model_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLLAMA_NUM_PARALLEL", raising=False)
    request = Request(dashboard=False, prometheus=False)
    simulator = Upstream("simulator", OLLAMA.url, is_running=False, simulated=True)
    made, _ = plan(tmp_path, request, simulator)
    assert "--parallel=4" in program(made, "sidecar").command
    assert "--parallel=4" in program(made, "simulator").command
    assert "--parallel=1" in program(plan(tmp_path, request)[0], "sidecar").command
    reported = Upstream("simulator", OLLAMA.url, simulated=True, parallel=2)
    assert "--parallel=2" in program(plan(tmp_path, request, reported)[0], "sidecar").command
    command = program(plan(tmp_path, request, reported, manifest=KEEPING)[0], "sidecar").command
    assert [word for word in command if word.startswith("--parallel=")][-1] == "--parallel=2"
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "8")
    assert "--parallel=8" in program(plan(tmp_path, request)[0], "sidecar").command
