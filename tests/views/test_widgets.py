import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.applied import apply_corrections
from pacs_helpers.fixes.corrections import record_correction
from pacs_helpers.site import Site
from pacs_helpers.views.widgets import ExamCaseFile, FixBench, match_decision

from ..small_department import NOW, OTHER, SITE, department, order, report, study


def bench_of(dept, tmp_path, **more):
    findings = find_mismatches(dept, as_of=NOW, site=SITE)
    return FixBench(findings, dept, ledger=tmp_path / "corrections.jsonl", decided_by="Pat", site=SITE, **more)


@pytest.fixture
def typo():
    return department(orders=[order()], studies=[study(patient_id="TEST100213")], reports=[report()])


def test_nothing_is_chosen_until_a_person_chooses(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    assert bench.choice.index is None and bench.accept.disabled and bench.undo.disabled
    assert bench.progress.value == "1 of 1 open; 0 decided"


def test_both_sides_are_compared_field_by_field_in_words(typo, tmp_path):
    sides = bench_of(typo, tmp_path).sides.value
    assert sides.count(">differs<") == 1 and "<mark" in sides and ">same<" in sides


def test_accepting_by_click_mends_the_id_and_the_findings_shrink(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.choice.index = 0
    bench.accept.click()
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["patient_id", "2.25.1", "TEST100213", "TEST100231"]
    assert bench.finding is None and "Saved" in bench.message.value
    assert find_mismatches(apply_corrections(typo, bench.ledger), as_of=NOW, site=SITE).empty


def test_undo_by_click_brings_the_finding_back(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.reject.click()
    assert bench.finding is None
    bench.undo.click()
    assert bench.finding["code"] == "U05a" and bench.decisions.empty and bench.undo.disabled


def test_a_typed_patient_id_is_recorded_and_an_unchanged_one_is_not(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.patient_id.value = "TEST100213"
    bench.save_id.click()
    assert bench.decisions.empty and "nothing to record" in bench.message.value
    bench.patient_id.value = " TEST100231 "
    bench.save_id.click()
    assert bench.decisions["new"].tolist() == ["TEST100231"]


def test_a_typed_wrong_report_is_linked_to_the_chosen_study(tmp_path):
    dept = department(orders=[order()], studies=[study()], reports=[report("R1010", placer_order_number="P9")])
    bench = bench_of(dept, tmp_path)
    bench.choice.index = 0
    bench.accept.click()
    assert bench.decisions[["kind", "target", "old", "new"]].iloc[0].tolist() == ["link", "VR1010", "R1010", "R1001"]
    assert find_mismatches(apply_corrections(dept, bench.ledger), as_of=NOW, site=SITE).empty


def test_desk_and_kind_choose_what_is_on_the_bench(tmp_path):
    dept = department(orders=[order(), order("R2", order_status="SC", **OTHER)], studies=[study(patient_id="TEST100213")], reports=[report()])
    bench = bench_of(dept, tmp_path)
    assert len(bench.findings) == 2
    bench.owner.value = "scheduling"
    assert bench.findings["code"].tolist() == ["U04"]
    bench.owner.value, bench.code.value = "all", "U05a"
    assert bench.finding["code"] == "U05a"


def test_next_and_previous_step_through_and_stop_at_the_ends(tmp_path):
    dept = department(orders=[order("R1"), order("R2")])
    bench = bench_of(dept, tmp_path)
    first = bench.finding["finding_id"]
    bench.next.click()
    assert bench.finding["finding_id"] != first and bench.next.disabled
    bench.back.click()
    assert bench.finding["finding_id"] == first and bench.back.disabled


def test_what_one_bench_decided_is_off_the_other(typo, tmp_path):
    one, two = bench_of(typo, tmp_path), bench_of(typo, tmp_path)
    one.reject.click()
    two.step(0)
    assert two.finding is None and two.progress.value == "none open; 1 decided"


def test_a_decision_on_a_target_that_somebody_decided_meanwhile_is_a_conflict(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    target = bench.finding["finding_id"]
    record_correction(bench.ledger, kind="dismiss", target=target, reason="TYPED_WRONG", decided_by="Sam")
    bench.reject.click()
    assert "NOT saved. CONFLICT: Sam decided on this at" in bench.message.value and len(bench.decisions) == 1


def benches_of_two(tmp_path):
    """Ann's and Sam's bench on the same two findings and the same ledger."""
    dept = department(orders=[order("R1"), order("R2")])
    findings = find_mismatches(dept, as_of=NOW, site=SITE)
    return [FixBench(findings, dept, ledger=tmp_path / "corrections.jsonl", decided_by=name, site=SITE) for name in ("Ann", "Sam")]


def test_a_bench_decides_on_the_finding_it_shows_never_on_the_next(tmp_path):
    """Sam's bench still shows what Ann has decided: his click must not fall on the finding that moved up."""
    ann, sam = benches_of_two(tmp_path)
    shown = ann.finding["finding_id"]
    ann.reject.click()
    sam.note.value = "called the ward"
    sam.reject.click()
    assert "CONFLICT: Ann decided on this" in sam.message.value and sam.note.value == "called the ward"
    assert sam.decisions["finding_id"].tolist() == [shown] and sam.finding["finding_id"] != shown


def test_two_kinds_of_decision_on_one_finding_are_a_conflict(typo, tmp_path):
    one, two = bench_of(typo, tmp_path), bench_of(typo, tmp_path)
    for bench in (one, two):
        bench.choice.index = 0
    one.accept.click()
    two.reject.click()
    assert "CONFLICT" in two.message.value and two.decisions["kind"].tolist() == ["patient_id"]


def test_undo_takes_back_ones_own_last_decision_and_shows_that_finding(tmp_path):
    ann, sam = benches_of_two(tmp_path)
    first = ann.finding["finding_id"]
    ann.reject.click()
    sam.step(0)
    sam.reject.click()
    ann.undo.click()
    assert ann.decisions["user"].tolist() == ["Sam"] and ann.finding["finding_id"] == first
    ann.undo.click()
    assert "Nothing of yours" in ann.message.value and ann.decisions["user"].tolist() == ["Sam"]


def test_the_bench_says_what_accept_would_record_before_it_is_pressed(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    assert "choose a candidate" in bench.plan.value
    bench.choice.index = 0
    assert "TEST100213 becomes TEST100231" in bench.plan.value and "gives the images the ID below, now TEST100213" in bench.plan.value


def test_a_report_under_a_look_alike_is_mended_not_the_images(tmp_path):
    """The images are right: neither button may give them the report's patient ID."""
    dept = department(orders=[order(), order("R2", **OTHER)], studies=[study()], reports=[report(**OTHER)])
    bench = bench_of(dept, tmp_path)
    bench.code.value = "U05e"
    assert bench.patient_id.value == "TEST100231" and "gives the report the ID below, now TEST200777" in bench.plan.value
    bench.save_id.click()
    assert bench.decisions[["target", "old", "new"]].iloc[0].tolist() == ["VR1001", "TEST200777", "TEST100231"]
    fixed = apply_corrections(dept, bench.ledger)
    assert fixed.studies["patient_id"].tolist() == ["TEST100231"] and fixed.reports["patient_name"].tolist() == ["ASH^ROWAN"]


def test_accepting_the_same_number_in_another_spelling_links_nothing(tmp_path):
    finding = {"finding_id": "U06-1", "code": "U06", "study_instance_uid": "2.25.1", "message_control_id": "", "accession_number": "R1001"}
    chosen = {"candidate_accession_number": "00R1001", "candidate_study_instance_uid": "2.25.1"}
    site = Site(time_zone="UTC", strip_prefixes=("00",))
    assert match_decision(finding, chosen, department(studies=[study()]), site)["kind"] == "dismiss"


def test_of_two_studies_under_one_number_the_candidates_own_is_moved(tmp_path):
    finding = {"finding_id": "U06-1", "code": "U06", "study_instance_uid": "2.25.1 2.25.2", "message_control_id": "", "accession_number": "R1"}
    dept = department(studies=[study("R1"), study("R1", "2.25.2", **OTHER)])
    decision = match_decision(finding, {"candidate_accession_number": "R2", "candidate_study_instance_uid": "2.25.2"}, dept, SITE)
    assert (decision["target"], decision["old"], decision["new"]) == ("2.25.2", "R1", "R2")


def test_a_ledger_broken_meanwhile_is_told_on_the_bench(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    bench.reject.click()
    bench.ledger.write_bytes(bench.ledger.read_bytes().replace(b"Pat", b"Sam"))
    bench.next.click()
    assert "LOG_CHAIN_BROKEN: line 1" in bench.message.value
    bench.undo.click()
    assert "NOT saved" in bench.message.value


def test_a_ledger_that_cannot_be_written_leaves_the_finding_and_says_so(typo, tmp_path):
    bench = bench_of(typo, tmp_path)
    (tmp_path / "corrections.jsonl").mkdir()
    bench.ledger = tmp_path / "corrections.jsonl" / "inside" / "x.jsonl"
    (tmp_path / "corrections.jsonl" / "inside").write_text("a file where a folder should be")
    bench.reject.click()
    assert "NOT saved" in bench.message.value


def test_markup_in_a_name_is_shown_not_run(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    dept = department(orders=[order(patient_name=evil)], studies=[study(patient_id="TEST100213", patient_name=evil)], reports=[report(patient_name=evil)])
    bench = bench_of(dept, tmp_path)
    shown = bench.sides.value + bench.title.value + bench.plan.value + bench._repr_mimebundle_()["text/html"]
    assert "<img" not in shown and "&lt;img" in shown


def test_the_still_view_works_without_a_kernel(typo, tmp_path):
    still = bench_of(typo, tmp_path)._repr_mimebundle_()
    assert "Run the notebook to use it" in still["text/html"] and "1 of 1 open" in still["text/plain"]


def test_the_case_file_shows_an_exam_and_names_an_unknown_one():
    trace = [{"accession_number": "R1001", "at": "2025-11-10T08:00Z", "lane": "order", "what": "new order"}]
    events = [{"accession_number": "R1001", "milestone": m, "at": t, "source": "hl7", "source_field": "x", "rank": 1}
              for m, t in (("ordered", "2025-11-10T08:00Z"), ("exam_ended", "2025-11-10T09:10Z"), ("final", "2025-11-10T11:00Z"))]
    case = ExamCaseFile(department(orders=[order()], studies=[study()], reports=[report()], events=events, trace=trace), site=SITE)
    case.box_text.value = "R1001"
    assert case.accession_number == "R1001" and case.image.value[:8] == b"\x89PNG\r\n\x1a\n" and case.image.layout.display == "block"
    case.box_text.value = "R1002"
    case.show.click()
    assert "R1001" in case.message.value and case.image.layout.display == "none"
