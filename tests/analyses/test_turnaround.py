import pandas as pd
import pytest

from pacs_helpers.analyses.turnaround import measure_backlog, measure_turnaround, summarize_turnaround
from pacs_helpers.site import Site
from pacs_helpers.tables import EVENTS, INTERVALS, TableError, conform

NOON = pd.Timestamp("2024-03-11T12:00Z")


def event(accession, milestone, time, **more):
    at = pd.NaT if time is None else time if "T" in time else f"2024-03-11T{time}Z"
    return {"accession_number": accession, "milestone": milestone, "at": at, **more}


def measure(*events, start="exam_ended", end="final", as_of=NOON):
    return measure_turnaround(conform(list(events), EVENTS), start, end, as_of=as_of)


def intervals(*rows, **same):
    given = [{"accession_number": f"A{i}", "interval": "exam_ended>final", "minutes": m, "is_open": is_open, "is_negative": m < 0,
              "left_out": "negative" if m < 0 else "", **same} for i, (m, is_open) in enumerate(rows)]
    return conform(given, INTERVALS)


def test_unread_exam_counts_as_open():
    events = conform([
        {"accession_number": "A1", "milestone": "exam_ended", "at": "2024-03-11T09:00Z"},
        {"accession_number": "A1", "milestone": "final", "at": "2024-03-11T09:30Z"},
        {"accession_number": "A2", "milestone": "exam_ended", "at": "2024-03-11T09:00Z"},
    ], EVENTS)
    got = measure_turnaround(events, "exam_ended", "final", as_of=pd.Timestamp("2024-03-11T12:00Z"))
    assert got["minutes"].tolist() == [30, 180]
    assert got["is_open"].tolist() == [False, True]


def test_events_after_as_of_have_not_happened_yet():
    got = measure(event("A1", "exam_ended", "09:00"), event("A1", "final", "12:01"), event("A2", "exam_ended", "12:30"))
    assert got[["accession_number", "minutes", "is_open"]].values.tolist() == [["A1", 180.0, True]]


def test_exam_that_never_reached_start_is_no_row():
    assert measure(event("A1", "final", "09:00")).empty


def test_lowest_rank_is_the_source_used_and_is_named():
    got = measure(event("A1", "exam_ended", "09:40", rank=3, source_field="OBR-8"),
                  event("A1", "exam_ended", "09:00", rank=1, source_field="(0040,0251)"),
                  event("A1", "final", "10:00", source_field="OBR-22"))
    assert got[["minutes", "start_source", "end_source"]].values.tolist() == [[60.0, "(0040,0251)", "OBR-22"]]


def test_a_source_known_to_the_minute_wins_over_a_better_one_known_to_the_day():
    got = measure(event("A1", "exam_ended", "00:00", rank=1, precision="day"),
                  event("A1", "exam_ended", "09:00", rank=2, precision="minute"),
                  event("A1", "final", "10:00", precision="second"))
    assert got[["minutes", "left_out"]].values.tolist() == [[60.0, ""]]


def test_first_final_counts_but_an_exam_of_two_studies_ends_with_the_second():
    got = measure(event("A1", "exam_ended", "08:00"), event("A1", "exam_ended", "08:30"),
                  event("A1", "final", "10:00"), event("A1", "final", "09:00"))
    assert got["minutes"].tolist() == [30]


def test_a_date_alone_is_not_midnight():
    got = measure(event("A1", "exam_ended", "00:00", precision="day"), event("A1", "final", "10:00"))
    assert got["minutes"].isna().all() and got["left_out"].tolist() == ["date only"]


def test_a_final_without_a_time_is_not_open():
    got = measure(event("A1", "exam_ended", "09:00"), event("A1", "final", None, problems="BAD_TIME"))
    assert got[["is_open", "left_out"]].values.tolist() == [[False, "no time"]]
    assert got["minutes"].isna().all()


def test_negative_minutes_stay_and_are_left_out_by_name():
    got = measure(event("A1", "exam_ended", "09:00"), event("A1", "final", "08:53"))
    assert got[["minutes", "is_negative", "left_out"]].values.tolist() == [[-7.0, True, "negative"]]


def test_a_finished_exam_over_30_days_is_left_out_and_an_open_one_is_not():
    got = measure(event("A1", "exam_ended", "2024-02-09T11:59Z"), event("A1", "final", "12:00"),
                  event("A2", "exam_ended", "2024-01-01T00:00Z"))
    assert got["left_out"].tolist() == ["over 30 days", ""]


@pytest.mark.parametrize("code", ["AMBIGUOUS_TIME", "BAD_UID NONEXISTENT_TIME"])
def test_a_time_in_the_clock_change_is_left_out(code):
    got = measure(event("A1", "exam_ended", "09:00"), event("A1", "final", "09:30", problems=code))
    assert got[["minutes", "left_out"]].values.tolist() == [[30.0, "ambiguous time"]]


def test_cancelled_exam_is_neither_open_nor_finished():
    got = measure(event("A1", "exam_ended", "09:00"), event("A1", "cancelled", "09:05"))
    assert got[["is_open", "left_out"]].values.tolist() == [[False, "cancelled"]]


def test_exam_done_after_its_cancellation_counts():
    got = measure(event("A1", "cancelled", "08:00"), event("A1", "exam_ended", "09:00"), event("A1", "final", "10:00"))
    assert got[["minutes", "left_out"]].values.tolist() == [[60.0, ""]]


def test_blank_accessions_are_not_one_exam():
    got = measure(event("", "exam_ended", "09:00", study_instance_uid="2.25.1"),
                  event("", "exam_ended", "09:10", study_instance_uid="2.25.2"),
                  event("", "final", "10:00"))
    assert got["minutes"].tolist() == [180, 170] and set(got["left_out"]) == {"no accession number"}


def test_an_exam_is_described_by_any_of_its_events():
    got = measure(event("A1", "ordered", "08:00", priority="STAT"), event("A1", "exam_ended", "09:00", modality="CT"),
                  event("A1", "final", "09:30"))
    assert got[["modality", "priority"]].values.tolist() == [["CT", "STAT"]]


def test_misspelt_milestone_names_the_nearest():
    with pytest.raises(TableError, match="start: 'exam_end' is not a milestone. Did you mean 'exam_ended'"):
        measure(start="exam_end")


@pytest.mark.parametrize("as_of", ["2024-03-11", pd.Timestamp("2024-03-11")])
def test_as_of_without_a_zone_is_refused(as_of):
    with pytest.raises(TableError, match="as_of"):
        measure(as_of=as_of)


def test_one_interval_needs_two_milestones():
    with pytest.raises(TableError, match="two different milestones"):
        measure(start="final", end="final")


def test_kaplan_meier_median_with_open_exams_by_hand():
    # S falls to 4/5 at 10, then at 30 (3 left at risk: 20 is open) to 4/5 * 2/3 = 0.53, at 40 (2 left) to 0.27. So half are done by 40;
    # the median of the four finished ones would be 35.
    rows = intervals((10, False), (20, True), (30, False), (40, False), (60, False))
    got = summarize_turnaround(rows).iloc[0]
    assert (got["n"], got["n_open"], got["median"], got["p90"]) == (5, 1, 40, 60)
    assert got["mean"] == 35


def test_percentile_that_open_exams_leave_unknown_is_missing():
    got = summarize_turnaround(intervals((10, False), (20, True), (30, True))).iloc[0]
    assert got[["median", "p90", "p95"]].isna().all()
    assert got["oldest_open_minutes"] == 30


def test_percentiles_are_the_time_by_which_that_share_is_done():
    got = summarize_turnaround(intervals(*[(m, False) for m in range(1, 21)])).iloc[0]
    assert got[["median", "p90", "p95"]].tolist() == [10, 18, 19]


def test_funnel_adds_up_and_names_its_reasons():
    events = [event(accession, "exam_ended", "09:00") for accession in ("A0", "A1", "A2", "A3", "B1", "C1")]
    finals = [event(f"A{i}", "final", time) for i, time in enumerate(("09:30", "08:00", "10:00", "08:30"))]
    got = summarize_turnaround(measure(*events, *finals, event("C1", "cancelled", "09:01"))).iloc[0]
    assert (got["n"], got["n_used"], got["n_left_out"], got["n_open"], got["n_negative"]) == (6, 3, 3, 1, 2)
    assert got["left_out_reasons"] == "2 negative, 1 cancelled"


def test_open_exam_past_target_is_missed_and_one_inside_it_undecided():
    site = Site(time_zone="UTC", targets={"exam_ended>final": {"minutes": 60}})
    got = summarize_turnaround(intervals((50, False), (60, False), (61, False), (100, True), (20, True)), site=site).iloc[0]
    assert (got["share_within_target"], got["n_undecided"], got["target_minutes"]) == (2 / 4, 1, 60)


def test_target_is_that_of_each_rows_priority():
    site = Site(time_zone="UTC", targets={"exam_ended>final": {"minutes": 1440}, "exam_ended>final/STAT": {"minutes": 60}})
    rows = pd.concat([intervals((90, False), priority="STAT"), intervals((90, False), priority="R")], ignore_index=True)
    got = summarize_turnaround(rows, "priority", site=site).set_index("priority")
    assert got["share_within_target"].to_dict() == {"R": 1.0, "STAT": 0.0}
    assert pd.isna(summarize_turnaround(rows, site=site)["target_minutes"].iloc[0])


def test_two_intervals_are_never_summed_into_one():
    rows = pd.concat([intervals((10, False)), intervals((90, False)).assign(interval="ordered>final")])
    assert summarize_turnaround(rows).set_index("interval")["median"].to_dict() == {"exam_ended>final": 10, "ordered>final": 90}


def test_misspelt_group_names_the_nearest():
    with pytest.raises(TableError, match="by: column 'modalty' is missing. Did you mean 'modality'"):
        summarize_turnaround(intervals((1, False)), "modalty")


def test_backlog_is_what_came_less_what_left():
    events = conform([
        event("A1", "exam_ended", "08:30"), event("A1", "final", "10:30"), event("A2", "exam_ended", "09:30"),
        event("A3", "exam_ended", "09:45"), event("A3", "cancelled", "11:15"),
        event("A4", "exam_ended", "11:30"), event("A4", "final", "11:20"),
    ], EVENTS)
    got = measure_backlog(events, "exam_ended", "final", as_of=NOON, every="1h")
    assert got["at"].dt.strftime("%H:%M").tolist() == ["09:00", "10:00", "11:00", "12:00"]
    assert got[["n_entered", "n_left", "n_open"]].values.tolist() == [[1, 0, 1], [2, 0, 3], [0, 1, 2], [1, 2, 1]]


def test_backlog_days_begin_at_the_sites_midnight():
    events = conform([event("A1", "exam_ended", "2024-03-09T20:00Z"), event("A1", "final", "2024-03-11T03:00Z")], EVENTS)
    got = measure_backlog(events, "exam_ended", "final", as_of=NOON, time_zone="America/Chicago")
    # Midnight is 06:00 UTC before the clocks go forward on 10 March, 05:00 after it.
    assert got["at"].tolist() == [pd.Timestamp("2024-03-10T06:00Z"), pd.Timestamp("2024-03-11T05:00Z"), NOON]
    assert got["n_open"].tolist() == [1, 0, 0]


def test_backlog_refuses_what_is_no_length_of_time():
    events = conform([event("A1", "exam_ended", "09:00")], EVENTS)
    with pytest.raises(TableError, match="every: 'daily'"):
        measure_backlog(events, "exam_ended", "final", as_of=NOON, every="daily")
