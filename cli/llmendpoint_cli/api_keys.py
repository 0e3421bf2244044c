"""The API keys of a stack, for requests that the user of the stack sends through its proxies."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import running_stack
from llmendpoint_cli.stack.tenants import Chosen, choose
from llmendpoint_common.process.errors import InputError


def use_key_of_stack(options: Namespace) -> None:
    """Let a run through a proxy of the stack that is up use the API key of one of its tenants, and say so on stderr.

    A run without `--url` goes through such a proxy. Without `--model`, it uses a model of the stack's file that the
    tenant may use. A key that the user names takes precedence. Raises InputError if no tenant may use the model.
    """
    folders = Folders()
    stack = running_stack(folders)
    if options.run is not None or options.api_key is not None or stack is None or not stack.is_proxy(options.url):
        return
    chosen = choose(stack, options.model or "", options.api_key_file)
    if options.url is None:
        options.model = chosen.model or None
    if options.api_key_file is None and chosen.tenant:
        options.api_key_file = folders.keys / chosen.tenant
        print(f"the requests have the API key of the tenant {chosen.tenant}", file=sys.stderr)


def access_of_stack(url: str) -> tuple[Path | None, str]:
    """Return the file with the API key and the model for requests to a URL, if a proxy of the stack that is up has it.

    The file is None if the proxies need no key, and for other servers, which must not get it. The model is empty if
    the stack does not name one.
    """
    folders = Folders()
    stack = running_stack(folders)
    if stack is None or not stack.is_proxy(url):
        return None, ""
    try:
        chosen = choose(stack)
    except InputError:
        # The user may name another model.
        chosen = Chosen(next(iter(stack.tenants), ""), "")
    return (folders.keys / chosen.tenant if chosen.tenant else None), chosen.model
