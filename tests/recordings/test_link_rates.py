import pandas as pd
import pytest

from pacs_helpers.analyses.network import summarize_links, summarize_throughput
from pacs_helpers.tables import ASSOCIATIONS, OPERATIONS, conform


@pytest.fixture(scope="module")
def day(shared):
    """The day of the rig as the wire had it: operations and associations."""
    held = pd.read_csv(shared / "rig/truth/assoc_day.csv", dtype=str)
    stores = pd.read_csv(shared / "rig/truth/stores_day.csv", dtype=str)
    associations = conform(pd.DataFrame({
        "association_id": held["conn"], "calling_ae_title": held["calling"], "called_ae_title": held["called"],
        "outcome": held["end"].where(held["end"] == "released"),
        "started_at": pd.to_datetime(held["t_assoc_rq"]), "ended_at": pd.to_datetime(held["t_end"])}), ASSOCIATIONS)
    operations = conform(pd.DataFrame({
        "association_id": stores["conn"], "service": "C-STORE", "calling_ae_title": stores["calling"], "called_ae_title": stores["called"],
        "started_at": pd.to_datetime(stores["t_store_rq"]), "ended_at": pd.to_datetime(stores["t_store_rsp"]),
        "data_ended_at": pd.to_datetime(stores["t_last_data_pdu"]),
        "status_category": "Success", "n_bytes": stores["dataset_bytes"].astype("int64"), "n_bytes_source": "exact"}), OPERATIONS)
    return operations, associations


def test_gigabit_scanner_shows_67_megabits_an_association_and_764_while_data_flow(day):
    ct1 = summarize_links(*day).set_index(["calling_ae_title", "called_ae_title"]).loc[("CT1", "ORTHANC")]
    assert (round(ct1["mbit_per_s_association"]), round(ct1["mbit_per_s_flow"]), ct1["n_instances"]) == (67, 764, 134)


@pytest.mark.parametrize(("sender", "line"), [("CR_CLINIC", 2), ("US1", 10), ("MG1", 50), ("MR1", 100)])
def test_flow_rate_comes_within_a_tenth_of_a_slow_line(day, sender, line):
    rates = summarize_links(*day).set_index(["calling_ae_title", "called_ae_title"])
    assert rates.loc[(sender, "ORTHANC"), "mbit_per_s_flow"] == pytest.approx(line, rel=0.1)


def test_every_stored_object_and_byte_is_in_a_bucket(day):
    got = summarize_throughput(day[0], "1min")
    assert (got["n_instances"].sum(), got["n_bytes"].sum()) == (992, day[0]["n_bytes"].sum())
