"""Pods whose containers get their command lines and environments exactly as written.

Kubernetes replaces `$(NAME)` by the value of an environment variable in commands, arguments, values of environment
variables and commands of probes. A text from a spec that contains such a reference could therefore print a variable
that its author must not see. `$$` stands for one `$`, so doubling every `$` prevents any replacement
(https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/).

Every pod that the operator builds passes through `literal_pod`, and no builder escapes anything itself.
"""

from __future__ import annotations

from llmendpoint_operator.kube.owner import Manifest

_CONTAINERS = ("initContainers", "containers")
_COMMAND_LINES = ("command", "args")
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def literal_pod(spec: Manifest) -> Manifest:
    """Return a pod spec in which Kubernetes replaces nothing."""
    return {**spec, **{name: [_container(item) for item in spec[name]] for name in _CONTAINERS if name in spec}}


def literal(text: str) -> str:
    """Return a text from which Kubernetes produces `text`."""
    return text.replace("$", "$$")


def _container(container: Manifest) -> Manifest:
    changed: Manifest = {name: _texts(container[name]) for name in _COMMAND_LINES if name in container}
    changed |= {name: _probe(container[name]) for name in _PROBES if name in container}
    if "env" in container:
        changed["env"] = [_variable(item) for item in container["env"]]
    return {**container, **changed}


def _probe(probe: Manifest) -> Manifest:
    if "exec" not in probe:
        return probe
    return {**probe, "exec": {"command": _texts(probe["exec"]["command"])}}


def _variable(variable: Manifest) -> Manifest:
    return {**variable, "value": literal(variable["value"])} if "value" in variable else variable


def _texts(texts: list[str]) -> list[str]:
    return [literal(text) for text in texts]
