"""The director's page: plain sentences from the numbers, one table, two charts, the definition of each figure, nobody's name."""

import base64
import html
import io
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from great_tables import GT

from ..analyses.network import summarize_throughput
from ..analyses.turnaround import measure_turnaround, summarize_turnaround
from ..schemas import OWNERS
from ..tables import TableError
from .axes import BLUE, GREY, base_axes, span

FEWEST = 11         # smaller groups could point at a person
# Acquisition modalities of PS3.16 CID 29: any other text in the field could be anything, so it is never printed.
MODALITIES = frozenset("AR BI BMD CR CT DX EPS ES GM HC IO IVOCT IVUS MG MR NM OCT OP OPT OT PT PX RF RG SM TG US XA XC".split())
MODALITY_WORDS = {"CR": "X-ray (CR)", "DX": "X-ray (DX)", "US": "Ultrasound", "MG": "Mammography", "NM": "Nuclear medicine", "PT": "PET", "XA": "Angiography", "RF": "Fluoroscopy"}
FIELD_WORDS = {"(0008,002A)": "the image times ", "ORC-5=CM": "the order's completion ", "OBR-22": "the report's status time ", "MSH-7": "the message time ",
               "(0040,0250)": "the device's own end of the exam ", "OBR-8": "the end given with the order "}
HIDDEN = f"fewer than {FEWEST}"
# A value from a log that looks like a script, a style sheet or an image elsewhere stays dead text: the browser may load nothing.
HEAD = """<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">"""
STYLE = """
.briefing{font:16px/1.5 system-ui,"Segoe UI",Arial,sans-serif;color:#1d1d1f;max-width:56rem;margin:2rem auto;padding:0 1.5rem}
.briefing h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}.briefing h2{font-size:1.2rem;margin:1.6rem 0 .4rem}.briefing .lead{font-size:1.15rem}
.briefing figure{margin:.8rem 0}.briefing figure img{width:100%;height:auto}.briefing figcaption,.briefing .definition{color:#55555c;font-size:.82rem}.briefing li{margin:.25rem 0}
.briefing .gt_table{margin-left:0!important;width:100%!important;font-family:inherit!important}
.briefing .charts{display:grid;grid-template-columns:1fr 1fr;gap:1.2rem}@media(max-width:46rem){.briefing .charts{grid-template-columns:1fr}}
@page{size:A4;margin:12mm 14mm}
@media print{.briefing{margin:0;max-width:none;padding:0;font-size:10.5pt;line-height:1.35}.briefing h2{margin:.7rem 0 .2rem;font-size:12pt}
.briefing li{margin:.1rem 0}.briefing h1{font-size:15pt}.briefing .lead{font-size:12pt;margin:.3rem 0}
.briefing ul{margin:.4rem 0}.briefing .gt_table{font-size:10pt!important}.briefing .definition{margin:.4rem 0}.briefing .charts{grid-template-columns:1fr 1fr}
.briefing figure,.briefing table{break-inside:avoid}}
"""


def write_briefing(path, dept, *, findings, network, site, start, end, as_of, ask=""):
    """The path of one HTML page about the exams that ended from `start` to `end`, as known at `as_of`; it prints on one A4 sheet.

    Aggregates only: no name, number or UID. Groups of fewer than 11 exams are hidden, with others where a total would give them back, and a
    share that would tell such a group is given as a bound. `ask` is what the reader is asked for, set first. `findings` or `network` None leaves that sentence out. TableError for a time without zone.
    """
    for name, instant in (("start", start), ("end", end), ("as_of", as_of)):
        if not isinstance(instant, pd.Timestamp) or instant.tz is None:
            raise TableError(f"{name}: give a pandas Timestamp with a time zone, such as pd.Timestamp('2025-11-01', tz='UTC').")
    reading = measure_turnaround(dept.events, "exam_ended", "final", as_of=as_of)
    reading = reading[(reading["start"] >= start) & (reading["start"] < end)].reset_index(drop=True)
    reading["modality"] = reading["modality"].where(reading["modality"].isin(MODALITIES), "other")
    whole = summarize_turnaround(reading, site=site)
    whole = whole.iloc[0].to_dict() if len(whole) else None
    period = _period(start, end, site)
    sentences = [*_waiting(reading, whole, site), *_unmatched(findings, whole), *_network(network, start, end)]
    asked = [f'<p class="lead">What is asked: {html.escape(ask)}</p>'] if ask else []
    body = [f"<h1>Imaging at {html.escape(site.name or 'this site')}, {period}</h1>", f'<p class="lead">{_headline(whole)}</p>', *asked, "<ul>", *(f"<li>{s}</li>" for s in sentences), "</ul>",
            "<h2>Turnaround by modality</h2>", _table(reading, whole, site), _definition(reading, whole),
            '<div class="charts">', _figure(_weekly_chart(reading, site), _weekly_words(reading, site)), _figure(*_desk_chart(findings)), "</div>", _footer(as_of, site)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<!DOCTYPE html>\n<html lang="en"><head>{HEAD}'
                    f"<title>Imaging briefing, {period}</title><style>{STYLE}</style></head><body><main class='briefing'>\n" + "\n".join(body) + "\n</main></body></html>\n",
                    encoding="utf-8", newline="\n")
    return path


def _period(start, end, site):
    first, last = start.tz_convert(site.time_zone), (end - pd.Timedelta("1s")).tz_convert(site.time_zone)
    whole_month = first.day == 1 and first.month == last.month and (last + pd.Timedelta("1s")).day == 1
    return f"{first:%B %Y}" if whole_month else f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}"


def _count(n):
    return f"{n:,}" if n == 0 or n >= FEWEST else HIDDEN


def _to_hide(counts):
    """The names to hide: groups under 11, then the next smallest until two or more are hidden and make 11 together, so that a total gives none back."""
    hidden, together = [], 0
    for name, n in sorted(((name, n) for name, n in counts.items() if n), key=lambda item: item[1]):
        if n >= FEWEST and (not hidden or (len(hidden) > 1 and together >= FEWEST)):
            break
        hidden.append(name)
        together += n
    return hidden


def _share(group):
    """The share within target in words; a bound where the exact one would tell a group under 11, "" where there is none."""
    decided = int(group["n_used"] - group["n_undecided"])
    if pd.isna(group["share_within_target"]) or decided < 2 * FEWEST:
        return ""
    met = round(group["share_within_target"] * decided)
    if decided - met < FEWEST:
        return f"over {math.floor(100 * (decided - FEWEST) / decided)}%"
    return f"under {math.ceil(100 * FEWEST / decided)}%" if met < FEWEST else f"{met / decided:.0%}"


def _headline(whole):
    if whole is None:
        return "<strong>The traces hold no exam that ended in this period.</strong> Nothing on this page says that all is well: check the period and the traces."
    if whole["n_used"] < FEWEST:
        return "Too few exams ended in this period to say how long a report takes."
    if pd.isna(whole["median"]):
        return f"More than half of the {whole['n_used']:,} exams still wait for a final report."
    slow = "" if pd.isna(whole["p90"]) else f"; one in ten took longer than <strong>{span(whole['p90'])}</strong>"
    return f"Half of the {whole['n_used']:,} exams had a final report within <strong>{span(whole['median'])}</strong> of the end of the exam{slow}."


def _waiting(reading, whole, site):
    if whole is None or whole["n_used"] < FEWEST:
        return
    yield from _met(reading, whole, site)
    oldest = "" if whole["n_open"] < FEWEST else f"; the oldest has waited {span(whole['oldest_open_minutes'])}"
    if whole["n_open"]:
        yield f"<strong>{_count(whole['n_open']).capitalize()}</strong> of them had no final report when this page was made{oldest}."
    else:
        yield "All of them had a final report when this page was made."


def _met(reading, whole, site):
    """The share within target for each target, as they differ in minutes; for all together where a part would tell a small group."""
    key = "exam_ended>final"
    aims = {name.partition("/")[2] or "other": aim for name, aim in site.targets.items() if name.partition("/")[0] == key}
    parts = summarize_turnaround(reading.assign(aim=reading["priority"].where(reading["priority"].isin(list(aims)), "other")), "aim", site=site)
    shares = {part["aim"]: _share(part) for part in parts[parts["n_used"] > 0].to_dict("records")}
    if len(shares) > 1 and all(share[:1].isdigit() for share in shares.values()) and set(shares) <= set(aims):
        said = [f"<strong>{share}</strong> of {html.escape(name)} exams within {span(aims[name]['minutes'])} (aim: {aims[name].get('share', 1):.0%})" for name, share in sorted(shares.items())]
        yield f"Final in time: {', '.join(said)}."
    elif share := _share(whole):
        aim = "; ".join(f"{name}: {aim.get('share', 1):.0%} within {span(aim['minutes'])}" for name, aim in sorted(aims.items()))
        yield f"<strong>{share[0].upper()}{share[1:]}</strong> were final within their target (aims: {html.escape(aim)})."


def _desks(findings):
    """`(findings by desk, desks to hide)`; group cases, which nobody has to mend, are not among them."""
    owners = findings["owner"].astype("str") if findings is not None else pd.Series(dtype="str")
    desks = owners[owners.isin(OWNERS) & (owners != "nobody")].value_counts()
    return desks, _to_hide(desks.to_dict())


def _unmatched(findings, whole):
    if findings is None or (whole is None and findings.empty):
        return
    desks, hidden = _desks(findings)
    if desks.empty:
        yield "Nothing was found where images, orders, reports, patients or clocks do not fit together."
        return
    first = f"; the most, {desks.iloc[0]:,}, are on the desk of the {desks.index[0]}" if desks.index[0] not in hidden else ""
    n_apart = len(findings) - int(desks.sum())
    apart = f" ({n_apart:,} more are meant to be so: one study for several orders)" if n_apart >= FEWEST else ""
    yield f"Images, orders, reports, patients or clocks do not fit together in <strong>{_count(desks.sum())}</strong> findings{first}{apart}."
    wrong = int(((findings["code"] == "U05e") & (findings["owner"] != "nobody")).sum())
    if wrong:
        yield f"<strong>{_count(wrong).capitalize()}</strong> of them may concern a wrong patient; they come first."


def _network(network, start, end):
    if network is None:
        return
    seen = [table["started_at"].fillna(table["ended_at"]) for table in (network.operations, network.associations)]     # some logs know only the end
    operations, ends = (table[(at >= start) & (at < end)] for table, at in zip((network.operations, network.associations), seen))
    stores = operations[operations["service"] == "C-STORE"]
    if stores.empty:
        return
    n = stores["n_instances"].fillna(1)
    failed, broken = int(n[stores["status_category"] == "Failure"].sum()), int(ends["outcome"].isin(["aborted", "rejected", "failed"]).sum())
    busiest = summarize_throughput(stores, every="1h").groupby("bucket_start")["n_instances"].sum().max()
    yield (f"{int(n.sum()):,} images were sent, and <strong>{failed or 'none'}</strong> of these failed; the busiest hour had {busiest:,}. "
           f"Of {len(ends):,} connections <strong>{broken or 'none'}</strong> {'were' if broken > 1 else 'was'} refused or broke off.")


def _table(reading, whole, site):
    groups = summarize_turnaround(reading, "modality", site=site) if whole else pd.DataFrame({"modality": [], "n_used": []})
    counts = dict(zip(groups["modality"], groups["n_used"]))
    hidden = _to_hide(counts)
    shown = groups[~groups["modality"].isin(hidden) & (groups["n_used"] > 0)].sort_values("n_used", ascending=False, kind="stable")
    if shown.empty:
        return "<p>No modality has enough exams to be shown.</p>"
    frame = pd.DataFrame([{"Modality": MODALITY_WORDS.get(g["modality"], g["modality"]), "Exams": f"{g['n_used']:,}", "Half final within": _words(g["median"]), "Nine of ten within": _words(g["p90"]),
                           "In target": _share(g)} for g in shown.to_dict("records")])
    table = GT(frame, rowname_col="Modality", id="turnaround").cols_align("right", columns=list(frame.columns[1:])).tab_options(data_row_padding="4px").as_raw_html()
    note = f'<p class="definition">Not shown, so that no group of {HIDDEN} can be told: {", ".join(sorted(hidden))}.</p>' if hidden else ""
    return table + note


def _words(minutes):
    return "not reached" if pd.isna(minutes) else span(minutes)


def _shares(sources):
    shares = sources.replace("", pd.NA).value_counts(normalize=True)
    return ", ".join(f"{FIELD_WORDS.get(name, '')}{name} ({share:.0%})" for name, share in shares.items())


def _definition(reading, whole):
    if whole is None:
        return ""
    sources, begins = (_shares(reading[column]) for column in ("end_source", "start_source"))
    left = f"{_count(int(whole['n_left_out']))} left out" if whole["n_left_out"] else "none left out"
    why = f" ({', '.join(sorted(set(reading['left_out']) - {''}))})" if whole["n_left_out"] else ""
    return (f'<p class="definition">Turnaround: from the end of the exam, by {html.escape(begins)}, to the first final report, by '
            f'{html.escape(sources or "none yet")}. Exams, by accession number, that ended in the period and are counted: '
            f"{whole['n_used']:,}; {left}{why}. Exams still waiting count with their wait so far (Kaplan-Meier).</p>")


def _day(at, form):
    """The day without a leading zero, which strftime has no portable code for, and the rest as `form`."""
    return f"{at.day} {at.strftime(form)}"


def _weeks(reading, site):
    local = reading["start"].dropna().dt.tz_convert(site.time_zone)
    if local.empty:
        return pd.DataFrame(columns=["week", "n_used", "median", "p90"])
    monday = (local - pd.to_timedelta(local.dt.day_of_week, unit="D")).dt.normalize().clip(lower=local.min().normalize()).dt.strftime("%Y-%m-%d")
    weeks = summarize_turnaround(reading.assign(week=monday), "week", site=site)
    return weeks[weeks["n_used"] >= FEWEST].sort_values("week")


def _weekly_chart(reading, site):
    weeks = _weeks(reading, site)
    ax = base_axes(None, (5.6, 3.6))
    names = [_day(pd.Timestamp(w), "%b") for w in weeks["week"]]
    slowest = weeks[["median", "p90"]].max().max()
    top = 1.15 * (slowest / 60 if slowest > 0 else 1)
    for i, week in enumerate(weeks.to_dict("records")):
        if pd.notna(week["p90"]):
            continue
        waiting = "half" if pd.isna(week["median"]) else "one in ten"
        ax.annotate(f"more than {waiting}\nstill wait", (i, top), ha="center", va="top", fontsize=8, color="#555", xytext=(0, -2), textcoords="offset points")
    ax.plot(names, weeks["p90"] / 60, marker="D", color=GREY, linestyle="--")
    ax.plot(names, weeks["median"] / 60, marker="o", color=BLUE, linewidth=2)
    for column, words, colour in (("p90", "nine of ten", "#555"), ("median", "half", BLUE)):
        if len(weeks) and pd.notna(weeks[column].iloc[-1]):
            ax.annotate(words, (len(weeks) - 1, weeks[column].iloc[-1] / 60), xytext=(7, 0), textcoords="offset points", color=colour, va="center", fontsize=9)
    ax.set_xlim(-0.3, max(len(weeks) - 0.2, 1))
    ax.set_ylim(0, top)
    if weeks.empty:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no week has enough exams to be drawn", ha="center", transform=ax.transAxes)
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
    desks, hidden = _desks(findings)
    rest = int(desks[hidden].sum())
    bars = [*([(f"{len(hidden)} {'other ' * (len(hidden) < len(desks))}desks", rest)] if rest >= FEWEST else []), *reversed(list(desks.drop(hidden).items()))]
    ax = base_axes(None, (5.6, 3.6))
    ax.barh([name for name, _ in bars], [n for _, n in bars], color=BLUE, height=0.6)
    for y, (_, n) in enumerate(bars):
        ax.text(n, y, f" {n}", va="center", fontweight="bold")
    ax.set_xlabel("findings")
    ax.set_xlim(0, max([n for _, n in bars], default=1) * 1.12)
    ax.set_ylim(-0.6, max(len(bars), 3) - 0.4)
    ax.grid(axis="y", visible=False)
    if not bars:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "too few findings to be drawn", ha="center", transform=ax.transAxes)
    return ax, (f"{_count(int(desks.sum())).capitalize()} findings where images, orders, reports, patients or clocks do not fit together, open when the page was made, by the desk that can mend them. "
                f"Desks with {HIDDEN} are put together with others.")


def _figure(ax, words):
    stream = io.BytesIO()
    ax.figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    plt.close(ax.figure)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<figure><img alt="{html.escape(words, quote=True)}" src="data:image/png;base64,{data}"><figcaption>{html.escape(words)}</figcaption></figure>'


def _footer(as_of, site):
    local = as_of.tz_convert(site.time_zone)
    return (f'<p class="definition">As known on {_day(local, "%B %Y, %H:%M")} ({html.escape(site.time_zone)}). Images sent: each time that one system sent another an image, as network logs tell it. '
            "Made from the department’s own HL7, DICOM and network traces; no patient is identified.</p>")
