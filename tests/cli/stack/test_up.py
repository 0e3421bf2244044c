"""`llmendpoint up`, `status`, `logs`, `traffic`, `load` and `down` as a user runs them, with real programs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.logfile import tail_of
from llmendpoint_cli.stack.state import Phase, read_process, read_stack
from llmendpoint_cli.stack.upstreams import url_of_machine
from support.machine.local_stack import BARE, NO_OLLAMA, LocalStack, free_ports, local_stack
from support.machine.real_ollama import ollama_program
from support.waiting import wait_until

KEY = "sk-secret-of-team-a"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with local_stack(tmp_path / "state") as stack:
        yield stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Provide a stack that is up. Tests that use it leave it so."""
    with local_stack(tmp_path_factory.mktemp("up") / "state") as stack:
        stack.up()
        yield stack
        stack.down()


def status(stack: LocalStack) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(stack.run("status", "--format", "json").stdout)
    return document


def process(stack: LocalStack, name: str) -> dict[str, Any]:
    return next(row for row in status(stack)["processes"] if row["name"] == name)


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def generate(stack: LocalStack) -> int:
    body = json.dumps({"model": "tiny:1b", "prompt": "hi", "stream": False}).encode()
    request = urllib.request.Request(f"{proxy_url(stack)}/api/generate", body, {"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def proxy_url(stack: LocalStack) -> str:
    return str(status(stack)["endpoints"][0]["url"])


def test_status_says_what_runs_and_whether_it_is_healthy(running: LocalStack) -> None:
    done = running.run("status")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0].split() == ["NAME", "STATE", "ADDRESS", "PID", "SINCE", "RESTARTS"]
    assert "The model server is the simulator: no model runs, and all numbers are made up." in done.stdout
    assert [row["name"] for row in status(running)["processes"]] == ["supervisor", "simulator", "sidecar"]
    assert get(f"{proxy_url(running)}/api/version")[0] == 200


def test_status_fits_into_forty_columns(running: LocalStack) -> None:
    narrow = subprocess.run(running.command("status"), check=True, capture_output=True, text=True,
                            env={**running.environment, "COLUMNS": "40"})  # fmt: skip
    table, _, _ = narrow.stdout.partition("\n\n")
    assert max(map(len, table.splitlines())) <= 40
    assert "sidecar: healthy" in table


def test_a_second_up_says_that_the_stack_runs(running: LocalStack) -> None:
    before = running.record("sidecar").pid
    assert "runs already, with the same options" in running.up().stdout
    assert running.record("sidecar").pid == before


def test_a_second_up_with_other_options_names_them_and_the_way_out(running: LocalStack) -> None:
    done = running.run("up", *BARE, "--traffic", "2")
    assert done.returncode == 1
    assert "--traffic was not set and is now 2. `llmendpoint down` ends it" in done.stderr
    assert status(running)["healthy"]


def test_programs_are_not_reached_by_variables_of_the_user(tmp_path: Path) -> None:
    with local_stack(
        tmp_path / "state", LLMENDPOINT_SIDECAR_KEYS="/nowhere", LLMENDPOINT_SIMULATOR_TOKENS="x"
    ) as stack:
        stack.up()
        stack.down()


def test_traffic_runs_in_the_background_until_it_is_stopped(running: LocalStack) -> None:
    done = running.run("traffic", "--detach", "--rate", "20", "--category", "Math")
    assert done.returncode == 0, done.stderr
    metrics = str(status(running)["endpoints"][0]["metrics"])
    counted = re.compile(rb'^llmendpoint_requests_total{.*operation="chat".*outcome="(ok|length)"', re.MULTILINE)
    wait_until(lambda: counted.search(get(metrics)[1]))
    assert process(running, "traffic")["healthy"]
    stopped = running.run("traffic", "--stop")
    assert stopped.stdout == "traffic: ended\n"
    assert read_process(running.folders, "traffic") is None
    assert status(running)["healthy"]


def test_traffic_with_other_options_replaces_the_one_that_runs_and_stays_healthy(running: LocalStack) -> None:
    assert running.run("traffic", "--detach", "--rate", "0.2").returncode == 0
    earlier = running.record("traffic").pid
    log = running.folders.logs / "supervisor.log"
    ended = log.read_text().count("traffic: ended")
    seen = set()

    def is_replaced() -> bool:
        has_ended = log.read_text().count("traffic: ended") > ended
        record = read_process(running.folders, "traffic")
        seen.add(None if record is None else record.phase)
        return has_ended and record is not None and record.pid != earlier

    with subprocess.Popen(running.command("traffic", "--detach", "--rate", "0.5"), stdout=subprocess.PIPE, text=True,
                          env=running.environment) as replacing:  # fmt: skip
        wait_until(is_replaced)
        assert "These options replace those of the traffic that ran in the background." in replacing.communicate()[0]
    assert seen == {Phase.RUNNING}
    assert process(running, "traffic")["healthy"]
    assert running.run("traffic", "--stop").returncode == 0


def test_traffic_in_the_background_keeps_keys_out_of_the_list_of_processes(running: LocalStack) -> None:
    done = running.run("traffic", "--detach", "--api-key", KEY)
    assert done.returncode == 2
    assert "use --api-key-file" in done.stderr
    assert KEY not in done.stderr


def test_traffic_reports_a_wrong_option_immediately(running: LocalStack) -> None:
    for option, value in (("--rate", "-1"), ("--category", "math")):
        done = running.run("traffic", "--detach", option, value)
        assert done.returncode == 2
        assert value in done.stderr
    assert read_process(running.folders, "traffic") is None


def test_a_load_test_is_stored_beside_the_stack(running: LocalStack) -> None:
    done = running.run("load", "--url", proxy_url(running), "--model", "simulated:latest", "--max-requests", "2",
                       "--max-tokens", "2", "--log-level", "warning")  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = max(running.folders.runs.iterdir())
    assert f"the result is stored in {run}\n" in done.stderr
    assert (run / "summary.json").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rate", "1", "--concurrency", "1"], "set only one of --concurrency"),
        (["--category", "Sports"], "Sports"),
        (["--cacert", "/nowhere"], "/nowhere"),
    ],
)
def test_a_load_test_that_is_refused_has_no_result(running: LocalStack, options: list[str], sentence: str) -> None:
    def runs() -> set[Path]:
        return set(running.folders.runs.glob("*"))

    before = runs()
    done = running.run("load", "--model", "simulated:latest", *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "stored" not in done.stderr
    assert runs() == before


def test_a_load_test_goes_to_the_proxy_of_the_stack_at_whatever_port(running: LocalStack) -> None:
    done = running.run("load", "--max-requests", "1", "--max-tokens", "2", "--log-level", "warning")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"simulated:latest at {proxy_url(running)}" in done.stdout


def test_a_load_test_that_does_not_start_stores_nothing(running: LocalStack) -> None:
    before = set(running.folders.runs.iterdir())
    done = running.run("load", "--url", proxy_url(running), "--concurrency", "2", "--rate", "3")
    assert done.returncode == 2
    assert "stored" not in done.stderr
    assert set(running.folders.runs.iterdir()) == before


def test_our_own_proxy_is_not_taken_for_an_ollama_at_whatever_port(running: LocalStack) -> None:
    assert url_of_machine(proxy_url(running), 1) == "http://127.0.0.1:11434"


def test_logs_show_all_programs_with_their_names(running: LocalStack) -> None:
    lines = running.run("logs").stdout.splitlines()
    assert {line.partition("|")[0].strip() for line in lines} >= {"sidecar", "simulator", "supervisor"}
    assert len(running.run("logs", "--tail", "1", "sidecar").stdout.splitlines()) == 1
    unknown = running.run("logs", "sidcar")
    assert unknown.returncode == 2
    assert "there is no log of 'sidcar'; there are logs of sidecar, simulator, supervisor" in unknown.stderr


def test_a_crashed_program_is_started_again_and_its_log_stays(stack: LocalStack) -> None:
    stack.up()
    crashed = stack.record("sidecar").pid
    with subprocess.Popen(stack.command("logs", "-f", "sidecar"), stdout=subprocess.PIPE, text=True,
                          env=stack.environment) as follow:  # fmt: skip
        assert follow.stdout is not None
        assert "proxy on" in follow.stdout.readline()
        os.kill(crashed, signal.SIGKILL)
        wait_until(lambda: stack.record("sidecar").pid not in (0, crashed))
        # The line of the second process.
        while "proxy on" not in follow.stdout.readline():
            pass
        follow.send_signal(signal.SIGINT)
    wait_until(lambda: process(stack, "sidecar")["healthy"])
    assert process(stack, "sidecar")["restarts"] == 1
    assert stack.record("sidecar").exit_code == -signal.SIGKILL
    assert "sidecar: ended with signal SIGKILL; it is started again" in tail_of(
        stack.folders.logs / "supervisor.log", 20
    )
    stack.down()


def test_programs_outlive_the_terminal_and_end_with_down(stack: LocalStack) -> None:
    # `up` runs on a terminal of its own, which then vanishes, as if its window were closed.
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, stack.command("up", *BARE), stack.environment)
    wait_until(lambda: read_stack(stack.folders) is not None)
    wait_until(lambda: (read_process(stack.folders, "sidecar") or stack_record()).pid)
    wait_until(lambda: is_closed(terminal))
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: status(stack)["healthy"])
    session = os.getsid(stack.record("supervisor").pid)
    assert session == stack.record("supervisor").pid
    # A stream that is in flight is finished, although `down` has begun.
    request = urllib.request.Request(f"{proxy_url(stack)}/api/generate", data=json.dumps(
        {"model": "simulated:latest", "prompt": "hi", "stream": True}).encode())  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as response:
        first = response.readline()
        down = subprocess.Popen(stack.command("down"), stdout=subprocess.PIPE, text=True, env=stack.environment)
        lines = [first, *response]
    assert json.loads(lines[-1])["done"] is True
    text, _ = down.communicate(timeout=60)
    # While the stream lasts, `down` may say that it waits.
    assert [line for line in text.splitlines() if "waiting until" not in line] == [
        "sidecar: ended with exit code 0", "simulator: ended with exit code 0", "Nothing runs any more."
    ]  # fmt: skip
    assert stack.processes() == []
    assert stack.run("status").returncode == 1


def is_closed(terminal: int) -> bool:
    """Read what was printed on a terminal, and return whether no process has it any more."""
    try:
        return not os.read(terminal, 65536)
    except OSError:
        return True


def stack_record() -> Any:
    """Stand for a record that does not exist yet."""

    class Absent:
        pid = 0

    return Absent


def test_a_port_in_use_is_named_with_its_holder_and_nothing_is_left(stack: LocalStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = stack.run("up", *BARE, "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"port {port} is in use by " in done.stderr
    assert f"(process {os.getpid()}); end that program, or choose another port" in done.stderr
    assert stack.processes() == []
    assert read_stack(stack.folders) is None


def test_a_program_that_does_not_start_is_shown_with_its_log(stack: LocalStack, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(KEY)
    ports = free_ports(1)
    # An address that this machine does not have.
    done = stack.run("up", *BARE, "--listen", f"192.0.2.1:{ports[0]}")
    assert done.returncode == 1
    assert "in use" in done.stderr or "cannot listen on 192.0.2.1" in done.stderr
    assert stack.processes() == []


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (b"\n", KEY.encode(), "the API key of tenant 'team-a' in {keys} is not used: it is empty"),
        (b"a\nb\n", KEY.encode(), "the API key of tenant 'team-a' in {keys} is not used: it has several lines"),
        (KEY.encode(), KEY.encode(), "the tenants 'team-a' and 'team-b' have the same API key"),
    ],
    ids=["empty", "lines", "shared"],
)
def test_a_key_with_which_no_client_could_send_requests_is_refused(
    stack: LocalStack, tmp_path: Path, first: bytes, second: bytes, fault: str
) -> None:
    for name, content in (("a", first), ("b", second)):
        (tmp_path / name).write_bytes(content)
    done = stack.run("up", *BARE, "--simulator", f"--key=team-a={tmp_path}/a", f"--key=team-b={tmp_path}/b")
    assert done.returncode == 1
    assert f"--key: {fault.format(keys=stack.folders.keys)}" in done.stderr
    assert KEY not in done.stderr
    assert stack.processes() == []


def test_the_end_of_traffic_without_a_stack_says_that_none_runs(stack: LocalStack) -> None:
    done = stack.run("traffic", "--stop")
    assert done.returncode == 1
    assert "no stack is up, so no traffic runs in the background" in done.stderr


def test_an_endpoint_of_the_cluster_runs_on_one_machine(stack: LocalStack, tmp_path: Path) -> None:
    manifest, key = tmp_path / "e.yaml", tmp_path / "team-a.key"
    manifest.write_text("""apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata: {name: assistant}
spec:
  models:
    - name: tiny:1b
  replicas: 2
  metering:
    auth: {secretRefs: [{name: keys}]}
    tenants:
      - name: team-a
        requestsPerMinute: 1
    timeouts: {idle: 5m}
  storage:
    retentionPolicy: {whenModelRemoved: Delete}
""")
    key.write_text(KEY)
    done = stack.up("-f", str(manifest), "--key", f"team-a={key}")
    assert "left out: spec.replicas (line 7): one machine has one Ollama for each --upstream" in done.stdout
    assert "left out: spec.storage.retentionPolicy (line 15): models that the file does not name stay" in done.stdout
    assert "metering" not in done.stdout.partition("endpoint ")[0]
    wait_until(lambda: status(stack)["healthy"], seconds=60)
    tags = f"{proxy_url(stack)}/api/tags"
    assert get(tags)[0] == 401
    code, body = get(tags, Authorization=f"Bearer {KEY}")
    assert code == 200
    assert b"tiny:1b" in body
    # Commands of the user of the stack have a key: the file of its first tenant.
    load = stack.run("load", "--model", "tiny:1b", "--concurrency", "1", "--max-requests", "1", "--warmup", "0")
    assert "the requests have the API key of the tenant team-a" in load.stderr
    assert (load.returncode, "HTTP 401" in load.stdout) == (0, False), load.stdout
    assert stack.run("traffic", "--detach").returncode == 0
    assert f"--api-key-file={stack.folders.keys / 'team-a'}" in stack.record("traffic").command
    # They use the model of the file, and not another one of the simulator, which tenants may not be allowed to use.
    assert "--model=tiny:1b" in stack.record("traffic").command
    assert "tiny:1b at http" in stack.run("traffic", "--rate", "20", "--max-requests", "1").stdout
    assert stack.run("traffic", "--stop").returncode == 0
    assert generate(stack) == 429
    config = json.loads((stack.folders.configs / "sidecar.json").read_text())
    assert "removeUndeclared" not in config
    assert "--idle-timeout=5m" in stack.record("sidecar").command
    # The key is in no file of the stack, no log and no command line. Its file can be read through a link.
    for path in stack.folders.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert KEY.encode() not in path.read_bytes(), path
    assert not any(KEY.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in stack.processes())
    manifest.write_text(manifest.read_text().replace("idle: 5m", "idle: 6m"))
    again = stack.run("up", *BARE, "-f", str(manifest), "--key", f"team-a={key}")
    assert again.returncode == 1
    assert "the file has changed. `llmendpoint down` ends it" in again.stderr
    stack.down()


def test_a_wrong_manifest_starts_nothing(stack: LocalStack, tmp_path: Path) -> None:
    manifest = tmp_path / "e.yaml"
    manifest.write_text(
        "apiVersion: llmendpoint.dev/v1alpha1\nkind: LLMEndpoint\nmetadata: {name: a}\nspec: {model: x}\n"
    )
    done = stack.run("up", "-f", str(manifest))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{manifest}:4: spec.models: is required",
        f"{manifest}:4: spec.model: is not a field; did you mean models?",
    ]
    assert not stack.folders.root.exists()


def test_several_ollamas_have_one_proxy_each(stack: LocalStack) -> None:
    ports = free_ports(2)
    simulators = [
        subprocess.Popen([sys.executable, "-m", "llmendpoint_simulator", "--listen", f"127.0.0.1:{port}"],
                         stderr=subprocess.DEVNULL) for port in ports
    ]  # fmt: skip
    try:
        for port in ports:
            wait_until(partial(_answers, port))
        done = stack.up(*(word for name, port in zip(("gpu1", "gpu2"), ports, strict=True)
                          for word in ("--upstream", f"{name}=http://127.0.0.1:{port}")))  # fmt: skip
        assert "endpoint gpu1" in done.stdout
        endpoints = status(stack)["endpoints"]
        assert [endpoint["name"] for endpoint in endpoints] == ["gpu1", "gpu2"]
        assert all(endpoint["simulated"] for endpoint in endpoints)
        assert len({endpoint["url"] for endpoint in endpoints}) == 2
        assert all(get(f"{endpoint['url']}/api/version")[0] == 200 for endpoint in endpoints)
        stack.down()
        # They were not started by `up`, so they go on.
        assert all(simulator.poll() is None for simulator in simulators)
    finally:
        for simulator in simulators:
            simulator.terminate()
            simulator.wait()


def test_a_simulator_that_runs_already_is_not_taken_for_an_ollama(stack: LocalStack) -> None:
    port = free_ports(1)[0]
    simulator = subprocess.Popen(
        [sys.executable, "-m", "llmendpoint_simulator", "--listen", f"127.0.0.1:{port}", "--model", "other:1b"],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(partial(_answers, port))
        stack.environment["OLLAMA_HOST"] = f"127.0.0.1:{port}"
        done = stack.up("--traffic", "1")
        assert f"the simulator that runs at http://127.0.0.1:{port}" in done.stdout
        assert "no model runs, and all numbers are made up" in done.stdout
        assert [endpoint["simulated"] for endpoint in status(stack)["endpoints"]] == [True]
        assert "--model=other:1b" in stack.record("traffic").command
        stack.down()
        assert simulator.poll() is None
    finally:
        simulator.terminate()
        simulator.wait()


def _answers(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/api/version")[0] == 200
    except OSError:
        return False


def test_in_the_foreground_a_signal_ends_everything(stack: LocalStack) -> None:
    with subprocess.Popen(stack.command("up", *BARE, "--foreground"), stdout=subprocess.PIPE, text=True,
                          env=stack.environment) as process:  # fmt: skip
        assert process.stdout is not None
        while "llmendpoint down" not in process.stdout.readline():
            pass
        wait_until(lambda: status(stack)["healthy"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert stack.processes() == []


def test_a_killed_supervisor_takes_its_programs_along_and_up_starts_them_again(stack: LocalStack) -> None:
    stack.up()
    os.kill(stack.record("supervisor").pid, signal.SIGKILL)
    done = stack.run("status")
    assert done.returncode == 1
    again = f"OLLAMA_HOST={NO_OLLAMA} llmendpoint up --no-dashboard --no-prometheus"
    assert f"it was killed; `{again}` starts the stack again" in done.stdout
    stack.up()
    wait_until(lambda: status(stack)["healthy"])
    stack.down()
    assert stack.processes() == []


def test_traffic_in_the_background_comes_back_after_the_supervisor_was_killed(stack: LocalStack) -> None:
    stack.up()
    assert stack.run("traffic", "--detach", "--rate", "3", "--category", "Math").returncode == 0
    os.kill(stack.record("supervisor").pid, signal.SIGKILL)
    wait_until(lambda: not stack.processes())
    assert "background traffic: as before" in stack.up().stdout
    assert "--category" in stack.record("traffic").command
    assert f"--url={proxy_url(stack)}" in stack.record("traffic").command
    os.kill(stack.record("supervisor").pid, signal.SIGKILL)
    wait_until(lambda: not stack.processes())
    # A request with other options is another stack.
    done = stack.up("--simulator")
    assert "is not started again; `llmendpoint traffic --detach`" in done.stdout
    assert read_process(stack.folders, "traffic") is None
    stack.down()


def test_a_stopped_process_ends_in_order(stack: LocalStack) -> None:
    stack.up()
    os.kill(stack.record("sidecar").pid, signal.SIGSTOP)
    os.kill(stack.record("supervisor").pid, signal.SIGSTOP)
    done = stack.down()
    assert "sidecar: ended with exit code 0" in done.stdout
    assert "killed" not in done.stdout


def test_files_that_somebody_damaged_are_mended(stack: LocalStack) -> None:
    stack.up()
    (stack.folders.root / "stack.json").write_text("{")
    (stack.folders.processes / "sidecar.json").unlink()
    wait_until(lambda: read_stack(stack.folders) is not None and read_process(stack.folders, "sidecar") is not None)
    assert stack.record("sidecar").phase is Phase.RUNNING
    stack.down()


@pytest.mark.optional
def test_a_full_disk_does_not_keep_the_stack_from_starting(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], check=False,
                      capture_output=True).returncode:  # fmt: skip
        pytest.skip("a file system cannot be mounted here")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    try:
        with local_stack(disk / "state", XDG_RUNTIME_DIR=str(runtime)) as stack:
            (disk / "state").mkdir()
            filler = disk / "filler"
            with pytest.raises(OSError, match="space"):
                filler.write_bytes(bytes(1024 * 1024))
            # With a key, files have to be written for the sidecar.
            key = tmp_path / "key.txt"
            key.write_text(KEY)
            full = f"The disk with {disk / 'state'} is full (no space left on device)."
            assert full in stack.up("--key", f"team-a={key}").stdout
            document = status(stack)
            assert (document["healthy"], document["diskIsFull"]) == (True, True)
            assert full in stack.run("status").stdout
            assert full in stack.run("logs", "sidecar").stderr
            found = json.loads(stack.run("doctor", "--format", "json").stdout)["findings"]
            assert [one["command"] for one in found if one["cause"] == "DiskFull"] == [f"df -h {disk / 'state'}"]
            assert "proxy on" not in tail_of(stack.folders.logs / "sidecar.log", 9)
            filler.unlink()
            assert not status(stack)["diskIsFull"]
            # What was written while the disk was full is not lost.
            wait_until(lambda: "proxy on" in tail_of(stack.folders.logs / "sidecar.log", 9))
            stack.down()
            assert stack.processes() == []
            assert not list(runtime.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_down_without_a_stack_says_so(stack: LocalStack) -> None:
    assert stack.down().stdout == "Nothing runs.\n"
    assert stack.run("status").stdout == "No stack is up. `llmendpoint up` starts one.\n"
    assert stack.run("traffic", "--detach").returncode == 1


def test_an_ollama_that_is_installed_is_started_with_the_environment_of_the_file(tmp_path: Path) -> None:
    program = Path(ollama_program())
    [port] = free_ports(1)
    manifest = tmp_path / "e.yaml"
    manifest.write_text("""apiVersion: llmendpoint.dev/v1alpha1
kind: LLMEndpoint
metadata: {name: a}
spec:
  models: [{name: "localhost:1/none/none:1", load: OnDemand}]
  ollama: {numParallel: 3}
""")
    path = os.pathsep.join((str(program.parent), os.environ["PATH"]))
    with local_stack(tmp_path / "state", PATH=path, HOME=str(tmp_path), OLLAMA_HOST=f"127.0.0.1:{port}") as stack:
        done = stack.up("-f", str(manifest))
        assert f"Ollama is installed and does not run, so it is started ({program} serve)" in done.stdout
        assert "left out" not in done.stdout
        assert "sidecar is not ready yet: " in done.stdout
        assert process(stack, "ollama")["address"] == f"127.0.0.1:{port}"
        assert "OLLAMA_NUM_PARALLEL:3" in tail_of(stack.folders.logs / "ollama.log", 100)
        # The model cannot be pulled, which status says in the words of the sidecar.
        assert process(stack, "sidecar")["message"].startswith("localhost:1/none/none:1 is ")
        assert "ollama: ended with" in stack.down().stdout
        assert not _answers(port)
