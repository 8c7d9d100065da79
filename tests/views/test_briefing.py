import base64
import re

import pandas as pd
import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.site import Site
from pacs_helpers.tables import ASSOCIATIONS, FINDINGS, OPERATIONS, TableError, conform
from pacs_helpers.views.briefing import _share, _to_hide, write_briefing

from ..small_department import PERSON, department, order, study

SITE = Site(time_zone="UTC", name="Test <Hospital>", targets={"exam_ended>final": {"minutes": 120, "share": 0.95}})
START, END = pd.Timestamp("2025-11-01T00:00Z"), pd.Timestamp("2025-12-01T00:00Z")


def events_of(modality, n, minutes, first=0):
    """n exams of a modality, one an hour, each final `minutes` after its end; None leaves it open."""
    rows = []
    for i in range(first, first + n):
        end = START + pd.Timedelta(hours=6 + i % 600)
        base = {"accession_number": f"{modality}{i}", "source": "hl7", "modality": modality, "rank": 1}
        rows.append({**base, "milestone": "exam_ended", "at": end, "source_field": "ORC-5=CM"})
        if minutes is not None:
            rows.append({**base, "milestone": "final", "at": end + pd.Timedelta(minutes=minutes), "source_field": "OBR-22"})
    return rows


def briefing(tmp_path, dept, findings=None, network=None):
    findings = find_mismatches(dept, as_of=END, site=SITE) if findings is None else findings
    path = write_briefing(tmp_path / "briefing.html", dept, findings=findings, network=network, site=SITE, start=START, end=END, as_of=END)
    return path.read_text(encoding="utf-8")


def findings_of(**desks):
    return conform([{"finding_id": f"{desk}{i}", "code": "U06", "owner": desk} for desk, n in desks.items() for i in range(n)], FINDINGS)


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style.*?</style>|data:image[^\"]+", "", page, flags=re.S)))


def test_sentences_say_the_numbers(tmp_path):
    text = words(briefing(tmp_path, department(events=[*events_of("CT", 30, 60), *events_of("MR", 20, 600), *events_of("US", 12, None)])))
    # 30 of 62 exams final after 60 minutes, 20 after 600: half of 62 is reached with the 31st, at 600 minutes = 10 h
    assert "Half of the 62 exams had a final report within 10 h of the end" in text
    # met 30, missed 20 + 12 open ones past two hours: 30 of 62 = 48 %
    assert "48% were final within their target" in text and "95% within 2 h" in text
    assert "12 of them had no final report when this page was made; the oldest has waited" in text
    assert "November 2025" in text


def test_the_table_has_one_line_a_modality(tmp_path):
    events = [*events_of("CT", 20, 60), *events_of("CT", 40, 600, first=20), *events_of("MR", 25, 600)]
    text = words(briefing(tmp_path, department(events=events)))
    # CT: 20 of 60 within two hours. MR: none of 25, told as a bound: 11 of 25 = 44 %.
    assert "CT 60 10 h 10 h 33%" in text and "MR 25 10 h 10 h under 44%" in text


def test_a_small_group_is_hidden_and_cannot_be_had_by_subtraction(tmp_path):
    text = words(briefing(tmp_path, department(events=[*events_of("CT", 30, 60), *events_of("MR", 20, 600), *events_of("NM", 3, 60)])))
    assert "Not shown, so that no group of fewer than 11 can be told: MR, NM." in text
    assert "CT 30" in text and not re.search(r"\bMR 20\b|\bNM 3\b", text)


@pytest.mark.parametrize(("counts", "hidden"), [
    ({"CT": 30, "MR": 20}, []),
    ({"CT": 30, "MR": 20, "NM": 3}, ["NM", "MR"]),              # the total less 50 would be 3
    ({"CT": 30, "MR": 20, "NM": 3, "US": 4}, ["NM", "US", "MR"]),  # two hidden ones, but 7 together
    ({"CT": 30, "MR": 20, "NM": 8, "US": 9}, ["NM", "US"]),     # 17 together tell neither
    ({"CT": 30, "NM": 3}, ["NM", "CT"]),
    ({"CT": 30, "NM": 0}, []),
    ({}, []),
])
def test_what_is_hidden_adds_up_to_eleven_in_two_groups_or_more(counts, hidden):
    assert _to_hide(counts) == hidden


@pytest.mark.parametrize(("met", "decided", "words"), [
    (50, 100, "50%"), (89, 100, "89%"), (90, 100, "over 89%"), (100, 100, "over 89%"), (10, 100, "under 11%"), (11, 100, "11%"), (11, 22, "50%"), (11, 21, ""), (0, 0, ""),
])
def test_a_share_never_tells_a_group_under_eleven(met, decided, words):
    share = met / decided if decided else float("nan")
    assert _share({"n_used": decided + 5, "n_undecided": 5, "share_within_target": share}) == words


def test_desks_with_few_findings_are_put_together_and_cannot_be_had_by_subtraction(tmp_path):
    text = words(briefing(tmp_path, department(events=events_of("CT", 30, 60)), findings=findings_of(technologist=30, radiologist=15, vendor=2, nobody=40)))
    assert "do not fit together in 47 findings; the most, 30, are on the desk of the technologist" in text
    shown, alone = findings_of(technologist=30, vendor=2), findings_of(vendor=2)
    assert "desk of the" not in words(briefing(tmp_path, department(), findings=shown)).replace("the desk that", "")
    assert "do not fit together in fewer than 11 findings." in words(briefing(tmp_path, department(), findings=alone))


def test_wrong_patients_are_told_first_and_never_counted_below_eleven(tmp_path):
    few = findings_of(technologist=30).assign(code=["U05e"] * 3 + ["U06"] * 27)
    many = few.assign(code=["U05e"] * 12 + ["U06"] * 18)
    assert "Fewer than 11 of them may concern a wrong patient" in words(briefing(tmp_path, department(), findings=few))
    assert "12 of them may concern a wrong patient" in words(briefing(tmp_path, department(), findings=many))


def test_a_modality_that_is_no_code_is_never_printed(tmp_path):
    page = briefing(tmp_path, department(events=[*events_of("CT", 30, 60), *events_of("CANARY JANE", 14, 60), *events_of("", 12, 60)]))
    assert "CANARY" not in page and "other 26" in words(page)


def test_small_counts_are_words(tmp_path):
    text = words(briefing(tmp_path, department(events=[*events_of("CT", 30, 60), *events_of("MR", 4, None)])))
    assert "Fewer than 11 of them had no final report" in text and "oldest" not in text
    assert "None of them had no final report" not in text


def test_a_backlog_without_exams_says_that_all_are_final(tmp_path):
    assert "All of them had a final report when this page was made." in words(briefing(tmp_path, department(events=events_of("CT", 30, 60))))


def test_when_most_exams_still_wait_the_headline_says_so(tmp_path):
    assert "More than half of the 32 exams still wait for a final report." in words(briefing(tmp_path, department(events=[*events_of("CT", 12, 60), *events_of("MR", 20, None)])))


def test_exams_that_ended_outside_the_period_are_not_counted(tmp_path):
    late = [{**e, "at": e["at"] - pd.Timedelta(days=31)} for e in events_of("MR", 20, 600)]
    assert "Half of the 30 exams had a final report within 1 h" in words(briefing(tmp_path, department(events=[*events_of("CT", 30, 60), *late])))


def test_nobody_can_be_recognised(tmp_path):
    canary = {"patient_id": "CANARYID", "patient_name": "CANARYNAME^X", "patient_birth_date": "19010203"}
    rows = events_of("CT", 30, 60)
    dept = department(orders=[order("CANARYACC", **{**PERSON, **canary}, message_control_id="CANARYMSG")], studies=[study("CANARYACC", "2.25.987654", **{**PERSON, **canary})],
                      events=[{**r, "source_id": "CANARYSRC"} for r in rows])
    page = briefing(tmp_path, dept)
    images = [base64.b64decode(i) for i in re.findall(r"base64,([^\"]+)", page)]
    for blob in (page.encode(), *images):
        assert b"CANARY" not in blob and b"987654" not in blob and b"19010203" not in blob


def test_the_page_asks_no_host_has_alt_texts_and_escapes(tmp_path):
    page = briefing(tmp_path, department(events=events_of("CT", 30, 60)))
    assert re.findall(r"(?:src|href|url)[=(]\"?(?:https?:)?//", page) == []
    assert page.count("<img") == 2 and all(len(alt) > 40 for alt in re.findall(r'<img alt="([^"]*)"', page))
    assert "<Hospital>" not in page and "Test &lt;Hospital&gt;" in page and '<html lang="en">' in page


def test_targets_of_different_length_are_told_apart(tmp_path):
    site = Site(time_zone="UTC", targets={"exam_ended>final": {"minutes": 120, "share": 0.95}, "exam_ended>final/STAT": {"minutes": 30, "share": 0.9}})
    rows = [{**r, "priority": "STAT"} for r in [*events_of("CT", 15, 20), *events_of("CR", 25, 90)]] + [*events_of("MR", 40, 90), *events_of("US", 20, 600)]
    path = write_briefing(tmp_path / "b.html", department(events=rows), findings=None, network=None, site=site, start=START, end=END, as_of=END)
    # 15 of 40 STAT exams in 30 minutes = 38 %; 40 of 60 others in two hours = 67 %
    text = words(path.read_text(encoding="utf-8"))
    assert "38% of STAT exams within 30 min (aim: 90%), 67% of other exams within 2 h (aim: 95%)" in text


def test_the_definition_names_both_ends_and_their_sources(tmp_path):
    text = words(briefing(tmp_path, department(events=events_of("CT", 30, 60))))
    assert "from the end of the exam, by the order&#x27;s completion ORC-5=CM (100%), to the first final report, by the report&#x27;s status time OBR-22 (100%)" in text
    assert "counted: 30; none left out" in text


def test_a_month_without_exams_reports_or_findings_is_a_page_too(tmp_path):
    text = words(briefing(tmp_path, department()))
    assert "no exam that ended in this period" in text and "No exam was found" not in text


def test_what_is_asked_stands_on_the_page_escaped(tmp_path):
    path = write_briefing(tmp_path / "b.html", department(), findings=None, network=None, site=SITE, start=START, end=END, as_of=END, ask="Cover for <nights>")
    assert "What is asked: Cover for &lt;nights&gt;" in path.read_text(encoding="utf-8")


def test_images_of_a_log_that_knows_only_their_end_count(tmp_path):
    operations = [{"service": "C-STORE", "ended_at": START + pd.Timedelta(hours=i), "status_category": "Success"} for i in range(25)]
    network = type("Network", (), {"operations": conform(operations, OPERATIONS), "associations": conform([], ASSOCIATIONS)})
    assert "25 images were sent" in words(briefing(tmp_path, department(events=events_of("CT", 30, 60)), network=network))


def test_failures_on_the_network_are_told(tmp_path):
    operations = [{"association_id": f"a{i}", "service": "C-STORE", "started_at": START + pd.Timedelta(hours=min(i, 38)), "status_category": "Failure" if i < 12 else "Success"} for i in range(40)]
    associations = [{"association_id": f"a{i}", "started_at": START + pd.Timedelta(hours=i), "outcome": "aborted" if i == 7 else "released"} for i in range(40)]
    network = type("Network", (), {"operations": conform(operations, OPERATIONS), "associations": conform(associations, ASSOCIATIONS)})
    text = words(briefing(tmp_path, department(events=events_of("CT", 30, 60)), network=network))
    # two of the 40 fell into one hour
    assert "40 images were sent, and 12 of these failed; the busiest hour had 2. Of 40 connections 1 was refused or broke off." in text


def test_instants_without_a_zone_are_refused(tmp_path):
    with pytest.raises(TableError, match="start: give a pandas Timestamp with a time zone"):
        write_briefing(tmp_path / "b.html", department(), findings=None, network=None, site=SITE, start=pd.Timestamp("2025-11-01"), end=END, as_of=END)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    dept = department(events=events_of("CT", 30, 60))
    assert briefing(tmp_path, dept) == briefing(tmp_path, dept)
