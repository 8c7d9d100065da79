"""One walk over the element headers of a DICOM data set (PS3.5 section 7): raw values and structural problems."""

from struct import Struct
from typing import NamedTuple

from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

DEEPEST = 64                # sequences inside sequences
LONGEST_VALUE = 1 << 16     # bytes kept of one value
UNDEFINED = ALL_READ = 0xFFFFFFFF
NOTHING_READ = 0xFFFF       # group 0000 does not occur in a file
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PATIENT = 0x00100000
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_AFTER_PIXELS = (0xFFFAFFFA, 0xFFFCFFFC)
_SHORT_VRS = frozenset(v.value.encode() for v in EXPLICIT_VR_LENGTH_16)
LONG_VRS = frozenset(v.value.encode() for v in EXPLICIT_VR_LENGTH_32)


class _Level(NamedTuple):
    in_sequence: bool       # items stand here, not elements
    limit: int              # where it ends, or where its container does when its own length is undefined
    is_open: bool           # length undefined: a delimiter ends it
    implicit: bool
    kept: dict | list | None
    wanted: frozenset
    place: tuple = ()       # (opened sequence, number of the item) that `kept` belongs to
    is_fixed: bool = False  # inside something of known length


def walk(read_at, start, size, *, implicit, big, wanted, opened, passed=None):
    """`(values, items, codes, reached)` of the data set from byte `start` to `size`.

    `values` is {tag: [raw bytes, ...]} of the top-level `wanted` tags, with more than one where a tag repeats; `items`
    is {sequence tag: [{tag: [raw bytes]}, ...]} for the tags that `opened` wants of each top-level sequence. A value
    that does not lie whole in the file is left out. Top-level tags up to `reached` would have been seen if they were
    there: ALL_READ for a whole data set, less where reading stopped. `read_at(offset, n)` gives at most n bytes.
    Every header passed is put on the list `passed` as (offset, offset of its value, length, tag, level, whether the walk went in).
    """
    reader = _Walk(read_at, size, big, wanted, opened, [] if passed is None else passed)
    reader.levels.append(_Level(False, size, False, implicit, reader.values, wanted))
    at = start
    while reader.levels and at is not None:
        at = reader.step(reader.plain(at))
    if not reader.levels and reader.last < PATIENT:     # cut between two elements: every object has a patient or a study
        reader.cut()
    whole = not reader.levels and reader.last >= PATIENT
    reached = min(reader.trusted, ALL_READ if whole else reader.last - 1)
    return reader.values, reader.items, list(dict.fromkeys(reader.codes)), reached


def first(values, tag):
    """The first raw value of a tag, b"" where there is none."""
    return values.get(tag, [b""])[0]


class _Walk:
    # The levels are a list, not recursion: a file may nest thousands deep.

    def __init__(self, read_at, size, big, wanted, opened, passed):
        order = ">" if big else "<"
        self.explicit, self.implicit = Struct(order + "HH2sH").unpack_from, Struct(order + "HHL").unpack_from
        self.long = Struct(order + "L").unpack_from
        self.read_at, self.size, self.opened, self.passed = read_at, size, opened, passed
        self.levels, self.values, self.items, self.codes, self.seen = [], {}, {}, [], set()
        self.last, self.trusted = NOTHING_READ, ALL_READ
        self.buffer, self.base = b"", 0

    def at(self, p, n):
        q = p - self.base
        if q < 0 or q + n > len(self.buffer):
            # Fragments are hopped over: read little there, or the pixels would be read after all.
            self.buffer, self.base, q = self.read_at(p, n if self.last >= PIXELS[0] else max(n, LONGEST_VALUE)), p, 0
        return self.buffer[q:q + n]

    def plain(self, p):
        """Past every element that needs no thought: defined even length, known VR, ascending, inside its container."""
        level, top = self.levels[-1], len(self.levels) == 1
        if level.in_sequence:
            return p
        implicit, limit, wanted, last, buffer, base = level.implicit, level.limit, level.wanted, self.last, self.buffer, self.base
        passed = self.passed.append
        while p + 12 <= limit:
            q, value = p - base, p + 8
            if q + 12 > len(buffer):
                if len(self.at(p, 12)) < 12:
                    break
                buffer, base = self.buffer, self.base
                q = p - base
            if implicit:
                group, element, length = self.implicit(buffer, q)
            else:
                group, element, vr, length = self.explicit(buffer, q)
                if vr in LONG_VRS:
                    length, value = self.long(buffer, q + 8)[0], p + 12
                elif vr not in _SHORT_VRS:
                    break
            tag = group << 16 | element
            if length & 1 or value + length > limit or tag >= PIXELS[0]:
                break
            if top:
                if tag <= last or tag in self.opened:
                    break
                self.last = last = tag
                self.seen.add(tag)
            passed((p, value, length, tag, level, False))
            if tag in wanted:
                self.keep(level, tag, value, length)
                buffer, base = self.buffer, self.base
            p = value + length
        return p

    def step(self, p):
        """Past the one thing at `p` that `plain` left, or None when nothing after it can be read."""
        level, top = self.levels[-1], len(self.levels) == 1
        if p >= level.limit:
            return self.close(p)
        head = self.at(p, 12)
        if len(head) < 8 or p + 8 > level.limit:
            return self.leftover(p)
        tag, vr, length, value = self.header(head, p, level.implicit)
        if tag >> 16 == 0xFFFE:
            hops = tag == ITEM and length != UNDEFINED and level.kept is None
            self.passed.append((p, value, length, tag, level, not hops))
            return self.delimiter(tag, length, value)
        if level.in_sequence:
            return self.recover()
        if top and not self.belongs(tag, vr, length, value, level.implicit):
            self.codes.append("TRAILING_BYTES")
            return None
        self.note(tag, vr, length, top)
        if length != UNDEFINED and value + length > level.limit:
            return self.overrun(value + length, length)
        opened = self.opened.get(tag) if top else None
        enters = length == UNDEFINED or opened is not None
        self.passed.append((p, value, length, tag, level, enters))
        if enters:
            return self.enter(level, tag, vr, length, value, opened)
        self.keep(level, tag, value, length)
        return value + length

    def keep(self, level, tag, value, length):
        if tag in level.wanted:
            level.kept.setdefault(tag, []).append(self.at(value, min(length, LONGEST_VALUE)))

    def header(self, head, p, implicit):
        """`(tag, vr, length, value offset)`; vr is None for an implicit element among explicit ones."""
        group, element, vr, length = self.explicit(head)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return tag, b"", self.long(head, 4)[0], p + 8
        if vr in _SHORT_VRS:
            return tag, vr, length, p + 8
        if not (vr.isalpha() and vr.isupper()):
            return tag, None, self.long(head, 4)[0], p + 8
        # A VR from after this table was made has the long form (PS3.5 7.1.2); files with a wrong VR have the short one.
        if vr in LONG_VRS or (length == 0 and len(head) == 12 and not self.starts(p + 8)):
            return tag, vr, self.long(head, 8)[0] if len(head) == 12 else self.size, p + 12
        return tag, vr, length, p + 8

    def belongs(self, tag, vr, length, value, implicit):
        """Whether this can be a top-level element, or is what follows the data set."""
        fits = length == UNDEFINED or value + length <= self.size
        rises = tag > self.last
        if tag >> 16 == 0:
            return False
        if self.last >= PIXELS[0]:
            known = implicit or vr in _SHORT_VRS or vr in LONG_VRS
            return rises and fits and known and (tag in _AFTER_PIXELS or tag in PIXELS or bool(tag >> 16 & 1))
        if implicit or vr in _SHORT_VRS or vr in LONG_VRS:
            return rises or fits
        return rises and fits

    def note(self, tag, vr, length, top):
        if length & 1 and length != UNDEFINED:
            self.codes.append("ODD_LENGTH")
        if vr is None:
            self.codes.append("TRANSFER_SYNTAX_MISMATCH")
        elif vr and vr not in _SHORT_VRS and vr not in LONG_VRS:
            self.codes.append("UNKNOWN_VR")
        if top:
            if tag <= self.last:
                self.codes.append("DUPLICATE_TAG" if tag in self.seen else "TAG_ORDER")
            self.last = tag
            self.seen.add(tag)

    def enter(self, level, tag, vr, length, value, opened):
        is_open = length == UNDEFINED
        items = self.items.setdefault(tag, []) if opened is not None else None
        # UN of undefined length, and of a sequence known by its tag, holds implicit items (PS3.5 6.2.2 note 2).
        implicit = level.implicit or vr == b"UN" or vr is None
        limit = level.limit if is_open else value + length
        return self.push(_Level(True, limit, is_open, implicit, items, opened or frozenset(), (tag,), level.is_fixed or not is_open), value)

    def push(self, level, p):
        if len(self.levels) > 2 * DEEPEST:
            self.codes.append("NESTED_TOO_DEEP")
            return None
        self.levels.append(level)
        return p

    def delimiter(self, tag, length, p):
        """Past an item header or a delimiter; `p` is where its value starts."""
        level, top = self.levels[-1], len(self.levels) == 1
        if top:
            self.codes.append("ITEM_LENGTH_WRONG")
            return None if tag == ITEM else self.distrust(p)
        if not level.in_sequence and tag != ITEM_END:
            self.codes.append("ITEM_LENGTH_WRONG")
            self.levels.pop()
            level = self.levels[-1]
        if tag == ITEM:
            return self.item(level, length, p)
        ends_this = level.in_sequence == (tag == SEQUENCE_END)
        if ends_this and level.is_open:
            self.levels.pop()
        return p

    def item(self, sequence, length, p):
        if length != UNDEFINED and p + length > sequence.limit:
            return self.overrun(p + length, length)
        if length != UNDEFINED and sequence.kept is None:
            return p + length
        kept = {} if sequence.kept is not None else None
        if kept is not None:
            sequence.kept.append(kept)
        is_open = length == UNDEFINED
        limit = sequence.limit if is_open else p + length
        place = (*sequence.place, len(sequence.kept or "") - 1)
        return self.push(_Level(False, limit, is_open, sequence.implicit, kept, sequence.wanted, place, sequence.is_fixed or not is_open), p)

    def close(self, p):
        level = self.levels[-1]
        if level.is_open and level.limit >= self.size:
            return self.cut()
        if level.is_open:
            self.codes.append("ITEM_LENGTH_WRONG")
        self.levels.pop()
        return p

    def leftover(self, p):
        limit = self.levels[-1].limit
        if limit < self.size:
            self.codes.append("ITEM_LENGTH_WRONG")
            return limit
        if len(self.levels) == 1 and (self.last >= PIXELS[0] or not self.at(p, 8).strip(b"\0")):
            self.codes.append("TRAILING_BYTES")
            return None
        return self.cut()

    def cut(self, length=0):
        beyond = "LENGTH_BEYOND_FILE" if length > self.size else "TRUNCATED"
        self.codes.append("PIXELS_TRUNCATED" if self.last in PIXELS else beyond)

    def overrun(self, end, length):
        """Where to go on when something would end at `end`, beyond its container, or None."""
        return self.cut(length) if self.levels[-1].limit >= self.size else self.recover(end)

    def recover(self, end=None):
        """Where to go on when lengths disagree: the container's end, else `end`, whichever is followed by a header."""
        self.codes.append("ITEM_LENGTH_WRONG")
        limit = self.levels[-1].limit
        if limit < self.size and self.starts(limit):
            return limit
        return self.distrust(end) if end is not None and end <= self.size and self.starts(end) else None

    def distrust(self, p):
        """`p`, keeping no value from here on: where the top level begins again is a guess."""
        self.opened, self.trusted = {}, min(self.trusted, self.last)
        self.levels = [v._replace(limit=self.size if v.is_open else v.limit, kept=None, wanted=frozenset()) for v in self.levels]
        return p

    def starts(self, p):
        """Whether an element or item header can stand at `p`."""
        head = self.at(p, 8)
        if p == self.size or len(head) < 8:
            return p == self.size
        group, element, vr, _ = self.explicit(head)
        if group == 0xFFFE:
            return element in (0xE000, 0xE00D, 0xE0DD)
        if self.levels[0].implicit:
            return group << 16 | element > self.last and self.long(head, 4)[0] <= self.size - p
        return vr in _SHORT_VRS or vr in LONG_VRS
