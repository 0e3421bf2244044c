"""Folders of the local stack: the state folder of the user, and the place for its files while that disk is full."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from llmendpoint_common.diagnosis.commands import STATE_VARIABLE
from llmendpoint_common.diagnosis.facts import FullDisk
from llmendpoint_common.process.errors import StackError

#: Errors of a file system that is full or read-only. Other errors, such as a wrong permission, are reported.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
#: Space for state files, configuration files and the first lines of the logs.
_NEEDED_BYTES = 256 * 1024
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it belongs to the user, and that is checked


class Folders:
    """Paths below a state folder. `root` is absolute. `create` creates the folders."""

    def __init__(self, root: Path | None = None) -> None:
        given = os.environ.get(STATE_VARIABLE, "")
        self.root = (root or (Path(given) if given else _usual())).absolute()
        self.processes = self.root / "processes"
        self.logs = self.root / "logs"
        self.runs = self.root / "runs"
        self.prometheus = self.root / "prometheus"
        #: Folder of the configuration files, key links and token that `up` writes for the programs.
        self.written = self.root

    @property
    def given(self) -> str:
        """The state folder if commands have to name it, because it is not the usual one. Otherwise empty."""
        return "" if self.root == _usual() else str(self.root)

    @property
    def configs(self) -> Path:
        """Folder of configuration files."""
        return self.written / "configs"

    @property
    def keys(self) -> Path:
        """Folder of links to files with API keys."""
        return self.written / "keys"

    @property
    def token(self) -> Path:
        """File with the token of a dashboard that others can reach."""
        return self.written / "dashboard.token"

    def create(self) -> None:
        """Create the folders that are missing, readable by the user only. Raises StackError with the reason.

        If the disk is full, `written` becomes a folder in memory.
        """
        if self.full_disk():
            self.written = self._spare() or self.root
        for folder in (self.root, self.processes, self.logs, self.runs, self.written, self.configs):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if folder.stat().st_uid == os.getuid():
                    folder.chmod(0o700)
            except OSError as error:
                if error.errno in NO_SPACE and folder != self.root:
                    continue
                raise StackError(
                    f"{folder}: the state folder cannot be created: {error.strerror}; set {STATE_VARIABLE} to a folder "
                    "that you can write"
                ) from error

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders that can have state files, in the order in which they are read.

        Files are in the second one only if they could not be written in the first one.
        """
        spare = self._spare()
        return (self.root,) if spare is None else (self.root, spare)

    def full_disk(self) -> FullDisk | None:
        """Return the disk of the state folder if it cannot take the files that `up` writes, otherwise None.

        A file without a name is written to find out. The folder is not created.
        """
        existing = next((folder for folder in (self.root, *self.root.parents) if folder.is_dir()), self.root)
        try:
            with tempfile.TemporaryFile(dir=existing) as probe:
                probe.write(bytes(_NEEDED_BYTES))
        except OSError as error:
            if error.errno in NO_SPACE:
                return FullDisk(str(self.root), os.strerror(error.errno or 0).lower())
        return None

    def _spare(self) -> Path | None:
        """Return a folder in memory that other users cannot write, or None if none can be used."""
        name = "llmendpoint-" + hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        for parent in (Path(runtime) if runtime else None, _SHARED_MEMORY, Path(tempfile.gettempdir())):
            if parent is None or not parent.is_dir():
                continue
            folder = parent / f"{name}-{os.getuid()}"
            try:
                found = folder.lstat()
            except FileNotFoundError:
                return folder
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return folder
        return None


def _usual() -> Path:
    return platformdirs.user_state_path("llmendpoint").absolute()
