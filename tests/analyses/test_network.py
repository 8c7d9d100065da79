import pandas as pd
import pytest

from pacs_helpers.analyses.network import summarize_links, summarize_throughput
from pacs_helpers.tables import ASSOCIATIONS, OPERATIONS, TableError, conform

MB = 1_000_000


def store(start, seconds=1.0, n_bytes=MB, *, data=None, calling="CT1", called="PACS", association="1", status="Success", source="exact"):
    at = pd.Timestamp(f"2024-03-11T{start}Z") if start else pd.NaT
    data_ended_at = at + pd.Timedelta(seconds=data) if data else pd.NaT
    return {"association_id": association, "service": "C-STORE", "started_at": at, "ended_at": at + pd.Timedelta(seconds=seconds),
            "data_ended_at": data_ended_at, "calling_ae_title": calling, "called_ae_title": called,
            "status_category": status, "n_bytes": n_bytes, "n_bytes_source": source if n_bytes is not None else "missing"}


def association(start, seconds, name="1", *, calling="CT1", called="PACS", outcome="released", is_ambiguous=False):
    at = pd.Timestamp(f"2024-03-11T{start}Z")
    return {"association_id": name, "calling_ae_title": calling, "called_ae_title": called, "started_at": at,
            "ended_at": at + pd.Timedelta(seconds=seconds) if seconds else pd.NaT, "outcome": outcome, "is_ambiguous": is_ambiguous}


def throughput(*stores, every="15min"):
    return summarize_throughput(conform(list(stores), OPERATIONS), every)


def link(stores, associations):
    rates = summarize_links(conform(stores, OPERATIONS), conform(associations, ASSOCIATIONS))
    return rates.set_index(["calling_ae_title", "called_ae_title"])


def test_silent_buckets_are_zero_over_the_whole_log_for_every_pair():
    got = throughput(store("09:01:00"), store("09:46:00", calling="MR1"))
    assert got.groupby("calling_ae_title")["n_instances"].apply(list).to_dict() == {"CT1": [1, 0, 0, 0], "MR1": [0, 0, 0, 1]}
    assert got.loc[got["n_instances"] == 0, ["n_bytes", "mbit_per_s"]].values.tolist() == [[0, 0.0]] * 6


def test_rate_is_bits_over_the_seconds_of_the_bucket():
    # 9 MB = 72 Mbit in 60 s
    assert throughput(store("09:01:00", n_bytes=4 * MB), store("09:01:30", n_bytes=5 * MB), every="1min")["mbit_per_s"].tolist() == [1.2]


def test_unknown_bytes_are_missing_and_never_zero():
    got = throughput(store("09:01:00", n_bytes=None), store("09:16:00", n_bytes=None), store("09:17:00", source="pdv_dots"))
    assert got["n_bytes"].isna().tolist() == [True, False]
    assert got["mbit_per_s"].isna().tolist() == [True, False]
    assert got["n_bytes_source"].tolist() == ["missing", "missing 1, pdv_dots 1"]


def test_failed_stores_are_counted_apart_and_bring_no_bytes():
    stores = store("09:01:00", status="Failure"), store("09:02:00", status="Warning"), store("09:20:00", status="Failure")
    got = throughput(*stores).to_dict("list")
    assert (got["n_instances"], got["n_failed"], got["n_bytes"]) == ([1, 0], [1, 1], [MB, 0])


def test_only_stores_count():
    echo = {**store("09:01:00"), "service": "C-ECHO"}
    assert throughput(echo).empty


def test_stores_without_a_clock_stand_in_a_row_of_their_own():
    got = throughput(store("09:01:00"), store(None), store(None, calling="MR1"))
    assert got["n_instances"].sum() == 3
    assert got.loc[got["bucket_start"].isna(), "calling_ae_title"].tolist() == ["CT1", "MR1"]
    assert got.loc[got["bucket_start"].isna(), "mbit_per_s"].isna().all()


def test_an_impossible_date_does_not_fill_the_memory():
    wrong = {**store("09:01:00"), "started_at": pd.Timestamp("1900-01-01T00:00Z")}
    with pytest.raises(TableError, match="every: buckets of '1min' from 1900-01-01"):
        throughput(store("09:01:00"), wrong, every="1min")


@pytest.mark.parametrize("every", ["quarter", "0min", "-1h"])
def test_bucket_that_is_no_length_of_time_is_refused(every):
    with pytest.raises(TableError, match=f"every: '{every}'"):
        throughput(store("09:01:00"), every=every)


def test_three_rates_of_one_link_by_hand():
    # Two objects of 1 MB: 0.1 s of data, 0.9 s of waiting for each answer, in an association open for 4 s.
    got = link([store("09:00:01", data=0.1), store("09:00:02", data=0.1)], [association("09:00:00", 4)]).loc[("CT1", "PACS")]
    assert got["mbit_per_s_flow"] == pytest.approx(16 / 0.2)
    assert (got["mbit_per_s_association"], got["instances_per_s"], got["mean_object_mbytes"]) == (16 / 4, 2 / 4, 1)
    assert got["flow_source"] == "request to last byte"


def test_without_the_last_byte_the_flow_says_that_the_answer_is_in_it():
    got = link([store("09:00:01"), store("09:00:02")], [association("09:00:00", 4)]).loc[("CT1", "PACS")]
    assert (got["mbit_per_s_flow"], got["flow_seconds"], got["flow_source"]) == (16 / 2, 2, "request to answer")


def test_flows_at_the_same_time_count_once_but_associations_each():
    stores = [store("09:00:00", 10), store("09:00:02", 2, association="2"), store("09:00:06", 8, association="2")]
    got = link(stores, [association("09:00:00", 10), association("09:00:02", 12, "2")]).loc[("CT1", "PACS")]
    assert (got["flow_seconds"], got["association_seconds"]) == (14, 22)
    assert got["mbit_per_s_flow"] == pytest.approx(24 / 14)


def test_ambiguous_associations_are_counted_and_kept_out_of_every_rate():
    stores = [store("09:00:01"), store("09:00:01", 0.001, association="2")]
    got = link(stores, [association("09:00:00", 4), association("09:00:00", 0.1, "2", is_ambiguous=True)]).loc[("CT1", "PACS")]
    assert (got["n_associations"], got["n_ambiguous"], got["n_instances"]) == (2, 1, 2)
    assert (got["mbit_per_s_association"], got["mbit_per_s_flow"], got["instances_per_s"]) == (8 / 4, 8, 1 / 4)


def test_association_with_an_unknown_size_gives_objects_per_second_but_no_megabits():
    got = link([store("09:00:01"), store("09:00:02", n_bytes=None)], [association("09:00:00", 4)]).loc[("CT1", "PACS")]
    assert got["instances_per_s"] == 0.5 and pd.isna(got["mbit_per_s_association"])
    assert got["n_bytes_source"] == "exact 1, missing 1"


def test_sizes_rounded_up_give_no_rate_for_small_objects_and_one_for_large():
    small = [store("09:00:01", n_bytes=1 << 20, source="mb_rounded"), store("09:00:02", n_bytes=1 << 20, source="mb_rounded")]
    large = [store("09:00:01", n_bytes=8 << 20, source="mb_rounded", calling="CR1", association="2")]
    got = link([*small, *large], [association("09:00:00", 4), association("09:00:00", 4, "2", calling="CR1")])
    rates = ["mbit_per_s_association", "mbit_per_s_flow", "mean_object_mbytes"]
    assert got.loc[("CT1", "PACS"), rates].isna().all() and got.loc[("CT1", "PACS"), "instances_per_s"] == 0.5
    assert got.loc[("CR1", "PACS"), rates].tolist() == pytest.approx([8.388608 * 8 / 4, 8.388608 * 8, 8.388608])


def test_what_a_workstation_gets_counts_for_the_pair_it_went_between():
    got = link([store("09:00:01", calling="PACS", called="WS1")], [association("09:00:00", 4, calling="WS1")])
    assert got.loc[("PACS", "WS1"), ["n_associations", "n_instances", "instances_per_s"]].tolist() == [0, 1, 0.25]
    assert got.loc[("WS1", "PACS"), ["n_associations", "n_instances"]].tolist() == [1, 0]


def test_pair_that_only_failed_to_connect_is_a_row():
    got = link([], [association("09:00:00", None, calling="US1", outcome="rejected")]).loc[("US1", "PACS")]
    assert (got["n_associations"], got["n_not_released"], got["n_instances"], got["n_bytes"]) == (1, 1, 0, 0)
    assert pd.isna(got["mbit_per_s_association"])


def test_clock_of_whole_seconds_that_shows_no_time_gives_no_rate():
    got = link([store("09:00:01", 0)], [association("09:00:01", 0.0)]).loc[("CT1", "PACS")]
    assert pd.isna(got["mbit_per_s_flow"]) and pd.isna(got["mbit_per_s_association"])
