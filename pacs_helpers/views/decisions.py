"""What each action of the bench would record, as arguments of record_correction, and how that reads before it is recorded."""

import html
import re

from ..analyses.proposals import propose_series
from ..fixes.corrections import FIELDS, REASONS, read_corrections
from ..fixes.ledger import read_ledger
from ..fixes.rehearsal import collisions_of, current_ids, of_exam
from ..tables import TableError
from .comparison import sides_of

ACTIONS = {"accept": "Accept the candidate", "reject": "No partner here", "pass_on": "Not here: another desk", "ignore": "Ignore: nothing to change", "patient_id": "Correct the patient ID",
           "link": "Move to an accession", "unlink": "Take off its accession", "split": "Split off series", "merge": "Merge studies", "merge_series": "Move series to a study",
           "bulk": "All of one rule"}
INPUTS = {"patient_id": ("subject", "patient_id"), "link": ("subject", "accession"), "unlink": ("subject",), "split": ("subject", "series", "accession"),
          "merge": ("subject", "studies", "accession"), "merge_series": ("subject", "series", "studies"), "bulk": ("rule", "count")}
OF_ACTION = {"reject": "NO_PARTNER", "pass_on": "NOT_HERE", "split": "TWO_EXAMS", "merge": "SPLIT_BY_DEVICE", "merge_series": "WRONG_PICK", "unlink": "WRONG_PICK"}
OF_CODE = {"U05a": "TYPED_WRONG", "U05b": "ID_FORMAT", "U05c": "MERGED", "U05d": "IDENTITY_CONFIRMED", "U05e": "WRONG_PICK", "U07": "WRONG_PICK", "U08": "SPLIT_BY_DEVICE", "U09": "NO_ERROR",
           "U10": "SPLIT_BY_DEVICE", "U15": "TEST"}
ONE_EXAM = ("U08", "U10")
_NOTHING = ("There is no safe proposal to accept here: nothing says what is right. Find out, and correct it by one of the other actions; "
            "if nothing is wrong, choose Ignore, and give the reason.")
ALONE = "\n"            # between a message and the one of its exams that is meant
SIDES = (("studies", "study_instance_uid"), ("reports", "message_control_id"))


def reasons_for(action, finding, decision=None):
    """`[(words, code)]` for the reason, the likely one first, `("", "")` where none is. A person still chooses it, unless the action is the reason."""
    code, about_report = finding["code"], finding["message_control_id"] and finding["code"] in ("U03", "U05e", "U06")
    by_code = OF_CODE.get(code, "TYPED_WRONG" if decision else "")
    likely = OF_ACTION.get(action) or ("REPORT_MISFILED" if about_report else by_code if action != "ignore" or code in ("U09", "U15") else "NO_ERROR")
    if decision and decision["kind"] == "dismiss" and action == "accept":
        likely = "TEST" if code == "U15" else "NO_ERROR"
    if decision and decision["kind"] == "link" and not decision["old"].strip():
        likely = ""                 # no number was typed at all
    codes = [likely] if action == "pass_on" else [likely, *(r for r in REASONS if r != likely)]
    return [(f"{c}: {REASONS[c]}" if c else "", c) for c in codes]


def subjects_of(finding, chosen, dept):
    """`[(words, id)]` of the studies and the report that a finding and its candidate are about."""
    uids, messages = _uids_of(finding, chosen), finding["message_control_id"]
    report = [(f"report, {' '.join(_values(messages, 'accession_number', dept)) or 'no accession'}", messages)] if _values(messages, "patient_id", dept) else []
    alone = sorted((n for n in _exams_of(messages, dept) if n), key=lambda n: n != finding["accession_number"])
    return _told(dept.studies[dept.studies["study_instance_uid"].isin(uids)], uids) + [*((f"report, exam {n} alone", f"{messages}{ALONE}{n}") for n in alone), *report]


def meant_of(finding, chosen, ids, dept, site):
    """Which of `ids`, those of subjects_of, is most likely to be decided on."""
    if finding["code"] == "U05e":
        return ids[-1]
    try:
        decision = match_decision(finding, chosen, dept, site) if chosen and finding["code"] not in ONE_EXAM else {}
    except TableError:
        decision = {}               # nothing to accept: then nothing is meant
    return next((i for i in (f"{decision.get('target')}{ALONE}{decision.get('old')}", decision.get("target")) if i in ids), ids[0])


def studies_near(finding, chosen, subject, dept):
    """`[(words, Study Instance UID)]` of what may be merged with a study: those of the finding, of its candidate and of the same patient, at most 30."""
    uids, people = _uids_of(finding, chosen), [p for p in _values(subject, "patient_id", dept) if p]
    near = (dept.studies["study_instance_uid"].isin(uids) | dept.studies["patient_id"].isin(people)) & (dept.studies["study_instance_uid"] != subject)
    return _told(dept.studies[near], uids)[:30]


def _uids_of(finding, chosen):
    return [*finding["study_instance_uid"].split(), *chosen.get("candidate_study_instance_uid", "").split()]


def _told(studies, uids):
    rows = sorted(studies.to_dict("records"), key=lambda r: uids.index(r["study_instance_uid"]) if r["study_instance_uid"] in uids else len(uids))
    return [(f"study …{r['study_instance_uid'][-6:]}, {r['modality']} {r['body_part_examined'] or r['study_description']}, {r['accession_number'] or 'no accession'}, "
             f"{r['patient_id'] or 'no ID'}", r["study_instance_uid"]) for r in rows]


def series_of(subject, dept, site=None):
    """`[(words, Series Instance UID)]` of a study; with `site`, the order that each series likely belongs to is among the words."""
    rows, likely = dept.series[dept.series["study_instance_uid"] == subject].to_dict("records"), {}
    if rows and site:
        people = _values(subject, "patient_id", dept)
        mine = {name: table[table["patient_id"].isin(people)].reset_index(drop=True) for name in ("orders", "studies", "reports") for table in [getattr(dept, name)]}
        proposed = propose_series(dept._replace(**mine), subject, site=site)
        likely = {uid: f", likely of {number}" for uid, number in zip(proposed["series_instance_uid"], proposed["proposed_accession_number"]) if number}
    return [(f"series {r['series_number'] or '?'}, {r['modality']} {r['series_description'] or r['body_part_examined']}, images: {r['n_instances']}"
             f"{likely.get(r['series_instance_uid'], '')}", r["series_instance_uid"]) for r in rows]


def _values(target, column, dept):
    """The distinct values of a column on a study or on the versions of a report, as they stand."""
    for name, key in SIDES:
        table = getattr(dept, name)
        rows = table[table[key].isin(target.split())]
        if len(rows):
            return list(dict.fromkeys(rows[column]))
    return []


def current_id(patient_id, dept):
    """The patient ID after the merges that registration has announced."""
    return current_ids(dept).get(patient_id, patient_id)


def decision_of(action, finding, chosen, given, dept, site):
    """What `action` would record; TableError says what is still missing, or why it cannot be. `given`: subject, patient_id, accession, series, studies."""
    if action in ("reject", "pass_on", "ignore"):
        return _dismissal(finding)
    if action == "accept":
        if not chosen and finding["code"] not in (*ONE_EXAM, "U07", "U09"):
            raise TableError("Choose a candidate.")
        return match_decision(finding, chosen, dept, site)
    subject = given["subject"]
    if not subject:
        raise TableError("This finding is about no study and no report; choose a candidate that is.")
    if action in ("patient_id", "link", "unlink"):
        return _change(action, subject, given, dept)
    return {"split": _split, "merge": _merge, "merge_series": _merge_series}[action](subject, given, dept)


def _change(kind, subject, given, dept):
    column, new = FIELDS[kind], {"link": given["accession"], "patient_id": given["patient_id"], "unlink": ""}[kind].strip()
    subject, _, exam = subject.partition(ALONE)
    olds = [exam] if exam and kind != "patient_id" else _values(subject, column, dept)
    if kind == "unlink" and not any(olds):
        raise TableError("It stands under no accession number: nothing to record.")
    if kind != "unlink" and (not new or olds == [new]):
        raise TableError("This stands there already: nothing to record." if new else f"Type the {column.replace('_', ' ').replace('id', 'ID')}.")
    return {"kind": kind, "target": subject, "old": " ".join(o for o in olds if o != new), "new": new}


def _exams_of(target, dept):
    """The accession numbers of a report message that is about several exams; [] of one, and of a study."""
    versions = dept.reports[dept.reports["message_control_id"].isin(target.split())].groupby("message_control_id")["accession_number"]
    return sorted({n for _, one in versions if one.nunique() > 1 for n in one})


def _split(subject, given, dept):
    series, new = _series(subject, given, dept), given["accession"].strip()
    old = " ".join(_values(subject, "accession_number", dept))
    if not new or new == old:
        raise TableError("Type the accession number that the series go to." + (" It is the study's own now." if new else ""))
    return {"kind": "split", "target": subject, "series": series, "old": old, "new": new}


def _series(subject, given, dept):
    known = {uid for _, uid in series_of(subject, dept)}
    if not known:
        raise TableError("The series of this study are not known: its images were not read.")
    if not given["series"]:
        raise TableError("Choose the series that leave the study.")
    if known <= set(given["series"]):
        raise TableError("Leave at least one series; to move the whole study, use the move to an accession or the merge.")
    return " ".join(sorted(given["series"]))


def _merge(subject, given, dept):
    if not dept.studies["study_instance_uid"].eq(subject).any():
        raise TableError("A report is no study: choose under About the study that stays, or move the report to an accession.")
    if not given["studies"]:
        raise TableError("Choose the studies that become part of the one above.")
    return _merged([subject, *given["studies"]], given["accession"].strip(), dept)


def _merged(uids, accession, dept):
    if len({current_id(p, dept) for u in uids for p in _values(u, "patient_id", dept)}) > 1:
        raise TableError("These studies name different patients. If it is one patient, correct the patient ID first; if not, they must not be merged.")
    olds = list(dict.fromkeys(n for u in uids for n in _values(u, "accession_number", dept) if n))
    if not (accession or olds):
        raise TableError("Type the accession number of the exam.")
    return {"kind": "merge", "target": " ".join(uids), "old": " ".join(olds), "new": accession or olds[0]}


def _merge_series(subject, given, dept):
    series = _series(subject, given, dept)
    if len(given["studies"]) != 1:
        raise TableError("Choose the one study that the series join.")
    return {"kind": "merge_series", "target": subject, "series": series, "old": subject, "new": given["studies"][0]}


def redoable(ledger, user):
    """The ids of the `user`'s own undo records, oldest first, whose decisions stand no more, unless they have decided anything since."""
    own, standing = [r for r in read_ledger(ledger) if r.get("user") == user], set(read_corrections(ledger)["id"])
    decided = max((r["seq"] for r in own if r["op"] == "decide"), default=0)
    decisions = {r["id"] for r in own if r["op"] == "decide"} - standing
    return [r["id"] for r in own if r["op"] == "undo" and r["undoes"] in decisions and r["seq"] > decided]


def match_decision(finding, chosen, dept, site):
    """What accepting means: merge the studies of one exam, mend an ID, or link a report or study to the exam of the candidate, else of the order that the finding says fits.

    Only a group case, and test images without a candidate, are right as they are: TableError where accepting would change nothing else.
    """
    own = finding["study_instance_uid"].split()
    if finding["code"] in ONE_EXAM and len(own) > 1:
        return _merged(own, "", dept)
    if finding["code"] == "U09" or finding["code"] == "U15" and not chosen:
        return _dismissal(finding)
    if finding["code"] == "U07":
        return _link(own[0], fitting_number(finding, dept, site), dept, site)
    if not chosen:
        raise TableError(_NOTHING)
    accession, offered = chosen["candidate_accession_number"], chosen["candidate_study_instance_uid"].split()
    uid = next((u for u in offered if u in own), own[0] if own else "")
    messages = finding["message_control_id"]
    if finding["code"].startswith("U05") and uid:
        feed, study = sides_of(finding, dept, site, accession, uid)
        decision = id_decision(finding, feed, study, dept)
        is_named = finding["code"] != "U05e" or any(i and i in finding["evidence"] for i in (decision.get("new", ""), feed.get("patient_id", "")))
        if decision.get("new", "") in ("", decision.get("old", "")) or not is_named:
            raise TableError(_NOTHING)
        return decision
    if messages and accession:
        return _link(messages, accession, dept, site, finding["accession_number"])
    if uid and accession:
        return _link(uid, accession, dept, site)
    if offered and not uid:
        return _link(offered[0], finding["accession_number"], dept, site)
    raise TableError(_NOTHING)


def fitting_number(finding, dept, site):
    """The accession number of the order that a U07 says fits the images, while that order stands; else ""."""
    said = re.search("and fit order (.+?) of the same patient", finding["evidence"]) if finding["code"] == "U07" else None
    return said[1] if said and not of_exam(dept.orders, said[1], site).empty else ""


def _link(target, new, dept, site, number=""):
    """Of a report about several exams the one moves that the finding is about."""
    olds = [number] if number in _exams_of(target, dept) else _values(target, "accession_number", dept)
    if not new or {site.clean_accession(number) for number in olds} == {site.clean_accession(new)}:
        raise TableError(_NOTHING)
    return {"kind": "link", "target": target, "old": " ".join(olds), "new": new}


def _dismissal(finding):
    return {"kind": "dismiss", "target": finding["finding_id"]}


def id_decision(finding, feed, study, dept):
    """Whose patient ID is to be mended, from what and to what; {} where the finding is about no images.

    A report under another patient is mended to the exam's; else the images shown, to the ID that the feed gives after its merges.
    """
    if finding["code"].startswith("U05") and finding["message_control_id"] and feed and study:
        return {"kind": "patient_id", "target": finding["message_control_id"], "old": feed["patient_id"], "new": study["patient_id"]}
    if not study or study["study_instance_uid"] not in finding["study_instance_uid"].split():
        return {}
    right = current_id(feed.get("patient_id", ""), dept) if finding["code"].startswith("U05") else ""
    return {"kind": "patient_id", "target": study["study_instance_uid"], "old": study["patient_id"], "new": right or study["patient_id"]}


def cautions_of(decision, dept, site, instances=None, findings=None):
    """Sentences on what stands against a decision, undecided `findings` among it, and on an accession number that no order carries."""
    unknown = decision["kind"] in ("link", "split", "merge") and of_exam(dept.orders, decision["new"], site).empty
    return [*collisions_of(decision, dept, site=site, instances=instances, findings=findings), *([f"no order carries the accession number {decision['new']}"] if unknown else [])]


def _exams_touched(decision, dept):
    numbers = _exams_of(decision["target"], dept) if decision["kind"] in ("patient_id", "link", "unlink") else []
    moved = [n for n in numbers if decision["kind"] == "patient_id" or n in (decision["old"], *decision["old"].split())]
    return f" The report is about {len(numbers)} exams ({', '.join(n or 'no accession' for n in numbers)}): this touches {len(moved)} of them, {', '.join(moved)}." if numbers else ""


def plan_of(decision, cautions, reason, dept):
    """In HTML, what would be recorded, before anybody presses a button."""
    words = {"dismiss": "reviewed; nothing is changed", "patient_id": "the patient ID is corrected", "link": "it goes to another accession number", "unlink": "it is taken off its accession number",
             "split": "series leave the study for an exam of their own", "merge": "the studies become one, the first named", "merge_series": "series join another study"}[decision["kind"]]
    change = f": {decision['old'] or '(none)'} becomes {decision['new'] or '(none)'}" if "new" in decision else ""
    if decision["kind"] == "merge":
        parts = [f"…{uid[-6:]} from {' '.join(_values(uid, 'accession_number', dept)) or 'no accession'}" for uid in decision["target"].split()]
        change = f", all under {decision['new']}: {', '.join(parts)}"
    series = f" Series: {', '.join(decision['series'].split())}." if decision.get("series") else _exams_touched(decision, dept)
    alarm = "".join(f"<br><strong style='color:#a40000'>! {html.escape(c)}</strong>" for c in cautions)
    why = html.escape(f"Reason: {reason}." if reason else "Confirm the reason, or choose another.")
    what = f"{html.escape(words + change)}. {html.escape(series)}<br>On {html.escape(decision['target'])}."
    return f"<div style='line-height:1.5'><strong>Would record “{decision['kind']}”</strong>: {what}{alarm}<br>{why}</div>"
