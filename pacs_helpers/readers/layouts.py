"""Layouts of data sets met before: where every element header of a file is that of a known layout, no walk is needed."""

import struct
import threading
from typing import NamedTuple

from .elements import ITEM, ITEM_END, LONG_VRS, LONGEST_VALUE, PIXELS, SEQUENCE_END, UNDEFINED

FARTHEST = 1 << 20      # bytes of a header worth remembering
MOST_STEPS = 10_000
MOST_KNOWN = 64         # layouts of one encoding


class _Step(NamedTuple):
    head: bytes             # an element or item header, before its length
    code: str               # struct code of the length
    length: int
    n_skipped: int          # bytes to the next header
    place: tuple | None     # of a wanted value: (tag,) or (sequence tag, number of the item, tag)
    is_fixed: bool          # with another length it is another layout


class _Level(NamedTuple):
    in_sequence: bool
    end: int | None         # None: a delimiter ends it
    implicit: bool
    sequence: int | None    # the opened top-level sequence it belongs to
    is_fixed: bool
    wanted: frozenset


class Layouts(threading.local):
    """The layouts that this thread has met, by encoding, the last used first."""

    def __init__(self):
        self.known = {}

    def read(self, read_at, head, at, size, encoding):
        """`(values, items)` as `walk` gives them for a data set without doubts; None when it is not laid out like one met before.

        `head` is the beginning of the file, at least as far as `at`; `encoding` is `(implicit, big)`.
        """
        known = self.known.get(encoding, ())
        for n, layout in enumerate(known):
            if len(head) < min(layout.n_bytes, size) and layout.begins(head, at):
                head = read_at(0, layout.n_bytes)
            found = layout.read(read_at, head, at, size)
            if found:
                known.insert(0, known.pop(n))
                return found

    def learn(self, read_at, at, size, encoding, wanted, opened, walked):
        """Remember the layout of a data set that `walk` found without doubts, `walked` being its `(values, items)`."""
        head = read_at(0, FARTHEST)
        try:
            steps, counts = _scan(head, at, size, *encoding, wanted, opened)
        except struct.error:        # the header is longer
            return
        if not 0 < len(steps) <= MOST_STEPS:
            return
        known = self.known.setdefault(encoding, [])
        shape = [(s.head, s.place, s.is_fixed and s.length) for s in steps]
        same = next((layout for layout in known if layout.shape == shape), None)
        varying = {n for n, (old, new) in enumerate(zip(same.steps, steps, strict=True)) if old.length != new.length} | same.varying if same else set()
        layout = _Layout(shape, steps, varying, counts, "<>"[encoding[1]])
        if layout.read(read_at, head, at, size) == walked:
            known[:] = [layout, *(other for other in known if other is not same)][:MOST_KNOWN]


class _Layout:
    def __init__(self, shape, steps, varying, counts, order):
        self.shape, self.steps, self.varying, self.counts, self.order = shape, steps, varying, counts, order
        self.n_bytes = sum(len(s.head) + 4 + s.n_skipped for s in steps) + 1024
        ends = sorted({n + 1 for n in varying} | {len(steps)})
        self.parts = [_part(steps[start:end], order, end - 1 in varying or steps[end - 1].place is PIXELS)
                      for start, end in zip([0, *ends], ends, strict=False)]

    def begins(self, head, p):
        unpack, expected, n_bytes, *_ = self.parts[0]
        return p + n_bytes > len(head) or unpack(head, p)[:len(expected)] == expected

    def read(self, read_at, head, p, size):
        values, items = {}, {sequence: [{} for _ in range(n)] for sequence, n in self.counts.items()}
        for unpack, expected, n_bytes, kept, is_open, place in self.parts:
            if p + n_bytes > len(head):
                return None
            fields = unpack(head, p)
            if (fields[:-1] if is_open else fields) != expected:
                return None
            for where, start, end in kept:
                _put(values, items, where, head[p + start:p + end])
            p += n_bytes
            if is_open:
                length = fields[-1]
                if place is PIXELS:
                    p = _past_pixels(read_at, p, length, size, self.order)
                    break
                if length & 1 or place and length > LONGEST_VALUE:
                    return None
                if place:
                    _put(values, items, place, head[p:p + length])
                p += length
        return (values, items) if p == size else None


def _part(steps, order, is_open):
    """`(unpack, expected, bytes, wanted values, is_open, place)` of neighbours; where `is_open` the last one's length is not expected but unpacked."""
    fields, expected, kept, at = [], [], [], 0
    for step in steps[:-1] if is_open else steps:
        head = step.head + struct.pack(order + step.code, step.length)
        fields.append(f"{len(head)}s{step.n_skipped}x")
        expected.append(head)
        at += len(head)
        if step.place:
            kept.append((step.place, at, at + step.n_skipped))
        at += step.n_skipped
    if is_open:
        fields.append(f"{len(steps[-1].head)}s{steps[-1].code}")
        expected.append(steps[-1].head)
    unpacker = struct.Struct(order + "".join(fields))
    return unpacker.unpack_from, tuple(expected), unpacker.size, kept, is_open, steps[-1].place


def _put(values, items, place, raw):
    if len(place) == 1:
        values[place[0]] = [raw]
    else:
        items[place[0]][place[1]][place[2]] = [raw]


def _past_pixels(read_at, p, length, size, order):
    """Where pixel data ends, fragment by fragment where its length is open; None when it is not in order."""
    if length != UNDEFINED:
        return None if length & 1 else p + length
    while p + 8 <= size:
        group, element, length = struct.unpack(order + "HHL", read_at(p, 8))
        tag, p = group << 16 | element, p + 8 + length
        if tag != ITEM or length & 1:
            return p if tag == SEQUENCE_END and not length else None
    return None


def _scan(head, p, size, implicit, big, wanted, opened):
    """`(steps, {opened sequence: items})`: every header of a sound data set up to its pixels, in order."""
    order, steps, counts = "<>"[big], [], {}
    levels = [_Level(False, size, implicit, None, False, wanted)]
    while levels and len(steps) <= MOST_STEPS:
        level, top = levels[-1], len(levels) == 1
        if p == level.end:
            levels.pop()
            continue
        group, element, vr = struct.unpack_from(order + "HH2s", head, p)
        tag, inner, place = group << 16 | element, None, None
        is_bare = level.implicit or group == 0xFFFE
        n, code = (4, "L") if is_bare else (8, "L") if vr in LONG_VRS else (6, "H")
        length, = struct.unpack_from(order + code, head, p + n)
        value = p + n + struct.calcsize(order + code)
        end, is_fixed = (None, True) if length == UNDEFINED else (value + length, level.is_fixed)
        if tag in (ITEM_END, SEQUENCE_END):
            levels.pop()
            is_fixed = True
        elif tag == ITEM:
            if level.sequence:
                counts[level.sequence] += 1
            if end is None or level.sequence:
                inner = _Level(False, end, level.implicit, level.sequence, level.is_fixed or end is not None, level.wanted)
        elif top and tag >= PIXELS[0]:
            steps.append(_Step(head[p:p + n], code, 0, 0, PIXELS, False))
            break
        elif end is None or top and tag in opened:
            if top and tag in opened:
                counts[tag] = 0
            inner = _Level(True, end, level.implicit or (not is_bare and vr == b"UN"), tag if tag in counts and top else None,
                           level.is_fixed or end is not None, opened.get(tag, frozenset()) if top else frozenset())
        elif tag in level.wanted:
            place = (tag,) if top else (level.sequence, counts[level.sequence] - 1, tag)
        steps.append(_Step(head[p:p + n], code, length, 0 if inner or end is None else length, place, is_fixed or inner is not None))
        p = value
        if inner:
            levels.append(inner)
        elif end is not None:
            p = end
    return steps, counts
