"""Which layout a network log has, by its first lines, or why none."""

import re
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from ..site import DATE_ORDERS
from . import dcm4chelog, dcmtklog, orthanclog, pynetdicomlog, tsharklog
from .logclock import ISO_DATE, SLASHED_DATE
from .loglines import compile_layout, hits, holds, is_text, open_envelope

STRANGERS = tuple((reason, re.compile(pattern, re.M)) for reason, pattern in (
    ("HL7 messages; they are read by read_hl7_log", rb"^\W?MSH\|"),
    ("JSON that is no journal; answers of a DICOMweb service are read by read_headers", rb"\A\s*[\[{]"),
    ("XML; audit messages are read by read_audit_log", rb"\A\s*<"),
    ("UTF-16 text; save it as UTF-8 and read it again", rb"\A(?:\xff\xfe|\xfe\xff)"),
    ("a table with columns; lists of transfers are read by read_transfer_list", rb"\A\W?\s*[^\d\n\0-\x08]*?([,;\t|])(?:[^\d\n\0-\x08]*?\1){2}[^\d\n\0-\x08]*$"),
))
DIALECTS = (orthanclog, dcm4chelog, pynetdicomlog, dcmtklog, tsharklog)
LAYOUTS = tuple(compile_layout(dialect, *row) for dialect in DIALECTS for row in dialect.LAYOUTS)
_SLASHED = re.compile(rb"(?m)^\W?(\d{1,2})([/.])(\d{1,2})\2\d\d(?:\d\d)?,? \d\d:\d\d")


def find_layout(data):
    """The first of LAYOUTS that fits, or None. What comes before that of the first lines is looked for all at once, then one by one."""
    near = _first_layout(data[:data.rfind(b"\n", 0, 1 << 16) + 1], LAYOUTS)
    before = LAYOUTS[:LAYOUTS.index(near)] if near else LAYOUTS
    return before and holds(data, "|".join(f"(?:{x.signs[0]})" for x in before)) and _first_layout(data, before) or near


def find_inner(texts):
    """`(layout, how many lines come before the first in it)` of the lines of one program; `(None, all)` of one that is not known."""
    begins = "|".join(f"(?:{x.signs[0]})" for x in LAYOUTS)
    for number in np.flatnonzero(hits(pa.array([text.encode("latin-1") for text in texts], pa.binary()), begins)).tolist():
        text = texts[number]
        if layout := next((x for x in LAYOUTS if x.line.match(text) and all(holds(text.encode("latin-1"), sign) for sign in x.signs)), None):
            return layout, number
    return None, len(texts)


def _first_layout(data, layouts):
    return next((x for x in layouts if all(holds(data, sign) for sign in x.signs) and (x.kind != "none" or _is_mostly(x, data))), None)


def find_slashed(log, data):
    """A layout with dates such as 03/04/2026, whose order is given or told by the dates that have a number above 12 or dots; or None."""
    dates = {(int(first), mark, int(second)) for first, mark, second in _SLASHED.findall(data)}
    is_day, is_month = any(a > 12 or mark == b"." for a, mark, _ in dates), any(b > 12 for _, mark, b in dates if mark != b".")
    log.date_order = log.date_order or (DATE_ORDERS[is_month] if is_day != is_month else None)
    return _first_layout(data, _slashed_layouts()) if dates and log.date_order else None


@lru_cache(maxsize=1)
def _slashed_layouts():
    rows = [(dialect, row) for dialect in DIALECTS for row in dialect.LAYOUTS if ISO_DATE in row[2] and row[1] == "dated"]
    return tuple(compile_layout(dialect, *(cell.replace(ISO_DATE, SLASHED_DATE) for cell in row)) for dialect, row in rows)


def _is_mostly(layout, data):
    """Whether most of the first lines are in the layout: a single letter and a colon begin lines of many kinds of text."""
    lines = [line for line in data[:40_000].splitlines() if line.strip(b". \r\n")]
    fitting = sum(bool(layout.line.match(line.decode("latin-1"))) or line.startswith((b"RECV", b"XMIT")) for line in lines)
    return fitting * 2 >= len(lines)


def whole_file_problem(log, data, layout, modified_at):
    """`(code, reason)` why nothing of the file can be used, or None."""
    if layout and layout.kind == "no_date" and not log.start_date:
        day = modified_at.astimezone(ZoneInfo(log.zone)).date()
        return "NO_DATE", f"a {layout.name} log has times without date; give start_date, the day of its first line (last written {day})"
    if layout or any(map(open_envelope, data[:200_000].splitlines())):
        return None
    if stranger := next((reason for reason, pattern in STRANGERS if pattern.search(data[:200_000])), None):
        return "UNKNOWN_FORMAT", f"holds {stranger}; here belongs the log of a DICOM program"
    if _SLASHED.search(data[:4096]) and not log.date_order:
        return "DATE_AMBIGUOUS", f"dates such as 99/99/99 do not say which is the month; give date_order, '{DATE_ORDERS[0]}' or '{DATE_ORDERS[1]}', or let the program write YYYY-MM-DD"
    if not is_text(data[:4096]):
        return "NOT_TEXT", "a binary file, not a log; captures are read by read_capture, images by read_headers"
    first = next((line for line in data[:4096].splitlines() if line.strip()), b"")[:60].decode("utf-8", "replace")
    shape = re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", first))
    return "UNKNOWN_FORMAT", f"not the log of a DICOM program known here: lines look like '{shape}' (letters as a, digits as 9)"
