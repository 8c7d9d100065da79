import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.corrections import apply_corrections, find_stale, record_correction, undo_correction

from ..small_department import NOW, SITE, department, order, report, study


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
