"""The director's page: plain sentences from the numbers, one table, two charts, the definition of each figure, nobody's name."""

import base64
import html
import io
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from great_tables import GT

from ..analyses.turnaround import measure_turnaround, summarize_turnaround
from ..tables import TableError
from .axes import BLUE, GREY, base_axes, span

FEWEST = 11         # smaller groups could point at a person
HIDDEN = f"fewer than {FEWEST}"
STYLE = """
.briefing{font:16px/1.5 system-ui,"Segoe UI",Arial,sans-serif;color:#1d1d1f;max-width:56rem;margin:2rem auto;padding:0 1.5rem}
.briefing h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}.briefing h2{font-size:1.2rem;margin:1.6rem 0 .4rem}.briefing .lead{font-size:1.15rem}
.briefing figure{margin:.8rem 0}.briefing figure img{width:100%;height:auto}.briefing figcaption,.briefing .definition{color:#55555c;font-size:.82rem}.briefing li{margin:.25rem 0}
.briefing .gt_table{margin-left:0!important;width:100%!important;font-family:inherit!important}
.briefing .charts{display:grid;grid-template-columns:1fr 1fr;gap:1.2rem}@media(max-width:46rem){.briefing .charts{grid-template-columns:1fr}}
@page{size:A4;margin:12mm 14mm}
@media print{.briefing{margin:0;max-width:none;padding:0;font-size:10.5pt;line-height:1.35}.briefing h1{font-size:17pt}.briefing h2{margin:.7rem 0 .2rem;font-size:12pt}
.briefing li{margin:.1rem 0}.briefing figure,.briefing table{break-inside:avoid}}
"""


def write_briefing(path, dept, *, findings, network, site, start, end, as_of):
    """The path of one HTML page about the exams that ended from `start` to `end`, as known at `as_of`; it prints on A4.

    Aggregates only: no name, number or UID; groups of fewer than 11 exams are hidden, with one more where the total would give one back.
    """
    for name, instant in (("start", start), ("end", end), ("as_of", as_of)):
        if not isinstance(instant, pd.Timestamp) or instant.tz is None:
            raise TableError(f"{name}: give a pandas Timestamp with a time zone, such as pd.Timestamp('2025-11-01', tz='UTC').")
    reading = measure_turnaround(dept.events, "exam_ended", "final", as_of=as_of)
    reading = reading[(reading["start"] >= start) & (reading["start"] < end)].reset_index(drop=True)
    whole = summarize_turnaround(reading, site=site)
    whole = whole.iloc[0].to_dict() if len(whole) else None
    period = _period(start, end, site)
    sentences = [*_waiting(whole, site), *_unmatched(findings), *_network(network, start, end)]
    body = [f"<h1>Imaging at {html.escape(site.name or 'this site')}, {period}</h1>", f'<p class="lead">{_headline(whole)}</p>', "<ul>", *(f"<li>{s}</li>" for s in sentences), "</ul>",
            "<h2>Turnaround by modality</h2>", _table(reading, site), _definition(reading, whole),
            '<div class="charts">', _figure(_weekly_chart(reading, site), _weekly_words(reading, site)), _figure(*_desk_chart(findings)), "</div>", _footer(as_of, site)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
                    f"<title>Imaging briefing, {period}</title><style>{STYLE}</style></head><body><main class='briefing'>\n" + "\n".join(body) + "\n</main></body></html>\n",
                    encoding="utf-8", newline="\n")
    return path


def _period(start, end, site):
    first, last = start.tz_convert(site.time_zone), (end - pd.Timedelta("1s")).tz_convert(site.time_zone)
    whole_month = first.day == 1 and first.month == last.month and (last + pd.Timedelta("1s")).day == 1
    return f"{first:%B %Y}" if whole_month else f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}"


def _count(n):
    return f"{n:,}" if n == 0 or n >= FEWEST else HIDDEN


def _headline(whole):
    if whole is None or whole["n_used"] < FEWEST:
        return "There are too few finished exams in this period to say how long a report takes."
    median = "More than half of the exams still wait"
    if pd.notna(whole["median"]):
        median = f"Half of the {whole['n_used']:,} exams had a final report within <strong>{span(whole['median'])}</strong> of the end of the exam"
    slow = "" if pd.isna(whole["p90"]) else f"; one in ten took longer than <strong>{span(whole['p90'])}</strong>"
    return f"{median}{slow}."


def _waiting(whole, site):
    if whole is None or whole["n_used"] < FEWEST:
        return
    decided = whole["n_used"] - whole["n_undecided"]
    if pd.notna(whole["share_within_target"]) and decided >= FEWEST:
        aims = sorted({(k.partition("/")[2] or "other", v["minutes"], v.get("share", 1)) for k, v in site.targets.items() if k.startswith("exam_ended>final")})
        aim = "; ".join(f"{name}: {share:.0%} within {span(minutes)}" for name, minutes, share in aims)
        yield f"<strong>{whole['share_within_target']:.0%}</strong> were final within their target (aims: {html.escape(aim)})."
    oldest = "" if pd.isna(whole["oldest_open_minutes"]) or whole["n_open"] < FEWEST else f"; the oldest has waited {span(whole['oldest_open_minutes'])}"
    yield f"At the end of the period <strong>{_count(whole['n_open'])}</strong> exams had no final report yet{oldest}."


def _unmatched(findings):
    if findings is None:
        return
    real = findings[findings["owner"] != "nobody"]
    if real.empty:
        yield "No exam was found whose images, order and report do not match."
        return
    desks = real["owner"].astype("str").value_counts()
    most = f"; most are on the desk of the {html.escape(desks.index[0])} ({desks.iloc[0]:,})" if desks.iloc[0] >= FEWEST else ""
    yield f"Images, order and report do not match in <strong>{_count(len(real))}</strong> findings{most}."
    wrong = int((real["code"] == "U05e").sum())
    if wrong:
        yield f"<strong>{_count(wrong)[0].upper() + _count(wrong)[1:]}</strong> of them may concern a wrong patient; these are dealt with first."


def _network(network, start, end):
    if network is None or network.operations.empty:
        return
    stores = network.operations[(network.operations["service"] == "C-STORE") & (network.operations["started_at"] >= start) & (network.operations["started_at"] < end)]
    failed = int((stores["status_category"] == "Failure").sum())
    ends = network.associations[(network.associations["started_at"] >= start) & (network.associations["started_at"] < end)]
    broken = int(ends["outcome"].isin(["aborted", "rejected", "failed"]).sum())
    if len(stores) >= FEWEST:
        yield (f"{len(stores):,} images travelled to the archives and viewers; {_count(failed) if failed else 'none'} failed on the way, and "
               f"{_count(broken) if broken else 'none'} of {len(ends):,} connections {'was' if not broken else 'were'} refused or broke off.")


def _table(reading, site):
    groups = summarize_turnaround(reading, "modality", site=site) if len(reading) else pd.DataFrame()
    rows = [g for g in groups.to_dict("records") if g["modality"]] if len(groups) else []
    shown, hidden = _suppress(rows)
    if not shown:
        return "<p>No modality has enough exams to be shown.</p>"
    frame = pd.DataFrame([{"Modality": g["modality"], "Exams": f"{g['n_used']:,}", "Half final within": _words(g["median"]), "Nine of ten within": _words(g["p90"]),
                           "In target": "" if pd.isna(g["share_within_target"]) else f"{g['share_within_target']:.0%}"} for g in shown])
    table = GT(frame, rowname_col="Modality", id="turnaround").cols_align("right", columns=list(frame.columns[1:])).as_raw_html()
    note = f'<p class="definition">Not shown, for too few exams: {html.escape(", ".join(g["modality"] for g in hidden))}.</p>' if hidden else ""
    return table + note


def _suppress(rows):
    """`(shown, hidden)`: groups under 11 are hidden, and the smallest other one when a single hidden one could be had by subtraction."""
    rows = sorted(rows, key=lambda g: -g["n_used"])
    hidden = [g for g in rows if g["n_used"] < FEWEST]
    if len(hidden) == 1 and len(rows) > 1:
        hidden = rows[-2:]
    return [g for g in rows if g not in hidden], hidden


def _words(minutes):
    return "not reached" if pd.isna(minutes) else span(minutes)


def _definition(reading, whole):
    if whole is None:
        return ""
    sources = ", ".join(f"{name} ({share:.0%})" for name, share in reading["end_source"].replace("", pd.NA).value_counts(normalize=True).items())
    begins = ", ".join(f"{name} ({share:.0%})" for name, share in reading["start_source"].value_counts(normalize=True).items())
    left = f"{_count(int(whole['n_left_out']))} left out" if whole["n_left_out"] else "none left out"
    why = "" if whole["n_left_out"] < FEWEST else " (" + ", ".join(sorted(set(reading.loc[reading["left_out"] != "", "left_out"]))) + ")"
    return (f'<p class="definition">Turnaround: from the end of the exam, by {html.escape(begins)}, to the first final report, by '
            f'{html.escape(sources or "none yet")}. Exams that ended in the period and are counted: '
            f"{whole['n_used']:,}; {left}{why}. Exams still waiting count with their wait so far (Kaplan-Meier).</p>")


def _day(at, form):
    """The day without a leading zero, which strftime has no portable code for, and the rest as `form`."""
    return f"{at.day} {at.strftime(form)}"


def _weeks(reading, site):
    local = reading["start"].dt.tz_convert(site.time_zone)
    monday = (local - pd.to_timedelta(local.dt.weekday, unit="D")).dt.normalize().clip(lower=local.min().normalize()).dt.strftime("%Y-%m-%d")
    weeks = summarize_turnaround(reading.assign(week=monday), "week", site=site) if len(reading) else pd.DataFrame(columns=["week", "n_used", "median", "p90"])
    return weeks[weeks["n_used"] >= FEWEST].sort_values("week")


def _weekly_chart(reading, site):
    weeks = _weeks(reading, site)
    ax = base_axes(None, (5.6, 3.6))
    names = [_day(pd.Timestamp(w), "%b") for w in weeks["week"]]
    top = 1.15 * (weeks["p90"].fillna(weeks["median"]).max() / 60 if len(weeks) else 1)
    for i in [i for i, p90 in enumerate(weeks["p90"]) if pd.isna(p90)]:
        ax.annotate("more than one in ten\nstill waits", (i, top), ha="center", va="top", fontsize=8, color="#555", xytext=(0, -2), textcoords="offset points")
    ax.plot(names, weeks["p90"] / 60, marker="D", color=GREY, linestyle="--")
    ax.plot(names, weeks["median"] / 60, marker="o", color=BLUE, linewidth=2)
    for column, words, colour in (("p90", "nine of ten", "#555"), ("median", "half", BLUE)):
        if len(weeks) and pd.notna(weeks[column].iloc[-1]):
            ax.annotate(words, (len(weeks) - 1, weeks[column].iloc[-1] / 60), xytext=(7, 0), textcoords="offset points", color=colour, va="center", fontsize=9)
    ax.set_xlim(-0.3, max(len(weeks) - 0.2, 1))
    ax.set_ylim(0, top)
    ax.set_ylabel("hours from exam end to final")
    ax.set_xlabel("week that begins on")
    return ax


def _weekly_words(reading, site):
    weeks = _weeks(reading, site)
    if weeks.empty:
        return "No week has enough exams to be drawn."
    slowest = pd.Timestamp(weeks.loc[weeks["median"].fillna(float("inf")).idxmax(), "week"])
    return (f"Hours until half and nine of ten of a week’s exams were final, by the week the exam ended in; slowest in the week that begins on {_day(slowest, '%B')}. "
            f"Weeks with {HIDDEN} exams are not drawn.")


def _desk_chart(findings):
    real = findings[findings["owner"] != "nobody"] if findings is not None else pd.DataFrame({"owner": []})
    desks = real["owner"].astype("str").value_counts()
    big, small = desks[desks >= FEWEST], desks[desks < FEWEST]
    # One small desk alone could be had by subtraction from the total, so its sum is shown only when it is large itself.
    rest = int(small.sum())
    bars = [*([(f"{len(small)} other desks", rest)] if rest >= FEWEST and len(small) > 1 else []), *reversed(list(big.items()))]
    ax = base_axes(None, (5.6, 3.6))
    ax.barh([name for name, _ in bars], [n for _, n in bars], color=BLUE)
    for y, (_, n) in enumerate(bars):
        ax.text(n, y, f" {n}", va="center", fontweight="bold")
    ax.set_xlabel("findings")
    ax.set_xlim(0, max([n for _, n in bars], default=1) * 1.12)
    ax.grid(axis="y", visible=False)
    if not bars:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no desk has enough findings to be shown", ha="center", transform=ax.transAxes)
    return ax, f"Findings where images, order and report do not match, by the desk that can mend them. Desks with {HIDDEN} are put together or not drawn."


def _figure(ax, words):
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    plt.close(ax.figure)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<figure><img alt="{html.escape(words, quote=True)}" src="data:image/png;base64,{data}"><figcaption>{html.escape(words)}</figcaption></figure>'


def _footer(as_of, site):
    local = as_of.tz_convert(site.time_zone)
    return (f'<p class="definition">As known on {_day(local, "%B %Y, %H:%M")} ({html.escape(site.time_zone)}). Groups of {HIDDEN} are hidden. '
            "Made from the department’s own HL7, DICOM and network traces; no patient is identified.</p>")
