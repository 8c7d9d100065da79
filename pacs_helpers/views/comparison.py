"""Both sides of a finding, field by field: what the feed says and what the images say."""

import difflib
import html
import re

import pandas as pd

from ..fixes.rehearsal import of_exam

FIELDS = (("patient_id", "Patient ID"), ("patient_name", "Patient name"), ("patient_birth_date", "Birth date"), ("patient_sex", "Sex"),
          ("accession_number", "Accession number"), ("modality", "Modality"), ("what", "Procedure / study"), ("body_part_examined", "Body part"), ("at", "Time"))


def sides_of(finding, dept, site, accession="", study_uid=""):
    """`(order or report, study)` as dicts of text to compare, for a finding and the candidate chosen for it; an absent side is {}.

    Times are in `site.time_zone`.
    """
    uid = study_uid or finding["study_instance_uid"].split(" ")[0]
    studies = dept.studies[dept.studies["study_instance_uid"] == uid] if uid else dept.studies.head(0)
    if studies.empty and accession:
        studies = of_exam(dept.studies, accession, site)
    messages = finding["message_control_id"].split()
    reports = dept.reports[dept.reports["message_control_id"].isin(messages)]
    named = of_exam(reports, finding["accession_number"], site)
    reports = reports if named.empty else named         # of a message about several exams, the one meant
    number = accession or finding["accession_number"]
    orders = of_exam(dept.orders, number, site)
    if orders.empty and not studies.empty:
        own = studies["study_instance_uid"].iloc[0]
        orders = dept.orders[dept.orders["study_instance_uid"] == own]
    feed = reports if messages and not reports.empty else orders if not orders.empty else of_exam(dept.reports, number, site)
    if feed.empty and not studies.empty:
        feed = dept.reports[dept.reports["study_instance_uid"] == studies["study_instance_uid"].iloc[0]]
    return _side(feed, "procedure_name", ("observed_at", "scheduled_at", "ordered_at"), site), _side(studies, "study_description", ("started_at", "study_at"), site)


def _side(rows, what, times, site):
    if rows.empty:
        return {}
    row = rows.iloc[0]
    at = next((row[t] for t in times if t in row and pd.notna(row[t])), None)
    return {**{name: str(row.get(name, "") or "") for name in (*dict(FIELDS), "study_instance_uid")}, "what": str(row.get(what, "") or ""),
            "at": f"{at.tz_convert(site.time_zone):%Y-%m-%d %H:%M}" if at is not None else ""}


def comparison_table(feed, study):
    """An HTML table of both sides, every value escaped: each row says in a sign and words whether they agree, what differs is underlined, odd spaces are drawn."""
    rows = "".join(_row(label, feed.get(name, ""), study.get(name, ""), name) for name, label in FIELDS)
    heads = "".join(f"<th scope='col' style='text-align:left;padding:2px 14px 2px 0'>{h}</th>" for h in ("Field", "Order or report", "Images", ""))
    absent = "" if feed and study else f"<p><em>{'No order or report' if not feed else 'No study'} to compare with yet: pick a candidate, or look in the other system.</em></p>"
    spaces = "<p>␣ is a space, ⍽ a no-break space.</p>" if re.search("[␣⍽]", rows) else ""
    return f"<table style='border-collapse:collapse;line-height:1.5'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{spaces}{absent}"


def _row(label, one, other, name):
    same = one == other
    verdict = "" if not one and not other else "= same" if same else "– only one side" if not one or not other else "≠ differs" if name not in ("what", "at") else "? compare"
    differs = verdict == "≠ differs"
    left, right = (_marked(one, other, differs), _marked(other, one, differs))
    weight = "font-weight:600" if differs else "color:#555"
    cell = "padding:2px 14px 2px 0;border-top:1px solid #ddd;vertical-align:top;white-space:pre-wrap"
    return (f"<tr><th scope='row' style='text-align:left;font-weight:400;color:#555;{cell}'>{label}</th><td style='{cell}'>{left or '–'}</td>"
            f"<td style='{cell}'>{right or '–'}</td><td style='{weight};{cell};white-space:nowrap'>{verdict}</td></tr>")


def _marked(text, other, differs):
    """`text`, escaped, with leading, trailing, double and no-break spaces drawn, and where the sides differ what `other` does not have underlined in <mark>."""
    text, other = _drawn(text), _drawn(other)
    if not differs:
        return html.escape(text)
    out = []
    for tag, i, j, _, _ in difflib.SequenceMatcher(None, text, other, autojunk=False).get_opcodes():
        piece = html.escape(text[i:j] if tag == "equal" else text[i:j].replace(" ", "␣"))
        out.append(piece if tag == "equal" or not piece else f"<mark style='background:#ffe08a;text-decoration:underline;text-underline-offset:3px'>{piece}</mark>")
    return "".join(out)


def _drawn(text):
    return re.sub(r"^ +| +$| {2,}", lambda spaces: "␣" * len(spaces[0]), text.replace("\xa0", "⍽"))


def plain_table(heads, rows):
    """An HTML table of rows of text, every value escaped."""
    cell = "text-align:left;padding:2px 12px 2px 0;border-top:1px solid #ddd;line-height:1.5;vertical-align:top"
    head = "".join(f"<th scope='col' style='{cell};border-top:0'>{h}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td style='{cell}'>{html.escape(str(value)) or '–'}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table style='border-collapse:collapse'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
