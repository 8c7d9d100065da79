"""Numbers that agree, or nearly do, never make two people one: what contradicts them on name, birth date or sex comes first."""

import pytest

from pacs_helpers.analyses.matching import find_mismatches, rank_candidates

from ..small_department import NOW, OTHER, SITE, department, merge, order, report, study


def found(**tables):
    return find_mismatches(department(**tables), as_of=NOW, site=SITE)


def stranger(patient_id):
    return {**OTHER, "patient_id": patient_id}


@pytest.mark.parametrize("patient_id", ["", "TEST100213", "TEST0100231", "TEST666666"], ids=["no id", "a typo away", "other spelling", "merged"])
def test_images_of_a_stranger_are_u05e_however_near_their_id(patient_id):
    got = found(orders=[order()], studies=[study(**stranger(patient_id))], reports=[report()], patients=[merge("TEST666666", "TEST100231")])
    assert got["code"].tolist() == ["U05e"] and "Quarantine" in got["suggested_correction"][0]


def test_another_order_that_names_a_strangers_images_is_u05e():
    got = found(orders=[order(study_instance_uid="2.25.1"), order("R1002", **OTHER)], studies=[study("R1002", **OTHER)], reports=[report(), report("R1002", **OTHER)])
    assert got["code"].tolist() == ["U05e"] and got["accession_number"].tolist() == ["R1001"]


@pytest.mark.parametrize("patient_id", ["TEST100231", "TEST100213"])
def test_a_report_about_a_stranger_is_u05e(patient_id):
    got = found(orders=[order()], studies=[study()], reports=[report(**stranger(patient_id))])
    assert got["code"].tolist() == ["U05e"] and got["owner"].tolist() == ["radiologist"] and got["message_control_id"].tolist() == ["VR1001"]


def test_a_married_name_with_the_same_birth_date_and_sex_is_no_stranger():
    assert "U05e" not in found(orders=[order()], studies=[study(patient_name="BIRCH^ROWAN")], reports=[report()])["code"].tolist()


def test_a_temporary_id_given_again_leads_each_exam_to_its_own_patient():
    doe = {"patient_id": "UNK_0031", "patient_name": "DOE^JOHN", "patient_birth_date": "", "patient_sex": ""}
    later = {"study_at": "2025-11-15T09:00Z", "started_at": "2025-11-15T09:00Z", "ended_at": "2025-11-15T09:10Z"}
    got = found(orders=[order(), order("R2", scheduled_at="2025-11-15T09:00Z", ordered_at="2025-11-15T08:00Z", **OTHER)],
                studies=[study(**doe), study("R2", "2.25.2", **{**doe, **later})], reports=[report(), report("R2", **OTHER)],
                patients=[merge("UNK_0031", "TEST100231", "2025-11-11T08:00Z"), {**merge("UNK_0031", "TEST200777", "2025-11-16T08:00Z"), **OTHER}])
    assert got["code"].tolist() == ["U05c", "U05c"]
    into = {row["study_instance_uid"]: row["evidence"] for row in got.to_dict("records")}
    assert "merged into TEST100231" in into["2.25.1"] and "merged into TEST200777" in into["2.25.2"]


def test_a_merge_by_another_issuer_does_not_reach_this_issuers_patient():
    others = {**OTHER, "prior_patient_id": "TEST100231", "trigger_event": "A40", "at": "2025-11-12T08:00Z", "issuer_of_patient_id": "B"}
    own = {"issuer_of_patient_id": "A"}
    assert found(orders=[order(**own)], studies=[study(**own)], reports=[report(**own)], patients=[others]).empty


def test_images_without_issuer_under_an_id_that_two_issuers_gave_are_no_typo():
    got = found(orders=[order(issuer_of_patient_id="A"), order("R2", issuer_of_patient_id="B", is_cancelled=True, **stranger("TEST100231"))], studies=[study()],
                reports=[report(issuer_of_patient_id="A")])
    assert got.empty


def test_images_of_another_region_are_not_linked_by_patient_and_time():
    got = found(orders=[order()], studies=[study("", body_part_examined="HEAD")], reports=[report()])
    assert "U06" not in got["code"].tolist() and "U01" in got["code"].tolist()


def test_a_stranger_under_the_same_number_is_no_likely_candidate():
    dept = department(orders=[order()], studies=[study(), study(uid="2.25.2", **OTHER)], reports=[report()])
    got = rank_candidates(find_mismatches(dept, as_of=NOW, site=SITE), dept, site=SITE)
    assert got.loc[got["reasons"].str.contains("another birth date"), "score"].max() < 0.1 or not got["reasons"].str.contains("another birth date").any()


def test_one_study_is_the_likely_partner_of_one_order_only():
    due = {"scheduled_at": "2025-11-10T22:30Z", "placer_order_number": ""}
    dept = department(orders=[order("R1", **due), order("R2", **due)], studies=[study("")])
    got = rank_candidates(find_mismatches(dept, as_of=NOW, site=SITE), dept, site=SITE)
    wanted = got[got["finding_id"].str.startswith("U04")].groupby("candidate_study_instance_uid")["score"].sum()
    assert wanted.tolist() == [pytest.approx(wanted.iloc[0])] and wanted.iloc[0] <= 1.001


def test_a_final_report_that_was_withdrawn_is_none():
    gone = report(result_status="X", message_control_id="V2", status_changed_at="2025-11-11T11:00Z", message_at="2025-11-11T11:00Z")
    got = found(orders=[order()], studies=[study()], reports=[report(), gone])
    assert got["code"].tolist() == ["U02"] and "withdrawn" in got["evidence"][0]
    again = report(message_control_id="V3", status_changed_at="2025-11-12T11:00Z", message_at="2025-11-12T11:00Z")
    assert found(orders=[order()], studies=[study()], reports=[report(), gone, again]).empty


def test_images_under_a_cancelled_order_that_nobody_reads_are_u02():
    got = found(orders=[order(is_cancelled=True)], studies=[study()])
    assert got["code"].tolist() == ["U02"] and "cancelled" in got["evidence"][0]
    assert found(orders=[order(is_cancelled=True)], studies=[study()], reports=[report()]).empty
