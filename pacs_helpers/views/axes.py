"""The look all charts share: colours told apart by any eye, axes of minutes and of clock time, durations in words."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import dates
from matplotlib.transforms import ScaledTranslation

# Okabe and Ito: told apart with any colour vision; hatches repeat the difference in grey print.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#8C8C8C")
COLOURS, HATCHES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY), ("", "//", "..", "\\\\", "xx", "--", "oo")
MINUTE_TICKS = {1: "1 min", 5: "5 min", 15: "15 min", 60: "1 h", 240: "4 h", 1440: "1 d", 4320: "3 d", 10080: "7 d", 43200: "30 d",
                129600: "90 d", 525600: "1 yr"}
FINDING_NAMES = {
    "U01": "images, no order", "U02": "images, no report", "U03": "report, no images", "U04": "order only", "U05a": "patient ID typo",
    "U05b": "patient ID format", "U05c": "patient ID merged", "U05d": "temporary patient", "U05e": "wrong patient",
    "U06": "accession altered", "U07": "wrong exam", "U08": "split exam", "U09": "group case", "U10": "several studies", "U11": "UID clash",
    "U12": "duplicate patient",
    "U13": "late images", "U14": "foreign images", "U15": "test or QC", "U16": "impossible time", "U17": "demographics differ",
    "U18": "interface failure",
}


def span(minutes):
    """Minutes in words, two units at most: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    sign, seconds = "-" if minutes < 0 else "", round(abs(minutes) * 60)
    if seconds < 60:
        return f"{sign}{seconds} s"
    whole = round(seconds / 60)
    if whole < 60:
        return f"{sign}{whole} min"
    if whole < 1440:
        return f"{sign}{whole // 60} h" + (f" {whole % 60:02d} min" if whole % 60 else "")
    hours = round(whole / 60)
    return f"{sign}{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")


def base_axes(ax, size):
    """`ax`, or new Axes of `size` inches, with the grid and spines every chart has."""
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def legend_below(ax, ncols):
    below = ScaledTranslation(0, -0.55, ax.figure.dpi_scale_trans)       # inches: room for tick labels and the axis label at any height
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=ax.transAxes + below, ncols=ncols, fontsize=8, frameon=False)


def minute_axis(ax, low, high):
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ticks = {m: words for m, words in MINUTE_TICKS.items() if low <= m <= high}
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xticks([], minor=True)
    ax.set_xlabel("time taken (log scale)")


def time_axis(ax, zone):
    locator = dates.AutoDateLocator(tz=zone)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))
    ax.set_xlabel(f"time ({zone})")


def limits_around(minutes):
    """Whole ticks around the data, with room for a mark at the upper end."""
    low, high = (minutes.min(), minutes.max()) if len(minutes) else (1, 60)
    return max([m for m in MINUTE_TICKS if m < low] or [0.8]), max(high * 1.4, low * 4, 60)


def mark_minutes(ax, marks):
    """Upright lines, each labelled at a height of its own in the headroom above the bars."""
    headroom = 0.07 * len(marks) + 0.03
    ax.set_ylim(0, max(ax.get_ylim()[1], 1) / (1 - headroom))
    low, high = np.log(ax.get_xlim())
    inner = sorted(m for m in marks if (np.log(max(m[0], 1)) - low) / (high - low) < 0.6)
    outer = sorted((m for m in marks if m not in inner), reverse=True)
    for level, (minutes, words, style) in enumerate([*inner, *outer]):
        y, right = 0.97 - 0.07 * level, level < len(inner)
        colour = RED if style == "-." else "black"
        ax.axvline(max(minutes, 1), ymax=y, color=colour, linestyle=style, linewidth=1.8 if style == "-." else 1.3)
        ax.annotate(words, (max(minutes, 1), y), xycoords=("data", "axes fraction"), xytext=(4 if right else -4, 0),
                    textcoords="offset points", ha="left" if right else "right", va="center", fontsize=8,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9})
