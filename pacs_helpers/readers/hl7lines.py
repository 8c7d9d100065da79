"""Where lines and plain messages lie in a block of an HL7 v2 file: all at once, as numpy offsets.

A plain message begins a line with `MSH|^~\\&|` (MLLP's start byte may precede it), and what follows up to the next is its segments, line ends
and MLLP's end byte. Whatever is not, or is spelled in a way that takes judgment, is marked for `find_messages` and `message_rows`.
"""

import re
from functools import lru_cache, reduce
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from .hl7text import SPELLINGS, Delimiters

START = b"MSH|^~\\&|"
TAIL = b"|" * 64 + b"\r" * 64      # behind the wanted segments of a block, so that fields past the end of the last are there and empty
PAD = bytes(32) + TAIL + bytes(32)      # behind each block, so that eight bytes can be read from any place
MARKS = Delimiters(START.decode())
_FOREIGN = [re.compile(how[0]) for how in SPELLINGS[1:]]
_KEEP = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)       # the first n of eight bytes
_START_8 = int.from_bytes(START[:8], "little")
_ENDS, _FIRST, _REST, _ESCAPES, _CONTROLS = (np.isin(np.arange(256), list(some)) for some in (
    b"\r\n\x1c", range(65, 91), [*range(65, 91), *range(48, 58)], b"FSTREHNP", [*(n for n in range(32) if n not in b"\t\n\x0b\r\x1c"), 127]))


def code(name):
    """A segment's name and the separator after it, as one number."""
    return int.from_bytes(name.encode() + b"|", "little")


_NOT_INSIDE = [code(name) for name in ("FHS", "BHS", "BTS", "FTS", "MSH")]


def words_of(data, size=8):
    """The `size` bytes from each place of `data` on, as numbers."""
    return np.ndarray(len(data) - size + 1, f"<u{size}", data, strides=(1,))


def hashes_of(texts):
    """64 bits of each text of a column: the same for the same text, and hardly ever for another."""
    whole = pa.table({"": texts})[0].cast(pa.large_string())
    hashes = np.zeros(len(whole), np.uint64)
    for first in range(0, len(whole), 1 << 16):
        part = pa.concat_arrays(whole.slice(first, 1 << 16).chunks)
        ends, mine = np.frombuffer(part.buffers()[1], np.int64)[part.offset:][:len(part) + 1], hashes[first:first + len(part)]
        words, left, at = words_of(bytes(part.buffers()[2][ends[0]:ends[-1]]) + PAD), np.diff(ends), ends[:-1] - ends[0]
        while len(rows := np.flatnonzero(left > 0)):
            mixed = (mine[rows] ^ words[at[rows]] & _KEEP[np.minimum(left[rows], 8)]) * np.uint64(0x9E3779B97F4A7C15)
            mine[rows] = mixed ^ mixed >> np.uint64(32)
            left, at = left - 8, at + 8
    return hashes


def find_plain(data):
    """The messages of `data` (with PAD behind it) from its first plain start on; None when the file is spelled in another way.

    Lines: `starts`, `ends`, `codes`, `of` (their message). Messages: `first` (its line), `places` and `stops` in `data`, `has_start`, `has_end`,
    `has_others` (text beyond ASCII), and `is_slow` where it takes judgment.
    """
    size = len(data) - len(PAD)
    text, words = np.frombuffer(data, np.uint8), words_of(data)
    body = text[:size]
    others = [mark for mark in b"\\<>\x7f" if mark in data]
    marked = np.flatnonzero(reduce(np.logical_or, (body == mark for mark in others), body.view(np.int8) < 32))      # 128 and more too
    kinds = body[marked]
    ends = marked[_ENDS[kinds]]
    if not len(ends) or ends[-1] != size - 1:
        ends = np.append(ends, size)
    starts = np.concatenate(([0], ends[:-1] + 1))
    is_filled = ends > starts
    starts, ends = starts[is_filled], ends[is_filled]
    has_mark = text[starts] == 11
    starts = starts + has_mark
    is_start = (words[starts] == _START_8) & (text[starts + 8] == 124)
    if not is_start.any():
        return SimpleNamespace(places=np.empty(0, np.int64), is_slow=np.empty(0, bool)) if not _is_foreign(data, marked, kinds, _headers(body)) else None
    first = np.flatnonzero(is_start)
    starts, ends, has_mark, is_start = (a[first[0]:] for a in (starts, ends, has_mark, is_start))
    first -= first[0]
    headers = _headers(body)
    extra = np.setdiff1d(headers, starts[first], assume_unique=True) if len(headers) != len(first) else headers[:0]
    if _is_foreign(data, marked, kinds, extra):
        return None
    codes = words_of(data, 4)[starts]
    letters = codes.view(np.uint8).reshape(-1, 4)
    is_segment = _FIRST[letters[:, 0]] & _REST[letters[:, 1]] & _REST[letters[:, 2]] & (letters[:, 3] == 124)
    for other in _NOT_INSIDE:
        is_segment &= codes != other
    places = starts[first] - has_mark[first]
    stops = np.append(places[1:], size)
    plain = SimpleNamespace(
        data=data, text=text, words=words, starts=starts, ends=ends, codes=codes, of=np.cumsum(is_start) - 1, first=first, places=places, stops=stops,
        has_start=has_mark[first], has_end=np.zeros(len(first), bool), has_others=np.zeros(len(first), bool), is_slow=np.zeros(len(first), bool))
    plain.is_slow[plain.of[~is_start & (~is_segment | has_mark)]] = True
    marks = marked[kinds == 11]
    if len(marks) != np.count_nonzero(plain.has_start):
        _slow_at(plain, np.setdiff1d(marks, starts[first] - 1, assume_unique=True))
    _slow_at(plain, extra)
    _slow_at(plain, marked[_CONTROLS[kinds]])
    _check_blocks(plain, marked[kinds == 28])
    _check_escapes(plain, marked[kinds == 92])
    _check_characters(plain, marked[kinds > 127])
    return plain


def _headers(body):
    found = np.flatnonzero((body[2:] == 72) & (body[1:-1] == 83))
    return found[body[found] == 77]


def _is_foreign(data, marked, kinds, headers):
    """Whether a line end is spelled in another way somewhere: each of SPELLINGS is looked for where its first bytes are."""
    text = np.frombuffer(data, np.uint8)
    angles, escapes = marked[(kinds == 60) | (kinds == 62)], marked[kinds == 92]
    after = text[angles + 1]
    tags, records = angles[np.isin(after, list(b"RCSEVF"))], angles[(after == 32) & (text[angles + 2] < 58)]
    letters = escapes[np.isin(text[escapes + 1], list(b"rn"))]
    return any(pattern.match(data, at) for pattern, where in zip(_FOREIGN, (tags, headers, letters, headers, records)) for at in where.tolist())


def message_at(plain, at):
    """The messages that hold these places; those before the first are left out."""
    return np.searchsorted(plain.places, at[at >= plain.places[0]], "right") - 1


def _slow_at(plain, at):
    plain.is_slow[message_at(plain, at)] = True


def _check_blocks(plain, ends_of_block):
    """One end-of-block byte may close a message, and no segment follows it."""
    holders = message_at(plain, ends_of_block)
    last = plain.starts[np.append(plain.first[1:], len(plain.starts)) - 1]
    plain.has_end[holders] = True
    plain.is_slow[holders[1:][holders[1:] == holders[:-1]]] = True
    plain.is_slow[holders[ends_of_block[len(ends_of_block) - len(holders):] < last[holders]]] = True


def _check_escapes(plain, escapes):
    """Escapes come in pairs within a segment and mean something; in MSH there is the one that declares them."""
    lines = np.searchsorted(plain.starts, escapes, "right") - 1
    is_declared = (lines >= 0) & (plain.codes[lines] == _NOT_INSIDE[-1])
    _slow_at(plain, escapes[is_declared & (escapes != plain.starts[lines] + 6)])
    escapes, lines = escapes[~is_declared & (lines >= 0)], lines[~is_declared & (lines >= 0)]
    plain.escapes = escapes
    n_each = np.bincount(lines, minlength=len(plain.starts))
    is_odd = n_each % 2 == 1
    plain.is_slow[plain.of[np.flatnonzero(is_odd)]] = True
    opens, closes = (escapes[~is_odd[lines]][i::2] for i in (0, 1))
    n = closes - opens - 1
    is_known = (n == 1) & _ESCAPES[plain.text[opens + 1]] | (n == 3) & (plain.words[opens + 1] & np.uint64(0xFFFFFF) == int.from_bytes(b".br", "little"))
    rest = np.flatnonzero(~is_known)
    _slow_at(plain, np.array([a for a, b in zip(opens[rest].tolist(), closes[rest].tolist()) if _is_bad_escape(plain.data[a:b + 1])], np.int64))


@lru_cache(maxsize=10_000)
def _is_bad_escape(escape):
    codes = []
    MARKS.undo(escape.decode("utf-8", "replace"), codes)
    return bool(codes)


def _check_characters(plain, others):
    """Text beyond ASCII is well-formed UTF-8; spaces of other scripts take judgment."""
    others = others[others >= plain.places[0]]
    one, two, three = (plain.text[others + i] for i in range(3))
    is_odd = (one == 0xC2) & ((two == 0xA0) | (two == 0x85)) | (one == 0xE1) & (two == 0x9A) | (one == 0xE3) & (two == 0x80) & (three == 0x80)
    is_odd |= (one == 0xE2) & ((two == 0x80) & ((three <= 0x8A) | (three == 0xA8) | (three == 0xA9) | (three == 0xAF)) | (two == 0x81) & (three == 0x9F))
    _slow_at(plain, others[is_odd])
    plain.has_others[message_at(plain, others)] = True
    is_apart = np.append(True, others[1:] != others[:-1] + 1)
    characters = np.zeros(len(others) + np.count_nonzero(is_apart), np.uint8)
    characters[np.arange(len(others)) + np.cumsum(is_apart)] = one
    if not _is_utf8(characters.tobytes()):
        plain.is_slow[[m for m in np.flatnonzero(plain.has_others).tolist() if not _is_utf8(plain.data[plain.places[m]:plain.stops[m]])]] = True


def _is_utf8(raw):
    return raw.decode("utf-8", "ignore").encode() == raw
