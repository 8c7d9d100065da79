"""Possible partners of what has none, with a score and the reasons in words."""

from collections import defaultdict

import numpy as np
import pandas as pd

from ..tables import CANDIDATES, conform
from .anatomy import modalities_conflict
from .evidence import FIELDS, NOT_TOLD, compare_pairs, hours_apart
from .identity import MAX_TYPO, edits, name_parts, plain_id, same_birth_date, same_name
from .links import LEVELS
from .weights import IN_POOL, MOST_LEARNT, SAME_EXAM, SAME_PERSON, STRANGERS, certain_pairs, learn_habits, learn_weights, log_likelihoods

MOST = 5
LEAST_SCORE = 0.02
SUREST = 0.97          # a guess is never as sure as a number that is equal
STRONG_SCORE = 0.8
CROWD = 200            # a birth date or a name that more share is a placeholder: only with the day


def score_candidates(links, kind, positions):
    """`{position: [(score 0..1, reasons, position of the candidate)]}`, best first, at most 5, of what has no partner.

    `kind` "order" and "report" are given studies, "study" is given orders. A score is the chance that the candidate is the partner, the other
    candidates and the case that there is none considered, by weights learnt from the department's certain matches.
    """
    items, of_item, taken_by = (links.reports, links.of_report, links.reports_of) if kind == "report" else (links.orders, links.of_order, links.orders_of)
    asked, others = (links.studies, items) if kind == "study" else (items, links.studies)
    mine, theirs = _near_pairs(asked, positions, others, links)
    pairs = (theirs, mine) if kind == "study" else (mine, theirs)
    taken = [bool(of_item[i][1]) for i in theirs.tolist()] if kind == "study" else [bool(taken_by.get(s)) for s in theirs.tolist()]
    certain = certain_pairs(of_item)
    habits = learn_habits(items, links.studies, certain)
    levels = compare_pairs(items, links.studies, pairs, links, habits, np.array(taken, dtype=np.int8))
    table = learn_weights(*_lessons(items, certain, levels, links, habits))
    scores = _chances(log_likelihoods(levels, table), mine, len(others), links)
    scores = _shared(scores, theirs, [links.clean(number) or f"row {position}" for number, position in zip(asked.column("accession_number")[mine], mine.tolist())])
    hours, found = hours_apart(items, links.studies, pairs), defaultdict(list)
    for k in np.lexsort((theirs, -scores, mine)).tolist():
        if scores[k] >= LEAST_SCORE and len(found[int(mine[k])]) < MOST:
            found[int(mine[k])].append((min(SUREST, float(scores[k])), _reasons(levels[k], hours[k]), int(theirs[k])))
    return {position: hits for position, hits in found.items() if hits}


def _shared(scores, theirs, exams):
    """The scores, where one candidate is asked for by several exams shared among them: it can be the partner of one only."""
    claims = pd.DataFrame({"candidate": theirs, "exam": exams, "score": scores}).groupby(["candidate", "exam"])["score"].max().groupby(level=0).sum()
    return scores / np.maximum(1, claims.reindex(theirs).to_numpy()) if len(scores) else scores


def _lessons(items, certain, near, links, habits):
    """`(levels, classes)` to learn from: certain matches, other exams of the same people, strangers, and the near misses of what has no partner."""
    by_patient = defaultdict(list)
    for i, s in zip(*(side.tolist() for side in certain)):
        if items[i]["patient_id"]:
            by_patient[items[i]["patient_id"]].append((i, s))
    others = [(some[k][0], some[k - 1][1]) for some in by_patient.values() for k in range(len(some)) if len(some) > 1]
    strangers = np.roll(certain[1], len(certain[1]) // 2 + 1)
    different = items.column("patient_id")[certain[0]] != links.studies.column("patient_id")[strangers]
    known = [(certain, SAME_EXAM), (np.array(others, dtype=np.int64).reshape(-1, 2).T, SAME_PERSON), ((certain[0][different], strangers[different]), STRANGERS)]
    told = [compare_pairs(items, links.studies, pairs, links, habits, NOT_TOLD) for pairs, _ in known]
    # What was linked by its accession number says nothing about how often those are damaged.
    told[0][:, list(FIELDS).index("accession")] = NOT_TOLD
    sample = near[::max(1, len(near) // MOST_LEARNT)]
    classes = [np.full(len(pairs[0]), kind) for pairs, kind in known]
    return np.concatenate([*told, sample]), np.concatenate([*classes, np.full(len(sample), NOT_TOLD)])


def _chances(logs, asked, n, links):
    """The chance of each pair, among all pairs that ask for the same partner and the case that the partner is not here."""
    exams_each = max(1.0, len(links.studies) / max(1, len(links.orders_by_patient)))        # one at least: an archive holds exams of before the feed
    other_exams = min(0.5, exams_each / max(1, n))
    against = other_exams * np.exp(logs[:, SAME_PERSON]) + (1 - other_exams) * np.exp(logs[:, STRANGERS])
    odds = IN_POOL / max(1, n) * np.exp(logs[:, SAME_EXAM]) / against
    return odds / (1 - IN_POOL + np.bincount(asked, odds, asked.max() + 1 if len(asked) else 0)[asked])


def _reasons(levels, hours):
    """What agrees and what does not, in words."""
    words = []
    for level, (field, (texts, *_)) in zip(levels.tolist(), FIELDS.items()):
        if level != NOT_TOLD and not (field == "taken" and level == 0):
            words.append(_apart(hours) if field == "time" else texts[level])
    return "; ".join(words)


def _apart(hours):
    late = "after" if hours >= 0 else "before"
    hours = abs(hours)
    return f"{hours * 60:.0f} min {late} it was due" if hours < 3 else f"{hours:.0f} h {late} it was due" if hours < 72 else f"{hours / 24:.0f} days {late} it was due"


def _near_pairs(asked, positions, others, links):
    """`(asked positions, other positions)` worth scoring: one birth date, a number within one edit, or one name on one day."""
    positions = np.array(sorted(positions), dtype=np.int64)
    found = [np.empty(0, dtype=np.int64)]
    for keys_of in (_birth_dates, _names_and_days):
        found.append(_joined(pd.Series(keys_of(asked)[positions], index=positions), pd.Series(keys_of(others)), asked, others))
    for name, plain in (("patient_id", lambda pid: plain_id(links.merged.get(pid, pid))), ("accession_number", links.clean)):
        mine = defaultdict(list)
        for position, value in zip(positions.tolist(), asked.column(name)[positions]):
            for spelling in _without_one(plain(value)):
                mine[spelling].append(position)
        theirs = defaultdict(list)
        for position, value in enumerate(others.column(name)):
            theirs[value].append(position)
        spellings = set(mine)
        hits = {(a, b) for value, places in theirs.items() for spelling in _without_one(plain(value)) & spellings for a in mine[spelling] for b in places}
        if hits:
            a, b = np.array(list(hits), dtype=np.int64).T
            found.append(a * len(others) + b)
    codes = np.unique(np.concatenate(found))
    return codes // max(1, len(others)), codes % max(1, len(others))


def _without_one(text):
    """A number and all its spellings with one character less: two numbers share one when a keystroke or a swap lies between them."""
    return {text, *(text[:k] + text[k + 1:] for k in range(len(text)))} if len(text) > MAX_TYPO else set()


def _joined(mine, theirs, asked, others):
    mine, theirs = mine[mine != ""], theirs[theirs != ""]
    crowded = theirs.value_counts()
    crowded = set(crowded.index[crowded > CROWD])
    if crowded:
        mine, theirs = (keys.where(~keys.isin(crowded), keys + _days(rows)[keys.index]) for keys, rows in ((mine, asked), (theirs, others)))
    both = pd.merge(mine.rename("key").rename_axis("a").reset_index(), theirs.rename("key").rename_axis("b").reset_index(), on="key")
    return both["a"].to_numpy(np.int64) * len(others) + both["b"].to_numpy(np.int64)


def _birth_dates(rows):
    return rows.column("patient_birth_date")


def _names_and_days(rows):
    names = rows.column("patient_name")
    parts = {name: name_parts(name) for name in set(names)}
    names = np.array([parts[name] for name in names], dtype=object)
    return np.where(names != "", names + _days(rows), "").astype(object)


def _days(rows):
    at = next((rows.column(name) for name in ("scheduled_at", "observed_at", "started_at") if name in rows), None)
    days = at.astype("datetime64[D]").astype(np.int64)
    return np.array([" "], dtype=object) + days.astype("str").astype(object)


def strong_candidates(links):
    """`{report position: (score, reasons, study position)}` of the one study each unlinked report was surely meant for.

    No order carries the report's accession number, the numbers are at most two edits apart or one is missing, patient and modality agree,
    the study has no report of its own, and no other report claims it.
    """
    left = [r for r, (level, _) in enumerate(links.of_report) if level == "none" and not links.reports[r]["is_duplicate"]
            and links.clean(links.reports[r]["accession_number"]) not in links.orders_by_accession]
    found = score_candidates(links, "report", left) if left else {}
    sure = {r: hits[0] for r, hits in found.items() if hits and hits[0][0] >= STRONG_SCORE and _is_meant(links.reports[r], hits[0][2], links)}
    claims = defaultdict(set)
    for r, (_, _, s) in sure.items():
        claims[s].add(links.clean(links.reports[r]["accession_number"]) or r)
    return {r: hit for r, hit in sure.items() if len(claims[hit[2]]) == 1}


def _is_meant(report, s, links):
    study = links.studies[s]
    one, other = (links.clean(x["accession_number"]) for x in (report, study))
    person = same_name(report["patient_name"], study["patient_name"]) and same_birth_date(report["patient_birth_date"], study["patient_birth_date"])
    typo = not one or not other or edits(one, other) <= MAX_TYPO
    return person and typo and not modalities_conflict(report["modality"], study["modality"]) and not links.reports_of.get(s)


def candidates_rows(finding_id, found, links, kind):
    """Rows of CANDIDATES of one finding from what `score_candidates` found; `kind` says whether the candidates are of kind study or order."""
    rows = []
    for score, reasons, position in found:
        study = links.studies[position] if kind == "study" else None
        accession = study["accession_number"] if study else links.orders[position]["accession_number"]
        if study and not accession:
            accession = next((links.orders[o]["accession_number"] for o in links.orders_of.get(position, [])), "")
        uid = study["study_instance_uid"] if study else " ".join(links.studies[s]["study_instance_uid"] for s in links.of_order[position][1])
        rows.append({"finding_id": finding_id, "candidate_accession_number": accession, "candidate_study_instance_uid": uid, "score": round(score, 3), "reasons": reasons})
    return rows


def linked_candidate(finding_id, study, level, accession=None):
    """The row of CANDIDATES of a partner that is already linked: its score is that of the ladder's level."""
    return {"finding_id": finding_id, "candidate_accession_number": study["accession_number"] if accession is None else accession,
            "candidate_study_instance_uid": study["study_instance_uid"], "score": LEVELS[level], "reasons": f"linked by {level}"}


def rank_all(findings, links):
    """CANDIDATES of findings, in their order."""
    by_uid, of_message, of_number = (defaultdict(list) for _ in range(3))
    for places, values in ((by_uid, links.studies.column("study_instance_uid")), (of_message, links.reports.column("message_control_id")), (of_number, links.orders.column("accession_number"))):
        for position, value in enumerate(values):
            places[value].append(position)
    asked = {row["finding_id"]: _asked_by(row, links, by_uid, of_message, of_number) for row in findings}
    scored = {kind: score_candidates(links, kind, {position for k, position in asked.values() if k == kind}) for kind in {k for k, _ in asked.values()} - {""}}
    rows = []
    for finding in findings:
        kind, position = asked[finding["finding_id"]]
        if kind:
            rows += candidates_rows(finding["finding_id"], scored[kind].get(position, []), links, "order" if kind == "study" else "study")
        elif finding["code"] != "U02":
            rows += _linked(finding, [s for uid in finding["study_instance_uid"].split() for s in by_uid.get(uid, [])], links)
    return conform(rows, CANDIDATES)


def _asked_by(finding, links, by_uid, of_message, of_number):
    """`(kind, position)` of what a finding says has no partner: a study, a report or an order; else `("", -1)`."""
    positions = [s for uid in finding["study_instance_uid"].split() for s in by_uid.get(uid, [])]
    report = next((r for control in finding["message_control_id"].split() for r in of_message.get(control, [])), None)
    if finding["code"] == "U01" and positions:
        return "study", positions[0]
    if report is not None and links.of_report[report][0] in ("none", "ambiguous"):
        return "report", report
    order = of_number.get(finding["accession_number"]) if finding["code"] == "U04" else None
    return ("order", order[0]) if order else ("", -1)


def _linked(finding, positions, links):
    rows = []
    for s in positions:
        rows += [linked_candidate(finding["finding_id"], links.studies[s], links.of_order[o][0], links.orders[o]["accession_number"]) for o in links.orders_of.get(s, [])]
        if not links.orders_of.get(s) and links.reports_of.get(s):
            rows.append(linked_candidate(finding["finding_id"], links.studies[s], links.of_report[links.reports_of[s][0]][0]))
    return [row for k, row in enumerate(rows) if row not in rows[:k]]
