import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pacs_helpers.site import Site
from pacs_helpers.tables import FINDINGS, TableError, conform
from pacs_helpers.views.casefile import explain_gaps, plot_exam
from tests.small_department import department, order, study

SITE = Site(time_zone="America/Chicago", strip_prefixes=("NS-",))


@pytest.fixture(autouse=True)
def closed_figures():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def event(milestone, time, accession="R1001", **more):
    at = time if "T" in time else f"2025-11-10T{time}Z"
    return {"accession_number": accession, "milestone": milestone, "at": at, "rank": 1, "source": "hl7", **more}


def said(lane, time, what, **more):
    return {"accession_number": "R1001", "lane": lane, "at": f"2025-11-10T{time}Z", "what": what, **more}


def exam(*events, **more):
    return department(events=events, **more)


WHOLE = (event("ordered", "08:00"), event("arrived", "08:50"), event("scheduled", "09:00"), event("exam_started", "09:10"),
         event("exam_ended", "09:30"), event("images_available", "09:35"), event("preliminary", "11:00"),
         event("final", "15:00"), event("delivered", "15:01"))


def test_each_gap_has_its_minutes_and_its_desk():
    got = explain_gaps(exam(*WHOLE), "R1001")
    assert got[["end_milestone", "minutes", "owner"]].values.tolist() == [
        ["arrived", 50, "scheduling"], ["scheduled", 10, "nobody"], ["exam_started", 10, "technologist"],
        ["exam_ended", 20, "technologist"], ["images_available", 5, "network"], ["preliminary", 85, "radiologist"],
        ["final", 240, "radiologist"], ["delivered", 1, "interface team"]]
    assert (got["doubt"] == "").all()


def test_gaps_add_up_to_the_whole_and_missing_milestones_join_their_neighbours():
    dept = exam(event("ordered", "08:00"), event("exam_started", "09:10"), event("exam_ended", "09:30"), event("final", "15:00"))
    got = explain_gaps(dept, "R1001")
    assert got[["start_milestone", "end_milestone", "owner"]].values.tolist() == [
        ["ordered", "exam_started", "scheduling"], ["exam_started", "exam_ended", "technologist"], ["exam_ended", "final", "radiologist"]]
    assert got["minutes"].sum() == 7 * 60


def test_gap_with_the_whole_exam_in_it_is_nobodys():
    got = explain_gaps(exam(event("ordered", "08:00"), event("final", "15:00")), "R1001").iloc[0]
    assert (got["owner"], got["is_possible"]) == ("nobody", True)
    assert "when the exam took place is not known" in got["doubt"]


def test_appointment_overtaken_by_the_exam_is_no_wait():
    dept = exam(event("ordered", "08:00"), event("exam_started", "08:30"), event("exam_ended", "08:50"), event("scheduled", "09:00"))
    assert explain_gaps(dept, "R1001")["end_milestone"].tolist() == ["exam_started", "exam_ended"]


def test_unfinished_exam_waits_for_its_next_milestone_until_as_of():
    as_of = pd.Timestamp("2025-11-10T12:00Z")
    got = explain_gaps(exam(*WHOLE), "R1001", as_of=as_of).iloc[-1]
    assert got[["start_milestone", "end_milestone", "minutes", "owner"]].tolist() == ["preliminary", "final", 60, "radiologist"]
    assert got["is_open"] and pd.isna(got["end"])
    assert not explain_gaps(exam(*WHOLE), "R1001", as_of=pd.Timestamp("2025-11-11T12:00Z"))["is_open"].any()


def test_exam_of_two_studies_ends_with_the_second():
    got = explain_gaps(exam(event("exam_ended", "09:00"), event("exam_ended", "09:30"), event("final", "10:00")), "R1001")
    assert got["minutes"].tolist() == [30]


def test_cancelled_exam_waits_for_nothing():
    got = explain_gaps(exam(event("ordered", "08:00"), event("cancelled", "08:30")), "R1001", as_of=pd.Timestamp("2025-11-11T12:00Z"))
    assert got[["end_milestone", "owner"]].values.tolist() == [["cancelled", "scheduling"]]


def test_impossible_order_is_a_doubt_about_clocks_and_nobodys_wait():
    got = explain_gaps(exam(event("exam_started", "09:00", source="dicom", source_field="(0008,002A)"),
                            event("images_available", "09:10", source="network", source_field="C-STORE"),
                            event("exam_ended", "09:22", source="dicom", source_field="(0008,002A)")), "R1001").iloc[-1]
    assert (got["owner"], got["is_possible"]) == ("nobody", False)
    assert got["doubt"] == ("images_available (network C-STORE) is 12 min before exam_ended (dicom (0008,002A)): "
                            "two clocks disagree, or one entry came late")


def test_device_and_feed_over_ten_minutes_apart_is_a_doubt():
    started = event("exam_started", "09:00", source="dicom", source_field="(0008,002A)")
    late, near = (event("exam_started", time, rank=3, source_field="OBR-7") for time in ("10:00", "09:10"))
    end = event("exam_ended", "10:30")
    doubt = explain_gaps(exam(started, late, end), "R1001")["doubt"]
    assert doubt.tolist() == ["exam_started: hl7 OBR-7 is 1 h later than dicom (0008,002A)"]
    assert explain_gaps(exam(started, near, end), "R1001")["doubt"].tolist() == [""]


def test_time_in_the_clock_change_is_a_doubt():
    got = explain_gaps(exam(event("exam_ended", "09:00"), event("final", "10:00", problems="AMBIGUOUS_TIME")), "R1001")
    assert got["doubt"].tolist() == ["time of final: AMBIGUOUS_TIME"]


def test_years_between_milestones_are_a_clock_and_never_the_longest_wait():
    dept = exam(event("images_available", "2004-01-19T12:00Z"), event("ordered", "08:00"), event("exam_started", "09:00"),
                event("exam_ended", "09:10"))
    got = explain_gaps(dept, "R1001").iloc[0]
    assert (got["owner"], got["is_possible"]) == ("nobody", False)
    assert "longest gap ordered to exam_started, 1 h, desk: scheduling" in plot_exam(dept, "R1001", site=SITE).get_title(loc="left")


def test_exam_is_found_however_its_number_is_spelled():
    assert len(explain_gaps(exam(*WHOLE), " ns-r1001", site=SITE)) == 8


def test_unknown_exam_names_the_nearest():
    with pytest.raises(TableError, match="no exam 'R1010' in this department. Did you mean 'R1001'"):
        explain_gaps(exam(*WHOLE), "R1010")


def test_events_of_other_exams_stay_out():
    got = explain_gaps(exam(*WHOLE, event("final", "10:00", "R2002"), event("exam_ended", "09:40", "")), "R1001")
    assert got["minutes"].sum() == 7 * 60 + 1


def test_bars_of_the_gaps_follow_each_other_and_carry_their_length_in_words():
    ax = plot_exam(exam(*WHOLE), "R1001", site=SITE)
    bars = [bar for container in ax.containers for bar in container]
    assert [b.get_x() + b.get_width() for b in bars[:-1]] == pytest.approx([b.get_x() for b in bars[1:]])
    assert max(bars, key=lambda b: b.get_width()) is bars[6]
    assert [t.get_text() for t in ax.texts] == ["50 min", "10 min", "10 min", "20 min", "5 min", "1 h 25 min", "4 h", "1 min"]
    assert ax.get_title(loc="left") == "Exam R1001: longest gap preliminary to final, 4 h, desk: radiologist"


def test_when_the_appointment_is_the_longest_gap_the_longest_after_it_is_named_too():
    dept = exam(event("ordered", "02:00"), event("exam_started", "09:00"), event("exam_ended", "09:10"), event("final", "10:00"))
    ax = plot_exam(dept, "R1001", site=SITE)
    assert ax.get_title(loc="left").split("\n") == ["Exam R1001: longest gap ordered to exam_started, 7 h, desk: scheduling",
                                                    "Longest once the exam had begun: exam_ended to final, 50 min, desk: radiologist"]


def test_desks_differ_by_hatch_as_well_as_colour():
    ax = plot_exam(exam(*WHOLE), "R1001", site=SITE)
    look = {c.get_label(): c.patches[0].get_hatch() for c in ax.containers if not c.get_label().startswith("_")}
    assert len(look) == 6
    assert len({hatch for desk, hatch in look.items() if desk != "nobody"}) == 5


def test_every_lane_is_there_and_milestones_are_in_local_time():
    ax = plot_exam(exam(*WHOLE), "R1001", site=SITE)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["acknowledgment", "report", "network", "dicom", "order", "patient", "gaps"]
    assert ax.get_xticklabels()[0].get_text() == "ordered\n10 Nov 02:00"


def test_crowded_records_share_one_label_that_counts_them():
    series = [said("dicom", f"09:{10 + i}", f"CT series {i}", ended_at=f"2025-11-10T09:{11 + i}Z") for i in range(4)]
    ax = plot_exam(exam(*WHOLE, trace=[*series, said("order", "08:00", "new order")]), "R1001", site=SITE)
    assert {"CT series 0 +3 more", "new order"} <= {t.get_text() for t in ax.texts}


def test_record_with_problems_has_another_mark_and_its_code():
    trace = [said("report", "15:00", "final report", problems="BAD_TIME"), said("order", "08:00", "new order")]
    ax = plot_exam(exam(*WHOLE, trace=trace), "R1001", site=SITE)
    assert sorted(line.get_marker() for line in ax.lines if line.get_marker() != "None") == ["X", "o"]
    assert "final report [BAD_TIME]" in [t.get_text() for t in ax.texts]


def test_findings_of_the_exam_and_of_its_study_are_named_with_their_desk():
    findings = conform([{"code": "U06", "accession_number": "R1001", "owner": "technologist"},
                        {"code": "U01", "accession_number": "R9", "owner": "RIS"},
                        {"code": "U08", "study_instance_uid": "2.25.7 2.25.1", "owner": "modality service"}], FINDINGS)
    ax = plot_exam(exam(*WHOLE, studies=[study()]), "R1001", site=SITE, findings=findings)
    assert ax.get_title(loc="left").split("\n")[1] == "Findings: U06 accession altered (technologist), U08 split exam (modality service)"


def test_exam_that_only_an_order_names_is_drawn_and_says_so():
    ax = plot_exam(department(orders=[order()]), "R1001", site=SITE)
    assert ax.get_title(loc="left") == "Exam R1001: no wait to show, no milestone is known"
