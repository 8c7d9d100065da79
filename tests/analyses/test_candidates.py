"""Scores are chances: learnt from what is certain, shared among all that could be the partner, explained in words."""

import numpy as np
import pytest

from pacs_helpers.analyses.evidence import FIELDS, NOT_TOLD, compare_pairs
from pacs_helpers.analyses.links import link_exams
from pacs_helpers.analyses.matching import find_mismatches, rank_candidates
from pacs_helpers.analyses.weights import SAME_EXAM, SAME_PERSON, STRANGERS, certain_pairs, learn_habits, learn_weights

from ..small_department import NOW, OTHER, PERSON, SITE, department, merge, order, report, study


def level(field, mine, theirs, **more):
    """The level of one field for an order with `mine` against a study with `theirs`."""
    links = link_exams(department(orders=[order(**mine)], studies=[study(**theirs)], **more), SITE)
    pair = np.array([0]), np.array([0])
    habits = learn_habits(links.orders, links.studies, certain_pairs(links.of_order))
    return FIELDS[field][0][found] if (found := compare_pairs(links.orders, links.studies, pair, links, habits, NOT_TOLD)[0, list(FIELDS).index(field)]) != NOT_TOLD else "not told"


@pytest.mark.parametrize(("one", "other", "words"), [
    ("TEST100231", "TEST100231", "same patient ID"),
    ("TEST100231", "000100231", "patient ID equal but for its spelling"),
    ("TEST100231", "TEST100213", "patient ID differs by one slip of the keys"),         # neighbours swapped
    ("TEST100231", "TEST100232", "patient ID differs by one slip of the keys"),         # 1 and 2 are neighbouring keys
    ("TEST100231", "TEST1002331", "patient ID differs by one slip of the keys"),        # pressed twice
    ("TEST100231", "TEST100239", "patient ID differs in 1 character"),
    ("TEST100231", "TEST109239", "patient ID differs in 2 characters"),
    ("TEST100231", "TEST777777", "another patient ID"),
    ("TEST100231", "", "not told"),
])
def test_patient_ids_from_equal_to_another(one, other, words):
    assert level("patient_id", {"patient_id": one}, {"patient_id": other}) == words


@pytest.mark.parametrize(("one", "other", "words"), [
    ("ROWAN^PAT", "ROWAN^PAT", "name agrees"),
    ("ROWAN^PAT", "PAT ROWAN", "same name in another order or script"),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎", "same name in another order or script"),
    ("ROWAN^PATRICIA", "ROWANN^PATRICIA", "name alike"),
    ("ROWAN^PAT", "ROWAN^GEORGE", "part of the name agrees"),
    ("ROWAN^PAT", "SMITH^JO", "another name"),
    ("", "SMITH^JO", "not told"),
])
def test_names_in_any_order_and_script(one, other, words):
    assert level("name", {"patient_name": one}, {"patient_name": other}) == words


@pytest.mark.parametrize(("one", "other", "words"), [
    ("19700203", "19700302", "birth date differs in one digit, or day and month are swapped"),
    ("19700203", "19700204", "birth date differs in one digit, or day and month are swapped"),
    ("19700203", "19810615", "another birth date"),
])
def test_birth_dates(one, other, words):
    assert level("birth_date", {"patient_birth_date": one}, {"patient_birth_date": other}) == words


def test_an_id_merged_away_is_the_same_id():
    assert level("patient_id", {}, {"patient_id": "OLD7"}, patients=[merge("OLD7", PERSON["patient_id"])]) == "same patient ID"


def test_weights_follow_what_a_sites_certain_matches_show():
    names = list(FIELDS)
    levels = np.full((900, len(names)), NOT_TOLD, dtype=np.int8)
    classes = np.repeat([SAME_EXAM, SAME_PERSON, STRANGERS], 300)
    levels[:300, names.index("region")] = np.repeat([0, 1], [200, 100])        # a site that calls one region in three by its neighbour's name
    levels[300:, names.index("region")] = 2
    table = learn_weights(levels, classes)
    told, believed = 300, 50
    assert table["region"][SAME_EXAM] == pytest.approx([(200 + 0.94 * believed) / (told + believed), (100 + 0.04 * believed) / (told + believed), 0.02 * believed / (told + believed)])


def test_what_is_not_known_is_estimated_from_the_fields_that_are_told():
    names = list(FIELDS)
    levels = np.full((400, len(names)), NOT_TOLD, dtype=np.int8)
    for field in ("patient_id", "name", "birth_date", "modality", "region", "time"):
        levels[:200, names.index(field)], levels[200:, names.index(field)] = 0, len(FIELDS[field][0]) - 1
    levels[:200, names.index("accession")], levels[200:, names.index("accession")] = 2, 4
    table = learn_weights(levels, np.full(400, NOT_TOLD))
    assert table["accession"][SAME_EXAM, 2] > 0.7 and table["accession"][STRANGERS, 4] > 0.95


def test_people_are_told_apart_alike_in_one_exam_and_in_two():
    table = learn_weights(np.zeros((10, len(FIELDS)), dtype=np.int8), np.repeat([SAME_EXAM, SAME_PERSON], 5))
    assert np.array_equal(table["name"][SAME_EXAM], table["name"][SAME_PERSON])


def candidates(dept, code):
    found = find_mismatches(dept, as_of=NOW, site=SITE)
    return rank_candidates(found[found["code"] == code], dept, site=SITE)


def test_two_equal_candidates_share_the_chance_and_none_is_sure():
    second = study("", "2.25.2")
    got = candidates(department(orders=[order("R1")], studies=[study("", "2.25.1"), second]), "U04")
    assert len(got) == 2 and got["score"].nunique() == 1 and got["score"].sum() <= 1


def test_another_exam_of_the_same_person_is_no_strong_candidate():
    knee = study("R9", "2.25.7", body_part_examined="KNEE", study_description="KNEE", modality="MR", started_at="2025-11-01T09:00Z", study_at="2025-11-01T09:00Z", ended_at="2025-11-01T09:10Z")
    got = candidates(department(orders=[order("R5", placer_order_number="P5")], studies=[knee]), "U04")
    assert (got["score"] < 0.5).all()


def test_a_stranger_at_the_right_hour_is_no_candidate():
    assert candidates(department(orders=[order("R5", placer_order_number="P5")], studies=[study("X7", "2.25.7", **OTHER)]), "U04").empty


def test_a_candidate_says_why_and_how_late_in_words():
    got = candidates(department(orders=[order("R1001")], studies=[study("R1010", "2.25.7", patient_id="TEST100213", started_at="2025-11-10T22:30Z",
                                                                study_at="2025-11-10T22:30Z", ended_at="2025-11-10T22:40Z")]), "U04")
    assert got["candidate_study_instance_uid"].tolist() == ["2.25.7"]
    for words in ("patient ID differs by one slip of the keys", "name agrees", "birth date agrees", "accession number differs", "same modality", "it was due"):
        assert words in got["reasons"][0]


def test_a_taken_partner_is_less_likely_than_a_free_one():
    free, taken = study("", "2.25.1"), study("R3", "2.25.3")
    got = candidates(department(orders=[order("R1", placer_order_number="P9", scheduled_at="2025-11-11T05:00Z"), order("R3")], studies=[free, taken], reports=[report("R3")]), "U04")
    by_uid = dict(zip(got["candidate_study_instance_uid"], got["score"]))
    assert by_uid["2.25.1"] > by_uid.get("2.25.3", 0)


def test_versions_of_one_report_do_not_compete_for_its_study():
    versions = [report("R1010", placer_order_number="P9", message_control_id=f"V{status}", result_status=status) for status in "PF"]
    dept = department(orders=[order()], studies=[study()], reports=versions)
    assert find_mismatches(dept, as_of=NOW, site=SITE)["code"].tolist() == ["U06"]
