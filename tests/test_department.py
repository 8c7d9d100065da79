from types import SimpleNamespace

import pandas as pd
import pytest

from pacs_helpers.analyses.links import link_exams, links_table
from pacs_helpers.department import build_department, measure_period
from pacs_helpers.milestones import best_events
from pacs_helpers.site import Site
from pacs_helpers.tables import ASSOCIATIONS, AUDIT, EVENTS, EXAMS, INSTANCES, MESSAGES, OPERATIONS, PERFORMED_STEPS, TableError, conform

SITE = Site(time_zone="America/Chicago", hl7_field="OBR-3")
DAY = "2025-11-10T"


def order(control, at, accession="A1", **more):
    return {"message_type": "ORM", "message_control_id": f"O{at}", "message_at": f"{DAY}{at}Z", "patient_id": "T1", "order_control": control, "obr_3": accession,
            "placer_order_number": f"P{accession}", **more}


def report(status, at, accession="A1", **more):
    return {"message_type": "ORU", "message_control_id": f"V{at}", "message_at": f"{DAY}{at}Z", "patient_id": "T1", "result_status": status, "obr_3": accession, **more}


def answer(code, control, at, **more):
    return {"message_type": "ACK", "message_control_id": f"K{at}", "message_at": f"{DAY}{at}Z", "acknowledgment_code": code, "acknowledged_control_id": control, **more}


def image(n, uid="1.2.1", accession="A1", **more):
    return {"sop_instance_uid": f"{uid}.{n}", "study_instance_uid": uid, "series_instance_uid": f"{uid}.9", "patient_id": "T1", "accession_number": accession, "modality": "CT",
            "source_file": f"{uid}.{n}.dcm", **more}


def build(messages=(), images=(), steps=(), associations=(), operations=(), site=SITE):
    placed = [{"source_file": "feed.hl7", "source_offset": i * 100, **m} for i, m in enumerate(messages)]
    return build_department(
        hl7=SimpleNamespace(messages=conform(placed, MESSAGES)), site=site,
        dicom=SimpleNamespace(instances=conform(list(images), INSTANCES), performed_steps=conform(list(steps), PERFORMED_STEPS)),
        network=SimpleNamespace(associations=conform(list(associations), ASSOCIATIONS), operations=conform(list(operations), OPERATIONS)))


def at(dept, milestone, accession="A1"):
    best = best_events(dept.events)
    return [t.strftime("%H:%M:%S") for t in best.loc[(best["milestone"] == milestone) & (best["accession_number"] == accession), "at"]]


def fields(dept, milestone):
    rows = dept.events[dept.events["milestone"] == milestone]
    return list(zip(rows["source_field"], rows["at"].dt.strftime("%H:%M"), rows["rank"]))


# Orders

def test_an_order_has_the_latest_word_on_each_field_in_order_of_time():
    dept = build([order("SC", "09:30", order_status="CM", priority=""), order("NW", "08:00", priority="STAT", procedure_name="CT HEAD", order_status="SC"),
                  order("XO", "08:30", priority="ROUTINE")])
    assert dept.orders[["priority", "procedure_name", "order_status", "order_control", "n_messages"]].values.tolist() == [["ROUTINE", "CT HEAD", "CM", "SC", 3]]


def test_an_order_was_placed_when_its_first_new_order_says():
    dept = build([order("XO", "07:00"), order("NW", "08:00", transaction_at=f"{DAY}07:55Z"), order("NW", "09:00", transaction_at=f"{DAY}09:00Z")])
    assert dept.orders["ordered_at"].tolist() == [pd.Timestamp(f"{DAY}07:55Z")] and at(dept, "ordered") == ["07:55:00"]


@pytest.mark.parametrize("messages, cancelled", [
    ([order("NW", "08:00"), order("CA", "09:00", order_status="CA")], True),
    ([order("NW", "08:00"), order("CA", "09:00", order_status="CA"), order("XO", "10:00")], False),
    ([order("NW", "08:00"), order("SC", "09:00", order_status="CA")], True),
])
def test_an_order_is_cancelled_when_that_was_the_last_word(messages, cancelled):
    assert build(messages).orders["is_cancelled"].tolist() == [cancelled]


def test_orders_without_numbers_never_become_one():
    dept = build([order("NW", t, accession="", placer_order_number="") for t in ("08:00", "08:01")] + [order("NW", "08:02", accession="", placer_order_number="P7"),
                 order("XO", "08:03", accession="", placer_order_number="P7")])
    assert dept.orders["n_messages"].tolist() == [1, 1, 2]


def test_a_first_order_without_accession_is_the_exam_its_placer_number_gets_later():
    dept = build([order("NW", "08:00", accession="", placer_order_number="P7"), order("SC", "09:00", accession="A7", placer_order_number="P7")])
    assert dept.orders[["accession_number", "n_messages"]].values.tolist() == [["A7", 2]] and at(dept, "ordered", "A7") == ["08:00:00"]


def test_a_placer_number_of_two_exams_or_of_another_patient_names_neither():
    dept = build([order("NW", "08:00", accession="", placer_order_number="P7"), order("SC", "09:00", accession="A7", placer_order_number="P7"),
                  order("SC", "09:01", accession="A8", placer_order_number="P7"), order("NW", "09:02", accession="", placer_order_number="P9"),
                  order("SC", "09:03", accession="A9", placer_order_number="P9", patient_id="T2")])
    assert sorted(dept.orders["accession_number"]) == ["", "", "A7", "A8", "A9"]


def test_a_report_or_an_appointment_alone_makes_no_order():
    assert len(build([report("F", "08:00"), {"message_type": "SIU", "trigger_event": "S12", "patient_id": "T1", "message_at": f"{DAY}08:00Z"}]).orders) == 0


def test_diagnostic_sections_become_modalities_and_other_words_nothing():
    dept = build([order("NW", f"08:0{i}", accession=f"A{i}", modality=m) for i, m in enumerate(("NMR", "NMS", "RAD", "CT", "PT", "LAB", ""))])
    assert dept.orders["modality"].tolist() == ["MR", "NM", "CR", "CT", "PT", "", ""]


# Reports

def test_reports_are_numbered_in_order_of_status_and_a_resend_is_no_version():
    dept = build([report("C", "12:00"), report("F", "10:00", message_control_id="V1"), report("P", "09:00"), report("F", "10:05", message_control_id="V1")])
    assert dept.reports[["result_status", "version_number", "is_duplicate"]].values.tolist() == [["P", 1, False], ["F", 2, False], ["F", 2, True], ["C", 3, False]]


def test_one_control_id_with_another_status_is_another_version():
    dept = build([report("P", "09:00", message_control_id="V1"), report("F", "10:00", message_control_id="V1")])
    assert dept.reports["is_duplicate"].tolist() == [False, False] and dept.reports["version_number"].tolist() == [1, 2]


def test_reports_without_any_number_are_not_versions_of_each_other():
    dept = build([report("F", "09:00", accession="", message_control_id=""), report("F", "10:00", accession="", message_control_id="")])
    assert dept.reports["version_number"].tolist() == [1, 1] and (dept.events["milestone"] == "final").sum() == 2


def test_differing_numbers_of_a_report_are_kept_once():
    dept = build([report("F", "09:00", obr_18="CR-A1", orc_3="A1", obr_20="CR-A1", ipc_1="B2")])
    assert dept.reports["other_accession_numbers"].tolist() == ["CR-A1 B2"]


def test_each_sending_of_a_control_id_has_its_own_answer():
    dept = build([report("F", "10:00", message_control_id="V1"), report("F", "10:05", message_control_id="V1"), answer("AE", "V1", "10:01"), answer("AA", "V1", "10:06")])
    assert dept.reports["acknowledgment_code"].tolist() == ["AE", "AA"] and at(dept, "delivered") == ["10:06:00"]


def test_a_report_sent_again_unchanged_is_delivered_when_first_accepted():
    again = report("F", "10:00", problems="DUPLICATE_MESSAGE")
    dept = build([report("F", "10:00"), answer("AE", "V10:00", "10:01"), again, answer("AA", "V10:00", "10:02"), again, answer("AA", "V10:00", "10:03")])
    assert dept.reports["acknowledgment_code"].tolist() == ["AA"] and at(dept, "delivered") == ["10:02:00"]


def test_an_answer_counts_for_the_sender_it_names():
    dept = build([order("NW", "08:00", message_control_id="7", sending_application="RIS"), answer("AA", "7", "08:01", receiving_application="RIS"),
                  report("F", "10:00", message_control_id="7", sending_application="VR"), answer("AE", "7", "10:01", receiving_application="VR")])
    assert dept.reports["acknowledgment_code"].tolist() == ["AE"] and at(dept, "delivered") == []


# Studies

def test_a_study_of_mixed_patients_and_accessions_shows_the_most_frequent_and_says_so():
    dept = build(images=[image(1), image(2), image(3, patient_id="T2", accession=""), image(4, accession="A2")])
    assert dept.studies[["patient_id", "accession_number", "n_instances", "problems"]].values.tolist() == [["T1", "A1", 4, "MIXED_PATIENT MIXED_ACCESSION"]]


def test_the_same_instance_under_two_accessions_counts_once_and_is_told():
    dept = build(images=[image(1), image(1, accession="A2"), image(1, accession="A1")])
    assert dept.studies[["n_instances", "problems"]].values.tolist() == [[1, "MIXED_ACCESSION"]]


def test_a_study_lasts_from_its_first_to_its_last_image_without_its_reports():
    dept = build(images=[image(1, modality="SR", series_at=f"{DAY}20:00Z"), image(2, acquired_at=f"{DAY}09:00Z"), image(3, acquired_at=f"{DAY}09:10Z")])
    assert dept.studies["modality"].tolist() == ["CT"] and at(dept, "exam_started") == ["09:00:00"] and at(dept, "exam_ended") == ["09:10:00"]


def test_a_date_alone_is_not_midnight():
    dept = build(images=[image(1, acquired_at=f"{DAY}06:00Z", study_at=f"{DAY}06:00Z", precision="acquired_at=day study_at=day")])
    assert dept.studies["started_at"].isna().all() and at(dept, "exam_started") == []
    dept = build(images=[image(1, acquired_at=f"{DAY}06:00Z", series_at=f"{DAY}15:20Z", precision="acquired_at=day series_at=minute")])
    assert fields(dept, "exam_started") == [("(0008,0031)", "15:20", 5)]


def test_series_are_one_row_each_within_their_study_and_last_from_first_to_last_image():
    images = [image(1, series_instance_uid="1.2.1.9", acquired_at=f"{DAY}09:04Z", body_part_examined="CHEST", frame_of_reference_uid="1.5"),
              image(2, series_instance_uid="1.2.1.9", acquired_at=f"{DAY}09:01Z", body_part_examined="ABDOMEN"), image(2, series_instance_uid="1.2.1.9"),
              image(3, series_instance_uid="1.2.1.8", acquired_at=f"{DAY}08:50Z"), image(4, series_instance_uid=""),
              image(1, uid="1.2.2", series_instance_uid="1.2.1.9", n_instances=40)]
    series = build(images=images).series
    assert series[["study_instance_uid", "series_instance_uid", "n_instances", "body_part_examined", "frame_of_reference_uids"]].values.tolist() == [
        ["1.2.1", "1.2.1.8", 1, "", ""], ["1.2.1", "1.2.1.9", 2, "ABDOMEN CHEST", "1.5"], ["1.2.2", "1.2.1.9", 40, "", ""]]
    assert series["started_at"].dt.strftime("%H:%M").tolist()[:2] == ["08:50", "09:01"] and series["ended_at"].dt.strftime("%H:%M").tolist()[:2] == ["08:50", "09:04"]


def test_images_without_study_uid_and_copies_of_a_file_make_no_study():
    dept = build(images=[image(1, uid=""), image(1), image(2, problems="DUPLICATE_FILE")])
    assert dept.studies[["study_instance_uid", "n_instances"]].values.tolist() == [["1.2.1", 1]]


# Milestones

def test_final_is_the_first_final_and_addended_the_first_correction_after_it():
    dept = build([report("F", "11:00"), report("F", "10:00"), report("C", "09:00"), report("C", "13:00"), report("C", "12:00")])
    assert at(dept, "final") == ["10:00:00"] and at(dept, "addended") == ["12:00:00"]
    assert fields(dept, "final") == [("MSH-7", "10:00", 2)] and fields(dept, "addended") == [("MSH-7", "12:00", 2)]


def test_obr_22_outranks_the_message_time_which_stays():
    dept = build([report("P", "10:00", status_changed_at=f"{DAY}09:40Z")])
    assert fields(dept, "preliminary") == [("OBR-22", "09:40", 1), ("MSH-7", "10:00", 2)]


def test_mpps_outranks_images_and_images_outrank_the_order_status():
    dept = build([order("SC", "09:02", order_status="IP", transaction_at=f"{DAY}09:01Z"), order("SC", "09:30", order_status="CM")],
                 [image(1, acquired_at=f"{DAY}09:05Z"), image(2, acquired_at=f"{DAY}09:15Z")],
                 [{"performed_procedure_step_id": "S1", "study_instance_uid": "1.2.1", "started_at": f"{DAY}09:03Z", "ended_at": f"{DAY}09:18Z", "status": "COMPLETED"}])
    assert fields(dept, "exam_started") == [("ORC-5=IP", "09:01", 4), ("(0040,0244)", "09:03", 1), ("(0008,002A)", "09:05", 2)]
    assert at(dept, "exam_started") == ["09:03:00"] and at(dept, "exam_ended") == ["09:18:00"]


def test_a_discontinued_step_cancels_and_ends_nothing():
    dept = build(images=[image(1)], steps=[{"performed_procedure_step_id": "S1", "study_instance_uid": "1.2.1", "ended_at": f"{DAY}09:18Z", "status": "DISCONTINUED"}])
    assert fields(dept, "cancelled") == [("(0040,0281)", "09:18", 3)] and at(dept, "exam_ended") == []


def test_obr_7_of_an_exam_not_yet_begun_is_not_its_begin():
    dept = build([order("NW", "08:00", order_status="SC", observed_at=f"{DAY}07:00Z"), order("SC", "09:00", order_status="IP", observed_at=f"{DAY}08:58Z")])
    assert fields(dept, "exam_started") == [("OBR-7", "08:58", 3), ("ORC-5=IP", "09:00", 4)]


def test_only_a_change_that_moves_no_appointment_near_it_counts_as_arrival():
    moved = build([order("NW", "08:00", scheduled_at=f"{DAY}15:00Z"), order("XO", "09:00", scheduled_at=f"{DAY}16:00Z")])
    early = build([order("NW", "08:00", scheduled_at="2025-11-12T15:00Z"), order("XO", "09:00", scheduled_at="2025-11-12T15:00Z")])
    came = build([order("NW", "08:00", scheduled_at=f"{DAY}15:00Z"), order("XO", "14:40", scheduled_at=f"{DAY}15:00Z")])
    assert (at(moved, "arrived"), at(early, "arrived"), at(came, "arrived")) == ([], [], ["14:40:00"])


def test_a_registration_is_the_arrival_of_the_patients_nearest_exam_within_12_hours():
    adt = [{"message_type": "ADT", "trigger_event": t, "patient_id": p, "event_at": f"{DAY}{h}Z", "message_control_id": h}
           for t, p, h in (("A04", "T1", "14:30"), ("A04", "T1", "01:00"), ("A08", "T1", "14:55"), ("A04", "T2", "14:58"))]
    dept = build([order("NW", "00:10", scheduled_at=f"{DAY}15:00Z"), *adt])
    assert fields(dept, "arrived") == [("EVN-2", "14:30", 1)]
    assert dept.trace.loc[dept.trace["lane"] == "patient", "source_id"].tolist() == ["14:30"]


def test_a_patient_who_comes_late_has_arrived_all_the_same():
    late = {"message_type": "ADT", "trigger_event": "A10", "patient_id": "T1", "event_at": f"{DAY}15:20Z"}
    assert at(build([order("NW", "00:10", scheduled_at=f"{DAY}15:00Z"), late]), "arrived") == ["15:20:00"]


def test_a_new_appointment_replaces_the_old_and_both_stay():
    dept = build([order("NW", "08:00", scheduled_at=f"{DAY}15:00Z"), order("XO", "09:00", scheduled_at=f"{DAY}16:00Z")])
    assert len(fields(dept, "scheduled")) == 2 and at(dept, "scheduled") == ["16:00:00"]


def test_the_site_words_for_arrival_and_cancelling_reach_their_milestones():
    dept = build([order("SC", "09:00", order_status="ARRIVED"), order("CA", "09:30", transaction_at=f"{DAY}09:25Z")])
    assert at(dept, "arrived") == ["09:00:00"] and at(dept, "cancelled") == ["09:25:00"]


def test_the_repeated_hour_is_told_on_the_time_in_it_and_on_no_other():
    dept = build([report("F", "10:00", observed_at="2025-11-02T06:30Z", status_changed_at="2025-11-02T09:00Z", problems="AMBIGUOUS_TIME")],
                 [image(1, acquired_at="2025-11-02T06:20Z", problems="AMBIGUOUS_TIME"), image(2, acquired_at="2025-11-02T08:20Z")])
    told = dept.events.loc[dept.events["problems"] != "", ["source_field", "problems"]]
    assert told.values.tolist() == [["(0008,002A)", "AMBIGUOUS_TIME"], ["OBR-7", "AMBIGUOUS_TIME"]]


def test_the_skipped_hour_is_told_on_the_time_moved_past_it_and_on_no_other():
    dept = build([report("F", "10:00", observed_at="2025-03-09T08:30Z", status_changed_at="2025-03-09T12:00Z", problems="NONEXISTENT_TIME")])
    assert dept.events.loc[dept.events["problems"] == "NONEXISTENT_TIME", "source_field"].tolist() == ["OBR-7"]


def test_an_event_says_how_precise_its_own_time_is():
    dept = build([order("NW", "08:00", precision="message_at=minute"), report("F", "10:00", status_changed_at=f"{DAY}06:00Z", precision="status_changed_at=day")])
    got = dept.events.set_index("source_field")["precision"]
    assert (got["OBR-22"], got["MSH-7 of NW"]) == ("day", "minute") and at(dept, "final") == ["10:00:00"]


# Names

def test_a_study_without_accession_takes_it_from_the_order_that_names_its_uid():
    dept = build([order("NW", "08:00", study_instance_uid="1.2.1"), report("F", "11:00", accession="A5", study_instance_uid="1.2.1")],
                 [image(1, accession="", acquired_at=f"{DAY}09:00Z")])
    assert at(dept, "exam_started", "A1") == ["09:00:00"] and dept.studies["accession_number"].tolist() == [""]


def test_one_exam_has_one_spelling_that_of_the_images():
    dept = build([order("NW", "08:00", accession="00A1"), report("F", "10:00", accession="a1 ")], [image(1, accession="A1", acquired_at=f"{DAY}09:00Z")],
                 site=Site(time_zone="UTC", hl7_field="OBR-3"))
    assert set(dept.events["accession_number"]) == set(dept.trace["accession_number"]) == {"A1"} and dept.orders["accession_number"].tolist() == ["00A1"]


def test_long_numbers_that_differ_after_the_sixteenth_character_stay_two_exams():
    dept = build([report("F", "10:00", accession="2025-NORTH-CT-0001"), report("F", "11:00", accession="2025-NORTH-CT-0002")])
    assert at(dept, "final", "2025-NORTH-CT-0001") == ["10:00:00"] and at(dept, "final", "2025-NORTH-CT-0002") == ["11:00:00"]


def test_a_long_number_and_its_cut_form_on_the_images_are_one_exam():
    dept = build([report("F", "10:00", accession="2025-NORTH-CT-0001")], [image(1, accession="2025-NORTH-CT-00", acquired_at=f"{DAY}09:00Z")])
    assert at(dept, "final", "2025-NORTH-CT-00") == ["10:00:00"]


def test_attributes_of_the_exam_stand_on_each_of_its_events():
    dept = build([order("NW", "08:00", priority="STAT", patient_class="E", sending_facility="MAIN"), report("F", "11:00")], [image(1, acquired_at=f"{DAY}09:00Z", modality="MR")])
    assert {tuple(r) for r in dept.events[["modality", "priority", "patient_class", "section"]].values.tolist()} == {("MR", "STAT", "E", "MAIN")}


# Network

STORE = {"service": "C-STORE", "status_category": "Success", "calling_ae_title": "CT1", "called_ae_title": "ARCHIVE"}


def test_images_are_available_when_the_last_reached_the_archive_not_a_workstation():
    stores = [{**STORE, "association_id": "a", "sop_instance_uid": f"1.2.1.{n}", "started_at": f"{DAY}09:1{n}Z", "ended_at": f"{DAY}09:1{n}:30Z"} for n in (1, 2)]
    later = {**STORE, "association_id": "b", "called_ae_title": "WS1", "sop_instance_uid": "1.2.1.1", "started_at": f"{DAY}09:50Z", "ended_at": f"{DAY}09:50Z"}
    failed = {**STORE, "association_id": "c", "sop_instance_uid": "1.2.1.2", "status_category": "Failure", "started_at": f"{DAY}09:59Z", "ended_at": f"{DAY}09:59Z"}
    dept = build(images=[image(1), image(2)], operations=[*stores, later, failed])
    assert at(dept, "images_available") == ["09:12:30"] and fields(dept, "images_available")[-1] == ("C-STORE", "09:50", 4)
    assert dept.trace.loc[dept.trace["lane"] == "network", "what"].tolist() == ["2 instances from CT1 to ARCHIVE", "1 instances from CT1 to WS1"]


def test_a_store_known_only_by_its_end_is_in_the_case_file_too():
    dept = build(images=[image(1)], operations=[{**STORE, "sop_instance_uid": "1.2.1.1", "ended_at": f"{DAY}09:12Z"}])
    assert dept.trace.loc[dept.trace["lane"] == "network", "at"].tolist() == [pd.Timestamp(f"{DAY}09:12Z")] and at(dept, "images_available") == ["09:12:00"]


def test_a_log_without_sop_uids_is_linked_only_where_each_side_has_one_partner():
    seen = [image(n, source_ae_title="CT1", acquired_at=f"{DAY}09:00Z") for n in (1, 2)]
    def held(name, start):
        return {"association_id": name, "calling_ae_title": "CT1", "called_ae_title": "ARCHIVE", "n_stored": 2, "is_ambiguous": False,
                "started_at": f"{DAY}{start}Z", "ended_at": f"{DAY}{start}:40Z"}
    assert at(build(images=seen, associations=[held("a", "09:05"), held("b", "12:00")]), "images_available") == ["09:05:40"]
    assert at(build(images=seen, associations=[held("a", "09:05"), held("b", "09:20")]), "images_available") == []
    twin = [image(n, uid="1.2.2", accession="A2", source_ae_title="CT1", acquired_at=f"{DAY}09:02Z") for n in (1, 2)]
    assert at(build(images=seen + twin, associations=[held("a", "09:05")]), "images_available") == []


# The whole

def test_best_events_take_the_best_rank_with_a_usable_time():
    events = conform([{"accession_number": a, "milestone": m, "at": f"{DAY}{t}Z", "rank": r, "precision": p} for a, m, t, r, p in (
        ("A1", "final", "11:00", 2, "second"), ("A1", "final", "00:00", 1, "day"), ("A1", "exam_started", "09:00", 1, "second"), ("A1", "exam_started", "08:00", 1, "second"),
        ("A1", "exam_ended", "09:30", 2, "minute"), ("A1", "exam_ended", "09:40", 2, "second"), ("", "final", "10:00", 1, "second"))], EVENTS)
    assert [(m, t.hour, t.minute) for m, t in zip(*[best_events(events)[c] for c in ("milestone", "at")])] == [("final", 11, 0), ("exam_started", 8, 0), ("exam_ended", 9, 40)]


def test_every_system_has_its_lane_and_no_word_names_the_patient():
    dept = build([order("NW", "08:00", order_status="SC", scheduled_at=f"{DAY}09:00Z", patient_name="ASH^ROWAN"), report("F", "11:00", patient_name="ASH^ROWAN"), answer("AA", "V11:00", "11:01"),
                  {"message_type": "ADT", "trigger_event": "A40", "patient_id": "T9", "prior_patient_id": "T1", "event_at": f"{DAY}12:00Z", "message_control_id": "M1"}],
                 [image(1, acquired_at=f"{DAY}09:00Z", station_name="CT1")],
                 [{"performed_procedure_step_id": "S1", "study_instance_uid": "1.2.1", "started_at": f"{DAY}08:58Z", "status": "IN PROGRESS", "patient_id": "T1"}])
    assert list(zip(dept.trace["lane"].astype(str), dept.trace["what"])) == [
        ("order", "new order (SC)"), ("dicom", "performed step, in progress"), ("dicom", "CT series, 1 instances on CT1"), ("report", "final report"),
        ("acknowledgment", "report answered AA"), ("patient", "patient ID merged or changed (A40)")]


def test_every_identity_step_is_kept_in_order_of_time():
    adt = [{"message_type": "ADT", "trigger_event": t, "patient_id": p, "prior_patient_id": old, "event_at": f"{DAY}{h}Z"}
           for t, p, old, h in (("A40", "T3", "T2", "11:00"), ("A47", "T2", "T1", "10:00"), ("A08", "T3", "", "12:00"))]
    assert build(adt).patients[["trigger_event", "prior_patient_id", "patient_id"]].values.tolist() == [["A47", "T1", "T2"], ["A40", "T2", "T3"], ["A08", "", "T3"]]


def test_one_system_alone_is_a_department_too():
    images = SimpleNamespace(instances=conform([image(1, acquired_at=f"{DAY}09:00Z")], INSTANCES), performed_steps=conform([], PERFORMED_STEPS))
    only_images = build_department(dicom=images, site=SITE)
    only_feed = build_department(hl7=SimpleNamespace(messages=conform([order("NW", "08:00")], MESSAGES)), site=SITE)
    assert (len(only_images.studies), len(only_images.orders), at(only_images, "exam_started")) == (1, 0, ["09:00:00"])
    assert (len(only_feed.studies), len(only_feed.orders), only_feed.reviewed) == (0, 1, ())


def test_neither_messages_nor_images_is_a_callers_mistake():
    with pytest.raises(TableError, match="give at least one"):
        build_department(site=SITE)


def test_empty_tables_give_an_empty_department():
    assert [len(t) for t in build()[:6]] == [0] * 6


def test_the_period_is_that_of_the_messages_without_years_to_come():
    messages = [order("NW", "08:00"), report("F", "11:00"), {**order("NW", "09:00", "A2"), "message_at": "2999-01-01T00:00Z", "message_control_id": "O9"}]
    assert measure_period(build(messages)) == (pd.Timestamp(f"{DAY}08:00Z"), pd.Timestamp(f"{DAY}11:00Z"))


def test_an_archives_answers_about_one_study_are_not_added_up():
    answer = {"study_instance_uid": "1.2.1", "patient_id": "T1", "accession_number": "A1", "modality": "CT"}
    series = [{**answer, "series_instance_uid": f"1.2.1.{n}", "n_instances": n} for n in (2, 3)]
    assert build(images=[{**answer, "n_instances": 5}, *series]).studies["n_instances"].tolist() == [5]
    assert build(images=[{**answer, "n_instances": 5}, image(1)]).studies["n_instances"].tolist() == [5]


# RIS export

def test_a_ris_export_tells_milestones_beside_the_feeds_or_alone():
    exams = conform([{"accession_number": "0A1", "modality": "CT", "ordered_at": f"{DAY}08:00Z", "exam_ended_at": f"{DAY}09:00Z", "final_at": f"{DAY}11:00Z"}], EXAMS)
    alone = build_department(ris=SimpleNamespace(exams=exams), site=SITE)
    assert alone.events[["accession_number", "milestone", "source", "modality"]].astype("str").values.tolist() == [["0A1", m, "ris", "CT"] for m in ("ordered", "exam_ended", "final")]
    assert measure_period(alone) == (pd.Timestamp(f"{DAY}08:00Z"), pd.Timestamp(f"{DAY}11:00Z"))
    messages = conform([report("F", "10:00", source_file="feed.hl7", source_offset=0)], MESSAGES)
    both = build_department(hl7=SimpleNamespace(messages=messages), ris=SimpleNamespace(exams=exams), site=SITE)
    finals = both.events[both.events["milestone"] == "final"]
    assert set(finals["accession_number"]) == {"A1"} and set(finals["source"].astype("str")) == {"hl7", "ris"}
    assert at(both, "final") == ["10:00:00"] and at(both, "exam_ended") == ["09:00:00"]


# One number for exams of several affiliates

def affiliate(site, born, patient):
    return {"issuer_of_patient_id": site, "sending_facility": site, "patient_birth_date": born, "patient_id": patient}


def test_71_a_number_that_affiliates_share_is_an_exam_of_each_and_links_neither():
    a, b = affiliate("HOSPA", "19500101", "00123"), affiliate("HOSPB", "19800808", "00777")
    dept = build([order("NW", "08:00", **a), order("NW", "08:10", **b), report("F", "09:00", **b), order("NW", "08:20", accession="A2", **a)],
                 [image(1, uid="1.2.1", issuer_of_patient_id="HOSPA", patient_id="00123"), image(1, uid="1.2.2", patient_id="00777")])
    assert sorted(zip(dept.orders["accession_number"], dept.orders["patient_id"], dept.orders["problems"])) == [
        ("A1^HOSPA", "00123", "ACCESSION_REUSED"), ("A1^HOSPB", "00777", "ACCESSION_REUSED"), ("A2", "00123", "")]
    assert dept.reports[["accession_number", "problems"]].values.tolist() == [["A1^HOSPB", "ACCESSION_REUSED"]]
    assert at(dept, "final", "A1^HOSPB") == ["09:00:00"] and at(dept, "final", "A1^HOSPA") == []
    links = links_table(link_exams(dept, SITE))
    # The second study does not say whose number it has: only its own authority would.
    assert links.loc[links["item"] == "order", ["accession_number", "study_instance_uid", "level"]].values.tolist()[:2] == [["A1^HOSPA", "1.2.1", "accession"], ["A1^HOSPB", "", "none"]]


def test_71_one_person_known_to_two_authorities_is_no_reuse():
    a = affiliate("HOSPA", "19500101", "00123")
    for other in (affiliate("HOSPB", "19500101", "9"), {**affiliate("HOSPB", "19800808", "9"), "sending_facility": "HOSPA"}):
        assert build([order("NW", "08:00", **a), report("F", "09:00", **other)]).orders["accession_number"].tolist() == ["A1"]


# Audit messages

def access(when, user="DR1", uid="1.2.1", **more):
    return {"event_id": "110103", "action": "R", "outcome": "0", "event_at": f"{DAY}{when}Z", "user_id": user, "study_instance_uid": uid, "source_file": "audit.xml",
            "source_offset": 7, **more}


def test_a_study_is_opened_when_somebody_who_reads_first_looks_at_it():
    site = Site(time_zone="UTC", hl7_field="OBR-3", not_reading=("tech*",))
    audit = conform([access("08:00", user="TECH4"), access("08:10", outcome="8"), access("08:20", action="U"), access("08:25", event_id="110104"),
                     access("09:00", uid="1.2.1 1.2.2"), access("08:45", uid="", accession_number="A2"), access("10:00")], AUDIT)
    images = conform([image(1), image(1, uid="1.2.2", accession="A2")], INSTANCES)
    dept = build_department(dicom=SimpleNamespace(instances=images, performed_steps=conform([], PERFORMED_STEPS)), audit=SimpleNamespace(audit=audit), site=site)
    assert at(dept, "opened") == ["09:00:00"] and at(dept, "opened", "A2") == ["08:45:00"]
    opened = dept.events[dept.events["milestone"] == "opened"]
    assert set(opened["source_id"]) == {"audit.xml:7"} and len(opened) == 4       # no name of a person
