"""What a DICOM file is made of before its data set: preamble, file meta information, transfer syntax (PS3.10 section 7)."""

import zlib
from collections.abc import Callable
from functools import lru_cache
from struct import unpack_from
from typing import NamedTuple

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from .elements import ALL_READ, LONG_VRS, NOTHING_READ, UNDEFINED, first, walk
from .layouts import Layouts

INFLATE_LIMIT = 32 << 20
META_LIMIT = 1 << 16
HEAD_BYTES = 1 << 14
_MET = Layouts()
# Two JPIP syntaxes deflate the data set too (PS3.5 A.7, A.9).
_DEFLATED = {DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}
_EXECUTABLE = (b"MZ", b"\x7fELF", b"#!", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_GROUP_LENGTH, _MEDIA_CLASS, _INSTANCE, _SYNTAX, _DIRECTORY = 0x00020000, 0x00020002, 0x00020003, 0x00020010, 0x00041220
_INSTANCE_HEADER, _DIRECTORY_CLASS = b"\2\0\3\0UI", MediaStorageDirectoryStorage.encode()
_NOT_DICOM = "NOT_DICOM", "no DICM mark and no readable header"
_INDEX = "DICOMDIR", "index file; images are scanned from the folder"
_ABOUT_SIZE = {"TRUNCATED", "PIXELS_TRUNCATED", "LENGTH_BEYOND_FILE", "TRAILING_BYTES"}


class Elements(NamedTuple):
    """`meta` and `values` are {tag: [raw bytes, ...]}, `items` {sequence tag: [{tag: [raw bytes]}, ...]}, `codes` problem codes.

    `reached` is the last tag the data set was read to, as `walk` says it. Files with one `likeness`, if it is not None, differ
    at most in meta information and in the values of `own` tags; `whole()` then has the values of the others too.
    """

    meta: dict
    values: dict
    items: dict
    codes: list
    reached: int
    likeness: tuple | None = None
    spell: Callable | None = None

    def whole(self):
        return self._replace(**dict(zip(("values", "items"), self.spell(), strict=True)), spell=None) if self.spell else self


def read_elements(read_at, size, wanted, opened, own=frozenset(), *, is_remembered=True):
    """`(Elements, None)` of one DICOM file, or `(None, (code, reason))` when it is none. Arguments as for `walk`.

    With `is_remembered` data sets laid out like one met before are not walked; `wanted`, `opened` and `own` are then the same in every call.
    """
    head = read_at(0, HEAD_BYTES)
    start, codes = _start(head)
    meta, at = _meta_of(head, start)
    if at + 8 > len(head) == HEAD_BYTES:
        meta, at = _read_meta(head := read_at(0, META_LIMIT), start)
    if at == 0 and not _may_begin(head):
        return None, _NOT_DICOM
    if at >= size:
        return None, ("NO_DATASET", "preamble and nothing after it; ask for the file again")
    if _DIRECTORY_CLASS in first(meta, _MEDIA_CLASS):
        return None, _INDEX
    codes += _meta_codes(meta, start, at)
    syntax = first(meta, _SYNTAX).decode("latin-1").strip(" \0")
    is_capped = False
    if syntax in _DEFLATED:
        data, is_capped = _inflate(read_at(at, size - at))
        if data is None:
            return None, ("BAD_DEFLATE", "the deflated data set is cut or damaged; ask for the file again")
        read_at, at, size, head = (lambda p, n: data[p:p + n]), 0, len(data), data
    implicit, big = encoding = _encoding((head[at:at + 8] or read_at(at, 8)).ljust(8, b"\0"), syntax)
    if syntax.startswith(ImplicitVRLittleEndian) and (implicit, big) != (syntax == ImplicitVRLittleEndian, syntax == ExplicitVRBigEndian):
        codes.append("TRANSFER_SYNTAX_MISMATCH")
    if is_remembered and (known := _MET.read(read_at, head, at, size, encoding)):
        return Elements(meta, known[0], {}, codes, ALL_READ, *known[1:]), None
    passed = []
    values, items, found, reached = walk(read_at, at, size, implicit=implicit, big=big, wanted=wanted | {_DIRECTORY}, opened=opened, passed=passed)
    if is_capped:
        found = [c for c in found if c not in _ABOUT_SIZE] + ["TOO_LARGE_INFLATED"]
    if _DIRECTORY in values:
        return None, _INDEX
    if not values and (start == 0 or reached <= NOTHING_READ):
        return None, ("NO_DATASET", "no element of the header can be read; ask for the file again") if start else _NOT_DICOM
    known = is_remembered and not found and reached == ALL_READ and _MET.learn(read_at, at, size, encoding, passed, (values, items), own)
    return Elements(meta, values, items, list(dict.fromkeys(codes + found)), reached, known[1] if known else None), None


def open_data_set(data):
    """`(start, at, syntax, data, first, implicit, big)` of a whole file: where its meta information starts and ends, and the data that hold its
    data set from `first` on: the file, or what it inflates to; empty when damaged or larger than INFLATE_LIMIT."""
    start, _ = _start(data)
    meta, at = _read_meta(data[:META_LIMIT], start)
    syntax = first(meta, _SYNTAX).decode("latin-1").strip(" \0")
    body, begin = data, at
    if syntax in _DEFLATED:
        inflated, is_capped = _inflate(data[at:])
        body, begin = b"" if is_capped else inflated or b"", 0
    return start, at, syntax, body, begin, *_encoding(body[begin:begin + 8].ljust(8, b"\0"), syntax)


def deflates(syntax):
    """Whether data sets of this transfer syntax are deflated."""
    return syntax in _DEFLATED


def _start(head):
    if head[128:132] == b"DICM":
        return 132, ["PREAMBLE_EXECUTABLE"] if head.startswith(_EXECUTABLE) else []
    return 4 if head[:4] == b"DICM" else 0, ["NO_PREAMBLE"]


def _may_begin(head):
    """Whether a data set without meta information may begin here: with group 0004 or 0008, in either byte order."""
    return len(head) >= 8 and sorted(head[:2]) in ([0, 4], [0, 8])


def _meta_of(head, start):
    """`_read_meta`, remembered for files that differ in nothing but their instance."""
    end = start + 12 + int.from_bytes(head[start + 8:start + 12], "little")
    at = head.find(_INSTANCE_HEADER, start, end)
    after = at + 8 + int.from_bytes(head[at + 6:at + 8], "little")
    if at > 0 and after <= end <= len(head) - 8 and head[end:end + 2] != b"\2\0":
        shared = _meta_around(head[start:at], head[after:end])
        if shared:
            return {**shared, _INSTANCE: [head[at + 8:after]]}, end
    return _read_meta(head, start)


@lru_cache(1024)
def _meta_around(before, after):
    """The meta information before and after its instance, None where an element of it ends elsewhere or repeats."""
    (first_half, n_before), (second_half, n_after) = (_read_meta(raw + bytes(8), 0) for raw in (before, after))
    meta = {**first_half, **second_half, _INSTANCE: []}
    is_whole = (n_before, n_after) == (len(before), len(after)) and len(meta) == len(first_half) + len(second_half) + 1
    return meta if is_whole else None


def _read_meta(head, at):
    meta = {}
    while head[at:at + 2] == b"\2\0" and at + 8 <= len(head):
        group, element, vr, length = unpack_from("<HH2sH", head, at)
        value = at + 8
        if vr in LONG_VRS and at + 12 <= len(head):
            length, value = unpack_from("<L", head, at + 8)[0], at + 12
        elif not vr.isalpha():
            length = unpack_from("<L", head, at + 4)[0]
        if length == UNDEFINED:
            break
        meta.setdefault(group << 16 | element, []).append(head[value:value + length])
        at = value + length
    return meta, at


def _meta_codes(meta, start, at):
    if not meta:
        return ["NO_META"]
    declared = first(meta, _GROUP_LENGTH)
    codes = ["META_LENGTH_WRONG"] if len(declared) == 4 and int.from_bytes(declared, "little") != at - start - 12 else []
    return codes if first(meta, _SYNTAX).strip(b" \0") else [*codes, "NO_TRANSFER_SYNTAX"]


def _inflate(packed):
    """`(data, whether it was stopped at INFLATE_LIMIT)`; data is None when the stream is damaged or has no end."""
    unpack = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpack.decompress(packed, INFLATE_LIMIT)
    except zlib.error:
        return None, False
    is_capped = not unpack.eof and len(data) >= INFLATE_LIMIT
    return (data, is_capped) if unpack.eof or is_capped else (None, False)


def _encoding(first, labelled):
    """`(implicit, big)` as the first element shows it: groups are small numbers, a VR is two capital letters; else as labelled."""
    big = labelled == ExplicitVRBigEndian if (first[0] == 0) == (first[1] == 0) else first[0] == 0
    letters = first[4:6]
    return not (letters.isalpha() and letters.isupper()), big
