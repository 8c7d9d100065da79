"""Answers as charts: each takes `ax=None` and returns the Axes; colour is never the only cue."""

import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.ticker import MaxNLocator

from ..analyses.turnaround import summarize_turnaround
from ..site import Site
from ..tables import TableError, require_columns
from .axes import (
    BLUE,
    FINDING_NAMES,
    GREEN,
    GREY,
    RED,
    SKY,
    base_axes,
    legend_below,
    limits_around,
    mark_minutes,
    minute_axis,
    span,
    time_axis,
)

FEW = 11                # fewer exams than this make no percentile to lean on
LANE_HEIGHT = 0.72
SOURCE_WORDS = {"mb_rounded": "rounded up to whole MB (so at most)", "pdv_dots": "counted in PDVs (so at most)"}


def plot_turnaround(intervals, *, site=None, ax=None):
    """How long exams took from one milestone to another: counts on a log scale of minutes, with median, p90, p95 and the site's targets.

    Open exams stand hatched on top, at their wait so far; the title counts them and what is left out, by reason.
    Percentiles are those of `summarize_turnaround`. TableError when the table holds several intervals.
    """
    summary = _one_interval(intervals, site)
    used = intervals[intervals["left_out"] == ""]
    minutes, is_open = used["minutes"].clip(lower=1), used["is_open"].astype(bool)
    ax = base_axes(ax, (8, 4.2))
    targets = _targets(intervals, site)
    low, high = limits_around(pd.Series([*minutes, *(m for m, _, _ in targets)], dtype=float))
    edges = np.geomspace(low, high, int(np.clip(len(used) ** 0.5, 8, 32)) + 1)
    ax.hist([minutes[~is_open], minutes[is_open]], bins=edges, stacked=True, label=["finished", "still waiting, so far"],
            color=[SKY, "white"], edgecolor="black", linewidth=0.4, hatch=["", "////"])
    marks = [(summary[name], f"{name} {span(summary[name])}", style) for name, style in (("median", "-"), ("p90", "--"), ("p95", ":"))
             if pd.notna(summary[name])]
    minute_axis(ax, low, high)
    mark_minutes(ax, marks + targets)
    ax.set_ylabel("exams")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    missing = ", ".join(name for name in ("median", "p90", "p95") if pd.isna(summary[name])) if len(used) else ""
    ax.set_title(_title(summary) + (f"\n{missing} not reached: too many are still waiting" if missing else ""), loc="left", fontsize=10)
    legend_below(ax, 2)
    return ax


def plot_turnaround_by(intervals, by, *, site=None, ax=None):
    """Median (with its 95 % interval) and p90 of each group on a log scale of minutes, slowest on top, n beside its name.

    Hollow marks are groups of fewer than 11 exams. A triangle is the target where all exams of the group share one.
    A group whose open exams leave a percentile unknown shows no mark for it and says so; one with nothing to measure is in the title only.
    """
    summary = _one_interval(intervals, site)
    groups = summarize_turnaround(intervals, by, site=site)
    keys = [name for name in ([by] if isinstance(by, str) else by) if name != "interval"]
    groups = groups[groups["n_used"] > 0].sort_values("median", na_position="last", kind="stable").reset_index(drop=True)
    ax = base_axes(ax, (8, 1.6 + 0.42 * len(groups)))
    rows = np.arange(len(groups))
    low, high = (groups[c].clip(lower=1).fillna(groups["median"]) for c in ("median_low", "median_high"))
    median, p90 = groups["median"].clip(lower=1), groups["p90"].clip(lower=1)
    ax.hlines(rows, low, high, color=BLUE, linewidth=5, alpha=0.35, label="95 % interval")
    ax.hlines(rows, median, p90, color=GREY, linewidth=1)
    face = np.where(groups["n_used"] < FEW, "white", BLUE)
    ax.scatter(median, rows, marker="o", s=55, facecolors=face, edgecolors=BLUE, zorder=3, label="median")
    face = np.where(groups["n_used"] < FEW, "white", RED)
    ax.scatter(p90, rows, marker="D", s=40, facecolors=face, edgecolors=RED, zorder=3, label="p90")
    if groups["target_minutes"].notna().any():
        ax.scatter(groups["target_minutes"], rows, marker="|", s=260, color="black", zorder=2, label="target")
    minute_axis(ax, *limits_around(groups[["median", "median_low", "median_high", "p90", "target_minutes"]].stack()))
    for row, group in groups[groups[["median", "p90"]].isna().any(axis=1)].iterrows():
        what = "median" if pd.isna(group["median"]) else "p90"
        ax.annotate(f"{what} not reached", (1, row), xycoords=("axes fraction", "data"), xytext=(-4, 0), textcoords="offset points",
                    ha="right", va="center", fontsize=8)
    names = groups[keys].astype("str").replace("", "(none)").agg(", ".join, axis=1) if len(groups) else []
    ax.set_yticks(rows, [f"{name}  n {n}, {n_open} open" for name, n, n_open in zip(names, groups["n_used"], groups["n_open"])])
    ax.set_ylim(-0.6, len(groups) - 0.4)
    ax.set_title(_title(summary), loc="left", fontsize=10)
    if (groups["n_used"] < FEW).any():
        ax.plot([], [], "o", markerfacecolor="white", markeredgecolor=BLUE, label=f"hollow: n < {FEW}")
    legend_below(ax, 5)
    return ax


def plot_backlog(backlog, *, time_zone="UTC", ax=None):
    """Exams waiting at each instant of a BACKLOG, with those that came and left since the instant before."""
    zone = Site(time_zone=time_zone).time_zone
    ax = base_axes(ax, (8, 3.6))
    at = [dates.date2num(t) for t in backlog["at"]]
    ax.fill_between(at, backlog["n_open"].astype(float), color=SKY, alpha=0.5)
    ax.plot(at, backlog["n_open"], color=BLUE, linewidth=2, label="waiting")
    ax.plot(at, backlog["n_entered"], color=RED, linestyle="--", linewidth=1, marker="^", markersize=4, label="came since the mark before")
    ax.plot(at, backlog["n_left"], color=GREEN, linestyle=":", linewidth=1.4, marker="v", markersize=4, label="left since the mark before")
    time_axis(ax, zone)
    ax.set_ylim(0, max(1, backlog[["n_open", "n_entered", "n_left"]].max(axis=None) * 1.1) if len(backlog) else 1)
    ax.set_ylabel("exams")
    title = "No exams reached the start"
    if len(backlog):
        title = f"Backlog {backlog['interval'].iloc[0].replace('>', ' → ')}: {backlog['n_open'].iloc[-1]} waiting at the end"
    ax.set_title(title, loc="left", fontsize=10)
    legend_below(ax, 3)
    return ax


def plot_findings(findings, ax=None):
    """How many findings of each code are on each desk, the longest desk on top; the count stands at each bar."""
    require_columns(findings, ["code", "owner"], "findings")
    counts = findings.astype({"owner": "str", "code": "str"}).groupby(["owner", "code"], sort=False).size().rename("n").reset_index()
    counts["total"] = counts.groupby("owner")["n"].transform("sum")
    counts = counts.sort_values(["total", "owner", "n", "code"], ascending=[False, True, False, True], kind="stable")
    rows = []
    for owner, desk in counts.groupby("owner", sort=False):
        rows += [(f"{owner}: {desk['n'].sum()}", 0), *((f"{code} {FINDING_NAMES[code]}", n) for code, n in zip(desk["code"], desk["n"]))]
    ax = base_axes(ax, (8, 1.2 + 0.24 * max(len(rows), 2)))
    at = np.arange(len(rows))
    bars = ax.barh(at, [n for _, n in rows], color=BLUE, height=0.75)
    ax.bar_label(bars, [f"{n}" if n else "" for _, n in rows], padding=3, fontsize=8)
    ax.set_yticks(at, [words for words, _ in rows], fontsize=9)
    for label, (_, n) in zip(ax.get_yticklabels(), rows):
        label.set_fontweight("normal" if n else "bold")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_xlim(0, max([n for _, n in rows], default=1) * 1.08)
    ax.set_xlabel("findings")
    ax.set_title(f"{len(findings)} findings, by desk" if len(findings) else "No findings", loc="left", fontsize=10)
    ax.grid(axis="y", visible=False)
    return ax


def plot_throughput(throughput, ax=None, *, time_zone="UTC", n_pairs=8):
    """One lane per pair of AE titles, failing ones first, then most data, each on its own scale from 0 to the peak at its right end.

    Megabits per second of the bucket, or instances where no size is known at all; buckets whose size is not known are hatched, silence
    is a bare line. A cross marks a bucket with failures. Pairs beyond `n_pairs` are added up in one lane; the title counts the stores
    without a time.
    """
    zone = Site(time_zone=time_zone).time_zone
    lanes, edges = _lanes(throughput[throughput["bucket_start"].notna()], n_pairs)
    unit = "Mbit/s" if (throughput["n_bytes"] > 0).any() else "instances"
    ax = base_axes(ax, (9, 1.4 + 0.62 * max(len(lanes), 1)))
    for row, lane in enumerate(reversed(list(lanes.values()))):
        _draw_lane(ax, lane, edges, row, unit)
    ax.set_yticks(np.arange(len(lanes)) + 0.4, list(reversed(lanes)))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.set_ylim(0, max(len(lanes), 1) + 0.05)
    time_axis(ax, zone)
    ax.set_title(_throughput_title(throughput, lanes, edges, unit), loc="left", fontsize=10)
    return ax


def _draw_lane(ax, lane, edges, row, unit):
    seconds = (edges[1] - edges[0]).total_seconds()
    values = (lane["n_bytes"] * 8e-6 / seconds if unit == "Mbit/s" else lane["n_instances"]).astype("float64").to_numpy()
    peak, x = np.nanmax([*values, 0]), dates.date2num(edges)
    ax.axhline(row, color="black", linewidth=0.6)
    ax.stairs(np.nan_to_num(values) * LANE_HEIGHT / (peak or 1) + row, x, baseline=row, fill=True, color=BLUE)
    if np.isnan(values).any():
        ax.stairs(np.isnan(values) * 0.4 + row, x, baseline=row, fill=True, facecolor="none", edgecolor=GREY, hatch="////", linewidth=0)
    failed = lane["n_failed"].to_numpy(dtype=float) > 0
    middle = (x[:-1] + x[1:]) / 2
    ax.plot(middle[failed], np.full(failed.sum(), row + LANE_HEIGHT + 0.1), "x", color=RED, markersize=6, markeredgewidth=1.8)
    words = f"peak {peak:.3g} {unit}" if peak or not np.isnan(values).any() else "peak not known"
    words += f"\n{lane['n_failed'].sum()} failed" if failed.any() else ""
    ax.annotate(words, (1, row + 0.4), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
                va="center", fontsize=8)


def _throughput_title(throughput, lanes, edges, unit):
    if not lanes:
        return "No stores with a time"
    untimed = throughput.loc[throughput["bucket_start"].isna(), ["n_instances", "n_failed"]].sum().sum()
    told = throughput["n_bytes_source"].str.findall(r"[a-z_]+").explode().dropna().unique()
    sources = [SOURCE_WORDS.get(word, word) for word in sorted(told)]
    notes = ["× some stores failed"] * bool(throughput["n_failed"].sum() > 0)
    notes += [f"{untimed} stores without a time not shown"] * bool(untimed)
    notes += ["hatched: sizes not known"] * (unit == "Mbit/s" and any(lane["n_bytes"].isna().any() for lane in lanes.values()))
    width = span((edges[1] - edges[0]).total_seconds() / 60)
    n = throughput["n_instances"].sum()
    lines = [f"{unit} in each {width}, n = {n:,} instances", f"sizes {', '.join(sources) or 'missing'}", "; ".join(notes)]
    return "\n".join(filter(None, lines))


def _lanes(rows, n_pairs):
    """`{name: bucket table}` of the pairs in the order shown, the rest added up; and the edges of the buckets."""
    if rows.empty:
        return {}, pd.DatetimeIndex([])
    starts = pd.DatetimeIndex(sorted(rows["bucket_start"].unique()))
    sized = rows[rows["mbit_per_s"] > 0]
    width = pd.Series(starts).diff().min() if len(starts) > 1 else pd.Timedelta(
        seconds=round(float(sized["n_bytes"].iloc[0]) * 8e-6 / float(sized["mbit_per_s"].iloc[0]))) if len(sized) else pd.Timedelta("15min")
    names = rows["calling_ae_title"].replace("", "?") + " → " + rows["called_ae_title"].replace("", "?")
    sizes = ["n_bytes", "n_instances", "n_failed"]
    order = rows.groupby(names)[sizes].sum()
    order = order.assign(fails=order["n_failed"] > 0).sort_values(["fails", *sizes], ascending=False).index
    kept = order if len(order) <= n_pairs else order[:n_pairs - 1]
    lane_of = names.where(names.isin(kept), f"{len(order) - len(kept)} other pairs")
    lanes = {name: rows[lane_of == name].groupby("bucket_start")[sizes].sum(min_count=1) for name in dict.fromkeys([*kept, *lane_of])}
    return lanes, starts.append(starts[-1:] + width)


def _one_interval(intervals, site):
    require_columns(intervals, ["interval", "minutes", "left_out", "is_open"], "intervals")
    names = intervals["interval"].unique()
    if len(names) > 1:
        raise TableError(f"intervals: holds {', '.join(names)}; a chart shows one of them. "
                         "Choose with intervals[intervals['interval'] == ...].")
    summary = summarize_turnaround(intervals, site=site)
    return summary.iloc[0] if len(summary) else pd.Series({"n": 0, "n_open": 0, "n_left_out": 0, "interval": ""}, dtype=object).reindex(
        [*summary.columns]).where(lambda s: s.notna(), np.nan)


def _targets(intervals, site):
    """`(minutes, words, line style)` of each target, with the share of its own exams that met it."""
    groups = summarize_turnaround(intervals, "priority", site=site).groupby("target_minutes")["priority"].agg(list)
    marks = []
    for minutes, priorities in groups.items():
        share = summarize_turnaround(intervals[intervals["priority"].isin(priorities)], site=site)["share_within_target"].iloc[0]
        of = f" ({', '.join(p or 'none' for p in priorities)})" if len(groups) > 1 else ""
        marks.append((minutes, f"target {span(minutes)}{of}" + (f": {share:.0%} within" if pd.notna(share) else ""), "-."))
    return marks


def _title(summary):
    if not summary["n"]:
        return "No exams reached the start"
    out = f"\n{summary['n_left_out']} more left out: {summary['left_out_reasons']}" if summary["n_left_out"] else ""
    return f"{summary['interval'].replace('>', ' → ')}: n = {summary['n_used']} exams, {summary['n_open']} of them still waiting{out}"
