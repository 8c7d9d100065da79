"""HL7 v2 files and engine logs -> one row per order group of each message, and the account of every byte."""

import os
import time
from bisect import bisect_left
from collections import defaultdict
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..site import require_site
from ..tables import COUNT, INSTANT, MESSAGES, TEXT, add_problem, conform
from .accession import fill_accession_numbers, measure_accession_fields
from .account import Blocks, close_account, list_files, reject, run_over, source_row
from .hl7find import FRAMING, GAP, ROW
from .hl7lines import hashes_of
from .hl7parts import CAPTURES, HERE, digest_of, parts_of, read_part, unpack

_MANY = 1 << 14         # rows of a piece of a column that is worth keeping apart
_SENDER = ["sending_application", "sending_facility", "message_control_id"]


class HL7Log(NamedTuple):
    messages: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_hl7_log(path, *, site, executor=None):
    """HL7Log(messages, rejected, sources) of the HL7 v2 messages in the files at `path`: a file, a folder or a list.

    Raw files, MLLP captures, FHS/BHS batches, text logs with messages embedded in any common spelling, .gz, UTF-16. One row per ORC/OBR
    group, one for a message without any; report text is not kept. In `rejected` a run of the log's own lines is one row (NOT_HL7).
    Times without an offset are in `site.time_zone`; `received_at` is the log's stamp before the message. `accession_number` is from
    `site.hl7_field`, or from the field that measure_accession_fields finds. Rows are sorted by file and place.
    """
    messages, marks, rejected, sources = _gather(path, site, executor)
    return HL7Log(finish_messages(messages, *marks, site), rejected, sources)


def gather_messages(path, *, site, executor=None):
    """What read_hl7_log reads, before repeats and accession numbers: messages have `_digest`, 16 bytes, of the message of each row."""
    messages, (digests, stops, numbers), rejected, sources = _gather(path, site, executor)
    if len(messages):
        numbers = np.concatenate(numbers)
        first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
        found = [bytes.fromhex(digest) for digest in _digests_of(messages, pa.chunked_array(digests), np.concatenate(stops), first)]
        messages["_digest"] = pd.Series(found, dtype=object).iloc[numbers].to_numpy()
    return HL7Log(messages, rejected, sources)


def _gather(path, site, executor):
    """`(messages, [digests, ends in the file and numbers of each row's message, in pieces], rejected, sources)`."""
    require_site(site)
    files, rejected = list_files(path)
    units = [unit for file in sorted(files) for unit in parts_of(file, site)]
    n_bytes = sum(os.path.getsize(file) for file in files if os.path.exists(file))
    columns, sources = defaultdict(list), []
    for file, parts in groupby(run_over(read_part, units, executor, n_bytes=n_bytes), key=lambda part: part.file):
        refused, source = _close_file(file, list(parts), site, columns)
        rejected += refused
        sources.append(source)
    parts = None        # or it would keep every column until the end
    rejected, sources = close_account(rejected, sources, unit="bytes")
    marks = [columns.pop(name, []) for name in ("_digest", "_stop", "_message")]
    return messages_of(columns), marks, rejected, sources


def messages_of(columns):
    """MESSAGES of the pieces of its columns, which are taken from `columns`."""
    return pd.DataFrame({name: _series(columns.pop(name), kind[0]) for name, kind in MESSAGES.items()}, copy=False) if columns else conform([], MESSAGES)


def add_columns(columns, whole, *, file):
    """Nothing; adds pieces of columns of messages, and those that are the same in each row, to `columns`."""
    n = sum(map(len, whole["source_offset"]))
    for name, text in (("source_file", file), ("accession_number", "")):
        some = pa.array([text] * min(n, _MANY), pa.large_string())
        whole[name] = [some] * (n // _MANY) + [some.slice(0, n % _MANY)]
    for name, pieces in whole.items():
        columns[name] += pieces


def finish_messages(messages, digests, stops, numbers, site):
    """`messages` with repeats and the accession number; the others are pieces of columns: digest, or end in the file, and number of each row's message."""
    if len(messages):
        for rows, code in find_repeats(messages, np.concatenate(numbers), lambda first: _digests_of(messages, pa.chunked_array(digests), np.concatenate(stops), first)):
            messages.loc[rows, "problems"] = [add_problem(text, code) for text in messages.loc[rows, "problems"]]
    return name_accessions(messages, site)


def name_accessions(messages, site):
    """`messages` with the accession number from the field that the site names or the messages show."""
    return fill_accession_numbers(messages, measure_accession_fields(messages, site))


def _series(pieces, kind):
    if kind == TEXT:
        whole = pa.chunked_array([piece.cast(pa.large_string()) for piece in pieces])
        # Long pieces stay as they are: joining them would hold the column twice.
        return pd.Series(pd.array(whole if len(whole) > _MANY // 2 * len(pieces) else whole.combine_chunks(), dtype="str"))
    values = np.concatenate(pieces)
    return pd.Series(pd.DatetimeIndex(values.view("M8[us]")).tz_localize("UTC") if kind == INSTANT else pd.array(values, dtype=COUNT))


def _close_file(file, parts, site, columns):
    """`(rejected rows, source row)` of a file's parts, whose columns are added to `columns`."""
    if any(part.is_foreign for part in parts):
        parts = [read_part((file, site, 0, None))]
    started = time.perf_counter() - sum(part.seconds for part in parts)
    digest = next((part.digest for part in parts if part.digest), "")
    parts = [part for part in parts if part.site]
    refused, n_bytes, n_rows = [fault for part in parts for fault in part.faults], sum(part.n_bytes for part in parts), 0
    counts = sum((part.counts for part in parts), start=type(parts[0].counts)())
    read = [unpack(part) for part in parts if part.columns]
    whole = {name: [columns[name] for columns in read] for name in HERE if read}
    if whole:
        n_rows = _add_file(file, parts, whole, refused, columns)
        refused += [row for part in parts for row in part.rejected]
    else:
        counts = {"rejected": n_bytes}
        refused += _refuse_whole(file, n_bytes, parts[0].head, sum(row["code"] == "XML_ENCODED" for part in parts for row in part.rejected)) if n_bytes or not refused else []
    return refused, source_row(file, n_bytes=n_bytes, n_bytes_in_rows=counts.get(ROW, 0), n_bytes_rejected=counts.get("rejected", 0),
                               n_bytes_framing=counts.get(FRAMING, 0) + counts.get(GAP, 0), n_rows=n_rows, n_rejected=len(refused), sha256=digest, started=started)


def _add_file(file, parts, whole, faults, columns):
    """Add the columns of a file, with the problems that show when all of it is read; how many rows they have."""
    places = np.concatenate(whole["source_offset"])
    is_first = np.append(True, places[1:] != places[:-1])
    number, n = np.cumsum(is_first) - 1, np.count_nonzero(is_first)
    late = [*_late_codes(places[is_first], [batch for part in parts for batch in part.batches], np.flatnonzero(np.concatenate(whole.pop("_is_half"))[is_first]).tolist())]
    if parts[-1].looks_cut:
        late.append((n - 1, n, "TRUNCATED"))
    for fault in faults:
        code = fault["code"] if fault["code"] == "TRAILING_BYTES" else "" if parts[-1].has_end else "TRUNCATED"
        late += [(n - 1, n, code)] if code else []
    found, problems = (pa.chunked_array(whole.pop(name)) for name in ("_found", "problems"))
    is_found = pc.binary_length(found).to_numpy() > 0
    for first, stop, _ in late:
        is_found |= (number >= first) & (number < stop)
    if is_found.any():
        rows = np.flatnonzero(is_found)
        texts = [" ".join(dict.fromkeys([*before.split(), *(code for first, stop, code in late if first <= m < stop), *after.split()]))
                 for before, after, m in zip(found.take(rows).to_pylist(), problems.take(rows).to_pylist(), number[rows].tolist())]
        problems = pc.replace_with_mask(problems, pa.array(is_found), pa.array(texts, pa.large_string()))
    whole["problems"] = problems.chunks
    whole["_message"] = [number + (columns["_message"][-1][-1] + 1 if columns["_message"] else 0)]
    add_columns(columns, whole, file=file)
    return len(places)


def _late_codes(places, batches, halves):
    """`(first, stop, code)` of messages in whose framing something is wrong that only the whole file tells.

    `places` are where messages and `batches` are, `halves` the numbers of the messages with one MLLP byte of two.
    """
    batch_from, n_batches = 0, 0
    for place, name, count in batches:
        n = bisect_left(places, place)
        if name == b"BHS":
            batch_from, n_batches = n, n_batches + 1
        elif name == b"BTS":
            if count.isdigit() and int(count) != n - batch_from:
                yield min(batch_from, max(n - 1, 0)), n, "BATCH_COUNT"
            batch_from = n
        elif name == b"FTS" and count.isdigit() and int(count) != max(n_batches, 1):
            yield max(n - 1, 0), n, "BATCH_COUNT"
    if len(halves) < len(places) or len(halves) == 1:
        yield from ((n, n + 1, "MLLP_FRAME") for n in halves)


def _refuse_whole(file, n_bytes, head, n_in_xml):
    if not n_bytes:
        code, reason = "EMPTY_FILE", "0 bytes; ask for it again"
    elif head.startswith(CAPTURES):
        code, reason = "NOT_TEXT", "a network capture, in which messages lie cut into packets; read_capture puts them together"
    elif n_in_xml:
        code, reason = "XML_ENCODED", f"{n_in_xml:,} HL7 v2 message{'s' * (n_in_xml > 1)} in XML encoding and none in ER7; ask the engine for the same messages in ER7 (pipe) encoding"
    else:
        code, reason = "NO_MSH", f"no MSH with its delimiters in {n_bytes:,} bytes; ask for a log that holds the messages; DICOM files are for read_headers, DICOM logs for read_dicom_log"
    return [reject(file, 0, n_bytes, code, reason)]


def find_repeats(messages, numbers, digests_of):
    """`[(rows, code), ...]`: DUPLICATE_MESSAGE for the second and later copies of a message, CONTROL_ID_REUSED for messages that share sender and MSH-10 but nothing else.

    `numbers` count the messages; `digests_of` gives those of the messages that begin at some rows.
    """
    first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    control = hashes_of(messages["message_control_id"])[first]      # the texts themselves would take ten times the memory
    by_hash = np.sort(control)
    alike = np.flatnonzero(pd.Series(control).isin(by_hash[1:][by_hash[1:] == by_hash[:-1]]))      # others are no copies
    is_copy = np.zeros(len(first), bool)
    is_copy[alike] = pd.Series(digests_of(first[alike])).duplicated().to_numpy()
    originals = messages[_SENDER].iloc[first[alike[~is_copy[alike]]]]
    reused = set(originals[(originals["message_control_id"] != "") & originals.duplicated(keep=False)].itertuples(index=False, name=None))
    flagged = [(is_copy[numbers], "DUPLICATE_MESSAGE")]
    if reused:
        shares = messages["message_control_id"].isin({key[-1] for key in reused}).to_numpy(copy=True)
        shares[shares] = [key in reused for key in messages.loc[shares, _SENDER].itertuples(index=False, name=None)]
        flagged.append((shares, "CONTROL_ID_REUSED"))
    return [(rows, code) for rows, code in flagged if rows.any()]


def _digests_of(messages, digests, stops, rows):
    """The digests of the messages of these rows; those that are missing are made of their bytes in the file."""
    found = digests.take(pa.array(rows)).to_pylist()
    missing = [i for i, digest in enumerate(found) if not digest]
    files, starts = (messages[name].iloc[rows[missing]] for name in ("source_file", "source_offset"))
    for file, spans in groupby(zip(files, missing, starts, stops[rows[missing]].tolist()), key=lambda span: span[0]):
        data, at, blocks = b"", 0, iter(Blocks(file, is_hashed=False))
        for _, i, start, stop in spans:
            while at + len(data) < stop and (block := next(blocks, b"")):
                n_passed = min(start - at, len(data))
                data, at = data[n_passed:] + block, at + n_passed
            found[i] = digest_of(data[start - at:stop - at])
    return found
