from pathlib import Path

import pandas as pd
import pytest

from pacs_helpers.analyses.links import link_exams
from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.analyses.proposals import propose_series
from pacs_helpers.analyses.splits import describe_splits, find_splits
from pacs_helpers.department import build_department
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError
from tests.small_department import NOW, OTHER, SITE, department, merge, order, person, report, study

SAMPLES = Path(__file__).resolve().parents[2] / "data" / "samples"
DAY = "2025-11-10T"
NAMES = {"R1": "CT HEAD", "R2": "CT ABDOMEN", "R3": "CT PELVIS"}


def part(n, start, end, body, frame="2.25.99", **more):
    return study(f"R{n}", f"2.25.{n}", body_part_examined=body, frame_of_reference_uids=frame, study_at=f"{DAY}{start}Z", started_at=f"{DAY}{start}Z", ended_at=f"{DAY}{end}Z", **more)


def head_abdomen_pelvis():
    return [part(1, "09:00", "09:05", "HEAD"), part(2, "09:07", "09:09", "ABDOMEN"), part(3, "09:17", "09:20", "PELVIS")]


def orders(*numbers, **more):
    return [order(n, procedure_name=NAMES.get(n, "CT CHEST"), **more) for n in numbers]


def one_message(*numbers, control="V1", **more):
    return [report(n, message_control_id=control, **more) for n in numbers]


def one_row(dept):
    table = describe_splits(dept, site=SITE)
    assert len(table) == 1
    return table.iloc[0]


def series(n, body="HEAD", uid=None, at="09:00", **more):
    return {"study_instance_uid": f"2.25.{n}" if uid is None else uid, "series_instance_uid": f"2.25.{n}.{body}.{at}", "accession_number": f"R{n}", "patient_id": "TEST100231",
            "modality": "CT", "body_part_examined": body, "started_at": f"{DAY}{at}Z", "ended_at": f"{DAY}{at}:30Z", **more}


def proposed(dept, exams):
    table = propose_series(dept, exams, site=SITE)
    return dict(zip(table["body_part_examined"], table["proposed_accession_number"]))


# Which studies are one visit

def test_a_visit_in_three_studies_with_one_report_is_a_split_with_its_evidence():
    row = one_row(department(orders=orders("R1", "R2", "R3"), studies=head_abdomen_pelvis(), reports=one_message("R1", "R2", "R3")))
    assert (row["shape"], row["accession_number"], row["study_instance_uid"]) == ("split", "R1 R2 R3", "2.25.1 2.25.2 2.25.3")
    assert row[["n_studies", "n_orders", "n_reports", "confidence"]].tolist() == [3, 3, 1, 0.9]
    assert row["evidence"] == "3 studies; one frame of reference; 2 to 8 min apart; HEAD, ABDOMEN, PELVIS: HEAD and ABDOMEN do not adjoin; one report for all."


def test_a_scanner_that_starts_anew_under_the_same_number_made_a_split_of_one_order():
    studies = [part(1, "09:00", "09:05", "HEAD"), {**part(2, "09:04", "09:09", "HEAD"), "accession_number": "R1"}]
    row = one_row(department(orders=orders("R1"), studies=studies, reports=[report("R1")]))
    assert (row["shape"], row["n_orders"], row["n_reports"]) == ("split", 1, 1)
    assert "acquisitions overlap by 1 min" in row["evidence"] and row["evidence"].endswith("; reported.")


def test_a_third_exam_with_its_own_report_is_no_part_of_the_split_before_it():
    third = part(3, "09:17", "09:20", "PELVIS", frame="2.25.98")
    dept = department(studies=[*head_abdomen_pelvis()[:2], third], reports=[*one_message("R1", "R2"), report("R3")])
    assert [found[0] for found in find_splits(link_exams(dept, SITE), SITE)] == [[0, 1]]
    table = describe_splits(dept, site=SITE)
    assert list(zip(table["shape"], table["study_instance_uid"])) == [("split", "2.25.1 2.25.2"), ("several exams in a row", "2.25.1 2.25.2 2.25.3")]


def test_two_studies_of_a_reported_order_do_not_draw_the_next_exam_into_a_split():
    again = {**part(2, "09:06", "09:08", "HEAD"), "accession_number": "R1"}
    dept = department(studies=[part(1, "09:00", "09:05", "HEAD"), again, part(3, "09:17", "09:20", "NECK", frame="2.25.98")], reports=[report("R1"), report("R3")])
    assert find_splits(link_exams(dept, SITE), SITE) == []


def genuine(second=(), reports=("R1", "R2")):
    exams = [part(1, "09:00", "09:05", "CHEST", frame="2.25.97"), {**part(2, "09:15", "09:20", "ABDOMEN", frame="2.25.98"), **dict(second)}]
    return department(orders=orders("R1", "R2"), studies=exams, reports=[report(n) for n in reports])


def test_two_genuine_exams_ten_minutes_apart_with_their_own_reports_stay_two():
    row = one_row(genuine())
    assert row["shape"] == "several exams in a row" and row["n_reports"] == 2 and pd.isna(row["confidence"])
    assert row["evidence"] == "2 studies; each its own frame of reference; 10 min apart; CHEST, ABDOMEN: adjoining; each with its own report."


def test_the_same_two_without_the_second_report_may_be_a_split_and_say_how_sure():
    row = one_row(genuine(reports=("R1",)))
    assert row["shape"] == "split" and row["confidence"] == 0.55 and "1 of 2 accession numbers reported" in row["evidence"]


def test_parts_of_the_body_that_do_not_adjoin_hold_nothing_together():
    row = one_row(genuine({"body_part_examined": "ANKLE"}, reports=()))
    assert row["shape"] == "several exams in a row" and row["evidence"].endswith("CHEST, ANKLE: CHEST and ANKLE do not adjoin; no report.")


def test_acquisitions_that_overlap_are_one_visit_whatever_their_body_parts():
    row = one_row(genuine({"body_part_examined": "ANKLE", "started_at": f"{DAY}09:02Z"}, reports=()))
    assert (row["shape"], row["confidence"]) == ("split", 0.8) and "acquisitions overlap by 3 min" in row["evidence"]


def test_adjoining_parts_with_another_exam_between_them_are_not_held_together():
    between = part(3, "09:07", "09:10", "ANKLE", frame="2.25.96")
    dept = genuine(reports=())
    dept = dept._replace(studies=department(studies=[*dept.studies.to_dict("records"), between]).studies)
    assert describe_splits(dept, site=SITE)["shape"].tolist() == ["several exams in a row"]


@pytest.mark.parametrize("other", [{"station_name": "CT2_DEMO"}, {"patient_id": "TEST200777"}, {"started_at": f"{DAY}09:35Z", "ended_at": f"{DAY}09:40Z"}])
def test_another_station_or_patient_or_half_an_hour_is_no_case_at_all(other):
    assert describe_splits(genuine(other, reports=()), site=SITE).empty


@pytest.mark.parametrize("more", [{"patient_name": "DOE^JANE"}, {"patient_sex": "M"}, {}])
def test_an_id_that_every_unknown_person_gets_joins_no_two_exams(more):
    unknown = {"patient_id": "TRAUMA", "patient_name": "DOE^JOHN", "patient_birth_date": ""}
    studies = [part(1, "09:00", "09:05", "CHEST", frame="2.25.97", **unknown), part(2, "09:15", "09:20", "ABDOMEN", frame="2.25.98", **{**unknown, **more})]
    dept = department(orders=orders("R1", "R2", **unknown), studies=studies)
    assert find_splits(link_exams(dept, SITE), SITE) == [] and describe_splits(dept, site=SITE).empty == bool(more)
    numbered = dept._replace(studies=dept.studies.assign(patient_id="TRAUMA7"))
    assert len(find_splits(link_exams(numbered, SITE), SITE)) == (0 if more else 1)


def test_one_id_with_two_birth_dates_is_no_visit():
    assert describe_splits(genuine({"patient_birth_date": "19710923"}, reports=()), site=SITE).empty


@pytest.mark.parametrize(("modality", "first", "second"), [("CR", "HAND", "WRIST"), ("DX", "CHEST", "CHEST"), ("MR", "KNEE LEFT", "KNEE RIGHT")])
def test_plain_x_rays_and_the_two_sides_are_exams_of_their_own(modality, first, second):
    studies = [part(1, "09:00", "09:05", first, frame="", modality=modality), part(2, "09:04", "09:08", second, frame="", modality=modality)]
    dept = department(orders=orders("R1", "R2"), studies=studies, reports=[report("R1")])
    assert find_splits(link_exams(dept, SITE), SITE) == [] and one_row(dept)["shape"] == "several exams in a row"


def test_two_sides_in_one_frame_of_reference_are_still_a_split():
    studies = [part(1, "09:00", "09:05", "KNEE", laterality="L"), part(2, "09:06", "09:08", "KNEE", laterality="R")]
    assert one_row(department(studies=studies))["shape"] == "split"


def test_two_studies_of_one_part_are_said_to_be_of_it_each():
    assert "; each CHEST; " in one_row(genuine({"body_part_examined": "CHEST"}))["evidence"]


def test_a_report_about_two_patients_is_no_linked_report():
    exams = [part(1, "09:00", "09:05", "HEAD"), part(2, "14:00", "14:05", "ABDOMEN", **OTHER)]
    assert describe_splits(department(orders=[order("R1"), order("R2", **OTHER)], studies=exams, reports=one_message("R1", "R2")), site=SITE).empty


def test_phantoms_make_no_visits():
    again = [{**s, "patient_name": "PHANTOM^WATER"} for s in head_abdomen_pelvis()]
    assert describe_splits(department(studies=again), site=SITE).empty


def test_one_study_for_two_orders_is_a_group_case_with_a_report_for_each():
    grouped = study("", "2.25.1", requested_accession_numbers="R1 R2")
    row = one_row(department(orders=orders("R1", "R2"), studies=[grouped], reports=[report("R1", result_status="P", message_control_id="V0"), report("R1"), report("R2")]))
    assert (row["shape"], row["accession_number"]) == ("group case", "R1 R2") and row[["n_studies", "n_orders", "n_reports"]].tolist() == [1, 2, 2]
    assert row["evidence"] == "One study for 2 orders, as its Request Attributes say; each with its own report."


def test_one_report_for_two_exams_apart_is_a_linked_report_and_its_first_version_no_second_one():
    exams = [part(1, "09:00", "09:05", "HEAD"), part(2, "14:00", "14:05", "ABDOMEN", frame="2.25.98")]
    reports = [*one_message("R1", control="V1", result_status="P"), *one_message("R1", "R2", control="V2")]
    row = one_row(department(orders=orders("R1", "R2"), studies=exams, reports=reports))
    assert (row["shape"], row["accession_number"], row["n_studies"], row["n_reports"]) == ("linked report", "R1 R2", 2, 1)
    assert "295 min apart" in row["evidence"] and row["evidence"].endswith("one report for all.")


def test_one_report_for_two_exams_in_a_row_is_a_linked_report_only():
    dept = genuine({"body_part_examined": "ANKLE"})._replace(reports=department(reports=one_message("R1", "R2")).reports)
    assert one_row(dept)["shape"] == "linked report"


def test_one_message_about_two_patients_is_no_linked_report():
    exams = [part(1, "09:00", "09:05", "HEAD"), part(2, "14:00", "14:05", "ABDOMEN", patient_id="TEST200777")]
    reports = [*one_message("R1"), *one_message("R2", patient_id="TEST200777")]
    assert describe_splits(department(studies=exams, reports=reports), site=SITE).empty


def test_two_messages_that_reuse_a_control_id_are_two_reports():
    reports = [{**r, "source_offset": n} for n, r in enumerate(one_message("R1", "R2"))]
    exams = [part(1, "09:00", "09:05", "HEAD"), part(2, "14:00", "14:05", "ABDOMEN", frame="2.25.98")]
    assert describe_splits(department(orders=orders("R1", "R2"), studies=exams, reports=reports), site=SITE).empty


def test_a_report_that_names_an_order_without_images_is_linked_and_counts_its_order():
    row = one_row(department(orders=orders("R1", "R2"), studies=[part(1, "09:00", "09:05", "HEAD")], reports=one_message("R1", "R2")))
    assert (row["shape"], row["accession_number"], row["n_studies"], row["n_orders"]) == ("linked report", "R1 R2", 1, 2)


def test_the_order_of_the_input_changes_no_case():
    given = {"orders": orders("R1", "R2", "R3"), "studies": head_abdomen_pelvis(), "reports": one_message("R1", "R2", "R3")}
    one, other = (describe_splits(department(**{k: v[::step] for k, v in given.items()}), site=SITE) for step in (1, -1))
    pd.testing.assert_frame_equal(one, other)


def test_the_samples_hold_the_planted_cases_each_in_its_shape_and_the_three_decoys():
    site = Site.load(SAMPLES / "site.toml")
    dept = build_department(hl7=read_hl7_log(SAMPLES / "hl7", site=site), dicom=read_headers(SAMPLES / "dicom", site=site), site=site)
    cases = describe_splits(dept, site=site)
    key = pd.read_csv(SAMPLES / "answer_key.csv", dtype=str, keep_default_na=False)
    planted = {code: {frozenset(uids.split()) for uids in rows["study_instance_uid"]} for code, rows in key.groupby("code")}
    found = {shape: {frozenset(uids.split()) for uids in rows["study_instance_uid"]} for shape, rows in cases.groupby(cases["shape"].astype("str"))}
    assert planted["U08"] <= found["split"] <= planted["U08"] | planted["U10"] and found["group case"] == planted["U09"]
    # One of the three U10 is a second study 49 minutes later, no part of the same visit.
    assert len(found["split"]) == 5 and len(found["several exams in a row"]) == 3 and "linked report" not in found
    series = propose_series(dept, cases.loc[cases["shape"] != "group case", "study_instance_uid"], site=site)
    assert (series["proposed_accession_number"].map(site.clean_accession) == series["accession_number"].map(site.clean_accession)).all()


# Which series belong to which order

def test_a_series_in_the_wrong_study_is_proposed_for_the_order_of_its_body_part():
    dept = department(orders=orders("R1", "R2"), studies=head_abdomen_pelvis()[:2], series=[series(1), series(1, "ABDOMEN", at="09:04"), series(2, "PELVIS", at="09:08")])
    table = propose_series(dept, "R1", site=SITE)
    assert list(zip(table["body_part_examined"], table["proposed_accession_number"], table["procedure_name"])) == [
        ("HEAD", "R1", "CT HEAD"), ("ABDOMEN", "R2", "CT ABDOMEN"), ("PELVIS", "R2", "CT ABDOMEN")]
    assert table["reasons"].tolist() == ["HEAD fits CT HEAD; its study carries the number", "ABDOMEN fits CT ABDOMEN", "its study carries the number"]


def test_each_series_of_a_group_case_goes_to_the_order_it_fits():
    dept = department(orders=orders("R1", "R2"), studies=[study("", "2.25.1", requested_accession_numbers="R1 R2")],
                      series=[{**series(1, body), "accession_number": "", "requested_accession_numbers": "R1 R2"} for body in ("HEAD", "ABDOMEN")])
    assert proposed(dept, "2.25.1") == {"HEAD": "R1", "ABDOMEN": "R2"}


def test_request_attributes_outweigh_the_number_of_the_study():
    dept = department(orders=orders("R1", "R2"), studies=head_abdomen_pelvis()[:2], series=[series(2, "", requested_accession_numbers="R1")])
    assert proposed(dept, "R1") == {"": "R1"}


def test_the_order_for_just_this_part_of_the_body_comes_before_one_for_more():
    both = [order("R1", procedure_name="CT CHEST ABDOMEN PELVIS"), order("R2", procedure_name="CT ABDOMEN")]
    dept = department(orders=both, studies=[study("", "2.25.1", requested_accession_numbers="R1 R2")], series=[{**series(1, body), "accession_number": ""} for body in ("ABDOMEN", "CHEST")])
    assert proposed(dept, "R1") == {"ABDOMEN": "R2", "CHEST": ""}


def test_a_structured_report_goes_with_its_study():
    dept = department(orders=orders("R1"), studies=[part(1, "09:00", "09:05", "HEAD")], series=[series(1, "", modality="SR")])
    assert proposed(dept, "R1") == {"": "R1"}


def test_what_fits_two_orders_alike_is_not_clear_and_both_are_named():
    both = [order(n, procedure_name="CT HEAD") for n in ("R1", "R2")]
    dept = department(orders=both, studies=[study("", "2.25.1", requested_accession_numbers="R1 R2")], series=[{**series(1), "accession_number": "", "requested_accession_numbers": "R1 R2"}])
    row = propose_series(dept, ["R2"], site=SITE).iloc[0]
    assert row["proposed_accession_number"] == "" and row["reasons"] == "not clear: R1: HEAD fits CT HEAD | R2: HEAD fits CT HEAD"


def test_a_schedule_that_only_one_order_fits_decides_between_like_orders():
    both = [order("R1", procedure_name="CT HEAD"), order("R2", procedure_name="CT HEAD", scheduled_at=f"{DAY}14:00Z")]
    dept = department(orders=both, studies=[study("", "2.25.1", requested_accession_numbers="R1 R2")], series=[{**series(1), "accession_number": ""}])
    row = propose_series(dept, "R2", site=SITE).iloc[0]
    assert (row["proposed_accession_number"], row["reasons"]) == ("R1", "HEAD fits CT HEAD; only its schedule is near")


@pytest.mark.parametrize(("name", "more", "against"), [
    ("CT KNEE", {}, "HEAD does not fit CT KNEE"), ("CT HEAD", {"modality": "MR"}, "MR is not CT"), ("CT HEAD LEFT", {"laterality": "R"}, "side R does not fit CT HEAD LEFT")])
def test_a_contradiction_is_shown_and_never_outvoted(name, more, against):
    dept = department(orders=[order("R1", procedure_name=name)], studies=[part(1, "09:00", "09:05", "HEAD")], series=[series(1, requested_accession_numbers="R1", **more)])
    row = propose_series(dept, "R1", site=SITE).iloc[0]
    assert row["proposed_accession_number"] == "" and row["reasons"].startswith("not clear: R1: Request Attributes name it alone") and against in row["reasons"]


def test_an_order_of_another_patient_is_never_proposed_however_well_it_fits():
    theirs = [order("R2", procedure_name="CT HEAD", patient_id="TEST200777"), order("R1", procedure_name="CT HEAD")]
    dept = department(orders=theirs, studies=[part(1, "09:00", "09:05", "HEAD"), part(2, "10:00", "10:05", "HEAD", patient_id="TEST200777")],
                      series=[series(1), series(2, at="10:00", patient_id="TEST200777"), series(1, at="09:01", patient_id="TEST200777")])
    table = propose_series(dept, ["R1", "R2"], site=SITE)
    assert table["proposed_accession_number"].tolist() == ["R1", "", "R2"]
    assert table["reasons"][1] == "not clear: R1: HEAD fits CT HEAD; its study carries the number; the patient IDs differ"


def test_a_merged_patient_id_is_the_same_patient():
    dept = department(orders=orders("R1"), studies=[part(1, "09:00", "09:05", "HEAD", patient_id="OLD7")], series=[series(1, patient_id="OLD7")], patients=[merge("OLD7", "TEST100231")])
    assert proposed(dept, "R1") == {"HEAD": "R1"}


def test_a_cancelled_order_is_not_proposed_even_where_the_study_carries_it():
    dept = department(orders=orders("R1", is_cancelled=True), studies=[part(1, "09:00", "09:05", "HEAD")], series=[series(1)])
    assert propose_series(dept, "R1", site=SITE)["reasons"].tolist() == ["not clear: R1: HEAD fits CT HEAD; its study carries the number; it was cancelled"]


def test_another_order_of_the_patient_that_day_is_considered_and_a_cancelled_one_is_not():
    dept = department(orders=[*orders("R1"), *orders("R2"), *orders("R3", is_cancelled=True)], studies=[part(1, "09:00", "09:05", "HEAD")], series=[series(1, "ABDOMEN"), series(1, "PELVIS")])
    assert proposed(dept, "R1") == {"ABDOMEN": "R2", "PELVIS": ""}


def test_a_study_without_any_order_keeps_its_series_without_a_proposal():
    dept = department(studies=[part(1, "09:00", "09:05", "HEAD")], series=[series(1)])
    assert propose_series(dept, "2.25.1", site=SITE)["reasons"].tolist() == ["not clear: no order"]


def test_a_case_names_its_studies_in_one_text_and_no_case_has_no_series():
    dept = department(orders=orders("R1", "R2", "R3"), studies=head_abdomen_pelvis(), series=[series(1), series(3, "PELVIS")])
    cases = describe_splits(dept, site=SITE)["study_instance_uid"]
    assert len(propose_series(dept, cases, site=SITE)) == len(propose_series(dept, cases.iloc[0], site=SITE)) == 2
    assert propose_series(dept, cases[:0], site=SITE).empty


def test_a_visit_is_whole_whichever_of_its_studies_is_named():
    dept = genuine()._replace(series=department(series=[series(1, "CHEST"), series(2, "ABDOMEN", at="09:15")]).series)
    assert proposed(dept, "R2") == {"CHEST": "", "ABDOMEN": "R2"}


def test_a_proposal_does_not_depend_on_what_else_is_asked():
    old = study("OLD1", "2.25.8", started_at="2020-03-01T09:00Z", study_at="2020-03-01T09:00Z", ended_at="2020-03-01T09:10Z")
    made = [series(1, "CHEST"), {**series(8, "CHEST"), "accession_number": "OLD1", "started_at": "2020-03-01T09:00Z"}]
    dept = department(orders=[order("R1")], studies=[old, part(1, "09:00", "09:05", "CHEST")], series=made)
    assert propose_series(dept, ["R1", "OLD1"], site=SITE)["proposed_accession_number"].tolist() == ["", "R1"]


def test_an_order_of_another_year_is_not_proposed_though_the_study_carries_its_number():
    made = {**series(1, "CHEST"), "started_at": "2020-03-01T09:00Z"}
    old = study("R1", "2.25.1", started_at="2020-03-01T09:00Z", study_at="2020-03-01T09:00Z", ended_at="2020-03-01T09:10Z")
    row = propose_series(department(orders=[order("R1")], studies=[old], series=[made]), "R1", site=SITE).iloc[0]
    assert row["proposed_accession_number"] == "" and row["reasons"].endswith("made more than a day before the order was placed")


def test_anothers_merge_of_the_same_number_at_another_issuer_takes_no_order_away():
    ours, theirs = {"issuer_of_patient_id": "A"}, {**OTHER, "patient_id": "TEST100231", "issuer_of_patient_id": "B"}
    dept = department(orders=[order("R1", **ours), order("R9", **theirs)], studies=[part(1, "09:00", "09:05", "CHEST", **ours)], series=[series(1, "CHEST")],
                      patients=[person(**ours), merge("TEST100231", "NEW5", **{**theirs, "patient_id": "NEW5"})])
    assert proposed(dept, "R1") == {"CHEST": "R1"}


def test_an_exam_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(TableError, match=r"exams: 'R11' is no .* Did you mean"):
        propose_series(department(studies=[part(1, "09:00", "09:05", "HEAD")]), "R11", site=SITE)


# One accession number on several studies

FIRST = {"study_at": "2025-11-01T09:00Z", "started_at": "2025-11-01T09:00Z", "ended_at": "2025-11-01T09:10Z"}


def codes(dept):
    return find_mismatches(dept, as_of=NOW, site=SITE)["code"].astype("str").tolist()


def early(**more):
    return order("R1000", ordered_at="2025-11-01T08:00Z", scheduled_at="2025-11-01T09:00Z", **more)


def test_a_study_that_fits_another_order_is_moved_and_not_merged_with_the_exam_it_names():
    dept = department(orders=[early(procedure_name="CT HEAD"), order()], reports=[report("R1000")],
                      studies=[study("R1000", "2.25.1", body_part_examined="HEAD", **FIRST), study("R1000", "2.25.2")])
    assert codes(dept) == ["U07"]
    dept = department(orders=[early(procedure_name="CT HEAD"), order()], reports=[report("R1000")],
                      studies=[study("R1000", "2.25.1", body_part_examined="HEAD"), study("R1000", "2.25.2")])
    assert codes(dept) == ["U07"]


def test_two_like_studies_days_apart_under_one_number_are_asked_about_and_not_merged():
    dept = department(orders=[early()], reports=[report("R1000")], studies=[study("R1000", "2.25.1", **FIRST), study("R1000", "2.25.2")])
    row = find_mismatches(dept, as_of=NOW, site=SITE).iloc[0]
    assert (row["code"], row["owner"], row["study_instance_uid"]) == ("U06", "technologist", "2.25.1 2.25.2") and codes(dept) == ["U06"]
    assert "(01 Nov 2025, 10 Nov 2025)" in row["evidence"] and not row["suggested_correction"].startswith("Merge")


def test_two_studies_of_one_number_without_a_time_stay_one_exam():
    timeless = dict.fromkeys(("study_at", "started_at", "ended_at"))
    dept = department(orders=[order()], reports=[report()], studies=[study(**timeless), study("R1001", "2.25.2", **timeless)])
    assert codes(dept) == ["U10"]


@pytest.mark.parametrize("whose", [OTHER, {}])
def test_numbers_cut_at_sixteen_characters_are_the_interface_teams_and_neither_merged_nor_typed(whose):
    number = "A2025111000012345"
    dept = department(orders=[order(number + "1"), order(number + "2", **whose)], studies=[study(number[:16]), study(number[:16], "2.25.2", started_at=f"{DAY}10:00Z", **whose)])
    table = find_mismatches(dept, as_of=NOW, site=SITE)
    row = table[(table["code"] == "U06") & (table["study_instance_uid"] == "2.25.1 2.25.2")].iloc[0]
    assert row["owner"] == "interface team" and number + "1, " + number + "2 begin" in row["evidence"] and "U10" not in codes(dept)


@pytest.mark.parametrize("more", [{"patient_name": "DOE^JANE"}, {"patient_sex": "M"}])
def test_two_unknown_people_of_one_temporary_id_under_one_number_are_not_merged(more):
    unknown = {"patient_id": "TRAUMA", "patient_name": "DOE^JOHN", "patient_birth_date": ""}
    dept = department(orders=[order(**unknown)], studies=[study(**unknown), study("R1001", "2.25.2", **{**unknown, **more})])
    assert "U06" in codes(dept) and "U10" not in codes(dept)
