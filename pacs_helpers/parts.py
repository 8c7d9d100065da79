"""The files of a store: parts of Parquet tables, and the list of what they were read from, which alone makes a part count."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .readers.changes import Known

LIST = "files.parquet"
_ENTRY = {"number": pa.int64(), "n_bytes": pa.int64(), "modified_ns": pa.int64(), "n_content": pa.int64(), "part": pa.int64(), "is_gone": pa.bool_()}
_LIST = pa.schema([(name, _ENTRY.get(name, pa.string())) for name in Known._fields])


def write_part(folder, number, tables):
    """Nothing; writes a Parquet file for each of `tables` and waits until the disk has them. No list names them yet."""
    part = folder / "parts" / f"{number:06d}"
    part.mkdir(parents=True)
    for table, frame in tables.items():
        if len(frame):
            plain = frame.astype({c: "str" for c, kind in frame.dtypes.items() if kind == "category"})
            pq.write_table(pa.Table.from_pandas(plain, preserve_index=False), part / f"{table}.parquet", compression="zstd")
            _sync(part / f"{table}.parquet")
    for written in (part, part.parent, folder):
        _sync(written)


def _sync(path):
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_list(folder):
    """`({number: Known}, {kind: rejected rows of listing its files})` of a store."""
    if not (folder / LIST).exists():
        return {}, {}
    table = pq.read_table(folder / LIST)
    return {row["number"]: Known(**row) for row in table.to_pylist()}, json.loads(table.schema.metadata[b"listed"])


def write_list(folder, entries, listed):
    """The one step that makes parts count: until then a store is what it was before."""
    table = pa.Table.from_pylist([k._asdict() for k in entries.values()], _LIST)
    pq.write_table(table.replace_schema_metadata({"listed": json.dumps(listed)}), folder / f".{LIST}")
    _sync(folder / f".{LIST}")
    os.replace(folder / f".{LIST}", folder / LIST)
    _sync(folder)


def sweep_parts(folder, entries):
    """Remove parts that no entry names: a killed update left them, or later parts took their place."""
    used = {k.part for k in entries.values()}
    for part in (folder / "parts").glob("*"):
        if int(part.name) not in used:
            shutil.rmtree(part)


def read_rows(folder, entries, table, *, columns=None, times=None, bounds=(None, None)):
    """The rows of a table that are of `entries`, in their order; an empty frame when there are none."""
    where = pc.scalar(True)
    for bound, compare in zip(bounds, (pc.greater_equal, pc.less)):
        if times and bound is not None:
            where &= pc.field(times).is_null() | compare(pc.field(times), pa.scalar(bound.to_pydatetime(), pa.timestamp("us", "UTC")))
    pieces = []
    for part in sorted({k.part for k in entries}):
        path = folder / "parts" / f"{part:06d}" / f"{table}.parquet"
        if path.exists():
            mine = [k.number for k in entries if k.part == part]
            pieces.append(pq.read_table(path, columns=[*columns, *{"_file"} - {*columns}] if columns else None, filters=pc.field("_file").isin(mine) & where))
    if not pieces:
        return pd.DataFrame(columns=columns or ["_file", "source_file", "source_offset", "association_id"])
    whole = pa.concat_tables(pieces, promote_options="permissive").to_pandas()
    rank = whole["_file"].map({k.number: i for i, k in enumerate(entries)}).to_numpy()
    return whole if (np.diff(rank) >= 0).all() else whole.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)
