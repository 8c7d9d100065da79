"""One writer at a time: a lock file, because flock does nothing on many network shares."""

import os
import socket
import time
from contextlib import contextmanager, suppress

LOCK_SECONDS = 10


class LockTaken(Exception):
    """Another program holds the lock file; its name is the message."""


@contextmanager
def locked(path):
    """Nothing, while no other program is within `locked` for `path`. LockTaken when one still is after LOCK_SECONDS."""
    lock = path.with_name(path.name + ".lock")
    descriptor = _take(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
        with suppress(OSError):
            lock.unlink(missing_ok=True)


def _take(lock):
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return _sign(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), lock)
        except (FileExistsError, PermissionError) as error:
            late = time.monotonic() > until
            if isinstance(error, PermissionError) and (late or os.name != "nt"):
                raise                       # Windows refuses for a moment to make a lock file that is on its way out
            if _is_stale(lock, late):
                lock.unlink(missing_ok=True)
            elif late:
                raise LockTaken(lock.name) from None
            else:
                time.sleep(0.02)


def _sign(descriptor, lock):
    try:
        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}".encode())
    except OSError:
        os.close(descriptor)
        lock.unlink(missing_ok=True)        # an unsigned lock could never be told stale
        raise
    return descriptor


def _is_stale(lock, late):
    """True when the process that made the lock ran on this machine and is gone, or died before it signed and the wait is over (`late`)."""
    try:
        host, pid = (lock.read_text().split() + ["", ""])[:2]
        if not pid:
            return late
        if os.name == "nt":
            return False                # there os.kill(pid, 0) is Ctrl-C to that process, not a question
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return host == socket.gethostname()
    except (ValueError, OverflowError, OSError):
        return False
    return False
