"""Data sets printed as text (dcmdump, templates of dump2dcm, dcm4che's dcmdump and logs, pydicom) -> the elements of each."""

import ast
import re
from typing import NamedTuple

from pydicom.uid import UID_dictionary

from .dimse import sop_class
from .elements import ALL_READ, ITEM, ITEM_END, SEQUENCE_END
from .headerrows import OPENED, WANTED
from .part10 import Elements

_LINE = re.compile(rb"(?P<indent>[ \t]*)(?:\d+: ?)?(?P<deep>>*) ?\((?P<group>[0-9A-Fa-f]{4}), ?(?P<element>[0-9A-Fa-f]{4})\) (?P<rest>[^\r\n]*)")
_ITEM = re.compile(rb"[ \t]*(?:\d+: ?)?(?:(?P<deep>>+) ?I(?:TEM|tem) #|-{9}\s*$)")
_HEADING = re.compile(rb"\s*(?:#.*|\$dcmtk.*|Dataset\.file_meta -+)?\s*$", re.S)
_FILE, _DATA_SET = re.compile(rb"# Dicom-File-Format|Dataset\.file_meta -"), re.compile(rb"# Dicom-Data-Set")
_AFTER_VR = re.compile(rb"(?P<vr>[A-Za-z?]{2})(?: #-?\d+)?(?: +(?P<value>.*?))?(?: *# *\d+, *\d+ \S+)? *$")
_AFTER_NAME = re.compile(rb".*?(?:(?P<n>\d+) item\(s\) ----|\b(?P<vr>[A-Z]{2}(?: or [A-Z]{2})?): ?(?P<value>.*?)) *$")
_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", ""))
_UTF_16 = tuple(mark for mark, encoding in _MARKS if encoding)
_CHARSET, _NAMES_ONE = 0x00080005, (0x00080018, 0x0020000E, 0x0020000D, 0x00400252)
# What dcmdata calls transfer syntaxes by other words than PS3.6 table A-1.
_SYNTAXES = {"LittleEndianImplicit": "ImplicitVRLittleEndian", "LittleEndianExplicit": "ExplicitVRLittleEndian", "BigEndianExplicit": "ExplicitVRBigEndian",
             "DeflatedLittleEndianExplicit": "DeflatedExplicitVRLittleEndian", "JPEGBaseline": "JPEGBaseline8Bit",
             "JPEGLossless:Non-hierarchical-1stOrderPrediction": "JPEGLosslessSV1", "JPEG2000LosslessOnly": "JPEG2000Lossless"}
_UIDS = {word: uid for uid, entry in UID_dictionary.items() for word in (entry[0], entry[4]) if word}
_NOT_DICOM = "NOT_DICOM", "a dump that names no study, series or image"


class _Line(NamedTuple):
    at: int
    kind: str               # element, item, file or data set
    depth: int = 0
    tag: int = 0
    vr: bytes = b""
    value: bytes | None = b""       # None when the dump shortens it


def is_dump(head):
    """Whether `head` begins like a dump: nothing but headings before the first element."""
    first = next((line for line in _as_utf8(head[:4096])[0].splitlines() if not _HEADING.match(line)), b"")
    found = _LINE.match(first)
    return bool(found and (_AFTER_VR.match(found["rest"]) or _AFTER_NAME.match(found["rest"])))


def read_objects(data):
    """`(offset, n_bytes, Elements or None, None or (code, reason))` of each data set dumped in `data`, one by one.

    A value that the dump shortens is left out (TRUNCATED). In a dump of pydicom, and in one saved as UTF-16, text is Unicode already.
    """
    text, place = _as_utf8(data)
    is_named = bool(re.search(rb"(?m)^ *\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\) .*(?: [A-Z]{2}: |item\(s\) ----)", text))
    objects = _objects(_lines(text, is_named))
    ends = [place(lines[0].at) for lines in objects[1:]] + [len(data)]
    for start, end, lines in zip([0, *ends], ends, objects, strict=False):
        elements = _elements(lines, b"ISO_IR 192" if is_named or data[:2] in _UTF_16 else None)
        yield start, end - start, elements, None if elements else _NOT_DICOM


def _as_utf8(data):
    """`(data without its mark, where a place in that lies in the file)`; UTF-16, in which Windows' shell saves what a program prints, as UTF-8."""
    mark, encoding = next(((mark, e) for mark, e in _MARKS if data.startswith(mark)), (b"", ""))
    if not encoding:
        return data[len(mark):], lambda at: at + len(mark)
    text = data[2:].decode(encoding, "replace").encode()
    return text, lambda at: 2 + len(text[:at].decode("utf-8", "replace").encode(encoding))


def _lines(text, is_named):
    """The lines that say something, in order; `is_named` when an element's name stands before its value."""
    is_marked = bool(re.search(rb"(?m)^(?:\d+: ?)?>+ ?[(I]|\) [A-Z]{2} #-?\d+ ", text))
    n_open, base, at = 0, None, 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        found = _LINE.match(line)
        if not found:
            if item := _ITEM.match(line):
                yield _Line(start, "item", len(item["deep"] or b">"))
            elif _FILE.match(line) or _DATA_SET.match(line):
                n_open = 0
                yield _Line(start, "file" if _FILE.match(line) else "data set")
            continue
        tag, indent = int(found["group"] + found["element"], 16), len(found["indent"])
        base = indent if base is None else base
        depth = len(found["deep"]) if is_marked else (indent - base + 2) // 3 if is_named else max(n_open, int(indent > base))
        if tag in (ITEM, ITEM_END, SEQUENCE_END):
            n_open -= tag == SEQUENCE_END and n_open > 0
            yield _Line(start, "item", depth)
        elif parts := (_AFTER_NAME if is_named else _AFTER_VR).match(found["rest"]):
            vr = parts["vr"] or b"SQ"
            n_open += vr == b"SQ"
            yield _Line(start, "element", depth, tag, vr, _printed(parts["value"] or b"", vr) if is_named else _bracketed(parts["value"] or b"", tag))


def _objects(lines):
    """The lines of each data set; one ends where a file or data set is announced, or a tag comes again."""
    objects, tags = [[]], set()
    for line in lines:
        is_top = line.kind == "element" and not line.depth
        if line.kind == "file" and tags or line.kind == "data set" and any(tag >> 16 > 2 for tag in tags) or is_top and line.tag in tags:
            objects.append([])
            tags = set()
        objects[-1].append(line)
        tags |= {line.tag} if is_top else set()
    return objects


def _elements(lines, charset):
    """Elements, or None of a data set that is not about a study, series, image, performed step or worklist entry."""
    values, meta, items, codes, opened, is_new = {}, {}, {}, [], None, True
    for line in lines:
        if line.kind == "item" or line.vr == b"SQ" and not line.depth:
            is_new = is_new or line.depth <= 1
            if line.vr == b"SQ":
                opened = line.tag if line.tag in OPENED else None
                items.setdefault(line.tag, []) if opened else None
        elif line.kind != "element" or line.depth > 1 or line.depth and (opened is None or line.tag not in OPENED[opened]):
            continue
        elif line.value is None:
            codes += ["TRUNCATED"] if line.depth or line.tag in WANTED else []
        elif line.depth:
            if is_new:
                items[opened].append({})
                is_new = False
            items[opened][-1][line.tag] = [line.value]
        elif line.tag >> 16 == 2:
            meta[line.tag] = [line.value]
        elif line.tag in WANTED:
            values[line.tag] = [line.value]
    if charset:
        values[_CHARSET] = [charset]
    is_one = 0x00400100 in items or any(values.get(tag, [b""])[0] for tag in _NAMES_ONE)
    return Elements(meta, values, items, list(dict.fromkeys(codes)), ALL_READ) if is_one else None


def _bracketed(value, tag):
    """The value as `[text]`, `=NameOfUid`, `(no value available)` or plain; None when shortened."""
    if value.startswith(b"["):
        end = -1 if value.endswith(b"...") else value.rfind(b"]")
        return value[1:end] if end > 0 else None
    if value.startswith(b"="):
        name = value[1:].decode("latin-1")
        return (sop_class(name)[0] or _UIDS.get(_SYNTAXES.get(name, name), name)).encode()
    return b"" if value.startswith(b"(") and value.endswith(b")") else value


def _printed(value, vr):
    """The value as pydicom prints it: text in quotes, several in a list, a known UID by its name; None when shortened."""
    text = value.decode("utf-8", "replace")
    if re.fullmatch(r"Array of \d+ (?:elements|bytes)", text):
        return None
    try:
        parts = ast.literal_eval(text) if vr != b"UI" else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parts = None
    if parts is None:
        parts = text[1:-1].split(", ") if text.startswith("[") and text.endswith("]") else text
    return "\\".join(_UIDS.get(str(part), str(part)) for part in (parts if isinstance(parts, list) else [parts])).encode()
