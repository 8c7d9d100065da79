import re

import pandas as pd
import pytest

from pacs_helpers.analyses.links import link_exams
from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.applied import apply_corrections, find_stale
from pacs_helpers.fixes.corrections import record_correction, split_study_uid, undo_correction
from pacs_helpers.fixes.ledger import LedgerError
from pacs_helpers.tables import TableError

from ..small_department import NOW, OTHER, PERSON, SITE, department, order, report, study


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "corrections.jsonl"


def codes(dept):
    return find_mismatches(dept, as_of=NOW, site=SITE)["code"].tolist()


def test_a_corrected_patient_id_takes_the_persons_name_with_it_and_the_finding_goes(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="UNK_1", patient_name="DOE^JANE", patient_birth_date="")], reports=[report()])
    assert codes(dept) == ["U05d"]
    record_correction(ledger, kind="patient_id", target="2.25.1", old="UNK_1", new="TEST100231", reason="IDENTITY_CONFIRMED", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert codes(fixed) == [] and fixed.studies[["patient_id", "patient_name", "patient_birth_date"]].iloc[0].tolist() == ["TEST100231", "ASH^ROWAN", "19480312"]


def test_source_tables_stay_as_they_were(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])
    before = dept.studies.copy()
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="TYPED_WRONG", decided_by="Pat")
    apply_corrections(dept, ledger)
    pd.testing.assert_frame_equal(dept.studies, before)


def test_a_linked_report_moves_with_its_events(ledger):
    event = {"accession_number": "R1010", "milestone": "final", "at": "2025-11-10T11:00Z", "source": "hl7", "source_field": "OBR-22", "source_id": "VR1010"}
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")], events=[event])
    assert codes(dept) == ["U06"]
    record_correction(ledger, kind="link", target="VR1010", old="R1010", new="R1001", reason="TYPED_WRONG", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert codes(fixed) == [] and fixed.events["accession_number"].tolist() == ["R1001"]


def test_a_dismissed_finding_stays_away_until_it_is_undone(ledger):
    dept = department(orders=[order()], studies=[study()])
    finding = find_mismatches(dept, as_of=NOW, site=SITE)["finding_id"][0]
    record = record_correction(ledger, kind="dismiss", target=finding, finding_id=finding, reason="NO_ERROR", decided_by="Pat")
    assert codes(apply_corrections(dept, ledger)) == []
    undo_correction(ledger, record["id"], decided_by="Pat")
    assert codes(apply_corrections(dept, ledger)) == ["U02"]


def test_applying_twice_changes_nothing_more(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="TYPED_WRONG", decided_by="Pat")
    once = apply_corrections(dept, ledger)
    twice = apply_corrections(once, ledger)
    pd.testing.assert_frame_equal(once.studies, twice.studies)
    assert find_stale(once, ledger).empty


def test_a_decision_on_other_data_than_seen_is_listed_not_applied(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST999")], reports=[report()])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="TYPED_WRONG", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_id"].tolist() == ["TEST999"]
    assert find_stale(dept, ledger)["target"].tolist() == ["2.25.1"]


def test_decisions_apply_in_the_order_they_were_made(ledger):
    dept = department(studies=[study(patient_id="A")])
    for old, new in (("A", "B"), ("B", "C")):
        record_correction(ledger, kind="patient_id", target="2.25.1", old=old, new=new, reason="TYPED_WRONG", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_id"].tolist() == ["C"]


def test_applying_a_chain_twice_leaves_nothing_stale(ledger):
    dept = department(studies=[study(patient_id="A")])
    for old, new in (("A", "B"), ("B", "C")):
        record_correction(ledger, kind="patient_id", target="2.25.1", old=old, new=new, reason="TYPED_WRONG", decided_by="Pat")
    assert find_stale(apply_corrections(dept, ledger), ledger).empty


def test_a_linked_report_leaves_the_study_uid_it_came_with(ledger):
    """The ladder asks the UID before the number; a report dictated under another exam would stay there."""
    dept = department(orders=[order(), order("R2", **OTHER)], studies=[study(), study("R2", "2.25.2", **OTHER)], reports=[report("R2", study_instance_uid="2.25.2")])
    record_correction(ledger, kind="link", target="VR2", old="R2", new="R1001", reason="REPORT_MISFILED", decided_by="Pat")
    assert apply_corrections(dept, ledger).reports[["accession_number", "study_instance_uid"]].iloc[0].tolist() == ["R1001", "2.25.1"]


def test_every_version_of_a_report_is_linked_with_its_events_and_trace(ledger):
    versions = [report("R9", message_control_id="V1", result_status="P"), report("CL-R9", message_control_id="V2")]
    events = [{"accession_number": "R9", "milestone": m, "at": "2025-11-10T11:00Z", "source": "hl7", "source_id": i} for m, i in (("preliminary", "V1"), ("final", "V2"))]
    trace = [{"accession_number": "R9", "at": "2025-11-10T11:00Z", "lane": "report", "what": "final report", "source_id": "V2"}]
    dept = department(studies=[study()], reports=versions, events=events, trace=trace)
    record_correction(ledger, kind="link", target="V1 V2", old="R9 CL-R9", new="R1001", reason="TYPED_WRONG", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert [set(t["accession_number"]) for t in (fixed.reports, fixed.events, fixed.trace)] == [{"R1001"}] * 3 and len(fixed.reports) == 2


def test_linking_one_exam_of_a_message_about_two_leaves_the_other(ledger):
    events = [{"accession_number": a, "milestone": "final", "at": "2025-11-10T11:00Z", "source": "hl7", "source_id": "V1"} for a in ("R8", "R9")]
    dept = department(studies=[study()], reports=[report("R8", message_control_id="V1"), report("R9", message_control_id="V1")], events=events)
    record_correction(ledger, kind="link", target="V1", old="R9", new="R1001", reason="TYPED_WRONG", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.reports["accession_number"].tolist() == ["R8", "R1001"] and fixed.events["accession_number"].tolist() == ["R8", "R1001"]


def test_linked_images_take_their_own_events_and_leave_the_orders(ledger):
    events = [{"accession_number": "", "study_instance_uid": "2.25.1", "milestone": "exam_ended", "at": "2025-11-10T09:10Z", "source": "dicom", "source_id": "2.25.1"},
              {"accession_number": "R7", "study_instance_uid": "2.25.1", "milestone": "ordered", "at": "2025-11-10T08:00Z", "source": "hl7", "source_id": "O7"}]
    dept = department(studies=[study("")], events=events)
    record_correction(ledger, kind="link", target="2.25.1", old="", new="R1001", reason="TYPED_WRONG", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.studies["accession_number"].tolist() == ["R1001"] and fixed.events["accession_number"].tolist() == ["R1001", "R7"]


def test_an_order_without_a_birth_date_does_not_blank_that_of_the_images(ledger):
    dept = department(orders=[order(patient_birth_date="")], studies=[study(patient_id="TEST100213")])
    record_correction(ledger, kind="patient_id", target="2.25.1", old="TEST100213", new="TEST100231", reason="TYPED_WRONG", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["patient_birth_date"].tolist() == ["19480312"]


def one_series(study_uid, uid, minute, **more):
    return {"patient_id": PERSON["patient_id"], "study_instance_uid": study_uid, "series_instance_uid": uid, "accession_number": "R1001", "modality": "CT",
            "body_part_examined": "CHEST", "frame_of_reference_uids": f"9.{minute}",
            "started_at": f"2025-11-10T09:{minute:02}Z", "ended_at": f"2025-11-10T09:{minute + 4:02}Z", "n_instances": minute, **more}


def images_event(uid, milestone, at, accession="R1001"):
    return {"accession_number": accession, "study_instance_uid": uid, "milestone": milestone, "at": f"2025-11-10T{at}Z", "source": "dicom", "source_field": "(0008,002A)", "source_id": uid}


def two_exams_in_one():
    """A chest and a head stored as one study: the head's series began at minute 20."""
    series = [one_series("2.25.1", "2.25.11", 1), one_series("2.25.1", "2.25.12", 20, body_part_examined="HEAD")]
    events = [images_event("2.25.1", "exam_started", "09:01"), images_event("2.25.1", "exam_ended", "09:24")]
    trace = [{"accession_number": "R1001", "study_instance_uid": "2.25.1", "at": "2025-11-10T09:20Z", "lane": "dicom", "what": "CT series", "source_id": "2.25.12"}]
    whole = study(body_part_examined="CHEST HEAD", n_instances=21, n_series=2, started_at="2025-11-10T09:01Z", ended_at="2025-11-10T09:24Z")
    return department(orders=[order(), order("R1002", procedure_name="CT HEAD")], studies=[whole], series=series, events=events, trace=trace)


def minutes(table, *columns):
    return [[row[c].strftime("%H:%M") for c in columns] for row in table.to_dict("records")]


def test_split_series_become_a_study_of_their_own_with_the_times_of_their_images(ledger):
    dept, new = two_exams_in_one(), split_study_uid("2.25.1", "2.25.12")
    record_correction(ledger, kind="split", target="2.25.1", series="2.25.12", old="R1001", new="R1002", reason="TWO_EXAMS", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    studies = fixed.studies.set_index("study_instance_uid").loc[["2.25.1", new]]
    assert studies[["accession_number", "body_part_examined", "n_series", "n_instances"]].values.tolist() == [["R1001", "CHEST", 1, 1], ["R1002", "HEAD", 1, 20]]
    assert minutes(studies, "started_at", "ended_at") == [["09:01", "09:05"], ["09:20", "09:24"]]
    assert fixed.series.set_index("series_instance_uid").loc["2.25.12", ["study_instance_uid", "accession_number"]].tolist() == [new, "R1002"]
    assert sorted(map(tuple, fixed.events[["accession_number", "study_instance_uid", "milestone"]].values.tolist())) == sorted(
        (a, u, m) for a, u in (("R1001", "2.25.1"), ("R1002", new)) for m in ("exam_started", "exam_ended"))
    assert sorted(minutes(fixed.events, "at")) == [["09:01"], ["09:05"], ["09:20"], ["09:24"]]
    assert fixed.trace[["accession_number", "study_instance_uid"]].values.tolist() == [["R1002", new]]
    assert sorted(codes(dept)) == ["U02", "U04"] and codes(fixed) == ["U02", "U02"]


def test_the_uid_of_a_split_study_depends_on_what_leaves_and_not_on_the_order_it_is_named_in():
    assert split_study_uid("2.25.1", "2.25.12 2.25.13") == split_study_uid("2.25.1", "2.25.13 2.25.12")
    assert len({split_study_uid("2.25.1", "2.25.12"), split_study_uid("2.25.1", "2.25.13"), split_study_uid("2.25.2", "2.25.12")}) == 3
    assert re.fullmatch(r"2\.25\.\d{1,39}", split_study_uid("2.25.1", "2.25.12"))


def test_merged_studies_are_one_exam_with_their_series_and_the_reports_that_named_them(ledger):
    parts = [study("R1001", "2.25.1", n_series=1, n_bytes=10), study("", "2.25.2", n_series=2, n_bytes=5, body_part_examined="ABDOMEN", started_at="2025-11-10T09:11Z", ended_at="2025-11-10T09:20Z")]
    events = [images_event("2.25.1", "exam_ended", "09:10"), images_event("2.25.2", "exam_ended", "09:20", accession="")]
    dept = department(orders=[order()], studies=parts, series=[one_series("2.25.1", "2.25.11", 1), one_series("2.25.2", "2.25.21", 11, accession_number="")],
                      reports=[report(study_instance_uid="2.25.2")], events=events)
    record_correction(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.studies[["study_instance_uid", "accession_number", "n_series", "n_instances", "n_bytes", "body_part_examined"]].values.tolist() == [["2.25.1", "R1001", 3, 6, 15, "ABDOMEN CHEST"]]
    assert minutes(fixed.studies, "started_at", "ended_at") == [["09:00", "09:20"]]
    assert set(fixed.series["study_instance_uid"]) == set(fixed.reports["study_instance_uid"]) == {"2.25.1"} and set(fixed.series["accession_number"]) == {"R1001"}
    assert fixed.events[["accession_number", "study_instance_uid"]].values.tolist() == [["R1001", "2.25.1"]] and minutes(fixed.events, "at") == [["09:20"]]


def test_the_first_study_named_is_the_one_that_stays(ledger):
    dept = department(studies=[study("R1001", "2.25.1"), study("R1001", "2.25.2", study_description="STAYS")])
    record_correction(ledger, kind="merge", target="2.25.2 2.25.1", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies[["study_instance_uid", "study_description"]].values.tolist() == [["2.25.2", "STAYS"]]


def test_studies_of_two_patients_that_were_merged_say_so(ledger):
    dept = department(studies=[study("R1001", "2.25.1"), study("R1001", "2.25.2", **OTHER)])
    record_correction(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE", decided_by="Pat")
    assert apply_corrections(dept, ledger).studies["problems"].tolist() == ["MIXED_PATIENT"]


def test_series_that_join_another_study_leave_the_first_and_an_empty_study_is_gone(ledger):
    dept = two_exams_in_one()
    dept = dept._replace(studies=pd.concat([dept.studies, department(studies=[study("R1002", "2.25.2", **OTHER)]).studies], ignore_index=True))
    for series in ("2.25.12", "2.25.11"):
        record_correction(ledger, kind="merge_series", target="2.25.1", series=series, new="2.25.2", reason="WRONG_PICK", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert fixed.studies[["study_instance_uid", "accession_number", "n_series", "n_instances"]].values.tolist() == [["2.25.2", "R1002", 2, 21]]
    assert fixed.series[["study_instance_uid", "accession_number", "patient_id"]].drop_duplicates().values.tolist() == [["2.25.2", "R1002", OTHER["patient_id"]]]
    assert set(fixed.events["study_instance_uid"]) == set()


def test_unlinked_images_and_reports_are_of_no_exam(ledger):
    asked = study(requested_accession_numbers="R1001", requested_procedure_ids="RP1")
    dept = department(orders=[order(requested_procedure_id="RP1", scheduled_at="2025-11-14T09:00Z")], studies=[asked], events=[images_event("2.25.1", "exam_ended", "09:10")],
                      reports=[report(study_instance_uid="2.25.1", requested_procedure_id="RP1", observed_at="2025-11-14T09:00Z")])
    for target in ("2.25.1", "VR1001"):
        record_correction(ledger, kind="unlink", target=target, old="R1001", reason="WRONG_PICK", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    links = link_exams(fixed, SITE)
    assert [level for level, _ in links.of_order + links.of_report] == ["none", "none"]
    assert [t["accession_number"].tolist() for t in (fixed.studies, fixed.reports, fixed.events)] == [[""], [""], [""]]


def test_a_linked_study_is_not_found_by_the_worklist_number_it_left(ledger):
    """What was picked by mistake stands in the Request Attributes too."""
    dept = department(orders=[order(), order("R1002")], studies=[study("R1002", requested_accession_numbers="R1002")])
    record_correction(ledger, kind="link", target="2.25.1", old="R1002", new="R1001", reason="WRONG_PICK", decided_by="Pat")
    links = link_exams(apply_corrections(dept, ledger), SITE)
    assert [links.orders[o]["accession_number"] for o in links.orders_of[0]] == ["R1001"]


@pytest.mark.parametrize("decision", [
    {"kind": "split", "target": "2.25.1", "series": "2.25.12 2.25.99", "old": "R1001", "new": "R1002"},
    {"kind": "split", "target": "2.25.1", "series": "2.25.12", "old": "R7", "new": "R1002"},
    {"kind": "merge_series", "target": "2.25.1", "series": "2.25.12", "new": "2.25.7"},
    {"kind": "merge", "target": "2.25.7 2.25.1", "old": "R1001", "new": "R1001"},
    {"kind": "merge", "target": "2.25.1 2.25.7", "old": "R7", "new": "R8"},
    {"kind": "unlink", "target": "2.25.1", "old": "R7"},
], ids=lambda d: f"{d['kind']} {d['target']} {d['old'] if 'old' in d else ''}")
def test_what_is_no_longer_as_it_was_seen_is_listed_and_changes_nothing(ledger, decision):
    dept = two_exams_in_one()
    record_correction(ledger, **decision, reason="TWO_EXAMS", decided_by="Pat")
    fixed = apply_corrections(dept, ledger)
    assert find_stale(dept, ledger)["target"].tolist() == [decision["target"]]
    for name in ("studies", "series", "events", "trace"):
        pd.testing.assert_frame_equal(getattr(fixed, name), getattr(dept, name))


def test_every_kind_applied_twice_changes_nothing_more_and_leaves_nothing_stale(ledger):
    dept, new = two_exams_in_one(), split_study_uid("2.25.1", "2.25.12")
    dept = dept._replace(studies=pd.concat([dept.studies, department(studies=[study("R1003", "2.25.2")]).studies], ignore_index=True))
    for decision in ({"kind": "patient_id", "target": "2.25.1", "old": PERSON["patient_id"], "new": "TEST9"},
                     {"kind": "split", "target": "2.25.1", "series": "2.25.12", "old": "R1001", "new": "R1002"},
                     {"kind": "link", "target": new, "old": "R1002", "new": "R1004"}, {"kind": "patient_id", "target": new, "old": "TEST9", "new": "TEST10"},
                     {"kind": "merge", "target": f"2.25.2 {new}", "old": "R1003 R1004", "new": "R1003"}, {"kind": "merge_series", "target": "2.25.1", "series": "2.25.11", "new": "2.25.2"}):
        record_correction(ledger, **decision, reason="TWO_EXAMS", decided_by="Pat")
    assert find_stale(dept, ledger).empty
    once = apply_corrections(dept, ledger)
    twice = apply_corrections(once, ledger)
    assert once.studies["study_instance_uid"].tolist() == ["2.25.2"] and find_stale(once, ledger).empty
    for name in ("studies", "series", "reports", "events", "trace"):
        pd.testing.assert_frame_equal(getattr(once, name), getattr(twice, name))


def test_an_undone_split_is_one_study_again(ledger):
    dept = two_exams_in_one()
    record = record_correction(ledger, kind="split", target="2.25.1", series="2.25.12", old="R1001", new="R1002", reason="TWO_EXAMS", decided_by="Pat")
    undo_correction(ledger, record["id"], decided_by="Pat")
    pd.testing.assert_frame_equal(apply_corrections(dept, ledger).studies, dept.studies)


@pytest.mark.parametrize(("more", "words"), [
    ({"reason": "TYPED_WRONK"}, "Did you mean 'TYPED_WRONG'"), ({"reason": "OTHER"}, "text: the reason OTHER needs a note"), ({"kind": "split"}, "series: a split correction names"),
    ({"kind": "merge"}, "two or more"), ({"kind": "merge", "target": "2.25.1 2.25.1"}, "two or more"), ({"kind": "unlink", "new": "R9"}, "new: what is unlinked goes nowhere"),
    ({"kind": "unlink", "new": "", "old": " "}, "old: unlink needs"), ({"kind": "link", "series": "2.25.12"}, "series: a link correction moves no series"),
    ({"kind": "merge_series", "series": "2.25.12", "new": "2.25.1"}, "in this study already"),
])
def test_a_decision_that_cannot_be_carried_out_is_refused(ledger, more, words):
    with pytest.raises(TableError, match=words):
        record_correction(ledger, **{"kind": "link", "target": "2.25.1", "old": "R1", "new": "R2", "reason": "TYPED_WRONG", "decided_by": "Pat", **more})
    assert not ledger.exists()


def test_two_people_moving_series_into_one_study_at_once_is_a_conflict(ledger):
    record_correction(ledger, kind="link", target="2.25.2", old="R1", new="R2", reason="WRONG_PICK", decided_by="Pat")
    with pytest.raises(LedgerError, match="CONFLICT: Pat"):
        record_correction(ledger, kind="merge_series", target="2.25.1", series="2.25.12", new="2.25.2", reason="WRONG_PICK", decided_by="Sam", expect=0)
