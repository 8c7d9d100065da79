"""Layouts of data sets met before: where every element header of a file is that of a known layout, no walk is needed."""

import struct
import threading
from operator import itemgetter
from typing import NamedTuple

from .elements import ITEM, LONGEST_VALUE, PIXELS, SEQUENCE_END, UNDEFINED

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


class Layouts(threading.local):
    """The layouts that this thread has met, by encoding, the last used first."""

    def __init__(self):
        self.known, self.loose = {}, set()      # `loose`: places of values whose length was seen to vary

    def read(self, read_at, head, at, size, encoding):
        """`(values, items, likeness)` for a data set without doubts, the first two as `walk` gives them; None when it is not laid out like one met before.

        `head` is the beginning of the file, at least as far as `at`; `encoding` is `(implicit, big)`.
        """
        known = self.known.get(encoding, ())
        for n, layout in enumerate(known):
            if len(head) < min(layout.n_bytes, size) and layout.begins(head, at):
                head = read_at(0, layout.n_bytes)
            found = layout.read(read_at, head, at, size)
            if found:
                if n:
                    known.insert(0, known.pop(n))
                return found

    def learn(self, read_at, at, size, encoding, passed, walked, own):
        """What `read` now says of a data set that `walk` found without doubts: `(values, items)` are `walked`, its headers `passed`."""
        head = read_at(0, FARTHEST)
        steps = _steps(head, passed, *encoding)
        if not steps:
            return None
        known = self.known.setdefault(encoding, [])
        shape = [(s.head, s.place, s.is_fixed and s.length) for s in steps]
        same = next((layout for layout in known if layout.shape == shape), None)
        varying = same.varying | {n for n, (old, new) in enumerate(zip(same.steps, steps, strict=True)) if old.length != new.length} if same else set()
        self.loose.update(steps[n].place for n in varying)
        varying |= {n for n, s in enumerate(steps) if s.place in self.loose and s.place and not s.is_fixed}
        layout = _Layout(same.kind if same else object(), shape, steps, varying, walked[1], own, "<>"[encoding[1]])
        found = layout.read(read_at, head, at, size)
        if not found or found[:2] != walked:
            return None
        known[:] = [layout, *(other for other in known if other is not same)][:MOST_KNOWN]
        return found


class _Layout:
    def __init__(self, kind, shape, steps, varying, items, own, order):
        self.kind, self.shape, self.steps, self.varying, self.order = kind, shape, steps, varying, order
        self.n_bytes = sum(len(s.head) + 4 + s.n_skipped for s in steps) + 1024
        ends = sorted({n + 1 for n in varying} | {len(steps)})
        self.parts = [_part(steps[start:end], order, end - 1 in varying or steps[end - 1].place is PIXELS)
                      for start, end in zip([0, *ends], ends, strict=False)]
        places = [s.place for s in steps if s.place and s.place is not PIXELS]
        self.top = [(n, place[0]) for n, place in enumerate(places) if len(place) == 1]
        self.inside = [(n, *place) for n, place in enumerate(places) if len(place) == 3]
        self.counts = {sequence: len(found) for sequence, found in items.items()}
        rest = [n for n, place in enumerate(places) if place[0] not in own]
        self.like = itemgetter(*rest) if rest else len

    def begins(self, head, p):
        n_bytes, unpack_heads, expected = self.parts[0][:3]
        return p + n_bytes > len(head) or unpack_heads(head, p) == expected

    def read(self, read_at, head, p, size):
        raws = []
        for n_bytes, unpack_heads, expected, unpack_values, longest, place in self.parts:
            if p + n_bytes > len(head) or unpack_heads(head, p) != expected:
                return None
            raws += unpack_values(head, p)
            p += n_bytes
            if longest:
                length = raws.pop()
                if place is PIXELS:
                    p = _past_pixels(read_at, p, length, size, self.order)
                    break
                if length & 1 or length > longest:
                    return None
                if place:
                    raws.append(head[p:p + length])
                p += length
        if p != size:
            return None
        items = {sequence: [{} for _ in range(n)] for sequence, n in self.counts.items()}
        for n, sequence, item, tag in self.inside:
            items[sequence][item][tag] = [raws[n]]
        return {tag: [raws[n]] for n, tag in self.top}, items, (self.kind, self.like(raws))


def _part(steps, order, is_open):
    """`(bytes, unpack headers, what they must be, unpack wanted values, longest value, place)` of neighbours.

    Where the last one's length is open, it is unpacked as the last value; else the longest value is 0.
    """
    literals, gaps, values = [], [], []
    for step in steps[:-1] if is_open else steps:
        literal = step.head + struct.pack(order + step.code, step.length)
        values.append(f"{len(literal)}x{step.n_skipped}{'s' if step.place else 'x'}")
        if gaps and not gaps[-1]:
            literals[-1] += literal
            gaps[-1] = step.n_skipped
        else:
            literals.append(literal)
            gaps.append(step.n_skipped)
    last = steps[-1]
    if is_open:
        literals.append(last.head)
        gaps.append(0)
        values.append(f"{len(last.head)}x{last.code}")
    heads = struct.Struct("".join(f"{len(literal)}s{gap}x" for literal, gap in zip(literals, gaps, strict=True)))
    values = struct.Struct(order + "".join(values))
    return values.size, heads.unpack_from, tuple(literals), values.unpack_from, is_open and (LONGEST_VALUE if last.place else UNDEFINED), last.place


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


def _steps(head, passed, implicit, big):
    """The headers `passed` up to the pixels as steps; none when they are too many or lie too far."""
    order, steps = "<>"[big], []
    for p, value, length, tag, level, is_entered in passed[:MOST_STEPS + 1]:
        code = "L" if level.implicit or value - p == 12 or tag >> 16 == 0xFFFE else "H"
        name = head[p:value - struct.calcsize(order + code)]
        if not level.place and tag in PIXELS:
            steps.append(_Step(name, code, 0, 0, PIXELS, False))
            break
        place = (*level.place, tag) if tag in level.wanted and not is_entered else None
        steps.append(_Step(name, code, length, 0 if is_entered else length, place, is_entered or level.is_fixed))
    return steps if len(steps) <= MOST_STEPS and (not steps or value <= len(head)) else []
