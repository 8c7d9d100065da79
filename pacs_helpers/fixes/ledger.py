"""The corrections ledger: an append-only file of JSON lines, each carrying the digest of the one before it."""

import getpass
import hashlib
import json
import os
import socket
import time
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

try:
    import fcntl
except ImportError:                 # Windows: the lock file alone guards
    fcntl = None

VERSION, GENESIS = 1, "0" * 64
LOCK_SECONDS = 10


class LedgerError(Exception):
    """Nothing was recorded. `code` says why: LOG_NOT_WRITTEN, CONFLICT, LOG_CHAIN_BROKEN, LOG_LOCKED."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


def read_ledger(path):
    """The records of a ledger, oldest first; [] when there is none. LedgerError LOG_CHAIN_BROKEN names the first line that does not fit.

    Torn lines are skipped: a crash left them, and a `recovered` note follows each.
    """
    path = Path(path)
    if not path.exists():
        return []
    records, previous, torn = [], GENESIS, 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line:
            continue
        try:
            record = json.loads(line)
            previous_said, own = record["prev"], record["hash"]
        except (ValueError, KeyError, TypeError):
            torn = torn or number
            continue
        if torn and record.get("op") != "recovered":
            raise _broken(torn)
        if previous_said != previous or own != digest_of(record) or record["seq"] != len(records) + 1:
            raise _broken(number)
        records.append(record)
        previous, torn = own, 0
    return records


def _broken(number):
    return LedgerError("LOG_CHAIN_BROKEN", f"line {number} does not follow from the line before it; the ledger was edited or cut. It can be read, not written: "
                                           "keep the file, start a new one, and note why")


def digest_of(record):
    """sha256 of the previous record's digest and the canonical JSON of this one."""
    body = {k: v for k, v in record.items() if k != "hash"}
    return hashlib.sha256((record["prev"] + json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)).encode()).hexdigest()


def append_record(path, *, expect=None, **content):
    """The record as written and synced to disk. LedgerError when it is not, with the reason.

    `expect` is the last seq that the caller saw on this target; a newer one there is a CONFLICT that names who decided and when.
    """
    path = Path(path)
    is_new = not path.exists()
    with _locked(path), _opened(path) as descriptor:
        _seal_torn_end(path, descriptor)
        records = read_ledger(path)
        if expect is not None:
            _check_expectation(records, content.get("target", ""), expect)
        record = _record(records, content)
        _write(descriptor, record)
        if is_new:
            _sync_folder(path.parent)
    return record


def last_seq(records, target):
    """The seq of the last record about a target, 0 when there is none."""
    return max((r["seq"] for r in records if r.get("target") == target), default=0)


def _record(records, content):
    now = datetime.now(timezone.utc)
    record = {"v": VERSION, "seq": len(records) + 1, "id": uuid.uuid4().hex, "ts_utc": now.isoformat(timespec="milliseconds"),
              "utc_offset": now.astimezone().strftime("%z"), "account": _account(), "host": socket.gethostname(), "pid": os.getpid(),
              **content, "prev": records[-1]["hash"] if records else GENESIS}
    return {**record, "hash": digest_of(record)}


def _account():
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _check_expectation(records, target, expect):
    latest = [r for r in records if r.get("target") == target]
    if latest and latest[-1]["seq"] > expect:
        last = latest[-1]
        raise LedgerError("CONFLICT", f"{last.get('user') or last['account']} decided on this at {last['ts_utc'][11:16]} UTC; look at the finding again")


@contextmanager
def _opened(path):
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise LedgerError("LOG_NOT_WRITTEN", f"decision NOT recorded: {path.name} cannot be opened ({error.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path):
    """One writer at a time: a lock file, because flock does nothing on many network shares, and flock besides where there is one."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError("LOG_NOT_WRITTEN", f"decision NOT recorded: the folder of {path.name} cannot be made ({error.strerror})") from None
    descriptor = _take_lock(lock)
    try:
        yield
    finally:
        os.close(descriptor)
        lock.unlink(missing_ok=True)


def _take_lock(lock):
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            return _sign_lock(descriptor, lock)
        except FileExistsError:
            if _is_stale(lock):
                lock.unlink(missing_ok=True)
            elif time.monotonic() > until:
                raise LedgerError("LOG_LOCKED", f"decision NOT recorded: another program holds {lock.name}; try again, or remove it if that program is gone") from None
            else:
                time.sleep(0.02)
        except OSError as error:
            raise LedgerError("LOG_NOT_WRITTEN", f"decision NOT recorded: {lock.name} cannot be made ({error.strerror})") from None


def _sign_lock(descriptor, lock):
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}".encode())
    except OSError:
        os.close(descriptor)
        lock.unlink(missing_ok=True)        # an unsigned lock could never be told stale
        raise
    return descriptor


def _is_stale(lock):
    """True when the process that made the lock ran on this machine and is gone."""
    if os.name == "nt":
        return False                # there os.kill(pid, 0) is Ctrl-C to that process, not a question
    try:
        host, pid = lock.read_text().split()
        os.kill(int(pid), 0)
    except (ValueError, FileNotFoundError, PermissionError):
        return False
    except OSError:
        return host == socket.gethostname()
    return False


def _seal_torn_end(path, descriptor):
    """A crash may have left half a line: close it with a line end and say so in a `recovered` note; the torn bytes stay."""
    data = path.read_bytes()
    if not data or data.endswith(b"\n"):
        return
    _all_written(descriptor, b"\n")
    torn = len(data) - data.rfind(b"\n") - 1
    _write(descriptor, _record(list(_readable(data)), {"op": "recovered", "user": "", "target": "", "text": f"{torn} bytes of a torn line sealed"}))


def _readable(data):
    for line in data.split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _write(descriptor, record):
    line = json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    try:
        _all_written(descriptor, line)
        os.fsync(descriptor)
    except OSError as error:
        raise LedgerError("LOG_NOT_WRITTEN", f"decision NOT recorded ({error.strerror}); free some space and decide again") from None


def _all_written(descriptor, data):
    while data:
        data = data[os.write(descriptor, data):]


def _sync_folder(folder):
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
