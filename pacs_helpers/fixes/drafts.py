"""Drafts of what a decision asks of other systems: for a person to read, complete and send. Nothing is ever sent from here."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pandas as pd

from ..site import require_site
from ..tables import DRAFTS, OWNERS, TableError, conform, require_columns
from .applied import apply_decision, carries_new, known_person
from .archivedrafts import NotDrafted, as_shell, dcmodify_script, orthanc_calls
from .corrections import REASONS, read_undone, split_study_uid
from .hl7drafts import Envelope, accession_field, merge_message, order_message, result_message, update_message
from .rehearsal import of_exam, rehearse_steps, walk_decisions

ON_IMAGES = ("patient_id", "link", "unlink")         # what one pass over a study's images can do together
LONGEST = {"patient_id": 64, "accession_number": 16}           # LO and SH, PS3.5 table 6.2-1
# The desk where a fault began, and what it is asked, so that it does not come back.
CAUSES = {
    "TYPED_WRONG": ("technologist", "a number was typed by hand. Please take patients from the worklist, and leave the images at the device as they are: the archive is corrected"),
    "WRONG_PICK": ("technologist", "another line of the worklist was picked. Please compare name, birth date and accession number first, and leave the images at the device as they are"),
    "ID_FORMAT": ("interface team", "one number is written in two ways. Please map them to one form where they come from"),
    "MERGED": ("interface team", "registration merged two identities and not every system followed. Please see where the merge (A40) stopped"),
    "IDENTITY_CONFIRMED": ("registration", "please confirm that the temporary identity and this patient are one person, before the archive is changed"),
    "SPLIT_BY_DEVICE": ("modality service", "the device made several studies of one exam. Please look for the protocol or the re-registration that does it"),
    "TWO_EXAMS": ("technologist", "two exams were stored as one study. Please close an exam at the device before the next begins"),
    "REPORT_MISFILED": ("radiologist", "a report was filed under another exam. Please check that it now stands where it belongs, and tell the referrer if it was read"),
    "TEST": ("modality service", "test images reached the archive. Please send them to the test archive, or use the agreed test patients"),
}


def draft_corrections(dept, ledger, *, site, findings=None):
    """DRAFTS of the standing decisions, in their order: HL7 messages, dcmodify scripts, Orthanc calls and work orders.

    `dept` is the department as the traces tell, without corrections applied. Each correction's drafts follow on what those before it did.
    What `rehearse` finds against a decision is the `warning` of all its drafts. A decision that is stale has a work order only.
    `findings`, those of `dept`, tell whose desk a finding is on that was passed on, and which images it is about.
    """
    require_site(site)
    rows, renamed, steps = [], {}, list(walk_decisions(dept, ledger))
    if findings is not None:
        require_columns(findings, ("finding_id", "owner", "accession_number", "study_instance_uid", "message_control_id"), "findings")
    found = {} if findings is None else {row["finding_id"]: row for row in findings.to_dict("records")}
    warned, together = dict(rehearse_steps(steps, site, findings=findings)[["correction_id", "collisions"]].values.tolist()), _passes(steps)
    for decision, before, after in steps:
        uids = {*decision["target"].split(), decision["new"]}
        doubts = [warned[decision["id"]], *_doubts(decision), *(f"carry out correction {renamed[u][:8]} first, read the archive again and draft again: it renames series" for u in uids & {*renamed})]
        finding = found.get(decision["finding_id"] or decision["target"], {})
        about = _about(decision, finding, before, site)
        drafts = [_order("PACS administrator", "look again at a decision", decision, warned[decision["id"]], about)] if after is None else [
            *(_drafts(decision, before, after, site, together.get(decision["id"])) if decision["kind"] != "dismiss" else ()), *_work_orders(decision, before, site, finding, about)]
        if decision["kind"] not in ("patient_id", "dismiss"):
            renamed |= dict.fromkeys(uids & {*dept.studies["study_instance_uid"]}, decision["id"])
        rows += _rows(decision, drafts, doubts)
    for decision in read_undone(ledger).to_dict("records"):
        about = _about(decision, found.get(decision["finding_id"], {}), dept, site)
        rows += _rows(decision, _way_back(decision, dept, site, about), [f"needed only if correction {decision['id'][:8]}, which was taken back, has been carried out"])
    return conform(rows, DRAFTS)


def _rows(decision, drafts, doubts):
    return [{"finding_id": decision["finding_id"], "correction_id": decision["id"], "system": system, "step": step, "title": title, "text": text,
             "warning": "; ".join(dict.fromkeys(d for d in [*doubts, *own] if d))} for step, (system, title, text, *own) in enumerate(drafts, 1)]


def _way_back(decision, dept, site, about):
    """Drafts that put back what a decision that was taken back may have changed elsewhere: for an ID or a number as for any decision, else in words."""
    kind, old, new, target = (decision[name] for name in ("kind", "old", "new", "target"))
    back = {**decision, "id": decision["id"][::-1], "old": new, "new": old, "reason": "OTHER", "kind": {"unlink": "link", "link": "link" if old else "unlink"}.get(kind, kind)}
    done = dept if kind in ON_IMAGES and carries_new(dept, decision) else apply_decision(dept, decision)
    after = apply_decision(done, back) if kind in ON_IMAGES and done and (old or kind == "link") else None
    series, made = decision["series"], split_study_uid(target, decision["series"])
    words = {"merge": f"take study {target.split()[0]} apart again: bring back {', '.join(target.split()[1:])} under their own numbers ({old or 'none'}), and take their images out of it",
             "split": f"put series {series} back into study {target}, accession {old or '(none)'}, and delete study {made}", "merge_series": f"put series {series} back into study {target}"}
    ask = words.get(kind) or f"put {decision['field'].replace('_', ' ')} {old or '(none)'} back on {target}, where it now is {new or '(none)'}"
    yield _order("PACS administrator", "a decision was taken back", decision,
                 f"correction {decision['id'][:8]} was taken back. If its drafts were sent or run, please {ask}; if not, nothing is to do", about)
    if after:
        yield from _drafts(back, done, after, site, None)


def _doubts(decision):
    new, column = decision["new"].partition("^")[0], "patient_id" if decision["kind"] == "patient_id" else "accession_number"
    if decision["kind"] in ("patient_id", "link", "split", "merge") and (len(new) > LONGEST[column] or "\\" in new or not new.isprintable()):
        yield f"the new value is longer than the {LONGEST[column]} characters DICOM allows, or holds a character it does not"


def _passes(steps):
    """`{id: (id of the last, department before the first)}` of decisions on ID and number of one study: its images are gone through once for all of them."""
    about = {}
    for decision, before, after in steps:
        for uid in {*decision["target"].split(), decision["new"]} if after and decision["kind"] != "dismiss" else ():
            about.setdefault(uid, []).append((decision, before))
    groups = [group for group in about.values() if len(group) > 1 and all(decision["kind"] in ON_IMAGES for decision, _ in group)]
    return {decision["id"]: (group[-1][0]["id"], group[0][1]) for group in groups for decision, _ in group}


def _drafts(decision, before, after, site, together):
    studies = before.studies[before.studies["study_instance_uid"].isin(decision["target"].split())].to_dict("records")
    reports = before.reports[before.reports["message_control_id"].isin(decision["target"].split())].to_dict("records")
    envelope = Envelope(site, pd.Timestamp(decision["decided_at"]), decision["id"], accession_field(before, site))
    return [*_messages(decision, before, after, studies, reports, envelope), *(_archive_drafts(decision, before, after, together) if studies else [])]


def _messages(decision, before, after, studies, reports, envelope):
    kind, new = decision["kind"], decision["new"]
    draft = "draft, MSH-11 is T"
    if reports:
        yield from _report_messages(decision, after, reports, envelope, draft)
    if kind == "patient_id" and studies:
        yield from _identity_messages(decision, before, studies[0], envelope, draft)
    if kind in ("link", "split", "merge") and studies and new:
        uid = split_study_uid(decision["target"], decision["series"]) if kind == "split" else decision["target"].split()[0]
        orders = of_exam(before.orders, new, envelope.site).to_dict("records")
        order = orders[-1] if orders else {**after.studies[after.studies["study_instance_uid"] == uid].iloc[0].to_dict(), "procedure_name": studies[0]["study_description"]}
        words = "ties the order to its study" if orders else "places the order that is missing"
        yield "hl7", f"{'OMI^O23' if envelope.field == 'IPC-1' else 'ORM^O01'} that {words} ({draft})", order_message(order, order["accession_number"], uid, envelope, control="XO" if orders else "NW")


def _report_messages(decision, after, reports, envelope, draft):
    """Each exam that a message reports is withdrawn, and placed where it belongs; those that stay are named."""
    kind, new, field, exams = decision["kind"], decision["new"], decision["field"], {}
    moves = [r for r in reports if r[field] in (decision["old"], *decision["old"].split(), new)]
    for report in moves:
        exams[envelope.site.clean_accession(report["accession_number"])] = {**report, "message_control_id": decision["target"]}
    stay = sorted({r["accession_number"] for r in reports if r[field] not in {m[field] for m in moves}})
    doubt = f"the message reports other exams too, which stay where they are: {', '.join(stay)}" if stay else ""
    to = after.reports[after.reports["message_control_id"].isin(decision["target"].split())]
    for nth, last in enumerate(exams.values()):
        if last[field] != new and (kind == "patient_id" or last["accession_number"]):
            yield "hl7", f"ORU^R01 that withdraws the report where it does not belong ({draft})", result_message(last, last["accession_number"], "", envelope, is_withdrawn=True, nth=nth), doubt
        if kind == "unlink" or kind == "link" and nth + 1 < len(exams):
            continue
        number = last["accession_number"] if kind == "patient_id" else new
        moved = {**to[to["accession_number"] == number].iloc[-1].to_dict(), "message_control_id": decision["target"]}
        text = result_message(moved, number, moved["study_instance_uid"], envelope, is_withdrawn=False, nth=nth)
        yield "hl7", f"ORU^R01 at its right place, without its text ({draft})", text, f"put the OBX segments of message {decision['target']} in before it is sent", doubt


def _identity_messages(decision, before, study, envelope, draft):
    known = known_person(before, decision["new"])
    if not known:
        return
    told = pd.concat([before.patients, before.orders])
    issuers = told.loc[(told["patient_id"] == decision["new"]) & (told["issuer_of_patient_id"] != ""), "issuer_of_patient_id"].tolist()
    person = {"patient_id": decision["new"], "issuer_of_patient_id": [study["issuer_of_patient_id"], *issuers][-1], **known}
    if decision["reason"] in ("MERGED", "IDENTITY_CONFIRMED") and decision["old"]:
        text = merge_message(person, {**study, "patient_id": decision["old"]}, envelope)
        yield "hl7", f"ADT^A40 that merges the old ID ({draft})", text, "an A40 moves everything of the old ID: only registration may decide it"
    elif any(known[c] not in ("", study[c]) for c in known):
        yield "hl7", f"ADT^A08 with who the patient is ({draft})", update_message(person, envelope)


def _archive_drafts(decision, before, after, together):
    kind = decision["kind"]
    last, before = together or (decision["id"], before)
    if last != decision["id"]:
        yield "orthanc", "no archive draft of its own (draft)", "", f"done in one pass over the images with correction {last[:8]}"
        return
    if kind in ON_IMAGES:
        yield _attempt("dcmodify", "dcmodify on copies of the study's files (draft)", lambda: dcmodify_script(decision, before, after))
    yield _attempt("orthanc", f"Orthanc calls that {'join' if kind.startswith('merge') else 'store corrected'} images beside the old, count, and delete last (draft)",
                   lambda: json.dumps(dict(zip(("calls", "then_delete"), orthanc_calls(decision, before, after))), ensure_ascii=False, indent=1))


def _attempt(system, title, draft):
    try:
        return system, title, draft()
    except NotDrafted as why:
        return system, f"no {title}", "", str(why)


def _about(decision, finding, dept, site):
    """Which exam, study or report it is, where and when, so that another desk finds it; "" where only the finding's number is known."""
    ids = {*decision["target"].split(), *finding.get("study_instance_uid", "").split(), *finding.get("message_control_id", "").split()}
    studies, reports = (table[table[key].isin(ids)].drop_duplicates([key, "accession_number"]).to_dict("records")
                        for table, key in ((dept.studies, "study_instance_uid"), (dept.reports, "message_control_id")))
    told = [f"study {s['study_instance_uid']}, accession {s['accession_number'] or '(none)'}, station {s['station_name'] or '(unknown)'}, {_clock(s, ('study_at', 'started_at'), site)}"
            for s in studies]
    told += [f"report {r['message_control_id']}, accession {r['accession_number'] or '(none)'}, {_clock(r, ('observed_at', 'message_at'), site)}" for r in reports]
    number = finding.get("accession_number", "")
    return "; ".join([*([f"exam {number}"] if number and number not in {row["accession_number"] for row in studies + reports} else []), *told])


def _clock(row, columns, site):
    at = next((row[column] for column in columns if pd.notna(row[column])), None)
    return f"{at.tz_convert(site.time_zone):%Y-%m-%d %H:%M}" if at is not None else "time unknown"


def _work_orders(decision, before, site, finding, about):
    """What the RIS is asked to do, and the desk where it began to look at."""
    kind, old, new = decision["kind"], decision["old"], decision["new"]
    desk = finding["owner"] if finding.get("owner") in OWNERS and finding["owner"] != "nobody" else "desk unknown"
    reports = before.reports["message_control_id"].isin(decision["target"].split()).any()
    others = [n for n in old.split() if n != new] if kind == "merge" else []
    orders = of_exam(before.orders, new, site)
    missing = "set it to performed" if len(orders) else "place its order: the archive holds the images, no order was sent"
    is_done = (orders["order_status"] == "CM").any()
    images = f"images of study {decision['target']}"
    asks = {
        "patient_id": f"please move the report of message {decision['target']} from patient {old or '(none)'} to patient {new}" if reports else "",
        "link": f"please move the report of message {decision['target']} from exam {old or '(none)'} to exam {new}" if reports else
                "" if is_done else f"the {images} belong to exam {new}. Please {missing}",
        "unlink": f"please take the report of message {decision['target']} off exam {old}" if reports else f"the {images} are not of exam {old}. Please set it back if no others are",
        "split": "" if is_done else f"a part of the {images} is exam {new}. Please {missing}",
        "merge": f"exam {new} is one study. Please cancel or link what stands for the same exam: {', '.join(others)}" if others else "",
    }
    if asks.get(kind):
        yield _order("RIS", {"link": "put an exam right", "unlink": "take something off an exam", "split": "two exams in one study", "merge": "one exam in several orders"}.get(kind, "move a report"),
                     decision, asks[kind], about)
    if decision["reason"] == "NOT_HERE":
        ask = "this was looked at and belongs to " + ("you. Please take it on, and say when it is done" if desk != "desk unknown" else "another desk. Please find out whose it is, and pass it on")
        yield (*_order(desk, "a finding for your desk", decision, ask, about), "" if desk != "desk unknown" else "no desk is known for it: draft again with findings=, those of this department")
    elif decision["reason"] in CAUSES:
        yield _order(CAUSES[decision["reason"]][0], "for your attention", decision, CAUSES[decision["reason"]][1], about)


def _order(desk, subject, decision, ask, about):
    evidence = re.sub(r"\s*\[shown [0-9a-f]+\]", "", decision["evidence"]).strip().rstrip(".") or f"reviewed: {REASONS.get(decision['reason'], decision['reason'])}"
    note = f" Note: {decision['text'].strip().rstrip('.')}." if decision["text"].strip() else ""
    text = (f"Dear colleagues, {ask}.{f' It is about {about}.' if about else ''} What we saw: {evidence}.{note} Decided by {decision['user']} on {decision['decided_at'][:10]}, correction "
            f"{decision['id'][:8]}. Nothing was changed in your system. Thank you.")
    return "work_order", f"{desk}: {subject}", text


def write_drafts(drafts, folder):
    """The paths of the files written to a new folder, each readable by its owner alone: .hl7, .sh, .json, work_orders.csv, and index.txt that says what is what.

    `0001-1-...` counts corrections and their steps. Of an Orthanc draft the deleting is a script of its own. A script with a warning asks for LOOKED_TWICE=yes.
    """
    require_columns(drafts, DRAFTS, "drafts")
    folder = Path(folder)
    try:
        if folder.is_symlink() or folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise TableError("folder: name one that is new or empty; drafts of another day are not mixed in or overwritten.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TableError(f"folder: it cannot be made here ({error.strerror}); name a new folder where you may write.") from None
    numbers, files, index = {correction: f"{n:04}" for n, correction in enumerate(dict.fromkeys(drafts["correction_id"]), 1)}, {}, []
    sheet = io.StringIO()
    orders = csv.writer(sheet)
    orders.writerow(["desk", "subject", "message", "warning", "finding_id", "correction_id"])
    for row in drafts.to_dict("records"):
        name, title = f"{numbers[row['correction_id']]}-{row['step']}-{row['system']}", _on_one_line(row["title"] + (f". LOOK TWICE: {row['warning']}" if row["warning"] else ""))
        index.append(f"{name}: {title}\n")
        files |= _files_of(row, name, title)
        if row["system"] == "work_order":
            desk, _, subject = row["title"].partition(": ")
            orders.writerow([_guarded(cell) for cell in (desk, subject, row["text"], row["warning"], row["finding_id"], row["correction_id"])])
    return [_write(folder / name, text) for name, text in {**files, "work_orders.csv": sheet.getvalue(), "index.txt": "".join(index)}.items()]


def _files_of(row, name, title):
    """`{file name: text}` of one draft."""
    if not row["text"] or row["system"] == "work_order":
        return {}
    if row["system"] == "hl7":
        return {f"{name}.hl7": row["text"]}
    if row["system"] == "dcmodify":
        return {f"{name}.sh": _headed(row["text"], title, row["warning"])}
    both = json.loads(row["text"])
    return {f"{name}.json": row["text"] + "\n", f"{name}.sh": _headed(as_shell(both["calls"]), title, row["warning"]),
            f"{name}-delete.sh": _headed(as_shell(both["then_delete"]), f"the last step, once {name}.sh has said done; {title}", row["warning"])}


def _headed(script, title, warning):
    lines = ["#!/bin/sh", f"# DRAFT: {title}", "# Nothing has been sent. Read it before it is run; it stops at the first thing that is not as expected.", "set -eu", "umask 077"]
    again = ['[ "${LOOKED_TWICE:-}" = yes ] || { echo "stopped: read the warning at the top; if all is right, set LOOKED_TWICE=yes" >&2; exit 1; }'] if warning else []
    return "\n".join([*lines, *again, script])


def _on_one_line(text):
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _guarded(cell):
    """A spreadsheet takes a cell that begins so for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _write(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(text)
    return path
