"""Keys are (issuer, identifier), and every order, report and study ends in one of four states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacs_helpers.analyses.links import link_exams, links_table, summarize_matching
from pacs_helpers.analyses.matching import find_mismatches, rank_candidates

from ..small_department import NOW, OTHER, SITE, department, order, report, study


def hits(dept, item="order"):
    table = links_table(link_exams(dept, SITE))
    return table.loc[table["item"] == item, ["study_instance_uid", "level", "state"]].values.tolist()


def states(dept):
    return {row["item"]: [row[s] for s in ("matched", "ambiguous", "no_key", "no_partner")] for row in summarize_matching(link_exams(dept, SITE)).to_dict("records")}


def test_matched_ambiguous_no_key_and_no_partner_add_up_for_each_table():
    orders = [order(), order("R2"), order("", patient_id="", placer_order_number="", procedure_name="CT HEAD"), order("R9", patient_id="TEST9", patient_name="NEW^ANN", patient_birth_date="19500505")]
    studies = [study(), study("R9", "2.25.8", **OTHER), study("R9", "2.25.9", patient_id="TEST555", patient_name="ROE^SAM", patient_birth_date="19710101")]
    assert states(department(orders=orders, studies=studies, reports=[report()])) == {"order": [1, 1, 1, 1], "report": [1, 0, 0, 0], "study": [1, 2, 0, 0]}


def test_a_number_on_studies_of_two_people_matches_neither_unless_one_is_the_items_patient():
    two = [study("R1001", "2.25.8", **OTHER), study("R1001", "2.25.9", patient_id="TEST555", patient_name="ROE^SAM", patient_birth_date="19710101")]
    assert hits(department(orders=[order()], studies=two)) == [["", "ambiguous", "ambiguous"]]
    assert hits(department(orders=[order()], studies=[*two, study()])) == [["2.25.1", "accession", "matched"]]


def test_what_nobody_can_tell_apart_is_one_u06_and_no_other_finding():
    two = [study("R1001", "2.25.8", **OTHER), study("R1001", "2.25.9", patient_id="TEST555", patient_name="ROE^SAM", patient_birth_date="19710101")]
    assert find_mismatches(department(orders=[order()], studies=two), as_of=NOW, site=SITE)["code"].tolist() == ["U06"]


def test_one_id_of_two_issuers_is_two_people():
    north, south = {"issuer_of_patient_id": "NORTH"}, {**OTHER, "patient_id": "TEST100231", "issuer_of_patient_id": "SOUTH"}
    unnumbered = study("", "2.25.5", requested_procedure_ids="RP1", **{**OTHER, "patient_id": "TEST100231", "issuer_of_patient_id": "SOUTH"})
    dept = department(orders=[order("", requested_procedure_id="RP1", **north), order("R7", requested_procedure_id="RP1", **south)], studies=[unnumbered])
    assert hits(dept) == [["", "none", "no_partner"], ["2.25.5", "other number", "matched"]]


def test_an_id_that_two_issuers_share_matches_nothing_without_its_issuer():
    south = {**OTHER, "patient_id": "TEST100231", "issuer_of_patient_id": "SOUTH"}
    dept = department(orders=[order("R6", issuer_of_patient_id="NORTH"), order("R7", **south)], studies=[study("", "2.25.5", issuer_of_patient_id="")])
    assert [state for *_, state in hits(dept)] == ["no_partner", "no_partner"]


def test_one_person_whose_id_two_issuers_write_stays_one():
    dept = department(orders=[order("", requested_procedure_id="RP1", issuer_of_patient_id="MAIN"), order("R7", issuer_of_patient_id="MAIN HOSPITAL")],
                      studies=[study("", "2.25.5", requested_procedure_ids="RP1", issuer_of_patient_id="MAIN")])
    assert hits(dept)[0] == ["2.25.5", "other number", "matched"]


@pytest.mark.parametrize("spoiled", [{"accession": "R1\\R2"}, {"accession": "2.5E+09", "problems": "EXCEL_NUMBER"}, {"accession": ""}])
def test_blank_several_and_spoiled_numbers_never_match(spoiled):
    number = spoiled.pop("accession")
    far = {"started_at": "2025-11-02T09:00Z", "study_at": "2025-11-02T09:00Z", "ended_at": "2025-11-02T09:10Z"}
    assert hits(department(orders=[order(number, placer_order_number="", **spoiled)], studies=[study(number, **far)]))[0][0] == ""


def test_patient_and_time_that_fit_two_studies_are_ambiguous():
    dept = department(orders=[order("R5")], studies=[study("", "2.25.1"), study("", "2.25.2")])
    assert hits(dept) == [["", "none", "ambiguous"]]


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(6)), st.permutations(range(6)))
def test_the_order_of_the_rows_changes_nothing(first, second):
    orders = [order(f"R{i}", patient_id=f"TEST{i % 3}", requested_procedure_id=f"RP{i % 4}") for i in range(6)]
    studies = [study("" if i % 2 else f"R{i}", f"2.25.{i}", patient_id=f"TEST{i % 3}", requested_procedure_ids=f"RP{i % 4}") for i in range(6)]
    reports = [report(f"R{i}", message_control_id=f"V{i}", placer_order_number="") for i in range(6)]
    one = department(orders=orders, studies=studies, reports=reports)
    other = department(orders=[orders[i] for i in first], studies=[studies[i] for i in second], reports=[reports[i] for i in first[::-1]])
    found = [find_mismatches(dept, as_of=NOW, site=SITE) for dept in (one, other)]
    assert found[0].equals(found[1]) and rank_candidates(found[0], one, site=SITE).equals(rank_candidates(found[0], other, site=SITE))
    assert summarize_matching(link_exams(one, SITE)).equals(summarize_matching(link_exams(other, SITE)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.sampled_from(["R3", "R77", ""]))
def test_a_row_more_changes_only_what_shares_a_key_with_it(n, number):
    orders = [order(f"R{i}", patient_id=f"TEST{i}") for i in range(n)]
    studies = [study(f"R{i}", f"2.25.{i}", patient_id=f"TEST{i}") for i in range(n)]
    before = links_table(link_exams(department(orders=orders, studies=studies), SITE))
    after = links_table(link_exams(department(orders=orders, studies=[*studies, study(number, "2.25.99", **OTHER)]), SITE))
    others = [table[table["accession_number"] != number].reset_index(drop=True) for table in (before, after)]
    assert others[0].equals(others[1])
    assert np.array_equal(before["item"], after["item"])
