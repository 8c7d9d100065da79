"""Where the HL7 v2 messages of a file are, and what every other byte of it is.

A message starts at `MSH` and its delimiters (HL7 v2 chapter 2.5.4), whatever stands before it on its line, and goes on over every
line that begins with a segment name and its own separator. Logs spell line ends and block bytes in their own ways; `SPELLINGS` in hl7text lists them.
"""

import re
from dataclasses import dataclass, field

from .hl7text import line_ends

ROW, FRAMING, GAP = "row", "framing", "gap"     # a GAP is framing that may lie inside a run of rejected lines

_BATCH = frozenset((b"FHS", b"BHS", b"BTS", b"FTS"))
_NOT_INSIDE = _BATCH | {b"MSH"}
_HEADER = re.compile(rb"MSH((?![\"'\\])[!-/:-@\[-`{-~])(?:(?!\1)(?:&amp;|[!-/:-@\[-`{-~]| (?=&))){1,8}\1")
_NAME = re.compile(rb"[A-Z][A-Z0-9]{2}")
_PART_OF_NAME = re.compile(rb"[A-Z][A-Z0-9]{0,2}\Z")
_START_OF_BLOCK = rb"\x0b|<(?:SB|VT)>|\\(?:v|x0[bB]|u000[bB])"
_LEADING = re.compile(rb"(?:[ \t\0]|\xef\xbb\xbf|" + _START_OF_BLOCK + rb")*")
_MARKS = re.compile(_LEADING.pattern + rb"\Z")
_BLOCK = re.compile(_START_OF_BLOCK)
_INDENT = re.compile(rb"(?:[ \t\0]|\xef\xbb\xbf)+")
_LOG_LINE = re.compile(rb"[\s<\[(]*(?:\d{4}[-/.]\d\d[-/.]\d\d[ T]\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d\d:\d\d:\d\d[.,]\d"
                       rb"|\d{1,3}>|(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL)\b|at [\w.$]+\(|Traceback \(|Caused by:)")
_AFTER_LOG_WORDS = re.compile(rb"[\s\]:>]([A-Z][A-Z0-9]{2})(?=[!-/:-@\[-`{-~])")
_XML = re.compile(rb"(?:<|&lt;)(?:\w+:)?([A-Z]{3}_[A-Z]\d\d|ACK|HL7Message)(?=[\s>]|&gt;)")       # the root of a message in XML encoding
_OPEN_TEXT = {b"OBX": 5, b"NTE": 3}             # the text fields that reports break with raw line ends
_MOST_FIELDS = {b"MSH": 7}      # an MSH that has reached MSH-9 is whole: a line that is no segment is not a part of it
_FEWEST_FIELDS = {b"MSH": 11, b"EVN": 99, b"PID": 8, b"OBR": 4, b"OBX": 11}


@dataclass(slots=True)
class Message:
    """One message: `segments` as bytes without line ends, `words` the log's words before it, `codes` problems of its place in the file."""

    offset: int
    separator: bytes
    words: bytes = b""
    segments: list = field(default_factory=list)
    codes: list = field(default_factory=list)
    quote: bytes = b""              # that the log put around it
    is_bytes_literal: bool = False
    is_escaped: bool = False        # backslashes doubled by the log
    is_entities: bool = False       # & written as &amp;
    has_log_prefix: bool = False
    has_start: bool = False         # MLLP start-of-block seen
    has_end: bool = False
    is_cut: bool = False            # the file ends in its last segment, without a line end
    looks_cut: bool = False         # and the end of the file came too early


def find_messages(data):
    """`(messages, spans)` of a file's bytes, as `walk_messages` finds them."""
    walk = walk_messages(data)
    return walk.messages, walk.spans


def walk_messages(data, *, ends=None, words=b"", is_block=False, n_before=0, is_last=True):
    """The walk over bytes of a file that begin and end where one of its messages does: the file or, unless `is_last`, a part that more follows.

    It has `messages`; `spans` `[start, end, what]` that tile the bytes: ROW, FRAMING, GAP, or the code of a rejected run; `batches`, the batch
    segments as `(place, name, count)`; and `words` and `is_block`, what was met since for the message after it, to be given with that.
    """
    walk = _Walk(data, words, is_block)
    start = 0
    for end in (ends or line_ends(data)).finditer(data):
        kind = end.lastgroup
        if kind != "neither":
            walk.line(start, end.start(), end.end(), kind)
            start = end.end()
    if start < len(data):
        walk.line(start, len(data), len(data), "cut")
    walk.finish(n_before, is_last)
    return walk


class _Walk:
    """Takes a file line by line; `spans` grows at its end only, so that no byte is left out or counted twice."""

    def __init__(self, data, words, is_block):
        self.data, self.spans, self.messages, self.batches = data, [], [], []
        self.now, self.pending = None, []       # the message still open, and lines after it that are not segments (yet)
        self.words, self.is_block, self.is_cut_record, self.quote = words, is_block, False, b""
        self.closed_at, self.end_of_xml = -1, None

    def put(self, start, stop, what):
        self._extend(start, GAP)
        self._extend(stop, what)

    def _extend(self, end, what):
        spans = self.spans
        start = spans[-1][1] if spans else 0
        if end <= start:
            return
        if spans and spans[-1][2] == what:
            spans[-1][1] = end
        elif what not in (ROW, FRAMING, GAP) and len(spans) > 1 and spans[-1][2] == GAP and spans[-2][2] == what:
            spans.pop()
            spans[-1][1] = end
        else:
            spans.append([start, end, what])

    def line(self, start, stop, end, kind):
        """Take the line `data[start:stop]`, ended by `data[stop:end]`: a line end (kind None), "close", "record", or "cut" by the end of the file."""
        content, now = self.data[start:stop], self.now
        if now and content[3:4] == now.separator and content[:3] not in _NOT_INSIDE and _NAME.match(content):
            self._segment(start, content)
        elif content:
            self._other(start, content)
        if kind is None:
            return
        if kind == "cut" and self.now and not self.pending:
            self.now.is_cut = True
        elif kind == "record":
            self.put(stop, end, FRAMING)
            self.words, self.is_cut_record = self.data[stop:end], self.now is not None
        elif kind == "close" and self.now:
            self._resolve(False)
            self.now.has_end, self.quote, self.closed_at, self.now = True, self.now.quote, end, None

    def _segment(self, start, content):
        """A segment of the open message, up to the quote that closes it or to a message glued to it."""
        if self.pending:
            self._resolve(True)
        now, stop = self.now, len(content)
        self.is_cut_record = False
        glued = _HEADER.search(content, 3) if content.find(b"MSH", 3) > 0 else None
        if glued and content[glued.start() - 1:glued.start()].isalnum():
            stop = glued.start()
        closing = _closing(content, now) if now.quote or now.is_entities else -1
        if 0 <= closing < stop:
            stop = closing
        self.put(start, start + stop, ROW)
        now.segments.append(content[:stop])
        if stop < len(content):
            self.now, rest = None, content[stop:]
            self._other(start + stop, rest) if _HEADER.search(rest) else self.put(start, start + len(content), FRAMING)

    def _other(self, start, content):
        """A line that is no plain segment of the open message."""
        now, stop = self.now, start + len(content)
        header = _HEADER.search(content)
        bare = content[_LEADING.match(content).end():]
        if not bare:
            self.is_block |= bool(_BLOCK.search(content))
            if self.pending:
                self.pending.append((start, b""))
        elif header:
            self._begin(start, content, header)
        elif self.quote and content.startswith(self.quote) or (now and now.quote and content.startswith(now.quote)):
            self._resolve(False)
            self.put(start, stop, FRAMING)
            self.now, self.quote = None, b""
        elif bare[:3] in _NOT_INSIDE and bare[3:4] in (b"|", self.messages[-1].separator if self.messages else b"|"):
            self._end_of_message(start, stop, bare)
        elif start == self.closed_at and self.messages and _NAME.match(content) and content[3:4] == self.messages[-1].separator:
            self.now = self.messages[-1]        # a stray end-of-block byte where a line end belongs
            self.now.has_end = False
            self.now.codes.append("MLLP_FRAME")
            self._segment(start, content)
        elif now and self._prefixed_segment(start, content):
            pass
        elif now and self.is_cut_record:
            now.segments[-1] += content
            self.put(start, stop, ROW)
            self.is_cut_record = False
        elif now and not _XML.search(content):
            self.pending.append((start, content))
        else:
            self._resolve(False)
            self.now = None
            self._reject(start, content)

    def _begin(self, start, content, header):
        self._resolve(False)
        prefix = content[:header.start()]
        marks = _MARKS.search(prefix[-200:]).group()
        text = prefix[:len(prefix) - len(marks)]
        delimiters = header.group()
        self.now = Message(start + header.start(), header.group(1), self.words + b" " + text, is_entities=b"&amp;" in delimiters, is_escaped=b"\\\\" in delimiters,
                           has_log_prefix=bool(text), has_start=self.is_block or bool(_BLOCK.search(marks)))
        if text[-1:] in (b"'", b'"'):
            self.now.quote, self.now.is_bytes_literal = text[-1:], text[-2:-1] in (b"b", b"B")
        if not text and marks.strip(b"\0\x0b\xef\xbb\xbf").startswith((b" ", b"\t")):
            self.now.codes.append("LINE_PREFIX")
        self.messages.append(self.now)
        self.words, self.is_block, self.quote, self.end_of_xml = b"", False, b"", None
        self.put(start, start + header.start(), FRAMING)
        self._segment(start + header.start(), content[header.start():])

    def _prefixed_segment(self, start, content):
        """Whether the line is a segment behind an indent or behind the log's words; if so, take it."""
        indent = _INDENT.match(content)
        at = indent.end() if indent else 0
        if not at and self.now.has_log_prefix and _LOG_LINE.match(content):
            found = _AFTER_LOG_WORDS.search(content)
            at = found.start(1) if found else 0
        if not at or not _NAME.match(content, at) or content[at + 3:at + 4] != self.now.separator or content[at:at + 3] in _NOT_INSIDE:
            return False
        self._resolve(True)
        self.put(start, start + at, FRAMING)
        self.now.codes.append("NUL_BYTES" if content[:at].strip(b"\0") == b"" else "LINE_PREFIX")
        self._segment(start + at, content[at:])
        return True

    def _end_of_message(self, start, stop, content):
        """A batch segment (chapter 2.10.3), or an MSH without delimiters: no message goes on over it."""
        self._resolve(False)
        self.now, name, count = None, content[:3], content[4:].split(content[3:4], 1)[0].strip()
        if name == b"MSH":
            return self.put(start, stop, "NO_MSH")
        self.put(start, stop, FRAMING)
        self.batches.append((start, name, count))

    def _reject(self, start, content):
        root = _XML.search(content)
        if root:
            self.end_of_xml = re.compile(rb"/(?:\w+:)?" + root[1] + rb"(?:>|&gt;)")
            self._extend(start, GAP)
            self.spans.append([start, start, "XML_ENCODED"])        # a run of its own for each message
        elif _LOG_LINE.match(content):
            self.end_of_xml = None
        is_segment = _NAME.match(content) and content[3:4] == b"|"
        self.put(start, start + len(content), "XML_ENCODED" if self.end_of_xml else "NO_MSH" if is_segment else "NOT_HL7")
        if self.end_of_xml and self.end_of_xml.search(content):
            self.end_of_xml = None
        self.words, self.is_block, self.quote = content, False, b""

    def _resolve(self, goes_on):
        """Decide about the pending lines: text that a raw line end broke off its field, or the log's own words.

        `goes_on` says that a segment of the same message follows. A broken field is the last one so far, so text after a
        complete OBX is not its text.
        """
        pending, self.pending = self.pending, []
        if not pending:
            return
        segments, separator = self.now.segments, self.now.separator
        name, parts, n_fields = segments[-1][:3], [segments[-1]], segments[-1].count(separator)
        n_kept, n_open, n_most = len(pending), _OPEN_TEXT.get(name, -1), _MOST_FIELDS.get(name, len(self.data))
        if not goes_on:
            blank = next((i for i, (_, text) in enumerate(pending) if not text), len(pending))
            n_kept = max([i + 1 for i, (_, text) in enumerate(pending) if separator in text], default=0)
            n_kept = max(n_kept, blank if n_fields <= n_open else 0)
            n_most = min(n_most, n_open) if name in _OPEN_TEXT else n_most
        for i, (start, text) in enumerate(pending):
            is_broken = i < n_kept and (n_fields <= n_open or separator in text and n_fields <= n_most)
            if text and is_broken and not _LOG_LINE.match(text):
                parts.append(text)
                n_fields += text.count(separator)
                self.now.codes.append("RAW_NEWLINE")
                self.put(start, start + len(text), ROW)
            elif text:
                self._reject(start, text)
        segments[-1] = b"\n".join(parts)
        if goes_on:
            self.words = b""

    def finish(self, n_before, is_last):
        fragment = None
        if is_last and self.pending and self.pending[-1][0] + len(self.pending[-1][1]) == len(self.data) and _PART_OF_NAME.match(self.pending[-1][1]) \
                and not b"MSH".startswith(self.pending[-1][1]):
            fragment = self.pending.pop()
        self._resolve(False)
        if fragment:
            self.put(fragment[0], len(self.data), ROW)
            self.now.segments.append(fragment[1])
            self.now.is_cut = True
        self.put(len(self.data), len(self.data), GAP)
        if is_last and self.now:
            self.now.looks_cut = _looks_cut(self.now, n_before + len(self.messages))


def _closing(content, message):
    """Where what the log put around a message closes, or -1. Only a log that doubles backslashes escapes quotes inside it too."""
    if message.is_entities:
        return content.find(b"<")
    if not message.is_escaped:
        return len(content) - 1 if content.endswith(message.quote) else -1
    end = re.match(rb"(?:[^\\" + message.quote + rb"]|\\.)*", content, re.S).end()
    return end if end < len(content) else -1


def _looks_cut(message, n_messages):
    """Whether the message that the end of the file leaves open is cut. Many single-message files have no line end, so there it takes more."""
    if message.quote:
        return True
    last, name = message.segments[-1], message.segments[-1][:3]
    is_short = len(last) < 4 or last.count(message.separator) < _FEWEST_FIELDS.get(name, 0)
    return message.is_cut and (n_messages > 1 or message.has_start or is_short)
