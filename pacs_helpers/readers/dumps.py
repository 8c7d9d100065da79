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
_FILE, _DATA_SET = re.compile(rb"# Dicom-File-Format|# dcmdump \(\d+/\d+\)|Dataset\.file_meta -"), re.compile(rb"# Dicom-Data-Set")
_PRINTED_BY_DCMDUMP = re.compile(rb"(?m)^ *\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\) .*# *\d+, *\d+ \S+\s*$")
_VALUE_END = re.compile(rb".*\](?: *# *\d+, *\d+ \S+)?\s*$", re.S)
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
_PIECES = "NOT_DICOM", "single elements picked from a dump: which are nested, and which belong together, is not told; dump whole data sets, or convert them with dcm2json"


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


def has_elements(head):
    """Whether lines of a dump stand in `head` behind something else: a prompt, a quotation mark, a log's prefix."""
    return bool(re.search(rb"\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\) [A-Z]{2} (?:\[|=|#)", head))


def read_objects(data):
    """`(offset, n_bytes, Elements or None, None or (code, reason))` of each data set dumped in `data`, one by one.

    A value that the dump shortens is left out (TRUNCATED), and one that stands twice in a data set (DUPLICATE_TAG). In a dump of pydicom, and in one
    saved as UTF-16, text is Unicode already.
    """
    text, place = _as_utf8(data)
    if _PRINTED_BY_DCMDUMP.search(text) and b"# Dicom-Data-Set" not in text:
        yield 0, len(data), None, _PIECES
        return
    is_named = bool(re.search(rb"(?m)^ *\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\) .*(?: [A-Z]{2}: |item\(s\) ----)", text))
    objects = _objects(_lines(text, is_named), is_named)
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
    n_open, n_items, base, at, is_inside = 0, [], None, 0, False
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        if is_inside:       # a value of several lines, which may look like anything
            is_inside = not _VALUE_END.match(line)
            continue
        found = _LINE.match(line)
        if not found:
            if item := _ITEM.match(line):
                yield _Line(start, "item", len(item["deep"] or b">") if is_marked else max(len(n_items), 1))
                if n_items and not item["deep"]:
                    n_items[-1] -= 1
                    while n_items and not n_items[-1]:
                        n_items.pop()
            elif _FILE.match(line) or _DATA_SET.match(line):
                n_open = 0
                yield _Line(start, "file" if _FILE.match(line) else "data set")
            continue
        tag, indent = int(found["group"] + found["element"], 16), len(found["indent"])
        base = indent if base is None else base
        depth = len(found["deep"]) if is_marked else max((indent - base + 2) // 3, len(n_items)) if is_named else max(n_open, int(indent > base))
        if tag in (ITEM, ITEM_END, SEQUENCE_END):
            n_open -= tag == SEQUENCE_END and n_open > 0
            yield _Line(start, "item", depth)
        elif parts := (_AFTER_NAME if is_named else _AFTER_VR).match(found["rest"]):
            vr, value = parts["vr"] or b"SQ", parts["value"] or b""
            n_open += vr == b"SQ"
            if vr == b"SQ" and is_named and (n := int(parts["n"] or 0)):
                n_items.append(n)
            is_inside = value.startswith(b"[") and b"]" not in value and not value.endswith(b"...") and not is_named and not is_marked
            yield _Line(start, "element", depth, tag, vr, _printed(value, vr) if is_named else _bracketed(value))


def _objects(lines, is_sorted):
    """The lines of each data set; one ends where a file or data set is announced, or, in a dump that `is_sorted`, where a tag does not follow the last."""
    objects, tags = [[]], [0]
    for line in lines:
        is_top = line.kind == "element" and not line.depth
        if line.kind == "file" and tags[1:] or line.kind == "data set" and tags[-1] >> 16 > 2 or is_sorted and is_top and line.tag <= tags[-1]:
            objects.append([])
            tags = [0]
        objects[-1].append(line)
        tags += [line.tag] if is_top else []
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
            values[line.tag] = [b"" if line.tag in values else line.value]
            codes += ["DUPLICATE_TAG"] if values[line.tag] != [line.value] else []
    if charset:
        values[_CHARSET] = [charset]
    is_one = 0x00400100 in items or any(values.get(tag, [b""])[0] for tag in _NAMES_ONE)
    return Elements(meta, values, items, list(dict.fromkeys(codes)), ALL_READ) if is_one else None


def _bracketed(value):
    """The value as `[text]`, `=NameOfUid`, `(no value available)` or plain with a comment; None when shortened."""
    if value.startswith(b"["):
        end = -1 if value.endswith(b"...") else value.rfind(b"]")
        return value[1:end] if end > 0 else None
    if value.startswith(b"="):
        name = value[1:].decode("latin-1")
        return (sop_class(name)[0] or _UIDS.get(_SYNTAXES.get(name, name), name)).encode()
    return b"" if value.startswith(b"(") and value.endswith(b")") else value.partition(b"#")[0].rstrip()


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
