"""Layouts of data sets met before: where every element header of a file is that of a known layout, no walk is needed."""

import struct
import threading
from functools import partial
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from .elements import ITEM, LONGEST_VALUE, PIXELS, SEQUENCE_END, UNDEFINED

FARTHEST = 1 << 20      # bytes of a header worth remembering
MOST_STEPS = 10_000
MOST_KNOWN = 64         # layouts of one encoding
WINDOW = 1 << 13
LONGEST_GAP = 1 << 11   # bytes between two headers worth comparing with nothing


class _Step(NamedTuple):
    head: bytes             # an element or item header, before its length
    width: int              # bytes of the length
    length: int
    n_skipped: int          # bytes to the next header
    place: tuple | None     # of a wanted value: (tag,) or (sequence tag, number of the item, tag)
    is_fixed: bool          # with another length it is another layout


class Layouts(threading.local):
    """The layouts that this thread has met, by encoding, the last used first."""

    def __init__(self):
        self.known, self.loose = {}, set()      # `loose`: places of values whose length was seen to vary

    def read(self, read_at, head, at, size, encoding):
        """`(values of its own tags, likeness, what gives all (values, items))` of a data set without doubts; None when it is not laid out like one met before.

        Values and items are those that `walk` gives; files of one likeness differ at most in the values of their own tags.

        `head` is the beginning of the file, at least as far as `at`; `encoding` is `(implicit, big)`.
        """
        known = self.known.get(encoding, ())
        for n, layout in enumerate(known):
            found = layout.read(read_at, head, at, size)
            if found:
                if n:
                    known.insert(0, known.pop(n))
                return found

    def learn(self, read_at, at, size, encoding, passed, walked, own):
        """What `read` now says of a data set in which `walk` had no doubts: `(values, items)` are `walked`, its headers `passed`, its `own` tags."""
        farthest = next((value for _, value, _, tag, level, _ in passed if _are_pixels(tag, level)), passed[-1][1] if passed else 0)
        head = read_at(0, min(farthest, FARTHEST))
        steps = _steps(head, passed)
        if not steps:
            return None
        known = self.known.setdefault(encoding, [])
        shape = tuple((n, s.place, s.is_fixed and s.length) for n, s in enumerate(steps) if s.place or s.is_fixed), tuple(s.head for s in steps)
        lengths = tuple(s.length for s in steps)
        same = next((layout for layout in known if layout.shape == shape), None)
        varying = same.varying | {n for n, pair in enumerate(zip(same.lengths, lengths, strict=True)) if len({*pair}) > 1} if same else set()
        self.loose.update(steps[n].place for n in varying)
        varying |= {n for n, s in enumerate(steps) if s.place and s.place in self.loose and not s.is_fixed}
        layout = _Layout(same.kind if same else object(), shape, lengths, steps, varying, walked[1], own, "<>"[encoding[1]])
        found = layout.read(read_at, head, at, size)
        if not found or found[2]() != walked:
            return None
        known[:] = [layout, *(other for other in known if other is not same)][:MOST_KNOWN]
        return found


class _Layout:
    def __init__(self, kind, shape, lengths, steps, varying, items, own, order):
        self.kind, self.shape, self.lengths, self.varying, self.order = kind, shape, lengths, varying, order
        self.parts, self.mask, self.expected, self.unpack_values = _parts(steps, varying, order)
        wanted = [n for n, s in enumerate(steps) if s.place and s.place is not PIXELS]
        where = {n: i for i, n in enumerate(sorted(wanted, key=varying.__contains__))}     # the fixed ones are unpacked first
        self.top = [(where[n], steps[n].place[0]) for n in wanted if len(steps[n].place) == 1]
        self.own = [(n, tag) for n, tag in self.top if tag in own]
        self.inside = [(where[n], *steps[n].place) for n in wanted if len(steps[n].place) == 3]
        self.counts = {sequence: len(found) for sequence, found in items.items()}
        rest = [where[n] for n in wanted if steps[n].place[0] not in own]
        self.like = itemgetter(*rest) if rest else len

    def matches(self, pieces):
        n_bytes = len(pieces)
        return (np.frombuffer(pieces, np.uint8) & self.mask[:n_bytes]).tobytes() == self.expected[:n_bytes]

    def read(self, read_at, head, p, size):
        pieces, loose, base = [], [], 0     # `head` is what stands from `base` on, where `p` counts from
        for n_bytes, n_skipped, width, unpack_length, longest, place in self.parts:
            if p + n_bytes > len(head):
                if not self.matches(b"".join(pieces)):
                    return None
                head, base, p = read_at(base + p, max(n_bytes, WINDOW)), base + p, 0
                if n_bytes > len(head):
                    return None
            end = p + n_bytes
            pieces.append(head[p:end])
            p = end + n_skipped
            if width:
                length, = unpack_length(head, end - width)
                if place is PIXELS:
                    break
                if length & 1 or length > longest:
                    return None
                if place:
                    value = head[p:p + length]
                    loose.append(value if len(value) == length else read_at(base + p, length))
                    if len(loose[-1]) < length:
                        return None
                p += length
        pieces = b"".join(pieces)
        if not self.matches(pieces):
            return None
        p += base
        if place is PIXELS:
            p = _past_pixels(read_at, p, length, size, self.order)
        if p != size:
            return None
        raws = (*self.unpack_values(pieces), *loose)
        return {tag: [raws[n]] for n, tag in self.own}, (self.kind, self.like(raws)), partial(self.spell, raws)

    def spell(self, raws):
        items = {sequence: [{} for _ in range(n)] for sequence, n in self.counts.items()}
        for n, sequence, item, tag in self.inside:
            items[sequence][item][tag] = [raws[n]]
        return {tag: [raws[n]] for n, tag in self.top}, items


def _parts(steps, varying, order):
    """`(parts, mask, expected, unpack wanted values)`: a file's parts, joined and masked, are what is expected.

    A part is `(bytes, bytes left out after it, width of its last length, unpack that length, longest value, place)`; without a length where its last element has no other.
    """
    parts, mask, expected, values, start, byteorder = [], bytearray(), bytearray(), [], 0, "big" if order == ">" else "little"
    for n, step in enumerate(steps):
        head, width, length, n_skipped, place, _ = step
        is_open = n in varying or place is PIXELS
        n_kept = 0 if is_open or n_skipped > LONGEST_GAP and not place else n_skipped
        mask += b"\xff" * len(head) + (b"\0" if is_open else b"\xff") * width + bytes(n_kept)
        expected += head + (0 if is_open else length).to_bytes(width, byteorder) + bytes(n_kept)
        values.append(f"{len(head) + width}x{n_kept}{'s' if place and not is_open else 'x'}")
        if is_open or n_kept < n_skipped or n == len(steps) - 1:
            unpack = struct.Struct(order + {2: "H", 4: "L"}[width]).unpack_from
            parts.append((len(mask) - start, 0 if is_open else n_skipped - n_kept, width if is_open else 0, unpack, LONGEST_VALUE if place else UNDEFINED, place))
            start = len(mask)
    return parts, np.frombuffer(bytes(mask), np.uint8), bytes(expected), struct.Struct("".join(values)).unpack_from


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


def _are_pixels(tag, level):
    return tag in PIXELS and not level.place


def _steps(head, passed):
    """The headers `passed` up to the pixels as steps; none when they are too many or lie too far."""
    steps = []
    for p, value, length, tag, level, is_entered in passed[:MOST_STEPS + 1]:
        width = 4 if level.implicit or value - p == 12 or tag >> 16 == 0xFFFE else 2
        if _are_pixels(tag, level):
            steps.append(_Step(head[p:value - width], width, 0, 0, PIXELS, False))
            break
        place = (*level.place, tag) if tag in level.wanted and not is_entered else None
        steps.append(_Step(head[p:value - width], width, length, 0 if is_entered else length, place, is_entered or level.is_fixed))
    return steps if len(steps) <= MOST_STEPS and (not steps or value <= len(head)) else []
