"""Which files are new, grown, changed, moved or gone since a store last read them."""

import hashlib
import os
from collections import defaultdict
from typing import NamedTuple

from .account import Blocks

READ_AGAIN = ("new", "grown", "changed", "reread")


class Known(NamedTuple):
    """A file as the store read it: `node` is its device and number there, `part` holds its rows, `reader` is the version that read it.

    `sha256` is that of the `n_content` bytes that it holds, unpacked if it is gzip: a log that is packed when it is rotated stays the same log.
    """

    number: int
    kind: str
    path: str
    n_bytes: int
    modified_ns: int
    node: str
    n_content: int
    sha256: str
    part: int
    reader: str
    is_gone: bool


class Change(NamedTuple):
    """`what` is new, grown, changed, moved, unchanged or reread (an older reader read it); `known` are the entries that the file takes the place of."""

    path: str
    what: str
    known: tuple
    n_bytes: int
    modified_ns: int
    node: str
    n_content: int
    sha256: str


def find_changes(files, known, reader, *, may_grow):
    """A Change for each of `files`, and the entries of `known` whose file is gone.

    A file of the same path, size and time, or of the same place on disk, size and time, is the one that was read; another is compared by sha256.
    With `may_grow` one that begins with all of what was read takes its place, and one that does not leaves it as gone.
    """
    seen = {file: _look(file) for file in files}
    here = {k.path: k for k in known if not k.is_gone}
    claimed, found = {}, {}
    for file, (n_bytes, modified_ns, _) in seen.items():
        if file in here and here[file].sha256 and here[file][3:5] == (n_bytes, modified_ns):
            claimed[file] = here[file]
    free = {k.number: k for k in known if claimed.get(k.path) is not k}
    nodes = {k[3:6]: k for k in free.values() if k.node and k.sha256}
    for file in [f for f in files if f not in claimed and seen[f] in nodes and nodes[seen[f]].number in free]:
        claimed[file] = free.pop(nodes[seen[file]].number)
    for file, k in claimed.items():
        found[file] = Change(file, _name_same(file, k, reader), (k,), *seen[file], k.n_content, k.sha256)
    by_size = defaultdict(list)
    for k in free.values():
        by_size[k.n_bytes].append(k)
    for file in [f for f in files if f not in claimed]:
        near = [k for k in (free.values() if may_grow else by_size[seen[file][0]]) if k.number in free and k.n_content and k.sha256]
        before = here.get(file)
        found[file] = _compare(file, seen[file], before if before and before.number in free else None, near, reader, may_grow)
        for k in found[file].known:
            free.pop(k.number, None)
    return [found[file] for file in files], list(free.values())


def _look(file):
    try:
        info = os.stat(file)
    except OSError:
        return 0, 0, ""
    return info.st_size, info.st_mtime_ns, f"{info.st_dev}:{info.st_ino}" if info.st_ino else ""


def _name_same(file, known, reader):
    return "reread" if known.reader != reader else "unchanged" if known.path == file and not known.is_gone else "moved"


def _compare(file, seen, before, near, reader, may_grow):
    """The Change of a file that is not known by its size and time; `near` are the entries that may be it or its beginning."""
    digests, size, whole = _digests(file, {k.n_content for k in near})
    held = [k for k in near if digests.get(k.n_content) == k.sha256]
    same = next((k for k in held if k.n_content == size), None)
    if same:
        return Change(file, _name_same(file, same, reader), (same,), *seen, size, whole)
    if held and may_grow:
        return Change(file, "grown", tuple(held), *seen, size, whole)
    is_same_thing = before is not None and (not may_grow or not before.n_content or not before.sha256)
    return Change(file, "changed" if is_same_thing else "new", (before,) if is_same_thing else (), *seen, size, whole)


def _digests(file, sizes):
    """`({size: sha256 of that many first bytes}, size and sha256 of all)` of what a file holds, unpacked if it is gzip; no sha256 when it cannot be read."""
    found, digest, at, wanted = {}, hashlib.sha256(), 0, sorted(sizes)
    blocks = Blocks(file, is_hashed=False)
    for block in blocks:
        start = 0
        while wanted and wanted[0] <= at + len(block):
            stop = wanted.pop(0) - at
            digest.update(block[start:stop])
            found[at + stop], start = digest.hexdigest(), stop
        digest.update(block[start:])
        at += len(block)
    is_unread = any(row["code"] in ("PERMISSION", "IO_ERROR") for row in blocks.rejected)
    return ({}, 0, "") if is_unread else (found, at, digest.hexdigest())
