"""A DICOM file with a few elements changed and every other one left byte for byte, its old values kept in the Original Attributes Sequence (0400,0561)."""

import re
import warnings
import zlib
from io import BytesIO
from struct import error as StructError
from struct import pack
from typing import NamedTuple

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.valuerep import PersonName

from ..readers.elements import LONG_VRS, PIXELS, UNDEFINED, walk
from ..readers.part10 import deflates, open_data_set
from .ledger import TOOL, CodedError

ORIGINAL, REQUESTS, CHARACTER_SET = 0x04000561, 0x00400275, 0x00080005
_INSTANCE = 0x00080018
_SAFE = {"TRAILING_BYTES", "ODD_LENGTH", "UNKNOWN_VR", "TRANSFER_SYNTAX_MISMATCH"}
_LONGEST = {"SH": 16, "LO": 64, "PN": 64, "CS": 16}
_DAMAGED = (ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError, OSError, RecursionError, StructError, TypeError, ValueError)     # of pydicom
UID = re.compile(rb"[0-9][0-9.]{5,63}")


class Refused(CodedError):
    """A file that no corrected copy is made of, and why, without a patient's value."""


class _File(NamedTuple):
    start: int
    meta: bytes             # preamble and meta information as they lie there
    syntax: str
    elements: dict          # tag -> the element's bytes, in the order of the file
    tail: bytes             # what follows the last element
    implicit: bool
    order: str


def _opened(data):
    start, at, syntax, body, begin, implicit, big = open_data_set(data)
    if len(body) <= begin and deflates(syntax):
        raise Refused("BAD_DEFLATE", "the deflated data set is damaged or too large to be opened here; ask for the file again, not deflated")
    if len(body) <= begin or at == 0 and sorted(body[:2]) not in ([0, 4], [0, 8]):
        raise Refused("NOT_DICOM", "no DICOM file, or a packed one; unpack it, or leave it out")
    passed = []
    _, _, codes, _ = walk(lambda p, n: body[p:p + n], begin, len(body), implicit=implicit, big=big, wanted=frozenset(), opened={}, passed=passed)
    if bad := [code for code in codes if code not in _SAFE] or ["NO_DATASET"] * (not passed):
        raise Refused(bad[0], "the file is damaged there, and a copy would carry guesses; ask for the file again")
    top = [entry for entry in passed if entry[4] is passed[0][4]]
    ends = [entry[0] for entry in top[1:]] + [len(body) if top[-1][2] == UNDEFINED else top[-1][1] + top[-1][2]]
    view = memoryview(body)                 # pixels may be large
    elements = {entry[3]: view[entry[0]:end] if entry[3] in PIXELS else body[entry[0]:end] for entry, end in zip(top, ends)}
    return _File(start, data[:at], syntax, elements, body[ends[-1]:], implicit, ">" if big else "<")


def rewrite(data, steps, references=None, own_study=("", "")):
    """`(bytes of the copy, [tag that differs, ...])` after `steps`: `[(decided_at, {keyword: text}), ...]`, in order.

    The value of RequestAttributesSequence is an accession number whose items are taken out. `references`: {UID: (its new UID, its new study's)}
    for what moved to another study; references to those follow. `own_study`: old and new UID of the study that the file is in.
    Refused where a value does not fit, or the file is damaged.
    """
    file = _opened(data)
    elements, before, items = dict(file.elements), file.elements, []
    for number, (decided_at, values) in enumerate(steps, 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new = dict(filter(None, (_changed(file, elements, keyword, value) for keyword, value in values.items())))
                if number == len(steps) and references:
                    new |= _followed(file, elements, references, own_study)
        except _DAMAGED:
            raise Refused("SEQUENCE_DAMAGED", "a sequence that has to change cannot be read; ask for the file again") from None
        if new:
            items.append(_history(file, elements, new, decided_at))
            elements = {tag: raw for tag, raw in {**elements, **new}.items() if raw}
    if not items:
        return data, []
    elements[ORIGINAL] = _element(file, ORIGINAL, "SQ", _items_of(file, elements.get(ORIGINAL, b"")) + b"".join(items))
    touched = {tag >> 16 for tag in _differing(before, elements)}
    elements = {tag: elements[tag] for tag in sorted(elements) if tag & 0xFFFF or tag >> 16 not in touched}     # a group length would be wrong now
    changes = sorted(_differing(before, elements))
    body = [*elements.values(), file.tail]
    return b"".join([_meta(file, _value_of(file, elements.get(_INSTANCE, b""))), *([_deflated(b"".join(body))] if deflates(file.syntax) else body)]), changes


def find_differences(one, other):
    """The tags whose elements are not the same bytes in two files, as a set; -1 for what follows them."""
    files = [_opened(data) for data in (one, other)]
    a, b = (file.elements for file in files)
    return _differing(a, b) | ({-1} if files[0].tail != files[1].tail else set())


def _differing(a, b):
    return {tag for tag in {*a, *b} if a.get(tag) is not b.get(tag) and a.get(tag) != b.get(tag)}


def read_texts(data, keywords):
    """{keyword: text} of a file's top-level elements, decoded; "" for those that are not there."""
    file = _opened(data)
    return {keyword: _decoded(file, file.elements, keyword) for keyword in keywords}


def _decoded(file, elements, keyword):
    raw = _value_of(file, elements.get(tag_for_keyword(keyword), b""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_bytes(raw, _encodings(file, elements), {0x5E, 0x3D}).strip(" \0")


def _encodings(file, elements):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return convert_encodings(_value_of(file, elements.get(CHARACTER_SET, b"")).decode("latin-1").strip(" \0").split("\\"))


def _value_of(file, raw):
    """The value bytes of an element's bytes."""
    return raw[12 if not file.implicit and raw[4:6] in LONG_VRS else 8:]


def _element(file, tag, vr, value):
    value += (b"\0" if vr == "UI" else b" ") * (len(value) & 1)
    head = pack(file.order + "HH", tag >> 16, tag & 0xFFFF)
    if file.implicit:
        return head + pack(file.order + "L", len(value)) + value
    return head + vr.encode() + (pack(file.order + "HL", 0, len(value)) if vr.encode() in LONG_VRS else pack(file.order + "H", len(value))) + value


def _changed(file, elements, keyword, value):
    """`(tag, new bytes)`, with none where the element goes; None where it stays as it is."""
    tag = tag_for_keyword(keyword)
    if tag == REQUESTS:
        return _without_requests(file, elements, value)
    if _decoded(file, elements, keyword) == value:
        return None
    vr = dictionary_VR(tag)
    if "\\" in value or any(ord(c) < 32 for c in value) or len(value) > _LONGEST.get(vr, 64):
        raise Refused("VALUE_NOT_ALLOWED", f"{keyword} ({vr}) cannot hold the new value: at most {_LONGEST.get(vr, 64)} characters, no backslash and no control characters")
    encodings = _encodings(file, elements)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            raw = PersonName(value).encode(encodings) if vr == "PN" else encode_string(value, encodings)
        is_whole = decode_bytes(raw, encodings, {0x5E, 0x3D}) == value
    except (UserWarning, UnicodeError, LookupError):
        is_whole = False
    if not is_whole:
        raise Refused("CHARACTER_SET", f"the new {keyword} cannot be written in the character set of the file (0008,0005)")
    return tag, _element(file, tag, vr, raw)


def _without_requests(file, elements, number):
    """The Request Attributes without the items that name the accession number."""
    raw = elements.get(REQUESTS)
    if not raw or number.encode("latin-1", "replace") not in raw:
        return None
    data_set = _parsed(file, raw)
    kept = [item for item in data_set[REQUESTS].value if str(item.get("AccessionNumber", "")).strip() != number]
    if len(kept) == len(data_set[REQUESTS].value):
        return None
    data_set[REQUESTS].value = kept
    return REQUESTS, _written(file, data_set) if kept else b""


def _followed(file, elements, references, own_study):
    """{tag: bytes} of the sequences that refer to what moved, with the new UIDs."""
    known, new = {uid.encode() for uid in (*references, own_study[0])}, {}
    for tag, raw in elements.items():
        is_sequence = file.implicit or raw[4:6] in (b"SQ", b"UN")
        if is_sequence and tag not in (ORIGINAL, *PIXELS) and known & set(UID.findall(raw)):
            data_set = _parsed(file, raw)
            if _vr_of(data_set[tag]) == "SQ" and any([_follow(item, references, own_study)[1] for item in data_set[tag].value]):
                new[tag] = _written(file, data_set)
    return new


def _follow(item, references, own_study):
    """`(studies, whether anything was changed)`: where the references in an item lead to now, "" for what has not moved."""
    studies, is_changed = set(), False
    for tag in list(item.keys()):
        if _vr_of(item.get_item(tag)) == "SQ":
            for inner in item[tag].value:
                led, changed = _follow(inner, references, own_study)
                studies, is_changed = studies | led, is_changed or changed
        elif tag in (0x00081155, 0x0020000E):
            uid = str(item[tag].value)
            to, study = (own_study[1],) * 2 if uid == own_study[0] else references.get(uid, ("", ""))
            studies |= {study} if to or tag == 0x00081155 else set()
            if to:
                item[tag].value, is_changed = to, True
    if 0x0020000D in item and len(studies) == 1 and "" not in studies:
        item[0x0020000D].value = next(iter(studies))
    return studies, is_changed


def _vr_of(element):
    try:
        return element.VR or dictionary_VR(element.tag)
    except KeyError:
        return "UN"


def _parsed(file, raw):
    """The data set of one sequence's bytes. A sequence that would not be written as it was read is damaged, or in a form that only its author knows."""
    data_set = read_dataset(BytesIO(raw), file.implicit, file.order == "<")
    _follow(data_set, {}, ("", ""))
    if _written(file, data_set) != raw:
        raise ValueError
    return data_set


def _written(file, data_set):
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = file.implicit, file.order == "<"
    write_dataset(out, data_set)
    return out.getvalue()


def _history(file, elements, new, decided_at):
    """The item of the Original Attributes Sequence for one decision: what was there, when it was decided, and by which system it was changed."""
    old = b"".join(elements.get(tag) or _element(file, tag, dictionary_VR(tag), b"") for tag in sorted(new))
    stamp = re.sub(r"[-:T]", "", decided_at[:23]) + "000+0000"
    content = [_element(file, 0x04000550, "SQ", _item(file, old)), _element(file, 0x04000562, "DT", stamp.encode()), _element(file, 0x04000563, "LO", TOOL.encode()),
               _element(file, 0x04000564, "LO", b""), _element(file, 0x04000565, "CS", b"CORRECT")]
    return _item(file, b"".join(content))


def _item(file, content):
    return pack(file.order + "HHL", 0xFFFE, 0xE000, len(content)) + content


def _items_of(file, raw):
    """The items of a sequence's bytes, without its own header and end."""
    if raw and not file.implicit and raw[4:6] != b"SQ":
        raise Refused("ORIGINAL_ATTRIBUTES", "its Original Attributes Sequence is not written as a sequence")
    is_open = raw[4 if file.implicit else 8:][:4] == b"\xff" * 4
    return _value_of(file, raw)[:-8 if is_open else None]


def _meta(file, instance):
    """Preamble and meta information of the copy: zeros, and the SOP Instance UID that the data set has now."""
    head, meta = (bytes(128) + b"DICM", file.meta[132:]) if file.start == 132 else (file.meta[:file.start], file.meta[file.start:])
    at = meta.find(b"\2\0\3\0UI")
    if at < 0:
        return head + meta
    end = at + 8 + int.from_bytes(meta[at + 6:at + 8], "little")
    if meta[at + 8:end].strip(b" \0") != instance.strip(b" \0"):
        meta = meta[:at + 6] + pack("<H", len(instance)) + instance + meta[end:]
        if meta[:8] == b"\2\0\0\0UL\4\0":
            meta = meta[:8] + pack("<L", len(meta) - 12) + meta[12:]
    return head + meta


def _deflated(body):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(body) + packer.flush()
    return packed + b"\0" * (len(packed) & 1)
