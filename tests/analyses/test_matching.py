import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches, rank_candidates
from pacs_helpers.analyses.splits import describe_splits
from pacs_helpers.analyses.unmatched import in_words
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

from ..small_department import NOW, OTHER, SITE, department, merge, order, person, report, study


def found(dept, site=SITE, as_of=NOW):
    return find_mismatches(dept, as_of=as_of, site=site)


def codes(dept, site=SITE, as_of=NOW):
    return found(dept, site, as_of)["code"].tolist()


def test_a_whole_exam_has_no_finding():
    assert codes(department(orders=[order()], studies=[study()], reports=[report()])) == []


# U01 to U04: no partner

def test_images_that_nothing_names_are_u01():
    dept = department(orders=[order()], studies=[study(), study("X9", "2.25.2", **OTHER)], reports=[report()])
    got = found(dept)
    assert got["code"].tolist() == ["U01"] and got["study_instance_uid"].tolist() == ["2.25.2"] and got["owner"].tolist() == ["technologist"]


def test_images_older_than_the_feed_are_not_judged():
    old = study("X9", "2.25.2", study_at="2025-05-11T09:00Z", started_at="2025-05-11T09:00Z", ended_at="2025-05-11T09:10Z", **OTHER)
    assert codes(department(orders=[order()], studies=[study(), old], reports=[report()])) == []


def test_phantoms_need_no_order_and_are_u15():
    phantom = study("", "2.25.2", patient_id="QC1", patient_name="PHANTOM^DAILY", patient_birth_date="")
    assert codes(department(orders=[order()], studies=[study(), phantom], reports=[report()])) == ["U15"]


@pytest.mark.parametrize(("reports", "status", "owner"), [
    ([], "CM", "radiologist"),
    ([], "IP", "technologist"),
    ([report(result_status="P")], "CM", "radiologist"),
])
def test_exam_without_a_delivered_final_is_u02_with_its_owner(reports, status, owner):
    got = found(department(orders=[order(order_status=status)], studies=[study()], reports=reports))
    assert got["code"].tolist() == ["U02"] and got["owner"].tolist() == [owner]


def test_exam_inside_its_target_is_not_overdue():
    dept = department(orders=[order()], studies=[study()])
    assert codes(dept, as_of=pd.Timestamp("2025-11-11T09:09Z")) == []
    assert codes(dept, as_of=pd.Timestamp("2025-11-11T09:11Z")) == ["U02"]


def test_target_of_the_priority_decides():
    site = Site(time_zone="UTC", targets={"exam_ended>final": {"minutes": 1440}, "exam_ended>final/STAT": {"minutes": 60}})
    dept = department(orders=[order(priority="STAT")], studies=[study()])
    assert codes(dept, site, pd.Timestamp("2025-11-10T10:11Z")) == ["U02"]


def test_report_after_as_of_does_not_count_yet():
    late = report(message_at="2025-11-19T11:00Z", status_changed_at="2025-11-19T11:00Z")
    assert codes(department(orders=[order()], studies=[study()], reports=[late]), as_of=pd.Timestamp("2025-11-18T00:00Z")) == ["U02"]


def test_final_report_that_fits_no_study_is_u03():
    stray = report("R9999", observed_at="2025-11-15T09:00Z", modality="CR", procedure_name="XR ANKLE LEFT")
    got = found(department(orders=[order()], studies=[study()], reports=[report(), stray]))
    assert got["code"].tolist() == ["U03"] and got["owner"].tolist() == ["radiologist"] and got["message_control_id"].tolist() == ["VR9999"]


def test_report_of_a_known_order_without_images_is_on_the_technologists_desk():
    got = found(department(orders=[order("R1002", modality="MR")], reports=[report("R1002", modality="MR")]))
    assert got["code"].tolist() == ["U03"] and got["owner"].tolist() == ["technologist"]


def both(**more):
    """One report message for two orders, with the images of the first alone."""
    one = {"source_file": "v.hl7", "message_control_id": "V1"}
    second = {"scheduled_at": "2025-11-10T09:05Z", "procedure_name": "CT ABDOMEN", "modality": "CT", **more}
    return department(orders=[order("R1"), order("R2", **second)], studies=[study("R1")],
                      reports=[report("R1", **one), report("R2", procedure_name=second["procedure_name"], modality=second["modality"], **one)])


def test_a_report_for_several_orders_whose_images_are_under_one_of_them_misses_none():
    assert describe_splits(both(), site=SITE)["shape"].tolist() == ["linked report"] and codes(both()) == []


@pytest.mark.parametrize("more", [{"scheduled_at": "2025-11-12T09:00Z"}, {"modality": "US", "procedure_name": "US ABDOMEN"}, {"procedure_name": "CT KNEE"}], ids=["day", "modality", "region"])
def test_another_day_modality_or_region_is_not_shown_by_the_images_of_the_other_number(more):
    assert codes(both(**more)) == ["U03"]


def test_images_dated_after_as_of_by_a_wrong_clock_are_still_those_of_their_report():
    ahead = study(study_at="2025-11-10T17:00Z", started_at="2025-11-10T17:00Z", ended_at="2025-11-10T17:10Z")
    assert codes(department(orders=[order()], studies=[ahead], reports=[report()]), as_of=pd.Timestamp("2025-11-10T14:00Z")) == []


def test_images_made_after_as_of_are_not_there_yet():
    later = study(study_at="2025-11-12T17:00Z", started_at="2025-11-12T17:00Z", ended_at="2025-11-12T17:10Z")
    assert codes(department(orders=[order()], studies=[later]), as_of=pd.Timestamp("2025-11-12T14:00Z")) == ["U04"]


def test_order_with_nothing_behind_it_is_u04_unless_cancelled_or_still_to_come():
    dept = department(orders=[order("R1"), order("R2", is_cancelled=True), order("R3", scheduled_at="2025-11-21T09:00Z")])
    got = found(dept)
    assert got["code"].tolist() == ["U04"] and got["accession_number"].tolist() == ["R1"]


@pytest.mark.parametrize(("minutes", "words"), [(0.6, "1 minute"), (1.4, "1 minute"), (119, "119 minutes"), (2879, "48 hours"), (2915, "2 days"), (4319, "2 days"), (40_000, "27 days")])
def test_spans_are_told_in_the_unit_that_people_speak_in(minutes, words):
    assert in_words(minutes) == words


# U05: whose patient is it

def test_swapped_digits_in_the_images_id_are_u05a():
    got = found(department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()]))
    assert got["code"].tolist() == ["U05a"] and got["confidence"].tolist() == [0.9] and "TEST100213" in got["evidence"][0]


def test_dropped_prefix_is_u05b_not_a_typo():
    assert codes(department(orders=[order()], studies=[study(patient_id="100231")], reports=[report()])) == ["U05b"]


def test_old_study_of_a_known_patient_with_another_spelling_is_u05b_and_nothing_else():
    old = study("A77", "2.25.2", patient_id="100231", study_at="2025-05-11T09:00Z", started_at="2025-05-11T09:00Z", ended_at="2025-05-11T09:00Z")
    assert codes(department(orders=[order()], studies=[study(), old], reports=[report()])) == ["U05b"]


def test_id_merged_away_is_u05c_even_if_temporary():
    dept = department(orders=[order()], studies=[study(patient_id="TRAUMA11", patient_name="DOE^JOHN")], reports=[report()], patients=[merge("TRAUMA11", "TEST100231")])
    got = found(dept)
    assert got["code"].tolist() == ["U05c"] and got["owner"].tolist() == ["PACS administrator"]


def test_merges_are_followed_to_their_end():
    dept = department(orders=[order()], studies=[study(patient_id="TEST7")], reports=[report()], patients=[merge("TEST7", "TEST8"), merge("TEST8", "TEST100231")])
    assert "TEST100231" in found(dept)["evidence"][0]


def test_temporary_identity_without_a_merge_is_u05d():
    dept = department(orders=[order()], studies=[study(patient_id="UNK_0031", patient_name="DOE^JANE")], reports=[report()])
    got = found(dept)
    assert got["code"].tolist() == ["U05d"] and got["owner"].tolist() == ["registration"]


@pytest.mark.parametrize(("name", "is_temporary"), [("DOERING^ANNA", False), ("TEMPLETON^JO", False), ("UNKEL^KIM", False), ("DOE^JANE", True), ("MALE^UNKNOWN", True), ("TRAUMA11", True)])
def test_a_surname_that_only_begins_like_a_placeholder_is_a_persons(name, is_temporary):
    people = {"orders": [order(patient_name=name)], "studies": [study(patient_name=name)], "reports": [report(patient_name=name)]}
    assert codes(department(**people)) == ["U05d"] * is_temporary


def test_id_of_another_known_patient_is_u05e_however_near_it_is():
    dept = department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()], patients=[person(patient_id="TEST100213", patient_name="ASHE^ROWAN")])
    assert codes(dept) == ["U05e"]


def test_report_dictated_under_a_known_look_alike_is_u05e_for_the_radiologist():
    dept = department(orders=[order()], studies=[study()], reports=[report(patient_id="TEST100213", patient_name="ASHE^ROWAN")],
                      patients=[person(patient_id="TEST100213", patient_name="ASHE^ROWAN")])
    got = found(dept)
    assert got["code"].tolist() == ["U05e"] and got["owner"].tolist() == ["radiologist"] and got["message_control_id"].tolist() == ["VR1001"]


@pytest.mark.parametrize("wrong", [{"body_part_examined": "KNEE"}, {"modality": "MR"}])
def test_images_that_contradict_a_cleanly_matched_order_are_u05e(wrong):
    assert codes(department(orders=[order()], studies=[study(**wrong)], reports=[report()])) == ["U05e"]


def test_wrong_side_is_u05e_and_the_right_one_is_not():
    knee, read = order(procedure_name="CT KNEE LEFT"), report(procedure_name="CT KNEE LEFT")
    assert codes(department(orders=[knee], studies=[study(body_part_examined="KNEE", laterality="R")], reports=[read])) == ["U05e"]
    assert codes(department(orders=[knee], studies=[study(body_part_examined="KNEE", laterality="L")], reports=[read])) == []


def test_adjoining_regions_are_no_contradiction():
    assert codes(department(orders=[order(procedure_name="CT ABD/PELVIS")], studies=[study(body_part_examined="PELVIS")], reports=[report()])) == []


def test_wrong_pick_among_the_patients_own_orders_is_not_called_wrong_patient():
    dept = department(orders=[order(), order("R1002", procedure_name="CT KNEE", is_cancelled=True)], studies=[study(body_part_examined="KNEE")], reports=[report()])
    assert "U05e" not in codes(dept)


# U06: the accession number

def test_missing_accession_linked_by_study_uid_is_u06():
    got = found(department(orders=[order(study_instance_uid="2.25.1")], studies=[study("")], reports=[report()]))
    assert got["code"].tolist() == ["U06"] and "R1001" in got["suggested_correction"][0]


def test_prefix_that_site_toml_explains_is_no_finding():
    dept = department(orders=[order("CL-R1001")], studies=[study()], reports=[report("CL-R1001")])
    assert codes(dept, Site(time_zone="UTC", strip_prefixes=("CL-",))) == []


def test_unexplained_prefix_on_the_report_is_u06_for_the_interface_team():
    dept = department(orders=[order()], studies=[study()], reports=[report("CR-R1001", other_accession_numbers="R1001", placer_order_number="P1")])
    got = found(dept)
    assert got["code"].tolist() == ["U06"] and got["owner"].tolist() == ["interface team"] and got["accession_number"].tolist() == ["R1001"]


def test_typed_wrong_report_is_one_u06_and_its_exam_is_not_also_called_unreported():
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")])
    got = found(dept)
    assert got["code"].tolist() == ["U06"]
    ranked = rank_candidates(got, dept, site=SITE)
    assert ranked["candidate_accession_number"].tolist()[0] == "R1001" and ranked["score"][0] > 0.9


def test_typed_wrong_report_is_not_given_to_a_study_that_has_its_own_report():
    dept = department(orders=[order()], studies=[study()], reports=[report(), report("R1010", placer_order_number="P9")])
    assert codes(dept) == ["U03"]


def test_typed_wrong_report_between_two_equal_studies_is_left_to_a_person():
    second = study("R1003", "2.25.2", started_at="2025-11-10T10:00Z", ended_at="2025-11-10T10:10Z", study_at="2025-11-10T10:00Z")
    dept = department(orders=[order(), order("R1003")], studies=[study(), second], reports=[report("R1002", placer_order_number="P9", observed_at="2025-11-10T09:30Z")])
    assert sorted(codes(dept)) == ["U02", "U02", "U03"]


def test_one_accession_on_two_patients_is_u06():
    dept = department(orders=[order()], studies=[study(), study("R1001", "2.25.2", **OTHER)], reports=[report()])
    got = found(dept)
    assert "U06" in got["code"].tolist() and "U10" not in got["code"].tolist()


def test_blank_accessions_never_join():
    dept = department(orders=[order("", **OTHER)], studies=[study("", "2.25.5")])
    assert sorted(codes(dept)) == ["U01", "U04"]


def test_images_without_accession_are_linked_by_patient_and_time_only_when_unique():
    one = department(orders=[order()], studies=[study("", "2.25.5")], reports=[report()])
    assert codes(one) == ["U06"]
    two = department(orders=[order(), order("R1002")], studies=[study("", "2.25.5")], reports=[report(), report("R1002")])
    assert codes(two).count("U01") == 1 and codes(two).count("U03") == 2


# U08 to U10

def three_parts(**more):
    times = [("09:00", "09:05", "HEAD"), ("09:07", "09:09", "ABDOMEN"), ("09:10", "09:12", "PELVIS")]
    return [study(f"R{i}", f"2.25.{i}", body_part_examined=part, frame_of_reference_uids="2.25.99", study_at=f"2025-11-10T{a}Z", started_at=f"2025-11-10T{a}Z",
                  ended_at=f"2025-11-10T{b}Z", **more) for i, (a, b, part) in enumerate(times, 1)]


def orders_of_three():
    return [order("R1", procedure_name="CT HEAD"), order("R2", procedure_name="CT ABDOMEN"), order("R3", procedure_name="CT PELVIS")]


def test_one_visit_in_three_studies_is_one_u08_and_its_unreported_parts_are_explained():
    got = found(department(orders=orders_of_three(), studies=three_parts(), reports=[report("R1", procedure_name="CT HEAD")]))
    assert got["code"].tolist() == ["U08"] and got["study_instance_uid"].tolist() == ["2.25.1 2.25.2 2.25.3"]


def test_two_real_exams_in_a_row_with_a_report_each_are_no_split():
    parts = three_parts()[1:]
    assert codes(department(orders=orders_of_three()[1:], studies=parts, reports=[report("R2", procedure_name="CT ABDOMEN"), report("R3", procedure_name="CT PELVIS")])) == []


def test_exams_half_an_hour_apart_are_no_split():
    late = study("R2", "2.25.2", body_part_examined="ABDOMEN", started_at="2025-11-10T09:40Z", ended_at="2025-11-10T09:45Z")
    assert "U08" not in codes(department(orders=[order("R1"), order("R2")], studies=[study("R1"), late], reports=[report("R1")]))


def test_group_case_is_named_and_is_nobodys_fault():
    dept = department(orders=[order("R1"), order("R2")], studies=[study("", requested_accession_numbers="R1 R2")], reports=[report("R1")])
    got = found(dept)
    assert got["code"].tolist() == ["U09"] and got["owner"].tolist() == ["nobody"]


def test_two_study_uids_under_one_accession_are_one_u10():
    again = study("R1001", "2.25.2", started_at="2025-11-10T09:20Z", ended_at="2025-11-10T09:25Z")
    got = found(department(orders=[order()], studies=[study(), again], reports=[report()]))
    assert got["code"].tolist() == ["U10"] and got["study_instance_uid"].tolist() == ["2.25.1 2.25.2"]


# Laws

def test_order_of_the_input_changes_nothing():
    orders, reports = [*orders_of_three(), order()], [report("R1"), report("R1010", placer_order_number="P9")]
    studies = [*three_parts(), study(patient_id="TEST100213", uid="2.25.9")]
    one = found(department(orders=orders, studies=studies, reports=reports))
    two = found(department(orders=orders[::-1], studies=studies[::-1], reports=reports[::-1]))
    pd.testing.assert_frame_equal(one, two)


def test_reviewed_findings_stay_away():
    dept = department(orders=[order()], studies=[study()])
    only = found(dept)["finding_id"][0]
    assert codes(dept._replace(reviewed=(only,))) == []


def test_as_of_without_a_zone_is_refused_in_words():
    with pytest.raises(TableError, match="as_of: give a pandas Timestamp with a time zone"):
        found(department(), as_of=pd.Timestamp("2025-11-20"))
