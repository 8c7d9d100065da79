import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.corrections import apply_corrections, find_stale, record_correction, undo_correction

from ..small_department import NOW, OTHER, SITE, department, order, report, study


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "corrections.jsonl"


def codes(dept):
    return find_mismatches(dept, as_of=NOW, site=SITE)["code"].tolist()


def test_a_corrected_patient_id_takes_the_persons_name_with_it_and_the_finding_goes(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="UNK_1", patient_name="DOE^JANE", patient_birth_date="")], reports=[report()])
    assert codes(dept) == ["U05d"]
    record_correction(ledger, kind="patient_id", target="2.25.1", old="UNK_1", new="TEST100231", reason="registration confirmed", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert codes(fixed) == [] and fixed.studies[["patient_id", "patient_name", "patient_birth_date"]].iloc[0].tolist() == ["TEST100231", "ASH^ROWAN", "19480312"]


def test_source_tables_stay_as_they_were(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])
    before = dept.studies.copy()
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="typed", decided_by="Pat")
    apply_corrections(dept, ledger)
    pd.testing.assert_frame_equal(dept.studies, before)


def test_a_linked_report_moves_with_its_events(ledger):
    event = {"accession_number": "R1010", "milestone": "final", "at": "2025-11-10T11:00Z", "source": "hl7", "source_field": "OBR-22", "source_id": "VR1010"}
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")], events=[event])
    assert codes(dept) == ["U06"]
    record_correction(ledger, kind="link", target="VR1010", old="R1010", new="R1001", reason="typed wrong", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert codes(fixed) == [] and fixed.events["accession_number"].tolist() == ["R1001"]


def test_a_dismissed_finding_stays_away_until_it_is_undone(ledger):
    dept = department(orders=[order()], studies=[study()])
    finding = find_mismatches(dept, as_of=NOW, site=SITE)["finding_id"][0]
    record = record_correction(ledger, kind="dismiss", target=finding, finding_id=finding, reason="known", decided_by="Pat")
    assert codes(apply_corrections(dept, ledger)) == []
    undo_correction(ledger, record["id"], decided_by="Pat")
    assert codes(apply_corrections(dept, ledger)) == ["U02"]


def test_applying_twice_changes_nothing_more(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="typed", decided_by="Pat")
    once = apply_corrections(dept, ledger)
    twice = apply_corrections(once, ledger)
    pd.testing.assert_frame_equal(once.studies, twice.studies)
    assert find_stale(once, ledger).empty


def test_a_decision_on_other_data_than_seen_is_listed_not_applied(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST999")], reports=[report()])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="typed", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_id"].tolist() == ["TEST999"]
    assert find_stale(dept, ledger)["target"].tolist() == ["2.25.1"]


def test_decisions_apply_in_the_order_they_were_made(ledger):
    dept = department(studies=[study(patient_id="A")])
    for old, new in (("A", "B"), ("B", "C")):
        record_correction(ledger, kind="patient_id", target="2.25.1", old=old, new=new, reason="r", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_id"].tolist() == ["C"]


def test_applying_a_chain_twice_leaves_nothing_stale(ledger):
    dept = department(studies=[study(patient_id="A")])
    for old, new in (("A", "B"), ("B", "C")):
        record_correction(ledger, kind="patient_id", target="2.25.1", old=old, new=new, reason="r", decided_by="Pat")
    assert find_stale(apply_corrections(dept, ledger), ledger).empty


def test_a_linked_report_leaves_the_study_uid_it_came_with(ledger):
    """The ladder asks the UID before the number; a report dictated under another exam would stay there."""
    dept = department(orders=[order(), order("R2", **OTHER)], studies=[study(), study("R2", "2.25.2", **OTHER)], reports=[report("R2", study_instance_uid="2.25.2")])
    record_correction(ledger, kind="link", target="VR2", old="R2", new="R1001", reason="dictated under the wrong exam", decided_by="Pat")
    assert apply_corrections(dept, ledger).reports[["accession_number", "study_instance_uid"]].iloc[0].tolist() == ["R1001", "2.25.1"]


def test_every_version_of_a_report_is_linked_with_its_events_and_trace(ledger):
    versions = [report("R9", message_control_id="V1", result_status="P"), report("CL-R9", message_control_id="V2")]
    events = [{"accession_number": "R9", "milestone": m, "at": "2025-11-10T11:00Z", "source": "hl7", "source_id": i} for m, i in (("preliminary", "V1"), ("final", "V2"))]
    trace = [{"accession_number": "R9", "at": "2025-11-10T11:00Z", "lane": "report", "what": "final report", "source_id": "V2"}]
    dept = department(studies=[study()], reports=versions, events=events, trace=trace)
    record_correction(ledger, kind="link", target="V1 V2", old="R9 CL-R9", new="R1001", reason="typed wrong", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert [set(t["accession_number"]) for t in (fixed.reports, fixed.events, fixed.trace)] == [{"R1001"}] * 3 and len(fixed.reports) == 2


def test_linking_one_exam_of_a_message_about_two_leaves_the_other(ledger):
    events = [{"accession_number": a, "milestone": "final", "at": "2025-11-10T11:00Z", "source": "hl7", "source_id": "V1"} for a in ("R8", "R9")]
    dept = department(studies=[study()], reports=[report("R8", message_control_id="V1"), report("R9", message_control_id="V1")], events=events)
    record_correction(ledger, kind="link", target="V1", old="R9", new="R1001", reason="typed wrong", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.reports["accession_number"].tolist() == ["R8", "R1001"] and fixed.events["accession_number"].tolist() == ["R8", "R1001"]


def test_linked_images_take_their_own_events_and_leave_the_orders(ledger):
    events = [{"accession_number": "", "study_instance_uid": "2.25.1", "milestone": "exam_ended", "at": "2025-11-10T09:10Z", "source": "dicom", "source_id": "2.25.1"},
              {"accession_number": "R7", "study_instance_uid": "2.25.1", "milestone": "ordered", "at": "2025-11-10T08:00Z", "source": "hl7", "source_id": "O7"}]
    dept = department(studies=[study("")], events=events)
    record_correction(ledger, kind="link", target="2.25.1", old="", new="R1001", reason="accession missing", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.studies["accession_number"].tolist() == ["R1001"] and fixed.events["accession_number"].tolist() == ["R1001", "R7"]


def test_an_order_without_a_birth_date_does_not_blank_that_of_the_images(ledger):
    dept = department(orders=[order(patient_birth_date="")], studies=[study(patient_id="TEST100213")])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="typed", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_birth_date"].tolist() == ["19480312"]
