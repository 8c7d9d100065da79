"""Raw DICOM values as text: character sets (PS3.3 C.12.1.1.2), padding and control characters, and the doubts about them."""

import re
import threading
import warnings
from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, default_encoding, python_encoding
from pydicom.valuerep import MAX_VALUE_LEN, TEXT_VR_DELIMS

PADDING = " \0"
_LATIN = {"latin_1", "iso8859_2", "iso8859_3", "iso8859_4", "iso_ir_148"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_C1 = re.compile(r"[\x80-\x9f]")
_UID = re.compile(r"(?:0|[1-9][0-9]*+)(?:\.(?:0|[1-9][0-9]*+))++")
_RAW_UID = re.compile(_UID.pattern.encode() + rb"\0?")
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")
_WARNINGS = threading.Lock()    # catch_warnings is not safe between threads


@lru_cache(maxsize=1024)
def character_set(raw):
    """`(Python encodings, code)` of Specific Character Set (0008,0005); no encodings when it names none beyond ASCII."""
    terms = [t.strip(PADDING) for t in raw.decode("latin-1").split("\\")]
    if terms in ([""], ["ISO_IR 6"], ["ISO 2022 IR 6"]):
        return (), ""
    if any(t not in python_encoding for t in terms):
        return (), "CHARSET_UNKNOWN"
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(convert_encodings(terms)), ""


def decode(raw, charset):
    """`(text, code)` of a value under the raw (0008,0005) `charset`, padding and all. The code says the text is a guess."""
    if raw.isascii() and (b"\x1b" not in raw or b"2022" not in charset):
        return raw.decode("ascii"), ""
    encodings, unknown = character_set(charset)
    if not encodings:
        return _guess(raw), unknown or "CHARSET_MISSING"
    if b"\x1b" in raw:
        return _with_escapes(raw, encodings)
    if encodings[0] == default_encoding:
        return _guess(raw), "CHARSET_MISSING"
    try:
        text = raw.decode(encodings[0])
    except UnicodeDecodeError:
        return _guess(raw), "CHARSET_MISMATCH"
    # By chance UTF-8 bytes are good Cyrillic, Thai or Katakana too: there only control characters give them away.
    doubtful = encodings[0] in _LATIN or _C1.search(text)
    return (_guess(raw), "CHARSET_MISMATCH") if doubtful and _guess(raw) != raw.decode("latin-1") else (text, "")


def _with_escapes(raw, encodings):
    with _WARNINGS, warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        return decode_bytes(raw, encodings, TEXT_VR_DELIMS), "CHARSET_MISMATCH" if doubts else ""


def _guess(raw):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def show(raw, vr, charset):
    """`(shown, codes, spelled)`: a raw value as the table shows it, and its own spelling where that differs by more than a pad.

    `spelled` is None where it does not, and the bytes one by one where the character set is in doubt.
    """
    if vr == "UI" and len(raw) <= MAX_VALUE_LEN["UI"] and _RAW_UID.fullmatch(raw):      # of which no file has the last one's
        return raw.rstrip(b"\0").decode("ascii"), (), None
    return _shown(raw, vr, charset)


@lru_cache(maxsize=1 << 16)
def _shown(raw, vr, charset):
    text, doubt = decode(raw, charset)
    shown, codes = clean(text, vr)
    if doubt:
        return shown, (doubt, *codes), raw.decode("latin-1")
    return shown, tuple(codes), None if text in (shown, shown + " ", shown + "\0") else text


def clean(text, vr):
    """`(text, codes)` to show: outer padding and a name's trailing ^ gone, control characters written as \\xNN."""
    shown = text.strip(PADDING)
    if vr == "PN":
        shown = re.sub(r"[\^ \0]+(?=[=\\]|$)", "", shown).rstrip("=")
    codes = []
    if _CONTROL.search(shown):
        shown = _CONTROL.sub(lambda m: f"\\x{ord(m.group()):02x}", shown)
        codes.append("CONTROL_CHARS")
    return shown, codes + _form(shown, vr)


def _form(text, vr):
    if not text:
        return []
    if vr == "UI":
        return [] if len(text) <= MAX_VALUE_LEN["UI"] and _UID.fullmatch(text) else ["BAD_UID"]
    if vr == "IS":
        return [] if _NUMBER.fullmatch(text) else ["BAD_NUMBER"]
    longest = max(map(len, re.split(r"[\\=]" if vr == "PN" else r"\\", text)))
    return ["TOO_LONG"] if longest > MAX_VALUE_LEN.get(vr, 64) else []
