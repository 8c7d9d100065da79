"""How HL7 v2 text is spelled: the line ends of a file, and the character set, delimiters and escapes of one message."""

import codecs
import html
import re
from functools import lru_cache

# HL7 table 0211, and the spellings of it that feeds send
_ONE_BYTE = {f"8859/{n}": f"iso8859_{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)}
CHARACTER_SETS = {
    "ASCII": "ascii", "ISO IR6": "ascii", "ISO IR14": "iso2022_jp", "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030", "KS X 1001": "euc_kr", "BIG-5": "big5", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8", **_ONE_BYTE,
}
UTF_16 = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"M\0S\0H\0", "utf-16-le"), (b"\0M\0S\0H", "utf-16-be"))
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LOG_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))", re.S)
_LETTERS = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"v": b"\x0b", b"f": b"\x0c", b"b": b"\x08", b"a": b"\x07"}
_ISO_2022 = ("iso2022_jp", "iso2022_jp_1")

_RECORD = rb"[<>] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+  length=\d+ from=\d+ to=\d+"       # socat -v writes one before each chunk
# (how to tell that a file uses it, line ends, end-of-block bytes, what is neither)
SPELLINGS = (
    (rb"", rb"\r\n|[\r\n]", rb"\x1c", rb""),
    (rb"<(?:R|CR|SB|EB|VT|FS)>", rb"<(?:R|CR)>(?:<LF>)?", rb"<(?:EB|FS)>", rb""),
    # Python repr, JSON and socat double the backslash, so an even number of them ends no line.
    (rb"MSH[!-/:-@\[-`{-~]{2,4}\\\\", rb"\\(?:r|x0[dD]|u000[dD])|\\(?:n|x0[aA]|u000[aA])", rb"\\(?:x1[cC]|u001[cC])", rb"\\\\"),
    (rb"(?<!\\)\\[rn](?:\\n)?[A-Z][A-Z0-9]{2}[|]", rb"\\r(?:\\n)?(?=[A-Z][A-Z0-9]{2}[|]|['\"\s\\<]|\Z)|\\n(?=[A-Z][A-Z0-9]{2}[|])", rb"", rb""),
    (rb"MSH[!-/:-@\[-`{-~]{2,4}&amp;", rb"&#(?:13|10|x0?[dDaA]);", rb"&#(?:28|x1[cC]);", rb""),
    # socat shows the end-of-block byte 0x1C as a dot; only what follows tells it from a full stop.
    (_RECORD, rb"", rb"\.\\r(?=" + _RECORD + rb"|\Z)", rb""),
)


def line_ends(data):
    """A pattern of every way that this file ends a line; its groups: close (end of block), record (socat's own line), neither (no line end)."""
    return _pattern_of([s for s in SPELLINGS if re.search(s[0], data)])


def _pattern_of(used):
    lines, blocks, neither = (b"|".join(filter(None, column)) for column in list(zip(*used, strict=True))[1:])
    neither = rb"(?P<neither>" + neither + rb")|" if neither else b""
    record = rb"|(?P<record>" + _RECORD + rb"\r?\n?)" if used[-1][0] is _RECORD else b""
    return re.compile(neither + rb"(?P<close>" + blocks + rb")|" + lines + record)


PLAIN_ENDS = _pattern_of(SPELLINGS[:1])


def as_utf8(data):
    """`(text, size)`: the file as UTF-8 when it is UTF-16, and the function from a place in the text to the byte in the file."""
    coding = next((c for mark, c in UTF_16 if data.startswith(mark)), None)
    if coding is None:
        return data, int
    text = data[:len(data) // 2 * 2].decode(coding, "surrogatepass").encode("utf-8", "surrogatepass")
    known = [0, 0]

    def size(place):
        if place < known[0]:
            known[:] = 0, 0
        known[1] += len(text[known[0]:place].decode("utf-8", "surrogatepass").encode(coding, "surrogatepass"))
        known[0] = place
        return len(data) if place == len(text) else known[1]

    return text, size


def decode_message(message, *, is_utf8=False):
    """`(segments as text, problem codes)` of a found message; `is_utf8` when the file's own encoding is known, whatever MSH-18 says.

    Well-formed UTF-8 is taken as UTF-8 under any one-byte label: other text almost never is. Else the declared set, then Windows-1252.
    """
    segments = [_as_sent(s, message) for s in message.segments]
    raw = b"\r".join(segments)
    problems = list(message.codes)
    if b"\0" in raw:
        problems.append("NUL_BYTES")
        raw = raw.replace(b"\0", b"")
    is_ascii = raw.isascii()
    if is_ascii and b"\x1b" not in raw:
        return raw.decode("ascii").split("\r"), problems
    declared = _declared(raw)
    codec = CHARACTER_SETS.get(declared, "") or _known_codec(declared)
    if is_ascii and codec not in _ISO_2022:
        return raw.decode("ascii").split("\r"), problems
    text, used = _decode(raw, codec)
    # A log that writes messages in escapes has put them into its own character set: the feed's label is not to blame.
    is_rewritten = is_utf8 or message.is_escaped and not message.is_bytes_literal
    code = _charset_code(used, codec, declared)
    if code and not (is_rewritten and used == "utf-8"):
        problems.append(code)
    return text.split("\r"), problems


@lru_cache(maxsize=1000)
def charset_problem(declared):
    """Problem code of text beyond ASCII that is well-formed UTF-8, when MSH-18 is `declared`; None when that names a set which comes first."""
    declared = _declared(b"MSH|^~\\&" + b"|" * 16 + declared)
    codec = CHARACTER_SETS.get(declared, "") or _known_codec(declared)
    return None if codec != "utf-8" and _comes_first(codec) else _charset_code("utf-8", codec, declared)


def _charset_code(used, codec, declared):
    return "" if used == codec else "CHARSET_MISMATCH" if codec else "CHARSET_UNKNOWN" if declared else "CHARSET_MISSING"


def _as_sent(segment, message):
    """A segment without the log's own escapes. A line end that they hide inside a field becomes a line feed."""
    if message.is_entities:
        segment = html.unescape(segment.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    elif message.is_escaped and b"\\" in segment:
        segment = _LOG_ESCAPE.sub(lambda found: _unescaped(found, message.is_bytes_literal), segment)
    return segment.replace(b"\r", b"\n") if b"\r" in segment else segment


def _unescaped(found, is_bytes_literal):
    byte, high, low, code, letter = found.groups()
    if byte:
        return bytes([int(byte, 16)]) if is_bytes_literal else chr(int(byte, 16)).encode()
    if high:
        return (bytes.fromhex(high.decode()) + bytes.fromhex(low.decode())).decode("utf-16-be").encode()
    if code:
        return chr(int(code, 16)).encode("utf-8", "replace")
    return _LETTERS.get(letter, letter)


def _declared(raw):
    """MSH-18, the last of its repetitions that is not ASCII."""
    fields = raw.split(b"\r", 1)[0].split(raw[3:4])
    if len(fields) < 18:
        return ""
    sets = [s.split(raw[4:5])[0].decode("latin-1").strip().upper() for s in fields[17].split(raw[5:6] or b"~")]
    return next((s for s in reversed(sets) if s not in ("", "ASCII")), sets[0])


def _known_codec(declared):
    """Python's name for a set that is spelled in another way, such as UTF-8 or ISO-8859-1; "" when there is none."""
    try:
        return codecs.lookup(declared.replace("/", "-").replace(" ", "-")).name.replace("-", "_").replace("utf_8", "utf-8") if declared else ""
    except (LookupError, ValueError):
        return ""


def _comes_first(codec):
    return codec in CHARACTER_SETS.values() and codec not in _ONE_BYTE.values() and codec != "ascii"


def _decode(raw, codec):
    for name in ([codec, "utf-8"] if _comes_first(codec) else ["utf-8", codec]):
        try:
            if name and not (name == codec and codec in _ONE_BYTE.values() and _has_c1(raw)):
                return raw.decode(name), name
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("cp1252", "replace") if b"\x81" not in raw else raw.decode("latin-1"), "cp1252"


def _has_c1(raw):
    """Whether bytes are there that ISO 8859 leaves to control codes and Windows-1252 uses for letters."""
    return re.search(rb"[\x80-\x9f]", raw) is not None


@lru_cache(maxsize=256)
class Delimiters:
    """The separators of messages that begin with these nine characters (chapter 2.5.4); what MSH-2 leaves out is as usual."""

    def __init__(self, header):
        marks = header[4:].split(header[3], 1)[0].replace(" ", "\\")     # a backslash that was lost on the way
        self.field = header[3]
        self.component, self.repetition, self.escape, self.subcomponent = (marks + "^~\\&"[len(marks):])[:4]
        mark = re.escape(self.escape)
        self._sequence = re.compile(f"{mark}([^{mark}]*){mark}")
        self._known = {"F": self.field, "S": self.component, "T": self.subcomponent, "R": self.repetition, "E": self.escape,
                       "P": marks[4:5], ".br": "\n", "H": "", "N": ""}

    def plain(self, value, codes):
        """A value with its escapes undone (chapter 2.7); HL7's null `""` is empty, control characters are shown as \\x1b.

        What is no escape stays as it is; doubts go to the list `codes`.
        """
        value = value.strip()
        if value == '""':
            return ""
        if self.escape in value:
            value = self.undo(value, codes)
        if not value.isprintable() and _CONTROLS.search(value):
            codes.append("CONTROL_CHARS")
            value = _CONTROLS.sub(lambda found: f"\\x{ord(found.group()):02x}", value)
        return value

    def undo(self, value, codes):
        """`value` with its escapes undone; BAD_ESCAPE in `codes` when some are none."""
        if self.escape in self._sequence.sub("", value):
            codes.append("BAD_ESCAPE")
        return self._sequence.sub(lambda found: self._character(found, codes), value)

    def _character(self, found, codes):
        code = found.group(1)
        if code in self._known:
            return self._known[code]
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            return bytes.fromhex(code[1:]).decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        if not re.fullmatch(r"\.(?:sp|fi|nf|in|ti|sk|ce)[+-]?\d*|[CMZ][0-9A-Za-z]*", code):
            codes.append("BAD_ESCAPE")
        return found.group()
