"""DICOM files -> one row per instance, one per performed procedure step, and the account of every file."""

import hashlib
import os
import time
from collections import Counter, defaultdict, deque
from io import FileIO
from typing import NamedTuple

import pandas as pd

from ..site import Site
from ..tables import INSTANCES, PERFORMED_STEPS, TableError, add_problem, conform
from .account import close_account, list_files, read_bytes, reject, run_over, source_row
from .headerrows import OPENED, WANTED, header_row
from .part10 import read_elements

BATCH = 200                 # files of one work unit
LIKE_LOG_BYTES = 40_000     # reading one header costs about what this much of a log costs
IN_MEMORY = 16 << 20        # longer files are read in pieces
HEADER_BYTES = 1 << 14      # most headers are shorter
OPENED_AHEAD = 64


class Headers(NamedTuple):
    instances: pd.DataFrame
    performed_steps: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_headers(path, *, site, executor=None, hash_files=True):
    """Headers(instances, performed_steps, rejected, sources) of every DICOM file at `path`: a file, a folder or a list.

    Content decides, never the name: any extension or none, with or without preamble and meta information, .gz too.
    One instances row per file with a data set, except Modality Performed Procedure Steps, which go to performed_steps;
    every other file is a row of rejected. Times without an offset (0008,0201) are in `site.time_zone`. Pixels are not
    decoded. Doubts are codes in `problems`; a repeated SOP Instance UID and copies of a file are marked on the rows.
    `hash_files=False` reads headers only, several times faster: the same rows, but `sources` has the sha256 of packed files only.
    """
    if not isinstance(site, Site):
        raise TableError(f"site: a Site is needed, not {type(site).__name__}; use Site.load('site.toml').")
    files, rejected = list_files(path)
    units = [(tuple(files[i:i + BATCH]), site.time_zone, hash_files) for i in range(0, len(files), BATCH)]
    tables, contents = defaultdict(list), []
    for batch in run_over(read_files, units, executor, n_bytes=len(files) * LIKE_LOG_BYTES):
        for table, row, source, content in batch:
            tables[table].append(row)
            tables["sources"].append(source)
            if table == "instances":
                contents.append(content)
    _mark_repeats(tables["instances"], contents)
    rejected, sources = close_account([*rejected, *tables["rejected"]], tables["sources"], unit="files")
    return Headers(conform(tables["instances"], INSTANCES), conform(tables["performed_steps"], PERFORMED_STEPS), rejected, sources)


def read_files(unit):
    """`(table name, row, source row, sha256 of the content or "")` of each file of `(files, time zone, whether to hash)`."""
    files, zone, is_hashed = unit
    return [_read_file(file, opened, zone, is_hashed) for file, opened in _opened_ahead(files)]


def _opened_ahead(files):
    """`(file, stream or the OSError)`, opened early so that the disk fetches the next headers while this one is read."""
    waiting = deque()
    for file in files:
        try:
            opened = FileIO(file)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(opened.fileno(), 0, HEADER_BYTES, os.POSIX_FADV_WILLNEED)
        except OSError as error:
            opened = error
        waiting.append((file, opened))
        if len(waiting) == OPENED_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _read_file(file, opened, zone, is_hashed):
    started, size, digest, content = time.perf_counter(), 0, "", ""
    try:
        if isinstance(opened, OSError):
            size = os.path.getsize(file)
            raise opened
        with opened as stream:
            size = os.fstat(stream.fileno()).st_size
            size, digest, content, table, row = _read_stream(file, stream, size, zone, is_hashed)
    except PermissionError:
        table, row = "rejected", reject(file, 0, size, "PERMISSION", "the file cannot be opened; ask for read access and load again")
    except OSError as error:
        table, row = "rejected", reject(file, 0, size, "IO_ERROR", f"reading failed ({error.strerror}); load again when the share is back")
    is_row = table != "rejected"
    source = source_row(file, n_bytes=size, n_bytes_in_rows=size * is_row, n_bytes_rejected=size * (not is_row), n_bytes_framing=0,
                        n_rows=int(is_row), n_rejected=int(not is_row), sha256=digest, started=started)
    return table, row, source, content


def _read_stream(file, stream, size, zone, is_hashed):
    """`(size, sha256 of the file, sha256 of what it packs, table name, row)`."""
    head = stream.read(IN_MEMORY if is_hashed else HEADER_BYTES)
    if head[:2] == b"\x1f\x8b":
        data, digest, faults = read_bytes(file)
        if data is None:
            return size, digest, "", "rejected", {**faults[0], "n_bytes": size}
        content, codes = hashlib.sha256(data).hexdigest(), [fault["code"] for fault in faults]
        return len(data), digest, content, *_row_of(file, _slices(data), len(data), zone, codes)

    def read_at(offset, n):
        if offset + n <= len(head):
            return head[offset:offset + n]
        stream.seek(offset)
        return stream.read(n)

    digest = _sha256(stream, head) if is_hashed else ""
    return size, digest, digest, *_row_of(file, read_at, size, zone)


def _sha256(stream, head=b""):
    """sha256 of `head` and what `stream` still holds."""
    digest = hashlib.sha256(head)
    while piece := stream.read(IN_MEMORY):
        digest.update(piece)
    return digest.hexdigest()


def _slices(data):
    return lambda offset, n: data[offset:offset + n]


def _row_of(file, read_at, size, zone, faults=()):
    """`(table name, row)` of a file; `faults` are codes of its packing."""
    if not size:
        return "rejected", reject(file, 0, 0, *(faults or ["EMPTY_FILE"])[:1], "0 bytes; ask for it again")
    found, fault = read_elements(read_at, size, WANTED, OPENED)
    if found is None:
        code, reason = fault
        if file.endswith((".part", ".tmp", ".crdownload")):
            reason += "; its name says that it is still being written"
        return "rejected", reject(file, 0, size, code, reason)
    table, row = header_row(found._replace(codes=[*faults, *found.codes]), zone)
    if table == "rejected":
        return table, reject(file, 0, size, *row)
    if table == "instances":
        row["n_bytes"] = size
    return table, {**row, "source_file": file, "source_offset": 0}


def _mark_repeats(rows, contents):
    """DUPLICATE_FILE on the second and later copies of a file; DUPLICATE_SOP_UID on all files that share one with other content."""
    n_rows = Counter(row["sop_instance_uid"] for row in rows)
    # Copies share their UID: no other file needs its content compared.
    contents = [content or (_content(row["source_file"]) if n_rows[row["sop_instance_uid"]] > 1 else row["source_file"])
                for row, content in zip(rows, contents, strict=True)]
    spellings = Counter(uid for uid, _ in {(row["sop_instance_uid"], content) for row, content in zip(rows, contents, strict=True)})
    seen = set()
    for row, content in zip(rows, contents, strict=True):
        if content in seen:
            row["problems"] = add_problem(row["problems"], "DUPLICATE_FILE")
        if row["sop_instance_uid"] and spellings[row["sop_instance_uid"]] > 1:
            row["problems"] = add_problem(row["problems"], "DUPLICATE_SOP_UID")
        seen.add(content)


def _content(file):
    try:
        with FileIO(file) as stream:
            return _sha256(stream)
    except OSError:     # gone since its header was read: no copy of anything
        return file
