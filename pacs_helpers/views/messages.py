"""One HL7 message, field by field with the names of the standard: to explore a feed and to learn it."""

from functools import cache
from importlib.resources import files

import hl7
import pandas as pd

from ..readers.account import read_bytes
from ..readers.hl7find import find_messages
from ..readers.hl7parts import CAPTURES, as_utf8
from ..readers.hl7text import decode_message
from ..tables import TableError

LONGEST = 1_000     # characters shown of one value
BEFORE, AFTER = 1 << 16, 1 << 23    # bytes around a message: its log line's beginning, and the longest that is shown


@cache
def _field_names():
    lines = files(__package__).joinpath("hl7_fields.txt").read_text(encoding="utf-8").splitlines()
    return {line[:3]: line.split("|")[1:] for line in lines}


def explore_message(row):
    """DataFrame(segment, field, name, value) of the whole message that `row`, one of a messages table, was read from; one row per filled field.

    `field` is such as OBR-25, `name` that of HL7 v2.5.1, empty for what it does not name. Values are as sent, report text among them, the first
    1,000 characters: the file is read again, and TableError says when the message is no longer there. Messages of captures lie cut into packets.
    """
    if not isinstance(row, pd.Series) or "source_offset" not in row:
        raise TableError(f"row: one row of a messages table is needed, not {type(row).__name__}; take one with messages.iloc[0].")
    file, offset = row["source_file"], int(row["source_offset"])
    data = read_bytes(file)[0] or b""
    if data.startswith(CAPTURES):
        raise TableError(f"row: {file} is a capture, where messages lie cut into packets; export the conversation as a file of bytes and read that with read_hl7_log.")
    text, size_of = as_utf8(data)
    start = max(text.rfind(b"\n", max(offset - BEFORE, 0), offset), offset - BEFORE, 0) if size_of is int else 0
    messages = find_messages(text[start:offset + AFTER] if size_of is int else text)[0]
    found = next((m for m in messages if size_of(start + m.offset) == offset), None)
    if found is None:
        raise TableError(f"row: no message at byte {offset:,} of {file} any more; load the file again.")
    segments = decode_message(found, is_utf8=size_of is not int)[0]
    rows = [_field_row(number, segment, at) for number, segment in enumerate(hl7.parse("\r".join(segments)), 1) for at in range(1, len(segment))]
    return pd.DataFrame([r for r in rows if r["value"]], columns=["segment", "field", "name", "value"])


def _field_row(number, segment, at):
    kind, names = str(segment[0]), _field_names().get(str(segment[0]), [])
    return {"segment": number, "field": f"{kind}-{at}", "name": names[at - 1] if at <= len(names) else "", "value": _shown(str(segment[at]))}


def _shown(value):
    return value if len(value) <= LONGEST else f"{value[:LONGEST]} ... ({len(value):,} characters)"
