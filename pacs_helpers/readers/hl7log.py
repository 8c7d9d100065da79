"""HL7 v2 files and engine logs -> one row per order group of each message, and the account of every byte."""

import hashlib
import re
import time
from collections import defaultdict
from typing import NamedTuple

import pandas as pd

from ..site import Site
from ..tables import MESSAGES, TableError, add_problem, conform
from .accession import fill_accession_numbers, measure_accession_fields
from .account import close_account, list_files, read_bytes, reject, run_over, source_row
from .hl7fields import message_rows
from .hl7find import FRAMING, GAP, ROW, find_messages
from .hl7text import decode_message
from .times import parse_time

_REASONS = {
    "NOT_HL7": "no HL7 segment but the log's own words or text of another kind; nothing to do if that is what it is",
    "NO_MSH": "no MSH with its delimiters before it, so no message; ask the sender for whole messages",
}
_CAPTURES = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")    # pcap, pcapng
_UTF_16 = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"M\0S\0H\0", "utf-16-le"), (b"\0M\0S\0H", "utf-16-be"))
_STAMP = re.compile(rb"(\d{4})[-/.](\d\d)[-/.](\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?[ ]?(Z\b|[+-]\d\d:?\d\d\b)?")
_DIRECTIONS = re.compile(rb"(?P<in>\b(?:recv|received?|receiving|incoming|inbound)\b|^ ?> )|(?P<out>\b(?:send|sent|sending|outgoing|outbound)\b|^ ?< )", re.I)
_PEER = re.compile(rb"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?)(?![\d.])")


class HL7Log(NamedTuple):
    messages: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_hl7_log(path, *, site, executor=None):
    """HL7Log(messages, rejected, sources) of the HL7 v2 messages in the files at `path`: a file, a folder or a list.

    Raw files, MLLP captures, FHS/BHS batches, text logs with messages embedded in any common spelling, .gz, UTF-16. One row per ORC/OBR
    group, one for a message without any; report text is not kept. In `rejected` a run of the log's own lines is one row (NOT_HL7).
    Times without an offset are in `site.time_zone`; `received_at` is the log's stamp before the message. `accession_number` is from
    `site.hl7_field`, or from the field that measure_accession_fields finds. Rows are sorted by file and place.
    """
    if not isinstance(site, Site):
        raise TableError(f"site: a Site is needed, not {type(site).__name__}; use Site.load('site.toml').")
    files, rejected = list_files(path)
    rows, sources = [], []
    for found, refused, source in run_over(read_file, [(file, site) for file in sorted(files)], executor):
        rows += found
        rejected += refused
        sources.append(source)
    _mark_repeats(rows)
    rejected, sources = close_account(rejected, sources, unit="bytes")
    columns = {name: [row.get(name) for row in rows] for name in MESSAGES}
    messages = conform({name: pd.Series(values, dtype=MESSAGES[name][0]) for name, values in columns.items() if rows}, MESSAGES)
    return HL7Log(fill_accession_numbers(messages, measure_accession_fields(messages, site)), rejected, sources)


def read_file(unit):
    """`(rows, rejected rows, source row)` of `(file, site)`; each row has the digest of its message in `_digest`."""
    file, site = unit
    started = time.perf_counter()
    data, digest, refused = read_bytes(file)
    data = data or b""
    text, sizes = _as_utf8(data)
    messages, spans = ([], []) if data.startswith(_CAPTURES) else find_messages(text)
    if not messages:
        spans = []
        refused += _refuse_whole(file, data) if data or not refused else []
    for fault in refused if messages else ():
        code = fault["code"] if fault["code"] == "TRAILING_BYTES" else "" if messages[-1].has_end else "TRUNCATED"
        messages[-1].codes += [code] if code else []
    rows = [row for message in messages for row in _rows_of(message, file, site, text is not data, sizes)]
    counts = defaultdict(int)
    for start, end, what in spans:
        at, n = sizes(start), sizes(end) - sizes(start)
        counts[what if what in (ROW, FRAMING, GAP) else "rejected"] += n
        if what in _REASONS:
            refused.append(reject(file, at, n, what, f"byte {at:,}: {_REASONS[what]}"))
    source = source_row(file, n_bytes=len(data), n_bytes_in_rows=counts[ROW], n_bytes_rejected=counts["rejected"] if messages else len(data),
                        n_bytes_framing=counts[FRAMING] + counts[GAP], n_rows=len(rows), n_rejected=len(refused), sha256=digest, started=started)
    return rows, refused, source


def _refuse_whole(file, data):
    if not data:
        code, reason = "EMPTY_FILE", "0 bytes; ask for it again"
    elif data.startswith(_CAPTURES):
        code, reason = "NOT_TEXT", "a network capture, in which messages lie cut into packets; export its TCP streams as raw bytes and load those"
    else:
        code, reason = "NO_MSH", f"no MSH with its delimiters in {len(data):,} bytes; ask for the messages themselves or a log that holds them"
    return [reject(file, 0, len(data), code, reason)]


def _as_utf8(data):
    """`(text, sizes)`: the file as UTF-8 when it is UTF-16, and the function from a place in the text to the byte in the file."""
    coding = next((c for mark, c in _UTF_16 if data.startswith(mark)), None)
    if coding is None:
        return data, int
    text = data[:len(data) // 2 * 2].decode(coding, "surrogatepass").encode("utf-8", "surrogatepass")
    known = [0, 0]

    def size(place):
        if place < known[0]:
            known[:] = 0, 0
        known[1] += len(text[known[0]:place].decode("utf-8", "surrogatepass").encode(coding, "surrogatepass"))
        known[0] = place
        return len(data) if place == len(text) else known[1]

    return text, size


def _rows_of(message, file, site, is_utf8, sizes):
    segments, codes = decode_message(message, is_utf8=is_utf8)
    received_at, code, direction, peer = _read_words(message.words, site.time_zone)
    rows = message_rows(segments, [*codes, code] if code else codes, zone=site.time_zone, status=lambda word: site.status(word) if word else "")
    digest = hashlib.sha256("\r".join(segments).encode("utf-8", "surrogatepass")).digest()
    for row in rows:
        row.update(received_at=received_at, direction=direction, peer=peer, source_file=file, source_offset=sizes(message.offset), _digest=digest)
    return rows


def _read_words(words, zone):
    """`(instant, problem code, direction, peer)` of what a log says before a message; the words nearest to it count."""
    if not words.strip():
        return None, "", "", ""
    stamp, peer, way = (list(pattern.finditer(words))[-1:] for pattern in (_STAMP, _PEER, _DIRECTIONS))
    at, code = None, ""
    if stamp:
        *parts, fraction, offset = (g.decode() if g else "" for g in stamp[0].groups())
        at, _, code = parse_time("".join(parts) + (f".{fraction[:6]}" if fraction else "") + offset.replace(":", "").replace("Z", "+0000"), zone)
    return at, code, way[0].lastgroup if way else "", peer[0].group(1).decode() if peer else ""


def _mark_repeats(rows):
    """DUPLICATE_MESSAGE on the second and later copies of a message, CONTROL_ID_REUSED on messages that share sender and MSH-10 but nothing else."""
    contents, first = defaultdict(set), {}
    for row in rows:
        row["_sender"] = row["sending_application"], row["sending_facility"], row["message_control_id"]
        contents[row["_sender"]].add(row["_digest"])
    for row in rows:
        place = row["source_file"], row["source_offset"]
        if first.setdefault(row["_digest"], place) != place:
            row["problems"] = add_problem(row["problems"], "DUPLICATE_MESSAGE")
        if row["message_control_id"] and len(contents[row["_sender"]]) > 1:
            row["problems"] = add_problem(row["problems"], "CONTROL_ID_REUSED")
