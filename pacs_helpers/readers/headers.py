"""DICOM files, DICOM JSON, text dumps and zip archives of them -> one row per instance, one per performed procedure step, and the account of every file."""

import errno
import gc
import hashlib
import os
import stat
import time
from collections import defaultdict
from contextlib import contextmanager
from io import FileIO
from itertools import chain
from typing import NamedTuple

import pandas as pd

from ..site import require_site
from ..tables import INSTANCES, PERFORMED_STEPS, REJECTED, SOURCES, TEXT, add_problem
from . import dicomjson, dumps
from .account import INFLATE_LIMIT, close_account, is_other, list_identities, read_bytes, read_fault, read_well, reject, run_over, source_row, table_of
from .headerrows import OPENED, OWN, WANTED, answer_row, header_row
from .part10 import read_elements
from .zipped import is_zip, read_members

BATCH = 512                 # files of one work unit: another process should have more to do than to hand over
OPEN_AT_ONCE = 64
LIKE_LOG_BYTES = 40_000     # reading one header costs about what this much of a log costs
IN_MEMORY = 16 << 20        # longer files are read in pieces
HEADER_BYTES = 1 << 14      # most headers are shorter
MOST_READS = 3              # of a file that changes meanwhile
_read_at = getattr(os, "pread", lambda fd, n, at: os.read(fd, n) if os.lseek(fd, at, os.SEEK_SET) == at else b"")
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_ITSELF = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OTHER = "CHANGED", "another file has taken this name since the folder was listed; load again"
ANSWER = "answer "          # marks what tells of an instance and is not a copy of it


_SCHEMAS = {"instances": {**INSTANCES, "_content": (TEXT, "")}, "performed_steps": PERFORMED_STEPS, "rejected": REJECTED, "sources": SOURCES}


class Headers(NamedTuple):
    instances: pd.DataFrame
    performed_steps: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_headers(path, *, site, executor=None, hash_files=True):
    """Headers(instances, performed_steps, rejected, sources) of every DICOM file at `path`: a file, a folder or a list.

    Content decides, never the name: any extension or none, with or without preamble and meta information, .gz too.
    One instances row per file with a data set, except Modality Performed Procedure Steps, which go to performed_steps;
    every other file is a row of rejected. DICOM JSON, Orthanc's own JSON and text dumps (dcmdump, dcm4che, pydicom) give a row per
    object, without sop_instance_uid where it is about a study or series; a zip gives the rows of its members, with `archive.zip!member` as source_file.
    Times without an offset (0008,0201) are in `site.time_zone`. Pixels are not decoded. Doubts are codes in `problems`;
    a repeated SOP Instance UID and copies of a file are marked on the rows.
    `hash_files=False` reads headers only, several times faster: the same rows, but `sources` has the sha256 of packed files only.
    """
    headers = gather_headers(path, site=site, executor=executor, hash_files=hash_files)
    instances = headers.instances
    for rows, code in find_copies(instances):
        instances.loc[rows, "problems"] = [add_problem(text, code) for text in instances.loc[rows, "problems"]]
    return headers._replace(instances=instances.drop(columns="_content"))


def gather_headers(path, *, site, executor=None, hash_files=True):
    """What read_headers reads, before repeats: instances have `_content`, the sha256 of what the row is of, or ""."""
    require_site(site)
    found, rejected = list_identities(path)
    files = tuple(found.items())
    units = [(files[i:i + BATCH], site.time_zone, hash_files) for i in range(0, len(files), BATCH)]
    parts = run_over(read_files, units, executor, n_bytes=len(files) * LIKE_LOG_BYTES)
    columns = {table: {name: [*chain.from_iterable(part[table][name] for part in parts)] for name in schema} for table, schema in _SCHEMAS.items()}
    rejected, sources = close_account({name: [*(row[name] for row in rejected), *values] for name, values in columns["rejected"].items()}, columns["sources"], unit="files")
    instances, steps = (table_of(columns[table], _SCHEMAS[table]) for table in ("instances", "performed_steps"))
    return Headers(instances, steps, rejected, sources)


def read_files(unit):
    """{table: {column: values}} of `((file, identity), ...), time zone, whether to hash`; `_content` of an instance is the sha256 of what it is of, or ""."""
    files, zone, is_hashed = unit
    tables = defaultdict(list)
    with uncollected():
        for i in range(0, len(files), OPEN_AT_ONCE):
            _read_together(files[i:i + OPEN_AT_ONCE], zone, is_hashed, tables)
    # While the rows are at hand: of many thousand most have left the processor's memory.
    return {table: {name: [row.get(name) for row in tables[table]] for name in schema} for table, schema in _SCHEMAS.items()}


@contextmanager
def uncollected():
    """Nothing; without garbage collection meanwhile, which finds nothing among rows and looks through all of them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_together(files, zone, is_hashed, tables):
    opened = []
    try:
        for file, listed in files:      # all of them, so that the disk fetches the next headers while one is read
            opened.append(_open(file, listed))
        for (file, _), how in zip(files, opened, strict=True):
            found, source = _read_file(file, *how, zone, is_hashed)
            tables["sources"].append(source)
            for table, row, content in found:
                row["_content"] = content
                tables[table].append(row)
    finally:
        for handle, *_ in opened:
            if handle is not None:
                os.close(handle)


def _open(file, listed):
    """`(handle, its state, None)`, or `(None, state or None, the OSError or (code, reason))`."""
    handle = None
    try:
        handle = os.open(file, _READ | _ITSELF if listed else _READ)
        state = os.fstat(handle)
        if stat.S_ISREG(state.st_mode) and not (listed and is_other(listed, state)):
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, HEADER_BYTES, os.POSIX_FADV_WILLNEED)
            return handle, state, None
        fault = state, _OTHER
    except OSError as error:
        fault = None, _OTHER if error.errno in (errno.ELOOP, errno.EISDIR) else error
    if handle is not None:
        os.close(handle)
    return None, *fault


def _read_file(file, handle, state, fault, zone, is_hashed):
    started, size, digest, found = time.perf_counter(), state.st_size if state else 0, "", []
    try:
        if isinstance(fault, OSError):
            size = os.path.getsize(file)
            raise fault
        if fault:
            found = [("rejected", reject(file, 0, size, *fault), "")]
        else:
            state, size, digest, found = _read_unchanged(file, handle, state, zone, is_hashed)
        read_well()
    except OSError as error:
        found = [("rejected", reject(file, 0, size, *read_fault(file, error)), "")]
    refused = [row["n_bytes"] for table, row, _ in found if table == "rejected"]
    return found, source_row(file, n_bytes=size, n_bytes_in_rows=size - sum(refused), n_bytes_rejected=sum(refused), n_bytes_framing=0,
                             n_rows=len(found) - len(refused), n_rejected=len(refused), sha256=digest, started=started, state=state)


def _read_unchanged(file, handle, state, zone, is_hashed):
    for _ in range(MOST_READS):
        result = _read_start(file, handle, state.st_size, zone, is_hashed)
        before, state = state, os.fstat(handle)
        if (before.st_size, before.st_mtime_ns) == (state.st_size, state.st_mtime_ns):
            return state, *result
        os.lseek(handle, 0, os.SEEK_SET)
    for _, row, _ in result[2]:
        if "problems" in row:
            row["problems"] = add_problem(row["problems"], "CHANGED_WHILE_READ")
    return state, *result


def _read_start(file, handle, size, zone, is_hashed):
    """`(size, sha256 of the file, [(table name, row, sha256 of what it packs), ...])`."""
    head = os.read(handle, IN_MEMORY if is_hashed else HEADER_BYTES)
    if head[128:132] == b"DICM" and head[:2] != b"\x1f\x8b":
        return _read_image(file, handle, head, size, zone, is_hashed)
    if size > INFLATE_LIMIT and _list_reader(head):
        return size, "", [("rejected", reject(file, 0, size, "TOO_LARGE_INFLATED", f"JSON or a dump of more than {INFLATE_LIMIT >> 20} MB; ask for less at a time"), "")]
    if head[:2] == b"\x1f\x8b" or _list_reader(head):
        data, digest, faults = read_bytes(file)
        if data is None:
            return size, digest, [("rejected", {**faults[0], "n_bytes": size}, "")]
        return len(data), digest, _rows_of(file, data, zone, [fault["code"] for fault in faults])
    if is_zip(head):
        digest, found, size = _sha256(handle, head), [], 0
        for name, data, fault in read_members(FileIO(handle, closefd=False)):
            where, size = f"{file}!{name}" if name else file, size + len(data)
            found += [("rejected", reject(where, 0, len(data), *fault), "")] if fault and not data else _rows_of(where, data, zone, [fault[0]] if fault else [])
        return size, digest, _one_thing(file, size, found)
    return _read_image(file, handle, head, size, zone, is_hashed)


def _read_image(file, handle, head, size, zone, is_hashed):
    def read_at(offset, n):
        if offset + n <= len(head):
            return head[offset:offset + n]
        return _read_at(handle, n, offset)

    digest = _sha256(handle, head) if is_hashed else ""
    return size, digest, [(*_row_of(file, read_at, size, zone), digest)]


def _sha256(handle, head=b""):
    """sha256 of `head` and what is still to be read of the file."""
    digest = hashlib.sha256(head)
    while piece := os.read(handle, IN_MEMORY):
        digest.update(piece)
    return digest.hexdigest()


def _rows_of(file, data, zone, faults):
    """`[(table name, row, sha256), ...]` of what is in memory; `faults` are codes of its packing."""
    read_objects = _list_reader(data)
    if not read_objects:
        return [(*_row_of(file, lambda offset, n: data[offset:offset + n], len(data), zone, faults), hashlib.sha256(data).hexdigest())]
    found = []
    for at, n, elements, fault in read_objects(data):
        table, row = answer_row(elements._replace(codes=[*faults, *elements.codes]), zone) if elements else ("rejected", fault)
        row = reject(file, at, n, *row) if table == "rejected" else {**row, "source_file": file, "source_offset": at}
        found.append((table, row, ANSWER + hashlib.sha256(data[at:at + n]).hexdigest()))
    return _one_thing(file, len(data), found)


def _list_reader(head):
    """What reads a text that lists objects and begins with `head`, or None."""
    return dicomjson.read_objects if dicomjson.is_json(head) else dumps.read_objects if dumps.is_dump(head) else None


def _one_thing(file, size, found):
    """A list or archive of nothing but something else is one thing."""
    if {row.get("code") for _, row, _ in found} == {"NOT_DICOM"}:
        return [("rejected", reject(file, 0, size, "NOT_DICOM", found[0][1]["reason"]), "")]
    return found


def _row_of(file, read_at, size, zone, faults=()):
    """`(table name, row)` of a file; `faults` are codes of its packing."""
    if not size:
        return "rejected", reject(file, 0, 0, *(faults or ["EMPTY_FILE"])[:1], "0 bytes; ask for it again")
    found, fault = read_elements(read_at, size, WANTED, OPENED, OWN)
    if found is None:
        code, reason = fault
        if code == "NOT_DICOM" and dumps.has_elements(read_at(0, HEADER_BYTES)):
            reason = "text with a dump in it; take out what stands before each line, or load the file that was dumped"
        if file.endswith((".part", ".tmp", ".crdownload")):
            reason += "; its name says that it is still being written"
        return "rejected", reject(file, 0, size, code, reason)
    if "TOO_LARGE_INFLATED" in faults:      # the pixels are cut by our limit, not in the file
        if found.reached < max(WANTED):
            return "rejected", reject(file, 0, size, "TOO_LARGE_INFLATED", f"no whole header in the first {size >> 20} MB; unpack it and load the folder")
        found = found._replace(codes=[c for c in found.codes if c != "PIXELS_TRUNCATED"])
    table, row = header_row(found._replace(codes=[*faults, *found.codes]) if faults else found, zone)
    if table == "rejected":
        return table, reject(file, 0, size, *row)
    if table == "instances":
        row["n_bytes"] = size
    row["source_file"], row["source_offset"] = file, 0
    return table, row


def find_copies(instances):
    """`[(rows, code), ...]`: DUPLICATE_FILE for the second and later copies of a file, DUPLICATE_SOP_UID for all files that share one with other content."""
    uids, contents = instances["sop_instance_uid"], instances["_content"]
    # Copies share their UID: no other file needs its content compared.
    unknown = instances.loc[(contents == "") & uids.duplicated(keep=False), "source_file"]
    contents = pd.concat([contents.drop(unknown.index), unknown.map(_content)]).sort_index()
    files = uids[(uids != "") & (contents != "") & ~contents.str.startswith(ANSWER)]
    n_spellings = pd.DataFrame({"uid": files, "content": contents[files.index]}).drop_duplicates().groupby("uid").size()
    flagged = [((contents != "") & contents.duplicated(), "DUPLICATE_FILE"), (uids.isin(n_spellings.index[n_spellings > 1]), "DUPLICATE_SOP_UID")]
    return [(rows.to_numpy(), code) for rows, code in flagged if rows.any()]


def _content(file):
    try:
        handle = os.open(file, _READ)
    except OSError:     # gone since its header was read: no copy of anything
        return file
    try:
        return _sha256(handle)
    except OSError:
        return file
    finally:
        os.close(handle)
