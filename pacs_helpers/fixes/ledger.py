"""The corrections ledger: an append-only file of JSON lines, each carrying the digest of the one before it."""

import errno
import getpass
import hashlib
import json
import os
import socket
import uuid
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from ..locks import LockTaken, locked

try:
    import fcntl
except ImportError:                 # Windows: the lock file alone guards
    fcntl = None

VERSION, GENESIS = 1, "0" * 64
TOOL = "pacs-helpers 0.1.0"
_READ = [(b"", 0, ())]              # the whole lines read last, how many, and their records: an append reads on from there
SEAL = b"#\n"                       # makes a line that lacks only its end no record either: nobody was told that it was saved


class CodedError(Exception):
    """What went wrong, in words after its `code`."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class LedgerError(CodedError):
    """The decision is not safely recorded. `code` says why.

    LOG_NOT_WRITTEN, LOG_LOCKED, CONFLICT, LOG_CHAIN_BROKEN, LOG_NOT_READ: nothing was recorded. LOG_NOT_SYNCED: it is in the file, but the disk did not confirm it.
    """


def read_ledger(path):
    """The records of a ledger, oldest first; [] when there is none. LedgerError LOG_CHAIN_BROKEN names the first line that does not fit.

    Torn lines are skipped: a crash left them, and a `recovered` note follows each, at the latest with the next record.
    """
    return [dict(record) for record in _parse(_bytes_of(Path(path)))[0]]


def _bytes_of(path):
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise LedgerError("LOG_NOT_READ", f"{path.name} cannot be read ({error.strerror}); nothing is decided on what cannot be seen") from None


def _parse(data):
    """`(records, bytes of torn lines that no note follows yet)`. A record counts once its line end is there."""
    known, n_known, kept = _READ[0] if data.startswith(_READ[0][0]) else (b"", 0, ())
    records, torn, torn_at = list(kept), 0, 0
    previous = records[-1]["hash"] if records else GENESIS
    lines = data[len(known):].split(b"\n")
    for number, line in enumerate(lines, n_known + 1):
        if not line:
            continue
        record = _record_in(line) if number < n_known + len(lines) else None
        if record is None:
            torn, torn_at = torn + len(line), torn_at or number
            continue
        if torn and record.get("op") != "recovered":
            raise _broken(torn_at)
        fits = record["prev"] == previous and record["hash"] == digest_of(record) and record.get("seq") == len(records) + 1 > (record.get("expect") or 0)
        if not fits or _line_of(record) != line + b"\n":
            raise _broken(number)
        records.append(record)
        previous, torn, torn_at = record["hash"], 0, 0
    if not torn and not lines[-1]:
        _READ[0] = data, n_known + len(lines) - 1, tuple(records)
    return records, torn


def _record_in(line):
    try:
        record = json.loads(line)
        return record if isinstance(record["prev"], str) and record["hash"] else None
    except (ValueError, KeyError, TypeError):
        return None


def _broken(number):
    return LedgerError("LOG_CHAIN_BROKEN", f"line {number} does not follow from the line before it; the ledger was edited or cut. Nothing more is written to it: "
                                           "keep the file, start a new one, and note why")


def digest_of(record):
    """sha256 of the previous record's digest and the canonical JSON of this one."""
    body = {k: v for k, v in record.items() if k != "hash"}
    return hashlib.sha256((record["prev"] + json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)).encode()).hexdigest()


def _line_of(record):
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def append_record(path, *, expect=None, **content):
    """The record as written and synced to disk. LedgerError when it is not, with the reason."""
    (record,) = append_records(path, [content], expect=expect)
    if isinstance(record, LedgerError):
        raise record
    return record


def append_records(path, contents, *, expect=None):
    """For each content its record, written and synced to disk, or the LedgerError that kept it out. One sync confirms all; LedgerError where that cannot be said of any.

    `expect` is how many records the caller saw; a later record about the same target or finding is a CONFLICT that names who decided and when,
    and fewer records than that are LOG_CHAIN_BROKEN.
    """
    path, made = Path(path), []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path), _opened(path) as descriptor:
            data = _bytes_of(path)
            records, torn = _parse(data)
            if len(records) < (expect or 0):
                raise LedgerError("LOG_CHAIN_BROKEN", f"decision NOT recorded: {expect} records were seen and {len(records)} stand; the ledger was cut or replaced. "
                                                      "Put back the one that was seen, or look at the findings again")
            if not data.endswith(b"\n") and data:
                _all_written(descriptor, SEAL)
            if torn:
                note = _record(records, {"op": "recovered", "user": "", "target": "", "text": f"{torn} bytes of a torn line sealed"})
                _all_written(descriptor, _line_of(note))
                records.append(note)
            try:
                for content in contents:
                    made.append(_conflict(records, content, expect) or _record(records, {**content, "expect": expect}))
                    if isinstance(made[-1], dict):
                        _all_written(descriptor, _line_of(made[-1]))
                        records.append(made[-1])
            except OSError as error:
                made[-1:] = [_not_written(path, error)] * (len(contents) - len(made) + 1)
            if any(isinstance(record, dict) for record in made):
                _sync(descriptor, path.parent if not data else None)
    except LockTaken as lock:
        raise LedgerError("LOG_LOCKED", f"decision NOT recorded: another program holds {lock}; try again, or remove the .lock file if that program is gone") from None
    except OSError as error:
        raise _not_written(path, error) from None
    return made


def _not_written(path, error):
    return LedgerError("LOG_NOT_WRITTEN", f"decision NOT recorded: {path.name} or its lock cannot be written ({error.strerror}); free some space or mend the rights, and decide again")


def _record(records, content):
    now = datetime.now(timezone.utc)
    record = {"v": VERSION, "tool": TOOL, "seq": len(records) + 1, "id": uuid.uuid4().hex, "ts_utc": now.isoformat(timespec="milliseconds"),
              "utc_offset": now.astimezone().strftime("%z"), "account": _account(), "host": socket.gethostname(), "pid": os.getpid(),
              **_encodable(content), "prev": records[-1]["hash"] if records else GENESIS}
    return {**record, "hash": digest_of(record)}


def _encodable(content):
    """A lone surrogate, as broken text may bring, is kept as its escape."""
    return {k: v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for k, v in content.items()}


def _account():
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _conflict(records, content, expect):
    """The LedgerError that a later decision on the same makes of this one, else None."""
    mine = subjects_of(content)
    latest = next((r for r in reversed(records[expect:]) if subjects_of(r) & mine), None) if expect is not None else None
    return latest and LedgerError("CONFLICT", f"{latest.get('user') or latest['account']} decided on this at {latest['ts_utc'][11:16]} UTC; look at the finding again")


def subjects_of(record):
    """What a record is about, as a set: its targets, the study that series go to, and its finding."""
    goes_to = record.get("new", "") if record.get("kind") == "merge_series" else ""
    return {*record.get("target", "").split(), goes_to, record.get("finding_id", "")} - {""}


@contextmanager
def _opened(path):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with suppress(OSError):             # a share without flock; two waiters that both take away a dead program's lock still meet here
            if fcntl:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        with suppress(OSError):             # what is synced is recorded, and what is not was told before
            os.close(descriptor)


def _all_written(descriptor, data):
    while data:
        data = data[os.write(descriptor, data):]


def _sync(descriptor, new_in):
    try:
        os.fsync(descriptor)
        if new_in is not None and os.name != "nt":
            folder = os.open(new_in, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):        # some shares cannot sync a folder
            raise LedgerError("LOG_NOT_SYNCED", f"the decision is in the file, but the disk did not confirm it ({error.strerror}); look at the finding again") from None
