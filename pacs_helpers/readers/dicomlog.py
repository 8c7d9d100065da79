"""Logs of DICOM servers -> one row per association, one per DIMSE operation, and the account of every byte.

The dialect is known by content. Bytes in rows are lines that say something about an association or an operation; framing are recognised
lines that do not (start-up, HTTP, dumps of queries and headers, line ends); everything else is a row of rejected, one per run of lines.
"""

import itertools
import os
import re
import time
from collections import defaultdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pandas as pd

from ..site import Site
from ..tables import ASSOCIATIONS, OPERATIONS, TableError, conform
from . import dcmtklog, orthanclog
from .account import close_account, list_files, read_bytes, reject, run_over, source_row
from .associations import Moment, mark_open, new_record, table_rows
from .logclock import check_date, check_year, new_clock, see_stamp, stamp_instant

MOST_REJECTED = 1_000       # rows of rejected per file; further runs are added up in one row per code
RECENT = 300                # lines looked back for a repeat
ROTATED = re.compile(r"(?P<stem>.+?)(?:\.(?P<number>\d{1,3})|-(?P<day>\d{8}))?(?:\.gz)?$")
CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\x1b")
SYSLOG = re.compile(r"(?:<\d{1,3}>)?(?:\d )?(?P<stamp>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) \S+ "
                    r"(?P<program>[^\s:\[\]]+)(?:\[(?P<pid>\d+)\])?: ?(?P<rest>.*)")
STAMPED = re.compile(r"\W{0,2}(?:\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d)")
STRANGERS = tuple((name, re.compile(pattern, re.M)) for name, pattern in (
    ("pynetdicom", rb"\bpynetdicom[. ]|^I: (?:Accepting Association|Association Released|Association Accepted)\r?$|"
                   rb"^D: =+ \w+ A-ASSOCIATE-\w\w PDU|^I: .*Status: 0x"),
    ("dcm4che", rb"org\.dcm4che"), ("HL7 messages", rb"^\W?MSH\|"), ("JSON", rb"\A\s*[\[{]"), ("XML", rb"\A\s*<"),
    ("UTF-16 text (save it as UTF-8)", rb"\A(?:\xff\xfe|\xfe\xff)"),
))


class DicomLog(NamedTuple):
    associations: pd.DataFrame
    operations: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


class Layout(NamedTuple):
    """How a line begins: `kind` of clock, `dialect` is the module whose events its text holds."""

    name: str
    kind: str
    pattern: re.Pattern
    probe: re.Pattern
    dialect: object


LAYOUTS = tuple(Layout(name, kind, re.compile(pattern), re.compile(b"^" + pattern.removesuffix("$").encode(), re.M), dialect)
                for dialect in (orthanclog, dcmtklog) for name, kind, pattern in dialect.LAYOUTS)


def read_dicom_log(path, *, site, executor=None, year=None, start_date=None):
    """DicomLog(associations, operations, rejected, sources) of Orthanc's and DCMTK's logs at `path`: a file, a folder or a list, .gz too.

    Rotated files (`.1`, `-20261124`) are read oldest first as one log. A clock without offset is in `site.time_zone`. Orthanc logs no year:
    `year` is that of the first line, else the latest that is not after the file was last written. A clock without date is rejected
    (NO_DATE) until `start_date`, the day of the first line, is given. Parallel associations that a log does not tell apart have
    `is_ambiguous`, no end and no counts; their operations have no association_id. `n_bytes` of Orthanc are whole MiB rounded up,
    those of DCMTK's dots at most that many. A program that logs no association at its level is rejected (NO_ASSOCIATIONS).
    """
    if not isinstance(site, Site):
        raise TableError(f"site: a Site is needed, not {type(site).__name__}; use Site.load('site.toml').")
    files, rejected = list_files(path)
    year, start_date = check_year(year), check_date(start_date)
    units = [(group, site.time_zone, year, start_date) for group in _rotations(files)]
    n_bytes = sum(os.path.getsize(f) for f in files if os.path.exists(f))
    tables = defaultdict(list)
    for part in run_over(read_rotation, units, executor, n_bytes=n_bytes):
        for name, rows in part.items():
            tables[name] += rows
    rejected, sources = close_account([*rejected, *tables["rejected"]], tables["sources"], unit="bytes")
    return DicomLog(conform(tables["associations"], ASSOCIATIONS), conform(tables["operations"], OPERATIONS), rejected, sources)


def _rotations(files):
    """Tuples of files that one program wrote one after another, oldest first."""
    groups = defaultdict(list)
    for file in files:
        found = ROTATED.match(file)
        order = (0, -int(found["number"])) if found["number"] else (0, int(found["day"])) if found["day"] else (1, 0)
        groups[found["stem"]].append((order, file))
    return [tuple(file for _, file in sorted(group)) for group in groups.values()]


def read_rotation(unit):
    """The rows of each table, of `(files, time zone, year, start date)`."""
    files, zone, year, start_date = unit
    log = SimpleNamespace(streams={}, numbers=itertools.count(1), zone=zone, year=year, start_date=start_date, tail=[])
    tables = {"associations": [], "operations": [], "rejected": [], "sources": []}
    tallies = [_read_file(log, file) for file in files]
    for stream in log.streams.values():
        stream.layout.dialect.end_log(stream.record)
        associations, operations = table_rows(stream.record)
        tables["associations"] += associations
        tables["operations"] += operations
    place = {file: number for number, file in enumerate(files)}
    for name in ("associations", "operations"):
        tables[name].sort(key=lambda row: (place[row["source_file"]], row["source_offset"]))
    for tally in tallies:
        n_rows = sum(row["source_file"] == tally.file for row in tables["associations"])
        tables["rejected"] += tally.rejected
        tables["sources"].append(source_row(
            tally.file, n_bytes=tally.n_bytes, n_bytes_in_rows=tally.in_rows, n_bytes_rejected=sum(r["n_bytes"] for r in tally.rejected),
            n_bytes_framing=tally.framing, n_rows=n_rows, n_rejected=len(tally.rejected), sha256=tally.digest, started=tally.started))
    return tables


def _read_file(log, file):
    started = time.perf_counter()
    data, digest, faults = read_bytes(file)
    data = data or b""
    tally = SimpleNamespace(file=file, n_bytes=len(data), digest=digest, rejected=list(faults), in_rows=0, framing=0, started=started)
    layout = _find_layout(data)
    problem = _whole_file_problem(log, file, data, layout) if data or not faults else None
    if problem:
        tally.rejected.append(reject(file, 0, len(data), *problem))
        return tally
    offset, lines, modified_at = 0, data.splitlines(keepends=True), _modified_at(file)
    n_repeated = 0 if layout and layout.kind == "none" else _repeated(log.tail, lines)
    for number, line in enumerate(lines):
        if number < n_repeated:
            verdict = "DUPLICATE_LINE"
        elif number == len(lines) - 1 and not line.endswith((b"\n", b"\r")):
            verdict = "PARTIAL_LINE"
        else:
            verdict = _read_line(log, layout, file, offset, line, modified_at)
        _count(tally, verdict, offset, len(line))
        offset += len(line)
    log.tail = lines[-RECENT:]
    if tally.framing and not tally.in_rows:
        name = layout.name if layout else "syslog"
        tally.framing, tally.rejected = 0, [*faults, reject(file, 0, len(data), "NO_ASSOCIATIONS", (
            f"a {name} log without any association; if the server was in use, set its log level to verbose and load again"))]
    return tally


def _modified_at(file):
    try:
        return datetime.fromtimestamp(os.stat(file).st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


REASONS = {
    "DUPLICATE_LINE": "the same lines stand before, as rotation leaves them; read once",
    "PARTIAL_LINE": "the last line has no end, it is being written; it is read when the log is loaded again",
    "NOT_TEXT": "bytes that are not text; ask for the log again if it should be whole here",
    "UNKNOWN_FORMAT": "lines that are not in the layout of the rest of this log",
    "OTHER_PROGRAM": "lines of a program that is neither Orthanc nor DCMTK; leave them out or load them with another reader",
}


def _count(tally, verdict, offset, n):
    if verdict in ("rows", "framing"):
        tally.in_rows += n * (verdict == "rows")
        tally.framing += n * (verdict == "framing")
        return
    last = tally.rejected[-1] if tally.rejected else None
    if last and last["code"] == verdict and last["source_offset"] + last["n_bytes"] == offset:
        last["n_bytes"] += n
    elif len(tally.rejected) < MOST_REJECTED:
        tally.rejected.append(reject(tally.file, offset, n, verdict, REASONS[verdict]))
    else:
        last = next((r for r in reversed(tally.rejected) if r["code"] == verdict and r["reason"].startswith("from here")), None)
        if last is None:
            last = reject(tally.file, offset, 0, verdict, "from here on, in many places: " + REASONS[verdict])
            tally.rejected.append(last)
        last["n_bytes"] += n


def _find_layout(data):
    for layout in LAYOUTS:
        if layout.probe.search(data):
            if layout.kind != "none" or _is_mostly(layout, data):
                return layout
    return None


def _is_mostly(layout, data):
    """Whether most of the first lines are in the layout: a single letter and a colon begin lines of many kinds of text."""
    lines = [line for line in data[:40_000].splitlines() if line.strip(b". \r\n")]
    fitting = sum(bool(layout.probe.match(line)) or line.startswith((b"RECV", b"XMIT")) for line in lines)
    return fitting * 2 >= len(lines) and not STRANGERS[0][1].search(data)


def _whole_file_problem(log, file, data, layout):
    """`(code, reason)` why nothing of the file can be used, or None."""
    if not data:
        return "EMPTY_FILE", "0 bytes; ask for it again"
    if layout and layout.kind == "no_date" and not log.start_date:
        day = _modified_at(file).astimezone(ZoneInfo(log.zone)).date()
        return "NO_DATE", f"a {layout.name} log has times without date; give start_date, the day of its first line (last written {day})"
    if layout or re.search(rb"(?m)^" + SYSLOG.pattern.replace("(?P<stamp>", "(?:").encode(), data[:200_000]):
        return None
    name = next((name for name, pattern in STRANGERS if pattern.search(data[:200_000])), None)
    if name:
        return "UNKNOWN_FORMAT", f"looks like {name}, which is not read here; use the log of an Orthanc or DCMTK server"
    if not _is_text(data[:4096]):
        return "NOT_TEXT", "a binary file, not a log; captures and images have readers of their own"
    first = next((line for line in data[:4096].splitlines() if line.strip()), b"")[:60].decode("utf-8", "replace")
    shape = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", first))
    return "UNKNOWN_FORMAT", f"not an Orthanc or DCMTK log: lines look like '{shape}' (letters as a, digits as 9)"


def _is_text(line):
    return len(line.translate(None, CONTROLS)) * 10 >= len(line) * 9


def _repeated(tail, lines):
    """How many lines at the start stand at the end of the file before, too."""
    return next((n for n in range(min(len(tail), len(lines)), 0, -1) if tail[-n:] == lines[:n]), 0)


def _read_line(log, layout, file, offset, line, modified_at):
    """Where the bytes of a line belong: "rows", "framing" or a code of REASONS."""
    if not _is_text(line):
        return "NOT_TEXT"
    text = line.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff")
    outer, program, pid = None, "", ""
    if layout is None:
        outer = SYSLOG.match(text)
        if not outer:
            return "framing" if not text.strip() else "UNKNOWN_FORMAT"
        text, program, pid = outer["rest"], outer["program"], outer["pid"] or ""
        layout = log.streams[program].layout if program in log.streams else next((x for x in LAYOUTS if x.pattern.match(text)), None)
        if layout is None:
            return "OTHER_PROGRAM"
    stream = log.streams.get(program)
    if stream is None or stream.layout is not layout:
        stream = _open_stream(log, layout, program, pid, outer, modified_at)
    return _follow(stream, file, offset, text, outer["stamp"] if outer else None, pid)


def _open_stream(log, layout, program, pid, outer, modified_at):
    kind = layout.kind
    if outer and kind in ("none", "no_date"):
        kind = "zoned" if outer["stamp"][0].isdigit() else "no_year"
    has_pid = layout.dialect is dcmtklog and bool(pid or "(?P<who>" in layout.pattern.pattern)
    clock = new_clock(kind, log.zone, year=log.year, start_date=log.start_date, modified_at=modified_at)
    stream = SimpleNamespace(layout=layout, record=new_record(log.numbers, has_pid=has_pid), clock=clock, is_outer=kind != layout.kind,
                             last="UNKNOWN_FORMAT", recent={})
    if program in log.streams:
        log.streams[program, len(log.streams)] = log.streams[program]
    log.streams[program] = stream
    return stream


def _follow(stream, file, offset, text, outer_stamp, pid):
    found, is_dots = stream.layout.pattern.match(text), False
    dialect, record, clock = stream.layout.dialect, stream.record, stream.clock
    if not found:
        is_dots, rest = dialect.follow_more(record, text)
        found = stream.layout.pattern.match(rest) if rest else None
    if not found:
        stream.last = "rows" if is_dots else "UNKNOWN_FORMAT" if STAMPED.match(text) else stream.last
        return stream.last
    if stream.layout.kind in ("zoned", "no_year"):      # stamps so fine that a line never repeats by itself
        if text in stream.recent:
            return "DUPLICATE_LINE"
        stream.recent[text] = None
        if len(stream.recent) > RECENT:
            del stream.recent[next(iter(stream.recent))]
    parts = found.groupdict()
    stamp = outer_stamp if stream.is_outer else parts.get("stamp", "")
    see_stamp(clock, stamp)
    if clock.is_back:
        mark_open(record, "TIME_GOES_BACK")

    def moment():
        return Moment(file, offset, *stamp_instant(clock, stamp))

    is_told = dialect.follow_line(record, parts.get("who") or pid, parts.get("text") or "", moment)
    stream.last = "rows" if is_told or is_dots else "framing"
    return stream.last
