"""The lock of a run: one process at a time, released by the system when that process dies."""

from __future__ import annotations

import errno
import fcntl
import os
import warnings
from pathlib import Path
from typing import IO, final

from nasformer.errors import RequestError


@final
class Lock:
    """An exclusive `flock` on a file that holds the owner's process id.

    Raises `RequestError`, naming the process, where another one holds it. A file system without locks gives a warning.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip()
            self._file.close()
            raise RequestError(
                f"expected a run that nobody works on; {path.parent} is in use by "
                f"{f'process {owner}' if owner else 'another process'}; wait for it or stop it"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                self._file.close()
                raise
            warnings.warn(f"no file locks at {path.parent}: take care that one process uses it", stacklevel=3)
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        # A forked child (a data worker) shares the lock; without this it would keep it after its parent's death.
        os.register_at_fork(after_in_child=self._file.close)

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        self._file.close()
