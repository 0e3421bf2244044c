"""Bounds of one process, derived from the memory and the files that it may use.

A process that exceeds the memory limit of its container is killed, and every stream of the pod is cut. Therefore all
bounds of what clients can make the proxy keep come from one budget, and they count memory, not payload:

    memory limit = 1/8 for the kernel (socket buffers count as memory of the container, too)
                 + 64 MiB for the process (the interpreter and its libraries take 46 MiB; metrics take the rest), and
                   with workers 40 MiB for each of them (16 MiB of libraries are shared)
                 + 8 MiB for each decoder of compressed bodies (the largest window that HTTP allows for zstd, RFC 9659)
                 + the rest, which is divided by the shares below

Several workers first divide what the processes leave. At the default limit of 512 MiB and without workers, there are
two decoders and 368 MiB to divide:

    share  512 MiB  bound             reason
    -----  -------  ----------------  ------------------------------------------------------------------------------
    9/16   207 MiB  held_large_bytes  Prompts with images have several MiB. Three bodies of the maximum size fit.
    1/16    23 MiB  held_small_bytes  A reserve, so that large bodies never displace ordinary prompts. Most of them
                                      arrive in one piece of less than 4 KiB, which is not even counted.
    1/8     46 MiB  unsent_bytes      Responses of fast models to slow readers wait here.
    1/8     46 MiB  connections       A running request with both connections takes 12 KiB (measured), TLS 23 KiB more;
                                      the bound assumes 16 KiB and 48 KiB. That is 2,944 connections.
    1/16    23 MiB  head_bytes        Most heads arrive in one piece of some hundred bytes, which is read immediately.
    1/16    23 MiB  records           A record takes less than 2 KiB. The rest of this share is a margin.

If the limit is too low for this, each worker gets 24 MiB nevertheless.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_KIB = 1024
_MIB = 1024 * 1024

#: Bodies up to this size are held in their own reserve. Chats with long histories stay below it; images do not.
SMALL_BODY_BYTES = 256 * _KIB

_PROCESS_BYTES = 64 * _MIB
_WORKER_PROCESS_BYTES = 40 * _MIB
_MIN_WORKER_BYTES = 24 * _MIB
#: Beyond this memory for a worker, the bounds stay the same: on a machine without a limit, they protect its other uses.
_MAX_WORKER_BYTES = 1024 * _MIB
#: Ollama also decodes a body in memory. The largest prompts with images have a few tens of MiB.
_MAX_BODY_BYTES = 64 * _MIB
_CONNECTION_BYTES = 16 * _KIB
_TLS_CONNECTION_BYTES = 48 * _KIB
#: The event loop looks at every connection once per second, which takes a few milliseconds with this number.
_MAX_CONNECTIONS = 8192
_MIN_CONNECTIONS = 8
#: Files besides connections: standard streams, listening sockets, metrics, configuration, calls to Ollama.
_OTHER_FILES = 64
_RECORD_BYTES = 2 * _KIB
#: Records are kept for two minutes. This number covers 34 requests per second.
_MAX_RECORDS = 4096
_DECODER_BYTES = 8 * _MIB
#: Memory of a worker for which it gets another decoder. More than four would only share one CPU.
_BYTES_PER_DECODER = 160 * _MIB
_MAX_DECODERS = 4
_UNLIMITED_FILES = 1_048_576


@dataclass(frozen=True)
class Budget:
    """Bounds of one process. Sizes are bytes of memory.

    held_small_bytes:  all held bodies of at most SMALL_BODY_BYTES together
    held_large_bytes:  all larger held bodies together
    body_bytes:        one held body
    head_bytes:        all incomplete request heads together
    unsent_bytes:      all bytes together that were received from one side and not yet accepted by the other
    connections:       connections of clients; each may need a second one to the upstream
    records:           records of ended requests
    decoders:          compressed bodies that are decompressed at the same time
    """

    held_small_bytes: int
    held_large_bytes: int
    body_bytes: int
    head_bytes: int
    unsent_bytes: int
    connections: int
    records: int
    decoders: int


def budget_of(memory_bytes: int, open_files: int, workers: int = 1, *, tls: bool = False) -> Budget:
    """Return the bounds of each of `workers` processes that share the memory.

    `open_files` is the file limit of one process.
    """
    # With workers, the first process is their supervisor.
    processes = _PROCESS_BYTES + (workers * _WORKER_PROCESS_BYTES if workers > 1 else 0)
    own = (memory_bytes - memory_bytes // 8 - processes) // workers
    own = min(max(own, _MIN_WORKER_BYTES), _MAX_WORKER_BYTES)
    decoders = min(max(own // _BYTES_PER_DECODER, 1), _MAX_DECODERS)
    own -= decoders * _DECODER_BYTES
    by_memory = own // 8 // (_TLS_CONNECTION_BYTES if tls else _CONNECTION_BYTES)
    by_files = (open_files - _OTHER_FILES) // 2
    return Budget(
        held_small_bytes=own // 16,
        held_large_bytes=own * 9 // 16,
        body_bytes=min(own * 7 // 40, _MAX_BODY_BYTES),
        head_bytes=own // 16,
        unsent_bytes=own // 8,
        connections=max(min(by_memory, by_files, _MAX_CONNECTIONS), _MIN_CONNECTIONS),
        records=min(own // 16 // _RECORD_BYTES, _MAX_RECORDS),
        decoders=decoders,
    )


#: The bounds at the default memory limit of the operator, for uses without a process of their own.
DEFAULT_BUDGET = budget_of(512 * _MIB, _UNLIMITED_FILES)


def process_budget(workers: int = 1, *, tls: bool = False) -> Budget:
    """Return the bounds of this process, which is one of `workers`, from the limits that apply to it now."""
    return budget_of(memory_limit(), file_limit(), workers, tls=tls)


def memory_limit(root: Path = Path("/")) -> int:
    """Return the memory that this container may use, in bytes. Without a limit, it is the memory of the machine.

    A cgroup is limited by its own limit and by those of its ancestors. A container usually sees its own cgroup as the
    root of the hierarchy. `root` is the root of the file system.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    hierarchy = root / "sys/fs/cgroup"
    limits = [machine]
    for line in _text(root / "proc/self/cgroup").splitlines():
        # The format is ID:CONTROLLERS:PATH; version 2 has the ID 0 and no controllers (cgroups(7)).
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            limits += _limits(hierarchy, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(hierarchy / "memory", path, "memory.limit_in_bytes")
    return min(limits)


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit. Child processes inherit it.

    The soft limit is often 1024 for programs that use select(), which the sidecar does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        # macOS has a lower limit for the whole system, and accepts nothing above it.
        return


def file_limit() -> int:
    """Return the number of files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED_FILES if soft == resource.RLIM_INFINITY else soft


def _limits(hierarchy: Path, path: str, name: str) -> list[int]:
    """Return the limits of a cgroup and its ancestors. The values `max` and missing files are left out."""
    found = []
    cgroup = PurePosixPath(path)
    for part in (cgroup, *cgroup.parents):
        text = _text(hierarchy / part.relative_to("/") / name) if part.is_absolute() else ""
        if text.isdigit():
            found.append(int(text))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
