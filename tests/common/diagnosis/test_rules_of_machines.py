"""Rules about a machine: each fault gives exactly its cause, although other parts suffer from it too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase, ModelReason, ModelStatus, SidecarStatus, Stall, Totals
from llmendpoint_common.diagnosis.checks import CheckState, machine_checks
from llmendpoint_common.diagnosis.facts import (
    DiskFacts,
    LoadedModel,
    LocalModel,
    MachineFacts,
    OllamaFacts,
    OutdatedUnit,
    PortFacts,
    PortOwner,
    ProcessFacts,
    PrometheusFacts,
    SidecarFacts,
    Silence,
    SilenceKind,
    Target,
)
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity, is_wrong
from llmendpoint_common.diagnosis.rules import machine_findings

GIB = 2**30
NOW = 1_800_000_000.0
OLLAMA_URL, SIDECAR_URL, PROMETHEUS_URL = "http://127.0.0.1:11434", "http://localhost:8001", "http://127.0.0.1:9090"
REFUSED = Silence(SilenceKind.REFUSED, "connection refused")
TIMEOUT = Silence(SilenceKind.TIMEOUT, "no answer within 3 s")
FOREIGN = Silence(SilenceKind.FOREIGN, "GET /status was answered with HTTP 404")
LOOP = Silence(SilenceKind.LOOP, "GET /api/version was answered with HTTP 508")
STATUS = SidecarStatus("1", True, False, True, "0.17.4", (), Totals())
UNREADY = SidecarStatus("1", False, False, True, "0.17.4", (), Totals())
CUT_OFF = SidecarStatus("1", False, False, False, "", (), Totals())
FITS = LoadedModel("a:latest", 2 * GIB, 2 * GIB, context=4096)
OLLAMA = OllamaFacts(
    OLLAMA_URL, version="0.17.4", models=(LocalModel("a:latest", GIB), LocalModel("b:latest", 3 * GIB)), loaded=(FITS,)
)
SIDECAR = SidecarFacts("ollama", SIDECAR_URL, STATUS, upstream=OLLAMA_URL)
TARGET = Target("http://127.0.0.1:8001/metrics", "up", last_scrape=NOW - 5)
PROMETHEUS = PrometheusFacts(PROMETHEUS_URL, targets=(TARGET,), skew=0.2)
PROCESSES = (ProcessFacts("sidecar-ollama", True, f"{SIDECAR_URL}/readyz", NOW - 60), ProcessFacts("dashboard", True))
HEALTHY = MachineFacts(
    NOW,
    ollamas=(OLLAMA,),
    sidecars=(SIDECAR,),
    prometheus=PROMETHEUS,
    processes=PROCESSES,
    disk=DiskFacts("/models", 100 * GIB, 500 * GIB),
    file_limit=1_048_576,
    has_gpu=True,
)


def only(facts: MachineFacts) -> Finding:
    """Return the only finding."""
    findings = machine_findings(facts)
    assert len(findings) == 1, findings
    return findings[0]


def ollama(**changes: Any) -> MachineFacts:
    return replace(HEALTHY, ollamas=(replace(OLLAMA, **changes),))


def sidecar(**changes: Any) -> MachineFacts:
    return replace(HEALTHY, sidecars=(replace(SIDECAR, **changes),))


def prometheus(**changes: Any) -> MachineFacts:
    return replace(HEALTHY, prometheus=replace(PROMETHEUS, **changes))


def without_ollama(silence: Silence) -> MachineFacts:
    """Return the facts of a machine whose Ollama does not answer, so that its sidecar is not ready."""
    silent = OllamaFacts(OLLAMA_URL, silence)
    return replace(HEALTHY, ollamas=(silent,), sidecars=(replace(SIDECAR, status=CUT_OFF),))


def loaded(*models: LoadedModel) -> MachineFacts:
    return ollama(loaded=models)


FAILED = ModelStatus("a:latest", ModelPhase.FAILED, ModelReason.PULL_FAILED, "a:latest cannot be pulled: no route")
WITH_FAILED_MODEL = SidecarStatus("1", False, False, True, "0.17.4", (FAILED,), Totals())
HUNG = SidecarStatus("1", False, False, True, "0.17.4", (), Totals(), stalled=Stall(1.0, "Ollama is hung: a:latest."))
PORT_8001 = PortFacts(8001, "the metering sidecar", PortOwner(77, "python -m http.server"))
CRASHED = ProcessFacts("sidecar-ollama", False, f"{SIDECAR_URL}/readyz", exit_code=-9, last_words="out of memory")
ENDED_STACK = tuple(replace(process, is_running=False, is_supervised=False) for process in PROCESSES)
HALF = LoadedModel("a:latest", 4 * GIB, 2 * GIB, context=4096)


def test_nothing_is_wrong_with_a_healthy_machine() -> None:
    assert machine_findings(HEALTHY) == ()
    assert all(check.state is CheckState.OK for check in machine_checks(HEALTHY, ()))


@pytest.mark.parametrize(
    ("facts", "cause", "command"),
    [
        (without_ollama(REFUSED), Cause.OLLAMA_NOT_RUNNING, "ollama serve"),
        (without_ollama(TIMEOUT), Cause.OLLAMA_NOT_ANSWERING, "sudo systemctl restart ollama"),
        (without_ollama(FOREIGN), Cause.PORT_TAKEN, "sudo lsof -nP -iTCP:11434 -sTCP:LISTEN"),
        (replace(HEALTHY, unit=OutdatedUnit("/u", "starts /gone, which does not exist", "llmendpoint up --service", True)),
         Cause.UNIT_OUTDATED, "llmendpoint up --service"),
        (without_ollama(LOOP), Cause.UPSTREAM_LOOP, f"curl {OLLAMA_URL}/api/version"),
        (ollama(version="0.17.3"), Cause.OLLAMA_VERSION_UNSUPPORTED, "curl -fsSL https://ollama.com/install.sh | sh"),
        (ollama(version="0.34.0"), Cause.OLLAMA_VERSION_UNSUPPORTED,
         "curl -fsSL https://ollama.com/install.sh | OLLAMA_VERSION=0.33.0 sh"),
        (ollama(models=(), loaded=()), Cause.MODEL_MISSING, "ollama pull llama3.2:1b"),
        (ollama(wanted_models=("A", "c")), Cause.MODEL_MISSING, "ollama pull c"),
        (loaded(HALF, LoadedModel("b:latest", 3 * GIB, 3 * GIB)), Cause.PARTLY_ON_CPU, "ollama stop b:latest"),
        (loaded(HALF), Cause.PARTLY_ON_CPU, "OLLAMA_CONTEXT_LENGTH=1024 ollama serve"),
        (loaded(replace(HALF, vram=GIB // 2)), Cause.PARTLY_ON_CPU, "ollama show a:latest"),
        (loaded(replace(HALF, vram=0)), Cause.PARTLY_ON_CPU, "journalctl -u ollama | grep -i gpu"),
        (loaded(replace(FITS, wanted_context=8192, wanted_by="you ask")), Cause.CONTEXT_CUT,
         "OLLAMA_CONTEXT_LENGTH=8192 ollama serve"),
        (loaded(replace(FITS, wanted_context=8192, longest_context=4096)), Cause.CONTEXT_CUT, "ollama show a:latest"),
        (replace(HEALTHY, disk=DiskFacts("/models", 2 * GIB, 500 * GIB)), Cause.DISK_NEARLY_FULL, "ollama rm b:latest"),
        (replace(sidecar(status=None, silence=FOREIGN), ports=(PORT_8001,)), Cause.PORT_TAKEN, "kill 77"),
        (sidecar(status=None, silence=REFUSED), Cause.SIDECAR_NOT_RUNNING, "llmendpoint up"),
        (sidecar(status=None, silence=TIMEOUT), Cause.SIDECAR_NOT_ANSWERING, "llmendpoint down && llmendpoint up"),
        (sidecar(status=CUT_OFF), Cause.SIDECAR_NOT_READY, "llmendpoint down && llmendpoint up"),
        (replace(sidecar(status=CUT_OFF, upstream="http://127.0.0.1:1"), up="llmendpoint up --simulator --traffic=1"),
         Cause.SIDECAR_NOT_READY,
         f"llmendpoint down && llmendpoint up --traffic=1 --upstream=ollama={OLLAMA_URL}"),
        (replace(sidecar(status=CUT_OFF, upstream="http://127.0.0.1:1"), up="OLLAMA_MODELS='/a b' llmendpoint up"),
         Cause.SIDECAR_NOT_READY,
         f"llmendpoint down && OLLAMA_MODELS='/a b' llmendpoint up --upstream=ollama={OLLAMA_URL}"),
        (replace(sidecar(status=CUT_OFF, upstream="http://127.0.0.1:1"), processes=()),
         Cause.SIDECAR_NOT_READY, f"llmendpoint up --upstream=ollama={OLLAMA_URL}"),
        (sidecar(status=UNREADY), Cause.SIDECAR_NOT_READY, "llmendpoint logs"),
        (sidecar(status=WITH_FAILED_MODEL), ModelReason.PULL_FAILED, "ollama pull a:latest"),
        (sidecar(status=HUNG), Cause.OLLAMA_HUNG, "sudo systemctl restart ollama"),
        (replace(sidecar(status=None, silence=REFUSED), processes=(CRASHED, *PROCESSES[1:])), Cause.PROCESS_CRASHED,
         "llmendpoint logs sidecar-ollama"),
        (replace(sidecar(status=None, silence=REFUSED), processes=ENDED_STACK), Cause.PROCESS_CRASHED, "llmendpoint up"),
        (replace(HEALTHY, processes=(replace(PROCESSES[0], restarts=5, exit_code=1),)), Cause.PROCESS_CRASHED,
         "llmendpoint logs sidecar-ollama"),
        (replace(HEALTHY, file_limit=1024), Cause.FILE_LIMIT_LOW,
         "sudo prlimit --pid $$ --nofile=65536 && llmendpoint down && llmendpoint up"),
        (prometheus(skew=-120.0), Cause.CLOCK_SKEW, "sudo timedatectl set-ntp true"),
        (replace(HEALTHY, clock_step=-30.0), Cause.CLOCK_JUMPED, "sudo timedatectl set-ntp true"),
        (prometheus(targets=(replace(TARGET, last_scrape=NOW + 900),)), Cause.CLOCK_JUMPED,
         "sudo timedatectl set-ntp true"),
        (prometheus(targets=(), silence=REFUSED), Cause.PROMETHEUS_NOT_RUNNING, "llmendpoint up"),
        (prometheus(targets=()), Cause.PROMETHEUS_WITHOUT_TARGETS, "llmendpoint down && llmendpoint up"),
        (prometheus(targets=(Target("http://127.0.0.1:9090/metrics", "up"),)), Cause.SIDECAR_NOT_SCRAPED,
         "llmendpoint down && llmendpoint up"),
        (prometheus(targets=(replace(TARGET, health="down", error="server returned 404"),)), Cause.TARGET_DOWN,
         "curl http://127.0.0.1:8001/metrics"),
    ],
)  # fmt: skip
def test_each_fault_gives_exactly_its_cause(facts: MachineFacts, cause: str, command: str) -> None:
    finding = only(facts)
    assert (finding.cause, finding.command) == (cause, command)
    assert is_wrong([finding])
    wrong = [check for check in machine_checks(facts, [finding]) if check.state is CheckState.WRONG]
    assert len(wrong) == 1


def test_a_sidecar_that_does_not_run_explains_a_target_that_is_down() -> None:
    down = replace(PROMETHEUS, targets=(replace(TARGET, health="down", error="connection refused"),))
    facts = replace(sidecar(status=None, silence=REFUSED), prometheus=down)
    assert only(facts).cause == Cause.SIDECAR_NOT_RUNNING


def test_servers_that_nobody_asked_for_may_be_absent() -> None:
    facts = replace(
        HEALTHY,
        sidecars=(replace(SIDECAR, status=None, silence=REFUSED, is_expected=False),),
        prometheus=PrometheusFacts(PROMETHEUS_URL, REFUSED, is_expected=False),
        processes=(),
    )
    assert machine_findings(facts) == ()
    states = {check.name: check.state for check in machine_checks(facts, ())}
    assert states["sidecar"] is states["Prometheus"] is states["processes"] is CheckState.NOT_CHECKED


def test_models_on_the_cpu_of_a_machine_without_gpu_are_not_a_fault() -> None:
    facts = replace(loaded(replace(HALF, vram=0)), has_gpu=False)
    assert machine_findings(facts) == ()
    memory = next(check for check in machine_checks(facts, ()) if check.name == "memory")
    assert memory.words == "models run on the CPU: no GPU was found"


def test_a_model_that_is_being_pulled_is_not_a_fault() -> None:
    pulling = ModelStatus("c", ModelPhase.PULLING, message="pulling 30 %")
    status = SidecarStatus("1", False, False, True, "0.17.4", (pulling,), Totals())
    facts = replace(ollama(wanted_models=("c",)), sidecars=(replace(SIDECAR, status=status),))
    finding = only(facts)
    assert (finding.severity, finding.cause) == (Severity.INFO, Cause.SIDECAR_NOT_READY)
    assert "c: pulling 30 %" in finding.sentence
    assert not is_wrong([finding])


@pytest.mark.parametrize("phase", [ModelPhase.PULLING, ModelPhase.FAILED])
def test_a_sidecar_that_is_not_ready_is_never_ok(phase: ModelPhase) -> None:
    model = ModelStatus("c", phase, ModelReason.PULL_FAILED if phase is ModelPhase.FAILED else "", "c: at 30 %")
    facts = sidecar(status=SidecarStatus("1", False, False, True, "0.17.4", (model,), Totals()))
    for each in (facts, without_ollama(REFUSED)):
        check = next(check for check in machine_checks(each, machine_findings(each)) if check.name == "sidecar")
        assert check.state is CheckState.NOT_CHECKED
        assert check.words == "ollama at localhost:8001 is not ready, see below"


def test_the_sidecar_tells_that_ollama_does_not_run_if_nobody_knows_its_address() -> None:
    facts = replace(HEALTHY, ollamas=(), sidecars=(replace(SIDECAR, status=CUT_OFF, upstream=""),))
    assert only(facts).cause == Cause.OLLAMA_NOT_RUNNING


def test_the_cause_of_a_taken_port_is_named_once() -> None:
    port = PortFacts(11434, "Ollama", PortOwner(77, "nc -l 11434"))
    finding = only(replace(without_ollama(TIMEOUT), ports=(port,)))
    assert finding.cause == Cause.PORT_TAKEN
    assert "by nc -l 11434 (process 77)" in finding.sentence


def test_a_process_that_ends_because_its_port_is_taken_is_not_reported_itself() -> None:
    ended = replace(CRASHED, ports=(8001, 11435))
    again = replace(PROCESSES[0], restarts=5, exit_code=1, ports=(8001, 11435))
    for process in (ended, again):
        facts = replace(sidecar(status=None, silence=TIMEOUT), ports=(PORT_8001,), processes=(process, PROCESSES[1]))
        assert only(facts).cause == Cause.PORT_TAKEN
        later = replace(PORT_8001, is_in_use=False)
        assert Cause.PROCESS_CRASHED in {finding.cause for finding in machine_findings(replace(facts, ports=(later,)))}


def test_the_owner_of_a_port_may_be_unknown() -> None:
    port = PortFacts(3001, "the dashboard", PortOwner())
    finding = only(replace(HEALTHY, ports=(port,)))
    assert "by a process of another user" in finding.sentence
    assert finding.command == "sudo lsof -nP -iTCP:3001 -sTCP:LISTEN"


def test_a_parameter_of_the_model_can_keep_it_from_the_gpu() -> None:
    finding = only(loaded(replace(HALF, gpu_layers=6)))
    assert "Its parameter num_gpu puts only 6 of its layers on the GPU." in finding.sentence
    assert finding.command == "ollama show --modelfile a:latest"


def test_commands_name_an_ollama_at_another_address() -> None:
    other = "http://127.0.0.1:11436"
    assert only(ollama(url=other, wanted_models=("c",))).command == "OLLAMA_HOST=127.0.0.1:11436 ollama pull c"
    assert only(replace(HEALTHY, ollamas=(OllamaFacts(other, REFUSED),))).command == (
        "OLLAMA_HOST=127.0.0.1:11436 ollama serve"
    )
    facts = replace(sidecar(status=WITH_FAILED_MODEL, upstream=other))
    assert only(facts).command == "OLLAMA_HOST=127.0.0.1:11436 ollama pull a:latest"


def test_an_ollama_on_another_machine_cannot_be_started_from_here() -> None:
    far = OllamaFacts("http://gpu.example:11434", REFUSED, is_local=False)
    finding = only(replace(HEALTHY, ollamas=(far,)))
    assert finding.cause == Cause.OLLAMA_NOT_RUNNING
    assert finding.command == "curl http://gpu.example:11434/api/version"
    assert "Start it on that machine" in finding.advice


def test_an_ollama_on_another_machine_is_restarted_there() -> None:
    far = replace(OLLAMA, url="http://gpu.example:11434", is_local=False)
    finding = only(replace(HEALTHY, ollamas=(replace(far, silence=TIMEOUT),)))
    assert finding.advice.startswith("Restart it on that machine.")
    finding = only(replace(HEALTHY, ollamas=(replace(far, loaded=(replace(FITS, wanted_context=8192),)),)))
    assert finding.command == "OLLAMA_CONTEXT_LENGTH=8192 ollama serve"
    assert finding.advice.startswith("Stop Ollama on that machine, and start it again")


def test_an_upstream_of_the_stack_gets_another_address_with_the_options_of_the_stack() -> None:
    up = "llmendpoint up --listen=:1 --upstream=ollama=http://127.0.0.1:11434"
    again = "`llmendpoint down && llmendpoint up --listen=:1 --upstream=ollama=URL`"
    silent = replace(without_ollama(REFUSED), up=up)
    assert only(silent).advice.endswith(
        f"If Ollama listens elsewhere, start the stack again with its address: {again}."
    )
    assert only(replace(silent, processes=())).advice.endswith(
        "start the metering sidecar again with its address (--upstream)."
    )
    alone = replace(silent, sidecars=(), processes=())
    assert only(alone).advice.endswith("If Ollama listens elsewhere, name its address with --ollama.")
    taken = PortFacts(11434, "Ollama", PortOwner(77, "python -m http.server"))
    foreign = replace(without_ollama(FOREIGN), up=up)
    for facts in (foreign, replace(foreign, ports=(taken,)), replace(without_ollama(LOOP), up=up)):
        assert f"tart the stack again with the address of an Ollama: {again}." in only(facts).advice


def test_the_program_at_the_address_of_an_upstream_is_not_ended() -> None:
    taken = PortFacts(11434, "Ollama", PortOwner(77, "python -m http.server"))
    finding = only(replace(without_ollama(FOREIGN), ports=(taken,)))
    assert finding.command == "ps -fp 77"
    assert finding.sentence == (
        "What answers at 127.0.0.1:11434 is not Ollama: GET /status was answered with HTTP 404. The port is taken by "
        "python -m http.server (process 77)."
    )
    # The address of an Ollama of the stack itself is not a wrong one.
    own = ProcessFacts("ollama", False, f"{OLLAMA_URL}/api/version", ports=(11434,))
    facts = replace(without_ollama(FOREIGN), ports=(taken,), processes=(own, *PROCESSES))
    assert only(facts).command == "kill 77"


def test_what_is_not_ollama_on_another_machine_is_not_looked_for_here() -> None:
    remote = replace(OLLAMA, url="http://gpu1:11434", silence=FOREIGN, is_local=False)
    facts = replace(HEALTHY, ollamas=(remote,), sidecars=(replace(SIDECAR, status=CUT_OFF, upstream=remote.url),))
    assert only(facts).command == "curl http://gpu1:11434/api/version"


def test_an_ollama_of_the_stack_is_restarted_with_the_stack() -> None:
    stack = (*PROCESSES, ProcessFacts("ollama", True, f"{OLLAMA_URL}/api/version", NOW - 60))
    commands = [
        only(replace(facts, processes=stack)).command
        for facts in (
            without_ollama(TIMEOUT),
            sidecar(status=HUNG),
            loaded(HALF),
            loaded(replace(FITS, wanted_context=8192, wanted_by="you ask")),
        )
    ]
    assert commands == [
        "llmendpoint down && llmendpoint up",
        "llmendpoint down && llmendpoint up",
        "llmendpoint down && OLLAMA_CONTEXT_LENGTH=1024 llmendpoint up",
        "llmendpoint down && OLLAMA_CONTEXT_LENGTH=8192 llmendpoint up",
    ]


def test_the_context_length_of_a_restart_replaces_an_earlier_one() -> None:
    stack = (*PROCESSES, ProcessFacts("ollama", True, f"{OLLAMA_URL}/api/version", NOW - 60))
    facts = loaded(replace(FITS, wanted_context=8192, wanted_by="you ask"))
    facts = replace(facts, processes=stack, up="OLLAMA_CONTEXT_LENGTH=2048 llmendpoint up")
    changed = "OLLAMA_CONTEXT_LENGTH=2048 OLLAMA_CONTEXT_LENGTH=8192 llmendpoint up"
    assert only(facts).command == f"llmendpoint down && {changed}"


def test_an_ollama_that_runs_is_stopped_before_it_is_started_again() -> None:
    for model in (HALF, replace(FITS, wanted_context=8192)):
        assert only(loaded(model)).advice.startswith("Stop Ollama, and start it again with this length")


def test_a_port_that_is_only_needed_later_is_not_a_fault() -> None:
    port = PortFacts(3001, "the dashboard", PortOwner(77, "grafana"), "--dashboard-listen", is_in_use=False)
    finding = only(replace(HEALTHY, ports=(port,)))
    assert (finding.severity, finding.cause) == (Severity.INFO, Cause.PORT_TAKEN)
    assert finding.advice == "If you do not stop that process, `llmendpoint up` uses the next free port."


def test_a_port_can_be_changed_by_an_option() -> None:
    port = PortFacts(3001, "the dashboard", PortOwner(77, "grafana"), "--dashboard-listen")
    finding = only(replace(HEALTHY, ports=(port,)))
    assert finding.advice == "Stop that process, or choose another port with `llmendpoint up --dashboard-listen`."


def test_servers_that_have_just_been_started_are_given_time() -> None:
    young = (
        replace(PROCESSES[0], since=NOW - 3),
        ProcessFacts("prometheus", True, f"{PROMETHEUS_URL}/-/ready", NOW - 3),
    )
    silent = replace(PROMETHEUS, targets=(), silence=REFUSED)
    facts = replace(sidecar(status=None, silence=REFUSED), prometheus=silent, processes=young)
    finding = only(facts)
    assert (finding.severity, finding.cause) == (Severity.INFO, Cause.SIDECAR_NOT_READY)
    assert "was started 3 s ago, and does not answer yet" in finding.sentence
    old = tuple(replace(process, since=NOW - 60) for process in young)
    causes = {finding.cause for finding in machine_findings(replace(facts, processes=old))}
    assert causes == {Cause.SIDECAR_NOT_RUNNING, Cause.PROMETHEUS_NOT_RUNNING}


def test_a_prometheus_that_has_just_been_started_is_given_time_to_find_its_targets() -> None:
    young = prometheus(targets=(), started=NOW - 3)
    assert machine_findings(young) == ()
    check = next(check for check in machine_checks(young, ()) if check.name == "Prometheus")
    assert (check.state, check.words) == (
        CheckState.NOT_CHECKED,
        "it has just started, and has not read its targets yet",
    )
    assert only(prometheus(targets=(), started=NOW - 60)).cause is Cause.PROMETHEUS_WITHOUT_TARGETS


def test_two_ollamas_with_the_same_fault_have_a_finding_each() -> None:
    [first] = ollama(silence=REFUSED).ollamas
    facts = replace(HEALTHY, ollamas=tuple(replace(first, url=f"http://127.0.0.1:{port}") for port in (21998, 21999)),
                    sidecars=())  # fmt: skip
    findings = machine_findings(facts)
    assert {finding.subject for finding in findings} == {"Ollama at 127.0.0.1:21998", "Ollama at 127.0.0.1:21999"}
    assert {finding.command for finding in findings} == {
        "OLLAMA_HOST=127.0.0.1:21998 ollama serve",
        "OLLAMA_HOST=127.0.0.1:21999 ollama serve",
    }


def test_a_context_is_short_enough_for_its_weights_to_fit() -> None:
    half = replace(HALF, size=5 * GIB, vram=4 * GIB, context=65536)
    assert only(loaded(half)).command == "OLLAMA_CONTEXT_LENGTH=49152 ollama serve"


def test_a_foreign_prometheus_is_given_the_item_of_its_configuration() -> None:
    finding = only(prometheus(targets=(), is_expected=False))
    assert "{job_name: llmendpoint, static_configs: [{targets: ['localhost:8001']}]}" in finding.advice
    assert finding.command == "sudo systemctl restart prometheus"


@pytest.mark.parametrize("version", ["0.17.4", "0.17.10", "0.33.7", "0.0.0", "nightly", ""])
def test_supported_and_unknown_versions_are_accepted(version: str) -> None:
    assert machine_findings(ollama(version=version)) == ()


def test_commands_are_those_of_the_system() -> None:
    finding = only(replace(without_ollama(TIMEOUT), is_macos=True))
    assert finding.command == "osascript -e 'quit app \"Ollama\"'; open -a Ollama"


def test_errors_come_first() -> None:
    facts = replace(sidecar(status=None, silence=REFUSED), file_limit=1024)
    assert [finding.severity for finding in machine_findings(facts)] == [Severity.ERROR, Severity.WARNING]


def test_commands_about_a_stack_name_its_state_folder_if_it_is_not_the_usual_one() -> None:
    """The dashboard shows them, and a terminal in which they are pasted may have another folder, or none."""
    silent = SidecarFacts("a", "http://127.0.0.1:8001", silence=Silence(SilenceKind.TIMEOUT, "no answer within 3 s"))
    process = ProcessFacts("sidecar", True, "http://127.0.0.1:8001/readyz")
    up = "OLLAMA_NUM_PARALLEL=2 llmendpoint up --file=/srv/llmendpoint/up.yaml"
    facts = MachineFacts(1.0, sidecars=(silent,), processes=(process,), up=up, state_folder="/srv/my stack")
    (finding,) = machine_findings(facts)
    folder = "LLMENDPOINT_STATE_DIR='/srv/my stack'"
    assert finding.command == (
        f"{folder} llmendpoint down && OLLAMA_NUM_PARALLEL=2 {folder} llmendpoint up --file=/srv/llmendpoint/up.yaml"
    )
    assert f"`{folder} llmendpoint logs`" in finding.advice
