import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.fixes.corrections import apply_corrections, record_correction
from pacs_helpers.views.widgets import ExamCaseFile, FixBench

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
    record_correction(bench.ledger, kind="dismiss", target=target, reason="r", decided_by="Sam")
    bench.reject.click()
    assert "NOT saved. CONFLICT: Sam decided on this at" in bench.message.value and len(bench.decisions) == 1


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
    shown = bench.sides.value + bench.title.value + bench._repr_mimebundle_()["text/html"]
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
