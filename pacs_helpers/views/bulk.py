"""Many findings that one rule explains, decided together: each is previewed and becomes a record of its own."""

import re

import pandas as pd

from ..fixes.corrections import record_corrections
from ..fixes.ledger import LedgerError
from ..tables import TableError
from .comparison import plain_table
from .decisions import ONE_EXAM, cautions_of, current_id, match_decision

MOST, AT_ONCE, LEAD = 2_000, 100, 0.1
DECISION = ("kind", "target", "old", "new")
COLUMNS = ("rule", "finding_id", "code", "accession_number", "patient", *DECISION, "confidence", "evidence")
ALIKE = {"U09": "group cases: right as they are", "U15": "test and service images: nothing to match"}


def bulk_rules(findings, candidates, dept, site, tell):
    """What accepting would record for each of the first 2,000 findings whose proposal follows a rule that others share, one row each, with the `rule` in words.

    `tell` is told how many of how many were looked at.
    """
    rows, best = [], {finding_id: mine.to_dict("records") for finding_id, mine in candidates.sort_values("score", ascending=False, kind="stable").groupby("finding_id")}
    for finding in told_of(findings.head(MOST).to_dict("records"), tell):
        mine = best.get(finding["finding_id"], [])
        if finding["code"] not in (*ONE_EXAM, *ALIKE) and (not mine or len(mine) > 1 and mine[0]["score"] - mine[1]["score"] < LEAD):
            continue
        try:
            decision = {name: "" for name in DECISION} | match_decision(finding, {} if finding["code"] in ALIKE else (mine or [{}])[0], dept, site)
        except TableError:
            continue                # such as studies of one exam under two patients: for a person, one by one
        rows.append({**{name: finding.get(name, "") for name in COLUMNS}, **decision, "patient": _patient_of(decision["target"], finding, dept), "rule": rule_of(finding, decision, dept)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    shared = table[(table["rule"] != "") & table.duplicated("rule", keep=False)]
    return shared.sort_values(["rule", "finding_id"], kind="stable").reset_index(drop=True)


def told_of(rows, tell):
    """The rows one by one; every now and then `tell` is told how many of how many are done."""
    for n, row in enumerate(rows):
        if n % AT_ONCE == 0 and n:
            tell(n, len(rows))
        yield row


def _patient_of(target, finding, dept):
    """Name and ID of the patient whose images or report a decision is about, as they stand."""
    for table, key in ((dept.studies, "study_instance_uid"), (dept.reports, "message_control_id")):
        rows = table[table[key].isin([*target.split(), *finding[key].split()])]
        if len(rows):
            return ", ".join(v for v in (rows["patient_name"].iloc[0], rows["patient_id"].iloc[0]) if v)
    return ""


def rule_of(finding, decision, dept):
    """The rule behind a proposal, the same words for the same rule; "" where it is a matter of its own, such as a typing error."""
    code, kind, old, new = finding["code"], decision["kind"], decision["old"], decision["new"]
    if code in ALIKE and kind == "dismiss":
        return f"{code} {ALIKE[code]}"
    if kind == "merge":
        stations = sorted(set(dept.studies.loc[dept.studies["study_instance_uid"].isin(decision["target"].split()), "station_name"]))
        return f"{code} several studies of one exam from {', '.join(stations) or 'an unnamed station'}"
    if kind not in ("patient_id", "link") or not old or not new:
        return ""
    what = f"{code} {'patient ID' if kind == 'patient_id' else 'accession number'}"
    if code == "U05c" and current_id(old, dept) == new:
        return f"{what}: registration merged it into another"
    word, longer, shorter = ("gets", new, old) if len(new) > len(old) else ("loses", old, new)
    prefix = longer.removesuffix(shorter)
    if not longer.endswith(shorter) or re.search("[1-9]$", prefix):
        return ""
    return f"{what} {word} {f'the prefix {prefix}' if prefix.strip('0') else 'leading zeros'}"


def head_of_rule(rows, findings):
    """`(finding, decision)` of the first row of a rule, which stands for all; (None, None) of none."""
    row = rows.iloc[0].to_dict() if len(rows) else None
    return row and findings[findings["finding_id"] == row["finding_id"]].iloc[0].to_dict(), row


def rows_of_rule(rules, rule, dept, site, instances=None, findings=None, tell=lambda n, of: None):
    """`(rows of the rule to record, how many are left out because something stands against them)`."""
    rows = rules[rules["rule"] == rule]
    is_clear = [not cautions_of({name: row[name] for name in DECISION}, dept, site, instances, findings) for row in told_of(rows.to_dict("records"), tell)]
    return rows[is_clear].reset_index(drop=True), len(rows) - sum(is_clear)


def bulk_table(rows):
    """An HTML table of all that a rule would record, every value escaped."""
    lines = [(r["accession_number"], r["patient"], r["kind"], r["target"], r["old"], r["new"], f"{r['confidence']:.0%}") for r in rows.to_dict("records")]
    table = plain_table(("Accession", "Patient", "Record", "On", "Old", "New", "Confidence"), lines)
    return f"<div style='max-height:22rem;overflow:auto;overflow-wrap:anywhere' tabindex='0' role='region' aria-label='What the rule would record'>{table}</div>"


def record_all(ledger, rows, *, reason, text, decided_by, expect, tell):
    """`(how many were saved, what was not and why)`: one record a row, a hundred synced together. A conflict leaves its row out; what the ledger cannot take stops."""
    n_made, failed, rows = 0, [], rows.to_dict("records")
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at:at + AT_ONCE]
        decisions = [{**{name: row[name] for name in (*DECISION, "evidence", "finding_id")}, "reason": reason, "text": text or f"all of one rule: {row['rule']}", "decided_by": decided_by}
                     for row in part]
        try:
            made = record_corrections(ledger, decisions, expect=expect)
        except LedgerError as error:
            made = [error]
        n_made += sum(isinstance(record, dict) for record in made)
        for row, error in zip(part, made):
            if isinstance(error, Exception):
                failed.append(f"{row['finding_id']}: {told(error)}")
                if getattr(error, "code", "CONFLICT") != "CONFLICT":
                    return n_made, failed
        tell(at + len(part), len(rows))
    return n_made, failed


def told(error):
    """What became of a decision, in a sentence: what only the disk did not confirm may be in the ledger all the same."""
    return str(error) if getattr(error, "code", "") == "LOG_NOT_SYNCED" else f"NOT saved. {error}"
