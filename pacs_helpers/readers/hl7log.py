"""HL7 v2 files and engine logs -> one row per order group of each message, and the account of every byte."""

import hashlib
import time
from collections import Counter, defaultdict
from typing import NamedTuple

import pandas as pd

from ..site import Site
from ..tables import MESSAGES, TableError, add_problem, conform
from .accession import fill_accession_numbers, measure_accession_fields
from .account import close_account, list_files, read_bytes, reject, run_over, source_row
from .hl7fields import decode_message, message_rows
from .hl7find import find_messages, read_stamp

REASONS = {
    "NOT_HL7": "no HL7 segment: the log's own words or lines of another kind; nothing to do if they are",
    "NOT_TEXT": "not text, so no HL7 v2 message; leave such files out of the folder",
    "NO_MSH": "no message starts in this file (expected MSH and its delimiters); ask for the raw messages or a log that holds them",
    "EMPTY_FILE": "0 bytes; ask for it again",
}


class HL7Log(NamedTuple):
    messages: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_hl7_log(path, *, site, executor=None):
    """HL7Log(messages, rejected, sources) of HL7 v2 messages wherever they stand in the files at `path`: a file, a folder or a list.

    Raw files (CR, LF, CRLF), MLLP captures, FHS/BHS batches, text logs with messages embedded, escaped or spelled `<SB> <R> <EB>`,
    .gz. One row per ORC/OBR group, one for a message without any; report text is not kept. Times without an offset are in
    `site.time_zone`. `accession_number` is from the field that measure_accession_fields finds, or `site.hl7_field`.
    """
    if not isinstance(site, Site):
        raise TableError(f"site: a Site is needed, not {type(site).__name__}; use Site.load('site.toml').")
    files, rejected = list_files(path)
    rows, sources, digests = [], [], []
    for found, keys, refused, source in run_over(read_file, [(file, site) for file in files], executor):
        rows += found
        digests += keys
        rejected += refused
        sources.append(source)
    _mark_repeats(rows, digests)
    rejected, sources = close_account(rejected, sources, unit="bytes")
    messages = conform(rows, MESSAGES)
    return HL7Log(fill_accession_numbers(messages, measure_accession_fields(messages, site)), rejected, sources)


def read_file(unit):
    """`(rows, digest of each row's message, rejected rows, source row)` of `(file, site)`."""
    file, site = unit
    started = time.perf_counter()
    data, digest, refused = read_bytes(file)
    data, n_bytes = _as_bytes(data or b"")
    scan = find_messages(data)
    if not scan.messages and data:
        scan.others, scan.n_framing = [[0, len(data), "NO_MSH"]], 0
    if not data and not refused:
        refused = [reject(file, 0, 0, "EMPTY_FILE", REASONS["EMPTY_FILE"])]
    refused += [reject(file, at, n, code, f"byte {at:,}: {REASONS[code]}") for at, n, code in scan.others]
    rows, digests = [], []
    for found in scan.messages:
        own = _rows_of(found, file, site)
        rows += own
        digests += [hashlib.sha256(b"\r".join(found.segments)).hexdigest()] * len(own)
    in_rows = sum(m.n_bytes for m in scan.messages)
    source = source_row(file, n_bytes=n_bytes, n_bytes_in_rows=in_rows, n_bytes_rejected=sum(n for _, n, _ in scan.others), n_bytes_framing=scan.n_framing,
                        n_rows=len(rows), n_rejected=len(refused), sha256=digest, started=started)
    return rows, digests, refused, source


def _as_bytes(data):
    """UTF-16 becomes UTF-8; offsets and sizes are then those of the UTF-8 text."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode("utf-8")
    return data, len(data)


def _rows_of(found, file, site):
    received, direction, peer = read_stamp(found.stamp, site.time_zone)
    lines, _, codes = decode_message(found.segments)
    rows = message_rows(lines, zone=site.time_zone, status=lambda word: site.status(word) if word else "", problems=[*found.problems, *codes])
    return [{**row, "received_at": received, "direction": direction, "peer": peer, "source_file": file, "source_offset": found.offset} for row in rows]


def _mark_repeats(rows, digests):
    """DUPLICATE_MESSAGE on the second and later sending of the same bytes, CONTROL_ID_REUSED on one MSH-10 with different ones."""
    contents, seen = defaultdict(set), Counter()
    key = [(r["sending_application"], r["sending_facility"], r["message_control_id"]) for r in rows]
    for k, digest in zip(key, digests):
        contents[k].add(digest)
    first = {}
    for row, k, digest in zip(rows, key, digests):
        place = (row["source_file"], row["source_offset"])
        seen[digest] += first.setdefault(digest, place) != place
        if first[digest] != place:
            row["problems"] = add_problem(row["problems"], "DUPLICATE_MESSAGE")
        if row["message_control_id"] and len(contents[k]) > 1:
            row["problems"] = add_problem(row["problems"], "CONTROL_ID_REUSED")
