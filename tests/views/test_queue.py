import pandas as pd

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.site import Site
from pacs_helpers.tables import FINDINGS, conform
from pacs_helpers.views.queue import describe_queued, left_in_words, rank_urgency

from ..small_department import NOW, OTHER, SITE, department, order, report, study


def finding(code, accession="R1001", *, found_at="2025-11-10T09:00Z", **more):
    return {"finding_id": f"{code}-{accession}", "code": code, "accession_number": accession, "found_at": found_at, "owner": "technologist", **more}


def ranked(findings, **tables):
    return rank_urgency(conform(findings, FINDINGS), department(**tables), site=SITE)


def test_a_wrong_patient_comes_before_a_stat_exam_and_that_before_unread_images_identity_and_the_rest():
    findings = [finding("U04", "R5"), finding("U05a", "R4"), finding("U02", "R3"), finding("U02", "R2"), finding("U05e", "R1")]
    got = ranked(findings, orders=[order("R2", priority="STAT"), order("R3", priority="ROUTINE", patient_class="O")])
    assert got["accession_number"].tolist() == ["R1", "R2", "R3", "R4", "R5"] and got["rank"].tolist() == [1, 2, 3, 4, 5]
    assert got["urgency"].tolist()[:3] == ["wrong patient: the images contradict the order", "STAT, no report", "unread images"]
    assert left_in_words(got) == "Left: 1 wrong patient or exam, 1 urgent or inpatient, 1 unread or out of sight, 1 identity, 1 the rest"


def test_a_report_of_another_patient_is_not_blamed_on_the_images_and_the_date_stands_before_the_exam():
    got = ranked([finding("U05e", message_control_id="V1")])
    assert got["urgency"].tolist() == ["wrong patient: the report names another"] and got["rank"].tolist() == [1]
    assert describe_queued(got.iloc[0], 1, SITE) == "1. wrong patient: the report names another | since 10 Nov 09:00 | U05e | R1001 | technologist"


def test_of_equal_urgency_the_older_comes_first_and_one_without_date_last():
    got = ranked([finding("U04", "R1", found_at=None), finding("U04", "R2"), finding("U04", "R3", found_at="2025-11-01T09:00Z")])
    assert got["accession_number"].tolist() == ["R3", "R2", "R1"]


def test_inpatients_and_emergencies_wait_urgently_for_a_report_a_refused_one_and_its_images():
    got = ranked([finding("U02", "R1"), finding("U18", "R2"), finding("U03", "R3")], orders=[order("R1", patient_class="I"), order("R2", patient_class="E")],
                 reports=[report("R3", priority="S")])
    assert sorted(zip(got["accession_number"], got["rank"], got["urgency"])) == [("R1", 2, "inpatient, no report"), ("R2", 2, "emergency, report refused"), ("R3", 2, "STAT, report without images")]


def test_one_number_on_two_patients_is_a_wrong_patient_but_two_spellings_of_one_are_not():
    def rank_of(**who):
        studies = [study(), study(uid="2.25.2", **who)]
        return ranked([finding("U06", study_instance_uid="2.25.1 2.25.2")], studies=studies)["rank"].tolist()

    assert rank_of(**OTHER) == [1] and rank_of(patient_id="100231") == [4]


def test_a_number_that_the_order_spells_differently_finds_its_priority():
    site = Site(time_zone="UTC", strip_prefixes=("CL-",))
    got = rank_urgency(conform([finding("U02", "R1")], FINDINGS), department(orders=[order("CL-R1", priority="STAT")]), site=site)
    assert got["rank"].tolist() == [2]


def test_the_place_is_the_orders_section_else_where_the_device_stands():
    site = Site(time_zone="UTC", ae_titles={"CT1_DEMO": {"place": "Emergency"}})
    findings = conform([finding("U04", "R1"), finding("U01", "", study_instance_uid="2.25.1")], FINDINGS)
    got = rank_urgency(findings, department(orders=[order("R1", section="CLINIC")], studies=[study("")]), site=site).set_index("code")["place"]
    assert got.to_dict() == {"U04": "CLINIC", "U01": "Emergency"}


def test_ranking_loses_no_finding_and_none_is_ranked_of_none():
    dept = department(orders=[order(), order("R2", **OTHER)], studies=[study(patient_id="TEST100213")])
    findings = find_mismatches(dept, as_of=NOW, site=SITE)
    assert sorted(rank_urgency(findings, dept, site=SITE)["finding_id"]) == sorted(findings["finding_id"]) and len(findings) > 1
    empty = rank_urgency(findings.head(0), dept, site=SITE)
    assert empty.empty and left_in_words(empty) == "Nothing left." and isinstance(empty["rank"].dtype, pd.Int64Dtype)
