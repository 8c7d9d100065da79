"""The logs of a recorded day against what was captured on the wire."""

import pandas as pd
import pytest

from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.site import Site

OUTCOMES = {"released": "released", "aborted by scu": "aborted", "reset by scu": "aborted", "": "rejected"}
INSTANTS = ["t_assoc_rq", "t_end", "t_store_rq", "t_last_data_pdu", "t_store_rsp"]


def load(shared, name, **options):
    return read_dicom_log(shared / "rig" / "logs" / name, site=Site(time_zone="UTC"), start_date="2026-11-24", **options)


def truth(shared, kind, scene, called, *, calling=None):
    table = pd.read_csv(shared / "rig" / "truth" / f"{kind}_{scene}.csv", dtype=str, keep_default_na=False)
    for column in table.columns.intersection(INSTANTS):
        table[column] = pd.to_datetime(table[column], utc=True)
    table = table[table["called"].isin(called.split()) & (table["result"] != "connection refused" if "result" in table else True)]
    return (table if calling is None else table[table["calling"] == calling]).reset_index(drop=True)


def in_order(shared, log, scene, called, *, seconds=0.1, port=None):
    """`(our associations, the captured ones)`, side by side after checking that times and outcomes agree."""
    want = truth(shared, "assoc", scene, called)
    want = want[want["scp_port"] == port].reset_index(drop=True) if port else want
    got = log.associations[log.associations["called_ae_title"].isin(called.split())].reset_index(drop=True)
    if log.associations["called_ae_title"].eq("").all():
        got = log.associations
    order = want["t_assoc_rq"].sort_values().index if got["started_at"].isna().all() else _nearest(got, want)
    want = want.loc[order].reset_index(drop=True)
    assert len(got) == len(want)
    sure = ~got["is_ambiguous"].to_numpy(bool)
    for ours, theirs in (("started_at", "t_assoc_rq"), ("ended_at", "t_end")):
        apart = (got[ours] - want[theirs]).abs().dt.total_seconds()
        assert (apart.dropna() <= seconds).all()
        assert got[ours].isna().all() or got.loc[sure, ours].notna().all()
    assert got["outcome"].astype(str).tolist() == want["end"].map(OUTCOMES).tolist()
    return got, want


def _nearest(got, want):
    """Which captured association each of ours is: the unused one of its titles that began nearest in time."""
    left = set(want.index)
    for _, row in got.iterrows():
        fitting = [i for i in left if row["calling_ae_title"] in ("", want.at[i, "calling"])]
        best = min(fitting, key=lambda i: abs((want.at[i, "t_assoc_rq"] - row["started_at"]).total_seconds()))
        left.remove(best)
        yield best


def counts(table, column):
    return table[column].astype(str).tolist()


# Orthanc

def test_orthanc_day_has_every_association_of_the_wire(shared):
    log = load(shared, "day/orthanc_main_verbose.log")
    got, want = in_order(shared, log, "day", "ORTHANC")
    assert len(got) == 29 and not got["is_ambiguous"].any()
    assert got["calling_ae_title"].tolist() == want["calling"].tolist() and got["peer_address"].tolist() == want["scu_ip"].tolist()
    got_from = want["other_status"].str.startswith("C-GET").to_numpy()
    assert counts(got[~got_from], "n_stored") == want.loc[~got_from, "store_rsp"].tolist()
    assert got.loc[got_from, "n_stored"].isna().all() and counts(got[got_from], "n_operations") == ["41"]


def test_orthanc_day_has_every_store_of_the_wire(shared):
    log = load(shared, "day/orthanc_main_verbose.log")
    stores = log.operations[log.operations["service"] == "C-STORE"]
    assert len(stores) == len(truth(shared, "stores", "day", "ORTHANC")) == 394
    for calling in ("ARCHIVE", "CR_CLINIC", "CT1", "MG1", "MR1", "US1"):
        got = stores[stores["calling_ae_title"] == calling].sort_values("started_at").reset_index(drop=True)
        want = truth(shared, "stores", "day", "ORTHANC", calling=calling).sort_values("t_store_rq").reset_index(drop=True)
        assert ((got["started_at"] - want["t_store_rq"]).abs() < pd.Timedelta("0.1s")).all()
        assert ((got["ended_at"] - want["t_store_rsp"]).dropna().abs() < pd.Timedelta("0.1s")).all()
        size = want["dataset_bytes"].astype(int)
        told = got["n_bytes"].notna()
        assert ((got["n_bytes"] - size)[told].between(0, 1 << 20)).all()
        assert (got["status_category"] == "Success").all()
    sent = stores[stores["calling_ae_title"] != "ORTHANC"]
    assert len(sent) == 354 and sent["ended_at"].isna().sum() <= 41 and sent["n_bytes"].isna().sum() <= 2


def test_orthanc_knows_the_connections_it_could_not_open(shared):
    opened = load(shared, "day/orthanc_main_verbose.log").associations.query("calling_ae_title == 'ORTHANC'")
    assert opened["called_ae_title"].tolist() == ["WS1", "WS2", "WS1", "ARCHIVE", "GONE", "CT1", "ARCHIVE"]
    assert opened.loc[opened["outcome"] == "failed", "called_ae_title"].tolist() == ["GONE", "CT1"]


@pytest.mark.parametrize(("name", "scene"), [("levels/orthanc_verbose.log", "levels_v"), ("levels/orthanc_trace.log", "levels_d")])
def test_orthanc_levels_tell_the_same_story(shared, name, scene):
    got, want = in_order(shared, load(shared, name), scene, "ORTHANC WRONGAET", port="4242")
    assert counts(got, "n_stored") == want["store_rsp"].tolist() and got["calling_ae_title"].tolist() == want["calling"].tolist()
    assert got["outcome"].tolist()[-1] == "rejected"


def test_orthanc_trace_names_the_instances(shared):
    stores = load(shared, "levels/orthanc_trace.log").operations.query("service == 'C-STORE'")
    want = truth(shared, "stores", "levels_d", "ORTHANC")
    assert stores["sop_instance_uid"].tolist() == want["sop_uid"].tolist() and stores["sop_class_uid"].tolist() == want["sop_class"].tolist()
    assert (stores["modality"] == "MR").all()


def test_orthanc_at_normal_level_tells_only_the_rejection(shared):
    log = load(shared, "levels/orthanc_normal.log")
    assert log.associations[["called_ae_title", "outcome"]].astype(str).values.tolist() == [["WRONGAET", "rejected"]]


def test_parallel_associations_of_one_title_and_address_are_marked(shared):
    log = load(shared, "commit/orthanc_main_trace.log")
    got = log.associations[log.associations["called_ae_title"] == "ORTHANC"]
    want = truth(shared, "assoc", "commit", "ORTHANC")
    assert len(got) == len(want) == 7
    assert got["is_ambiguous"].tolist() == [False, False, False, False, True, True, False]
    stores = log.operations[log.operations["service"] == "C-STORE"]
    assert len(stores) == want["store_rsp"].astype(int).sum() and (stores["status_category"] == "Success").all()
    got, want = in_order(shared, load(shared, "commit/orthanc_clinic_routing_verbose.log"), "commit", "ORTHCLINIC")
    assert counts(got, "n_stored") == want["store_rsp"].tolist()


# DCMTK

@pytest.mark.parametrize(("name", "called", "seconds"), [
    ("day/storescp_WS1_day_file.log", "WS1", 0.1), ("day/storescp_WS1_day_console.log", "WS1", 1.1), ("day/storescp_WS2_day_d.log", "WS2", 0),
    ("day/storescp_WS3_day_fork_file.log", "WS3", 0.1),
])
def test_storescp_day_agrees_with_the_wire(shared, name, called, seconds):
    got, want = in_order(shared, load(shared, name), "day", called, seconds=seconds)
    assert counts(got, "n_stored") == want["store_rsp"].tolist() and not got["is_ambiguous"].any()
    if "console" not in name:
        assert got["calling_ae_title"].tolist() == want["calling"].tolist() and (got["called_ae_title"] == called).all()


def test_storescp_names_the_instances_and_when_their_data_ended(shared):
    stores = load(shared, "day/storescp_WS1_day_file.log").operations.query("service == 'C-STORE'").set_index("sop_instance_uid")
    want = truth(shared, "stores", "day", "WS1")
    assert sorted(stores.index) == sorted(want["sop_uid"])
    once = want[~want["sop_uid"].duplicated(keep=False)].set_index("sop_uid")
    apart = stores.loc[once.index, "data_ended_at"] - once["t_last_data_pdu"]
    assert (apart.abs() < pd.Timedelta("0.1s")).all() and (stores.loc[once.index, "sop_class_uid"] == once["sop_class"]).all()


def test_dots_are_an_upper_bound_of_less_than_a_pdv(shared):
    stores = load(shared, "day/storescp_WS1_day_console.log").operations.query("service == 'C-STORE'").set_index("sop_instance_uid")
    want = truth(shared, "stores", "day", "WS1").drop_duplicates("sop_uid").set_index("sop_uid")["dataset_bytes"].astype(int)
    over = stores["n_bytes"].astype(int) - want.reindex(stores.index)
    pynetdicom = 2 * 33     # its PDVs are two bytes shorter
    assert over.between(0, 16_372 + pynetdicom).all() and len(stores) == 192


def test_one_line_per_object_has_the_size_of_each_file(shared):
    log = load(shared, "day/storescp_WS2_day_xcr.log")
    want = truth(shared, "stores", "day", "WS2")
    assert len(log.associations) == 0 and len(log.operations) == len(want) == 101
    by_uid = log.operations.groupby("sop_instance_uid")["n_bytes"].max()
    meta = by_uid - want.drop_duplicates("sop_uid").set_index("sop_uid")["dataset_bytes"].astype(int)
    assert meta.between(300, 400).all()     # the file adds its meta information to the data set


@pytest.mark.parametrize(("name", "seconds"), [("day/dcmqrscp_day_file.log", 0.1), ("day/dcmqrscp_day_console.log", 1.1)])
def test_dcmqrscp_day_marks_what_its_children_mix(shared, name, seconds):
    log = load(shared, name)
    got, want = in_order(shared, log, "day", "ARCHIVE", seconds=seconds)
    assert got["calling_ae_title"].tolist() == want["calling"].tolist()
    parallel = want["conn"].isin(["40", "41", "46", "48"]).to_numpy()
    assert got["is_ambiguous"].tolist() == parallel.tolist()
    assert counts(got[~parallel], "n_stored") == want.loc[~parallel, "store_rsp"].tolist()
    stores = log.operations.query("service == 'C-STORE' and called_ae_title == 'ARCHIVE'")
    answered = truth(shared, "stores", "day", "ARCHIVE")
    assert sorted(stores["sop_instance_uid"]) == sorted(answered["sop_uid"])
    assert stores["association_id"].eq("").sum() == 48 + 16 + 106 + 2 and (stores["status_code"] == "0000").all()


def test_dcmqrscp_tells_what_it_sent_for_a_move(shared):
    sent = load(shared, "day/dcmqrscp_day_console.log").associations.query("calling_ae_title == 'ARCHIVE'")
    assert sent[["called_ae_title", "n_stored"]].astype(str).values.tolist() == [["WS1", "48"], ["ORTHANC", "2"]]


@pytest.mark.parametrize("name", ["day/wlmscpfs_day_file.log", "day/wlmscpfs_day_console.log"])
def test_worklist_queries_are_finds_that_succeed(shared, name):
    log = load(shared, name)
    got, want = in_order(shared, log, "day", "HOSPWL", seconds=1.1)
    assert got["calling_ae_title"].tolist() == want["calling"].tolist()
    assert log.operations[["service", "status_code"]].astype(str).values.tolist() == [["C-FIND", "0000"]] * 4


def test_syslog_tells_each_program_apart(shared):
    for name, seconds in (("traditional", 1.1), ("fileformat_rfc3339", 0.1)):
        log = load(shared, f"syslog/{name}.log")
        for called in ("ORTHANC", "HOSPWL", "ARCHIVE NOSUCHAE"):
            got, want = in_order(shared, log, "syslog", called, seconds=seconds)
            assert got["calling_ae_title"].tolist() == want["calling"].tolist()
        got = log.associations[log.associations["called_ae_title"] == ""]
        assert counts(got, "n_stored") == truth(shared, "assoc", "syslog", "WS1")["store_rsp"].tolist()
        assert got["outcome"].tolist() == ["released", "released", "released", "aborted"]


def test_full_disk_is_a700(shared):
    log = load(shared, "fail/storescp_FULL_file.log")
    assert log.associations[["n_stored", "n_failed"]].values.tolist() == [[5, 1], [0, 2]]
    assert log.operations["status_code"].tolist() == [""] * 5 + ["A700"] * 3


def test_failures_of_dcmqrscp_are_told_apart(shared):
    log = load(shared, "fail/dcmqrscp_file.log")
    table = log.associations[["calling_ae_title", "called_ae_title", "outcome", "reason"]].astype(str).values.tolist()
    assert table[:5] == [["MR1", "NOSUCHAE", "rejected", "BadAEService"], ["CR_CLINIC", "ARCHIVE", "failed", "DIMSE Read PDV failed"],
                         ["MR1", "ARCHIVE", "aborted", ""], ["STRANGER", "RESEARCH", "rejected", "BadAEService"], ["WS1", "ARCHIVE", "released", ""]]
    assert [row[2:] for row in table[5:]] == [["released", ""]] * 6 + [["rejected", "TooManyAssociations"]] * 2 + [["failed", "Unrecognized PDU type: 47"]]
    move = log.operations[log.operations["service"] == "C-MOVE"]
    assert move["status_category"].tolist() == ["Failure"] and log.associations["n_failed"].tolist()[4] == 1
    refused = load(shared, "fail/storescp_REFUSE_d.log").associations
    assert refused[["calling_ae_title", "outcome", "reason"]].astype(str).values.tolist() == [["US1", "rejected", "forced via command line"]]


@pytest.mark.parametrize(("name", "port"), [
    ("levels/dcmqrscp_v.log", "11112"), ("levels/dcmqrscp_d.log", "11112"), ("levels/storescp_v.log", "11113"), ("levels/storescp_d.log", "11113")])
def test_dcmtk_levels_have_every_association(shared, name, port):
    scene = "levels_" + name.rsplit("_", 1)[1][0]
    want = truth(shared, "assoc", scene, "ARCHIVE WS1 WRONGAET")
    want = want[want["scp_port"] == port]
    log = load(shared, name)
    got = log.associations[log.associations["calling_ae_title"] != "ARCHIVE"] if port == "11112" else log.associations
    assert len(got) == len(want)
    answered = log.operations.query("service == 'C-STORE' and status_category == 'Success'")
    sent = 2 if port == "11112" else 0      # for the C-MOVE, on an association of its own
    assert len(answered) == want["store_rsp"].astype(int).sum() + sent


def test_trace_level_counts_every_byte(shared):
    log = load(shared, "levels_scu/storescp_trace.log")
    assert log.associations["n_bytes"].tolist() == [397_290] * 6 and set(log.associations["n_bytes_source"]) == {"exact"}


# everything else

@pytest.mark.parametrize("folder", ["gen-dcmtk-logs", "gen-orthanc-logs", "gen-pynetdicom-logs"])
def test_logs_of_other_sites_load_or_say_why_not(shared, folder):
    log = read_dicom_log(shared / "corpus" / folder, site=Site(time_zone="UTC"))
    told = set(log.associations["source_file"])
    assert told | set(log.rejected["source_file"]) == set(log.sources["source_file"])
    assert set(log.rejected["code"]) <= {"UNKNOWN_FORMAT", "NOT_TEXT", "NO_ASSOCIATIONS"}
    assert folder != "gen-pynetdicom-logs" or log.rejected.empty


# pynetdicom

@pytest.mark.parametrize(("name", "called"), [
    ("day/pynetdicom_mpps_day_default.log", "MPPS"), ("day/pynetdicom_qrscp_day_debug.log", "QRSCP"),
    ("day/pynetdicom_store_day_asctime.log", "PYSTORE"), ("commit/pynetdicom_asctime.log", "PYSTORE")])
def test_pynetdicom_has_every_association_of_the_wire_and_claims_no_stored_image(shared, name, called):
    log = load(shared, name)
    got, want = in_order(shared, log, name.partition("/")[0], called, seconds=0.2)
    assert got["calling_ae_title"].tolist() == want["calling"].tolist() and not got["is_ambiguous"].any()
    received = log.operations[(log.operations["service"] == "C-STORE") & (log.operations["called_ae_title"] == called)]
    assert len(received) == want["store_rq"].astype(int).sum() and received["status_category"].isna().all()
    assert got["n_stored"].isna().tolist() == want["store_rq"].ne("0").tolist()


def test_pynetdicom_steps_are_creates_and_sets_that_succeed(shared):
    operations = load(shared, "day/pynetdicom_mpps_day_default.log").operations
    assert operations["service"].astype(str).value_counts().to_dict() == {"N-CREATE": 5, "N-SET": 5}
    assert operations["status_code"].eq("0000").all() and operations["sop_class_uid"].eq("1.2.840.10008.3.1.2.3.3").all()


def test_pynetdicom_names_what_it_sent_for_a_move(shared):
    log = load(shared, "day/pynetdicom_qrscp_day_debug.log")
    sent = log.associations[log.associations["calling_ae_title"] == "QRSCP"]
    assert sent[["called_ae_title", "n_stored"]].values.tolist() == [["WS1", 10]]
    assert log.associations["peer_address"].tolist() == ["127.0.0.12", "127.0.0.11", "127.0.0.16", "127.0.0.16", ""]


@pytest.mark.parametrize(("tool", "level", "service", "n"), [
    *((f"py_{tool}", level, service, n) for tool, service, n in (("echoscu", "C-ECHO", 1), ("findscu", "C-FIND", 1), ("storescu", "C-STORE", 2))
      for level in "vd"),
    *((tool, level, service, n) for tool, service, n in (("echoscu", "C-ECHO", 1), ("findscu", "C-FIND", 1), ("movescu", "C-MOVE", 1),
                                                         ("storescu", "C-STORE", 3), ("dcmsend", "C-STORE", 3)) for level in "vd")])
def test_clients_tell_each_operation_at_every_level(shared, tool, level, service, n):
    log = load(shared, f"levels_scu/{tool}_{level}.log")
    assert log.associations["outcome"].astype(str).tolist() == ["released"] and log.rejected.empty
    assert log.operations["service"].astype(str).tolist() == [service] * n
    is_told = (tool, level) not in {("findscu", "v"), ("movescu", "v")}       # DCMTK's print the last answer at debug level only
    assert log.operations["status_category"].eq("Success").tolist() == [is_told] * n


# tshark

def test_field_export_has_every_association_of_the_wire_and_no_count_where_an_answer_has_no_name(shared):
    log = read_dicom_log(shared / "rig" / "tshark" / "day_dicom_fields.tsv", site=Site(time_zone="UTC"))
    want = pd.read_csv(shared / "rig" / "truth" / "assoc_day.csv", dtype=str, keep_default_na=False)
    want = want[want["t_assoc_rq"] != ""].sort_values("t_assoc_rq").reset_index(drop=True)
    got = log.associations
    assert got[["calling_ae_title", "called_ae_title", "peer_address"]].values.tolist() == want[["calling", "called", "scu_ip"]].values.tolist()
    assert got["started_at"].tolist() == pd.to_datetime(want["t_assoc_rq"], utc=True).tolist()
    assert (got["ended_at"] - pd.to_datetime(want["t_end"], utc=True)).abs().max() < pd.Timedelta("10ms")
    assert got["outcome"].astype(str).tolist() == want["end"].map(OUTCOMES).tolist()
    sure = got["n_stored"].notna()
    assert got.loc[sure, "n_stored"].astype(str).tolist() == want.loc[sure, "store_rsp"].tolist() and (~sure).sum() == 7
    assert got["n_bytes"].isna().all()


def test_every_recorded_log_is_accounted_for_without_a_start_date(shared):
    log = read_dicom_log(shared / "rig" / "logs", site=Site(time_zone="UTC"))
    left = log.sources["n_bytes"] - log.sources["n_bytes_in_rows"] - log.sources["n_bytes_rejected"] - log.sources["n_bytes_framing"]
    assert (left == 0).all() and log.associations["association_id"].is_unique
    undated = log.rejected.loc[log.rejected["code"] == "NO_DATE", "source_file"]
    assert undated.str.endswith("_console.log").all() and len(undated) >= 4
    unread = log.rejected.loc[log.rejected["code"] == "UNKNOWN_FORMAT"]
    assert len(log.rejected) < 400 and unread["reason"].str.len().gt(20).all()
