import pandas as pd
import pytest

from pacs_helpers.analyses.identities import merged_ids
from pacs_helpers.department import build_department
from pacs_helpers.readers.accession import measure_accession_fields
from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site

SITE = Site(time_zone="UTC")
MILESTONES = {"ordered": "ordered", "arrived": "arrived", "exam_start": "exam_started", "exam_end": "exam_ended"}


@pytest.fixture(scope="module")
def dicom(shared):
    return read_headers(shared / "rig/dicom_headers", site=SITE)


@pytest.fixture(scope="module")
def dept(shared, dicom):
    return build_department(hl7=read_hl7_log(shared / "rig/hl7/all_messages_cr.hl7", site=SITE), dicom=dicom, site=SITE)


@pytest.fixture(scope="module")
def answered(shared, dicom):
    logs = [shared / "rig/logs/hl7/py_hl7_server_oru.log", shared / "rig/logs/hl7/socat_v_adt_orm.log"]
    return build_department(hl7=read_hl7_log(logs, site=SITE), dicom=dicom, site=SITE)


def test_the_studies_are_those_that_were_made(shared, dept):
    truth = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str, keep_default_na=False).set_index("study_uid")
    got = dept.studies.set_index("study_instance_uid").loc[truth.index]
    assert len(dept.studies) == len(truth) == 19
    for column, true in (("accession_number", "accession"), ("modality", "modality"), ("source_ae_title", "source_ae"), ("study_description", "description")):
        assert got[column].tolist() == truth[true].tolist()
    assert got["patient_id"].tolist() == truth["dicom_patient_id"].str.strip().tolist()
    assert got["n_instances"].tolist() == truth["instances"].astype(int).tolist() and got["n_series"].tolist() == truth["series"].astype(int).tolist()


def test_nineteen_report_messages_are_twenty_one_reports(shared, dept):
    truth = pd.read_csv(shared / "rig/truth/hl7_truth_reports.csv", dtype=str, keep_default_na=False)
    got = dept.reports[dept.reports["message_control_id"].isin(truth["control_id"])]
    assert (len(truth), len(got)) == (19, 21)
    assert got.loc[got["message_control_id"] == "V004083", "accession_number"].tolist() == ["A2611240002", "A2611240003", "A2611240004"]
    key = ["message_control_id", "result_status", "status_changed_at"]
    told = truth.assign(status_changed_at=pd.to_datetime(truth["report_time"], utc=True)).rename(columns={"control_id": key[0], "status": key[1]})
    assert {tuple(r) for r in told[key].values} == {tuple(r) for r in got[key].values}
    assert set(dept.reports["message_control_id"]) - set(truth["control_id"]) == {"V004104"}        # the old message with minutes only


def test_a_resend_with_the_same_control_id_is_a_duplicate(dept):
    assert dept.reports.loc[dept.reports["is_duplicate"], ["message_control_id", "accession_number"]].values.tolist() == [["V004094", "A2611240031"]]


def test_every_true_milestone_is_among_the_events(shared, dept):
    truth = pd.read_csv(shared / "rig/truth/hl7_truth_events.csv", dtype=str)
    truth = truth[truth["event"].isin(MILESTONES)]
    got = {tuple(r) for r in dept.events[["accession_number", "milestone", "at"]].values}
    missing = [r for r in truth.itertuples() if (r.accession, MILESTONES[r.event], pd.Timestamp(r.time, tz="UTC")) not in got]
    assert len(truth) > 60 and not missing


def test_the_accession_field_is_measured_and_its_share_shown(dept):
    fields = dept.accession_fields.set_index("field")
    assert fields.index[fields["is_chosen"]].tolist() == ["OBR-3"] and not fields["is_guess"].any()
    # 16 of 19 numbers: one report names a mistyped one, one a study that never came, one order was cancelled.
    assert fields.loc["OBR-3", "share_in_dicom"] == pytest.approx(16 / 19) and fields.loc["ORC-2", "share_in_dicom"] == 0


def test_the_trauma_id_is_resolved_by_the_merge(dept):
    assert merged_ids(dept.patients)["TRAUMA1124A"] == "MRN100745"
    assert dept.trace.loc[dept.trace["what"].str.contains("A40"), "accession_number"].tolist() == ["A2611240005"]


def test_each_report_has_its_own_answer_at_the_skew_of_the_engine(shared, answered):
    sent = pd.read_csv(shared / "rig/truth/hl7_sent.csv", dtype=str)
    reports = answered.reports.drop_duplicates(["message_control_id", "message_at"])
    assert len(reports) == (sent["feed"] == "R").sum() == 20
    assert set(reports["acknowledgment_code"]) == {"AA"}
    skew = (reports["acknowledged_at"] - reports["message_at"]).dt.total_seconds()
    assert skew.between(900, 915).all()         # engines run 900 s ahead
    delivered = answered.events[answered.events["milestone"] == "delivered"].set_index("accession_number")["at"]
    assert delivered["A2611240031"] == pd.Timestamp("2026-11-24T08:25:08Z")


@pytest.mark.parametrize("log, receiver", [("storescp_WS1_day_file.log", "WS1"), ("storescp_WS2_day_xcr.log", "WS2"), ("dcmqrscp_day_file.log", "ARCHIVE")])
def test_a_study_is_available_when_the_wire_says_its_last_image_was_stored(shared, dicom, log, receiver):
    network = read_dicom_log(shared / "rig/logs/day" / log, site=SITE)
    got = build_department(dicom=dicom, network=network, site=SITE)
    got = got.events[got.events["source"] == "network"].groupby("study_instance_uid")["at"].max()
    stores = pd.read_csv(shared / "rig/truth/stores_day.csv", dtype=str)
    stores = stores[(stores["called"] == receiver) & (stores["status"] == "0000")].merge(dicom.instances, left_on="sop_uid", right_on="sop_instance_uid")
    true = pd.to_datetime(stores["t_store_rsp"]).groupby(stores["study_instance_uid"]).max()
    assert len(true) >= 4 and sorted(got.index) == sorted(true.index)
    assert ((got - true.reindex(got.index)).abs() < pd.Timedelta("1s")).all()


def test_a_log_without_sop_uids_links_nothing_hours_away_from_the_images(shared, dicom):
    network = read_dicom_log(shared / "rig/logs/day/orthanc_main_verbose.log", site=SITE)
    got = build_department(dicom=dicom, network=network, site=SITE)
    assert (network.associations["n_stored"] > 0).sum() > 10 and not (got.events["source"] == "network").any()


def test_a_ris_feed_without_images_has_its_accession_in_obr_3(shared):
    site = Site(time_zone="America/Chicago")
    messages = read_hl7_log(shared / "corpus/washu-scout", site=site).messages
    fields = measure_accession_fields(messages, site).set_index("field")
    assert fields.index[fields["is_chosen"]].tolist() == ["OBR-3"] == fields.index[fields["is_guess"]].tolist()
    assert fields.loc["OBR-3", "share_filled"] == 1 and fields.loc["OBR-18", "share_unique"] < 0.01
