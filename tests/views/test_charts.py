import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from pacs_helpers.schemas import FINDING_CODES
from pacs_helpers.site import Site
from pacs_helpers.tables import BACKLOG, FINDINGS, INTERVALS, THROUGHPUT, TableError, conform
from pacs_helpers.views.axes import FINDING_NAMES, span
from pacs_helpers.views.charts import plot_backlog, plot_findings, plot_throughput, plot_turnaround, plot_turnaround_by

SITE = Site(time_zone="America/Chicago", targets={"exam_ended>final": {"minutes": 60}})


@pytest.fixture(autouse=True)
def closed_figures():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def rows(*minutes, is_open=False, left_out="", **more):
    return conform([{"interval": "exam_ended>final", "minutes": m, "is_open": is_open, "is_negative": m < 0, "left_out": left_out, **more}
                    for m in minutes], INTERVALS)


def together(*tables):
    return pd.concat(tables, ignore_index=True)


def texts(ax):
    return [t.get_text() for t in ax.texts]


def bucket(hour, calling="CT1", n_bytes=0, n_instances=1, n_failed=0, mbit=None):
    at = pd.Timestamp(f"2024-03-11T{hour:02d}:00Z") if hour is not None else pd.NaT
    source = "missing" if n_bytes is None else "exact" if n_bytes else ""
    return {"bucket_start": at, "calling_ae_title": calling, "called_ae_title": "PACS", "n_instances": n_instances, "n_failed": n_failed,
            "n_bytes": n_bytes, "n_bytes_source": source, "mbit_per_s": None if n_bytes is None else n_bytes * 8e-6 / 3600}


def steps(ax):
    """Height above its baseline of every filled bucket, per lane from top to bottom."""
    patches = [p for p in ax.patches if isinstance(p, StepPatch) and not p.get_hatch()]
    return [(p.get_data().values - p.get_data().baseline).tolist() for p in reversed(patches)]


@pytest.mark.parametrize(("minutes", "words"), [
    (0.75, "45 s"), (12.4, "12 min"), (59.7, "1 h"), (185, "3 h 05 min"), (1439.6, "1 d"), (3120, "2 d 4 h"), (-90, "-1 h 30 min")])
def test_durations_are_in_two_units_at_most(minutes, words):
    assert span(minutes) == words


def test_every_finding_code_has_a_name():
    assert list(FINDING_NAMES) == list(FINDING_CODES)


def test_bars_count_finished_and_waiting_exams_apart_and_nothing_left_out():
    ax = plot_turnaround(together(rows(0, 10, 30), rows(20, 45, is_open=True), rows(-5, left_out="negative")))
    assert [sum(bar.get_height() for bar in container) for container in ax.containers] == [3, 2]
    assert ax.get_title(loc="left").split("\n")[:2] == [
        "exam_ended → final: n = 5 exams, 2 of them still waiting", "1 more left out: 1 negative"]


def test_percentiles_stand_where_the_estimate_is_and_are_labelled():
    ax = plot_turnaround(rows(*range(10, 210, 10)))
    assert {t.get_text(): t.xy[0] for t in ax.texts} == {"median 1 h 40 min": 100, "p90 3 h": 180, "p95 3 h 10 min": 190}
    assert sorted(line.get_xdata()[0] for line in ax.lines) == [100, 180, 190]


def test_percentile_that_is_not_reached_is_named_and_not_drawn():
    ax = plot_turnaround(together(rows(10, 20, 30), rows(60, is_open=True)))
    assert texts(ax) == ["median 20 min"]
    assert "p90, p95 not reached" in ax.get_title(loc="left")


def test_each_target_is_marked_with_its_priority_and_the_share_within_it():
    site = Site(time_zone="UTC", targets={"exam_ended>final": {"minutes": 240}, "exam_ended>final/STAT": {"minutes": 60}})
    ax = plot_turnaround(together(rows(30, 90, priority="STAT"), rows(30, 60, 120, 600, priority="R")), site=site)
    assert {"target 1 h (STAT): 50% within", "target 4 h (R): 75% within"} <= set(texts(ax))


def test_labels_of_marks_never_share_a_height():
    ax = plot_turnaround(rows(60, 60, 60, 60), site=SITE)
    heights = [t.xy[1] for t in ax.texts]
    assert len(heights) == 4 == len(set(heights))


def test_no_exam_is_said_in_words():
    assert plot_turnaround(rows()).get_title(loc="left") == "No exams reached the start"


def test_two_intervals_in_one_chart_are_refused():
    with pytest.raises(TableError, match="exam_ended>final, ordered>final"):
        plot_turnaround(together(rows(1), rows(2).assign(interval="ordered>final")))


def test_groups_stand_slowest_on_top_with_their_n():
    ct, mr = together(rows(10, 20, 30, modality="CT"), rows(40, is_open=True, modality="CT")), rows(100, 200, 300, modality="MR")
    ax = plot_turnaround_by(together(ct, mr), "modality")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["CT  n 4, 1 open", "MR  n 3, 0 open"]
    medians = next(c for c in ax.collections if c.get_label() == "median")
    assert medians.get_offsets().tolist() == [[20, 0], [200, 1]]


def test_small_groups_are_hollow_and_say_so():
    ax = plot_turnaround_by(together(rows(*range(1, 12), modality="CT"), rows(*range(1, 11), modality="MR")), "modality")
    names = [t.get_text().split()[0] for t in ax.get_yticklabels()]
    faces = next(c for c in ax.collections if c.get_label() == "median").get_facecolors()
    assert {name: to_hex(face) for name, face in zip(names, faces, strict=True)} == {"CT": "#0072b2", "MR": "#ffffff"}
    assert "hollow: n < 11" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_group_with_nothing_to_measure_is_in_the_title_only():
    ax = plot_turnaround_by(together(rows(10, modality="CT"), rows(-5, left_out="negative", modality="US")), "modality")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["CT  n 1, 0 open"]
    assert "1 more left out: 1 negative" in ax.get_title(loc="left")


def test_group_without_a_median_says_it_was_not_reached():
    ax = plot_turnaround_by(together(rows(10, modality="CT"), rows(20, 30, is_open=True, modality="CT")), "modality")
    assert texts(ax) == ["median not reached"]


def test_backlog_line_is_the_table():
    backlog = conform({"interval": ["exam_ended>final"] * 2, "at": ["2024-03-11T06:00Z", "2024-03-12T05:00Z"],
                       "n_entered": [5, 3], "n_left": [2, 4], "n_open": [3, 2]}, BACKLOG)
    ax = plot_backlog(backlog, time_zone="America/Chicago")
    assert {line.get_label(): line.get_ydata().tolist() for line in ax.lines} == {
        "waiting": [3, 2], "came since the mark before": [5, 3], "left since the mark before": [2, 4]}
    assert ax.get_title(loc="left") == "Backlog exam_ended → final: 2 waiting at the end"
    assert ax.get_xlabel() == "time (America/Chicago)" and ax.get_ylim()[0] == 0


def test_empty_backlog_says_so():
    assert plot_backlog(conform([], BACKLOG)).get_title(loc="left") == "No exams reached the start"


def test_findings_stand_under_their_desk_with_their_counts():
    given = [("U02", "radiologist")] * 3 + [("U01", "technologist")] * 2 + [("U02", "technologist")] * 4
    ax = plot_findings(conform([{"code": c, "owner": o} for c, o in given], FINDINGS))
    rows = [(label.get_text(), bar.get_width()) for label, bar in zip(ax.get_yticklabels(), ax.patches)]
    assert rows == [("technologist: 6", 0), ("U02 images, no report", 4), ("U01 images, no order", 2), ("radiologist: 3", 0), ("U02 images, no report", 3)]
    assert ax.yaxis_inverted() and {"4", "2", "3"} <= set(texts(ax)) and "0" not in texts(ax)


def test_no_findings_is_said_in_words():
    assert plot_findings(conform([], FINDINGS)).get_title(loc="left") == "No findings"


def test_each_pair_has_a_lane_from_zero_to_its_own_peak():
    given = [bucket(8, n_bytes=900_000_000), bucket(9, n_instances=0), bucket(10, n_bytes=450_000_000),
             bucket(8, "US1", 9_000), bucket(9, "US1", 4_500), bucket(10, "US1", n_instances=0)]
    ax = plot_throughput(conform(given, THROUGHPUT), time_zone="America/Chicago")
    assert [t.get_text() for t in reversed(ax.get_yticklabels())] == ["CT1 → PACS", "US1 → PACS"]
    lanes = [[height / max(lane) for height in lane] for lane in steps(ax)]
    assert lanes == [pytest.approx([1, 0, 0.5]), pytest.approx([1, 0.5, 0])]
    assert texts(ax) == ["peak 2e-05 Mbit/s", "peak 2 Mbit/s"]
    assert ax.get_xlabel() == "time (America/Chicago)"


def test_pairs_beyond_the_first_are_added_up_in_one_lane():
    given = [bucket(8, name, size) for name, size in (("A", 4_000), ("B", 3_000), ("C", 2_000), ("D", 1_000))]
    ax = plot_throughput(conform(given, THROUGHPUT), n_pairs=2)
    assert [t.get_text() for t in reversed(ax.get_yticklabels())] == ["A → PACS", "3 other pairs"]
    assert texts(ax)[0] == f"peak {6_000 * 8e-6 / 3600:.3g} Mbit/s"      # of the one bucket, an hour wide as its rate says


def test_pair_with_failures_keeps_its_own_lane_on_top():
    given = [bucket(8, "A", 9_000), bucket(8, "B", 8_000), bucket(8, "C", 1_000, n_failed=2)]
    ax = plot_throughput(conform(given, THROUGHPUT), n_pairs=2)
    assert [t.get_text() for t in reversed(ax.get_yticklabels())] == ["C → PACS", "2 other pairs"]


def test_buckets_with_failures_carry_a_cross():
    ax = plot_throughput(conform([bucket(8, n_bytes=1000), bucket(9, n_instances=0, n_failed=3)], THROUGHPUT))
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    hours = [matplotlib.dates.num2date(x).strftime("%H:%M") for line in crosses for x in line.get_xdata()]
    assert hours == ["09:30"]
    assert texts(ax) == [f"peak {1000 * 8e-6 / 3600:.3g} Mbit/s\n3 failed"]
    assert "× some stores failed" in ax.get_title(loc="left")


def test_without_any_size_instances_are_shown_and_the_axis_says_so():
    ax = plot_throughput(conform([bucket(8, n_bytes=None, n_instances=4), bucket(9, n_bytes=None, n_instances=2)], THROUGHPUT))
    assert texts(ax) == ["peak 4 instances"]
    assert ax.get_title(loc="left") == "instances in each 1 h, n = 6 instances\nsizes missing"


def test_bucket_of_unknown_size_is_hatched_and_not_drawn_as_silence():
    ax = plot_throughput(conform([bucket(8, n_bytes=1000), bucket(9, n_bytes=None)], THROUGHPUT))
    hatched = [p for p in ax.patches if p.get_hatch()]
    assert [(p.get_data().values > p.get_data().baseline).tolist() for p in hatched] == [[False, True]]
    assert "hatched: sizes not known" in ax.get_title(loc="left")


def test_stores_without_a_time_are_counted_in_the_title():
    ax = plot_throughput(conform([bucket(8, n_bytes=1000), bucket(9), bucket(None, n_instances=7)], THROUGHPUT))
    assert "7 stores without a time not shown" in ax.get_title(loc="left")


def test_charts_draw_on_the_axes_they_are_given_and_change_no_settings():
    before = dict(plt.rcParams)
    _, (left, right) = plt.subplots(1, 2)
    assert plot_findings(conform([{"code": "U01", "owner": "technologist"}], FINDINGS), ax=left) is left
    assert plot_turnaround(rows(10), ax=right) is right
    assert dict(plt.rcParams) == before
