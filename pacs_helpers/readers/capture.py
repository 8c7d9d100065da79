"""Packet captures -> the DICOM associations and HL7 messages that went over the wire, and the account of every byte.

Bytes in rows are those of DICOM and MLLP streams; framing are packet headers, acknowledgments and repeated bytes of these streams.
"""

import gzip
import hashlib
import itertools
import os
import time
import zlib
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..site import require_site
from ..tables import ASSOCIATIONS, OPERATIONS, PERFORMED_STEPS, conform
from .account import close_account, list_files, read_fault, read_well, reject, run_over, source_row
from .associations import Moment, end_all, new_record, table_rows
from .hl7log import add_columns, finish_messages, messages_of
from .hl7parts import CHUNK_BYTES, REASONS, read_frames
from .packets import ACK, SYN, read_packets
from .steps import join_steps, step_row
from .streams import Stream

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Capture(NamedTuple):
    associations: pd.DataFrame
    operations: pd.DataFrame
    messages: pd.DataFrame
    performed_steps: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_capture(path, *, site, executor=None):
    """Capture(associations, operations, messages, performed_steps, rejected, sources) of the pcap and pcapng files at `path`: a file, a folder or a list, .gz too.

    Associations and operations are those of DICOM connections, with exact times and sizes (`data_ended_at` is the last packet of a data set);
    messages those of MLLP connections, `received_at` the packet that completed them; performed steps what N-CREATE and N-SET said of one
    together, with REFUSED where the receiver did not take it. Connections of other kinds are a row of rejected each, packets
    that are not TCP one row a kind. Where packets are missing, what
    the others prove is kept with PACKETS_LOST, or with ONE_SIDED where no answer was captured.
    """
    require_site(site)
    files, rejected = list_files(path)
    tables = defaultdict(list)
    for part in run_over(read_file, [(file, site) for file in sorted(files)], executor):
        for name, rows in part.items():
            tables[name] += rows
    rejected, sources = close_account([*rejected, *tables["rejected"]], tables["sources"], unit="bytes")
    return Capture(conform(tables["associations"], ASSOCIATIONS), conform(tables["operations"], OPERATIONS), _messages(tables["messages"], site),
                   conform(join_steps(tables["steps"]), PERFORMED_STEPS), rejected, sources)


def _messages(batches, site):
    columns = defaultdict(list)
    for file, batch in batches:
        add_columns(columns, {name: [piece] for name, piece in batch.items()}, file=file)
    digests, stops, is_first = (columns.pop(name, []) for name in ("_digest", "_stop", "_is_first"))
    return finish_messages(messages_of(columns), digests, stops, [np.cumsum(np.concatenate([*is_first, np.empty(0, bool)])) - 1], site)


def read_file(unit):
    """The rows of each table, of `(file, site)`."""
    file, site = unit
    started = time.perf_counter()
    wire = _Wire(file, site)
    try:
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            is_packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            n_bytes = _read_stream(wire, gzip.GzipFile(fileobj=stream) if is_packed else stream)
        read_well()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        n_bytes = wire.n_seen
        wire.rejected.append(reject(file, n_bytes, 0, "TRUNCATED_GZIP", "the packed file ends early or is damaged; copy it again"))
    except OSError as error:
        digest, n_bytes = "", wire.n_seen
        wire.rejected.append(reject(file, n_bytes, 0, *read_fault(file, error)))
    wire.close()
    associations, operations = table_rows(wire.record)
    steps = [step_row(operation, site.time_zone) for operation in wire.record.operations if operation.is_kept]
    rows = {"associations": associations, "operations": operations, "messages": wire.messages, "steps": steps, "rejected": wire.rejected}
    n_rows = len(associations) + sum(len(batch["source_offset"]) for _, batch in wire.messages)
    return {**rows, "sources": [source_row(file, n_bytes=n_bytes, n_bytes_in_rows=wire.counts["rows"], n_bytes_rejected=sum(r["n_bytes"] for r in wire.rejected),
                                           n_bytes_framing=wire.counts["framing"], n_rows=n_rows, n_rejected=len(wire.rejected), sha256=digest, started=started)]}


def _read_stream(wire, stream):
    """The size of the capture, once all its packets are taken."""
    try:
        for packet in read_packets(stream):
            wire.take(packet)
    except ValueError:
        size = stream.seek(0, os.SEEK_END)
        code, reason = ("UNKNOWN_FORMAT", "no pcap or pcapng file; export the capture again in one of these formats") if size else ("EMPTY_FILE", "0 bytes; ask for it again")
        wire.rejected.append(reject(wire.file, 0, size, code, reason))
        return size
    return wire.n_seen


class _Wire:
    """The connections of one capture."""

    def __init__(self, file, site):
        self.file, self.site, self.n_seen = file, site, 0
        self.record = new_record(itertools.count(1), has_pid=True)
        self.connections, self.messages, self.rejected, self.counts, self.others, self.holed = {}, [], [], Counter(), {}, []
        self.frames, self.n_held = [], 0

    def take(self, packet):
        self.n_seen = packet.offset + packet.n_bytes
        if packet.kind:
            first, n, size = self.others.get(packet.kind, (packet.offset, 0, 0))
            self.others[packet.kind] = first, n + 1, size + packet.n_bytes
            return
        ends = (packet.source, packet.target)
        stream = self.connections.get(ends) or self.connections.get(ends[::-1])
        if stream is None or packet.flags & (SYN | ACK) == SYN and stream.is_new_start(packet):
            if stream:
                stream.close()
                self.connections.pop(ends, None), self.connections.pop(ends[::-1], None)
            stream = self.connections[ends] = Stream(self, packet)
        stream.take(packet)

    def close(self):
        for stream in self.connections.values():
            stream.close()
        self._read_frames()
        end_all(self.record)
        for association in self.holed:
            association.is_counted = False      # requests are among what was lost
            association.row |= dict.fromkeys(("n_operations", "n_stored", "n_failed"))
        for kind, (first, n, size) in self.others.items():
            code, reason = ("TRUNCATED", "the file ends inside a packet or is damaged there; copy it again") if kind == "cut" else ("OTHER_TRAFFIC", f"{n:,} {kind}; nothing to do")
            self.rejected.append(reject(self.file, first, size, code, reason))

    def add_frame(self, *frame):
        """Nothing; takes a frame as `read_frames` wants it, which waits for others."""
        self.frames.append(frame)
        self.n_held += len(frame[0])
        if self.n_held > CHUNK_BYTES:
            self._read_frames()

    def _read_frames(self):
        frames, self.frames, self.n_held = self.frames, [], 0
        columns, faults = read_frames(frames, self.site) if frames else ({}, [])
        self.messages += [(self.file, columns)] if columns else []
        for raw, place, _, peer, code in ((*frames[number], code) for number, code in faults):
            self.counts["rows"] -= len(raw)
            self.rejected.append(reject(self.file, place, len(raw), code, f"from {peer}: {REASONS[code]}"))

    def moment(self, packet):
        return Moment(self.file, packet.offset, _EPOCH + timedelta(microseconds=packet.at), "")
