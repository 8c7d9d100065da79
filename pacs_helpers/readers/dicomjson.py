"""DICOM JSON (PS3.18 annex F) and the JSON of Orthanc's REST interface -> the elements of each object, as a file in UTF-8 would hold them."""

import json
import re

from pydicom.datadict import keyword_for_tag

from .elements import ALL_READ
from .headerrows import COUNTED, OPENED, WANTED
from .part10 import Elements

_BEGINS = re.compile(rb'(?:\xef\xbb\xbf)?[\s\[]*\{\s*["}]')
# Between objects: what lists are made of, and Orthanc's names of its resources where it keys objects by them.
_BETWEEN = re.compile(r'(?:[\s,\[\]}\ufeff]|\{?\s*"(?:[0-9a-f]{8}-){4}[0-9a-f]{8}"\s*:)*+')
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{4},?[0-9A-Fa-f]{4}")
_NAME = ("Alphabetic", "Ideographic", "Phonetic")
_PARTS = ("MainDicomTags", "PatientMainDicomTags", "RequestedTags")
_KEPT = WANTED.union(COUNTED)
_TAG = {keyword_for_tag(tag): tag for tag in [*_KEPT, *OPENED, *(t for inside in OPENED.values() for t in inside)]}
_CHARSET, _WORKLIST, *_UIDS = (_TAG[k] for k in ("SpecificCharacterSet", "ScheduledProcedureStepSequence", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
_NOT_DICOM = "NOT_DICOM", "JSON that names no study, series or image"
_BAD_JSON = "BAD_JSON", "no JSON object can be read here, so nothing after it either: the answer is cut or damaged; save it again"
_CUT = "TRUNCATED", "the list of objects has no end: the answer is cut; save it again"


def is_json(data):
    """Whether `data` begins like an object of JSON or a list of them."""
    return bool(_BEGINS.match(data[:4096])) and data[128:132] != b"DICM"


def read_objects(data):
    """`(offset, n_bytes, Elements or None, None or (code, reason))` of each object in UTF-8 `data`, one by one, up to where it is damaged."""
    text, at, end = data.decode("utf-8", "surrogateescape"), 0, 0
    while (start := _BETWEEN.match(text, end).end()) < len(text):
        at += len(_bytes(text[end:start]))
        try:
            answer, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            yield at, len(data) - at, None, _BAD_JSON
            return
        found, n_bytes = _elements(answer), len(_bytes(text[start:end]))
        yield at, n_bytes, found, None if found else _NOT_DICOM
        at += n_bytes
    if not end:
        yield 0, len(data), None, _NOT_DICOM
    elif text.lstrip("\ufeff \t\r\n")[:1] == "[" and text.rstrip()[-1:] != "]":
        yield len(data), 0, None, _CUT


def _object(pairs):
    """A dict; of a name that an object has twice the first counts, as in a file."""
    found = dict(reversed(pairs))
    return found if len(found) == len(pairs) else {**found, None: True}


# Numbers stay as they are spelled.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, strict=False, object_pairs_hook=_object)


def _elements(answer):
    """Elements, or None of what is not about a study, series, image or worklist entry."""
    if not isinstance(answer, dict):
        return None
    flat = {key: value for part in (answer, *map(answer.get, _PARTS)) if isinstance(part, dict) for key, value in part.items()}
    if answer.get("Type") == "Series" and isinstance(answer.get("Instances"), list):
        flat["NumberOfSeriesRelatedInstances"] = str(len(answer["Instances"]))
    values, meta, items = {_CHARSET: [b"ISO_IR 192"]}, {}, {}
    for key, value in flat.items():
        tag = _tag(key)
        if tag in OPENED:
            items[tag] = [{**{t: [_raw(v)] for k, v in item.items() if (t := _tag(k)) in OPENED[tag]}, _CHARSET: [b"ISO_IR 192"]}
                          for item in _content(value) if isinstance(item, dict)]
        elif tag in _KEPT and tag != _CHARSET:
            values[tag] = [_raw(value)]
        elif tag and tag >> 16 == 2:
            meta[tag] = [_raw(value)]
    if not (_WORKLIST in items or any(values.get(tag, [b""])[0] for tag in _UIDS)):
        return None
    return Elements(meta, values, items, ["DUPLICATE_TAG"] if None in flat else [], ALL_READ)


def _tag(key):
    return int(key.replace(",", ""), 16) if key and _HEXADECIMAL.fullmatch(key) else _TAG.get(key)


def _content(value):
    """The list of values of an element: of its Value where it has one, else of itself."""
    if isinstance(value, dict) and not value.keys() & set(_NAME):
        value = value.get("Value")
    return value if isinstance(value, list) else [value]


def _raw(value):
    return _bytes("\\".join(_text(one) for one in _content(value)))


def _text(value):
    if isinstance(value, dict):
        return "=".join(_text(value.get(group)) for group in _NAME).rstrip("=")
    return value if isinstance(value, str) else ""


def _bytes(text):
    """UTF-8, with the bytes that were none as they lay in the file."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:      # half a pair of \ud escapes
        return text.encode("utf-8", "replace")
