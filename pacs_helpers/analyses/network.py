"""Is it the network, the modality or the archive? What each pair of AE titles moved, and how fast, three ways."""

import pandas as pd

from ..tables import INSTANT, LINK_RATES, THROUGHPUT, TableError, conform, require_columns

PAIR = ["calling_ae_title", "called_ae_title"]
MOST_ROWS = 5_000_000
ROUNDED_TO = 1 << 20        # Orthanc logs a size as whole MB, rounded up
NEEDED = ["association_id", "service", "started_at", "ended_at", *PAIR, "status_category", "n_bytes", "n_bytes_source"]


def summarize_throughput(operations, every="15min"):
    """THROUGHPUT of the C-STOREs: one row per bucket and pair of AE titles, empty buckets present as 0.

    Buckets are whole multiples of `every` in UTC, from the first to the last store of the whole log; a store counts in the bucket of
    its request, else of its answer. Stores without any time stand in one row per pair without `bucket_start`, so the counts add up.
    `n_instances` are stores that did not fail: a log that does not show the answer counts as stored. `n_bytes` is missing when no stored
    instance of the bucket has a size; `n_bytes_source` counts the sources when there are several.
    TableError when `every` is no length of time.
    """
    stores, width = _stores(operations), _width(every)
    bucket = stores["started_at"].fillna(stores["ended_at"]).dt.floor(width)
    rows = _add_up(stores.assign(bucket_start=bucket), ["bucket_start", *PAIR]).drop(columns="n_sized")
    timed, untimed = rows[rows["bucket_start"].notna()], rows[rows["bucket_start"].isna()]
    if len(timed):
        first, last = timed["bucket_start"].min(), timed["bucket_start"].max()
        pairs = timed[PAIR].drop_duplicates().sort_values(PAIR)
        if ((last - first) / width + 1) * len(pairs) > MOST_ROWS:
            raise TableError(f"every: buckets of '{every}' from {first:%Y-%m-%d} to {last:%Y-%m-%d} are over {MOST_ROWS:,} rows; "
                             "use longer ones, or leave out the rows with an impossible date.")
        grid = pairs.merge(pd.DataFrame({"bucket_start": pd.date_range(first, last, freq=width)}), how="cross")
        timed = grid.merge(timed, how="left", on=["bucket_start", *PAIR])
        empty = timed["n_instances"].isna()
        timed[["n_instances", "n_failed"]] = timed[["n_instances", "n_failed"]].fillna(0)
        timed["n_bytes"] = timed["n_bytes"].mask(empty, 0)
    rows = pd.concat([timed, untimed], ignore_index=True)
    mbit = rows["n_bytes"].astype("Float64") * 8e-6 / width.total_seconds()
    return conform(rows.assign(mbit_per_s=mbit.mask(rows["bucket_start"].isna()).astype("float64")), THROUGHPUT)


def summarize_links(operations, associations):
    """LINK_RATES: one row per pair of AE titles, with three rates that answer three questions.

    `mbit_per_s_association` is what a user waits for, `mbit_per_s_flow` what the line carries while data are under way, `instances_per_s`
    what the receiver answers; small objects and a slow answer pull the first far below the second, so it is not the link's speed.
    Counts are of everything; the rates stand on unambiguous associations with an end, and the megabits on those of them of which every
    size is known. Sizes rounded up to whole MB give no megabits where the rounding could be a quarter of them: small objects. Flow runs
    from the request to the last byte of the data set where the source tells it, else to the answer, whose wait is then in it:
    `flow_source` says which. Flows that overlap count once. A C-GET counts for the pair its data went between.
    """
    require_columns(associations, ["association_id", *PAIR, "started_at", "ended_at", "outcome", "is_ambiguous"], "associations")
    stores, is_ambiguous = _stores(operations), associations["is_ambiguous"].fillna(False).astype(bool)
    is_broken = associations["outcome"].notna() & (associations["outcome"] != "released")
    held = associations.assign(is_ambiguous=is_ambiguous, is_broken=is_broken).groupby(PAIR).agg(
        n_associations=("association_id", "size"), n_not_released=("is_broken", "sum"), n_ambiguous=("is_ambiguous", "sum"))
    table = held.join(_add_up(stores, PAIR).set_index(PAIR), how="outer").sort_index()
    counts = [*held.columns, "n_instances", "n_failed", "n_sized"]
    table[counts] = table[counts].fillna(0)
    table["n_bytes"] = table["n_bytes"].mask((table["n_instances"] == 0) & table["n_bytes"].isna(), 0)
    flow = _flow(stores[~_is_untimed(stores) & ~stores["association_id"].isin(associations.loc[is_ambiguous, "association_id"])])
    timed = _timed(stores, associations[~is_ambiguous & ~_is_untimed(associations)])
    waited, carried = (rows.groupby(PAIR)[["seconds", "n_stored", "n_bytes", "slack"]].sum() for rows in (timed, timed[timed["is_sized"]]))
    known = stores[stores["n_bytes"].notna()].groupby(PAIR)[["n_bytes", "slack"]].sum()
    table = table.assign(
        association_seconds=waited["seconds"], flow_seconds=flow["seconds"], flow_source=flow["source"],
        mbit_per_s_association=_rate(_telling(carried) * 8e-6, carried["seconds"]),
        mbit_per_s_flow=_rate(_telling(flow) * 8e-6, flow["seconds"]),
        instances_per_s=_rate(waited["n_stored"], waited["seconds"]), mean_object_mbytes=_rate(_telling(known) * 1e-6, table["n_sized"]))
    return conform(table.drop(columns="n_sized").reset_index(), LINK_RATES)


def _is_untimed(table):
    """Whether the times of a row are too coarse or too odd to give a duration."""
    return table["problems"].str.contains("NO_SECONDS|NO_TIME_OF_DAY|END_BEFORE_START") if "problems" in table else pd.Series(False, index=table.index)


def _stores(operations):
    require_columns(operations, NEEDED, "operations")
    stores = operations[operations["service"] == "C-STORE"]
    is_failed = stores["status_category"].isin(["Failure", "Cancel"])
    n_bytes = stores["n_bytes"].mask(is_failed)
    slack = (stores["n_bytes_source"].eq("mb_rounded") & n_bytes.notna()).astype("int64") * ROUNDED_TO
    n = pd.Series(1, index=stores.index, dtype="Int64")
    if "n_instances" in stores:     # 0 where a list tells how much was sent and not how many
        n = stores["n_instances"].fillna(n.mask(stores["problems"].str.contains("NO_COUNT"), 0))
    return stores.assign(n_stored=n.mask(is_failed, 0), n_failed=n.where(is_failed, 0), n_sized=n.mask(is_failed | n_bytes.isna(), 0), is_failed=is_failed, n_bytes=n_bytes, slack=slack)


def _width(every):
    try:
        width = pd.Timedelta(every)
    except ValueError:
        width = pd.Timedelta(0)
    if not width > pd.Timedelta(0):
        raise TableError(f"every: '{every}' is not a length of time; write one such as '15min', '1h' or '1D'.")
    return width


def _add_up(stores, keys):
    """Counts and bytes of the stores per key, and what the bytes stand on; `n_sized` are those with a size."""
    rows = stores.groupby(keys, dropna=False).agg(
        n_instances=("n_stored", "sum"), n_failed=("n_failed", "sum"), n_sized=("n_sized", "sum"))
    total = stores[stores["n_bytes"].notna()].groupby(keys, dropna=False)["n_bytes"].sum().reindex(rows.index)
    rows["n_bytes"] = total.mask((rows["n_instances"] == 0) & total.isna(), 0)
    source = stores["n_bytes_source"].astype("str").where(stores["n_bytes"].notna(), "missing")
    stored = stores[~stores["is_failed"]].assign(source=source)
    words = stored.groupby([*keys, "source"], dropna=False)["n_stored"].sum().reset_index("source")
    several = words.index.duplicated(keep=False)
    words["source"] = words["source"].mask(several, words["source"] + " " + words["n_stored"].astype("str"))
    return rows.assign(n_bytes_source=words.groupby(level=keys, dropna=False)["source"].agg(", ".join)).reset_index()


def _timed(stores, associations):
    """One row per association and pair whose data it carried, with the seconds the association was open."""
    carried = stores[stores["n_stored"] > 0].groupby(["association_id", *PAIR]).agg(
        n_stored=("n_stored", "sum"), n_sized=("n_sized", "sum"), n_bytes=("n_bytes", "sum"), slack=("slack", "sum")).reset_index()
    open_for = associations.set_index("association_id")
    open_for = (open_for["ended_at"] - open_for["started_at"]).dt.total_seconds().rename("seconds")
    timed = carried.join(open_for, on="association_id")
    return timed[timed["seconds"] > 0].assign(is_sized=timed["n_sized"] == timed["n_stored"])


def _telling(rows):
    """The bytes, missing where rounding up could be more than a quarter of them."""
    return rows["n_bytes"].mask(rows["slack"] > rows["n_bytes"] / 4)


def _flow(stores):
    """Bytes, and the seconds in which at least one store was under way, per pair; only stores with a size and both times."""
    data_ended = stores["data_ended_at"] if "data_ended_at" in stores else pd.Series(pd.NaT, index=stores.index, dtype=INSTANT)
    tells = data_ended.notna().groupby([stores[c] for c in PAIR]).transform("any")
    stores = stores.assign(until=data_ended.where(tells, stores["ended_at"]), tells=tells)
    stores = stores.dropna(subset=["n_bytes", "until", "started_at"]).sort_values([*PAIR, "started_at"])
    reached = stores.groupby(PAIR)["until"].cummax().groupby([stores[c] for c in PAIR]).shift()
    since = stores["started_at"].where(~(reached > stores["started_at"]), reached)
    seconds = (stores["until"] - since).dt.total_seconds().clip(lower=0)
    flow = stores.assign(seconds=seconds).groupby(PAIR).agg(
        n_bytes=("n_bytes", "sum"), slack=("slack", "sum"), seconds=("seconds", "sum"), tells=("tells", "first"))
    return flow.assign(source=flow["tells"].map({True: "request to last byte", False: "request to answer"}))


def _rate(amount, seconds):
    return (amount.astype("Float64") / seconds.astype("Float64").mask(seconds == 0)).astype("float64")
