import pandas as pd
import pytest

from pacs_helpers.analyses.measures import measure_findings, measure_split_effect
from pacs_helpers.site import Site
from pacs_helpers.tables import FINDINGS, TableError, conform
from tests.small_department import NOW, SITE, department, order, report, study

CHICAGO = Site(time_zone="America/Chicago")


def finding(n, at, code="U02", owner="radiologist", uid="2.25.1"):
    return {"finding_id": f"{code}-{n}", "code": code, "owner": owner, "found_at": pd.Timestamp(f"2025-11-{at}Z") if at else None, "study_instance_uid": uid}


def decision(n, at, code="U02", **more):
    return {"finding_id": f"{code}-{n}", "target": "2.25.1", "decided_at": f"2025-11-{at}:00.000+00:00", **more}


def exams(n, uid="2.25.1", **more):
    return [study(f"R{i}", uid if i == 0 else f"{uid}.{i}", **more) for i in range(n)]


def measured(findings, decisions=(), studies=None, site=SITE, as_of=NOW, **more):
    table = pd.DataFrame(list(decisions), columns=["finding_id", "target", "decided_at"])
    return measure_findings(conform(findings, FINDINGS), department(studies=exams(20) if studies is None else studies), as_of=as_of, site=site, decisions=table, **more)


def values(table, *columns):
    return table[list(columns)].astype(object).where(table[list(columns)].notna(), None).to_numpy().tolist()


# Findings

def test_rate_is_findings_for_each_thousand_studies():
    got = measured([finding(1, "10T10:00"), finding(2, "10T11:00"), finding(1, "10T10:00", "U05a", "technologist")])
    assert values(got, "code", "n", "n_exams", "per_1000") == [["U02", 2, 20, 100.0], ["U05a", 1, 20, 50.0]]


def test_what_is_nobodys_error_is_neither_counted_nor_carried_over():
    found = [finding(1, "04T10:00", "U09", "nobody"), finding(2, "10T10:00")]
    assert values(measured(found), "code", "n", "n_open", "n_carried_over") == [["U02", 1, 1, 1]]
    assert values(measured(found[:1], by="week"), "n", "per_1000", "n_carried_over") == [[0, 0.0, 0]]
    assert measured(found[:1]).empty


def test_fewer_than_eleven_exams_make_no_rate():
    assert values(measured([finding(1, "10T10:00")], studies=exams(10)), "n_exams", "per_1000") == [[10, None]]
    assert values(measured([finding(1, "10T10:00")], studies=exams(11)), "n_exams", "per_1000") == [[11, pytest.approx(1000 / 11)]]


def test_phantoms_and_what_comes_later_are_no_exams():
    more = [study("Q1", "2.25.8", patient_name="PHANTOM^WATER"), study("R9", "2.25.9", started_at="2025-11-21T09:00Z")]
    assert values(measured([finding(1, "10T10:00"), finding(2, "21T10:00")], studies=exams(12) + more), "n", "n_exams") == [[1, 12]]


def test_a_station_has_its_own_exams_and_one_without_findings_is_shown():
    studies = exams(12) + exams(15, "2.25.7", station_name="CT2_DEMO")
    got = measured([finding(1, "10T10:00", uid="2.25.1 2.25.7"), finding(2, "10T10:00", "U03", uid="")], studies=studies, by="station_name")
    assert values(got, "station_name", "n", "n_exams", "per_1000") == [["", 1, None, None], ["CT1_DEMO", 1, 12, pytest.approx(1000 / 12)], ["CT2_DEMO", 0, 15, 0.0]]


def test_hours_run_to_the_first_decision_and_open_ones_stay_in():
    found = [finding(n, "10T10:00") for n in (1, 2, 3)]
    decisions = [decision(1, "10T20:00"), decision(1, "10T12:00"), decision(2, "10T16:00")]
    # 2 h and 6 h, one open: half are done after 6 h, nine in ten never yet.
    assert values(measured(found, decisions), "n", "n_corrected", "n_open", "median_hours", "p90_hours") == [[3, 2, 1, 6.0, None]]


def test_a_decision_that_names_its_finding_as_target_counts_and_a_later_one_not_yet():
    found = [finding(1, "10T10:00"), finding(2, "10T10:00")]
    decisions = [decision(1, "10T11:00", finding_id="", target="U02-1"), decision(2, "20T12:01")]
    assert values(measured(found, decisions), "n_corrected", "n_open") == [[1, 1]]


def test_a_finding_without_a_time_counts_and_has_no_hours():
    assert values(measured([finding(1, ""), finding(2, "10T10:00")], [decision(1, "10T12:00"), decision(2, "10T13:00")]), "n", "n_corrected", "median_hours") == [[2, 2, 3.0]]


def test_weeks_begin_on_mondays_of_the_site():
    # 03:00 UTC on Monday 10 November is Sunday evening in Chicago.
    got = measured([finding(1, "10T03:00"), finding(2, "10T10:00")], site=CHICAGO, by=["week"])
    assert values(got, "week", "n", "n_exams") == [["2025-11-03", 1, 0], ["2025-11-10", 1, 20]]


def test_what_was_open_when_the_week_began_is_carried_over():
    found, decisions = [finding(1, "04T10:00"), finding(2, "05T10:00"), finding(3, "12T10:00")], [decision(1, "06T10:00"), decision(2, "18T10:00")]
    studies = exams(12, started_at="2025-11-18T09:00Z")
    got = measured(found, decisions, studies=studies, by=("code", "week"))
    assert values(got, "week", "n", "n_open", "n_carried_over") == [["2025-11-03", 2, 0, 0], ["2025-11-10", 1, 1, 1], ["2025-11-17", 0, 0, 2]]
    assert measured(found, decisions, studies=studies)["n_carried_over"].tolist() == [2]


def test_a_group_named_twice_is_one_and_no_group_is_the_whole():
    found = [finding(1, "10T10:00"), finding(2, "10T11:00", "U03")]
    assert values(measured(found, by=["code", "code"]), "code", "n") == [["U02", 1], ["U03", 1]]
    assert values(measured(found, by=[]), "n", "n_exams") == [[2, 20]]


def test_without_exams_there_is_no_rate():
    assert values(measured([finding(1, "10T10:00")], studies=[], by="week"), "week", "n", "n_exams", "per_1000") == [["2025-11-10", 1, 0, None]]


def test_without_findings_there_is_a_table_without_rows():
    assert measured([]).empty and list(measured([]).columns)[0] == "code"


@pytest.mark.parametrize(("more", "words"), [({"by": "stations"}, "by: 'stations' is not one of .*station_name"), ({"as_of": "2025-12-01"}, "as_of: give")])
def test_a_callers_mistake_is_named(more, words):
    with pytest.raises(TableError, match=words):
        measured([finding(1, "10T10:00")], **more)


# Splits

def event(accession, milestone, at, uid="", modality="CT"):
    return {"accession_number": accession, "study_instance_uid": uid, "milestone": milestone, "at": f"2025-11-10T{at}Z", "rank": 1, "precision": "second", "source": "hl7",
            "source_field": "x", "modality": modality}


def part(n, start, end, accession=None, **more):
    return study(f"R{n}" if accession is None else accession, f"2.25.{n}", frame_of_reference_uids="2.25.99", started_at=f"2025-11-10T{start}Z", ended_at=f"2025-11-10T{end}Z", **more)


def effect(dept):
    table = measure_split_effect(dept, site=SITE, as_of=NOW)
    return {tuple(row[:2]): row[2:] for row in values(table, "modality", "counted", "n_exams", "n_used", "n_open", "median")}


def test_a_split_is_one_exam_from_its_last_image_to_its_first_final():
    # R1 10 min, R2 open for ten days and more; together from R2's end at 09:20 to the final at 10:00. The MR exam stays as it is.
    dept = department(orders=[order("R1"), order("R2")], reports=[report("R1")],
                      studies=[part(1, "09:00", "09:05"), part(2, "09:10", "09:20"), study("R3", "2.25.3", modality="MR", patient_id="TEST200777")],
                      events=[event("R1", "exam_ended", "09:50", "2.25.1"), event("R1", "final", "10:00"), event("R2", "exam_ended", "09:20", "2.25.2"),
                              event("R3", "exam_ended", "09:10", "2.25.3", "MR"), event("R3", "final", "09:40", modality="MR")])
    got = effect(dept)
    assert got["CT", "as archived"][:3] == [2, 2, 1] and got["CT", "one per visit"] == [1, 1, 0, 10.0]
    assert got["MR", "as archived"] == got["MR", "one per visit"] == [1, 1, 0, 30.0]
    assert got["all", "as archived"][:3] == [3, 3, 1] and got["all", "one per visit"][:3] == [2, 2, 0]


def test_a_group_case_is_one_study_with_two_clocks_and_one_visit_with_one():
    dept = department(orders=[order("R1"), order("R2")], reports=[report("R1"), report("R2")], studies=[study("", "2.25.1", requested_accession_numbers="R1 R2")],
                      events=[event("R1", "exam_ended", "09:10", "2.25.1"), event("R2", "exam_ended", "09:30", "2.25.1"), event("R1", "final", "10:00"), event("R2", "final", "12:30")])
    assert effect(dept)["CT", "as archived"] == [1, 2, 0, 50.0] and effect(dept)["CT", "one per visit"] == [1, 1, 0, 30.0]


def test_the_studies_of_the_split_effect_are_those_of_the_rates():
    dept = department(studies=[study(), study("", "2.25.2", patient_id="PHANTOM1", patient_name="PHANTOM^DAILY")], events=[event("R1001", "exam_ended", "09:10", "2.25.1")])
    rates = measure_findings(conform([finding(1, "10T10:00")], FINDINGS), dept, as_of=NOW, site=SITE)
    assert effect(dept)["all", "as archived"][0] == rates["n_exams"].tolist()[0] == 1


def test_two_studies_of_one_number_are_one_visit_and_those_of_two_people_are_not():
    one = department(orders=[order("R1")], studies=[part(1, "09:00", "09:05"), part(2, "14:00", "14:05", accession="R1")])
    assert [effect(one)["CT", words][0] for words in ("as archived", "one per visit")] == [2, 1]
    two = one._replace(studies=one.studies.assign(patient_id=["TEST100231", "TEST200777"], patient_name=["ASH^ROWAN", "BIRCH^KIM"], patient_birth_date=["19480312", "19710923"]))
    assert [effect(two)["CT", words][0] for words in ("as archived", "one per visit")] == [2, 2]


def test_what_hangs_together_by_a_split_and_a_number_is_one_visit():
    third = study("R2", "2.25.3", started_at="2025-11-10T14:00Z", ended_at="2025-11-10T14:05Z")
    dept = department(orders=[order("R1"), order("R2")], studies=[part(1, "09:00", "09:05"), part(2, "09:10", "09:20"), third])
    assert [effect(dept)["CT", words][0] for words in ("as archived", "one per visit")] == [3, 1]


def test_what_is_not_yet_there_changes_no_count():
    studies = [part(1, "09:00", "09:05"), {**part(2, "09:15", "09:20"), "frame_of_reference_uids": "2.25.98"}, study("R9", "2.25.9", started_at="2025-11-21T09:00Z")]
    dept = department(orders=[order("R1"), order("R2")], studies=studies, reports=[report("R1"), report("R2", message_at="2025-11-21T09:00Z")])
    assert [effect(dept)["CT", words][0] for words in ("as archived", "one per visit")] == [2, 1]


def test_two_genuine_exams_in_a_row_count_twice_either_way():
    studies = [part(1, "09:00", "09:05"), {**part(2, "09:15", "09:20"), "frame_of_reference_uids": "2.25.98"}]
    dept = department(orders=[order("R1"), order("R2")], studies=studies, reports=[report("R1"), report("R2")])
    assert effect(dept)["CT", "as archived"][0] == effect(dept)["CT", "one per visit"][0] == 2
