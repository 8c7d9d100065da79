"""The wanted segments of plain messages cut into pieces at their delimiters, and which segment counts for which row."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from .hl7lines import MARKS, PAD, TAIL, code, words_of

SEGMENTS = ("MSH", "EVN", "MSA", "ERR", "PID", "PV1", "MRG", "ORC", "OBR", "TQ1", "IPC", "ZDS", "SCH")
_OF_MESSAGE = SEGMENTS[:7]
_ONCE = ("PID", "PV1", "MRG")       # a second one means another patient, or an order's own
_SORTED = np.sort([code(name) for name in SEGMENTS]).astype(np.uint32)
_KINDS = np.array([[code(name) for name in SEGMENTS].index(c) for c in _SORTED.tolist()], np.int8)
_TAB, _SPACE, _QUOTE, _AMP, _ESCAPE, _HAT, _PIPE = b"\t \"&\\^|"
_ENDS_VALUE = np.isin(np.arange(256), [*range(32), *b"|^~&"])


def spans_of(data, starts, stops):
    """The text from each start to its stop in `data`."""
    offsets = np.empty(2 * len(starts) + 1, np.int32)
    offsets[:-1:2], offsets[1::2], offsets[-1] = starts, stops, len(data)
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)).take(pa.array(np.arange(0, len(offsets) - 1, 2)))


def cut_pieces(plain):
    """The pieces between delimiters of the wanted segments: `start` and `stop` in `text`, spaces, nulls and escapes resolved.

    `marks` are the places of the delimiters, a piece follows each, without subcomponents after its first; `kinds` says what they are and
    `pipes` which of them begin a field. The piece `empty` is. Each wanted segment has its `line` in `plain`, its first
    of `pipes` in `pipe` and the mark that ends it in `end`; the last of these is of no segment. `tokens` has piece i as element 2 i, without a copy; `is_spaced` tells
    which may have spaces inside.
    """
    for name in _ONCE:
        holders = plain.of[plain.codes == code(name)]
        plain.is_slow[holders[1:][holders[1:] == holders[:-1]]] = True
    found = np.minimum(np.searchsorted(_SORTED, plain.codes), len(_SORTED) - 1)
    line = np.flatnonzero((_SORTED[found] == plain.codes) & ~plain.is_slow[plain.of])
    starts, size = plain.starts[line], len(plain.data) - len(PAD)
    lines = spans_of(plain.data, np.append(starts, size + 32), np.append(plain.ends[line] + 1, size + 32 + len(TAIL)))
    joined, begins = lines.buffers()[2], np.frombuffer(lines.buffers()[1], np.int32, len(line) + 2)
    text = np.frombuffer(joined, np.uint8, begins[-1])
    special = np.flatnonzero((text & 0xDD == _ESCAPE) | (text <= _SPACE) | (text & 0xFB == _QUOTE))      # with them | ^ ~ and &
    kinds = text[special]
    is_mark = (kinds > _ESCAPE) | (kinds < _SPACE)
    others = np.flatnonzero(~is_mark)
    holders, others = others - np.arange(1, len(others) + 1), special[others]       # the piece each is in
    marks, kinds = special[is_mark], kinds[is_mark]
    offsets = np.empty(2 * len(marks) + 1, np.int32)
    offsets[:-1:2], offsets[1:-2:2], offsets[-2:] = marks + 1, marks[1:], len(text)
    ends_of_line = np.flatnonzero((kinds < _SPACE) & (kinds != _TAB))[:len(line)]
    pipes = np.flatnonzero(kinds == _PIPE)
    pieces = SimpleNamespace(
        marks=marks, kinds=kinds, pipes=pipes, start=offsets[:-1:2], stop=offsets[1::2], line=line, kind=_KINDS[found[line]],
        pipe=np.concatenate(([0], np.searchsorted(pipes, ends_of_line))), end=np.append(ends_of_line, -1), empty=len(marks) - 64, is_spaced=np.zeros(len(marks), bool))
    holders_of = plain.of[line]

    def slow(at):
        plain.is_slow[holders_of[np.searchsorted(begins[:-1], at, "right") - 1]] = True

    slow(marks[kinds == _TAB])
    added = _resolve(pieces, text, others, holders, slow)
    pieces.joined = b"".join((memoryview(joined)[:len(text)], added, PAD))
    pieces.text, pieces.words = np.frombuffer(pieces.joined, np.uint8), words_of(pieces.joined)
    pieces.tokens = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(pieces.joined))
    return pieces


def _resolve(pieces, text, others, holders, slow):
    """What `Delimiters.plain` does to a value, done to the pieces that need it; the text of those that had escapes, for behind `text`.

    `others` are the places of what is no delimiter of pieces, and `holders` their pieces.
    """
    start, stop, kinds = pieces.start, pieces.stop, text[others]
    is_amp, is_space, is_escape, is_quote = (kinds == mark for mark in (_AMP, _SPACE, _ESCAPE, _QUOTE))
    stop[holders[is_amp][::-1]] = others[is_amp][::-1]          # backwards, so that the first one of a piece stays
    spaces, spaced = others[is_space], holders[is_space]
    pieces.is_spaced[spaced] = True
    leading, trailing = (spaced[_ENDS_VALUE[text[spaces + step]]] for step in (-1, 1))
    while len(leading := leading[(start[leading] < stop[leading]) & (text[start[leading]] == _SPACE)]):
        start[leading] += 1
    while len(trailing := trailing[(trailing >= 0) & (start[trailing] < stop[trailing]) & (text[stop[trailing] - 1] == _SPACE)]):
        stop[trailing] -= 1
    quotes, quoted = others[is_quote], holders[is_quote]
    nulls = quoted[(start[quoted] == quotes) & (stop[quoted] == quotes + 2) & (text[quotes + 1] == _QUOTE)]
    stop[nulls] = start[nulls]
    escapes = others[is_escape]
    escaped = np.unique(holders[is_escape][~(_ENDS_VALUE[text[escapes - 1]] & _ENDS_VALUE[text[escapes + 1]])])       # MSH-2 has one alone
    pieces.is_spaced[escaped] = True
    found = spans_of(text, start[escaped], stop[escaped]).dictionary_encode()
    values, places = [_unescaped(value) for value in found.dictionary.to_pylist()], found.indices.to_numpy()
    slow(pieces.marks[escaped[np.array([value is None for value in values], bool)[places]]])
    ends = len(text) + np.cumsum([0, *(len(value or b"") for value in values)])
    start[escaped], stop[escaped] = ends[:-1][places], ends[1:][places]
    return b"".join(filter(None, values))


def _unescaped(value):
    """A value without its escapes; None when that is doubtful or looks like components."""
    codes = []
    plain = MARKS.plain(value, codes)
    return None if codes or not plain or "^" in plain else plain.encode()


def arrange(plain, pieces):
    """Which rows there are and what each holds, as `message_rows` arranges segments.

    `message` of each row, `first` row and number of rows `n` of each message; `segment[name]` is each row's place in `pieces.line`, -1 for none, if any row has one, `bounds[name]`
    its first of `pieces.pipes` and the mark that ends it;
    `observation` are the OBX lines that count for a row, `row` those rows.
    """
    n_messages, of = len(plain.places), plain.of[pieces.line]
    is_plain = ~plain.is_slow[of]
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
        mine = np.flatnonzero((pieces.kind == kind) & is_plain)[::-1]     # backwards, so that the first one stays
        if not len(mine):
            continue
        rows, shared = np.full(len(message), -1), np.full(n_messages, -1)
        inside = row_of(pieces.line[mine], of[mine]) if name not in _OF_MESSAGE else np.full(len(mine), -1)
        shared[of[mine[inside < 0]]] = mine[inside < 0]
        rows[inside[inside >= 0]] = mine[inside >= 0]
        segment[name] = np.where(rows < 0, shared[message], rows)
    observation = np.flatnonzero((plain.codes == code("OBX")) & ~plain.is_slow[plain.of])
    row = row_of(observation, plain.of[observation])
    row = np.where((row < 0) & (n_groups[plain.of[observation]] == 0), first[plain.of[observation]], row)
    bounds = {name: (pieces.pipe[of_row] - (name == "MSH"), pieces.end[of_row]) for name, of_row in segment.items()}     # MSH-1 is a separator
    return SimpleNamespace(message=message, first=first, n=n, segment=segment, bounds=bounds, observation=observation[row >= 0], row=row[row >= 0])


def piece_at(pieces, place, rows):
    """The piece that is a component of the first repetition of a field, its first subcomponent, for each row."""
    name, number, component = place
    if name not in rows.segment:
        return np.full(len(rows.message), pieces.empty)
    first, end = rows.bounds[name]
    begin = pieces.pipes[first + (number - 1)]
    is_there = begin < end
    for step in range(1, component):
        is_there &= pieces.kinds[begin + step] == _HAT
    return np.where(is_there, begin + component - 1, pieces.empty)
