"""Where the HL7 messages of a file are, and what every other byte is.

A message starts at `MSH` and its delimiters, at the start of a line or after what a log writes before it. Its bytes are those of its
segments; line ends, MLLP bytes, `<SB> <R> <EB>`, batch segments and the log's own words on a line of the message are framing.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from .times import local_to_utc, parse_time

MOST_OF_A_LINE = 32 << 20
_LINE = re.compile(rb"([^\r\n\x0b\x1c]*)(\r\n|[\r\n\x0b\x1c]|\Z)")
_START = re.compile(rb"MSH([^A-Za-z0-9\s\"'])([^A-Za-z0-9\s\"']{1,8}?)\1")
_SEGMENT = re.compile(rb"\s*([A-Z][A-Z0-9]{2})(?=[^A-Za-z0-9\s]|$)")
_BATCH = re.compile(rb"\s*(FHS|BHS|BTS|FTS)(?=[^A-Za-z0-9\s])")
_MARKS = re.compile(rb"<(?:SB|EB|R|CR|VT|FS)>")
_ONLY_MARKS = re.compile(rb"(?:\s|\x00|\\v|<(?:SB|EB|R|CR|VT|FS)>|\xef\xbb\xbf)*\Z")
_STAMP = re.compile(rb"(\d{4})[-/.](\d\d)[-/.](\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?")
_CHATTER = re.compile(rb"\s*(?:[<>\[(]?\s?\d{4}[-/.]\d\d[-/.]\d\d[ T]|[<>] \d|[A-Z][a-z]{2} [ \d]\d \d\d:|\d\d:\d\d:\d\d|(?:DEBUG|INFO|WARN|ERROR|TRACE)\b)")
_PEER = re.compile(rb"\b(\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?)\b")
_IN, _OUT = re.compile(rb"\b(?:RECV|RECEIVED?|INBOUND|IN|READ)\b|^\s*> ", re.I), re.compile(rb"\b(?:SEND|SENT|OUTBOUND|OUT|WROTE|ACK SENT)\b|^\s*< ", re.I)
_ESCAPED = re.compile(rb"\\(?:r\\n|[rn])(?=[A-Z][A-Z0-9]{2}[^A-Za-z0-9\s])|\\u000[dD](?=[A-Z])|\\x0[dD](?=[A-Z])")
_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.S)
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"v": b"\x0b", b"f": b"\x0c", b"b": b"\x08"}


@dataclass
class Found:
    """One message: its segments as bytes, where it starts, its length, its doubts, and what the log said before it."""

    offset: int
    segments: list
    n_bytes: int
    stamp: bytes = b""
    problems: list = field(default_factory=list)
    is_closed: bool = False


@dataclass
class Scan:
    """What a file holds: messages, runs of other bytes `(offset, length, code)`, framing, batch counts said and seen."""

    messages: list = field(default_factory=list)
    others: list = field(default_factory=list)
    n_framing: int = 0
    is_framed: bool = False
    batch_start: int = 0

    def reject(self, offset, length, code):
        last = self.others[-1] if self.others else None
        if last and last[2] == code and not self.messages_after(last[0]):
            last[1] = offset + length - last[0]
            return
        self.others.append([offset, length, code])

    def messages_after(self, offset):
        return bool(self.messages) and self.messages[-1].offset > offset


def find_messages(data):
    """The Scan of a file's bytes. Framing between two lines of one rejected run is counted with the run."""
    scan, now, stamp = Scan(), None, b""
    for line in _LINE.finditer(data):
        if line.start() == line.end():
            break
        text, end = line.group(1), line.group(2)
        ends_frame = end == b"\x1c" or b"<EB>" in text
        scan.is_framed |= ends_frame or end == b"\x0b" or b"<SB>" in text
        before = now
        now, stamp = _take_line(scan, now, stamp, text, line.start())
        scan.n_framing += len(end)
        if ends_frame and (now or before):
            (now or before).is_closed, now = True, None
    _close_open_end(scan, data)
    _merge_runs(scan, data)
    return scan


def _take_line(scan, now, stamp, text, at):
    """`(message still open, latest log words)` after one line."""
    if _ONLY_MARKS.match(text):
        scan.n_framing += len(text)
        return (None if b"<EB>" in text or b"<SB>" in text else now), stamp
    start = _START.search(text)
    if start and _starts_here(text, start, now):
        return _take_start(scan, text, start, at, stamp)
    batch = _BATCH.match(text)
    if batch:
        _take_batch(scan, text, batch)
        return None, b""
    if now:
        segment = _SEGMENT.match(text) or (now.stamp and _CHATTER.match(text) and _after_prefix(text))
        if segment:
            return _take_segment(scan, now, text, segment), stamp
        if not _CHATTER.match(text) and (scan.is_framed or now.segments[-1][:3] in (b"OBX", b"NTE")):
            return _take_broken(scan, now, text), stamp
    scan.reject(at, len(text), "NOT_HL7" if _is_text(text) else "NOT_TEXT")
    return None, text[:300] if _STAMP.search(text[:300]) else stamp


def _starts_here(text, start, now):
    """False for an MSH that stands inside a value of another segment."""
    before = _MARKS.sub(b"", text[:start.start()]).lstrip(b"\xef\xbb\xbf\x00 \t")
    return not now or not before or not _SEGMENT.match(before) or bool(_CHATTER.match(before))


def _take_start(scan, text, start, at, stamp):
    prefix, body = text[:start.start()], text[start.start():]
    own = prefix if _STAMP.search(prefix) else stamp
    scan.n_framing += len(prefix)
    if _ESCAPED.search(body):
        return None, _take_escaped(scan, prefix, body, at + start.start(), own)
    message = Found(at + start.start(), [_MARKS.sub(b"", body)], len(body), own)
    if prefix.strip() and not _MARKS.search(prefix) and not _STAMP.search(prefix) and prefix.strip(b"\xef\xbb\xbf\x00 \t"):
        message.problems.append("LINE_PREFIX")
    scan.messages.append(message)
    return message, b""


def _take_segment(scan, now, text, segment):
    if segment.start(1):
        now.problems.append("LINE_PREFIX")
    now.segments.append(_MARKS.sub(b"", text[segment.start(1):]).rstrip())
    now.n_bytes += len(text)
    return None if b"<EB>" in text else now


def _after_prefix(text):
    return next((m for m in re.finditer(rb"(?<=[\s\]:|])([A-Z][A-Z0-9]{2})(?=\|)", text[:200])), None)


def _take_broken(scan, now, text):
    now.segments[-1] += b"\n" + _MARKS.sub(b"", text)
    now.n_bytes += len(text)
    now.problems.append("RAW_NEWLINE")
    return now


def _take_batch(scan, text, batch):
    """A batch segment is framing; a trailer's count is held against the messages since the last header (BTS-1)."""
    scan.n_framing += len(text)
    name, parts = batch.group(1), text.strip().split(text.strip()[3:4])
    since = scan.batch_start
    if name == b"BHS":
        scan.batch_start = len(scan.messages)
    elif name == b"BTS" and len(parts) > 1 and parts[1].strip().isdigit() and int(parts[1]) != len(scan.messages) - since:
        for message in scan.messages[since:]:
            message.problems.append("BATCH_COUNT")


def _take_escaped(scan, prefix, body, at, stamp):
    """Messages written into one line with their line ends spelled out; the log words after the last one."""
    quote = prefix[-1:] if prefix[-1:] in (b"'", b'"') else b""
    stop = re.match(rb"(?:[^\\" + quote + rb"]|\\.)*", body, re.S).end() if quote else len(body)
    inner, rest = body[:stop], body[stop:]
    raw = re.split(rb"(\\r\\n|\\[rn]|\\u000[dD]|\\x0[dD])", inner)
    segments, used = [], 0
    for piece, end in zip(raw[::2], [*raw[1::2], b""]):
        if piece and not _SEGMENT.match(piece):
            break
        if piece:
            segments.append(_plain(piece))
        used += len(piece) + len(end)
    rest = inner[used:] + rest
    if not quote and re.match(rb"[<>] \d{4}/", rest) and segments[-1].endswith(b"."):
        segments[-1] = segments[-1][:-1]        # the dump shows the end-of-block byte 0x1C as a dot
    scan.messages.append(Found(at, segments, used, stamp, is_closed=True))
    again = _START.search(rest)
    if again:
        scan.n_framing += again.start()
        return _take_escaped(scan, rest[:again.start()] or prefix, rest[again.start():], at + len(body) - len(rest) + again.start(), stamp)
    scan.n_framing += len(rest)
    return rest[:300] if _STAMP.search(rest[:300]) else b""


def _plain(text):
    def one(found):
        wide, narrow, letter = found.groups()
        if wide:
            return chr(int(wide, 16)).encode("utf-8", "replace")
        return bytes([int(narrow, 16)]) if narrow else _LETTERS.get(letter, letter)

    return _ESCAPE.sub(one, text)


def _is_text(text):
    return sum(b < 9 or 13 < b < 32 and b != 27 for b in text[:2000]) * 20 <= len(text[:2000])


def _close_open_end(scan, data):
    if not scan.messages:
        return
    last = scan.messages[-1]
    for message in scan.messages:
        # Without the end-of-block byte, what follows a frame's start may be half a message.
        if scan.is_framed and not message.is_closed:
            message.problems.append("MLLP_FRAME")
    if not last.is_closed and data[-1:] not in b"\r\n" and (scan.is_framed or len(last.segments) < 3):
        last.problems.append("TRUNCATED")


def _merge_runs(scan, data):
    """Line ends inside one run of rejected lines were counted as framing: they belong to the run now."""
    for run in scan.others:
        piece = data[run[0]:run[0] + run[1]]
        inside = sum(len(line.group(2)) for line in _LINE.finditer(piece) if line.end() < len(piece))
        blank = sum(len(line.group(1)) for line in _LINE.finditer(piece) if line.group(1) and _ONLY_MARKS.match(line.group(1)))
        scan.n_framing -= inside + blank


def read_stamp(text, zone):
    """`(instant or None, direction, peer)` that a log wrote before a message."""
    found = _STAMP.search(text)
    at = None
    if found:
        *parts, fraction, offset = found.groups()
        parts = [int(p) for p in parts]
        try:
            local = datetime(*parts, int((fraction or b"0")[:6].ljust(6, b"0")))
        except ValueError:
            local = None
        if local and offset:
            sign = offset.decode().replace(":", "").replace("Z", "+0000")
            at = parse_time(local.strftime("%Y%m%d%H%M%S.%f") + sign, zone)[0]
        elif local:
            at = local_to_utc(local, zone)[0]
    direction = "in" if _IN.search(text) else "out" if _OUT.search(text) else ""
    peer = _PEER.search(text)
    return at, direction, peer.group(1).decode() if peer else ""
