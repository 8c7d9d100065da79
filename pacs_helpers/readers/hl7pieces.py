"""The wanted segments of plain messages cut into pieces at their delimiters, and which segment counts for which row."""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from .hl7lines import MARKS, PAD, code, places_of, words_of

SEGMENTS = ("MSH", "EVN", "MSA", "ERR", "PID", "PV1", "MRG", "ORC", "OBR", "TQ1", "IPC", "ZDS", "SCH")
_OF_MESSAGE = SEGMENTS[:7]
_ONCE = ("PID", "PV1", "MRG")       # a second one means another patient, or an order's own
_SORTED = np.sort([code(name) for name in SEGMENTS]).astype(np.uint32)
_KINDS = np.array([[code(name) for name in SEGMENTS].index(c) for c in _SORTED.tolist()])
_BEYOND, _CONSTANTS = b"|" * 64 + b"\r" * 64, b"^^^\x01"      # places past the end of the last segment are there and empty
_PIPE, _HAT, _AMP = 124, 94, 38
_IS_MARK = np.isin(np.arange(256), [*range(32), *b"|^~&"])


def cut_pieces(plain):
    """The pieces between delimiters of the wanted segments: `start` and `stop` in `text`, spaces, nulls and escapes resolved.

    `marks` are the places of the delimiters, a piece follows each, without subcomponents after its first; `kinds` says what they are and
    `pipes` which of them begin a field. Among them are the pieces `empty`, `carets` and `gap` (shown as a space). Each wanted segment has its
    `line` in `plain`, its first of `pipes` in `pipe` and the mark that ends it in `end`; the last of these is of no segment. `tokens` has piece i as element 2 i, without a copy.
    """
    for name in _ONCE:
        holders = plain.of[plain.codes == code(name)]
        plain.is_slow[holders[1:][holders[1:] == holders[:-1]]] = True
    found = np.minimum(np.searchsorted(_SORTED, plain.codes), len(_SORTED) - 1)
    line = np.flatnonzero((_SORTED[found] == plain.codes) & ~plain.is_slow[plain.of])
    starts, ends = plain.starts[line], plain.ends[line]
    is_first = np.concatenate(([True], line[1:] != line[:-1] + 1))[:len(line)]
    run_starts, run_ends = starts[is_first], ends[np.append(is_first[1:], True)[:len(line)]] + 1
    shift = (run_starts - np.cumsum(run_ends - run_starts) + (run_ends - run_starts))[np.cumsum(is_first) - 1]
    joined = bytearray().join([*(plain.data[a:b] for a, b in zip(run_starts.tolist(), run_ends.tolist())), _BEYOND, _CONSTANTS, PAD])
    text = np.frombuffer(joined, np.uint8)
    size = len(joined) - len(_CONSTANTS) - len(PAD)
    marks = places_of(text[:size], lambda body: ((body & 0xFD) == _PIPE) | (body == _HAT) | (body < 32))
    kinds, n = text[marks], len(marks)
    pipes, ends_of_line = np.flatnonzero(kinds == _PIPE), np.searchsorted(marks, (ends - shift).astype(np.int32))
    offsets = np.empty(2 * (n + 2) + 1, np.int32)
    np.add(marks, 1, out=offsets[:2 * n:2])
    offsets[1:2 * n - 1:2] = marks[1:]
    offsets[2 * n - 1:] = (size, size, size + 3, size + 3, size + 4, size + 4)
    pieces = SimpleNamespace(
        joined=joined, text=text, words=words_of(joined), marks=marks, kinds=kinds, pipes=pipes, start=offsets[:-1:2], stop=offsets[1::2],
        line=line, kind=_KINDS[found[line]], pipe=np.concatenate(([0], np.searchsorted(pipes, ends_of_line))), end=np.append(ends_of_line, -1),
        empty=n - 64, carets=n, gap=n + 1, tokens=pa.StringArray.from_buffers(2 * (n + 2), pa.py_buffer(offsets), pa.py_buffer(joined)))

    def slow(at):
        plain.is_slow[plain.of[line[np.searchsorted(starts - shift, at, "right") - 1]]] = True

    slow(marks[kinds == 9])
    _resolve(pieces, text[:size], slow)
    return pieces


def _resolve(pieces, body, slow):
    """What `Delimiters.plain` does to a value, done to the pieces that need it."""
    start, stop, text, marks = pieces.start, pieces.stop, pieces.text, pieces.marks

    def holders(at):
        return np.searchsorted(marks, at) - 1

    special = places_of(body, lambda part: (part == _AMP) | (part == 32) | (part == 92))
    amps, spaces, escapes = (special[body[special] == mark] for mark in (_AMP, 32, 92))
    stop[holders(amps[::-1])] = amps[::-1]          # backwards, so that the first one of a piece stays
    leading, trailing = (holders(spaces[_IS_MARK[body[spaces + step]]]) for step in (-1, 1))
    quotes = np.flatnonzero((body[:-1] == 34) & (body[1:] == 34)) if b'"' in pieces.joined else marks[:0]
    quoted = holders(quotes)
    escaped = np.unique(holders(escapes[~(_IS_MARK[body[escapes - 1]] & _IS_MARK[body[escapes + 1]])]))       # MSH-2 has one alone
    while len(leading := leading[(start[leading] < stop[leading]) & (text[start[leading]] == 32)]):
        start[leading] += 1
    while len(trailing := trailing[(trailing >= 0) & (start[trailing] < stop[trailing]) & (text[stop[trailing] - 1] == 32)]):
        stop[trailing] -= 1
    is_null = (start[quoted] == quotes) & (stop[quoted] == quotes + 2)
    stop[quoted[is_null]] = start[quoted[is_null]]
    for i in escaped.tolist():
        value = _unescaped(bytes(pieces.joined[start[i]:stop[i]]))
        if value is None:
            slow(marks[i])
        else:
            stop[i] = start[i] + len(value)
            pieces.joined[start[i]:stop[i]] = value


@lru_cache(maxsize=10_000)
def _unescaped(value):
    """A value without its escapes; None when that is longer, empty, doubtful or looks like components."""
    codes = []
    plain = MARKS.plain(value.decode(), codes).encode()
    return plain if not codes and 0 < len(plain) <= len(value) and b"^" not in plain else None


def arrange(plain, pieces):
    """Which rows there are and what each holds, as `message_rows` arranges segments.

    `message` of each row, `first` row and number of rows `n` of each message; `segment[name]` is each row's place in `pieces.line`, -1 for none;
    `observation` are the OBX lines that count for a row, `row` those rows.
    """
    n_messages, of = len(plain.places), plain.of[pieces.line]
    orders = np.flatnonzero((pieces.kind == SEGMENTS.index("ORC")) | (pieces.kind == SEGMENTS.index("OBR")))
    is_orc = pieces.kind[orders] == SEGMENTS.index("ORC")
    begins = is_orc | np.concatenate(([True], (of[orders][1:] != of[orders][:-1]) | ~is_orc[:-1]))[:len(orders)]
    heads = pieces.line[orders[begins]]
    n_groups = np.bincount(of[orders[begins]], minlength=n_messages)
    n = np.where(plain.is_slow, 0, np.maximum(n_groups, 1))
    first, before = np.cumsum(n) - n, np.cumsum(n_groups) - n_groups
    message = np.repeat(np.arange(n_messages), n)

    def row_of(lines, of):
        """The row of each line, -1 before the first group of a message."""
        rank = np.searchsorted(heads, lines, "right") - before[of]
        return np.where(rank > 0, first[of] + rank - 1, -1)

    segment = {}
    for kind, name in enumerate(SEGMENTS):
        mine = np.flatnonzero((pieces.kind == kind) & ~plain.is_slow[of])[::-1]     # backwards, so that the first one stays
        rows, shared = np.full(len(message), -1), np.full(n_messages, -1)
        inside = row_of(pieces.line[mine], of[mine]) if name not in _OF_MESSAGE else np.full(len(mine), -1)
        shared[of[mine[inside < 0]]] = mine[inside < 0]
        rows[inside[inside >= 0]] = mine[inside >= 0]
        segment[name] = np.where(rows < 0, shared[message], rows)
    observation = np.flatnonzero((plain.codes == code("OBX")) & ~plain.is_slow[plain.of])
    row = row_of(observation, plain.of[observation])
    row = np.where((row < 0) & (n_groups[plain.of[observation]] == 0), first[plain.of[observation]], row)
    return SimpleNamespace(message=message, first=first, n=n, segment=segment, observation=observation[row >= 0], row=row[row >= 0])


def piece_at(pieces, place, rows):
    """The piece that is a component of the first repetition of a field, its first subcomponent, for each row."""
    name, number, component = place
    segment = rows.segment[name]
    begin = pieces.pipes[pieces.pipe[segment] + number - (2 if name == "MSH" else 1)]
    is_there = begin < pieces.end[segment]
    for step in range(1, component):
        is_there &= pieces.kinds[begin + step] == _HAT
    return np.where(is_there, begin + component - 1, pieces.empty)
