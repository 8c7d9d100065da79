"""A folder of Parquet files that keeps what the readers found, so that a nightly run reads only what is new."""

import hashlib
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from .locks import LockTaken, locked
from .parts import LIST, read_list, read_rows, sweep_parts, write_list, write_part
from .readers.account import list_files
from .readers.auditlog import AuditLog, read_audit_log
from .readers.changes import READ_AGAIN, Known, find_changes
from .readers.dicomlog import DicomLog, read_dicom_log, rotations
from .readers.headers import Headers, find_copies, gather_headers
from .readers.hl7log import HL7Log, find_repeats, gather_messages, name_accessions
from .readers.risexport import RisExport, read_ris_export
from .readers.transfers import read_transfer_list
from .schemas import ASSOCIATIONS, AUDIT, EXAMS, INSTANCES, MESSAGES, OPERATIONS, PERFORMED_STEPS, REJECTED, SOURCES, UPDATES
from .site import require_site
from .tables import TableError, add_problem, conform, nearest

OPEN_FOR = pd.Timedelta("1h")
BATCH_BYTES, BATCH_FILES = 1 << 28, 10_000      # read before what was read is put down for good


def _find_repeats(keys):
    place = keys[["_file", "source_offset"]]
    return find_repeats(keys, (place != place.shift()).any(axis=1).cumsum().to_numpy() - 1, lambda rows: keys["_digest"].iloc[rows])


class Kind(NamedTuple):
    """How one kind of trace is kept: `times` is the column of each table that `since` and `until` look at, `keys` what `find_marks` needs of the first table."""

    read: Callable
    result: type
    tables: dict
    times: dict
    keys: tuple = ()
    find_marks: Callable | None = None
    may_grow: bool = True
    options: tuple = ()


KINDS = {
    "hl7": Kind(gather_messages, HL7Log, {"messages": MESSAGES}, {"messages": "message_at"},
                ("sending_application", "sending_facility", "message_control_id", "source_offset", "_file", "_digest"), _find_repeats),
    "dicom": Kind(gather_headers, Headers, {"instances": INSTANCES, "performed_steps": PERFORMED_STEPS}, {"instances": "study_at", "performed_steps": "started_at"},
                  ("sop_instance_uid", "_content", "source_file"), find_copies, may_grow=False),
    "network": Kind(read_dicom_log, DicomLog, {"associations": ASSOCIATIONS, "operations": OPERATIONS}, {"associations": "started_at", "operations": "started_at"},
                    options=("year", "start_date")),
    "audit": Kind(read_audit_log, AuditLog, {"audit": AUDIT}, {"audit": "event_at"}),
    "ris": Kind(read_ris_export, RisExport, {"exams": EXAMS}, {}, options=("columns",)),
    "transfers": Kind(read_transfer_list, DicomLog, {"associations": ASSOCIATIONS, "operations": OPERATIONS}, {"associations": "started_at", "operations": "started_at"}, options=("columns",)),
}


class Store(NamedTuple):
    """What each reader would return for all files that were ever read; None for a kind that was never given."""

    hl7: HL7Log | None = None
    dicom: Headers | None = None
    network: DicomLog | None = None
    audit: AuditLog | None = None
    ris: RisExport | None = None
    transfers: DicomLog | None = None


def update_store(folder, paths, *, site, options=None, executor=None, keep_gone=True):
    """One row per file, `kind, source_file, what, n_bytes`: what was done so that `folder` holds the rows of all files of `paths`.

    `paths` is {kind: file, folder or list}, kinds are hl7, dicom, network, audit, ris and transfers; a kind left out stays as it is. `options` are a reader's
    own arguments, {"network": {"year": 2025}}. Files that did not change since the last time are not opened. A log that begins with all that was
    read takes its place, packed or not; one that does not is another log. Rows of files that are gone stay unless `keep_gone` is False. What is read
    is kept batch by batch: killed at any moment, the next call goes on. Associations go on from one file of a rotation into the next; one
    that stays open for over an hour while no other is, is taken to be over. TableError while another update of the folder runs.
    """
    options = options or {}
    require_site(site)
    for name, given in (("paths", paths), ("options", options)):
        if not isinstance(given, dict):
            raise TableError(f"{name}: {{kind: ...}} is needed, such as {{'hl7': 'logs/hl7'}}.")
        for kind in given:
            if kind not in KINDS:
                raise TableError(f"{name}: '{kind}' is not one of {', '.join(KINDS)}.{nearest(str(kind).lower(), KINDS)}")
    for kind, arguments in options.items():
        for argument in arguments:
            if argument not in KINDS[kind].options:
                raise TableError(f"options: '{argument}' is not one of {', '.join(KINDS[kind].options)} of {kind}.{nearest(argument, KINDS[kind].options)}")
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)      # names and birth dates stand in it
    try:
        with locked(folder / LIST):
            return conform([row for kind, path in paths.items() for row in _update(folder, kind, path, keep_gone, {"site": site, "executor": executor, **options.get(kind, {})})], UPDATES)
    except LockTaken as lock:
        raise TableError(f"folder: another update of '{folder}' is running; wait for it, or remove {lock} if that program is gone.") from None


def _update(folder, name, path, keep_gone, arguments):
    kind, (entries, listed) = KINDS[name], read_list(folder)
    sweep_parts(folder, entries)
    files, rejected = list_files(path)
    own = {parent for parent in {os.path.dirname(file) for file in files} if folder.resolve() in (Path(parent).resolve(), *Path(parent).resolve().parents)}
    files = [file for file in files if os.path.dirname(file) not in own]      # a store may lie among the traces
    mine = [k for k in entries.values() if k.kind == name]
    changes, gone = find_changes(files, mine, _reader_of(arguments), may_grow=kind.may_grow)
    for k in gone:
        entries.pop(k.number)
        if keep_gone:
            entries[k.number] = k._replace(is_gone=True)
    for change in changes:
        if change.what not in READ_AGAIN:
            known = change.known[0]
            entries[known.number] = known._replace(path=change.path, n_bytes=change.n_bytes, modified_ns=change.modified_ns, node=change.node, is_gone=False)
    listed[name] = rejected
    for batch, place in _batches(folder, name, changes):
        there = [c for c in batch if os.path.lexists(c.path)]
        _read_batch(folder, name, there, place if there[:1] == batch[:1] else None, entries, arguments)
        write_list(folder, entries, listed)
    write_list(folder, entries, listed)
    sweep_parts(folder, entries)
    return [{"kind": name, "source_file": c.path, "what": c.what, "n_bytes": c.n_bytes} for c in changes] + [
        {"kind": name, "source_file": k.path, "what": "gone" if keep_gone else "dropped", "n_bytes": k.n_bytes} for k in gone if not (k.is_gone and keep_gone)]


def _batches(folder, name, changes):
    """Lists of changes to read together, each with the place in its first file before which the rows of that file stay as they are."""
    if name == "network":
        by_path = {c.path: c for c in changes}
        for group in rotations(list(by_path)):
            group = [by_path[file] for file in group]
            first = next((i for i, c in enumerate(group) if c.what in READ_AGAIN), None)
            if first is not None:
                begin, place = _quiet_place(folder, [c.known[0] for c in group[:first]])
                yield group[begin:], place
        return
    batch, n_bytes = [], 0
    for change in changes:
        if change.what in READ_AGAIN:
            batch.append(change)
            n_bytes += change.n_bytes
            if n_bytes >= BATCH_BYTES or len(batch) == BATCH_FILES:
                yield batch, None
                batch, n_bytes = [], 0
    if batch:
        yield batch, None


def _quiet_place(folder, known):
    """`(index, place)` of the file and the association in it from which on a log must be read again for what follows `known` to be right.

    It is the last one that began when no other was open. One without an end is taken to be open for OPEN_FOR.
    """
    rows = read_rows(folder, known, "associations", columns=["source_offset", "started_at", "ended_at"])
    if not len(rows):
        return len(known), None
    ends = rows["ended_at"].fillna(rows["started_at"] + OPEN_FOR).cummax().ffill()
    last = rows[(rows["started_at"] > ends.shift()) | (rows.index == 0)].iloc[-1]
    return [k.number for k in known].index(last["_file"]), last["source_offset"]


def _read_batch(folder, name, batch, place, entries, arguments):
    """Write the rows of a batch as a part and name it in `entries`, in place of what its files were before."""
    if not batch:
        return
    kind, number = KINDS[name], 1 + max((k.part for k in entries.values()), default=0)
    result = kind.read([c.path for c in batch], **arguments)
    first = 1 + max(entries, default=0)
    new = {c.path: Known(first + i, name, c.path, c.n_bytes, c.modified_ns, c.node, c.n_content, c.sha256, number, _reader_of(arguments), False) for i, c in enumerate(batch)}
    tables = {table: _own(frame, new) for table, frame in result._asdict().items()}
    if "associations" in tables:
        for table in ("associations", "operations"):
            ids = tables[table]["association_id"]
            tables[table]["association_id"] = ids.where(ids == "", ids + f"@{number}")
        if name == "network" and place is not None:
            _keep_before(folder, tables, batch[0].known[0], new[batch[0].path].number, place)
    write_part(folder, number, tables)
    for change in batch:
        for known in change.known:
            entries.pop(known.number, None)
    entries.update({k.number: k for k in new.values()})


def _own(frame, new):
    """`frame` with the number of the file that a row is of as `_file`, and in `source_file` only what follows that file's path."""
    owner = {}
    for place in frame["source_file"].unique():
        path = place
        while path and path not in new:     # a member of an archive is `path!member`
            path = path.rpartition("!")[0]
        owner[place] = (new[path].number, place[len(path):])
    return frame.assign(_file=frame["source_file"].map({place: number for place, (number, _) in owner.items()}).astype("int64"),
                        source_file=frame["source_file"].map({place: rest for place, (_, rest) in owner.items()}).astype("str"))


def _keep_before(folder, tables, known, number, place):
    """Put what was read before of the file of `known` in the place of what `tables` have of it, its associations and operations from `place` on excepted."""
    for table, frame in tables.items():
        old = read_rows(folder, [known], table).assign(_file=number)
        is_other = frame["_file"] != number
        if table in ("associations", "operations"):
            old, is_other = old[old["source_offset"] < place], is_other | (frame["source_offset"] >= place)
        both = [rows for rows in (old, frame[is_other]) if len(rows)]
        tables[table] = pd.concat(both, ignore_index=True) if both else frame[:0]


@cache
def _version():
    """A digest of the readers: what an older one read is read again."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted([*here.glob("readers/*.py"), here / "schemas.py", here / "tables.py"]))).hexdigest()[:16]


def _reader_of(arguments):
    site = arguments["site"]
    asked = {name: str(value) for name, value in arguments.items() if name not in ("site", "executor")}
    return f"{_version()} {site.time_zone} {json.dumps([site.statuses, site.ris, site.transfers, asked], sort_keys=True)}"


def read_store(folder, *, site, since=None, until=None):
    """Store(hl7, dicom, network, audit, ris, transfers) of a folder that update_store wrote; each as its reader returns it, and None when never given.

    With `since` and `until`, instants with a zone, only rows from `since` on and before `until` and rows without time are read, by `message_at`,
    `study_at`, `started_at` and `event_at`; exams of the RIS are read in full, and so are `rejected` and `sources`. Repeats are marked across all that the folder
    holds. OTHER_TIME_ZONE: the file was gone before the site's time zone was what it is now.
    """
    entries, listed = read_list(Path(folder))
    require_site(site)
    if not entries:
        raise TableError(f"folder: no store in '{folder}'. Check the spelling, or make one with update_store.")
    bounds = [None if instant is None else pd.Timestamp(instant) for instant in (since, until)]
    for name, instant in zip(("since", "until"), bounds):
        if instant is not None and instant.tz is None:
            raise TableError(f"{name}: an instant with a time zone is needed, such as pd.Timestamp('2026-11-01', tz='{site.time_zone}').")
    if None not in bounds and bounds[0] >= bounds[1]:
        raise TableError("since, until: since must come before until.")
    zone = next((k.reader.split()[1] for k in entries.values() if not k.is_gone and k.reader.split()[1] != site.time_zone), None)
    if zone:
        raise TableError(f"site: times of this store were read as {zone}, not {site.time_zone}; call update_store with this site first.")
    kinds = {k.kind for k in entries.values()}
    return Store(**{name: _read_kind(Path(folder), name, entries, listed[name], site, bounds) for name in KINDS if name in kinds})


def _read_kind(folder, name, entries, listed, site, bounds):
    kind = KINDS[name]
    mine = sorted((k for k in entries.values() if k.kind == name), key=lambda k: (k.path, k.is_gone, k.number))
    in_use = {k.path for k in mine if not k.is_gone}
    names = {k.number: f"{k.path}@{k.sha256[:8]}" if k.is_gone and k.path in in_use else k.path for k in mine}
    tables = {}
    for table, schema in kind.tables.items():
        frame = read_rows(folder, mine, table, times=kind.times.get(table), bounds=bounds)
        if table == next(iter(kind.tables)) and kind.find_marks and len(frame):
            keys = read_rows(folder, mine, table, columns=[*kind.keys, kind.times[table]])
            is_read = _is_within(keys[kind.times[table]], bounds)
            for rows, code in kind.find_marks(keys):
                rows = rows[is_read]
                frame.loc[rows, "problems"] = [add_problem(text, code) for text in frame.loc[rows, "problems"]]
        old_zone = frame["_file"].isin([k.number for k in mine if k.reader.split()[1] != site.time_zone])      # gone before the site's time zone was set right
        if old_zone.any():
            frame.loc[old_zone, "problems"] = [add_problem(text, "OTHER_TIME_ZONE") for text in frame.loc[old_zone, "problems"]]
        tables[table] = _named(frame, names, schema)
    if name == "hl7":
        tables["messages"] = name_accessions(tables["messages"], site)
    rejected = _named(read_rows(folder, mine, "rejected"), names, REJECTED)
    return kind.result(**tables, rejected=pd.concat([conform(listed, REJECTED), rejected], ignore_index=True), sources=_named(read_rows(folder, mine, "sources"), names, SOURCES))


def _is_within(times, bounds):
    since, until = bounds
    return (times.isna() | ((times >= since) if since is not None else True) & ((times < until) if until is not None else True)).to_numpy(bool)


def _named(frame, names, schema):
    if not len(frame):
        return conform([], schema)
    whole = frame["_file"].map(names) + frame["source_file"]
    return conform(frame.assign(source_file=whole.astype("str"))[[c for c in schema if c in frame]], schema)
