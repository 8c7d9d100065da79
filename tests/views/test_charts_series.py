import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.dates import num2date

from pacs_helpers.site import Site
from pacs_helpers.tables import SERIES, TableError, conform
from pacs_helpers.views.splitbars import plot_series

SITE = Site(time_zone="America/Chicago")


@pytest.fixture(autouse=True)
def closed_figures():
    matplotlib.use("Agg")
    yield
    plt.close("all")


def series(study, number, start, end, body, frames="", **more):
    return {"study_instance_uid": study, "series_instance_uid": f"{study}.{number}", "accession_number": f"R{study}", "series_number": str(number), "series_description": f"{body} {number}",
            "body_part_examined": body, "frame_of_reference_uids": frames, "started_at": f"2025-11-10T{start}Z" if start else None, "ended_at": f"2025-11-10T{end}Z" if end else None, **more}


SPLIT = [series("1", 1, "15:00", "15:04", "HEAD", "2.25.9"), series("2", 1, "15:06", "15:06", "ABDOMEN", "2.25.9"), series("2", 2, "15:08", "15:10", "PELVIS", "2.25.8 2.25.9")]


def drawn(ax):
    """(start, minutes, hatch) of every bar, from top to bottom."""
    return [(num2date(bar.get_x()).strftime("%H:%M"), round(bar.get_width() * 1440), bar.get_hatch()) for bar in sorted(ax.patches, key=lambda b: b.get_y())]


def test_each_series_is_a_bar_of_its_acquisition_time_hatched_by_study():
    ax = plot_series(conform(SPLIT, SERIES), site=SITE)
    assert drawn(ax) == [("15:00", 4, ""), ("15:06", 0, "//"), ("15:08", 2, "//")]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["study 1 of 2: R1", "1 HEAD 1", "study 2 of 2: R2", "1 ABDOMEN 1", "2 PELVIS 2"]
    assert ax.get_xlabel() == "time (America/Chicago)" and ax.yaxis_inverted()


def test_a_series_of_no_length_is_seen_as_a_tick():
    ax = plot_series(conform(SPLIT[1:2], SERIES), site=SITE)
    assert [(line.get_marker(), num2date(line.get_xdata()[0]).strftime("%H:%M")) for line in ax.lines] == [("|", "15:06")]


def test_frames_of_reference_are_letters_and_the_title_says_which_is_shared():
    ax = plot_series(conform(SPLIT, SERIES), site=SITE)
    assert [t.get_text() for t in ax.texts] == ["HEAD · frame A", "ABDOMEN · frame A", "PELVIS · frame AB"]
    assert ax.get_title(loc="left") == "2 studies, 3 series within 10 min; frame A in 2 of them"


def test_a_proposal_for_another_number_is_pointed_at():
    table = conform(SPLIT[:2], SERIES).assign(proposed_accession_number=["R1", "R3"])
    assert [t.get_text() for t in plot_series(table, site=SITE).texts] == ["HEAD · frame A", "ABDOMEN · frame A · → R3"]


def test_a_study_for_several_orders_names_them_and_what_is_not_given_is_said():
    given = [series("1", 1, "15:00", "", "", accession_number="", requested_accession_numbers="R1 R2"), series("2", 1, "", "", "HEAD")]
    ax = plot_series(conform(given, SERIES), site=SITE)
    assert ax.get_yticklabels()[0].get_text() == "study 1 of 1: for R1 and R2" and ax.texts[0].get_text() == "body part not given · no frame"
    assert ax.get_title(loc="left") == "1 study, 1 series within 0 s; 1 series without a time not shown"


def test_no_series_is_said_in_words():
    assert plot_series(conform([], SERIES), site=SITE).get_title(loc="left") == "No series with a time"


def test_a_table_of_something_else_is_named():
    with pytest.raises(TableError, match="series: column 'study_instance_uid' is missing"):
        plot_series(pd.DataFrame({"accession_number": []}), site=SITE)
