import re

import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.applied import apply_corrections, find_stale
from pacs_helpers.fixes.corrections import read_corrections, record_correction
from pacs_helpers.fixes.ledger import read_ledger
from pacs_helpers.views.bench import FixBench

from ..small_department import NOW, OTHER, SITE, department, order, person, report, study


def bench_of(dept, tmp_path, *, decided_by="Pat", **more):
    findings = find_mismatches(dept, as_of=NOW, site=SITE)
    return FixBench(findings, dept, ledger=tmp_path / "corrections.jsonl", decided_by=decided_by, site=SITE, **more)


def decide(bench, action, reason="", **given):
    """What a person does: choose the action, fill in, confirm the likely reason or choose one, press Record."""
    bench.action.value = action
    for name, value in given.items():
        bench.inputs[name].value = value
    bench.reason.value = reason or next(code for _, code in bench.reason.options if code)
    bench.record.click()


@pytest.fixture
def typo():
    return department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])


def one_series(uid, number, study_uid="2.25.1", **more):
    return {"study_instance_uid": study_uid, "series_instance_uid": uid, "accession_number": "R1001", "patient_id": "TEST100231", "modality": "CT", "series_number": number,
            "started_at": f"2025-11-10T09:0{number}Z", "ended_at": f"2025-11-10T09:0{number}Z", "n_instances": 2, **more}


def test_nothing_is_chosen_until_a_person_chooses(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    assert bench.choice.index is None and bench.reason.value == "" and bench.record.disabled and bench.undo.disabled and bench.redo.disabled
    assert bench.progress.value == "1 of 1 open; 0 decided"
    bench.record.click()
    assert bench.decisions.empty and "Not recorded" in bench.message.value


def test_accepting_by_click_mends_the_id_and_the_findings_shrink(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.choice.index = 0
    assert bench.record.disabled, "the reason is not confirmed"
    decide(bench, "accept")
    assert bench.decisions[["kind", "target", "old", "new", "reason"]].iloc[0].tolist() == ["patient_id", "2.25.1", "TEST100213", "TEST100231", "TYPED_WRONG"]
    assert bench.finding is None and "Saved" in bench.message.value
    assert find_mismatches(apply_corrections(typo, bench.ledger), as_of=NOW, site=SITE).empty


@pytest.mark.parametrize(("action", "reason"), [("reject", "NO_PARTNER"), ("pass_on", "NOT_HERE"), ("ignore", "NO_ERROR")])
def test_a_finding_that_needs_no_change_is_reviewed_with_its_reason(typo, tmp_path, action, reason):
    bench = bench_of(typo, tmp_path)
    decide(bench, action)
    assert bench.decisions[["kind", "target", "reason"]].iloc[0].tolist() == ["dismiss", bench.all_findings["finding_id"].iloc[0], reason]


def test_the_reason_other_needs_a_note(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    decide(bench, "ignore", reason="OTHER")
    assert bench.decisions.empty
    bench.note.value = "asked the ward"
    bench.record.click()
    assert bench.decisions[["reason", "text"]].iloc[0].tolist() == ["OTHER", "asked the ward"]


def test_a_confirmed_reason_does_not_pass_to_another_finding_or_action(tmp_path):
    bench = bench_of(department(orders=[order("R1"), order("R2")]), tmp_path)
    bench.action.value, bench.reason.value = "ignore", "TEST"
    bench.action.value = "reject"
    assert bench.reason.value == ""
    bench.reason.value = "NO_PARTNER"
    bench.next.click()
    assert bench.reason.value == "" and bench.record.disabled


def test_a_typed_patient_id_is_recorded_and_an_unchanged_one_is_not(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    decide(bench, "patient_id", patient_id="TEST100213")
    assert bench.decisions.empty and "nothing to record" in bench.plan.value
    decide(bench, "patient_id", patient_id=" TEST100231 ")
    assert bench.decisions["new"].tolist() == ["TEST100231"]


def test_the_patient_id_that_the_feed_gives_is_proposed(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.action.value = "patient_id"
    assert bench.inputs["patient_id"].value == "TEST100231" and bench.inputs["patient_id"].layout.display == "flex" and bench.inputs["series"].layout.display == "none"


def test_a_report_under_a_look_alike_is_mended_not_the_images(tmp_path):
    """The images are right: they must not be given the report's patient ID."""
    dept = department(orders=[order(), order("R2", **OTHER)], studies=[study()], reports=[report(**OTHER)])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U05e"
    decide(bench, "patient_id")
    assert bench.decisions[["target", "old", "new", "reason"]].iloc[0].tolist() == ["VR1001", "TEST200777", "TEST100231", "REPORT_MISFILED"]
    fixed = apply_corrections(dept, bench.ledger)
    assert fixed.studies["patient_id"].tolist() == ["TEST100231"] and fixed.reports["patient_name"].tolist() == ["ASH^ROWAN"]


def test_a_typed_wrong_report_is_linked_to_the_chosen_study(tmp_path):
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")])
    bench = bench_of(dept, tmp_path)
    bench.choice.index = 0
    decide(bench, "accept")
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["link", "VR1010", "R1010", "R1001"]
    assert find_mismatches(apply_corrections(dept, bench.ledger), as_of=NOW, site=SITE).empty


def test_images_are_moved_to_a_typed_accession_number_and_taken_off_one(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    decide(bench, "link", subject="2.25.1", accession="R9", reason="WRONG_PICK")
    bench.undo.click()
    decide(bench, "unlink", subject="2.25.1")
    assert [(r["kind"], r["old"], r["new"]) for r in read_ledger(bench.ledger) if r["op"] == "decide"] == [("link", "R1001", "R9"), ("unlink", "R1001", "")]


def test_series_are_split_off_and_one_must_stay(tmp_path):
    dept = department(orders=[order(), order("R2")], studies=[study(patient_id="TEST100213")], series=[one_series("2.25.11", 1), one_series("2.25.12", 2)])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U05a"
    decide(bench, "split", series=("2.25.11", "2.25.12"), accession="R2")
    assert bench.decisions.empty and "Leave at least one series" in bench.plan.value
    decide(bench, "split", series=("2.25.12",), accession="R2")
    assert bench.decisions[["kind", "target", "series", "old", "new", "reason"]].iloc[0].tolist() == ["split", "2.25.1", "2.25.12", "R1001", "R2", "TWO_EXAMS"]
    assert sorted(apply_corrections(dept, bench.ledger).studies["accession_number"]) == ["R1001", "R2"]


def test_a_split_says_which_order_each_series_likely_belongs_to(tmp_path):
    orders = [order(procedure_name="CT CHEST"), order("R2", procedure_name="CT HEAD")]
    series = [one_series("2.25.11", 1, body_part_examined="CHEST"), one_series("2.25.12", 2, body_part_examined="HEAD", series_description="HEAD")]
    bench = bench_of(department(orders=orders, studies=[study()], series=series), tmp_path)
    bench.code.value = "U02"
    bench.action.value = "split"
    assert [words.partition("likely of ")[2] for words, _ in bench.inputs["series"].options] == ["R1001", "R2"]
    bench.action.value = "merge_series"
    assert "likely" not in str(bench.inputs["series"].options)


def test_accept_never_closes_images_that_contradict_their_order(tmp_path):
    """Patient ID and number agree: nothing says whose images these are, so only Ignore, with a reason, closes it."""
    bench = bench_of(department(orders=[order(procedure_name="CT HEAD")], studies=[study()], reports=[report(procedure_name="CT HEAD")]), tmp_path)
    bench.code.value = "U05e"
    bench.choice.index = 0
    decide(bench, "accept", reason="NO_ERROR")
    assert bench.record.disabled and bench.decisions.empty and "no safe proposal" in bench.plan.value
    decide(bench, "ignore", reason="NO_ERROR")
    assert bench.decisions["kind"].tolist() == ["dismiss"]


def test_accept_moves_images_to_the_order_that_the_finding_says_fits(tmp_path):
    """The one candidate is the wrong exam that they came under; the finding names R2."""
    bench = bench_of(department(orders=[order(procedure_name="CT HEAD"), order("R2")], studies=[study()], reports=[report(procedure_name="CT HEAD")]), tmp_path)
    bench.code.value = "U07"
    assert "CT CHEST" in bench.sides.value and "CT HEAD" not in bench.sides.value
    decide(bench, "accept")
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["link", "2.25.1", "R1001", "R2"]


def test_images_under_another_patient_are_compared_with_the_report_that_stands_on_them(tmp_path):
    """Neither has an accession number: the report names the study by its UID, and its patient is the exam's."""
    dept = department(orders=[order("R2", modality="MR", **OTHER)], studies=[study("", patient_id="TEST200777")],
                      reports=[report("", study_instance_uid="2.25.1", placer_order_number="")], patients=[person()])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U05e"
    shown = re.sub("<[^>]*>", "", bench.sides.value)
    assert "TEST100231" in shown and "TEST200777" in shown
    bench.choice.index = 0
    decide(bench, "accept")
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["patient_id", "2.25.1", "TEST200777", "TEST100231"]


def test_accepting_a_group_case_says_that_it_is_right_and_links_no_number(tmp_path):
    numbers = {"requested_accession_numbers": "R1 R2", "requested_procedure_ids": "A B"}
    bench = bench_of(department(orders=[order("R1"), order("R2")], studies=[study("", **numbers)]), tmp_path)
    bench.code.value = "U09"
    bench.choice.index = 0 if bench.choice.options else None
    decide(bench, "accept")
    assert bench.decisions[["kind", "reason"]].iloc[0].tolist() == ["dismiss", "NO_ERROR"] and "U09" not in set(bench.findings["code"])


def test_series_join_another_study_of_the_patient(tmp_path):
    dept = department(orders=[order(), order("R2")], studies=[study(), study("R2", "2.25.2")], series=[one_series("2.25.11", 1), one_series("2.25.12", 2), one_series("2.25.21", 1, "2.25.2")])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U02"
    decide(bench, "merge_series", subject="2.25.1", series=("2.25.12",), studies=("2.25.2",))
    assert bench.decisions[["kind", "target", "series", "new"]].iloc[0].tolist() == ["merge_series", "2.25.1", "2.25.12", "2.25.2"]
    fixed = apply_corrections(dept, bench.ledger).series
    assert fixed.loc[fixed["study_instance_uid"] == "2.25.2", "series_instance_uid"].tolist() == ["2.25.12", "2.25.21"]


def test_studies_of_one_exam_become_the_one_that_stays(tmp_path):
    dept = department(orders=[order()], studies=[study(), study(uid="2.25.2", study_at="2025-11-10T09:20Z", started_at="2025-11-10T09:20Z", ended_at="2025-11-10T09:25Z")], reports=[report()])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U10"
    decide(bench, "merge", subject="2.25.2", studies=("2.25.1",))
    assert bench.decisions[["kind", "target", "old", "new", "reason"]].iloc[0].tolist() == ["merge", "2.25.2 2.25.1", "R1001", "R1001", "SPLIT_BY_DEVICE"]
    assert apply_corrections(dept, bench.ledger).studies["study_instance_uid"].tolist() == ["2.25.2"]


def test_studies_of_two_patients_are_never_merged(tmp_path):
    dept = department(orders=[order()], studies=[study(), study(uid="2.25.2", **OTHER)], reports=[report()])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U06"
    decide(bench, "merge", subject="2.25.1", studies=("2.25.2",))
    assert bench.decisions.empty and "must not be merged" in bench.plan.value


def test_moving_images_to_another_patients_exam_is_cautioned_before_it_is_recorded(typo, tmp_path):
    dept = typo._replace(orders=department(orders=[order(), order("R2", **OTHER)]).orders)
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U05a"
    bench.action.value, bench.inputs["accession"].value = "link", "R2"
    assert "! exam R2 is known with another patient ID: TEST200777" in bench.plan.value
    bench.inputs["accession"].value = "R3"
    assert "! no order carries the accession number R3" in bench.plan.value


def test_the_queue_shows_every_finding_and_opens_the_one_picked(tmp_path):
    bench = bench_of(department(orders=[order("R1"), order("R2", scheduled_at="2025-11-11T09:00Z")]), tmp_path)
    assert [label.split(" | ")[3] for label, _ in bench.queue.options] == ["R1", "R2"] and "2 the rest" in bench.left.value
    bench.queue.value = bench.queue.options[1][1]
    assert bench.finding["accession_number"] == "R2" and bench.progress.value.startswith("2 of 2")


def test_desk_place_and_kind_choose_what_is_on_the_bench(tmp_path):
    dept = department(orders=[order(section="MAIN"), order("R2", order_status="SC", section="CLINIC", **OTHER)], studies=[study(patient_id="TEST100213")], reports=[report()])
    bench = bench_of(dept, tmp_path)
    assert len(bench.findings) == 2
    bench.owner.value = "scheduling"
    assert bench.findings["code"].tolist() == ["U04"]
    bench.owner.value, bench.place.value = "all", "MAIN"
    assert bench.findings["code"].tolist() == ["U05a"]
    bench.place.value, bench.code.value = "all", "U05a"
    assert bench.finding["code"] == "U05a"


def test_next_and_previous_step_through_and_stop_at_the_ends(tmp_path):
    bench = bench_of(department(orders=[order("R1"), order("R2")]), tmp_path)
    first = bench.finding["finding_id"]
    bench.next.click()
    assert bench.finding["finding_id"] != first and bench.next.disabled and bench.queue.value == bench.finding["finding_id"]
    bench.back.click()
    assert bench.finding["finding_id"] == first and bench.back.disabled


def test_undo_by_click_brings_the_finding_back_and_redo_the_decision(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    decide(bench, "ignore")
    assert bench.finding is None
    bench.undo.click()
    assert bench.finding["code"] == "U05a" and bench.decisions.empty and bench.undo.disabled
    bench.redo.click()
    assert bench.finding is None and bench.decisions["reason"].tolist() == ["NO_ERROR"] and bench.redo.disabled
    bench.undo.click()
    assert bench.decisions.empty and [r["op"] for r in read_ledger(bench.ledger)] == ["decide", "undo", "undo", "undo"]


def test_several_undone_decisions_come_back_in_order_until_something_new_is_decided(tmp_path):
    bench = bench_of(department(orders=[order("R1"), order("R2"), order("R3")]), tmp_path)
    for _ in range(3):
        decide(bench, "ignore")
    made = bench.decisions["finding_id"].tolist()
    for _ in range(3):
        bench.undo.click()
    bench.redo.click()
    assert bench.decisions["finding_id"].tolist() == made[:1]
    decide(bench, "ignore")
    assert bench.redo.disabled, "a new decision ends the redo"


def test_undo_takes_back_ones_own_last_decision_and_shows_that_finding(tmp_path):
    ann, sam = benches_of_two(tmp_path)
    first = ann.finding["finding_id"]
    decide(ann, "ignore")
    sam.step(0)
    decide(sam, "ignore")
    ann.undo.click()
    assert ann.decisions["user"].tolist() == ["Sam"] and ann.finding["finding_id"] == first
    ann.undo.click()
    assert "Nothing of yours" in ann.message.value and ann.decisions["user"].tolist() == ["Sam"]


def benches_of_two(tmp_path):
    """Ann's and Sam's bench on the same two findings and the same ledger."""
    dept = department(orders=[order("R1"), order("R2")])
    return [bench_of(dept, tmp_path, decided_by=name) for name in ("Ann", "Sam")]


def test_what_one_bench_decided_is_off_the_other(typo, tmp_path):
    one, two = bench_of(typo, tmp_path), bench_of(typo, tmp_path)
    decide(one, "ignore")
    two.step(0)
    assert two.finding is None and two.progress.value == "none open; 1 decided"


def test_a_decision_on_a_target_that_somebody_decided_meanwhile_is_a_conflict(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    record_correction(bench.ledger, kind="dismiss", target=bench.finding["finding_id"], reason="NO_ERROR", decided_by="Sam")
    decide(bench, "ignore")
    assert "NOT saved. CONFLICT: Sam decided on this at" in bench.message.value and len(bench.decisions) == 1


def test_a_bench_decides_on_the_finding_it_shows_never_on_the_next(tmp_path):
    """Sam's bench still shows what Ann has decided: his press must not fall on the finding that moved up."""
    ann, sam = benches_of_two(tmp_path)
    shown = ann.finding["finding_id"]
    decide(ann, "ignore")
    sam.note.value = "called the ward"
    decide(sam, "ignore")
    assert "CONFLICT: Ann decided on this" in sam.message.value and sam.note.value == "called the ward"
    assert sam.decisions["finding_id"].tolist() == [shown] and sam.finding["finding_id"] != shown


def test_two_kinds_of_decision_on_one_finding_are_a_conflict(typo, tmp_path):
    one, two = bench_of(typo, tmp_path), bench_of(typo, tmp_path)
    for bench in (one, two):
        bench.choice.index = 0
    decide(one, "accept")
    decide(two, "ignore")
    assert "CONFLICT" in two.message.value and two.decisions["kind"].tolist() == ["patient_id"]


def test_the_bench_says_what_it_would_record_before_it_is_pressed(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    assert "Choose a candidate" in bench.plan.value and bench.planned is None
    bench.choice.index = 0
    assert "TEST100213 becomes TEST100231" in bench.plan.value and bench.planned["target"] == "2.25.1"


def test_a_rule_is_recorded_finding_by_finding_once_its_count_is_typed(tmp_path):
    dept = department(orders=[order(a) for a in ("R1", "R2")], studies=[study(a, u, patient_id="100231") for a, u in (("R1", "2.25.1"), ("R2", "2.25.2"))], reports=[report("R1"), report("R2")])
    bench = bench_of(dept, tmp_path)
    bench.action.value = "bulk"
    bench.inputs["rule"].value = "U05b patient ID gets the prefix TEST"
    assert sorted(bench.bulk[["target", "old", "new"]].to_numpy().tolist()) == [["2.25.1", "100231", "TEST100231"], ["2.25.2", "100231", "TEST100231"]]
    bench.reason.value, bench.inputs["count"].value = "ID_FORMAT", "1"
    assert bench.record.disabled and "type 2" in bench.plan.value and bench.plan.value.count("TEST100231") == 2
    bench.inputs["count"].value = "2"
    bench.record.click()
    assert "Saved 2 of 2, a record each." in bench.message.value and sorted(bench.decisions["target"]) == ["2.25.1", "2.25.2"]
    assert "U05b" not in set(find_mismatches(apply_corrections(dept, bench.ledger), as_of=NOW, site=SITE)["code"])


def test_a_rule_of_more_than_a_hundred_is_recorded_in_one_go(tmp_path):
    n = 101
    dept = department(studies=[study("", f"2.25.{i}", patient_id="PHANTOM", patient_name="PHANTOM^QC") for i in range(1, n + 1)])
    bench = bench_of(dept, tmp_path)
    bench.code.value, bench.action.value = "U15", "bulk"
    bench.inputs["rule"].index, bench.reason.value, bench.inputs["count"].value = 1, "TEST", f"{n}"
    told = []
    bench.message.observe(lambda change: told.append(change["new"]), "value")
    bench.record.click()
    assert "Saved 101 of 101" in bench.message.value and any("Recorded 100 of 101" in words for words in told)
    assert bench.decisions["target"].tolist() == sorted(bench.all_findings.loc[bench.all_findings["code"] == "U15", "finding_id"])
    assert bench.now.reviewed == tuple(bench.decisions["finding_id"]) and set(bench.findings["code"]) == set()


def test_of_a_rule_somebody_elses_finding_is_left_out_and_told(tmp_path):
    dept = department(orders=[order(a) for a in ("R1", "R2")], studies=[study(a, u, patient_id="100231") for a, u in (("R1", "2.25.1"), ("R2", "2.25.2"))], reports=[report("R1"), report("R2")])
    bench = bench_of(dept, tmp_path)
    bench.action.value = "bulk"
    bench.inputs["rule"].value, bench.reason.value, bench.inputs["count"].value = "U05b patient ID gets the prefix TEST", "ID_FORMAT", "2"
    record_correction(bench.ledger, kind="dismiss", target=bench.bulk["finding_id"].iloc[0], finding_id=bench.bulk["finding_id"].iloc[0], reason="NO_ERROR", decided_by="Sam")
    bench.record.click()
    assert re.search("Saved 1 of 2, a record each. U05b-[0-9a-f]+: NOT saved. CONFLICT: Sam decided", bench.message.value)
    assert read_corrections(bench.ledger)["user"].tolist() == ["Sam", "Pat"]


def test_of_a_rule_that_cannot_be_saved_it_is_said_how_many_were(tmp_path):
    dept = department(studies=[study("", u, patient_id="PHANTOM", patient_name="PHANTOM^QC") for u in ("2.25.1", "2.25.2")])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U15"
    bench.action.value = "bulk"
    bench.inputs["rule"].index, bench.reason.value, bench.inputs["count"].value = 1, "TEST", "2"
    (tmp_path / "file").write_text("a file where a folder should be")
    bench.ledger, kept = tmp_path / "file" / "x.jsonl", bench.ledger
    bench.record.click()
    assert bench.message.value.count("NOT saved") == 1 and "Saved 0 of 2" in bench.message.value, "the first failure of this kind stops"
    bench.ledger = kept
    assert bench.decisions.empty and len(bench.findings) == 2


def test_of_a_rule_what_something_stands_against_is_left_for_one_by_one(tmp_path):
    """The third R3 is known under another birth date: the same prefix is missing, but it may be another person."""
    uids = {"R1": "2.25.1", "R2": "2.25.2", "R3": "2.25.3"}
    dept = department(orders=[order(a) for a in uids], studies=[study(a, u, patient_id="100231") for a, u in uids.items()], reports=[report(a) for a in uids])
    dept.studies.loc[dept.studies["accession_number"] == "R3", "patient_birth_date"] = "19480321"
    bench = bench_of(dept, tmp_path)
    bench.action.value = "bulk"
    bench.inputs["rule"].value = "U05b patient ID gets the prefix TEST"
    assert sorted(bench.bulk["target"]) == ["2.25.1", "2.25.2"] and "Left out are 1 that something stands against" in bench.plan.value


@pytest.mark.parametrize("name", ["", " ", "your name"])
def test_nobody_decides_without_a_name(typo, tmp_path, name):
    bench = bench_of(typo, tmp_path, decided_by=name)
    decide(bench, "ignore")
    assert bench.decisions.empty
    assert "put your own name in decided_by" in bench_of(typo, tmp_path, decided_by=name).message.value


def test_a_ledger_broken_meanwhile_is_told_on_the_bench(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    decide(bench, "ignore")
    bench.ledger.write_bytes(bench.ledger.read_bytes().replace(b"Pat", b"Sam"))
    bench.next.click()
    assert "LOG_CHAIN_BROKEN: line 1" in bench.message.value
    bench.undo.click()
    assert "NOT saved" in bench.message.value


def test_a_ledger_that_cannot_be_written_leaves_the_finding_and_says_so(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    (tmp_path / "file").write_text("a file where a folder should be")
    bench.ledger = tmp_path / "file" / "x.jsonl"
    decide(bench, "ignore")
    assert "NOT saved" in bench.message.value and bench.finding["code"] == "U05a"


def test_markup_in_a_name_is_shown_not_run(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    dept = department(orders=[order(patient_name=evil)], studies=[study(patient_id="TEST100213", patient_name=evil, study_description=evil)], reports=[report(patient_name=evil)])
    bench = bench_of(dept, tmp_path)
    decide(bench, "patient_id", patient_id=evil)
    bench.undo.click()
    bench.action.value, bench.inputs["patient_id"].value = "patient_id", evil
    shown = bench.sides.value + bench.title.value + bench.plan.value + bench.message.value + bench._repr_mimebundle_()["text/html"]
    assert "<img" not in shown and "&lt;img" in bench.sides.value and "&lt;img" in bench.plan.value


def test_the_still_view_shows_the_queue_and_the_finding_without_a_kernel(typo, tmp_path):
    still = bench_of(typo, tmp_path)._repr_mimebundle_()
    assert "Run the notebook to use it" in still["text/html"] and "1 of 1 open" in still["text/plain"]
    assert "<th scope='col'" in still["text/html"] and "1. patient ID typo" in still["text/html"] and "≠ differs" in still["text/html"]


@pytest.mark.parametrize("is_broken", [True, False])
def test_on_a_ledger_that_is_broken_or_unreadable_nothing_can_be_decided_and_the_bench_says_so(typo, tmp_path, is_broken):
    ledger = tmp_path / "corrections.jsonl"
    if is_broken:
        record_correction(ledger, kind="dismiss", target="U01", reason="NO_ERROR", decided_by="Sam")
        ledger.write_bytes(ledger.read_bytes().replace(b"Sam", b"Pat"))
    else:
        ledger.mkdir()
    bench = bench_of(typo, tmp_path)
    assert "Nothing can be decided until the ledger is whole" in bench._repr_mimebundle_()["text/html"]
    for button in (bench.back, bench.next, bench.record, bench.undo, bench.redo):
        assert button.disabled
        button.click()
    for action in ("link", "bulk", "ignore"):
        bench.action.value = action
    bench.code.value = "U05a"
    assert bench.record.disabled and bench.finding is None and "LOG_" in bench.message.value


def test_a_rules_likely_reason_is_that_of_its_own_findings(tmp_path):
    """The finding on screen is a wrong patient; the rule is about phantoms."""
    phantoms = [study("", u, patient_id="PHANTOM", patient_name="PHANTOM^QC") for u in ("2.25.2", "2.25.3")]
    bench = bench_of(department(orders=[order(procedure_name="CT HEAD")], studies=[study(), *phantoms], reports=[report(procedure_name="CT HEAD")]), tmp_path)
    assert bench.finding["code"] == "U05e"
    bench.action.value = "bulk"
    assert bench.inputs["rule"].index == 0 and bench.reason.options[0] == ("", "")
    bench.inputs["rule"].value = "U15 test and service images: nothing to match"
    assert bench.reason.options[0] == ("choose; likely: TEST", "") and "PHANTOM^QC, PHANTOM" in bench.plan.value


def test_a_report_is_not_merged_with_studies(typo, tmp_path):
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")])
    bench = bench_of(dept, tmp_path)
    decide(bench, "merge", subject="VR1010", studies=("2.25.1",))
    assert bench.decisions.empty and "A report is no study" in bench.plan.value


def test_a_missing_number_was_not_typed_wrong(tmp_path):
    """No word of a likely reason: nobody knows why there is none."""
    bench = bench_of(department(orders=[order()], studies=[study("", study_instance_uid="2.25.1")]), tmp_path)
    bench.action.value = "link"
    bench.inputs["subject"].value, bench.inputs["accession"].value = "2.25.1", "R1001"
    assert bench.planned["old"] == "" and bench.reason.options[0] == ("choose", "") and ("", "") not in bench.reason.options


@pytest.mark.parametrize(("action", "subject", "old", "there"), [
    ("link", "V1\nR2", "R2", ["R1", "R9"]), ("unlink", "V1\nR2", "R2", ["R1", ""]), ("link", "V1", "R1 R2", ["R9"]), ("unlink", "V1", "R1 R2", ["", ""]),
    ("patient_id", "V1", "TEST100231", ["R1", "R2"]),
])
def test_a_report_of_several_exams_moves_whole_or_one_exam_alone_and_says_how_many(tmp_path, action, subject, old, there):
    """One message reports R1 and R2; the images of R2 are not there. R2 alone is what the finding is about."""
    both = [report(number, message_control_id="V1", procedure_name=name) for number, name in (("R1", "CT HEAD"), ("R2", "CT PELVIS"))]
    dept = department(orders=[order("R1"), order("R2"), order("R9", **OTHER)], studies=[study("R1")], reports=both)
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U03"
    assert bench.finding["accession_number"] == "R2" and "CT PELVIS" in bench.sides.value and "CT HEAD" not in bench.sides.value
    assert bench.inputs["subject"].value == "V1\nR2", "what does not belong to the finding is touched only when a person says so"
    n = 1 if "\n" in subject else 2
    bench.action.value, bench.inputs["subject"].value = action, subject
    bench.inputs["patient_id"].value, bench.inputs["accession"].value = "TEST200777", "R9"
    assert f"The report is about 2 exams (R1, R2): this touches {n} of them, {'R2' if n == 1 else 'R1, R2'}." in bench.plan.value
    decide(bench, action)
    assert bench.decisions[["kind", "target", "old"]].iloc[0].tolist() == [action, "V1", old]
    fixed = apply_corrections(dept, bench.ledger).reports
    assert find_stale(dept, bench.ledger).empty and fixed["accession_number"].tolist() == there
    assert set(fixed["patient_id"]) == {"TEST200777" if action == "patient_id" else "TEST100231"}


def test_accepting_a_candidate_for_one_exam_of_a_report_leaves_the_others_where_they_are(tmp_path):
    both = [report("R1", message_control_id="V1"), report("R1010", message_control_id="V1", placer_order_number="P9")]
    dept = department(orders=[order("R1"), order()], reports=both,
                      studies=[study("R1"), study(uid="2.25.2", study_at="2025-11-12T09:00Z", started_at="2025-11-12T09:00Z", ended_at="2025-11-12T09:05Z")])
    bench = bench_of(dept, tmp_path)
    bench.code.value = next(code for _, code in bench.code.options if code in ("U03", "U06"))
    bench.choice.index = ["R1001" in row for row, _ in bench.choice.options].index(True)
    decide(bench, "accept")
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["link", "V1", "R1010", "R1001"]
    assert apply_corrections(dept, bench.ledger).reports["accession_number"].tolist() == ["R1", "R1001"]


def test_studies_merged_for_several_orders_are_no_new_finding(tmp_path):
    studies = [study(n, u, requested_accession_numbers=n, requested_procedure_ids=n, started_at=f"2025-11-10T09:{at}Z", ended_at=f"2025-11-10T09:{at}Z", frame_of_reference_uids="2.25.9")
               for n, u, at in (("R1", "2.25.1", "00"), ("R2", "2.25.2", "05"))]
    dept = department(orders=[order("R1"), order("R2")], studies=studies, reports=[report(n, message_control_id="V1") for n in ("R1", "R2")])
    bench = bench_of(dept, tmp_path)
    assert bench.finding["code"] == "U08"
    before = set(bench.all_findings["finding_id"])
    decide(bench, "accept")
    assert bench.decisions["kind"].tolist() == ["merge"]
    after = find_mismatches(apply_corrections(dept, bench.ledger), as_of=NOW, site=SITE)
    assert set(after["finding_id"]) <= before - {bench.decisions["finding_id"].iloc[0]}
    bench.undo.click()
    assert set(find_mismatches(apply_corrections(dept, bench.ledger), as_of=NOW, site=SITE)["finding_id"]) == before


def test_a_merge_says_from_which_number_each_study_comes_and_what_stands_against_it(tmp_path):
    studies = [study("", uid="2.25.111111"), study(uid="2.25.222222"), study("R2", uid="2.25.333333")]
    bench = bench_of(department(orders=[order(), order("R2", procedure_name="CT HEAD")], studies=studies), tmp_path)
    assert bench.finding["code"] == "U07" and bench.finding["study_instance_uid"] == "2.25.333333"
    bench.action.value = "merge"
    bench.inputs["studies"].value, bench.inputs["accession"].value = ("2.25.111111", "2.25.222222"), "R1001"
    assert "all under R1001: …333333 from R2, …111111 from no accession, …222222 from R1001" in bench.plan.value
    assert f"! {bench.finding['finding_id']} stands on one of these studies, settle that first" in bench.plan.value
