"""U07 and U11 to U18: images, people, clocks and feeds that are wrong by themselves, each in a department small enough to work out by hand."""

import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches

from ..small_department import NOW, OTHER, PERSON, SITE, department, merge, order, person, report, study


def found(dept, as_of=NOW):
    return find_mismatches(dept, as_of=as_of, site=SITE)


def codes(dept):
    return found(dept)["code"].tolist()


def event(accession, milestone, at, source="dicom", rank=1, **more):
    return {"accession_number": accession, "milestone": milestone, "at": at, "source": source, "source_field": "x", "rank": rank, "precision": "second", "problems": "", **more}


# U07

def test_images_that_fit_the_patients_other_order_are_u07_and_that_order_is_not_missing_any():
    dept = department(orders=[order(procedure_name="CT HEAD"), order("R1002", procedure_name="CT CHEST")], studies=[study()], reports=[report()])
    got = found(dept)
    assert got[["code", "accession_number", "owner"]].values.tolist() == [["U07", "R1001", "technologist"]] and "R1002" in got["suggested_correction"][0]


def test_an_order_of_another_day_is_no_other_order():
    late = order("R1002", ordered_at="2025-11-13T08:00Z", scheduled_at="2025-11-19T13:00Z")
    assert codes(department(orders=[order(procedure_name="CT HEAD"), late], studies=[study()], reports=[report()])) == ["U05e"]


KNEES = {"left": {"modality": "CR", "procedure_name": "XR KNEE LEFT"}, "right": {"modality": "CR", "procedure_name": "XR KNEE RIGHT"}, "mr": {"modality": "MR", "procedure_name": "MR KNEE LEFT"}}
SEEN = {"left": {"modality": "CR", "body_part_examined": "KNEE", "laterality": "L"}, "right": {"modality": "CR", "body_part_examined": "KNEE", "laterality": "R"},
        "mr": {"modality": "MR", "body_part_examined": "KNEE"}}


@pytest.mark.parametrize(("mine", "theirs", "words"), [("left", "right", "laterality XR KNEE RIGHT for XR KNEE LEFT"), ("left", "mr", "modality MR for an order of CR")])
def test_a_report_of_the_patients_other_exam_is_one_u07_that_names_it_and_that_exam_is_not_also_unreported(mine, theirs, words):
    other = {"started_at": "2025-11-11T09:00Z", "study_at": "2025-11-11T09:00Z", "ended_at": "2025-11-11T09:10Z"}
    parts = {"orders": [order(**KNEES[mine]), order("R1002", **KNEES[theirs])], "studies": [study(**SEEN[mine]), study("R1002", "2.25.2", **SEEN[theirs], **other)]}
    got = found(department(**parts, reports=[report(**KNEES[theirs], message_at="2025-11-12T11:00Z")]))
    assert got[["code", "accession_number", "owner", "confidence"]].values.tolist() == [["U07", "R1001", "radiologist", 0.85]]
    assert words in got["evidence"][0] and "R1002" in got["suggested_correction"][0]
    early = found(department(**parts, reports=[report(**KNEES[theirs])]))
    assert early.set_index("code").loc["U07", "confidence"] == 0.6


@pytest.mark.parametrize("told", [{"procedure_name": "CT CHEST WITH CONTRAST"}, {"procedure_name": ""}, {"procedure_name": "CT CHEST ABDOMEN PELVIS"}, {"procedure_name": "CT 3D RENDERING"}])
def test_a_report_that_says_the_exam_in_other_words_or_none_is_no_u07(told):
    assert codes(department(orders=[order()], studies=[study()], reports=[report(**told)])) == []


def test_a_report_that_fits_the_images_where_the_order_does_not_is_no_second_u07_nor_one_that_was_sent_again_aright():
    assert codes(department(orders=[order(procedure_name="CT HEAD")], studies=[study()], reports=[report()])) == ["U05e"]
    again = report(message_control_id="V2", status_changed_at="2025-11-10T12:00Z", message_at="2025-11-10T12:00Z")
    assert codes(department(orders=[order()], studies=[study()], reports=[report(procedure_name="CT HEAD"), again])) == []


# Images older than their order

LATE = {"ordered_at": "2025-11-13T10:00Z", "scheduled_at": "2025-11-13T10:30Z"}


def test_images_made_more_than_two_days_before_their_order_was_placed_are_u05e():
    got = found(department(orders=[order(**LATE)], studies=[study()], reports=[report()]))
    assert got[["code", "accession_number", "confidence"]].values.tolist() == [["U05e", "R1001", 0.5]]
    assert "made 3 days before the order was placed" in got["evidence"][0] and "given twice" in got["suggested_correction"][0]


@pytest.mark.parametrize("ordered", [
    {"ordered_at": "2025-11-12T08:00Z", "scheduled_at": "2025-11-12T08:00Z"}, {"ordered_at": LATE["ordered_at"]}, {**LATE, "scheduled_at": None},
    {**LATE, "procedure_name": "CT CHEST OUTSIDE SECOND OPINION"}], ids=["two days at most", "it was due before", "older than the feed", "outside images"])
def test_an_order_that_may_come_after_its_images_is_no_doubt(ordered):
    assert codes(department(orders=[order(**ordered)], studies=[study()], reports=[report()])) == []


def test_an_order_without_an_appointment_that_the_feed_could_have_told_of_before_the_images_is_a_doubt():
    dept = department(orders=[order(**{**LATE, "scheduled_at": None}), order("R2", ordered_at="2025-11-01T08:00Z", is_cancelled=True, **OTHER)], studies=[study()], reports=[report()])
    assert codes(dept) == ["U05e"]


def test_early_images_of_a_station_or_an_institution_that_makes_them_so_are_no_doubt():
    who = [{"patient_id": f"T{n}000", "patient_name": f"N{n}^X", "patient_birth_date": f"19{40 + n}0101"} for n in range(5)]
    orders, reports = [order(f"R{n}", **LATE, **p) for n, p in enumerate(who)], [report(f"R{n}", **p) for n, p in enumerate(who)]
    assert codes(department(orders=orders, studies=[study(f"R{n}", f"2.25.{n}", **p) for n, p in enumerate(who)], reports=reports)) == []
    timely = order("R0", **who[0])
    studies = [study(f"R{n}", f"2.25.{n}", institution_name="ELSEWHERE" if n else "HERE", station_name=f"S{n}", **p) for n, p in enumerate(who)]
    assert codes(department(orders=[timely, *orders[1:]], studies=studies, reports=reports)) == []


# U11

def test_the_later_of_two_patients_studies_that_share_an_image_uid_is_u11():
    first = study(clashing_study_uids="2.25.2")
    other = study("R1002", "2.25.2", started_at="2025-11-10T10:00Z", ended_at="2025-11-10T10:10Z", study_at="2025-11-10T10:00Z", clashing_study_uids="2.25.1", **OTHER)
    got = found(department(orders=[order(), order("R1002", **OTHER)], studies=[first, other], reports=[report(), report("R1002", **OTHER)]))
    assert got[["code", "study_instance_uid", "owner"]].values.tolist() == [["U11", "2.25.2", "vendor"]] and "2.25.1" in got["evidence"][0]


def test_of_two_undated_studies_that_share_an_image_uid_one_is_u11():
    undated = {"started_at": None, "ended_at": None, "study_at": None}
    dept = department(orders=[order(), order("R1002", **OTHER)],
                      studies=[study(clashing_study_uids="2.25.2", **undated), study("R1002", "2.25.2", clashing_study_uids="2.25.1", **{**undated, **OTHER})],
                      reports=[report(), report("R1002", **OTHER)])
    assert found(dept)[["code", "study_instance_uid"]].values.tolist() == [["U11", "2.25.2"]]


# U12

@pytest.mark.parametrize(("name", "sex", "expected"), [("ASH^ROWAN", "F", ["U12"]), ("ASH^ROWEN", "F", ["U12"]), ("ROWAN^ASH", "", ["U12"]), ("ASH^RONNA", "F", []), ("ASH^ROWAN", "M", [])])
def test_a_namesake_of_the_same_birth_date_under_another_id_is_u12_unless_a_twin(name, sex, expected):
    twice = person(patient_id="TEST900001", patient_name=name, patient_sex=sex, at="2025-11-09T08:00Z")
    got = found(department(orders=[order()], studies=[study()], reports=[report()], patients=[person(), twice]))
    assert got["code"].tolist() == expected
    if expected:
        assert ("the same name" in got["evidence"][0]) == (name != "ASH^ROWEN")
        assert got["accession_number"].tolist() == ["R1001"] and got["owner"].tolist() == ["registration"] and got["found_at"].tolist() == [pd.Timestamp("2025-11-09T08:00Z")]


def test_ids_that_a_merge_joins_are_one_person():
    twice = person(patient_id="TEST900001", at="2025-11-09T08:00Z")
    assert codes(department(orders=[order()], studies=[study()], reports=[report()], patients=[person(), twice, merge("TEST900001", PERSON["patient_id"])])) == []


# U13

@pytest.mark.parametrize(("last", "expected"), [("2025-11-10T11:05Z", []), ("2025-11-10T14:00Z", ["U13"])])
def test_an_image_made_after_the_final_report_is_u13(last, expected):
    assert codes(department(orders=[order()], studies=[study(last_created_at=last)], reports=[report()])) == expected


def test_a_station_whose_images_are_always_late_has_a_clock_not_late_images():
    accessions = [f"R10{n:02}" for n in range(6)]
    studies = [study(a, f"2.25.{n + 1}", last_created_at="2025-11-10T14:00Z") for n, a in enumerate(accessions)]
    assert codes(department(orders=[order(a) for a in accessions], studies=studies, reports=[report(a) for a in accessions])) == []


# U14, U15

@pytest.mark.parametrize("foreign", [{"issuer_of_patient_id": "ELSEWHERE"}, {"institution_name": "Other Clinic"}])
def test_images_from_elsewhere_are_u14_and_not_also_without_an_order(foreign):
    own = {"issuer_of_patient_id": "HERE", "institution_name": "General"}
    imported = study("EXT1", "2.25.2", **{**own, **OTHER, "patient_id": "X99", **foreign})
    got = found(department(orders=[order(issuer_of_patient_id="HERE")], studies=[study(**own), imported], reports=[report(issuer_of_patient_id="HERE")]))
    assert got[["code", "study_instance_uid", "owner"]].values.tolist() == [["U14", "2.25.2", "PACS administrator"]]


def test_images_of_the_house_without_an_order_are_not_from_elsewhere():
    own = {"issuer_of_patient_id": "HERE", "institution_name": "General"}
    assert codes(department(orders=[order(issuer_of_patient_id="HERE")], studies=[study(**own), study("X9", "2.25.2", **{**own, **OTHER})], reports=[report()])) == ["U01"]


# U16

def test_a_report_final_before_its_exam_ended_is_u16():
    events = [event("R1001", "exam_ended", "2025-11-10T09:10Z")]
    early = report(status_changed_at="2025-11-10T08:50Z", message_at="2025-11-10T08:50Z")
    got = found(department(orders=[order()], studies=[study()], reports=[early], events=events))
    assert got[["code", "accession_number", "owner"]].values.tolist() == [["U16", "R1001", "modality service"]] and "20 minutes before" in got["evidence"][0]
    assert codes(department(orders=[order()], studies=[study()], reports=[report()], events=events)) == []


@pytest.mark.parametrize("doubt", [{"problems": "AMBIGUOUS_TIME"}, {"precision": "day"}, {"source": "hl7"}], ids=["repeated hour", "date alone", "order completed late"])
def test_times_that_prove_nothing_make_no_u16(doubt):
    early = report(status_changed_at="2025-11-10T08:50Z", message_at="2025-11-10T08:50Z")
    assert codes(department(orders=[order()], studies=[study()], reports=[early], events=[event("R1001", "exam_ended", "2025-11-10T09:10Z", **doubt)])) == []


def exams(hours, station="US2", n_first=0):
    """Orders, studies, reports and events of one exam a day-half, with images so many hours ahead of the RIS."""
    orders, studies, reports, events = [], [], [], []
    for n, ahead in enumerate(hours, n_first):
        begun = pd.Timestamp("2025-11-03T09:00Z") + pd.Timedelta(hours=12 * n)
        person_ = {"patient_id": f"T{n:04}", "patient_name": f"NAME{n}^X", "patient_birth_date": f"1950{n % 12 + 1:02}{n % 27 + 1:02}", "patient_sex": "F"}
        imaged = begun + pd.Timedelta(hours=ahead)
        orders.append(order(f"E{n}", ordered_at=begun - pd.Timedelta(hours=1), scheduled_at=begun, **person_))
        studies.append(study(f"E{n}", f"2.25.1{n}", study_at=imaged, started_at=imaged, ended_at=imaged, station_name=station, **person_))
        reports.append(report(f"E{n}", observed_at=begun, status_changed_at=begun + pd.Timedelta(hours=5), message_at=begun + pd.Timedelta(hours=5), **person_))
        events.append(event(f"E{n}", "exam_started", begun, "hl7"))
    return orders, studies, reports, events


def test_a_stations_clock_that_is_an_hour_off_for_days_is_one_u16():
    ours, theirs = exams([0, 1, 1, 0.1, 1, 0, 0]), exams([0] * 8, "CT1", 20)
    got = found(department(**{name: a + b for name, a, b in zip(("orders", "studies", "reports", "events"), ours, theirs)}))
    assert got["code"].tolist() == ["U16"] and got["study_instance_uid"].tolist() == ["2.25.11 2.25.12 2.25.14"]
    assert got["evidence"].tolist() == ["The clock of US2 was 1 hour ahead of the RIS in 3 exams, 03 Nov 21:00 to 05 Nov 09:00."]


def test_an_exam_of_two_studies_counts_once_among_those_a_clock_was_off_for():
    (orders, studies, reports, events), theirs = exams([1, 1]), exams([0] * 8, "CT1", 20)
    second = {**studies[0], "study_instance_uid": "2.25.99", "started_at": studies[0]["started_at"] + pd.Timedelta(minutes=20)}
    got = found(department(orders=orders + theirs[0], studies=[*studies, second, *theirs[1]], reports=reports + theirs[2], events=events + theirs[3]))
    row = got[got["code"] == "U16"].iloc[0]
    assert "in 2 exams" in row["evidence"] and row["study_instance_uid"] == "2.25.10 2.25.11 2.25.99"


def test_one_station_that_is_always_off_is_a_clock_not_a_zone():
    ours, theirs = exams([1, 1, 1, 1]), exams([0] * 3, "CT1", 20)
    got = found(department(**{name: a + b for name, a, b in zip(("orders", "studies", "reports", "events"), ours, theirs)}))
    assert got[["code", "owner"]].values.tolist() == [["U16", "modality service"]]


def test_when_most_clocks_are_off_the_zone_is_wrong_and_that_is_one_finding():
    parts = [exams([6, 6, 6]), exams([6, 6, 0], "CT1", 20)]
    got = found(department(**{name: a + b for name, a, b in zip(("orders", "studies", "reports", "events"), *parts)}))
    assert got[["code", "owner"]].values.tolist() == [["U16", "PACS administrator"]] and "5 of 6 exams" in got["evidence"][0]


# U17

@pytest.mark.parametrize(("other", "expected"), [
    ({"patient_birth_date": "19480313"}, ["U17"]), ({"patient_sex": "M"}, ["U17"]), ({"patient_sex": "O"}, []), ({"patient_birth_date": ""}, []),
    ({"patient_birth_date": "19710923", "patient_name": "BIRCH^KIM"}, ["U05e"]), ({"patient_name": "ASH-OAKLEY^ROWAN"}, [])])
def test_other_demographics_under_the_same_id_are_u17_and_another_persons_u05e(other, expected):
    assert codes(department(orders=[order()], studies=[study(**other)], reports=[report()], patients=[person()])) == expected


# U18

def test_a_refused_report_is_u18_and_its_exam_is_not_also_unread():
    got = found(department(orders=[order()], studies=[study()], reports=[report(acknowledgment_code="AE")]))
    assert got[["code", "accession_number", "message_control_id", "owner"]].values.tolist() == [["U18", "R1001", "VR1001", "interface team"]]


def test_a_report_that_was_taken_later_is_no_u18():
    again = report(acknowledgment_code="AA", message_control_id="VR1001b", message_at="2025-11-10T12:00Z")
    assert codes(department(orders=[order()], studies=[study()], reports=[report(acknowledgment_code="AE"), again])) == []


def test_reports_refused_in_a_row_are_one_u18_that_names_them():
    accessions = [f"R10{n:02}" for n in range(12)]
    reports = [report(a, acknowledgment_code="AA" if n in (0, 5) else "AR", message_at=f"2025-11-10T{11 + n}:00Z") for n, a in enumerate(accessions)]
    got = found(department(orders=[order(a) for a in accessions], studies=[study(a, f"2.25.{n + 1}") for n, a in enumerate(accessions)], reports=reports))
    assert got["code"].tolist() == ["U18", "U18"] and [len(m.split()) for m in got["message_control_id"]] == [4, 6]
    assert got["evidence"][0].startswith("4 reports in a row (R1001, R1002, R1003, R1004) were refused from 10 Nov 12:00 on")
