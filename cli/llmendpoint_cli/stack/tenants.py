"""Chooses the tenant and the model of requests through the proxies of a stack, so that the proxies admit them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from llmendpoint_cli.stack.state import Stack
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.process.errors import InputError


class Chosen(NamedTuple):
    """A tenant, and a model that it may use.

    The tenant is empty if the proxies need no key, the model if no file of the stack names one.
    """

    tenant: str
    model: str


def choose(stack: Stack, model: str = "", key: Path | None = None) -> Chosen:
    """Return the first tenant of a stack that may use a model or, without one, the first model of the stack's file.

    If the tenant of the first key may use no model of the file, the next tenant is chosen. With the file of a tenant's
    key, only this tenant is considered; other files are not known. Raises InputError if no tenant may use the model.
    """
    tenants = stack.tenants
    if key is not None:
        known = [tenant for tenant, path in tenants.items() if Path(path) == key.absolute()]
        if not known:
            return Chosen("", model or stack.model)
        tenants = {tenant: tenants[tenant] for tenant in known}
    names = [model] if model else list(stack.models) or [stack.model]
    for tenant in tenants or [""]:
        for name in names:
            if _is_allowed(stack, tenant, name):
                return Chosen(tenant, name)
    raise InputError(_refusal(stack, list(tenants) or [""], model))


def _is_allowed(stack: Stack, tenant: str, model: str) -> bool:
    allowed = _allowed(stack, tenant)
    return allowed is None or not model or model_key(model) in map(model_key, allowed)


def _allowed(stack: Stack, tenant: str) -> tuple[str, ...] | None:
    """Return the models that a tenant may use, or None if it may use all."""
    return stack.allowed_models.get(tenant, stack.other_models)


def _refusal(stack: Stack, tenants: list[str], model: str) -> str:
    what = f"the model {model}" if model else f"the models of its file ({', '.join(stack.models)})"
    allowed = {tenant: ", ".join(_allowed(stack, tenant) or ()) for tenant in tenants}
    may = "; ".join(f"{tenant or 'a request'} may use {names or 'no model'}" for tenant, names in allowed.items())
    advice = "choose one of these with --model" if any(allowed.values()) else "change allowedModels in the file"
    return f"the stack does not allow {what}: {may}; {advice}"
