"""A rehearsal tells what would move and what stands against it, by hand-worked departments."""

import pandas as pd
import pytest

from pacs_helpers import Site
from pacs_helpers.fixes.corrections import record_correction
from pacs_helpers.fixes.rehearsal import rehearse
from pacs_helpers.tables import FINDINGS, INSTANCES, conform

from ..small_department import OTHER, department, order, person, report, study

TEMPORARY = {"patient_id": "UNK_1", "patient_name": "DOE^JANE", "patient_birth_date": ""}


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "corrections.jsonl"


def decide(ledger, **decision):
    record_correction(ledger, decided_by="Pat", **{"kind": "link", "target": "2.25.1", "old": "R9", "new": "R1001", "reason": "WRONG_PICK", **decision})


def series(uid, *sizes, accession="R1001"):
    return [{"study_instance_uid": uid, "series_instance_uid": f"{uid}.{at}", "accession_number": accession, "modality": "CT", "n_instances": n} for at, n in enumerate(sizes, 1)]


def only(table):
    assert len(table) == 1
    return table.iloc[0]


def test_a_link_is_counted_where_it_goes_before_and_after(ledger):
    dept = department(orders=[order()], studies=[study("R9", n_instances=5, n_series=2), study("R1001", "2.25.2", n_instances=3, n_series=1)],
                      series=[*series("2.25.1", 4, 1, accession="R9"), *series("2.25.2", 3)])
    decide(ledger)
    got = only(rehearse(dept, ledger))
    assert got[["n_studies", "n_series", "n_instances", "n_reports"]].tolist() == [1, 2, 5, 0]
    assert got[["n_studies_before", "n_series_before", "n_instances_before", "n_reports_before"]].tolist() == [1, 1, 3, 0]
    assert got[["n_studies_after", "n_series_after", "n_instances_after", "n_reports_after"]].tolist() == [2, 3, 8, 0]
    assert got["is_safe"] and got["collisions"] == ""


def test_a_report_that_moves_is_counted_with_its_versions(ledger):
    dept = department(orders=[order()], studies=[study()], reports=[report("R9", message_control_id="V1"), report("R9", message_control_id="V2")])
    decide(ledger, target="V1 V2")
    got = only(rehearse(dept, ledger))
    assert got[["n_studies", "n_reports", "n_reports_before", "n_reports_after"]].tolist() == [0, 2, 0, 2] and got["is_safe"]


def test_an_exam_of_another_patient_is_a_collision(ledger):
    decide(ledger)
    for other in ({"orders": [order(**OTHER)]}, {"studies": [study("R1001", "2.25.2", **OTHER)]}, {"reports": [report("R1001", **OTHER)]}):
        dept = department(**{**other, "studies": [study("R9"), *other.get("studies", [])]})
        got = only(rehearse(dept, ledger))
        assert not got["is_safe"] and "another patient ID: TEST200777" in got["collisions"]


def test_ids_that_registration_merged_are_one_patient(ledger):
    decide(ledger)
    merged = person(patient_id="TEST100231", prior_patient_id="OLD7", trigger_event="A40")
    assert only(rehearse(department(orders=[order()], studies=[study("R9", patient_id="OLD7")], patients=[merged]), ledger))["is_safe"]


def test_a_link_is_judged_by_whose_the_images_are_once_all_decisions_are_carried_out(ledger):
    dept = department(orders=[order()], studies=[study("R9", **TEMPORARY)])
    decide(ledger)
    assert not only(rehearse(dept, ledger))["is_safe"]
    second = ledger.with_name("second.jsonl")
    decide(second, kind="patient_id", old="UNK_1", new="TEST100231", reason="IDENTITY_CONFIRMED")
    decide(second)
    assert rehearse(dept, second)["is_safe"].tolist() == [True, True]
    third = ledger.with_name("third.jsonl")
    decide(third)
    decide(third, kind="patient_id", old="UNK_1", new="TEST100231", reason="IDENTITY_CONFIRMED")
    assert rehearse(dept, third)["is_safe"].tolist() == [True, True], "the number first, then the ID: in the end it is the same patient's exam"


def test_an_id_known_under_another_name_or_birth_date_is_a_collision_unless_the_identity_was_temporary(ledger):
    decide(ledger, kind="patient_id", old="X1", new="TEST200777", reason="TYPED_WRONG")
    born = only(rehearse(department(orders=[order(**{**OTHER, "patient_name": "ASH^ROWAN"})], studies=[study(patient_id="X1")]), ledger))["collisions"]
    assert born == "TEST200777 is known with another birth date than stands in what moves"
    named = only(rehearse(department(patients=[person(**{**OTHER, "patient_birth_date": ""})], studies=[study(patient_id="X1")]), ledger))["collisions"]
    assert named == "TEST200777 is known under another name than stands in what moves"
    unknown = only(rehearse(department(studies=[study(patient_id="X1")]), ledger))["collisions"]
    assert unknown == "neither orders nor registration know a patient TEST200777"
    temporary = study(**{**TEMPORARY, "patient_id": "X1"})
    assert only(rehearse(department(orders=[order(**OTHER)], studies=[temporary]), ledger))["is_safe"]


def test_an_exam_reported_on_other_images_is_a_collision_and_one_that_waits_for_its_images_is_not(ledger):
    decide(ledger)
    waiting = department(orders=[order()], studies=[study("R9")], reports=[report()])
    assert only(rehearse(waiting, ledger))["is_safe"]
    read = department(orders=[order()], studies=[study("R9"), study("R1001", "2.25.2")], reports=[report()])
    assert only(rehearse(read, ledger))["collisions"] == "exam R1001 is reported already, on other images"
    other = ledger.with_name("report.jsonl")
    decide(other, target="V1", reason="REPORT_MISFILED")
    assert only(rehearse(department(orders=[order()], studies=[study()], reports=[report(), report("R9", message_control_id="V1")]), other))["collisions"] == "exam R1001 is reported already"


def test_a_cancelled_order_is_a_collision(ledger):
    decide(ledger)
    assert only(rehearse(department(orders=[order(is_cancelled=True)], studies=[study("R9")]), ledger))["collisions"] == "the order of exam R1001 is cancelled"


def test_a_decision_whose_old_value_is_gone_is_stale_and_moves_nothing_on(ledger):
    decide(ledger)
    got = only(rehearse(department(orders=[order()], studies=[study("R8")]), ledger))
    assert not got["is_safe"] and got["collisions"].startswith("stale")


def test_a_merge_of_two_patients_or_of_one_image_in_both_studies_is_a_collision(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE")
    pair = [study(n_series=1), study(uid="2.25.2", n_series=1)]
    both = [*series("2.25.1", 3), *series("2.25.2", 3)]
    assert only(rehearse(department(orders=[order()], studies=pair, series=both), ledger))["is_safe"]
    two = only(rehearse(department(orders=[order()], studies=[pair[0], {**pair[1], **OTHER}], series=both), ledger))["collisions"]
    assert "the studies carry different patient IDs: TEST100231, TEST200777" in two
    images = conform(pd.DataFrame({"study_instance_uid": ["2.25.1", "2.25.2", "2.25.2"], "series_instance_uid": ["2.25.1.1", "2.25.2.1", "2.25.2.1"], "sop_instance_uid": ["a", "a", "b"]}), INSTANCES)
    assert only(rehearse(department(orders=[order()], studies=pair, series=both), ledger, instances=images))["collisions"] == "1 SOP Instance UID is in both studies"


def test_a_merge_says_which_reports_stay_under_the_other_number(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001 R1002", new="R1001", reason="SPLIT_BY_DEVICE")
    dept = department(orders=[order(), order("R1002")], studies=[study(), study("R1002", "2.25.2")], reports=[report(), report("R1002")])
    assert only(rehearse(dept, ledger))["collisions"] == "reports stay under R1002: link them to R1001 too"


@pytest.mark.parametrize(("here", "there", "words"), [
    ({"patient_name": "PETERSEN^JOHN"}, {"patient_name": "PETERSON^JOHN"}, "what is put together carries different names"),
    ({}, {"patient_birth_date": "19480321"}, "what is put together carries different birth dates"),
    ({"modality": "US"}, {"modality": "CR"}, "what is put together is of different modalities: CR, US"),
])
def test_images_that_agree_in_the_id_alone_are_not_joined_unseen(ledger, here, there, words):
    pair = [study(n_series=2, **here), study("", "2.25.2", n_series=1, **there)]
    both = [{**row, "modality": s["modality"]} for s, sizes in zip(pair, ((2, 1), (3,))) for row in series(s["study_instance_uid"], *sizes)]
    dept = department(orders=[order()], studies=pair, series=both)
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE")
    part = ledger.with_name("part.jsonl")
    decide(part, kind="merge_series", target="2.25.1", series="2.25.1.2", old="2.25.1", new="2.25.2")
    for one in (ledger, part):
        got = only(rehearse(dept, one))
        assert (got["collisions"], bool(got["is_safe"])) == (words, False)


def test_series_are_not_split_off_for_an_exam_of_another_name_birth_date_or_modality(ledger):
    decide(ledger, kind="split", series="2.25.1.2", old="R1001", new="R1002", reason="TWO_EXAMS")
    other = order("R1002", patient_name="ASH^ROBIN", patient_birth_date="19480321", modality="US")
    got = only(rehearse(department(orders=[other], studies=[study()], series=series("2.25.1", 2, 1)), ledger))["collisions"]
    assert got == "what is put together carries different names; what is put together carries different birth dates; what is put together is of different modalities: CT, US"


def test_a_name_that_one_system_gives_in_full_or_nobody_knew_yet_is_no_other_person(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE")
    for other in ("ash^rowan^lee^dr", "DOE^JANE", ""):
        assert only(rehearse(department(orders=[order()], studies=[study(), study("", "2.25.2", patient_name=other)]), ledger))["is_safe"]


def test_studies_whose_orders_or_reports_name_another_patient_are_not_merged_unseen(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE")
    words = "orders or reports of these studies name another patient ID: TEST200777"
    dictated = department(orders=[order()], studies=[study(), study("", "2.25.2")], reports=[report("R5", study_instance_uid="2.25.2", **OTHER)])
    assert only(rehearse(dictated, ledger))["collisions"] == words
    asked = department(orders=[order(), order("R5", is_cancelled=True, **OTHER)], studies=[study(), study("", "2.25.2", requested_accession_numbers="R5")])
    assert only(rehearse(asked, ledger))["collisions"] == words


def test_exams_that_were_not_ordered_together_are_not_merged_unseen(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001 R1002", new="R1001", reason="SPLIT_BY_DEVICE")
    pair = [study(), study("R1002", "2.25.2")]
    words = "these studies have orders of their own, not placed together: R1001, R1002"
    for more in ({"ordered_at": "2025-11-10T10:30Z"}, {"modality": "US"}):
        assert only(rehearse(department(orders=[order(), order("R1002", **more)], studies=pair), ledger))["collisions"] == words
        assert only(rehearse(department(orders=[order(), order("R1002", is_cancelled=True, **more)], studies=pair), ledger))["is_safe"]
    assert only(rehearse(department(orders=[order(), order("R1002", ordered_at="2025-11-10T08:02Z")], studies=pair), ledger))["is_safe"], "one visit"


def test_nothing_is_joined_or_split_while_a_wrong_patient_stands_on_it(ledger):
    dept = department(orders=[order(), order("R1002")], studies=[study(), study("", "2.25.2")], series=[*series("2.25.1", 2, 1), *series("2.25.2", 3)])
    found = conform([{"finding_id": "U05e-1", "code": "U05e", "study_instance_uid": "2.25.1", "evidence": "The order is of a woman."}], FINDINGS)
    words = "U05e-1 stands on one of these studies, settle that first: The order is of a woman"
    for n, decision in enumerate(({"kind": "merge", "target": "2.25.2 2.25.1", "old": "R1001", "new": "R1001"}, {"kind": "split", "series": "2.25.1.2", "old": "R1001", "new": "R1002"},
                                  {"kind": "merge_series", "series": "2.25.1.2", "old": "2.25.1", "new": "2.25.2"})):
        own = ledger.with_name(f"{n}.jsonl")
        decide(own, finding_id="U05e-1", **decision)
        got = only(rehearse(dept, own, findings=found))
        assert (got["collisions"], bool(got["is_safe"])) == (words, False)
    decide(ledger, kind="dismiss", target="U05e-1", new="", finding_id="U05e-1")
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001")
    assert rehearse(dept, ledger, findings=found)["is_safe"].tolist() == [True, True], "settled before"


def test_a_split_counts_its_series_and_may_not_take_them_all(ledger):
    dept = department(orders=[order("R1002")], studies=[study(n_series=2, n_instances=5)], series=series("2.25.1", 4, 1))
    decide(ledger, kind="split", series="2.25.1.2", old="R1001", new="R1002", reason="TWO_EXAMS")
    got = only(rehearse(dept, ledger))
    assert got[["n_studies", "n_series", "n_instances", "n_studies_before", "n_studies_after", "n_instances_after"]].tolist() == [0, 1, 1, 0, 1, 1] and got["is_safe"]
    everything = ledger.with_name("all.jsonl")
    decide(everything, kind="split", series="2.25.1.1 2.25.1.2", old="R1001", new="R1002", reason="TWO_EXAMS")
    assert "all series leave the study" in only(rehearse(dept, everything))["collisions"]


def test_a_dismissal_moves_nothing_and_is_safe(ledger):
    decide(ledger, kind="dismiss", target="U04-1", new="", reason="NO_PARTNER")
    got = only(rehearse(department(studies=[study()]), ledger))
    assert got[["n_studies", "n_instances", "n_reports"]].tolist() == [0, 0, 0] and got["is_safe"]


def test_an_exam_of_another_patient_is_found_however_its_number_is_spelled(ledger):
    dept = department(orders=[order("NS-01001", **OTHER)], studies=[study("R9")])
    decide(ledger, new="1001")
    assert only(rehearse(dept, ledger))["is_safe"] and not only(rehearse(dept, ledger, site=Site(time_zone="UTC", strip_prefixes=("NS-",))))["is_safe"]
