"""Commands for an Ollama, by what runs it: a service, the stack of `llmendpoint up`, another host, or the simulator."""

from __future__ import annotations

import json
import re
import shlex

from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.diagnosis.facts import MachineFacts, OllamaFacts, SidecarFacts
from llmendpoint_common.diagnosis.places import host_and_port, place

#: Variable that names the state folder of a stack.
STATE_VARIABLE = "LLMENDPOINT_STATE_DIR"
#: A command about the stack. Its program is not part of a path.
_COMMAND_OF_STACK = re.compile(r"(?<![\w/.-])llmendpoint (?=(?:up|status|logs|down)\b)")
_USUAL_PLACE = ("localhost", OLLAMA_PORT)
_CONTEXT_VARIABLE = "OLLAMA_CONTEXT_LENGTH"
_ELSEWHERE = "If Ollama listens elsewhere,"
_RESTART_ON_MACOS = "osascript -e 'quit app \"Ollama\"'; open -a Ollama"


def command_for(url: str, command: str) -> str:
    """Return a command of Ollama for the server at a URL. Only a server at another address has to be named."""
    return command if place(url) == _USUAL_PLACE else f"OLLAMA_HOST={host_and_port(url)} {command}"


def in_state_folder(text: str, folder: str) -> str:
    """Return a text whose commands are about the stack in a state folder, whatever the terminal in which they run."""
    assignment = f"{STATE_VARIABLE}={shlex.quote(folder)}"
    return _COMMAND_OF_STACK.sub(lambda found: f"{assignment} {found[0]}", text)


def restarted(ollama: OllamaFacts | None, facts: MachineFacts) -> tuple[str, str]:
    """Return the advice and the command to restart an Ollama, or one of this machine if its address is not known."""
    if ollama is not None and ollama.is_simulated and ollama.silence is None:
        advice = "This is the simulator, which hangs if it is told to. Return to its behaviour at the start."
        return advice, f"curl -X DELETE {ollama.url}/simulator/behaviour"
    if ollama is not None and _is_of_the_stack(ollama, facts):
        return "Start the stack again, which restarts it too.", f"llmendpoint down && {facts.up}"
    command = _RESTART_ON_MACOS if facts.is_macos else "sudo systemctl restart ollama"
    where = "Restart it." if ollama is None or ollama.is_local else "Restart it on that machine."
    return f"{where} If it was not installed as a service, end its process and run `ollama serve`.", command


def with_context(ollama: OllamaFacts, length: int, facts: MachineFacts) -> tuple[str, str]:
    """Return the advice and the command to restart an Ollama with another context length, in tokens."""
    variable = f"{_CONTEXT_VARIABLE}={length}"
    if _is_of_the_stack(ollama, facts):
        advice = (
            "Start the stack again with this length for all models. If its manifest sets `spec.ollama.contextLength`, "
            "change it there."
        )
        # The last of two assignments to a variable applies, and `up` may begin with one.
        again = facts.up.replace("llmendpoint up", f"{variable} llmendpoint up", 1)
        return advice, f"llmendpoint down && {again}"
    if facts.is_macos and ollama.is_local:
        _, restart = restarted(ollama, facts)
        return (
            "Restart Ollama with this length for all models.",
            f"launchctl setenv {variable.replace('=', ' ')} && {restart}",
        )
    where = "" if ollama.is_local else " on that machine"
    advice = (
        f"Stop Ollama{where}, and start it again with this length for all models. For a service, set the variable in "
        "its unit."
    )
    serve = command_for(ollama.url, f"{variable} ollama serve") if ollama.is_local else f"{variable} ollama serve"
    return advice, serve


def with_model(ollama: OllamaFacts, name: str) -> tuple[str, str]:
    """Return the advice and the command for a model that an Ollama does not have."""
    if ollama.is_simulated:
        models = json.dumps({"models": [*(model.name for model in ollama.models), name]})
        command = f"curl -X PUT {ollama.url}/simulator/behaviour -d {shlex.quote(models)}"
        return "This is the simulator, which only has the models that it is told to have.", command
    advice = "Pull it, or correct its name: `ollama list` shows the models that are present."
    return (advice if ollama.models else "Pull it."), command_for(ollama.url, f"ollama pull {shlex.quote(name)}")


def started_again(facts: MachineFacts, sidecar: SidecarFacts, url: str | None) -> str:
    """Return the command that starts the stack again, with `url` as the upstream of a sidecar if it is given.

    A stack that runs has to end first: `up` with other options refuses to change it.
    """
    words = shlex.split(facts.up)
    if url is not None:
        name, option = f"--upstream={sidecar.name}=", f"--upstream={sidecar.name}={url}"
        words = [option if word.startswith(name) else word for word in words if word != "--simulator"]
        words += [] if option in words else [option]
    before = "llmendpoint down && " if facts.processes else ""
    # A quoted assignment before the command would be the name of the command.
    start = words.index("llmendpoint")
    variables = [f"{name}={shlex.quote(value)}" for name, _, value in (word.partition("=") for word in words[:start])]
    return before + " ".join([*variables, shlex.join(words[start:])])


def if_elsewhere(ollama: OllamaFacts, facts: MachineFacts) -> str:
    """Return the advice for an Ollama that listens elsewhere than at the address that is asked."""
    if _sidecar_before(ollama, facts) is None:
        return f"{_ELSEWHERE} name its address with --ollama."
    what, how = _started_with_its_address(ollama, facts)
    return f"{_ELSEWHERE} start {what} again with its address{how}."


def with_upstream(ollama: OllamaFacts, facts: MachineFacts) -> str:
    """Return the advice to choose another upstream than the address that is asked."""
    if _sidecar_before(ollama, facts) is None:
        return "Name the address of an Ollama with --ollama."
    what, how = _started_with_its_address(ollama, facts)
    return f"Start {what} again with the address of an Ollama{how}."


def instead_of_foreign(ollama: OllamaFacts, facts: MachineFacts) -> str:
    """Return the advice if another program listens at the address of an Ollama.

    An upstream that the user named may be a wrong address, and then that program does nothing wrong.
    """
    if not is_named_upstream(ollama, facts):
        return f"Stop that program and start Ollama. {if_elsewhere(ollama, facts)}"
    return (
        f"This address is the upstream. {with_upstream(ollama, facts)} If Ollama should have this address, stop that "
        "program and start Ollama."
    )


def is_named_upstream(ollama: OllamaFacts, facts: MachineFacts) -> bool:
    """Return whether a sidecar has the address of an Ollama as its upstream, and the stack does not start it."""
    return _sidecar_before(ollama, facts) is not None and not _is_of_the_stack(ollama, facts)


def _sidecar_before(ollama: OllamaFacts, facts: MachineFacts) -> SidecarFacts | None:
    """Return the sidecar whose upstream is an Ollama, or None."""
    return next((one for one in facts.sidecars if one.upstream and place(one.upstream) == place(ollama.url)), None)


def _started_with_its_address(ollama: OllamaFacts, facts: MachineFacts) -> tuple[str, str]:
    """Return what has to be started with the address of an Ollama, and how, as parts of a sentence."""
    sidecar = _sidecar_before(ollama, facts)
    if sidecar is None or not facts.processes:
        return "the metering sidecar", " (--upstream)"
    return "the stack", f": `{started_again(facts, sidecar, 'URL')}`"


def _is_of_the_stack(ollama: OllamaFacts, facts: MachineFacts) -> bool:
    """Return whether a process of the stack listens at the address of an Ollama, or should do so."""
    return any(process.url and place(process.url) == place(ollama.url) for process in facts.processes)
