"""Logs of DICOM servers -> one row per association, one per DIMSE operation, and the account of every byte.

The dialect is known by content. Bytes in rows are lines that say something about an association or an operation; framing are recognised
lines that do not (start-up, HTTP, dumps of queries and headers, line ends); everything else is a row of rejected, one per run of lines.
"""

import functools
import itertools
import os
import re
import time
from collections import defaultdict
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..site import DATE_ORDERS, require_site
from ..tables import ASSOCIATIONS, OPERATIONS, TableError, conform
from . import dcmtklog, loglayouts, loglines
from .account import Blocks, close_account, list_files, reject, run_over, source_row
from .associations import Moment, mark_open, new_record, table_rows
from .logclock import check_date, check_year, new_clock, see_stamp, stamp_instant
from .loglayouts import find_layout, find_slashed, whole_file_problem
from .loglines import LONGEST_LINE, REASONS, REPEATS_ARE_COPIES, VERDICTS, find_repeats, line_ends, noisy_lines, sort_lines, whole_lines

MOST_REJECTED = 1_000       # rows of rejected per file; further runs are added up in one row per code
ROTATED = re.compile(r"(?P<stem>.+?)(?:\.(?P<number>\d{1,3})|-(?P<day>\d{8}))?(?:\.gz)?$")
_moment = functools.partial(tuple.__new__, Moment)
_SAYS_NOTHING = (lambda record, who, moment, fields: False), ()
_STAMPED = re.compile(loglines.STAMPED, re.ASCII)


class DicomLog(NamedTuple):
    associations: pd.DataFrame
    operations: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_dicom_log(path, *, site, executor=None, year=None, start_date=None, date_order=None):
    """DicomLog(associations, operations, rejected, sources) of the logs at `path`: a file, a folder or a list, .gz too.

    Read are Orthanc's, DCMTK's, dcm4che's and pynetdicom's, plain or inside syslog or a journal's JSON lines, and tshark's field exports.
    Rotated files (`.1`, `-20261124`) are read oldest first as one log. A clock without offset is in `site.time_zone`. Orthanc logs no year:
    `year` is that of the first line, else the latest that is not after the file was last written. A clock without date is rejected
    (NO_DATE) until `start_date`, the day of the first line, is given. Dates such as 03/04/2026 are read once one with a number above 12 or
    with dots tells their order; else the log is rejected (DATE_AMBIGUOUS) until `date_order`, "day first" or "month first", is given. Parallel associations that a log does not tell apart have
    `is_ambiguous`, no end and no counts; their operations have no association_id. `n_bytes` of Orthanc are whole MiB rounded up,
    those of DCMTK's dots at most that many. A program that logs no association at its level is rejected (NO_ASSOCIATIONS).
    """
    require_site(site)
    files, rejected = list_files(path)
    if date_order not in (None, *DATE_ORDERS):
        raise TableError(f"date_order: {date_order!r} is not one of {', '.join(DATE_ORDERS)}.")
    dates = check_year(year), check_date(start_date), date_order
    units = [(group, site.time_zone, *dates) for group in rotations(files)]
    n_bytes = sum(os.path.getsize(f) for f in files if os.path.exists(f))
    tables, operations = defaultdict(list), defaultdict(list)
    for part in run_over(read_rotation, units, executor, n_bytes=n_bytes):
        for name, values in part.pop("operations").items():
            operations[name] += values
        for name, rows in part.items():
            tables[name] += rows
    rejected, sources = close_account([*rejected, *tables["rejected"]], tables["sources"], unit="bytes")
    return DicomLog(conform(tables["associations"], ASSOCIATIONS), conform(dict(operations), OPERATIONS), rejected, sources)


def rotations(files):
    """Tuples of files that one program wrote one after another, oldest first."""
    groups = defaultdict(list)
    for file in files:
        found = ROTATED.match(file)
        order = (0, -int(found["number"])) if found["number"] else (0, int(found["day"])) if found["day"] else (1, 0)
        groups[found["stem"]].append((order, file))
    return [tuple(file for _, file in sorted(group)) for group in groups.values()]


def read_rotation(unit):
    """The rows of each table, of operations the columns, of `(files, time zone, year, start date, order of day and month)`."""
    files, zone, *dates = unit
    log = SimpleNamespace(streams={}, numbers=itertools.count(1), zone=zone, tail=[], **dict(zip(("year", "start_date", "date_order"), dates, strict=True)))
    tables, operations, plain = {"associations": [], "rejected": [], "sources": []}, [], []
    tallies = [_read_file(log, file) for file in files]
    for stream in log.streams.values():
        stream.layout.dialect.end_log(stream.record)
        rows = table_rows(stream.record)
        tables["associations"] += rows[0]
        operations += rows[1]
        plain += stream.record.plain
    place = {file: number for number, file in enumerate(files)}
    for rows in (tables["associations"], operations):
        rows.sort(key=lambda row: (place[row["source_file"]], row["source_offset"]))
    _number_anew(tables["associations"], operations)
    tables["operations"] = _in_columns(operations, plain, place)
    for tally in tallies:
        n_rows = sum(row["source_file"] == tally.file for row in tables["associations"])
        tables["rejected"] += tally.rejected
        tables["sources"].append(source_row(
            tally.file, n_bytes=tally.n_bytes, n_bytes_in_rows=tally.in_rows, n_bytes_rejected=sum(r["n_bytes"] for r in tally.rejected),
            n_bytes_framing=tally.framing, n_rows=n_rows, n_rejected=len(tally.rejected), sha256=tally.digest, started=tally.started))
    return tables


def _number_anew(associations, operations):
    """Nothing; associations of several programs are numbered in the order of the log."""
    ids = {"": ""} | {row["association_id"]: f"{row['source_file']}#{number}" for number, row in enumerate(associations, 1)}
    for row in (*associations, *operations):
        row["association_id"] = ids[row["association_id"]]


def _in_columns(rows, plain, place):
    """The columns of the rows and of tables that are in columns, in the order of the log."""
    columns = {name: [*map(dict.get, rows, itertools.repeat(name))] for name in OPERATIONS}
    for name, values in columns.items():
        for table in plain:
            values += table.get(name) or [None] * len(table["source_offset"])
    order = np.lexsort((columns["source_offset"], [place[file] for file in columns["source_file"]])) if plain else np.array([0])
    if (np.diff(order) < 0).any():
        columns = {name: [values[i] for i in order.tolist()] for name, values in columns.items()}
    return columns


def _read_file(log, file):
    blocks = Blocks(file)
    tally = SimpleNamespace(file=file, n_bytes=0, digest="", rejected=[], in_rows=0, framing=0, started=time.perf_counter())
    layout, problem, modified_at, tail = None, None, _modified_at(file), []
    for data in whole_lines(blocks):
        at, start = 0, tally.n_bytes
        tally.n_bytes += len(data)
        if not start:
            layout = find_layout(data) or find_slashed(log, data)
            problem = whole_file_problem(log, data, layout, modified_at)
            if log.tail and not problem and not (layout and layout.kind == "none"):
                if at := loglines.n_repeated(log.tail, data):
                    _count(tally, "DUPLICATE_LINE", 0, at)
        if not problem:
            _read_lines(log, tally, layout, data[at:], start + at, modified_at)
            tail = loglines.last_lines(tail, data)
    tally.digest = blocks.digest
    if problem or not (tally.n_bytes or blocks.rejected):
        tally.rejected.append(reject(file, 0, tally.n_bytes, *(problem or ("EMPTY_FILE", "0 bytes; ask for it again"))))
    elif tally.framing and not tally.in_rows:
        name = layout.name if layout else "syslog"
        tally.framing, tally.rejected = 0, [reject(file, 0, tally.n_bytes, "NO_ASSOCIATIONS", (
            f"a {name} log without any association; if the server was in use, set its log level to verbose and load again"))]
    log.tail, tally.rejected = tail, [*blocks.rejected, *tally.rejected]
    return tally


def _read_lines(log, tally, layout, data, offset, modified_at):
    """Nothing; reads and counts lines, of which only the last of a file may have no end."""
    ends = line_ends(data)
    offsets = np.append(0, ends)
    if len(ends):
        if layout is None:
            verdicts = _follow_enveloped(log, tally.file, offset, data, offsets, modified_at)
        else:
            stream = log.streams.get("")
            if stream is None or stream.layout is not layout:
                stream = _open_stream(log, layout, "", loglines.NO_ENVELOPE, modified_at)
            starts = offsets.copy()
            starts[0] = len("\ufeff".encode()) * data.startswith("\ufeff".encode())
            verdicts = _follow_lines(stream, tally.file, offset + starts, data, starts, noisy_lines(data, offsets), [loglines.NO_ENVELOPE] * len(ends))
        n_rows, n_framing, *_ = np.bincount(verdicts, np.diff(offsets), len(VERDICTS)).astype(int).tolist()
        tally.in_rows, tally.framing = tally.in_rows + n_rows, tally.framing + n_framing
        bad = np.flatnonzero(verdicts > 1)
        for run in np.split(bad, np.flatnonzero((np.diff(bad) > 1) | (np.diff(verdicts[bad]) != 0)) + 1) if len(bad) else []:
            _count(tally, VERDICTS[verdicts[run[0]]], offset + int(offsets[run[0]]), int(offsets[run[-1] + 1] - offsets[run[0]]))
    if (left := len(data) - int(offsets[-1])):
        _count(tally, "LINE_TOO_LONG" if left >= LONGEST_LINE else "PARTIAL_LINE", offset + int(offsets[-1]), left)


def _follow_lines(stream, file, places, data, starts, noise, outers):
    """The verdict of each line between `starts`, after following those that may say something. `places` are in the file, `outers` their envelopes."""
    layout, text = stream.layout, data.decode("latin-1")
    verdicts, is_looked_at, is_head, plain = sort_lines(layout, data, starts, stream.recent, noise)
    if stream.is_outer and stream.clock.kind == "no_year":
        is_looked_at |= is_head & np.array([True, *(a[1] != b[1] for a, b in itertools.pairwise(outers))])
    if len(plain):
        runs = [run[[0, -1]] for run in np.split(plain, np.flatnonzero(np.diff(plain) > 1) + 1)]
        layout.follow_plain(stream.record, file, places[plain].tolist(), "".join([text[starts[a]:starts[b + 1]] for a, b in runs]))
    looked_at = np.flatnonzero(is_looked_at)
    columns = (looked_at, places[looked_at], starts[looked_at], loglines.text_ends(data, starts)[looked_at], is_head[looked_at])
    told = _follow_each(stream, file, text, outers, np.cumsum(is_head), zip(*(column.tolist() for column in columns), strict=True))
    verdicts, stream.last = loglines.settle_verdicts(verdicts, looked_at, told, is_head, stream.last)
    return verdicts


def _follow_each(stream, file, text, outers, n_heads, lines):
    """{number: verdict} of those `(number, place in the file, start, end, whether it is in the layout)` that are no rows, "" for that of the line above."""
    layout, clock, record, is_outer, is_ascii = stream.layout, stream.clock, stream.record, stream.is_outer, text.isascii()
    told, above, instant, head = {}, -1, None, ""
    for number, place, start, end, is_known in lines:
        stamp, old_stamp, _, who, _ = outers[number]
        is_alike = head and is_known and text.startswith(head, start)
        if is_alike and (found := layout.event.match(text, start + len(head), end)).lastindex in layout.events:
            above = number
        else:
            found = is_known and layout.line.match(text, start, end)
            if found:
                above, head = number, text[start:found.end(layout.body)]
            else:
                if above < 0 or n_heads[number] != n_heads[above]:
                    record.asking.clear()
                head, (found, told[number]) = "", (None, "UNKNOWN_FORMAT") if is_known else _find_behind(stream, text[start:end])
                if not found:
                    continue
            head_stamp, head_who = layout.stamp and found[layout.stamp] or "", layout.who and found[layout.who]
        stamp = stamp or old_stamp if is_outer else head_stamp
        if stamp != clock.raw or not instant:
            see_stamp(clock, stamp)
            instant = stamp_instant(clock, stamp)
            if clock.is_back:
                mark_open(record, "TIME_GOES_BACK")
        handler, names = layout.events.get(found.lastindex, _SAYS_NOTHING)
        if handler is None:
            field, value = found.group(*names)
            record.dumps.setdefault(head_who or who, {})[field] = value if is_ascii else _as_utf8(value)
            continue
        fields = {name: value if is_ascii else _as_utf8(value) for group, name in names if (value := found[group])} if names else {}
        if handler(record, head_who or who, _moment((file, place, *instant)), fields) is False:
            told.setdefault(number, "framing")
    return told


def _as_utf8(latin):
    return latin.encode("latin-1").decode("utf-8", "replace")


def _modified_at(file):
    try:
        return datetime.fromtimestamp(os.stat(file).st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def _count(tally, verdict, offset, n):
    many = "from here on, in many places: " if len(tally.rejected) >= MOST_REJECTED else ""
    last = tally.rejected[-1] if tally.rejected else None
    if not last or last["code"] != verdict or last["source_offset"] + last["n_bytes"] != offset:
        last = next((r for r in reversed(tally.rejected) if r["code"] == verdict and r["reason"].startswith(many)), None) if many else None
        if last is None:
            last = reject(tally.file, offset, 0, verdict, many + REASONS[verdict])
            tally.rejected.append(last)
    last["n_bytes"] += n


def _follow_enveloped(log, file, offset, data, offsets, modified_at):
    """The verdict of each line that may be one of syslog or of a journal."""
    outers, programs, noise = loglines.open_envelopes(data, offsets), defaultdict(list), noisy_lines(data, offsets)
    verdicts = np.full(len(outers), VERDICTS.index("UNKNOWN_FORMAT"))
    for number in noise:
        outers[number] = loglines.NO_ENVELOPE
    for number, outer in enumerate(outers):
        if outer[0] or outer[1]:
            programs[outer[2]].append(number)
        elif not data[offsets[number]:offsets[number + 1]].decode("utf-8", "replace").removeprefix("\ufeff").strip():
            verdicts[number] = VERDICTS.index("framing")
    for program, numbers in programs.items():
        stream, n_other, texts = log.streams.get(program), 0, [outers[number][4] for number in numbers]
        if stream is None:
            layout, n_other = loglayouts.find_inner(texts)
            verdicts[numbers[:n_other]] = VERDICTS.index("OTHER_PROGRAM")
            if layout:
                stream = _open_stream(log, layout, program, outers[numbers[n_other]], modified_at)
        if numbers := numbers[n_other:]:
            starts = np.cumsum([0, *(len(text) + 1 for text in texts[n_other:])])
            verdicts[numbers] = _follow_lines(stream, file, offset + offsets[numbers], ("\n".join(texts[n_other:]) + "\n").encode("latin-1"), starts, [],
                                              [outers[number] for number in numbers])
    verdicts[noise] = VERDICTS.index("NOT_TEXT")
    return verdicts


def _open_stream(log, layout, program, outer, modified_at):
    kind, (stamp, old_stamp, _, pid, _) = layout.kind, outer
    if kind in ("none", "no_date") and (stamp or old_stamp):
        kind = "no_year" if old_stamp else "zoned" if "T" in stamp else "epoch"
    has_pid = layout.dialect is dcmtklog and bool(pid or layout.who)
    clock = new_clock(kind, log.zone, year=log.year, start_date=log.start_date, date_order=log.date_order, modified_at=modified_at)
    stream = SimpleNamespace(layout=layout, record=new_record(log.numbers, has_pid=has_pid), clock=clock, is_outer=kind != layout.kind,
                             last="UNKNOWN_FORMAT", recent={})
    if program in log.streams:
        log.streams[program, len(log.streams)] = log.streams[program]
    log.streams[program] = stream
    return stream


def _find_behind(stream, text):
    """`(what the layout finds behind dots or None, verdict)` of a line without prefix; the verdict is "" for that of the line above."""
    layout = stream.layout
    is_dots, rest = layout.dialect.follow_more(stream.record, text) if layout.more else (False, "")
    found = rest and layout.line.match(rest) or None
    if found and layout.kind in REPEATS_ARE_COPIES and find_repeats(stream.recent, [text.encode("latin-1")]):
        return None, "DUPLICATE_LINE"
    return found, "rows" if is_dots else "UNKNOWN_FORMAT" if _STAMPED.match(text) else ""
