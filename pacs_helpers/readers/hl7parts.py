"""Parts of HL7 v2 files -> columns of MESSAGES and the account of every byte; files and byte ranges are read block by block."""

import hashlib
import os
import re
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from ..tables import INSTANT, MESSAGES, TEXT
from .account import Blocks, read_bytes, reject
from .hl7bulk import empty_texts, plain_columns
from .hl7fields import message_rows
from .hl7find import FRAMING, GAP, ROW, walk_messages
from .hl7lines import PAD, START, find_plain
from .hl7text import PLAIN_ENDS, UTF_16, as_utf8, decode_message
from .hl7times import MISSING
from .times import parse_time

CAPTURES = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")    # pcap, pcapng
CHUNK_BYTES = 1 << 22
RANGE_BYTES = 1 << 24       # a longer file is read in several parts
FEWEST = 20                 # plain messages in a chunk that are worth columns of their own
HERE = [c for c in MESSAGES if c not in ("source_file", "accession_number")] + ["_found", "_digest", "_stop", "_is_half"]
REASONS = {
    "NOT_HL7": "no HL7 segment but the log's own words or text of another kind; nothing to do if that is what it is",
    "NO_MSH": "no MSH with its delimiters before it, so no message; ask the sender for whole messages",
    "XML_ENCODED": "an HL7 v2 message in XML encoding; ask the engine for the same messages in ER7 (pipe) encoding",
}
_STAMP = re.compile(rb"(\d{4})[-/.](\d\d)[-/.](\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?[ ]?(Z\b|[+-]\d\d:?\d\d\b)?")
_DIRECTIONS = re.compile(rb"(?P<in>\b(?:recv|received?|receiving|incoming|inbound)\b|^ ?> )|(?P<out>\b(?:send|sent|sending|outgoing|outbound)\b|^ ?< )", re.I)
_PEER = re.compile(rb"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?)(?![\d.])")
_ENDS = re.compile(rb"[\r\n]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _OtherSpelling(Exception):
    """The file ends its lines in a way that only the whole of it tells."""


def parts_of(file, site):
    """Work units `(file, site, start, stop)` of a file: one without `stop`, or the ranges of a long one and, without a site, one for its digest."""
    size = os.path.getsize(file) if os.path.isfile(file) else 0
    cuts = [0, *filter(None, (_cut_near(file, at) for at in range(RANGE_BYTES, size - RANGE_BYTES // 2, RANGE_BYTES))), size]
    if len(cuts) < 3:
        return [(file, site, 0, None)]
    return [(file, None, 0, size), *((file, site, start, stop) for start, stop in zip(cuts, cuts[1:]))]


def _cut_near(file, place):
    """Where soon after `place` a plain message begins that owes nothing to what comes before it; 0 when that is hard to tell."""
    data = b"".join(Blocks(file, place, place + (1 << 18))) + PAD
    plain = None if data.startswith(b"\x1f\x8b") else find_plain(data)
    clean = np.flatnonzero(~plain.is_slow[1:-1]) if plain else ()      # the first may begin inside a line of the window
    return place + int(plain.places[clean[0] + 2]) if len(clean) else 0


def read_part(unit):
    """What a unit of `parts_of` holds: `columns` with HERE, and what the account of its file needs.

    `is_foreign` when a range ends lines in a way that takes the whole file to tell.
    """
    file, site, start, stop = unit
    part = _new_part(file, site, n_before=int(start > 0))
    started = time.perf_counter()
    np.empty(31 << 20, np.uint8)        # once let go of, glibc keeps what is freed for the next chunk and does not hand it back each time
    blocks = Blocks(file, start, stop, is_hashed=stop is None or site is None)
    try:
        if site is None:
            part.n_bytes = sum(map(len, blocks))
        else:
            _read_blocks(part, blocks, start)
        part.digest, part.faults = blocks.digest, blocks.rejected
    except _OtherSpelling:
        part.is_foreign = stop is not None
        if not part.is_foreign:
            part = _new_part(file, site)
            _read_whole(part)
    _pack(part)
    part.seconds = time.perf_counter() - started
    return part


def _pack(part):
    """Nothing; packs the texts of a part into one run of bytes, which leaves no gaps in memory and is handed over as it is. Columns without any are left out: there are many."""
    whole = {name: pa.concat_arrays(pieces) if isinstance(pieces[0], pa.Array) else np.concatenate(pieces) for name, pieces in part.columns.items() if pieces}
    texts = {name: column.cast(pa.large_string()) for name, column in whole.items() if isinstance(column, pa.Array)}
    packed = pa.record_batch({name: column for name, column in texts.items() if column.buffers()[2].size})
    part.columns, part.schema, part.texts = {name: column for name, column in whole.items() if name not in texts}, packed.schema, packed.serialize().to_pybytes()


def unpack(part):
    """The columns of a part that read_part gave, with HERE."""
    nothing = empty_texts(len(part.columns["source_offset"]))
    batch = pa.ipc.read_record_batch(part.texts, part.schema)
    return {**dict.fromkeys(HERE, nothing), **part.columns, **dict(zip(part.schema.names, batch.columns))}


def _new_part(file, site, n_before=0):
    return SimpleNamespace(file=file, site=site, columns={name: [] for name in HERE}, rows=[], n_before=n_before, counts=Counter(), rejected=[], batches=[], n_bytes=0,
                           head=b"", has_end=False, looks_cut=False, is_foreign=False, digest="", faults=[])


def _read_blocks(part, blocks, start):
    held, words, is_block, enough = [], b"", False, CHUNK_BYTES
    for block in blocks:
        if not held and not part.n_bytes and not start:
            part.head = block[:8]
            if part.head.startswith((*CAPTURES, *(mark for mark, _ in UTF_16))):
                raise _OtherSpelling
        held.append(block)
        if sum(map(len, held)) < enough:
            continue
        cut = _last_start(held[-1])
        if not cut:
            held = [b"".join(held)]
            cut = _last_start(held[0])
        enough = CHUNK_BYTES if cut else 2 * len(held[0])      # without a place to cut, do not look at the same bytes for ever
        if cut:
            last = held.pop()
            words, is_block = _read_chunk(part, b"".join([*held, memoryview(last)[:cut], PAD]), start, words, is_block, is_last=False)
            held = [last[cut:]]
    if held:
        _read_chunk(part, b"".join([*held, PAD]), start, words, is_block, is_last=True)


def _last_start(data):
    """Where the last plain message begins; 0 when that is not within `data`."""
    at = len(data)
    while (at := data.rfind(START, 0, at)) > 0:
        place = at - (data[at - 1] == 11)
        if place and data[place - 1] in b"\r\n\x1c":
            return place
    return 0


def _read_chunk(part, data, start, words, is_block, *, is_last):
    """Read a chunk that begins where `part` ends; what was met since the last message in it, for the one after it."""
    place, plain = start + part.n_bytes, find_plain(data)
    if plain is None:
        raise _OtherSpelling
    n, bounds = len(plain.places), np.append(plain.places, len(data) - len(PAD)).tolist()
    part.n_bytes += bounds[-1]
    if n < FEWEST:
        words, is_block = _walk(part, data[:bounds[-1]], place, words, is_block, is_last)
        _add_columns(part, None)
        return words, is_block
    plain.is_slow[-1] |= is_last
    part.n_before += n - 1
    if bounds[0]:
        words, is_block = _walk(part, data[:bounds[0]], place, words, is_block, False)
    walked, at = np.zeros(n, bool), 0
    while at < n:
        plain.is_slow[at] |= bool(words.strip()) or is_block
        slow = np.flatnonzero(plain.is_slow[at:])
        if not len(slow):
            break
        first = at + slow[0]
        at = first + int(np.argmin(np.append(plain.is_slow[first:], False)))
        walked[first:at] = True
        words, is_block = _walk(part, data[bounds[first]:bounds[at]], place + bounds[first], words, is_block, is_last and at == n)
    columns = plain_columns(plain, part.site, place) if not plain.is_slow.all() else None
    for m in np.flatnonzero(plain.is_slow & ~walked).tolist():
        _walk(part, data[bounds[m]:bounds[m + 1]], place + bounds[m], b"", False, False)
    is_fast = ~plain.is_slow
    n_in_rows = int((plain.ends - plain.starts)[is_fast[plain.of]].sum())
    part.counts += Counter({ROW: n_in_rows, FRAMING: int((plain.stops - plain.places)[is_fast].sum()) - n_in_rows})
    part.n_before += 1
    _add_columns(part, columns)
    return words, is_block


def _walk(part, data, place, words, is_block, is_last):
    """Read bytes at `place` of the file message by message; the words and start byte that lie behind the last one."""
    walk = walk_messages(data, ends=PLAIN_ENDS, words=words, is_block=is_block, n_before=part.n_before, is_last=is_last)
    _add_walk(part, walk, lambda at: place + at, is_last=is_last)
    return walk.words, walk.is_block


def _add_walk(part, walk, place, *, is_utf8=False, is_last=True):
    part.rows += [row for message in walk.messages for row in rows_of(message, part.site, is_utf8, place)]
    part.batches += [(place(at), name, count) for at, name, count in walk.batches]
    part.n_before += len(walk.messages)
    if walk.messages and is_last:
        part.has_end, part.looks_cut = walk.messages[-1].has_end, walk.messages[-1].looks_cut
    for start, end, what in walk.spans:
        at, n = place(start), place(end) - place(start)
        part.counts[what if what in (ROW, FRAMING, GAP) else "rejected"] += n
        if what in REASONS:
            part.rejected.append(reject(part.file, at, n, what, f"byte {at:,}: {REASONS[what]}"))


def _add_columns(part, columns):
    """Add the columns of a chunk's plain messages and the rows of the others, in the order of the file."""
    rows, part.rows = part.rows, []
    both = [columns] if columns else []
    if rows:
        both.append({name: _column(name, [row.get(name) for row in rows]) for name in HERE})
    order = np.argsort(np.concatenate([c["source_offset"] for c in both]), kind="stable") if len(both) > 1 else None
    for name in HERE if both else ():
        pieces = [c[name] for c in both]
        whole = pieces[0] if order is None else pa.concat_arrays(pieces).take(pa.array(order)) if isinstance(pieces[0], pa.Array) else np.concatenate(pieces)[order]
        part.columns[name].append(whole)


def _column(name, values):
    kind = MESSAGES[name][0] if name in MESSAGES else TEXT
    if kind == TEXT and name not in ("_stop", "_is_half"):
        return pa.array([v or "" for v in values], pa.string())
    if kind == INSTANT:
        return np.array([MISSING if v is None else (v - _EPOCH) // timedelta(microseconds=1) for v in values], np.int64)
    return np.array(values, bool if name == "_is_half" else np.int64)


def _read_whole(part):
    data, part.digest, part.faults = read_bytes(part.file)
    data = data or b""
    text, place = as_utf8(data)
    part.n_bytes, part.head = len(data), data[:8]
    if not data.startswith(CAPTURES):
        _add_walk(part, walk_messages(text), place, is_utf8=text is not data)
    _add_columns(part, None)


def rows_of(message, site, is_utf8, place):
    """The rows of a found message with `_digest`, `_found` (problems of its place in the file) and `_is_half` (one end of its frame is missing).

    `place` gives the byte of the file for a byte of what was walked; `is_utf8` as for decode_message.
    """
    segments, codes = decode_message(message, is_utf8=is_utf8)
    received_at, code, direction, peer = _read_words(message.words, site.time_zone)
    rows = message_rows(segments, [*codes, code] if code else codes, zone=site.time_zone, status=lambda word: site.status(word) if word else "")
    digest = hashlib.sha256("\r".join(segments).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    for row in rows:
        row.update(received_at=received_at, direction=direction, peer=peer, source_offset=place(message.offset), _digest=digest, _stop=0,
                   _found=" ".join(message.codes), _is_half=message.has_start != message.has_end)
    return rows


def digest_of(raw):
    """The `_digest` of a plain message, of its bytes with or without its frame."""
    raw = raw.strip(b"\r\n\x0b\x1c")
    return hashlib.sha256(_ENDS.sub(b"\r", raw) if b"\n" in raw or b"\r\r" in raw else raw).hexdigest()[:32]


def read_frames(frames, site):
    """`(columns, faults)` of MLLP frames `(bytes, place, microseconds since 1970, peer)`: columns with HERE and `_is_first`, `(number, code)` of each frame without a message."""
    raw, places, instants, peers = zip(*frames, strict=True)
    part, plain, columns, starts = _new_part("", site), find_plain(b"".join([*raw, PAD])), None, np.cumsum([0, *map(len, raw)])
    is_read = np.zeros(len(raw), bool)

    def number_at(at):
        return np.searchsorted(starts, at, "right") - 1

    if plain is not None and len(plain.places):
        holders = number_at(plain.places)
        plain.is_slow |= (plain.places != starts[holders]) | (plain.stops != starts[holders + 1]) | ~plain.has_end
        if not plain.is_slow.all():
            columns = plain_columns(plain, site, 0)
            columns["_digest"] = pa.array([digest_of(raw[i]) for i in number_at(columns["source_offset"]).tolist()], pa.string())
            is_read[holders[~plain.is_slow]] = True
    faults = []
    for i in np.flatnonzero(~is_read).tolist():
        walk = walk_messages(raw[i])
        for message in walk.messages:
            message.codes += ["MLLP_FRAME"] * (message.has_start != message.has_end) + ["TRUNCATED"] * message.looks_cut
        _add_walk(part, walk, lambda at, place=starts[i]: place + at)
        faults += [] if walk.messages else [(i, what) for _, _, what in walk.spans if what in REASONS][:1]
    _add_columns(part, columns)
    columns = {name: pieces[0] for name, pieces in part.columns.items() if pieces}
    if columns:
        at = columns["source_offset"]
        number = number_at(at)
        columns |= {"_is_first": np.append(True, at[1:] != at[:-1]), "source_offset": np.array(places)[number], "received_at": np.array(instants)[number],
                    "peer": pa.array(peers, pa.string()).take(pa.array(number))}
    return columns, faults


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
