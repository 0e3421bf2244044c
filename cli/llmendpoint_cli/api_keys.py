"""The API keys of a stack, for requests that the user of the stack sends through its proxies."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import running_stack
from llmendpoint_cli.stack.state import Stack


def use_key_of_stack(options: Namespace) -> None:
    """Let a run through a proxy of the stack that is up use the API key of its first tenant, and say so on stderr.

    A run without `--url` goes through such a proxy. A key that the user names takes precedence.
    """
    if options.run is not None or options.api_key is not None or options.api_key_file is not None:
        return
    path = key_file_of_stack(options.url)
    if path is not None:
        options.api_key_file = path
        print(f"the requests have the API key of the tenant {path.name}", file=sys.stderr)


def key_file_of_stack(url: str | None) -> Path | None:
    """Return the file with the API key for requests to a URL, as `key_file` does, of the stack that is up."""
    folders = Folders()
    stack = running_stack(folders)
    return None if stack is None else key_file(folders, stack, url)


def key_file(folders: Folders, stack: Stack, url: str | None) -> Path | None:
    """Return the file with the API key of the first tenant of a stack, for requests to a URL.

    Without a URL, requests go to a proxy of the stack. Returns None if its proxies need no key, and for other servers,
    which must not get the key.
    """
    keys = stack.request.get("--key")
    is_proxy = url is None or stack.sidecar_at(url) is not None
    if not isinstance(keys, list) or not keys or not is_proxy:
        return None
    return folders.keys / str(keys[0]).partition("=")[0]
