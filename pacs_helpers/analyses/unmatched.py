"""What has no partner: U01 images without order, U02 without report, U03 report without images, U04 order only."""

import hashlib
from collections import defaultdict

import numpy as np
import pandas as pd

from .candidates import strong_candidates
from .identity import is_not_a_patient

REPORT_HOURS, ORDER_HOURS = 2, 24       # grace before a report without images, an order without anything, is one
DEFAULT_TARGET_MINUTES = 1440
LATE_SERIES_MINUTES = 120       # images made later than that after the report are a late series, not a wrong clock
FINAL, WITHDRAWN = ("F", "C"), "X"
NOT_DELIVERED = ("AE", "AR", "CE", "CR")


def describe_finding(code, *, accession="", studies=(), messages=(), found_at, owner, confidence, evidence, correction):
    """One FINDINGS row; its id is the code and a digest of accession, studies and messages, so it is the same in every run."""
    uids, controls = (" ".join(sorted({x[k] for x in xs} - {""})) for xs, k in ((studies, "study_instance_uid"), (messages, "message_control_id")))
    digest = hashlib.sha256("|".join((code, accession, uids, controls)).encode()).hexdigest()[:8]
    return {"finding_id": f"{code}-{digest}", "code": code, "accession_number": accession, "study_instance_uid": uids, "message_control_id": controls,
            "found_at": found_at, "owner": owner, "confidence": round(confidence, 2), "evidence": evidence[0].upper() + evidence[1:] + ".",
            "suggested_correction": correction + "."}


def find_missing_partners(dept, links, site, as_of, splits, explained):
    """Findings U01 to U04, and U06 for a report that surely belongs to a study it does not name.

    `explained` are positions of studies, orders and reports whose missing partner another finding explains.
    """
    meant = strong_candidates(links)
    claimed = {s for _, _, s in meant.values()} | explained.read
    yield from _unlinked_reports(links, as_of, meant, site, explained.answered)
    yield from _unlinked_studies(dept, links, explained.studies)
    yield from _unreported_exams(dept, links, site, as_of, splits, claimed, {links.reports[r] for r in explained.reports})
    yield from _orders_only(links, site, as_of, explained.orders)


def _unlinked_reports(links, as_of, meant, site, answered):
    alone = defaultdict(list)
    for r, report in ((r, links.reports[r]) for r, (level, _) in enumerate(links.of_report) if level == "none"):
        old = pd.isna(report["message_at"]) or as_of - report["message_at"] >= pd.Timedelta(hours=REPORT_HOURS)
        if old and not report["is_duplicate"] and r not in answered:
            alone[site.clean_accession(report["accession_number"]) or f"message {report['message_control_id']}"].append(r)
    for rows in alone.values():
        reports = [links.reports[r] for r in rows]
        sure = next((r for r in rows if r in meant), None)
        if sure is not None:
            yield _altered_report(links, reports, *meant[sure])
        elif any(t["result_status"] in FINAL for t in reports):
            yield _report_without_images(links, reports, site)


def _altered_report(links, reports, score, reasons, s):
    study, accession = links.studies[s], reports[0]["accession_number"]
    seen = f"accession {accession}, which no study carries" if accession else "no accession number"
    return describe_finding(
        "U06", accession=accession, studies=[study], messages=reports, found_at=reports[0]["message_at"], owner="radiologist", confidence=min(0.95, score),
        evidence=f"the report names {seen}; study {study['accession_number'] or study['study_instance_uid']} of this patient has no report and fits: {reasons}",
        correction=f"Have the report re-sent under accession {study['accession_number'] or '(see study)'} after its author confirms the exam")


def _report_without_images(links, reports, site):
    accession = reports[0]["accession_number"]
    orders = [links.orders[i] for i in links.orders_by_accession.get(site.clean_accession(accession), [])]
    status = orders[0]["order_status"] if orders else ""
    if orders:
        owner, why = "technologist", f"the order is in the feed (status {status or 'not given'}), so the images may still be on the modality or filed elsewhere"
        fix = "Look on the modality and in its send queue, then for a study of this patient under another number"
    else:
        owner, why = "radiologist", "no order carries this accession either, so it may be dictated on a wrong number" if accession else "it names no order either"
        fix = "Ask the author which exam was read, and move the report there"
    return describe_finding(
        "U03", accession=accession, messages=reports, found_at=reports[0]["message_at"], owner=owner, confidence=0.85,
        evidence=f"final report under {'accession ' + accession if accession else 'no accession number'}, and no study fits it at any level; {why}", correction=fix)


def _unlinked_studies(dept, links, explained):
    heard = pd.concat([dept.orders["ordered_at"], dept.reports["message_at"]]).min()
    silent = _silent_hours(dept)
    for s in (s for s in range(len(links.studies)) if s not in explained and not links.orders_of.get(s) and not links.reports_of.get(s)):
        study = links.studies[s]
        at = study["study_at"] if pd.notna(study["study_at"]) else study["started_at"]
        if is_not_a_patient(study) or pd.isna(heard) or pd.isna(at) or at < heard.normalize():
            continue
        # Orders of that hour missing for everybody points at the feed, not at one technologist.
        quiet = at.floor("h") in silent
        owner = "interface team" if quiet else "technologist"
        number = f"accession {study['accession_number']}" if study["accession_number"] else "no accession number"
        yield describe_finding(
            "U01", accession=study["accession_number"], studies=[study], found_at=at, owner=owner, confidence=0.8,
            evidence=f"images from {study['station_name'] or 'an unnamed station'} with {number}, and no order or report fits them at any level"
                     + ("; the order feed was silent around that hour" if quiet else ""),
            correction="Find or place the order and link the study to it" if not quiet else "Ask for the orders of that time to be sent again")


def in_words(minutes):
    """A span in words of a size that people speak in; days are full ones."""
    size, unit = (round(minutes), "minute") if minutes < 120 else (round(minutes / 60), "hour") if minutes < 48 * 60 else (int(minutes // 1440), "day")
    return f"{size} {unit}{'s' * (size != 1)}"


def _silent_hours(dept):
    """The hours in which, as in the hour before, no order came while three studies or more were begun."""
    ordered, imaged = (np.unique(at.dropna().dt.tz_localize(None).to_numpy("datetime64[h]"), return_counts=True) for at in (dept.orders["ordered_at"], dept.studies["started_at"]))
    busy = imaged[0][imaged[1] >= 3]
    return {pd.Timestamp(hour, tz="UTC") for hour in busy[~np.isin(busy, ordered[0]) & ~np.isin(busy - 1, ordered[0])]}


def best_events(events, chosen, *columns):
    """Of the events flagged in `chosen` the one of the best rank, then the earliest, of each accession number: that, when (`at`), and other columns."""
    told = events.loc[chosen, ["accession_number", "at", "rank", *columns]]
    places = np.lexsort((told["at"].dt.tz_localize(None).to_numpy("datetime64[us]"), told["rank"].to_numpy("float64", na_value=np.nan)))
    return told.iloc[places].drop_duplicates("accession_number")


def _unreported_exams(dept, links, site, as_of, splits, claimed, explained):
    reported, numbers = _reported_studies(links), links.orders.column("accession_number")
    waiting = [(o, positions) for o, (_, positions) in enumerate(links.of_order) if positions and reported.isdisjoint(positions)]
    told = best_events(dept.events, (dept.events["milestone"] == "exam_ended") & dept.events["accession_number"].isin(list({numbers[o] for o, _ in waiting})))
    ended = dict(zip(told["accession_number"], told["at"]))
    sisters = {s: chain for chain, _, _ in splits for s in chain}
    seen = set()
    for o, positions in waiting:
        order = links.orders[o]
        whole = {p for s in positions for p in sisters.get(s, [s])}
        key = order["accession_number"] or order["placer_order_number"]
        if key in seen or whole & claimed or order["is_cancelled"] and any(not links.orders[i]["is_cancelled"] for s in whole for i in links.orders_of.get(s, ()) if i != o):
            continue
        reports = _reports_about(order, whole, links, site)
        if any(_is_final(r, links) or r["result_status"] in FINAL and r in explained for r in reports):
            continue
        target = site.target("exam_ended", "final", order["priority"])
        minutes = target[0] if target else DEFAULT_TARGET_MINUTES
        end = ended.get(order["accession_number"], max((links.studies[s]["ended_at"] for s in positions), default=pd.NaT))
        if pd.isna(end) or end + pd.Timedelta(minutes=minutes) >= as_of:
            continue
        seen.add(key)
        yield _no_report(order, [links.studies[s] for s in positions], reports, end, minutes, as_of)


def _reported_studies(links):
    """Positions of the studies with a final report that was not refused, nor withdrawn since."""
    rows = [links.reports.column(name) for name in ("result_status", "acknowledgment_code", "accession_number")]
    withdrawn = {links.clean(number) for status, _, number in zip(*rows) if status == WITHDRAWN}
    return {s for r, (status, code, number, (_, hits)) in enumerate(zip(*rows, links.of_report)) if hits and status in FINAL and code not in NOT_DELIVERED
            and (not withdrawn or links.clean(number) not in withdrawn or _is_final(links.reports[r], links)) for s in hits}


def _is_final(report, links):
    """Whether a report is final, was taken, and no later version of it says cancelled (X)."""
    if report["result_status"] not in FINAL or report["acknowledgment_code"] in NOT_DELIVERED:
        return False
    versions = (links.reports[r] for r in links.reports_by_accession.get(links.clean(report["accession_number"]), ()))
    return not any(v["result_status"] == WITHDRAWN and v["status_changed_at"] > report["status_changed_at"] for v in versions)


def _reports_about(order, positions, links, site):
    rows = {r for s in positions for r in links.reports_of.get(s, [])}
    rows |= set(links.reports_by_accession.get(site.clean_accession(order["accession_number"]), []))
    return sorted((links.reports[r] for r in rows), key=lambda t: (t["message_at"], t["message_control_id"]))


def _no_report(order, studies, reports, end, minutes, as_of):
    waited = in_words((as_of - end).total_seconds() / 60)
    if order["is_cancelled"]:
        return describe_finding(
            "U02", accession=order["accession_number"], studies=studies, messages=reports, found_at=end + pd.Timedelta(minutes=minutes), owner="technologist", confidence=0.7,
            evidence=f"the order was cancelled, yet images were made under it; {waited} after the exam ended no final report, and a cancelled order is on nobody's reading list",
            correction="Ask whether the exam was done; have the order placed again, or the images taken out if they are nobody's exam")
    refused = [r for r in reports if r["result_status"] in FINAL and r["acknowledgment_code"] in NOT_DELIVERED]
    if refused:
        owner, why, fix = "interface team", f"the final report was sent and answered {refused[-1]['acknowledgment_code']}", "Mend the mapping and send the report again"
    elif reports and reports[-1]["result_status"] == WITHDRAWN:
        owner, why, fix = "radiologist", "the last report was withdrawn (X)", "Ask its author for the report that takes its place"
    elif reports:
        owner, why, fix = "radiologist", f"the last report is {reports[-1]['result_status'] or 'without status'}, not signed", "Ask for the signature"
    elif order["order_status"] != "CM":
        owner, why, fix = "technologist", f"the order was never completed (status {order['order_status'] or 'not given'}), so it may be on no reading list", "Complete the exam in the RIS"
    else:
        owner, why, fix = "radiologist", "no report of any kind has come", "Put the exam on a reading list"
    return describe_finding(
        "U02", accession=order["accession_number"], studies=studies, messages=reports, found_at=end + pd.Timedelta(minutes=minutes), owner=owner, confidence=0.9,
        evidence=f"images and order are there, but {waited} after the exam ended no final report; {why}", correction=fix)


def _orders_only(links, site, as_of, explained):
    for o, (level, hits) in enumerate(links.of_order):
        if hits or o in explained or level == "ambiguous":
            continue
        order = links.orders[o]
        due = order["scheduled_at"] if pd.notna(order["scheduled_at"]) else order["ordered_at"]
        reported = site.clean_accession(order["accession_number"]) in links.reports_by_accession
        nameless = not order["accession_number"] and not order["patient_id"]        # a refused fragment, not an order
        if nameless or order["is_cancelled"] or reported or pd.isna(due) or due + pd.Timedelta(hours=ORDER_HOURS) >= as_of:
            continue
        performed = order["order_status"] == "CM"
        yield describe_finding(
            "U04", accession=order["accession_number"], found_at=due + pd.Timedelta(hours=ORDER_HOURS), confidence=0.8,
            messages=[] if order["accession_number"] else [order], owner="technologist" if performed else "scheduling",
            evidence=f"order only: no images and no report {in_words((as_of - due).total_seconds() / 60)} after it was due; the last order status is {order['order_status'] or 'not given'}",
            correction="Look for the images on the modality" if performed else "Find out whether the patient came; cancel the order or link it to the exam done instead")
