"""What every reader shares: which files, who reads them, and the account of every byte."""

import gzip
import hashlib
import io
import os
import re
import stat
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from operator import attrgetter
from pathlib import Path

import pandas as pd

from ..tables import REJECTED, SOURCES, AccountingError, TableError, conform

INFLATE_LIMIT = 1 << 30
INFLATE_STEP = 1 << 14
BLOCK_BYTES = 1 << 18
POOL_FROM_BYTES = 64 << 20      # below this a process pool costs more than it saves
MOST_FAILURES = 5
_FAILURES = threading.local()
_NOT_A_FILE = "NOT_A_FILE", "a pipe or device, not a file"
_JUNCTION = 0xA0000003
_PLAIN_NAME = re.compile(r"/?[^/\\:.][^/\\:]*(?:/[^/\\:.][^/\\:]*)*")    # that Path would leave as it is


class ShareLost(RuntimeError):
    """Reading failed for several files in a row: the share is gone, and what was read is a part that would look whole."""


def list_files(path):
    """`(files, rejected rows)`: every regular file below `path`, a file, a folder or a list of them, in sorted order.

    Links, pipes and unreadable folders come back as rejected rows. Names are as the caller wrote them, with /.
    TableError for a path that does not exist and for folders without any file.
    """
    files, rejected = list_identities(path)
    return list(files), rejected


def list_identities(path):
    """`list_files`, with the files as {file: identity}; that of a link that was named itself is None."""
    if path is None:
        raise TableError("path: no folder is given (None), and what is asked here cannot be told without this kind of trace.")
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    files, rejected = {}, []
    read_well()
    for one in paths:
        name = one if isinstance(one, str) and _PLAIN_NAME.fullmatch(one) else Path(one).as_posix()
        try:
            state = os.lstat(name)
        except (OSError, ValueError):
            raise TableError(f"path: no file or folder '{Path(one)}'. Check the spelling and that the share is mounted.") from None
        is_regular = stat.S_ISREG(state.st_mode)
        if is_regular or os.path.isfile(name):
            files[name] = identity(state) if is_regular else None
        elif os.path.isdir(name):
            _walk(name, files, rejected)
        else:
            rejected.append(reject(name, 0, 0, *_NOT_A_FILE))
    if not files and not rejected:
        raise TableError(f"path: no files in '{', '.join(map(str, paths))}'. Point it at the folder that holds the exported traces; in a notebook, a kind of trace you do not have can be None.")
    return files, rejected


def identity(state):
    """What tells a file from another that takes its name."""
    return state.st_ino, state.st_dev, state.st_size, state.st_mtime_ns


def is_other(listed, state):
    """Whether `state` is that of another file than the one of this identity; some file systems number theirs anew, Windows lists no number."""
    now = identity(state)
    return now != listed and bool(listed[0]) and listed[:2] != now[:2] and listed[2:] != now[2:]


def _walk(folder, files, rejected):
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=attrgetter("name"))
            read_well()
        except OSError as error:
            rejected.append(reject(folder, 0, 0, *read_fault(folder, error, "folder")))
            continue
        prefix, inner = "" if folder == "." else folder.rstrip("/") + "/", []
        for entry in entries:
            full = prefix + entry.name
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError as error:
                rejected.append(reject(full, 0, 0, *read_fault(full, error)))
                continue
            if stat.S_ISREG(state.st_mode):
                files[full] = identity(state)
            elif stat.S_ISLNK(state.st_mode) or getattr(state, "st_reparse_tag", 0) == _JUNCTION:
                rejected.append(reject(full, 0, 0, "LINK_SKIPPED", "a link; links are not followed, name its target instead"))
            elif stat.S_ISDIR(state.st_mode):
                inner.append(full)
            else:
                rejected.append(reject(full, 0, 0, *_NOT_A_FILE))
        waiting += reversed(inner)


def read_fault(name, error, kind="file"):
    """`(code, reason)` of a file or folder that cannot be read; ShareLost at the last of MOST_FAILURES in a row."""
    if isinstance(error, PermissionError):
        return "PERMISSION", f"the {kind} cannot be opened; ask for read access and load again"
    # One file may be deleted meanwhile; its folder goes with the share.
    is_share = not isinstance(error, FileNotFoundError) or not os.path.exists(os.path.dirname(name) or ".")
    _FAILURES.in_a_row = getattr(_FAILURES, "in_a_row", 0) + is_share
    if _FAILURES.in_a_row >= MOST_FAILURES:
        raise ShareLost(f"'{name}': reading failed {MOST_FAILURES} times in a row ({error.strerror}). Check that the share is mounted and load again.")
    return "IO_ERROR", f"reading failed ({error.strerror}); load again when the share is back"


def read_well():
    """Nothing; the failures before this file were its own."""
    _FAILURES.in_a_row = 0


def reject(source_file, source_offset, n_bytes, code, reason):
    """One row of `rejected`. `reason` shows no value from a patient field."""
    return {"source_file": source_file, "source_offset": source_offset, "n_bytes": n_bytes, "code": code, "reason": reason}


def read_bytes(file):
    """`(data, digest, rejected rows)` of a file, inflated when it is gzip; a cut or broken packing keeps what came before.

    `data` is None when the file cannot be read. `digest` is the sha256 of the file as it lies on disk.
    """
    blocks = Blocks(file)
    data = io.BytesIO()     # grows in place: joining a list of blocks would hold the file twice
    data.writelines(blocks)
    return data.getvalue() if blocks.digest else None, blocks.digest, blocks.rejected


class Blocks:
    """A file's bytes in blocks of any size, inflated when it is gzip; with `stop`, those from `start` to there as they lie on disk.

    After the last one `digest` is the sha256 of the bytes on disk ("" when they could not be read) and `rejected` says what was wrong.
    """

    def __init__(self, file, start=0, stop=None, *, is_hashed=True):
        self.file, self.start, self.stop, self.digest, self.rejected = file, start, stop, "", []
        self._sha = hashlib.sha256() if is_hashed else None

    def __iter__(self):
        try:
            with open(self.file, "rb") as source:
                before = os.fstat(source.fileno())
                source.seek(self.start)
                first = self._more(source)
                if first[:2] == b"\x1f\x8b" and self.stop is None:
                    yield from self._inflated(first, source)
                elif first:
                    yield first
                while piece := self._more(source):
                    yield piece
                self._check_unchanged(before, source)
            self.digest = self._sha.hexdigest() if self._sha else ""
            read_well()
        except OSError as error:
            self._reject(0, *read_fault(self.file, error))

    def _check_unchanged(self, before, source):
        after, at = os.fstat(source.fileno()), source.tell()
        # A log that has grown is as it was when reading began, and longer.
        if after.st_size < at or after.st_size == before.st_size and after.st_mtime_ns != before.st_mtime_ns:
            self._reject(at, "CHANGED_WHILE_READ", "cut or written anew while it was read: what is here may be of two files; load again")

    def _reject(self, place, code, reason):
        self.rejected.append(reject(self.file, place, 0, code, reason))

    def _more(self, source):
        piece = source.read(BLOCK_BYTES if self.stop is None else min(BLOCK_BYTES, self.stop - source.tell()))
        if self._sha:
            self._sha.update(piece)
        return piece

    def _inflated(self, data, source):
        """What gzip members hold; all of `source` is read."""
        n_out, at = 0, 0
        while data[at:at + 2] == b"\x1f\x8b" and not self.rejected:
            unpack = zlib.decompressobj(wbits=gzip.zlib.MAX_WBITS | 16)
            step = INFLATE_STEP
            while not unpack.eof and at < len(data) and n_out < INFLATE_LIMIT and step:
                before = unpack.copy()
                try:
                    out = unpack.decompress(data[at:at + step], INFLATE_LIMIT - n_out)
                except zlib.error:      # all that comes before the damaged byte is kept
                    unpack, step = before, step > 1
                    continue
                at = min(at + step, len(data)) - len(unpack.unused_data)
                n_out += len(out)
                yield out
                if len(data) - at < 2:
                    data, at = data[at:] + self._more(source), 0
            if not step:
                self._reject(n_out, "BAD_GZIP", "the packed data is damaged here or before; copy the file again")
            if n_out >= INFLATE_LIMIT:
                self._reject(n_out, "TOO_LARGE_INFLATED", f"stopped at {INFLATE_LIMIT >> 20} MB inflated; unpack it and split it")
            elif not unpack.eof and not self.rejected:
                self._reject(n_out, "TRUNCATED_GZIP", "the packed file ends early; copy it again")
        n_left, is_zeros = len(data) - at, not data[at:].strip(b"\0")
        while piece := self._more(source):
            n_left, is_zeros = n_left + len(piece), is_zeros and not piece.strip(b"\0")
        if not is_zeros and not self.rejected:
            self._reject(n_out, "TRAILING_BYTES", f"{n_left:,} bytes after the packed data are not gzip; check how the file was copied")


def source_row(file, *, n_bytes, n_bytes_in_rows, n_bytes_rejected, n_bytes_framing, n_rows, n_rejected, sha256, started, state=None):
    """One row of `sources`. `started` is `time.perf_counter()` when reading began, `state` what `os.fstat` said then."""
    try:
        modified = datetime.fromtimestamp((state or os.stat(file)).st_mtime, timezone.utc)
    except (OSError, ValueError, OverflowError):
        modified = None
    return {"source_file": file, "n_bytes": n_bytes, "n_bytes_in_rows": n_bytes_in_rows, "n_bytes_rejected": n_bytes_rejected,
            "n_bytes_framing": n_bytes_framing, "n_rows": n_rows, "n_rejected": n_rejected, "sha256": sha256,
            "modified_at": modified, "seconds": time.perf_counter() - started}


def run_over(worker, units, executor=None, *, n_bytes=None):
    """`[worker(unit) for unit in units]`, in order, on `executor`; here when the units are small, else on a process pool.

    `worker` must be importable and units picklable: they may run on another machine. `n_bytes` is the size of the work
    when units are not files or tuples that begin with one. A KeyboardInterrupt goes up with a note of how far it came.
    """
    if executor is not None:
        return _gather(executor.map(worker, units), units)
    if n_bytes is None:
        n_bytes = sum(os.path.getsize(u[0] if isinstance(u, tuple) else u) for u in units if os.path.exists(u[0] if isinstance(u, tuple) else u))
    if n_bytes < POOL_FROM_BYTES or len(units) < 2 or (os.cpu_count() or 1) < 2:
        return _gather(map(worker, units), units)
    with ProcessPoolExecutor() as pool:
        return _gather(pool.map(worker, units, chunksize=max(1, len(units) // 64)), units)


def _gather(results, units):
    done = []
    try:
        for result in results:
            done.append(result)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped after {len(done):,} of {len(units):,} parts of the work; nothing of it is kept.")
        raise
    except ShareLost as lost:
        n_read, n_files = (sum(len(u[0]) if isinstance(u, tuple) and isinstance(u[0], tuple) else 1 for u in some) for some in (units[:len(done)], units))
        raise ShareLost(f"{lost} Read {n_read:,} of at least {n_files:,}; nothing saved as complete.") from None
    return done


def table_of(rows, schema):
    """`conform` of many rows, or of a dict of their columns, made by column, which is faster."""
    columns = rows if isinstance(rows, dict) else {name: [row.get(name) for row in rows] for name in schema}
    return conform({name: pd.array(columns[name], dtype=kind) for name, (kind, _) in schema.items()}, schema)


def close_account(rejected, sources, *, unit):
    """`(rejected, sources)` as tables, after checking the law of the unit, "bytes" or "files"; AccountingError when it is broken."""
    rejected, sources = table_of(rejected, REJECTED), table_of(sources, SOURCES)
    if unit == "bytes":
        left = sources["n_bytes"] - sources["n_bytes_in_rows"] - sources["n_bytes_rejected"] - sources["n_bytes_framing"]
        wrong = sources.loc[left != 0, "source_file"]
    else:
        wrong = sources.loc[sources["n_rows"] + sources["n_rejected"] < 1, "source_file"]
    if len(wrong):
        raise AccountingError(f"{len(wrong)} file(s) not fully accounted for, first: {wrong.iloc[0]}. Please report this: it is a bug.")
    return rejected, sources


def summarize_account(result):
    """The sentence that follows every load: units seen = loaded (with problems) + rejected by code, and bytes unaccounted for (always 0)."""
    table, sources = result[0], result.sources
    units = table.drop_duplicates(["source_file", "source_offset"]) if "message_control_id" in table else table
    others = {name.replace("_", " "): len(t.drop_duplicates(["source_file", "source_offset"]))
              for name, t in result._asdict().items() if name in ("performed_steps", "messages") and t is not table}
    if "operations" in result._fields:
        others["operations of no one association"] = int((result.operations["association_id"] == "").sum())
    codes = ", ".join(f"{n:,} {code}" for code, n in result.rejected["code"].value_counts().items())
    left = int((sources["n_bytes"] - sources["n_bytes_in_rows"] - sources["n_bytes_rejected"] - sources["n_bytes_framing"]).sum())
    n_pieces, name = len(units) + sum(others.values()) + len(result.rejected), {"audit": "audit messages"}.get(result._fields[0], result._fields[0])
    return (f"{n_pieces:,} piece{'s' if n_pieces != 1 else ''} = {len(units):,} {name} loaded ({int((units['problems'] != '').sum()):,} with problems)"
            + "".join(f" + {n:,} {what}" for what, n in others.items() if n)
            + f" + {len(result.rejected):,} rejected{f' ({codes})' if codes else ''}; {left:,} bytes unaccounted in {len(sources):,} file{'s' if len(sources) != 1 else ''}")


def show_rejected(result, row):
    """The bytes of one rejected row, as bytes: they may hold patient data, so they are shown only on request."""
    where = result.rejected.iloc[row]
    data = read_bytes(where["source_file"])[0] or b""
    start = int(where["source_offset"])
    return data[start:start + int(where["n_bytes"])]
