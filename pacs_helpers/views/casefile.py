"""One exam end to end: what each system said and when, where it waited longest, and at whose desk."""

import textwrap
from itertools import pairwise

import numpy as np
import pandas as pd

from ..analyses.turnaround import LONGEST_DAYS
from ..milestones import best_events
from ..schemas import FLAG, INSTANT, LANES, MEASURE, MILESTONES
from ..tables import TableError, nearest
from .axes import BLUE, COLOURS, FINDING_NAMES, HATCHES, RED, base_axes, span

# Whose work brings an exam to a milestone; a pair where it depends on where it comes from.
DESK = {"ordered": "nobody", "scheduled": "scheduling", "arrived": "scheduling", "exam_started": "technologist",
        "exam_ended": "technologist", "images_available": "network", "opened": "radiologist", "dictated": "radiologist",
        "preliminary": "radiologist", "final": "radiologist", "addended": "nobody", "delivered": "interface team",
        "cancelled": "scheduling",
        ("ordered", "exam_started"): "scheduling", ("arrived", "scheduled"): "nobody", ("exam_started", "images_available"): "technologist"}
DESKS = ("scheduling", "technologist", "network", "radiologist", "interface team")
LOOK = {"nobody": ("white", ""), **{desk: (COLOURS[i], HATCHES[i]) for i, desk in enumerate(DESKS)}}
BEFORE_THE_EXAM, OF_THE_EXAM = ("ordered", "scheduled", "arrived"), ("scheduled", "arrived", "exam_started", "exam_ended", "cancelled")
ONE_WAY = ("arrived", "exam_started", "exam_ended", "images_available", "dictated", "preliminary", "final", "delivered")
DEVICES_DIFFER = pd.Timedelta(minutes=10)       # PS3.17 R.6: clocks that nobody sets are off by 5 to 10 minutes
GAP_COLUMNS = ["start_milestone", "end_milestone", "start", "end", "minutes", "owner", "is_open", "is_possible", "doubt"]
LABEL_LENGTH = 44
ROOM_AT_THE_END = 32        # characters, for the labels of the last records and the legend


def explain_gaps(dept, accession_number, *, site=None, as_of=None):
    """Where the time of one exam went: per pair of successive milestones the minutes, the owner of the wait, and doubts about the clocks.

    Milestones stand in order of time, so the minutes add up to the whole; one that is missing joins its neighbours, and a gap with the
    whole exam in it is nobody's. An appointment overtaken by the exam is no wait.
    With `as_of` the last row of an unfinished exam is the wait for its next milestone, `is_open`, so far.
    `doubt` says which order is impossible, which sources of one milestone are over 10 minutes apart, and which time has a problem code.
    A gap that ends in an impossible order, or is over 30 days once the exam has begun, is not `is_possible` and nobody's.
    `site` finds the number in any spelling. TableError for an exam that is not in `dept`, with the nearest number.
    """
    events = _until(_of_exam(dept.events, _find_exam(dept, accession_number, site)), as_of)
    reached = _reached(events)
    doubts = _doubts(events, reached)
    rows = [_gap(a, b["milestone"], b["at"], doubts.get(b["milestone"], []), _impossible(reached[:i + 1], b))
            for i, (a, b) in enumerate(pairwise(reached))]
    awaited = _awaited({m["milestone"] for m in reached}) if as_of is not None else ""
    if awaited and reached:
        rows.append(_gap(reached[-1], awaited, as_of, [], []) | {"end": pd.NaT, "is_open": True})
    if rows:
        rows[0]["doubt"] = "; ".join([*doubts.get(reached[0]["milestone"], []), *filter(None, [rows[0]["doubt"]])])
    table = pd.DataFrame(rows, columns=GAP_COLUMNS)
    return table.astype({"start": INSTANT, "end": INSTANT, "minutes": MEASURE, "is_open": FLAG, "is_possible": FLAG})


def plot_exam(dept, accession_number, *, site, findings=None, as_of=None, ax=None):
    """The case file of one exam: a lane per system with all it said, and on top the gaps between milestones, coloured by whose desk.

    Distances are not to scale: a gap grows with the logarithm of its length, so that seconds and days are both readable. The title
    names the longest gap and its owner, the findings about the exam, and every doubt of `explain_gaps`.
    """
    gaps = explain_gaps(dept, accession_number, site=site, as_of=as_of)
    exam = _find_exam(dept, accession_number, site)
    trace = _until(_of_exam(dept.trace, exam), as_of)
    reached = _reached(_until(_of_exam(dept.events, exam), as_of))
    place, knots = _scale(reached, trace, gaps)
    ax = base_axes(ax, (12, 5.6))
    ax.grid(visible=False)
    _draw_gaps(ax, gaps, place)
    width = _character_width(ax, place(knots[-1]) - place(knots[0]) if knots else 1.0)
    for row, lane in enumerate(reversed(LANES)):
        ax.axhline(row, color="0.85", linewidth=0.8)
        _draw_lane(ax, trace[trace["lane"] == lane], row, place, width)
    _draw_milestones(ax, reached, place, site.time_zone)
    ax.set_yticks([*np.arange(len(LANES)) + 0.3, len(LANES) + 0.35], [*reversed(LANES), "gaps"])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(-0.1, len(LANES) + 1)
    ax.set_xlim(-0.3, (place(knots[-1]) if knots else 1) + ROOM_AT_THE_END * width)
    note = "; × a record with problems" if (trace["problems"] != "").any() else ""
    ax.set_xlabel(f"milestone, time ({site.time_zone}); distances grow with the logarithm of the wait{note}")
    ax.set_title(_headline(exam[0][0], gaps, reached, _about(findings, exam)), loc="left", fontsize=10)
    return ax


def _key(site, accession_number):
    return site.clean_accession(accession_number) if site else accession_number.strip()


def _find_exam(dept, accession_number, site):
    """`(spellings of its number, UIDs of its studies)`, the spelling of the event log first."""
    wanted = _key(site, accession_number)
    tables = (dept.events, dept.trace, dept.studies, dept.orders, dept.reports)
    known = {a: _key(site, a) for table in tables for a in table["accession_number"].unique() if a}
    spellings = [a for a, key in known.items() if key == wanted]
    if not wanted or not spellings:
        raise TableError(f"accession_number: no exam '{accession_number}' in this department.{nearest(accession_number, known)}")
    named = (t.loc[t["accession_number"].isin(spellings), "study_instance_uid"] for t in (dept.studies, dept.events))
    return spellings, {uid for uids in named for uid in uids if uid}


def _of_exam(rows, exam):
    spellings, uids = exam
    return rows[rows["accession_number"].isin(spellings) | ((rows["accession_number"] == "") & rows["study_instance_uid"].isin(uids))]


def _until(rows, as_of):
    return rows if as_of is None else rows[~(rows["at"] > as_of)]


def _reached(events):
    """The milestones as records in order of time, without an appointment that the exam overtook."""
    best = best_events(events.assign(accession_number="exam"))
    best = best.assign(step=best["milestone"].map(MILESTONES.index).astype(int)).sort_values(["at", "step"], kind="stable")
    begun = best.loc[best["milestone"].isin(["exam_started", "exam_ended"]), "at"].min()
    return best[~((best["milestone"] == "scheduled") & (best["at"] > begun))].to_dict("records")


def _gap(start, end_milestone, end, doubts, impossible):
    name, minutes = f"{start['milestone']} to {end_milestone}", (end - start["at"]).total_seconds() / 60
    owner = DESK.get((start["milestone"], end_milestone), DESK[end_milestone])
    if start["milestone"] not in BEFORE_THE_EXAM and minutes > LONGEST_DAYS * 1440:
        impossible = [*impossible, f"{name} is {span(minutes)}: a clock or a wrong link"]
    elif start["milestone"] in BEFORE_THE_EXAM and end_milestone not in OF_THE_EXAM:
        owner, doubts = "nobody", [*doubts, f"{name}: when the exam took place is not known in between, so neither is the desk"]
    return {"start_milestone": start["milestone"], "end_milestone": end_milestone, "start": start["at"], "end": end, "minutes": minutes,
            "owner": "nobody" if impossible else owner, "is_open": False, "is_possible": not impossible,
            "doubt": "; ".join([*doubts, *impossible])}


def _awaited(reached):
    if reached & {"final", "addended", "delivered", "cancelled"}:
        return ""
    if reached & {"exam_ended", "images_available", "opened", "dictated", "preliminary"}:
        return "final"
    return "exam_ended" if "exam_started" in reached else "exam_started"


def _impossible(before, b):
    """In words, that the milestone next before `b` by the clock can only come after it. Years apart are told by the gap itself."""
    later = ONE_WAY[ONE_WAY.index(b["milestone"]) + 1:] if b["milestone"] in ONE_WAY else ()
    a = next((m for m in reversed(before) if m["milestone"] in ONE_WAY), None)
    if a is None or a["milestone"] not in later or not pd.Timedelta(0) < b["at"] - a["at"] <= pd.Timedelta(days=LONGEST_DAYS):
        return []
    early, late = (f"{m['milestone']} ({m['source']} {m['source_field']})" for m in (a, b))
    return [f"{early} is {span((b['at'] - a['at']).total_seconds() / 60)} before {late}: two clocks disagree, or one entry came late"]


def _doubts(events, reached):
    """`{milestone: [what is doubtful about its time]}`."""
    doubts = {m["milestone"]: [f"time of {m['milestone']}: {m['problems']}"] for m in reached if m["problems"]}
    for best in reached:
        if best["milestone"] not in ("exam_started", "exam_ended"):
            continue
        others = events[(events["milestone"] == best["milestone"]) & (events["source"] != best["source"])]
        for other in best_events(others.assign(accession_number=others["source"].astype("str"))).to_dict("records"):
            apart = other["at"] - best["at"]
            if abs(apart) > DEVICES_DIFFER:
                doubts.setdefault(best["milestone"], []).append(
                    f"{best['milestone']}: {other['source']} {other['source_field']} is {span(abs(apart).total_seconds() / 60)} "
                    f"{'later' if apart > pd.Timedelta(0) else 'earlier'} than {best['source']} {best['source_field']}")
    return doubts


def _about(findings, exam):
    if findings is None:
        return []
    spellings, uids = exam
    return [f"{f['code']} {FINDING_NAMES[f['code']]} ({f['owner']})" for f in findings.to_dict("records")
            if f["accession_number"] in spellings or uids & set(f["study_instance_uid"].split())]


def _scale(reached, trace, gaps):
    """`place(instant)` -> x, and the instants between which it is linear."""
    ends = gaps.loc[gaps["is_open"], "start"] + pd.to_timedelta(gaps.loc[gaps["is_open"], "minutes"], unit="min")
    knots = sorted({*(m["at"] for m in reached), *ends})
    said = pd.concat([trace["at"], trace["ended_at"]]).dropna()
    if len(said):
        knots = [said.min()] * (not knots or said.min() < knots[0]) + knots
        knots += [said.max()] * (said.max() > knots[-1])
    seconds = np.array([t.timestamp() for t in knots])
    x = np.concatenate([[0.0], np.cumsum(1.4 + np.log10(1 + np.diff(seconds) / 60))])
    return (lambda at: float(np.interp(at.timestamp(), seconds, x))), knots


def _character_width(ax, total):
    inches = max(ax.figure.get_figwidth() * ax.get_position().width, 1)
    share = ROOM_AT_THE_END * 0.056 / inches
    return total * 0.056 / inches / max(1 - share, 0.3)


def _longest(gaps):
    """The index of the longest wait; nobody waits for an addendum, or for an order entered after the exam."""
    is_wait = gaps["is_possible"].astype(bool) & ~gaps["end_milestone"].isin(["ordered", "addended"])
    return gaps["minutes"].where(is_wait, -1).idxmax() if is_wait.any() else None


def _draw_gaps(ax, gaps, place):
    longest = _longest(gaps)
    for i, gap in enumerate(gaps.to_dict("records")):
        start, end = place(gap["start"]), place(gap["start"] + pd.Timedelta(minutes=gap["minutes"]))
        colour, hatch = LOOK[gap["owner"]]
        is_first = gap["owner"] not in set(gaps["owner"].iloc[:i])
        ax.barh(len(LANES) + 0.35, end - start, left=start, height=0.5, color=colour, hatch=hatch, edgecolor="black",
                linewidth=2.5 if i == longest else 0.6, label=gap["owner"] if is_first else None)
        if end > start:
            words = span(gap["minutes"]) + ("…" if gap["is_open"] else "")
            ax.text((start + end) / 2, len(LANES) + 0.35, words, ha="center", va="center", fontsize=7.5,
                    fontweight="bold" if i == longest else "normal", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    if len(gaps):
        ax.legend(title="whose desk", loc="upper right", fontsize=8, title_fontsize=8, framealpha=1)


def _draw_lane(ax, rows, row, place, width):
    taken = -np.inf
    for record in sorted(rows.to_dict("records"), key=lambda r: r["at"]):
        x = place(record["at"])
        colour = RED if record["problems"] else BLUE
        if pd.notna(record["ended_at"]):
            ax.plot([x, place(record["ended_at"])], [row + 0.2] * 2, color=colour, linewidth=4, alpha=0.5, solid_capstyle="butt")
        ax.plot([x], [row + 0.2], "X" if record["problems"] else "o", color=colour, markersize=6)
    marks = sorted((place(r["at"]), r["what"] + (f" [{r['problems']}]" if r["problems"] else "")) for r in rows.to_dict("records"))
    for i, (x, words) in enumerate(marks):
        if x < taken:
            continue
        text = textwrap.shorten(words, LABEL_LENGTH, placeholder="…")
        taken = x + (len(text) + 1) * width
        if any(other < taken for other, _ in marks[i + 1:]):
            taken += 8 * width
        hidden = sum(other < taken for other, _ in marks[i + 1:])
        ax.text(x, row + 0.42, text + (f" +{hidden} more" if hidden else ""), fontsize=7.5, va="bottom")


def _draw_milestones(ax, reached, place, zone):
    names = {}
    for m in reached:
        names.setdefault(m["at"], []).append(m["milestone"])
        ax.axvline(place(m["at"]), color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    year = " %Y" if len({at.year for at in names}) > 1 else ""
    ax.set_xticks([place(at) for at in names], [f"{', '.join(n)}\n{at.tz_convert(zone):%d %b{year} %H:%M}" for at, n in names.items()],
                  rotation=50, ha="right", fontsize=8, rotation_mode="anchor")


def _headline(accession_number, gaps, reached, about):
    longest = _longest(gaps)
    if longest is None:
        known = ", ".join(m["milestone"] for m in reached) or "no milestone"
        lines = [f"Exam {accession_number}: no wait to show, {known} is known"]
    else:
        lines = [f"Exam {accession_number}: longest gap {_gap_words(gaps.loc[longest])}"]
        later = gaps[~gaps["start_milestone"].isin(BEFORE_THE_EXAM)]
        if gaps.loc[longest, "start_milestone"] in BEFORE_THE_EXAM and _longest(later) is not None:
            lines.append(f"Longest once the exam had begun: {_gap_words(later.loc[_longest(later)])}")
    lines += [f"Findings: {', '.join(about)}"] if about else []
    lines += [f"Doubt: {doubt}" for text in gaps["doubt"] for doubt in text.split("; ") if doubt]
    return "\n".join(textwrap.fill(line, 138) for line in lines)


def _gap_words(gap):
    desk = gap["owner"] if gap["owner"] != "nobody" else "cannot be told"
    to, so_far = (" waiting for ", " so far") if gap["is_open"] else (" to ", "")
    return f"{gap['start_milestone']}{to}{gap['end_milestone']}, {span(gap['minutes'])}{so_far}, desk: {desk}"
