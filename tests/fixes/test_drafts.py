"""Drafts say what was decided, to whom it is for, in a form that the other side reads back as meant."""

import csv
import json
import re
import stat

import hl7
import pytest

from pacs_helpers import Site, TableError, read_hl7_log
from pacs_helpers.fixes.corrections import record_correction, split_study_uid, undo_correction
from pacs_helpers.fixes.drafts import draft_corrections, write_drafts
from pacs_helpers.tables import DRAFTS, FINDINGS, conform

from ..small_department import OTHER, PERSON, SITE, department, order, person, report, study

FIELDS = ["OBR-18", "OBR-3", "ORC-3", "OBR-20", "OBR-2", "ORC-2", "IPC-1"]


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "corrections.jsonl"


def decide(ledger, **decision):
    return record_correction(ledger, decided_by="Pat", **{"kind": "link", "target": "2.25.1", "old": "R9", "new": "R1001", "reason": "WRONG_PICK", **decision})


def drafted(dept, ledger, system, site=SITE):
    drafts = draft_corrections(dept, ledger, site=site)
    return drafts[drafts["system"] == system].to_dict("records")


def read_back(dept, ledger, folder, site=SITE):
    """What our own reader makes of the HL7 drafts, in their order."""
    paths = [p for p in write_drafts(draft_corrections(dept, ledger, site=site), folder) if p.suffix == ".hl7"]
    return read_hl7_log(paths, site=site).messages


def test_a_confirmed_merge_is_an_a40_that_reads_back_as_both_ids(ledger, tmp_path):
    dept = department(orders=[order()], studies=[study(patient_id="UNK_1", patient_name="DOE^JANE", issuer_of_patient_id="GH")])
    decide(ledger, kind="patient_id", old="UNK_1", new="TEST100231", reason="IDENTITY_CONFIRMED")
    (row,) = read_back(dept, ledger, tmp_path / "drafts").to_dict("records")
    assert (row["message_type"], row["trigger_event"], row["patient_id"], row["prior_patient_id"], row["issuer_of_patient_id"]) == ("ADT", "A40", "TEST100231", "UNK_1", "GH")
    assert (row["patient_name"], row["patient_birth_date"], row["patient_sex"], row["problems"]) == ("ASH^ROWAN", "19480312", "F", "")


def test_an_id_typed_wrong_is_never_merged_because_it_may_be_somebody_elses(ledger):
    dept = department(orders=[order()], studies=[study(patient_id="TEST200777")], patients=[person(**OTHER)])
    decide(ledger, kind="patient_id", old="TEST200777", new="TEST100231", reason="TYPED_WRONG")
    assert drafted(dept, ledger, "hl7") == [], "name, birth date and sex agree already"


def test_demographics_that_differ_are_an_a08_with_the_prefix_where_xpn_has_it(ledger, tmp_path):
    dept = department(orders=[order(patient_name="ASH^ROWAN^^DR^JR")], studies=[study(patient_id="TEST100213", patient_birth_date="19480321")])
    decide(ledger, kind="patient_id", old="TEST100213", new="TEST100231", reason="TYPED_WRONG")
    (draft,) = drafted(dept, ledger, "hl7")
    message = hl7.parse(draft["text"])
    assert (str(message["MSH"][0][11]), str(message["PID"][0][5]), "MSH-11 is T" in draft["title"]) == ("T", "ASH^ROWAN^^JR^DR", True)
    (row,) = read_back(dept, ledger, tmp_path / "drafts").to_dict("records")
    assert (row["trigger_event"], row["patient_name"], row["patient_birth_date"]) == ("A08", "ASH^ROWAN^^DR^JR", "19480312")


@pytest.mark.parametrize("field", FIELDS)
def test_an_order_carries_number_and_study_where_this_site_has_them(ledger, tmp_path, field):
    site = Site(time_zone="America/Chicago", hl7_field=field)
    decide(ledger)
    (row,) = read_back(department(orders=[order()], studies=[study("R9")]), ledger, tmp_path / "drafts", site).to_dict("records")
    number, kind = row[field.lower().replace("-", "_")], "OMI" if field == "IPC-1" else "ORM"
    assert (row["message_type"], row["order_control"], number, row["study_instance_uid"], row["patient_id"], row["modality"]) == (kind, "XO", "R1001", "2.25.1", "TEST100231", "CT")
    assert row["order_status"] == "CM" and row["problems"] == ""


def test_an_order_that_nobody_sent_is_drafted_as_new_from_the_images_for_the_ris(ledger, tmp_path):
    decide(ledger)
    dept = department(studies=[study("R9", study_description="CT CHEST")])
    (row,) = read_back(dept, ledger, tmp_path / "drafts").to_dict("records")
    assert (row["order_control"], row["obr_18"], row["procedure_name"], row["placer_order_number"]) == ("NW", "R1001", "CT CHEST", "")
    assert any(d["title"].startswith("RIS: ") and "place its order" in d["text"] for d in drafted(dept, ledger, "work_order"))


def test_an_order_spelled_another_way_is_changed_and_not_placed_again(ledger, tmp_path):
    site = Site(time_zone="UTC", strip_prefixes=("NS-",), hl7_field="OBR-18")
    decide(ledger, new="1001")
    rows = read_back(department(orders=[order("NS-01001")], studies=[study("R9")]), ledger, tmp_path / "drafts", site)
    assert rows[["order_control", "obr_18"]].values.tolist() == [["XO", "NS-01001"]]


def test_a_split_ties_the_order_to_the_study_its_series_form(ledger, tmp_path):
    series = [{"study_instance_uid": "2.25.1", "series_instance_uid": f"2.25.1.{n}", "modality": "CT", "n_instances": 1} for n in (1, 2)]
    decide(ledger, kind="split", series="2.25.1.2", old="R1001", new="R1002", reason="TWO_EXAMS")
    (row,) = read_back(department(orders=[order("R1002")], studies=[study()], series=series), ledger, tmp_path / "drafts").to_dict("records")
    assert (row["obr_18"], row["study_instance_uid"]) == ("R1002", split_study_uid("2.25.1", "2.25.1.2"))


def test_a_report_is_withdrawn_where_it_was_and_drafted_where_it_belongs_without_its_text(ledger, tmp_path):
    decide(ledger, target="V1 V2", reason="REPORT_MISFILED")
    uid = "1.2.840.99999.1.2.3"
    dept = department(orders=[order()], studies=[study(uid=uid)], reports=[report("R9", message_control_id="V1", result_status="P"), report("R9", message_control_id="V2")])
    withdrawn, placed = read_back(dept, ledger, tmp_path / "drafts").to_dict("records")
    assert (withdrawn["obr_18"], withdrawn["result_status"], placed["obr_18"], placed["result_status"], placed["study_instance_uid"]) == ("R9", "C", "R1001", "F", uid)
    one, other = (hl7.parse(d["text"]) for d in drafted(dept, ledger, "hl7"))
    assert str(one["OBX"][0][11]) == "W" and str(one["OBX"][0][5]) == ""
    assert [str(segment[2]) for segment in other["OBX"]] == ["HD"], "the Study UID alone: the text is not kept"
    assert "V1 V2" in str(other["NTE"][0][3])


def test_a_message_about_several_exams_is_withdrawn_and_placed_for_each_of_them(ledger, tmp_path):
    decide(ledger, kind="patient_id", target="V1", old="TEST200777", new="TEST100231", reason="REPORT_MISFILED")
    both = [report(number, message_control_id="V1", study_instance_uid=uid, **OTHER) for number, uid in (("R1001", "1.2.840.99999.1.2.3"), ("R1002", "1.2.840.99999.1.2.4"))]
    rows = read_back(department(orders=[order(), order("R1002")], reports=both), ledger, tmp_path / "drafts")
    assert rows[["obr_18", "patient_id", "result_status", "study_instance_uid"]].values.tolist() == [
        ["R1001", "TEST200777", "C", ""], ["R1001", "TEST100231", "F", "1.2.840.99999.1.2.3"], ["R1002", "TEST200777", "C", ""], ["R1002", "TEST100231", "F", "1.2.840.99999.1.2.4"]]
    assert rows["message_control_id"].nunique() == 4
    assert not any("stay" in d["warning"] for d in drafted(department(orders=[order()], reports=both), ledger, "hl7"))


def test_a_message_of_which_one_exam_moves_names_those_that_stay(ledger, tmp_path):
    decide(ledger, target="V1", old="R9", new="R1001", reason="REPORT_MISFILED")
    dept = department(orders=[order()], reports=[report("R9", message_control_id="V1"), report("R1002", message_control_id="V1"), report("R1003", message_control_id="V1")])
    assert read_back(dept, ledger, tmp_path / "drafts")["obr_18"].tolist() == ["R9", "R1001"]
    assert ["which stay where they are: R1002, R1003" in d["warning"] for d in drafted(dept, ledger, "hl7")] == [True, True]
    joined = department(orders=[order()], reports=[report("R9", message_control_id="V1"), report("R1001", message_control_id="V1")])
    assert [hl7.parse(d["text"])["OBR"][0][18][0] for d in drafted(joined, ledger, "hl7")] == ["R9", "R1001"]
    assert [str(hl7.parse(d["text"])["OBR"][0][25]) for d in drafted(joined, ledger, "hl7")] == ["C", "F"], "what stood there already is not withdrawn"


def test_a_report_taken_off_an_exam_is_only_withdrawn(ledger, tmp_path):
    decide(ledger, kind="unlink", target="V1", old="R1001", new="", reason="REPORT_MISFILED")
    rows = read_back(department(studies=[study()], reports=[report(message_control_id="V1")]), ledger, tmp_path / "drafts")
    assert rows["obr_18"].tolist() == ["R1001"]


def test_delimiters_and_line_ends_in_values_cannot_become_fields_or_segments(ledger, tmp_path):
    nasty = "A|B^C&D~E\\F\nPID|1||EVIL"
    decide(ledger)
    dept = department(orders=[order(procedure_name=nasty, placer_order_number="P|1", patient_name="O|BRIEN&SON^RO~WAN")], studies=[study("R9")])
    (draft,) = drafted(dept, ledger, "hl7")
    assert [line[:3] for line in draft["text"].splitlines()] == ["MSH", "PID", "PV1", "ORC", "OBR", "ZDS"]
    rows = read_back(dept, ledger, tmp_path / "drafts")
    assert (rows["procedure_name"][0], rows["placer_order_number"][0], rows["patient_name"][0], rows["patient_id"].tolist()) == (nasty, "P|1", "O|BRIEN&SON^RO~WAN", ["TEST100231"])


def test_drafts_of_the_same_ledger_are_the_same_bytes(ledger):
    decide(ledger)
    dept = department(orders=[order()], studies=[study("R9")])
    assert draft_corrections(dept, ledger, site=SITE).equals(draft_corrections(dept, ledger, site=SITE))


def test_what_the_rehearsal_finds_stands_on_every_draft_and_closes_the_scripts(ledger, tmp_path):
    decide(ledger)
    dept = department(orders=[order(**OTHER, order_status="SC")], studies=[study("R9", n_series=1)], series=[{"study_instance_uid": "2.25.1", "series_instance_uid": "2.25.1.1", "n_instances": 3}])
    drafts = draft_corrections(dept, ledger, site=SITE)
    assert drafts["warning"].str.contains("another patient ID").all() and len(drafts) == 5
    scripts = [p.read_text() for p in write_drafts(drafts, tmp_path / "drafts") if p.suffix == ".sh"]
    assert len(scripts) == 3 and all("LOOKED_TWICE" in s.partition("curl")[0] for s in scripts)


def test_a_stale_decision_has_a_work_order_only(ledger):
    decide(ledger)
    assert draft_corrections(department(orders=[order()], studies=[study("R8")]), ledger, site=SITE)[["system", "title"]].values.tolist() == [
        ["work_order", "PACS administrator: look again at a decision"]]


@pytest.mark.parametrize(("kind", "old", "new", "back"), [("link", "R9", "R1001", ("R1001", "R9")), ("unlink", "R9", "", ("", "R9")), ("link", "", "R1001", ("R1001", "")),
                                                          ("patient_id", "TEST200777", "TEST100231", ("TEST100231", "TEST200777"))])
@pytest.mark.parametrize("is_done", [True, False])
def test_of_an_undone_decision_the_way_back_is_drafted_whether_or_not_the_traces_show_it_done(ledger, kind, old, new, back, is_done):
    record = decide(ledger, kind=kind, old=old, new=new)
    undo = undo_correction(ledger, record["id"], decided_by="Sam")
    column = "patient_id" if kind == "patient_id" else "accession_number"
    dept = department(orders=[order(), order("R9")], patients=[person(**OTHER)], studies=[study(**{"accession_number": "R9", column: new if is_done else old})],
                      series=[{"study_instance_uid": "2.25.1", "series_instance_uid": "2.25.11", "modality": "CT", "n_instances": 3}])
    drafts = draft_corrections(dept, ledger, site=SITE)
    assert drafts["warning"].str.contains(f"needed only if correction {record['id'][:8]}, which was taken back, has been carried out").all()
    first, texts = drafts.iloc[0], drafts.set_index("system")["text"]
    assert (first["system"], first["title"]) == ("work_order", "PACS administrator: a decision was taken back") and "Decided by Sam" in first["text"]
    assert f"{old or '(none)'} back on 2.25.1, where it now is {new or '(none)'}" in first["text"]
    tag = "0010,0020" if kind == "patient_id" else "0008,0050"
    assert f"-i '({tag})={back[1]}'" in texts["dcmodify"] and re.search(rf"value {tag} .* = {back[0] or chr(39) * 2} \]", texts["dcmodify"])
    assert json.loads(texts["orthanc"])["calls"]
    undo_correction(ledger, undo["id"], decided_by="Sam")
    assert not draft_corrections(dept, ledger, site=SITE)["title"].str.contains("taken back").any(), "it stands again"


def test_of_an_undone_merge_or_split_a_work_order_says_what_to_restore(ledger):
    dept = department(orders=[order()], studies=[study(), study("R2", "2.25.2")])
    for decision, words in (({"kind": "merge", "target": "2.25.1 2.25.2", "old": "R1001 R2", "new": "R1001"}, "take study 2.25.1 apart again: bring back 2.25.2 under their own numbers (R1001 R2)"),
                            ({"kind": "split", "series": "2.25.1.2", "old": "R1001", "new": "R2"}, "put series 2.25.1.2 back into study 2.25.1, accession R1001")):
        own = ledger.with_name(f"{decision['kind']}.jsonl")
        undo_correction(own, decide(own, **decision)["id"], decided_by="Sam")
        (row,) = draft_corrections(dept, own, site=SITE).to_dict("records")
        assert row["system"] == "work_order" and words in row["text"]


def test_what_was_decided_on_again_has_no_way_back(ledger):
    undo_correction(ledger, decide(ledger)["id"], decided_by="Pat")
    decide(ledger, new="R1002")
    dept = department(orders=[order(), order("R1002")], studies=[study("R9")])
    assert not draft_corrections(dept, ledger, site=SITE)["title"].str.contains("taken back").any()


def test_what_another_desk_must_do_names_evidence_and_desk(ledger):
    decide(ledger, kind="dismiss", target="U18-abc", finding_id="U18-abc", old="", new="", reason="NOT_HERE", evidence="The report was refused (AE).", text="Seen twice")
    found = conform([{"finding_id": "U18-abc", "code": "U18", "owner": "interface team"}], FINDINGS)
    (row,) = draft_corrections(department(studies=[study()]), ledger, site=SITE, findings=found).to_dict("records")
    assert row["title"].startswith("interface team: ") and "The report was refused (AE)" in row["text"] and "Seen twice" in row["text"] and "decided by pat" in row["text"].lower()


@pytest.mark.parametrize("owner", ["radiologist", "PACS administrator", "scheduling"])
def test_what_is_passed_on_goes_to_the_desk_of_its_finding_whatever_its_code(ledger, owner):
    decide(ledger, kind="dismiss", target="U05e-1", finding_id="U05e-1", old="", new="", reason="NOT_HERE")
    found = conform([{"finding_id": "U05e-1", "code": "U05e", "owner": owner}], FINDINGS)
    (row,) = draft_corrections(department(studies=[study()]), ledger, site=SITE, findings=found).to_dict("records")
    assert (row["title"], row["warning"]) == (f"{owner}: a finding for your desk", "")


def test_no_desk_is_told_that_a_finding_is_its_own_where_nobody_knows(ledger):
    decide(ledger, kind="dismiss", target="U05e-1", finding_id="U05e-1", old="", new="", reason="NOT_HERE")
    nobodys = conform([{"finding_id": "U05e-1", "code": "U05e", "owner": "nobody"}], FINDINGS)
    for found in (None, conform([], FINDINGS), nobodys):
        (row,) = draft_corrections(department(studies=[study()]), ledger, site=SITE, findings=found).to_dict("records")
        assert row["title"].startswith("desk unknown: ") and "belongs to you" not in row["text"] and "findings=" in row["warning"]


def test_a_work_order_names_exam_study_station_and_local_time_and_nothing_only_the_workbook_understands(ledger):
    decide(ledger, kind="dismiss", target="U05e-1", finding_id="U05e-1", old="", new="", reason="NOT_HERE", evidence="It is a knee. [shown ebdc27d5b8fcf964]")
    found = conform([{"finding_id": "U05e-1", "code": "U05e", "owner": "technologist", "study_instance_uid": "2.25.1", "message_control_id": "V1", "accession_number": "R1001"}], FINDINGS)
    dept = department(studies=[study("")], reports=[report(message_control_id="V1")])
    (row,) = draft_corrections(dept, ledger, site=Site(time_zone="America/New_York"), findings=found).to_dict("records")
    assert "about study 2.25.1, accession (none), station CT1_DEMO, 2025-11-10 04:00; report V1, accession R1001, 2025-11-10 04:00." in row["text"]
    assert "What we saw: It is a knee. Decided" in row["text"] and "shown" not in row["text"]
    own = ledger.with_name("own.jsonl")
    decide(own, evidence="Seen [shown 00ff]")
    for row in drafted(department(orders=[order()], studies=[study("R9")]), own, "work_order"):
        assert "study 2.25.1, accession R9, station CT1_DEMO, 2025-11-10 09:00." in row["text"] and "shown" not in row["text"]


def test_the_ris_is_not_asked_to_set_performed_what_is_completed(ledger):
    decide(ledger)
    for status, asked in (("CM", []), ("SC", [True])):
        rows = drafted(department(orders=[order(order_status=status)], studies=[study("R9")]), ledger, "work_order")
        assert ["set it to performed" in d["text"] for d in rows if d["title"].startswith("RIS")] == asked


def test_orders_that_a_merge_leaves_over_are_for_the_ris_to_cancel_not_for_a_message(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001 R1002", new="R1001", reason="SPLIT_BY_DEVICE")
    dept = department(orders=[order(), order("R1002")], studies=[study(), study("R1002", "2.25.2")])
    assert ["cancel or link" in d["text"] and "R1002" in d["text"] for d in drafted(dept, ledger, "work_order")] == [True, False]
    assert [hl7.parse(d["text"])["ORC"][0][1][0] for d in drafted(dept, ledger, "hl7")] == ["XO"]


def test_what_would_not_be_safe_in_an_archive_is_not_drafted_and_says_why(ledger):
    decide(ledger, kind="merge", target="2.25.1 2.25.2", old="R1001", new="R1001", reason="SPLIT_BY_DEVICE")
    (row,) = drafted(department(orders=[order()], studies=[study(), study(uid="2.25.2", **OTHER)]), ledger, "orthanc")
    assert row["text"] == "" and "correct the ID first" in row["warning"]
    other = ledger.with_name("other.jsonl")
    decide(other, kind="patient_id", old="X", new="TEST100231", reason="TYPED_WRONG")
    dept = department(orders=[order(patient_name="MÜLLER^JÜRGEN")], studies=[study(patient_id="X", n_instances=None)])
    (row,) = drafted(dept, other, "dcmodify")
    assert row["text"] == "" and "beyond ASCII" in row["warning"]
    (row,) = drafted(dept, other, "orthanc")
    assert row["text"] == "" and "number of images is not known" in row["warning"]


def test_no_orthanc_call_deletes_its_source_or_comes_before_the_counts(ledger):
    series = [{"study_instance_uid": u, "series_instance_uid": f"{u}.{n}", "n_instances": 1} for u in ("2.25.1", "2.25.2") for n in (1, 2)]
    dept = department(orders=[order(), order("R1003")], studies=[study("R1001", n_instances=2), study("R1001", "2.25.2", n_instances=2)], series=series)
    for n, decision in enumerate(({"kind": "patient_id", "old": "TEST100231", "new": "TEST200777"}, {"old": "R1001", "new": "R1003"}, {"kind": "unlink", "old": "R1001", "new": ""},
                                  {"kind": "split", "series": "2.25.1.2", "old": "R1001", "new": "R1003"}, {"kind": "merge", "target": "2.25.1 2.25.2", "old": "R1001"},
                                  {"kind": "merge_series", "series": "2.25.1.2", "old": "", "new": "2.25.2"})):
        own = ledger.with_name(f"{n}.jsonl")
        decide(own, **decision)
        (row,) = drafted(dept, own, "orthanc")
        both = json.loads(row["text"])
        assert "DELETE" not in json.dumps(both["calls"]) and not re.search(r'"KeepSource": *false', row["text"]) and "/studies/" in row["text"]
        assert not any(c["path"].endswith("/modify") and "/studies/" in c["path"] for c in both["calls"] if "path" in c)
        methods = [c["method"] for c in both["then_delete"]]
        first = methods.index("DELETE")
        assert first >= 2 and set(methods[:first]) == {"GET"} and all("CountInstances" in c["expect"] for c in both["then_delete"][:first])
        assert both["calls"][-1].get("expect") and both["calls"][0]["method"] == "GET"


def test_files_are_the_owners_alone_in_a_new_folder_and_spreadsheet_cells_are_no_formulas(ledger, tmp_path):
    decide(ledger, kind="dismiss", target="U18-abc", finding_id="=HYPERLINK(1)", old="", new="", reason="NOT_HERE", text="see\r\nbelow")
    drafts = draft_corrections(department(studies=[study()]), ledger, site=SITE)
    paths = write_drafts(drafts, tmp_path / "a" / "drafts")
    assert {stat.S_IMODE(p.stat().st_mode) for p in paths} == {0o600} and stat.S_IMODE((tmp_path / "a" / "drafts").stat().st_mode) == 0o700
    assert sorted(p.name for p in paths) == sorted(p.name for p in (tmp_path / "a" / "drafts").iterdir()) == ["index.txt", "work_orders.csv"]
    with open(tmp_path / "a" / "drafts" / "work_orders.csv", newline="", encoding="utf-8") as sheet:
        head, row = csv.reader(sheet)
    assert dict(zip(head, row))["finding_id"] == "'=HYPERLINK(1)" and len((tmp_path / "a" / "drafts" / "index.txt").read_text().splitlines()) == 1
    with pytest.raises(TableError, match="folder: name one that is new or empty"):
        write_drafts(drafts, tmp_path / "a" / "drafts")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(TableError, match="folder"):
        write_drafts(drafts, tmp_path / "link")


def test_a_folder_that_cannot_be_made_is_the_callers_to_choose_again(tmp_path):
    (tmp_path / "file").write_text("")
    nothing = conform([], DRAFTS)
    for folder in (tmp_path / "file" / "drafts", tmp_path / ("x" * 300), "/proc/x"):
        with pytest.raises(TableError, match="folder: it cannot be made here .*; name a new folder where you may write"):
            write_drafts(nothing, folder)
    with pytest.raises(TableError, match="new or empty"):
        write_drafts(nothing, tmp_path / "file")


def test_a_value_with_a_line_end_cannot_leave_its_comment_in_a_script(ledger, tmp_path):
    decide(ledger, kind="patient_id", old=PERSON["patient_id"], new="X\ntouch pwned", reason="TYPED_WRONG")
    scripts = [p.read_text() for p in write_drafts(draft_corrections(department(studies=[study()]), ledger, site=SITE), tmp_path / "drafts") if p.suffix == ".sh"]
    assert len(scripts) == 3 and all("touch pwned" not in line[:13] for s in scripts for line in s.partition("set -eu")[0].splitlines())
