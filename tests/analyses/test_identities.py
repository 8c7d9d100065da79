"""Who somebody is today: merges, changed IDs, merges taken back, temporary names; look-alikes; and what speaks against a clean match."""

import random

import pandas as pd
import pytest

from pacs_helpers.analyses.identities import merged_ids
from pacs_helpers.analyses.identity import is_temporary
from pacs_helpers.analyses.identitysteps import trace_identities
from pacs_helpers.analyses.lookalikes import list_lookalikes
from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.analyses.wrongpatients import list_wrong_patients
from pacs_helpers.department import build_department
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.tables import TableError

from ..small_department import NOW, OTHER, PERSON, SITE, department, merge, order, person, report, study

ME = PERSON["patient_id"]
LATER = "2025-11-13T08:00Z"


def merged(*rows):
    return dict(merged_ids(department(patients=rows).patients))


def found(dept):
    return find_mismatches(dept, as_of=NOW, site=SITE)


def exam(images, *patients, ordered=None):
    """A department of one reported exam whose images and order have these values, and what registration said."""
    said = {k: v for k, v in (ordered or {}).items() if k not in ("ordered_at", "scheduled_at")}
    return department(orders=[order(**(ordered or {}))], studies=[study(**images)], reports=[report(**said)], patients=patients)


def unlink(one, other, at=LATER, control="U1"):
    return [person(patient_id=pid, trigger_event="A37", at=at, message_control_id=control) for pid in (one, other)]


# Merges, in order of time

@pytest.mark.parametrize("trigger", ["A18", "A34", "A36", "A40", "A46", "A47"])
def test_every_event_that_merges_or_changes_an_id_is_followed(trigger):
    assert merged(merge("A", "B", trigger_event=trigger)) == {"A": "B"}


@pytest.mark.parametrize("trigger", ["A43", "A44", "A45", "A50", "A51"])
def test_an_account_or_visit_that_moves_to_another_patient_makes_them_not_one(trigger):
    assert merged(merge("A", "B", trigger_event=trigger)) == {}


def test_chains_of_chains_end_where_the_last_one_ends_in_whatever_order_they_arrive():
    rows = [merge("C", "D", LATER), merge("A", "B"), merge("D", "E"), merge("X", "A", "2025-11-14T08:00Z"), merge("B", "C", "2025-11-01T08:00Z")]
    for _ in range(6):
        random.Random(1).shuffle(rows)
        assert merged(*rows) == dict.fromkeys("XABCD", "E")


def test_the_last_word_on_an_id_counts_and_two_words_at_one_instant_count_for_nothing():
    assert merged(merge("A", "B"), merge("A", "C", LATER)) == merged(merge("A", "C", LATER), merge("A", "B")) == {"A": "C"}
    assert merged(merge("A", "B"), merge("A", "C")) == merged(merge("A", "C"), merge("A", "B")) == {}
    assert merged(merge("A", "B", message_control_id="1"), merge("A", "B", message_control_id="2")) == {"A": "B"}


def test_a_merge_without_a_time_is_older_than_any_other_word():
    assert merged(merge("A", "C", None), merge("A", "B")) == {"A": "B"}


def test_a_circle_maps_nobody_in_it_nor_whoever_leads_into_it():
    assert merged(merge("A", "B"), merge("B", "C"), merge("C", "A"), merge("D", "A"), merge("E", "F")) == {"E": "F"}


@pytest.mark.parametrize("back", [[merge("B", "A", LATER)], unlink("A", "B"), unlink("B", "A"), [merge("A", "B", LATER, trigger_event="A37")]],
                         ids=["reverse merge", "A37", "A37 the other way round", "A37 with MRG"])
def test_a_merge_taken_back_leaves_both_alive_until_it_is_made_again(back):
    assert merged(merge("A", "B"), *back, merge("X", "A")) == {"X": "A"}
    assert merged(merge("A", "B"), *back, merge("A", "B", "2025-11-14T08:00Z")) == {"A": "B"}


@pytest.mark.parametrize("trigger", ["A46", "A47"])
def test_an_id_that_is_changed_back_is_one_patients_history(trigger):
    there, back = merge("A", "B", trigger_event=trigger), merge("B", "A", LATER, trigger_event=trigger, message_control_id="M2")
    assert merged(there, back) == {"B": "A"} and merged(there, merge("B", "C", "2025-11-12T09:00Z", trigger_event=trigger), {**back, "prior_patient_id": "C"}) == {"B": "A", "C": "A"}
    assert merged(there, back, merge("A", "B", "2025-11-14T08:00Z", trigger_event=trigger)) == {"A": "B"}
    got = trace_identities(department(patients=[there, back]))
    assert got["current_id"].tolist() == ["A", "A"] and not got["is_undone"].any() and "a later message says A (" in got["evidence"][0]
    assert found(exam({"patient_id": "B7"}, merge(ME, "B7", trigger_event=trigger), merge("B7", ME, LATER, trigger_event=trigger)))["code"].tolist() == ["U05c"]


DIFFERENT = {"patient_name": "BIRCH^KIM", "patient_birth_date": "19710923"}


@pytest.mark.parametrize("trigger", ["A40", "A47"])
def test_a_merge_of_two_people_whom_the_feed_tells_apart_is_doubted_and_joins_nobody(trigger):
    rows = [person(patient_id="T2", **DIFFERENT), merge("T2", ME, trigger_event=trigger, message_control_id="M1")]
    got = found(exam({}, *rows))
    assert got[["code", "owner"]].values.tolist() == [["U12", "registration"]] and f"joins IDs T2 and {ME} ({trigger}, message M1)" in got["evidence"][0]
    assert not got["evidence"].str.contains("KIM|BIRCH|1971").any() and not len(merged(*rows))
    assert "two people" in trace_identities(department(patients=rows))["evidence"][0]
    images = found(exam({"patient_id": "T2"}, *rows)).set_index("code").loc["U05e"]
    assert images["owner"] == "PACS administrator" and "a merge of the two is doubted" in images["evidence"]


@pytest.mark.parametrize(("prior", "who"), [
    ("TRAUMA12", DIFFERENT), ("T2", {**DIFFERENT, "patient_name": "DOE^JOHN"}), ("T2", {**DIFFERENT, "patient_name": "BIRCH^ROWAN"}), ("T2", {"patient_name": "BIRCH^KIM"}),
    ("T2", {**DIFFERENT, "patient_birth_date": "19000101"}), ("T2", {**DIFFERENT, "patient_birth_date": "19480321"}), ("T2", {**DIFFERENT, "patient_name": "ROWAN^ASH"})],
    ids=["temporary id", "temporary name", "married", "same birth date", "no birth date", "birth date swapped", "name reversed"])
def test_a_merge_that_may_well_be_of_one_person_is_followed(prior, who):
    rows = [person(patient_id=prior, **who), merge(prior, ME)]
    assert merged(*rows) == {prior: ME} and found(exam({}, *rows)).empty


def test_a_merge_of_people_whose_order_fits_the_survivor_is_followed():
    dept = department(patients=[person(patient_id="T2", **DIFFERENT), merge("T2", ME)], orders=[order(patient_id="T2")])
    assert merged_ids(dept.patients, dept.orders) == {"T2": ME}


def test_taking_back_one_link_of_a_chain_leaves_the_rest():
    assert merged(merge("A", "B"), merge("B", "C"), *unlink("A", "B")) == {"B": "C"}


def test_unlinked_people_of_two_messages_are_not_paired_with_each_other():
    assert merged(merge("A", "B"), merge("C", "D"), *unlink("A", "C", control="U1"), *unlink("B", "D", control="U2")) == {"A": "B", "C": "D"}


def test_one_number_of_two_issuers_is_two_people():
    x, y = {"issuer_of_patient_id": "X"}, {"issuer_of_patient_id": "Y", "patient_name": "BIRCH^KIM"}
    dept = exam({"patient_id": "1", **x}, merge("1", ME, **x), person(patient_id="1", **x), person(patient_id="1", **y), ordered=x)
    assert dict(merged_ids(dept.patients)) == {} and found(dept)["code"].tolist() == ["U05c"]
    theirs = exam({"patient_id": "1", **y}, merge("1", ME, **x), person(patient_id="1", **x), person(patient_id="1", **y), ordered=x)
    assert "U05c" not in found(theirs)["code"].tolist()


def test_an_issuer_that_is_not_told_is_the_only_one_the_feed_knows():
    assert merged(merge("1", "2", issuer_of_patient_id="X"), merge("2", "3", LATER)) == {"1": "3", "2": "3"}
    assert found(exam({"patient_id": "1"}, merge("1", ME, issuer_of_patient_id="X")))["code"].tolist() == ["U05c"]


# Temporary names

@pytest.mark.parametrize(("who", "is_nobody"), [
    ({"patient_name": "DOE^MARY"}, False), ({"patient_name": "DOE^MARY^J"}, False), ({"patient_name": "DOE-OAK^JOHN"}, False), ({"patient_name": "DOERING^JANE"}, False),
    ({"patient_name": "DOE^JOHN"}, True), ({"patient_name": "DOE^JANE^3"}, True), ({"patient_name": "Baby Doe"}, True), ({"patient_name": "DOE"}, True),
    ({"patient_name": "DOE^MARY", "patient_birth_date": ""}, True), ({"patient_name": "DOE^MARY", "patient_birth_date": "19000101"}, True),
    ({"patient_name": "DOE^MARY", "patient_id": "UNK_0031"}, True), ({"patient_name": "UNKNOWN^MALE"}, True), ({"patient_name": "TRAUMA^7"}, True)])
def test_a_doe_with_a_first_name_of_her_own_and_a_birth_date_is_somebody(who, is_nobody):
    assert is_temporary({**PERSON, **who}) is is_nobody
    got = found(exam(who, ordered=who))
    assert got["code"].tolist() == ["U05d"] * is_nobody


# What became of whom

def test_each_step_says_where_the_id_ends_today_and_what_the_archive_has_not_followed():
    rows = [merge("TRAUMA1", "B", message_control_id="M1"), merge("B", "C", LATER, message_control_id="M2"), merge("C", "B", "2025-11-14T08:00Z", message_control_id="M3")]
    dept = department(patients=rows, studies=[study(patient_id="TRAUMA1"), study(uid="2.25.2", patient_id="C")])
    got = trace_identities(dept)
    assert got[["message_control_id", "prior_patient_id", "current_id", "is_temporary", "is_undone", "n_studies"]].values.tolist() == [
        ["M1", "TRAUMA1", "B", True, False, 1], ["M2", "B", "B", False, True, 0], ["M3", "C", "C", False, False, 0]]
    assert "message M3" in got["evidence"][1] and "both are alive" in got["evidence"][1] and "two people" in got["evidence"][2]


def test_the_trace_of_one_id_is_that_of_all_ids_the_person_ever_had():
    dept = department(patients=[merge("A", "B"), merge("B", "C", LATER), merge("X", "Y")])
    assert trace_identities(dept, "C")["prior_patient_id"].tolist() == trace_identities(dept, "A")["prior_patient_id"].tolist() == ["A", "B"]
    assert trace_identities(dept, "unheard of").empty


def test_a_name_given_to_a_temporary_identity_is_a_step_that_does_not_say_the_name():
    rows = [person(patient_id="T7", patient_name="DOE^JOHN"), person(patient_id="T7", trigger_event="A08", at=LATER, message_control_id="M8")]
    dept = department(patients=rows[::-1], studies=[study(patient_id="T7", patient_name="DOE^JOHN"), study(uid="2.25.2", patient_id="T7")])
    got = trace_identities(dept)
    assert got[["trigger_event", "prior_patient_id", "patient_id", "current_id", "is_temporary", "n_studies"]].values.tolist() == [["A08", "T7", "T7", "T7", True, 1]]
    assert got["evidence"].tolist() == ["Name given to the temporary identity T7 (A08, message M8); 1 study in the archive still has the old name."]


def test_an_id_that_is_no_text_and_a_department_that_is_none_are_refused_in_words():
    with pytest.raises(TableError, match="patient_id: give the ID as text, .* not as int"):
        trace_identities(department(), 100231)
    with pytest.raises(TableError, match="dept: a Department with its table patients is needed"):
        trace_identities("a folder")


def test_an_unlink_message_as_it_is_sent_takes_a_merge_back(tmp_path):
    head = "MSH|^~\\&|ADT|HERE|PACS|HERE|2025111{}0800||ADT^{}|M{}|P|2.5\rEVN|{}|2025111{}0800\r"
    sent = head.format(1, "A40", 1, "A40", 1) + "PID|1||B1^^^HERE||ASH^ROWAN||19480312|F\rMRG|A1^^^HERE\r"
    sent += head.format(2, "A37", 2, "A37", 2) + "PID|1||A1^^^HERE||ASH^ROWAN||19480312|F\rPID|2||B1^^^HERE||ASHE^RONAN||19480312|M\r"
    (tmp_path / "adt.hl7").write_text(sent, newline="")
    dept = build_department(hl7=read_hl7_log(tmp_path / "adt.hl7", site=SITE), site=SITE)
    assert trace_identities(dept)[["trigger_event", "is_undone", "current_id"]].values.tolist() == [["A40", True, "A1"], ["A37", False, "A1"]]


# Images under an identity that is none any more

def test_images_under_a_merged_id_name_who_it_is_now_and_the_message_that_says_so():
    got = found(exam({"patient_id": "TRAUMA11", "patient_name": "DOE^JOHN"}, merge("TRAUMA11", "B", message_control_id="M1"), merge("B", ME, LATER, message_control_id="M2")))
    assert got["code"].tolist() == ["U05c"]
    assert f"TRAUMA11, which was merged into {ME} (A40, message M1, and later ones)" in got["evidence"][0]


def test_images_under_a_temporary_name_are_the_archives_once_registration_gave_the_name():
    named = [person(patient_id="UNK_7", patient_name="DOE^JANE"), person(patient_id="UNK_7", trigger_event="A08", at=LATER, message_control_id="M8")]
    dept = exam({"patient_id": "UNK_7", "patient_name": "DOE^JANE"}, *named, ordered={"patient_id": "UNK_7"})
    got = found(dept)
    assert got[["code", "owner"]].values.tolist() == [["U05d", "PACS administrator"]] and "has a name since (A08, message M8)" in got["evidence"][0]
    assert found(exam({"patient_id": "UNK_7"}, *named, ordered={"patient_id": "UNK_7"})).empty


def test_a_merge_taken_back_is_no_fault_and_images_left_behind_by_it_say_so():
    rows = [merge(ME, "B7", "2025-11-11T08:00Z"), *unlink(ME, "B7")]
    assert found(exam({}, *rows)).empty
    got = found(exam({"patient_id": "B7"}, *rows))
    assert got[["code", "owner"]].values.tolist() == [["U05e", "PACS administrator"]] and "a merge of the two was taken back (A37, message U1)" in got["evidence"][0]


# One ID, two people

@pytest.mark.parametrize(("other", "expected"), [
    ({"patient_name": "BIRCH^KIM", "patient_birth_date": "19710923"}, ["U12"]), ({"patient_name": "ASH^KIM", "patient_birth_date": "19710923"}, ["U12"]),
    ({"patient_name": "OAK^ROWAN", "patient_birth_date": "19710923"}, []), ({"patient_name": "BIRCH^KIM"}, []), ({"patient_birth_date": "19710923"}, []),
    ({"patient_name": "ASH^ROW", "patient_birth_date": "19710923"}, []), ({"patient_name": "DOE^JOHN", "patient_birth_date": "19000101"}, []),
    ({"patient_name": "BIRCH^KIM", "patient_birth_date": "19480313"}, []), ({"patient_name": "BIRCH^KIM", "patient_birth_date": "", }, [])],
    ids=["another person", "a relative", "married", "same birth date", "birth date corrected", "short name", "temporary", "one digit", "no birth date"])
def test_one_id_with_other_first_name_and_other_birth_date_is_two_people(other, expected):
    got = found(department(orders=[order()], studies=[study()], reports=[report()], patients=[person(), person(at="2025-11-02T08:00Z", **other)]))
    assert got["code"].tolist() == expected
    if expected:
        assert got["owner"].tolist() == ["registration"] and got["found_at"].tolist() == [pd.Timestamp("2025-11-02T08:00Z")]
        assert "two birth dates and two names" in got["evidence"][0] and "KIM" not in got["evidence"][0] and "1971" not in got["evidence"][0]


@pytest.mark.parametrize(("name", "is_other"), [
    ("BIRCH^KIM", True), ("BIRCH^ROWAN", False), ("ASH^KIM", False), ("ROWAN^ASH", False), ("ASCHE^ROVAN", False), ("BIRCH^ROW", False), ("BIRCH^R", False),
    ("KIM", False), ("DOE^JOHN", False), ("王^小东", False), ("Bírch^Kím=王^小东", True)])
def test_a_wholly_other_name_under_one_id_and_birth_date_is_u17_and_no_marriage_or_spelling_is(name, is_other):
    for told in (exam({"patient_name": name}), department(orders=[order()], studies=[study()], reports=[report(patient_name=name)])):
        got = found(told)
        got = got[got["code"] != "U05d"]
        assert got[["code", "owner", "confidence"]].values.tolist() == [["U17", "registration", 0.6]] * is_other
        assert not is_other or "wholly other names" in got["evidence"][0] and "KIM" not in got["evidence"][0].upper()


def test_a_name_that_registration_once_gave_the_id_is_only_not_brought_up_to_date():
    assert found(exam({"patient_name": "BIRCH^KIM"}, person(patient_name="BIRCH^KIM"), person(trigger_event="A08", at=LATER))).empty


def test_a_wholly_other_name_beside_images_that_do_not_fit_is_one_u05e():
    got = found(exam({"patient_name": "BIRCH^KIM", "body_part_examined": "KNEE"}))
    assert got["code"].tolist() == ["U05e"] and "body part KNEE for CT CHEST; another name" in got["evidence"][0]


def test_one_number_of_two_issuers_may_have_two_people():
    rows = [person(issuer_of_patient_id="X"), person(issuer_of_patient_id="Y", patient_name="BIRCH^KIM", patient_birth_date="19710923")]
    assert found(department(patients=rows)).empty


def test_no_finding_about_people_without_exams_swallows_another():
    born = {"patient_birth_date": "19600101"}
    rows = [person(patient_id=pid, message_control_id=pid, **who) for pid, who in (("11", {}), ("22", {}), ("33", born), ("44", born), ("55", born))]
    got = found(department(patients=rows))
    assert got["code"].tolist() == ["U12", "U12"] and sorted(got["message_control_id"]) == ["11 22", "33 44 55"]
    assert any("IDs 33, 44 and 55" in text for text in got["evidence"])


# Look-alikes

def test_people_alike_in_name_and_birth_date_are_listed_and_those_seen_together_first():
    rows = [person(), person(patient_id="T2", patient_name="ASHE^ROWAN"), person(patient_id="T3", patient_name="ASH^ROWANA", patient_birth_date="19480321"),
            person(patient_id="T4", patient_name="ASH^KIM", patient_birth_date="19480312"), person(patient_id="T5", **{k: OTHER[k] for k in ("patient_name", "patient_birth_date")})]
    orders = [order(), order("R2", patient_id="T3", patient_name="ASH^ROWANA", patient_birth_date="19480321", scheduled_at="2025-11-10T13:00Z")]
    got = list_lookalikes(department(patients=rows, orders=orders))
    pairs = [frozenset(pair) for pair in got[["patient_id", "other_patient_id"]].values.tolist()]
    assert pairs[0] == {ME, "T3"} and set(pairs) == {frozenset((ME, other)) for other in ("T2", "T3", "T4")} | {frozenset(("T2", "T3"))}
    assert got["n_same_day"].tolist()[0] == 1 and "both on CT" in got["reasons"][0] and not got["reasons"].str.contains("ASH|1948").any()


def test_one_patient_under_two_ids_is_nobodys_look_alike():
    assert list_lookalikes(department(patients=[person(), person(patient_id="T2"), merge("T2", ME)])).empty
    assert list_lookalikes(department(patients=[person(), person(issuer_of_patient_id="X")])).empty
    assert list_lookalikes(department(patients=[person(patient_name="DOE^JOHN"), person(patient_id="T2", patient_name="DOE^JOHN")])).empty


# Wrong patient, clean match

@pytest.mark.parametrize(("ordered", "images", "words"), [
    ({"procedure_name": "CT PREGNANCY", "patient_sex": "M"}, {"patient_sex": "M", "body_part_examined": ""}, "sex of the patient for CT PREGNANCY"),
    ({"procedure_name": "MR PELVIS"}, {"body_part_examined": "PROSTATE"}, "sex of the patient for PROSTATE"),
    ({"procedure_name": "XR CHEST CHILD"}, {}, "age of the patient for XR CHEST CHILD"),
    ({"patient_birth_date": "20251201"}, {"patient_birth_date": "20251201"}, "images from before the birth date"),
    ({"procedure_name": "CT KNEE LEFT"}, {"body_part_examined": "KNEE", "study_description": "KNEE RT"}, "laterality KNEE RT for CT KNEE LEFT"),
    ({}, {"body_part_examined": "", "study_description": "KNEE"}, "body part KNEE for CT CHEST")])
def test_images_that_cannot_be_of_the_ordered_person_or_exam_are_u05e(ordered, images, words):
    got = found(exam(images, ordered=ordered))
    assert got["code"].tolist() == ["U05e"] and words in got["evidence"][0]


@pytest.mark.parametrize(("procedure", "who"), [
    ("MG SCREENING BILATERAL", {"patient_sex": "M"}), ("US PELVIS NON-OB", {"patient_sex": "M"}), ("XR CHEST CHILD", {"patient_birth_date": "20150101"}),
    ("XR PEDAL BONES", {}), ("US OBSTETRIC", {"patient_sex": ""})])
def test_what_may_be_is_no_conflict(procedure, who):
    seen = {"body_part_examined": "", **({"modality": procedure[:2]} if procedure[:2] in ("MG", "US") else {})}
    assert found(exam({**who, **seen}, ordered={"procedure_name": procedure, **who, **{k: v for k, v in seen.items() if k == "modality"}})).empty


def test_a_wrong_time_supports_another_conflict_and_is_none_alone():
    early = {"ordered_at": "2025-11-12T08:00Z", "scheduled_at": "2025-11-12T09:00Z"}
    assert "U05e" not in found(exam({}, ordered=early))["code"].tolist()
    got = found(exam({"body_part_examined": "KNEE"}, ordered=early))
    assert "more than a day before the order was placed" in got.set_index("code").loc["U05e", "evidence"]


def rooms(n_strays):
    """20 exams on each of the CTs of two houses, and some ordered in the one and made in the other."""
    plan = [("EAST", "CT1")] * 20 + [("WEST", "CT2")] * 20 + [("WEST", "CT1")] * n_strays
    who = [{"patient_id": f"T{n:04}0", "patient_name": f"N{n}^X", "patient_birth_date": f"19{40 + n}0101"} for n in range(len(plan))]
    return department(orders=[order(f"R{n}", section=section, **who[n]) for n, (section, _) in enumerate(plan)], reports=[report(f"R{n}", **who[n]) for n in range(len(plan))],
                      studies=[study(f"R{n}", f"2.25.1{n}", station_name=station, **who[n]) for n, (_, station) in enumerate(plan)])


def test_a_station_of_another_house_speaks_against_the_order_only_where_it_never_works_for_that_house():
    got = found(rooms(1))
    assert got[["code", "accession_number", "confidence"]].values.tolist() == [["U05e", "R40", 0.5]] and "made on CT1, which works for EAST, for an order of WEST" in got["evidence"][0]
    assert found(rooms(2)).empty


def test_other_demographics_beside_images_that_do_not_fit_are_one_finding():
    got = found(exam({"body_part_examined": "KNEE", "patient_birth_date": "19710923"}))
    assert got["code"].tolist() == ["U05e"] and "body part KNEE for CT CHEST; another birth date" in got["evidence"][0] and got["confidence"].tolist() == [0.9]


def test_wrong_patients_are_listed_with_all_that_speaks_against_them_and_no_name():
    theirs = {**OTHER, "body_part_examined": "KNEE"}
    dept = department(orders=[order(), order("R2", patient_id="T2", patient_name="ELM^A", patient_birth_date="19500101")], patients=[person(**OTHER)], reports=[report()],
                      studies=[study(**theirs), study("R2", "2.25.2", patient_id="T2", patient_name="ELM^A", patient_birth_date="19500101", body_part_examined="HEAD")])
    got = list_wrong_patients(found(dept), dept, site=SITE)
    assert got[["accession_number", "n_conflicts", "report_is_final"]].values.tolist() == [["R1001", 5, True], ["R2", 1, False]]
    assert got["conflicts"][0] == "another patient ID; another name; another birth date; another sex; body part KNEE for CT CHEST"
    assert all(text.endswith("correct nothing on this evidence alone.") for text in got["warning"]) and "final report is out" in got["warning"][0]
    assert not got.astype(str).apply(lambda column: column.str.contains("ASH|BIRCH|ELM")).any(axis=None)


def test_the_list_of_wrong_patients_wants_the_findings():
    with pytest.raises(TableError, match="findings: .* it has no column 'finding_id'"):
        list_wrong_patients(pd.DataFrame({"finding": []}), department(), site=SITE)


# Laws

def test_the_order_of_the_rows_changes_nothing():
    people = [{"patient_id": f"T{n}", "patient_name": f"{name}^X{n % 3}", "patient_birth_date": f"196{n % 2}0101"} for n, name in enumerate(["ASH", "ASHE", "OAK", "DOE", "OAKE", "ELM"])]
    parts = {"orders": [order(f"R{n}", procedure_name=["CT CHEST", "CT HEAD"][n % 2], **p) for n, p in enumerate(people)] + [order("R0", message_control_id="OX", **people[1])],
             "studies": [study(f"R{n}", f"2.25.{n + 1}", **{**people[n], **people[(n * 2) % 6]}) for n in range(6)],
             "reports": [report(f"R{n}", **people[(n * 3) % 6]) for n in range(6)] + [report("R2", message_control_id="VX", message_at=None, **people[0])],
             "patients": [person(**p) for p in people] + [merge("T1", "T2"), merge("T2", "T1"), merge("T4", "T5"), merge("T4", "T0"), merge("T3", "T5"),
                          person(**{**people[3], "patient_name": "ELM^Z"})]}
    first = None
    for seed in range(5):
        dept = department(**{name: random.Random(seed).sample(rows, len(rows)) for name, rows in parts.items()})
        got = found(dept)
        answers = [got, trace_identities(dept), list_lookalikes(dept), list_wrong_patients(got, dept, site=SITE)]
        first = first or answers
        for one, other in zip(first, answers):
            pd.testing.assert_frame_equal(one, other)
    assert len(first[0]) > 5 and len(first[1]) > 3
