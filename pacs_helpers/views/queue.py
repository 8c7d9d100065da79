"""Which finding first: the bench's queue, ranked by what a delay may cost the patient."""

import html

import pandas as pd

from ..analyses.identity import plain_id
from ..fixes.rehearsal import current_ids
from .axes import FINDING_NAMES
from .comparison import plain_table

CLASSES = {1: "wrong patient or exam", 2: "urgent or inpatient", 3: "unread or out of sight", 4: "identity", 5: "the rest"}
WRONG = {"U05e": "wrong patient: the images contradict the order", "U06": "one number, two patients", "U07": "wrong exam: the images fit another order"}
WAITING = {"U02": "no report", "U03": "report without images", "U18": "report refused"}
UNREAD = {"U01": "images that no order asks for", "U02": "unread images", "U03": "report without images", "U13": "images newer than the report", "U18": "report refused"}
IDENTITY = ("U05a", "U05b", "U05c", "U05d", "U06", "U11", "U12", "U17")
URGENT = {"STAT": "STAT", "S": "STAT", "ASAP": "ASAP", "A": "ASAP", "EMERGENCY": "emergency", "URGENT": "urgent", "T": "time critical"}


def rank_urgency(findings, dept, *, site):
    """The findings, most urgent first and older first among equals, with `rank` 1..5, `urgency` (why, in words) and `place` (the section, else where the device stands).

    1 wrong patient or exam; 2 STAT, emergency or inpatient without report, or whose report was refused; 3 unread images; 4 identity; 5 the rest.
    """
    orders, reports = (_by_number(table, findings, site) for table in (dept.orders, dept.reports))
    mine = dept.studies[dept.studies["study_instance_uid"].isin(findings["study_instance_uid"].str.split().explode())]
    studies, merged = mine.set_index("study_instance_uid")[["patient_id", "station_name"]].to_dict("index"), current_ids(dept)
    ranked = [_rank(f, _exam_of(f, orders, reports, site), [studies[u] for u in f["study_instance_uid"].split() if u in studies], merged, site) for f in findings.to_dict("records")]
    table = findings.assign(**pd.DataFrame(ranked, columns=["rank", "urgency", "place"], index=findings.index).astype({"rank": "Int64", "urgency": "str", "place": "str"}))
    return table.sort_values(["rank", "found_at", "finding_id"], kind="stable").reset_index(drop=True)


def _by_number(table, findings, site):
    """`{cleaned accession number: priority, patient class and section}` of those that findings name; the last word counts."""
    wanted = {site.clean_accession(n) for n in findings["accession_number"].unique()} - {""}
    cleaned = table["accession_number"].map({n: site.clean_accession(n) for n in table["accession_number"].unique()})
    return table.assign(number=cleaned)[cleaned.isin(wanted)].drop_duplicates("number", keep="last").set_index("number")[["priority", "patient_class", "section"]].to_dict("index")


def _exam_of(finding, orders, reports, site):
    number = site.clean_accession(finding["accession_number"])
    ordered, reported = orders.get(number, {}), reports.get(number, {})
    return {name: ordered.get(name) or reported.get(name, "") for name in ("priority", "patient_class", "section")}


def _rank(finding, exam, studies, merged, site):
    code = finding["code"]
    place = exam["section"] or next((site.ae_titles.get(s["station_name"], {}).get("place", "") for s in studies), "")
    people = {plain_id(merged.get(s["patient_id"], s["patient_id"])) for s in studies}
    if code == "U05e" and finding["message_control_id"]:
        return 1, "wrong patient: the report names another", place
    if code in WRONG and (code != "U06" or len(people) > 1):
        return 1, WRONG[code], place
    who = URGENT.get(exam["priority"].upper()) or {"E": "emergency", "I": "inpatient"}.get(exam["patient_class"])
    if code in WAITING and who:
        return 2, f"{who}, {WAITING[code]}", place
    if code in UNREAD:
        return 3, UNREAD[code], place
    return (4 if code in IDENTITY else 5), FINDING_NAMES[code], place


def describe_queued(finding, number, site):
    """A finding in one line of the queue: its place in it, why it stands there, since when, exam and desk."""
    return " | ".join(_queued(finding, number, site))


def _queued(finding, number, site):
    since = f"since {finding['found_at'].tz_convert(site.time_zone):%d %b %H:%M}" if pd.notna(finding["found_at"]) else "no date"
    return f"{number}. {finding['urgency']}", since, finding["code"], finding["accession_number"] or "no accession", finding["owner"]


def left_in_words(view):
    """What is left, class by class, in one line."""
    counts = view["rank"].value_counts()
    return "Left: " + ", ".join(f"{counts[rank]} {words}" for rank, words in CLASSES.items() if rank in counts) if len(view) else "Nothing left."


def queue_table(view, site, most=20):
    """The head of the queue as an HTML table, every value escaped."""
    lines = [_queued(row, number, site) for number, row in enumerate(view.head(most).to_dict("records"), 1)]
    more = f"<p><em>and {len(view) - most} more.</em></p>" if len(view) > most else ""
    return plain_table(("Most urgent first", "Since", "Finding", "Accession", "Desk"), lines) + more if lines else ""


def title_of_finding(finding):
    """The finding as HTML: why it stands where it does, code, desk, confidence, evidence and what to do, all escaped."""
    e = {k: html.escape(str(v)) for k, v in finding.items()}
    return (f"<div style='margin:6px 0;line-height:1.6'><strong style='font-size:1.1em'>{e['code']} {FINDING_NAMES[finding['code']]}, on the desk of: {e['owner']}</strong>"
            f" &nbsp; accession {e['accession_number'] or 'none'}, confidence {finding['confidence']:.0%}<br>{e['evidence']}<br><em>{e['suggested_correction']}</em></div>")
