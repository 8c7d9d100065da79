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
from . import dcm4chelog, dcmtklog, orthanclog, pynetdicomlog, tsharklog
from .account import Blocks, close_account, list_files, reject, run_over, source_row
from .associations import Moment, mark_open, new_record, table_rows
from .logclock import check_date, check_year, new_clock, see_stamp, stamp_instant
from .loglines import LONGEST_LINE, RECENT, REPEATS_ARE_COPIES, STAMPED, compile_run, open_envelope, skip_run, whole_lines

MOST_REJECTED = 1_000       # rows of rejected per file; further runs are added up in one row per code
ROTATED = re.compile(r"(?P<stem>.+?)(?:\.(?P<number>\d{1,3})|-(?P<day>\d{8}))?(?:\.gz)?$")
CONTROLS = bytes(b for b in range(32) if b not in b"\t\n\r\x1b")
_STAMPED = re.compile(STAMPED)
STRANGERS = tuple((name, re.compile(pattern, re.M)) for name, pattern in (
    ("HL7 messages", rb"^\W?MSH\|"), ("JSON", rb"\A\s*[\[{]"), ("XML", rb"\A\s*<"),
    ("UTF-16 text (save it as UTF-8)", rb"\A(?:\xff\xfe|\xfe\xff)"),
))


class DicomLog(NamedTuple):
    associations: pd.DataFrame
    operations: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


class Layout(NamedTuple):
    """How a line begins: `kind` of clock, `dialect` is the module whose events its text holds.

    A file is in the first layout whose `probe` its beginning holds: the pattern itself, or words that only this program writes.
    """

    name: str
    kind: str
    pattern: re.Pattern
    probe: re.Pattern
    run: re.Pattern | None
    dialect: object


LAYOUTS = tuple(Layout(name, kind, re.compile(pattern), re.compile((*sign, "(?m)^" + pattern.removesuffix("$"))[0].encode()),
                       compile_run(pattern, dialect.ANY, dialect.MORE), dialect)
                for dialect in (orthanclog, dcm4chelog, pynetdicomlog, dcmtklog, tsharklog) for name, kind, pattern, *sign in dialect.LAYOUTS)


def read_dicom_log(path, *, site, executor=None, year=None, start_date=None):
    """DicomLog(associations, operations, rejected, sources) of the logs at `path`: a file, a folder or a list, .gz too.

    Read are Orthanc's, DCMTK's, dcm4che's and pynetdicom's, plain or inside syslog or a journal's JSON lines, and tshark's field exports.
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
    units = [(group, site.time_zone, year, start_date) for group in rotations(files)]
    n_bytes = sum(os.path.getsize(f) for f in files if os.path.exists(f))
    tables = defaultdict(list)
    for part in run_over(read_rotation, units, executor, n_bytes=n_bytes):
        for name, rows in part.items():
            tables[name] += rows
    rejected, sources = close_account([*rejected, *tables["rejected"]], tables["sources"], unit="bytes")
    return DicomLog(conform(tables["associations"], ASSOCIATIONS), conform(tables["operations"], OPERATIONS), rejected, sources)


def rotations(files):
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
    blocks = Blocks(file)
    tally = SimpleNamespace(file=file, n_bytes=0, digest="", rejected=[], in_rows=0, framing=0, started=time.perf_counter())
    layout, problem, modified_at, tail = None, None, _modified_at(file), []
    for data in whole_lines(blocks):
        start, at = tally.n_bytes, 0
        tally.n_bytes += len(data)
        if not start:
            layout = _find_layout(data)
            problem = _whole_file_problem(log, file, data, layout)
            repeated = b"" if layout and layout.kind == "none" else _repeated(log.tail, data.splitlines(keepends=True)[:RECENT])
            if repeated and not problem:
                _count(tally, "DUPLICATE_LINE", 0, at := len(repeated))
        if problem:
            continue
        while at < len(data):
            stream = log.streams.get("")
            if stream and stream.layout is layout and layout.run and (run := layout.run.match(data, at)) and (verdict := skip_run(stream, run)):
                _count(tally, verdict, start + at, run.end() - at)
                at = run.end()
                continue
            for line in data[at:data.find(b"\n", at) + 1 or len(data)].splitlines(keepends=True):
                is_cut = not line.endswith((b"\n", b"\r"))
                verdict = (("LINE_TOO_LONG" if len(line) >= LONGEST_LINE else "PARTIAL_LINE") if is_cut
                           else _read_line(log, layout, file, start + at, line, modified_at))
                _count(tally, verdict, start + at, len(line))
                at += len(line)
        tail = (tail + data.splitlines(keepends=True))[-RECENT:]
    tally.digest = blocks.digest
    if problem or not (tally.n_bytes or blocks.rejected):
        tally.rejected.append(reject(file, 0, tally.n_bytes, *(problem or ("EMPTY_FILE", "0 bytes; ask for it again"))))
    elif tally.framing and not tally.in_rows:
        name = layout.name if layout else "syslog"
        tally.framing, tally.rejected = 0, [reject(file, 0, tally.n_bytes, "NO_ASSOCIATIONS", (
            f"a {name} log without any association; if the server was in use, set its log level to verbose and load again"))]
    log.tail, tally.rejected = tail, [*blocks.rejected, *tally.rejected]
    return tally


def _modified_at(file):
    try:
        return datetime.fromtimestamp(os.stat(file).st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


REASONS = {
    "DUPLICATE_LINE": "the same lines stand before, as rotation leaves them; read once",
    "LINE_TOO_LONG": f"a line of more than {LONGEST_LINE >> 20} MB; ask for the log again if it should be whole here",
    "PARTIAL_LINE": "the last line has no end, it is being written; it is read when the log is loaded again",
    "NOT_TEXT": "bytes that are not text; ask for the log again if it should be whole here",
    "UNKNOWN_FORMAT": "lines that are not in the layout of the rest of this log",
    "OTHER_PROGRAM": "lines of a program that is not read here; leave them out or load them with another reader",
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
    begin = re.compile(layout.pattern.pattern.encode())
    fitting = sum(bool(begin.match(line)) or line.startswith((b"RECV", b"XMIT")) for line in lines)
    return fitting * 2 >= len(lines)


def _whole_file_problem(log, file, data, layout):
    """`(code, reason)` why nothing of the file can be used, or None."""
    if layout and layout.kind == "no_date" and not log.start_date:
        day = _modified_at(file).astimezone(ZoneInfo(log.zone)).date()
        return "NO_DATE", f"a {layout.name} log has times without date; give start_date, the day of its first line (last written {day})"
    if layout or any(open_envelope(line.decode("utf-8", "replace")) for line in data[:200_000].splitlines()):
        return None
    if re.search(rb"(?m)^\W?\d{1,2}[/.]\d{1,2}[/.]\d\d(?:\d\d)?,? \d\d:\d\d", data[:4096]):
        return "DATE_AMBIGUOUS", "dates such as 99/99/99 do not say which is the month; let the program write YYYY-MM-DD"
    name = next((name for name, pattern in STRANGERS if pattern.search(data[:200_000])), None)
    if name:
        return "UNKNOWN_FORMAT", f"looks like {name}, which is not read here; use the log of a DICOM server, see read_dicom_log"
    if not _is_text(data[:4096]):
        return "NOT_TEXT", "a binary file, not a log; captures and images have readers of their own"
    first = next((line for line in data[:4096].splitlines() if line.strip()), b"")[:60].decode("utf-8", "replace")
    shape = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", first))
    return "UNKNOWN_FORMAT", f"not the log of a DICOM program known here: lines look like '{shape}' (letters as a, digits as 9)"


def _is_text(line):
    return len(line.translate(None, CONTROLS)) * 10 >= len(line) * 9


def _repeated(tail, lines):
    """The lines at the start that stand at the end of the file before, too."""
    return b"".join(next((lines[:n] for n in range(min(len(tail), len(lines)), 0, -1) if tail[-n:] == lines[:n]), []))


def _read_line(log, layout, file, offset, line, modified_at):
    """Where the bytes of a line belong: "rows", "framing" or a code of REASONS."""
    if not _is_text(line):
        return "NOT_TEXT"
    text = line.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff")
    outer, program, pid = None, "", ""
    if layout is None:
        outer = open_envelope(text)
        if not outer:
            return "framing" if not text.strip() else "UNKNOWN_FORMAT"
        text, program, pid = outer.text, outer.program, outer.pid
        layout = log.streams[program].layout if program in log.streams else next(
            (x for x in LAYOUTS if x.pattern.match(text) and x.probe.search(text.encode())), None)
        if layout is None:
            return "OTHER_PROGRAM"
    stream = log.streams.get(program)
    if stream is None or stream.layout is not layout:
        stream = _open_stream(log, layout, program, pid, outer, modified_at)
    return _follow(stream, file, offset, text, outer.stamp if outer else None, pid)


def _open_stream(log, layout, program, pid, outer, modified_at):
    kind = layout.kind
    if outer and kind in ("none", "no_date"):
        kind = outer.kind
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
        stream.last = "rows" if is_dots else "UNKNOWN_FORMAT" if _STAMPED.match(text) else stream.last
        return stream.last
    if stream.layout.kind in REPEATS_ARE_COPIES:
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
