"""Zip archives -> their members, one by one and in memory; nothing is ever written."""

import errno
import lzma
import re
import stat
import struct
import zlib
from zipfile import BadZipFile, ZipFile

MEMBER_LIMIT = 32 << 20
ARCHIVE_LIMIT = 1 << 30
MOST_MEMBERS = 100_000
_STEP = 1 << 14             # inflates to 16 MB at most
_LOCAL, _EMPTY = b"PK\3\4", b"PK\5\6"
_DAMAGE = (BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, IndexError, NotImplementedError, OSError)
_CLIMBS = re.compile(r"[\\/]|[A-Za-z]:|(?:.*[\\/])?\.\.(?:[\\/]|$)", re.S)
_BAD_MEMBER = "BAD_ARCHIVE", "this member is damaged or packed in an unknown way; copy the archive again"
_BAD_ARCHIVE = "BAD_ARCHIVE", "the archive is cut or damaged: what came before was read, nothing after; copy it again"
_ENCRYPTED = "ENCRYPTED", "this member needs a password; unpack the archive and load the folder"
_LINK = "LINK_SKIPPED", "a link or device in an archive; links are not followed"
_PATH = "ARCHIVE_PATH", "a name that leads out of the archive; it was not read, ask where the archive comes from"
_LARGE_MEMBER = "TOO_LARGE_INFLATED", f"read to {MEMBER_LIMIT >> 20} MB; unpack the archive and load the folder"
_LARGE = "TOO_LARGE_INFLATED", f"stopped at {ARCHIVE_LIMIT >> 20} MB or {MOST_MEMBERS:,} members; unpack it and load the folder"


def is_zip(head):
    """Whether a file that begins with `head` is a zip archive."""
    return head[:4] in (_LOCAL, _EMPTY) and head[5:6] == b"\0" and head[128:132] != b"DICM"


def read_members(stream):
    """`(name, data, None or (code, reason))` of each member; no data with a fault, save what lies before MEMBER_LIMIT. No name: all of it."""
    n_members = n_bytes = 0
    for name, mode, data, fault in _members(stream):
        n_members, n_bytes = n_members + 1, n_bytes + len(data)
        if n_members > MOST_MEMBERS or n_bytes > ARCHIVE_LIMIT:
            yield "", b"", _LARGE
            return
        refused = _LINK if stat.S_IFMT(mode) not in (0, stat.S_IFREG) else _PATH if _CLIMBS.match(name) else None
        yield (name, b"", refused) if refused else (name, data, fault)
    if not n_members:
        yield "", b"", ("EMPTY_FILE", "an archive without files; ask for it again")


def _members(stream):
    try:
        archive = ZipFile(stream)
    except _DAMAGE as error:
        _raise_if_unread(error)
        yield from _unlisted(stream)
        return
    for info in archive.infolist():
        if info.filename.endswith("/"):
            continue
        data, fault = b"", _ENCRYPTED
        if not info.flag_bits & 1:
            try:
                with archive.open(info) as member:
                    data = member.read(MEMBER_LIMIT + 1)
                fault = None
            except _DAMAGE as error:
                _raise_if_unread(error)
                fault = _BAD_MEMBER
        yield info.filename, info.external_attr >> 16, *_capped(data, fault)


def _raise_if_unread(error):
    """Damage too comes as OSError, without a number or with that of a place that cannot be."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise error


def _capped(data, fault):
    return (data[:MEMBER_LIMIT], _LARGE_MEMBER) if len(data) > MEMBER_LIMIT else (data, fault)


def _unlisted(stream):
    """The members of an archive that lost its directory, which stands at its end, by their own headers."""
    at = 0
    while at is not None:
        stream.seek(at)
        head = stream.read(30).ljust(30, b"\0")
        flags, method, packed, n_name, n_extra = struct.unpack("<6xHH8xL4xHH", head)
        if not head.startswith(_LOCAL) or not n_name or flags & 1 or method not in (0, 8) or (method == 0 and flags & 8):
            break
        name = stream.read(n_name).decode("utf-8" if flags & 0x800 else "cp437", "replace")
        at += 30 + n_name + n_extra
        stream.seek(at)
        data, at = _inflated(stream, at) if method else (stream.read(min(packed, MEMBER_LIMIT + 1)), at + packed)
        if at is None or (not method and len(data) < min(packed, MEMBER_LIMIT + 1)):
            break
        if not name.endswith("/"):
            yield name, 0, *_capped(data, None)
        stream.seek(at)
        gap = stream.read(24 + len(_LOCAL)).find(_LOCAL)     # sizes may stand behind the member
        at = at + gap if gap >= 0 else None
    yield "", 0, b"", _BAD_ARCHIVE


def _inflated(stream, at):
    """`(data, where the member ends)`; None for where when it is damaged or has no end."""
    unpack, data = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    while not unpack.eof and (piece := stream.read(_STEP)):
        at += len(piece)
        try:
            out = unpack.decompress(piece)
        except zlib.error:
            return b"", None
        data += out[:max(MEMBER_LIMIT + 1 - len(data), 0)]
    return bytes(data), at - len(unpack.unused_data) if unpack.eof else None
