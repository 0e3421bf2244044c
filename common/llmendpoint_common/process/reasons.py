"""Why an operation of the system failed, in words: `Connection refused`, not `[Errno 111] Connection refused`."""

from __future__ import annotations

import os
import re

#: The number of an error, which Python writes before its words.
_NUMBER = re.compile(r"\[Errno (-?\d+)\] ?")
#: Beginning of the error of a host for whose addresses all connections failed, with the errors of all of them.
_SEVERAL = "Multiple exceptions: "


def reason_of(error: BaseException) -> str:
    """Return why an operation failed, in one line without the number of the error.

    An error of aiohttp or urllib that has another one as its cause has the reason of that one. The reason begins with
    the path of the file, if the error has one.
    """
    for name in ("os_error", "reason"):
        cause = getattr(error, name, None)
        if isinstance(cause, OSError):
            return reason_of(cause)
    words = _words(error) if isinstance(error, OSError) else str(error)
    line = " ".join(_NUMBER.sub("", words).split())
    return line or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)


def _words(error: OSError) -> str:
    if str(error).startswith(_SEVERAL):
        return ", ".join(dict.fromkeys(os.strerror(int(number)) for number in _NUMBER.findall(str(error))))
    # Only the numbers of built-in errors are those of the system: socket.gaierror and ssl.SSLError have their own.
    is_of_system = type(error).__module__ == "builtins" and error.errno
    if not is_of_system:
        return error.strerror or str(error)
    # The text of an error of asyncio is not that of the system.
    words = os.strerror(error.errno or 0)
    return words if error.filename is None else f"{os.fsdecode(error.filename)}: {words}"
