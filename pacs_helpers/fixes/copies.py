"""Corrected copies of DICOM files: written beside the sources, read back, and logged in the ledger; the sources stay as they are."""

import csv
import io
import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..locks import LockTaken, locked
from ..tables import TEXT, TableError, conform
from .copyplan import PLAN, make_plan, read_source, sha256
from .ledger import CodedError, append_record, read_ledger
from .rewriting import find_differences, rewrite

PLAN_FILE, MANIFEST = "plan.json", "manifest.csv"
SPACE = 1.2
_PACKAGE = Path(__file__).resolve().parents[1]
_OWN = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").exists() else _PACKAGE
_NOT_SHARED = {"my", "out", "exports"}      # what .gitignore keeps out of the workbook's history
_LISTED = ("output_name", "output_sha256", "source_sha256", "sop_instance_uid", "series_instance_uid", "study_instance_uid", "uid_policy", "decisions")


class CopiesStopped(CodedError):
    """Not all copies are there; none is half written under its final name, and the same call goes on. `code` says why."""


class Copies(NamedTuple):
    copies: pd.DataFrame
    account: str
    strays: tuple


def write_corrected_copies(instances, ledger, folder, *, dept, confirm, sources=None):
    """Copies(copies, account, strays): the plan of `plan_copies` with the `state` of each file, one line, and half files of others in the folder.

    `confirm` is the number of copies that the plan names with the same `sources`: looking at it comes first. Killed or stopped at any moment (CopiesStopped, LedgerError),
    the same call goes on and gives the same bytes; once all are there it says "0 to do". The folder must be empty or hold this run: no link,
    not inside the folder that holds all sources nor around one of sources, and not among the workbook's own files. Each copy keeps the old
    values in its Original Attributes Sequence (0400,0561).
    """
    plan = make_plan(instances, ledger, dept, sources)
    todo = [row for row in plan if not row["problem"]]
    if confirm is True or confirm != len(todo):
        raise TableError(f"confirm: the plan makes {len(todo)} copies; look at plan_copies(...) and then give confirm={len(todo)}.")
    folder = _folder_of(folder, instances["source_file"].unique())
    strays = _look_around(folder, todo)
    try:
        if todo:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(folder / PLAN_FILE):
                _write_all(plan, todo, ledger, folder)
    except LockTaken as lock:
        raise CopiesStopped("FOLDER_LOCKED", f"another program writes into the folder and holds {lock}; wait for it, or remove that file if the program is gone") from None
    except OSError as error:
        raise CopiesStopped("APPLY_STOPPED", f"the copies are not complete ({error.strerror}); mend that, and make the same call again") from None
    counts = {state: sum(row.get("state") == state for row in plan) for state in ("written", "recovered", "there already")}
    told = ", ".join(f"{n:,} {state}" for state, n in counts.items())
    table = conform([{name: row.get(name, "refused") for name in (*PLAN, "state")} for row in plan], {**PLAN, "state": (TEXT, "written, recovered, there already or refused")})
    return Copies(table, f"{len(todo):,} copies: {told}; {len(plan) - len(todo):,} files refused; {len(todo) - sum(counts.values()):,} to do", strays)


def _folder_of(folder, sources):
    """The folder as a Path; TableError where it cannot be one, or where copies would be taken for sources or for a part of the workbook."""
    name = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else ""
    if not name.strip() or name.startswith("~") or "://" in name:
        raise TableError("folder: the path of a folder is needed, written out: not empty, no '~', no address.")
    try:
        mode = os.lstat(name.rstrip("/")).st_mode
    except FileNotFoundError:
        mode = stat.S_IFDIR
    except (OSError, ValueError) as error:
        raise TableError(f"folder: no folder can have this name ({getattr(error, 'strerror', error)}); choose another.") from None
    if not stat.S_ISDIR(mode):
        raise TableError(f"folder: this is a {'link' if stat.S_ISLNK(mode) else 'file'}; choose a folder that is new or empty.")
    real = Path(os.path.realpath(name))
    if real.is_relative_to(_OWN) and not _NOT_SHARED & {*real.relative_to(_OWN).parts}:
        raise TableError("folder: it lies among the workbook's own files, which may be shared; choose one under my/, or elsewhere.")
    _refuse_sources(name, sources)
    return Path(name)


def _refuse_sources(folder, sources):
    here, parents = _above(folder), {os.path.realpath(parent) for parent in {os.path.dirname(os.path.abspath(file)) for file in sources}}
    with suppress(ValueError):              # none, or on several disks
        root = os.path.commonpath(parents)
        parents |= {root} - {os.path.dirname(root)}
    for parent in parents:
        around = _above(parent)
        if around and here and (around[0] in here or os.path.exists(folder) and here[0] in around):
            raise TableError("folder: it lies inside a folder of sources or the one that holds them all, or around one; choose another, so that no copy is taken for a source.")


def _above(path):
    """The identities of a folder and of all folders above it, through every link; of what is there."""
    found, path = [], os.path.realpath(path)
    while True:
        with suppress(OSError):
            state = os.stat(path)
            found.append((state.st_dev, state.st_ino))
        if os.path.dirname(path) == path:
            return found
        path = os.path.dirname(path)


def _look_around(folder, todo):
    """The half files of other runs in the folder, as a tuple; TableError when it holds anything else that is not of this run."""
    names = {row["output_name"] for row in todo} | {PLAN_FILE, MANIFEST}
    own = names | {_part_of(name) for name in names} | {PLAN_FILE + ".lock"}
    others = sorted(set(os.listdir(folder)) - own) if folder.is_dir() else []
    foreign = [name for name in others if not name.endswith(".part")]
    if foreign:
        raise TableError(f"folder: it holds {len(foreign)} things that this run does not make; choose an empty folder.")
    return tuple(others)


def _part_of(name):
    return f".{name}.part"


def _write_all(plan, todo, ledger, folder):
    for name in (PLAN_FILE, MANIFEST, *(row["output_name"] for row in todo)):
        (folder / _part_of(name)).unlink(missing_ok=True)       # of this run, which was stopped
    text = json.dumps([{**{name: row[name] for name in PLAN}, "steps": row["arguments"]["steps"]} for row in plan], indent=1, sort_keys=True).encode()
    run = sha256(text)
    known = [record for record in read_ledger(ledger) if record.get("run") == run]
    waiting = [row for row in todo if not os.path.lexists(folder / row["output_name"])]
    needed = SPACE * sum(row["n_bytes"] for row in waiting)
    if needed > shutil.disk_usage(folder).free:
        raise CopiesStopped("NOT_ENOUGH_SPACE", f"the copies need {needed / 1e6:,.1f} MB with a reserve; nothing was written. Free some space, or choose another disk")
    _keep(folder, PLAN_FILE, text)
    if not known:
        append_record(ledger, op="apply_begin", run=run, n=len(todo), user="", target="")
    applied = {record["output"] for record in known if record["op"] == "applied"}
    for row in todo:
        row["state"] = _copy(row, folder, ledger, run, applied)
    _keep(folder, MANIFEST, _manifest(todo))
    for row in todo:
        if sha256(read_source(folder / row["output_name"])) != row["output_sha256"]:
            raise CopiesStopped("VERIFY_FAILED", f"{row['output_name']} is not what was written; remove it, and make the same call again")
    if not any(record["op"] == "apply_end" for record in known):
        append_record(ledger, op="apply_end", run=run, n=len(todo), user="", target="")


def _copy(row, folder, ledger, run, applied):
    """What was done about one copy: written, recovered (it was there and not logged) or there already."""
    name, is_there = row["output_name"], os.path.lexists(folder / row["output_name"])
    if is_there:
        _require_same(folder, name, row["output_sha256"])
    else:
        data = read_source(row["source_file"])
        out, changes = rewrite(data, **row["arguments"]) if sha256(data) == row["source_sha256"] else (b"", [])
        if sha256(out) != row["output_sha256"]:
            raise CopiesStopped("SOURCE_CHANGED", f"the source of {name} has changed since the plan; load again, and start in an empty folder")
        _put(folder, name, out, lambda back: find_differences(data, back) == set(changes))
        if sha256(read_source(row["source_file"])) != row["source_sha256"]:
            raise CopiesStopped("SOURCE_CHANGED", f"the source of {name} changed while it was copied; load again, and start in an empty folder")
    if name not in applied:
        append_record(ledger, op="applied", run=run, output=name, sha256=row["output_sha256"], source_sha256=row["source_sha256"], is_recovered=is_there, user="", target="")
    return "written" if not is_there else "there already" if name in applied else "recovered"


def _keep(folder, name, data):
    """The file is there with these bytes, or gets there."""
    if os.path.lexists(folder / name):
        _require_same(folder, name, sha256(data))
    else:
        _put(folder, name, data, lambda _: True)


def _require_same(folder, name, digest):
    if sha256(read_source(folder / name)) != digest:
        raise CopiesStopped("OTHER_RUN", f"{name} is there with other bytes, and is never replaced; choose an empty folder")


def _put(folder, name, data, is_right):
    """The file under its final name, after its bytes have been synced and read back."""
    part = folder / _part_of(name)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left):]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        back = read_source(part)
        if back != data or not is_right(back):
            raise CopiesStopped("READ_BACK", f"{name} reads back otherwise than planned, and was taken away; check the disk")
        _publish(part, folder / name)
    finally:
        part.unlink(missing_ok=True)
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(part, final):
    try:
        os.link(part, final)
    except FileExistsError:
        raise
    except OSError:                         # a share without hard links; the lock keeps others away
        if os.path.lexists(final):
            raise
        os.rename(part, final)


def _manifest(todo):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_LISTED, *([row[name] for name in _LISTED] for row in todo)])
    return out.getvalue().encode()
