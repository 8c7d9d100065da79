"""Who was scanned when, series by series: the evidence whether several studies are one visit."""

from string import ascii_uppercase

import numpy as np
import pandas as pd
from matplotlib import dates

from ..tables import require_columns
from .axes import COLOURS, HATCHES, base_axes, span, time_axis

NEEDED = ("study_instance_uid", "accession_number", "requested_accession_numbers", "series_number", "series_description", "body_part_examined", "frame_of_reference_uids",
          "started_at", "ended_at")


def plot_series(series, *, site, ax=None):
    """One bar per series in acquisition time, short ones with a tick at their start, studies apart by heading, colour and hatch.

    Beside each bar its body part and its frame of reference as a letter: one letter in two studies is one patient position on the table.
    `series` are rows of `dept.series` or of `propose_series`; a proposal for another number than the study's own follows an arrow.
    Series without a time are counted in the title.
    """
    require_columns(series, NEEDED, "series")
    timed = series[series["started_at"].notna()].sort_values(["started_at", "series_instance_uid"], kind="stable")
    frames = list(dict.fromkeys(uid for uids in timed["frame_of_reference_uids"] for uid in uids.split()))
    letters = {uid: ascii_uppercase[i] if i < 26 else f"Z{i - 24}" for i, uid in enumerate(frames)}
    studies = timed["study_instance_uid"].unique()
    ax = base_axes(ax, (9, 1.5 + 0.3 * (len(timed) + len(studies))))
    names, row = [], 0
    for i, uid in enumerate(studies):
        rows = timed[timed["study_instance_uid"] == uid]
        names.append(_heading(rows.iloc[0], i + 1, len(studies)))
        for one in rows.to_dict("records"):
            row = len(names)
            names.append(f"{one['series_number']} {one['series_description'] or one['body_part_examined']}".strip())
            _draw_bar(ax, one, row, letters, COLOURS[i % len(COLOURS)], HATCHES[i % len(HATCHES)])
    ax.set_yticks(np.arange(len(names)), names, fontsize=9)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().startswith("study ") else "normal")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    if len(timed):
        start, end = timed["started_at"].min(), timed["ended_at"].fillna(timed["started_at"]).max()
        room = max(end - start, pd.Timedelta("1min"))
        ax.set_xlim(dates.date2num(start - 0.03 * room), dates.date2num(end + (0.5 if any("→" in text.get_text() for text in ax.texts) else 0.3) * room))
    time_axis(ax, site.time_zone)
    ax.set_title(_title(series, timed, letters), loc="left", fontsize=10)
    return ax


def _heading(first, number, n):
    carried = first["accession_number"] or ("for " + " and ".join(first["requested_accession_numbers"].split()) if first["requested_accession_numbers"] else "no accession number")
    return f"study {number} of {n}: {carried}"


def _draw_bar(ax, one, row, letters, colour, hatch):
    start, end = (dates.date2num(t) for t in (one["started_at"], one["ended_at"] if pd.notna(one["ended_at"]) else one["started_at"]))
    ax.barh(row, end - start, left=start, height=0.6, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6)
    ax.plot([start], [row], "|", color=colour, markersize=13, markeredgewidth=2)
    frame = "".join(sorted(letters[uid] for uid in one["frame_of_reference_uids"].split()))
    proposed = one.get("proposed_accession_number", "")
    words = [one["body_part_examined"] or "body part not given", f"frame {frame}" if frame else "no frame", *([f"→ {proposed}"] if proposed not in ("", one["accession_number"]) else [])]
    ax.annotate(" · ".join(words), (end, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)


def _title(series, timed, letters):
    n = timed["study_instance_uid"].nunique()
    if not n:
        return "No series with a time"
    minutes = (timed["ended_at"].fillna(timed["started_at"]).max() - timed["started_at"].min()).total_seconds() / 60
    held = {uid: timed.loc[timed["frame_of_reference_uids"].str.split().map(lambda uids, uid=uid: uid in uids), "study_instance_uid"].nunique() for uid in letters}
    shared = [f"frame {letters[uid]} in {k} of them" for uid, k in held.items() if k > 1]
    lost = [f"{len(series) - len(timed)} series without a time not shown"] * (len(series) > len(timed))
    return f"{n} {'study' if n == 1 else 'studies'}, {len(timed)} series within {span(minutes)}" + "".join(f"; {w}" for w in [*shared, *lost])
