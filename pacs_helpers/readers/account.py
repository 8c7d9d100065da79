"""What every reader shares: which files, who reads them, and the account of every byte."""

import gzip
import hashlib
import io
import os
import stat
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from ..tables import REJECTED, SOURCES, AccountingError, TableError, conform

INFLATE_LIMIT = 1 << 30
INFLATE_STEP = 1 << 14
BLOCK_BYTES = 1 << 18
POOL_FROM_BYTES = 64 << 20      # below this a process pool costs more than it saves


def list_files(path):
    """`(files, rejected rows)`: every regular file below `path`, a file, a folder or a list of them, in sorted order.

    Links, pipes and unreadable folders come back as rejected rows. Names are as the caller wrote them, with /.
    TableError for a path that does not exist and for folders without any file.
    """
    if path is None:
        raise TableError("path: no folder is given (None), and what is asked here cannot be told without this kind of trace.")
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    files, rejected = [], []
    for one in map(Path, paths):
        if not os.path.lexists(one):
            raise TableError(f"path: no file or folder '{one}'. Check the spelling and that the share is mounted.")
        if one.is_file():
            files.append(one.as_posix())
        else:
            _walk(one, files, rejected)
    if not files and not rejected:
        raise TableError(f"path: no files in '{', '.join(map(str, paths))}'. Point it at the folder that holds the exported traces; in a notebook, a kind of trace you do not have can be None.")
    return list(dict.fromkeys(files)), rejected


def _walk(folder, files, rejected):
    def unreadable(error):
        rejected.append(reject(Path(error.filename).as_posix(), 0, 0, "PERMISSION",
                               "the folder cannot be opened; ask for read access and load again"))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders.sort()
        for name in sorted([*names, *[f for f in folders if os.path.islink(os.path.join(root, f))]]):
            full = Path(root, name)
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode):
                rejected.append(reject(full.as_posix(), 0, 0, "LINK_SKIPPED", "a link; links are not followed, name its target instead"))
            elif stat.S_ISREG(mode):
                files.append(full.as_posix())
            else:
                rejected.append(reject(full.as_posix(), 0, 0, "NOT_A_FILE", "a pipe or device, not a file"))


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
                source.seek(self.start)
                first = self._more(source)
                if first[:2] == b"\x1f\x8b" and self.stop is None:
                    yield from self._inflated(first, source)
                elif first:
                    yield first
                while piece := self._more(source):
                    yield piece
            self.digest = self._sha.hexdigest() if self._sha else ""
        except PermissionError:
            self._reject(0, "PERMISSION", "the file cannot be opened; ask for read access and load again")
        except OSError as error:
            self._reject(0, "IO_ERROR", f"reading failed ({error.strerror}); load again when the share is back")

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


def source_row(file, *, n_bytes, n_bytes_in_rows, n_bytes_rejected, n_bytes_framing, n_rows, n_rejected, sha256, started):
    """One row of `sources`. `started` is `time.perf_counter()` when reading began."""
    try:
        modified = datetime.fromtimestamp(os.stat(file).st_mtime, timezone.utc)
    except OSError:
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
        return _gather(executor.map(worker, units), len(units))
    if n_bytes is None:
        n_bytes = sum(os.path.getsize(u[0] if isinstance(u, tuple) else u) for u in units if os.path.exists(u[0] if isinstance(u, tuple) else u))
    if n_bytes < POOL_FROM_BYTES or len(units) < 2 or (os.cpu_count() or 1) < 2:
        return _gather(map(worker, units), len(units))
    with ProcessPoolExecutor() as pool:
        return _gather(pool.map(worker, units, chunksize=max(1, len(units) // 64)), len(units))


def _gather(results, n_units):
    done = []
    try:
        for result in results:
            done.append(result)
    except KeyboardInterrupt as stop:
        stop.add_note(f"Stopped after {len(done):,} of {n_units:,} parts of the work; nothing of it is kept.")
        raise
    return done


def table_of(rows, schema):
    """`conform` of many rows, made by column, which is faster."""
    return conform({name: pd.array([row.get(name) for row in rows], dtype=kind) for name, (kind, _) in schema.items()}, schema)


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
    others = {name: len(t.drop_duplicates(["source_file", "source_offset"])) for name, t in result._asdict().items() if name in ("performed_steps", "messages") and t is not table}
    codes = ", ".join(f"{n:,} {code}" for code, n in result.rejected["code"].value_counts().items())
    left = int((sources["n_bytes"] - sources["n_bytes_in_rows"] - sources["n_bytes_rejected"] - sources["n_bytes_framing"]).sum())
    return (f"{len(units) + sum(others.values()) + len(result.rejected):,} pieces = {len(units):,} {type(result)._fields[0]} loaded ({int((units['problems'] != '').sum()):,} with problems)"
            + "".join(f" + {n:,} {name.replace('_', ' ')}" for name, n in others.items() if n)
            + f" + {len(result.rejected):,} rejected{f' ({codes})' if codes else ''}; {left:,} bytes unaccounted in {len(sources):,} file{'s' if len(sources) != 1 else ''}")


def show_rejected(result, row):
    """The bytes of one rejected row, as bytes: they may hold patient data, so they are shown only on request."""
    where = result.rejected.iloc[row]
    data = read_bytes(where["source_file"])[0] or b""
    start = int(where["source_offset"])
    return data[start:start + int(where["n_bytes"])]
