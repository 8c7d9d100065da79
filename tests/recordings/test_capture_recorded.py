import json

import pandas as pd
import pytest

from pacs_helpers import Site, pair_acknowledgments, read_capture

SITE = Site(time_zone="UTC")


@pytest.mark.parametrize("scene", ["day", "commit"])
def test_associations_and_stores_of_a_capture_are_the_true_ones(shared, scene):
    got = read_capture(shared / f"rig/pcap/{scene}_small_connections.pcap", site=SITE)
    assert len(got.rejected) == 0 and (got.associations["problems"] == "").all()
    truth = pd.read_csv(shared / f"rig/truth/assoc_{scene}.csv", dtype=str, keep_default_na=False)
    truth = truth.assign(started_at=pd.to_datetime(truth["t_assoc_rq"]).astype("datetime64[us, UTC]"), ended_at=pd.to_datetime(truth["t_end"]).astype("datetime64[us, UTC]"))
    both = got.associations.merge(truth, on="started_at")
    assert len(both) == len(got.associations)
    for ours, theirs in (("calling_ae_title", "calling"), ("called_ae_title", "called"), ("peer_address", "scu_ip"), ("n_stored", "store_rsp"), ("ended_at_x", "ended_at_y")):
        assert both[ours].astype("str").tolist() == both[theirs].astype("str").tolist(), ours
    assert both["outcome"].astype("str").tolist() == both["end"].str.split().str[0].tolist()
    stores = got.operations[got.operations["service"] == "C-STORE"]
    true = pd.read_csv(shared / f"rig/truth/stores_{scene}.csv", dtype=str)
    true = true.assign(started_at=pd.to_datetime(true["t_store_rq"]).astype("datetime64[us, UTC]"))
    both = stores.merge(true, left_on=["sop_instance_uid", "started_at"], right_on=["sop_uid", "started_at"])
    assert len(both) == len(stores)
    assert both["n_bytes"].astype("str").tolist() == both["dataset_bytes"].tolist() and both["status_code"].tolist() == both["status"].tolist()
    for ours, theirs in (("data_ended_at", "t_last_data_pdu"), ("ended_at", "t_store_rsp")):
        assert both[ours].tolist() == pd.to_datetime(both[theirs]).tolist(), ours


def test_every_message_of_the_recorded_day_is_in_its_capture_with_its_answer(shared):
    got = read_capture(shared / "rig/pcap/hl7.pcap", site=SITE)
    sent = {one["cid"]: one["expect"] for line in (shared / "rig/hl7/messages.jsonl").read_text(encoding="utf-8").splitlines() if (one := json.loads(line))}
    assert got.rejected["reason"].str.endswith("HTTP").all()        # one engine passes messages on over HTTP
    assert set(sent) <= set(got.messages["message_control_id"])
    answers = pair_acknowledgments(got.messages)
    assert set(sent.items()) <= set(zip(answers["message_control_id"], answers["acknowledgment_code"]))


def test_the_performed_steps_of_a_capture_are_those_that_the_modalities_sent(shared):
    got = read_capture(shared / "rig/pcap/day_small_connections.pcap", site=Site(time_zone="America/Chicago"))
    steps, sent = got.performed_steps, pd.read_csv(shared / "rig/truth/driver_day.csv", dtype=str, keep_default_na=False).query("op == 'MPPS'")
    assert (steps["performed_procedure_step_id"].str.removeprefix("PPS").tolist(), steps["station_ae_title"].tolist()) == (sent["note"].tolist(), sent["calling"].tolist())
    assert set(steps["status"]) == {"COMPLETED"} and not steps["problems"].any()
    studies = pd.read_csv(shared / "rig/truth/dicom_truth_studies.csv", dtype=str, keep_default_na=False).set_index("study_uid")
    true = studies.loc[steps["study_instance_uid"]]
    for ours, theirs in (("accession_number", "accession"), ("patient_id", "dicom_patient_id"), ("modality", "modality")):
        assert steps[ours].tolist() == true[theirs].str.strip().tolist(), ours
