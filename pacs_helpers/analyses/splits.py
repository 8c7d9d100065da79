"""One visit in several studies, one study or report for several orders: U08 (split), U09 (group case), U10 (one accession, many Study UIDs)."""

from collections import Counter, defaultdict

import pandas as pd

from ..schemas import COUNT, INSTANT, MEASURE, TEXT
from ..tables import conform
from .anatomy import regions_adjoin, regions_of, side_of
from .identity import is_temporary, same_person
from .links import link_exams
from .visits import end_of, find_visits, may_be_one
from .wrongpatients import contradictions, made_at

ONE_EXAM = pd.Timedelta(days=1)
SH_LENGTH = 16
PLAIN_XRAY = ("CR", "DX", "RG", "XR")
SHAPES = ("split", "group case", "linked report", "several exams in a row")
CASES = {
    "shape": (SHAPES, "only a split is an error"), "accession_number": (TEXT, "of its studies, orders and reports, space-separated"),
    "study_instance_uid": (TEXT, "its studies in order of time, space-separated"), "patient_id": (TEXT, "as the images say"),
    "station_name": (TEXT, "where it was made"), "started_at": (INSTANT, "first acquisition"), "n_studies": (COUNT, "studies"),
    "n_orders": (COUNT, "orders"), "n_reports": (COUNT, "reports, whatever their versions"), "confidence": (MEASURE, "of a split, 0..1; missing for what the data say themselves"),
    "evidence": (TEXT, "in words"),
}


def find_splits(links, site):
    """Groups of study positions that one scanner visit was broken into: `(positions, confidence, why)`, each study in one group.

    Same patient and station, different or empty accession numbers, acquisitions overlapping or less than 30 minutes apart, and a shared
    frame of reference (0020,0052), an overlap, or adjoining body regions. Exams that each have their own report message are two exams,
    whatever else was made between or after them; so are, under two numbers in two frames, plain X-rays and the two sides. An ID that
    everybody unknown gets (temporary, no digit) needs a frame or an overlap.
    """
    parts = (part for visit in find_visits(links) for part in _parts(visit, links))
    return [found for part in parts if (found := _judge(part, links, site))]


def _parts(visit, links):
    """The visit in the pieces that evidence holds together."""
    parts, place = [], {s: n for n, s in enumerate(visit)}
    for n, s in enumerate(visit):
        near = [part for part in parts if any(_belong(t, s, t == visit[n - 1], links) for t in part)]
        parts = [part for part in parts if part not in near] + [sorted([t for part in near for t in part] + [s], key=place.get)]
    return parts


def _belong(first, second, is_next, links):
    messages = [{links.reports[r]["message_control_id"] for r in links.reports_of.get(s, [])} for s in (first, second)]
    if all(messages) and not messages[0] & messages[1]:
        return False
    pair = [links.studies[s] for s in (first, second)]
    numbers = [links.clean(t["accession_number"]) for t in pair]
    is_told_apart = not numbers[0] or numbers[0] != numbers[1]
    if _share_a_frame(pair) or is_told_apart and (_sides_differ(pair) or any(t["modality"] in PLAIN_XRAY for t in pair)):
        return _share_a_frame(pair)
    is_anybody = is_temporary(pair[0]) and not any(c.isdigit() for c in pair[0]["patient_id"])
    return _overlap(pair) or is_next and not is_anybody and _adjoin(pair)


def _sides_differ(pair):
    sides = [side_of(t["laterality"]) or side_of(f"{t['body_part_examined']} {t['study_description']}") for t in pair]
    return all(sides) and sides[0] != sides[1]


def _share_a_frame(studies):
    frames = [set(t["frame_of_reference_uids"].split()) for t in studies]
    return any(frames[i] & frames[j] for i in range(len(frames)) for j in range(i))


def _overlap(studies):
    return any(b["started_at"] < end_of(a) for a, b in zip(studies, studies[1:]))


def _regions(studies):
    return [regions_of(t["body_part_examined"] or t["study_description"], t["modality"]) for t in studies]


def _adjoin(studies):
    regions = _regions(studies)
    return all(a and b and regions_adjoin(a, b) for a, b in zip(regions, regions[1:]))


def _judge(part, links, site):
    studies = [links.studies[s] for s in part]
    if len({site.clean_accession(t["accession_number"]) for t in studies}) < 2:
        return None
    near = "adjoining body regions" if len(set(_regions(studies))) > 1 else "the same body region"
    signs = {"the same frame of reference": _share_a_frame(studies), "overlapping acquisitions": _overlap(studies), near: _adjoin(studies)}
    return part, _confidence(studies), " and ".join(why for why, is_so in signs.items() if is_so)


def _confidence(studies):
    return 0.9 if _share_a_frame(studies) else 0.8 if _overlap(studies) else 0.55


def find_group_cases(links):
    """Positions of studies acquired for several orders: two or more Request Attributes accession numbers or procedure ids."""
    rows = (links.studies.column(name) for name in ("accession_number", "requested_accession_numbers", "requested_procedure_ids"))
    return [s for s, (number, requested, procedures) in enumerate(zip(*rows)) if requested and len(requested.split()) > 1 or procedures and not number and len(procedures.split()) > 1]


def find_shared_accessions(links):
    """`(accession_number, positions, what)` of every accession number on more than one study.

    `what`: one exam (less than a day between its studies), several exams or several people of one number, or "cut off": orders go on after the 16 characters that
    DICOM allows. Of one person, images that are not what the order asks for are left out: they have a finding of their own.
    """
    numbers, shared, found = [links.clean(number) if number else None for number in links.studies.column("accession_number")], defaultdict(list), []
    often = {number for number, n in Counter(numbers).items() if n > 1} - {None}
    for s, number in enumerate(numbers):
        if number in often:
            shared[number].append(s)
    for positions in shared.values():
        number, first = links.studies[positions[0]]["accession_number"], links.studies[positions[0]]
        if len(longer_numbers(number, links)) > 1:
            found.append((number, positions, "cut off"))
        elif not all(_are_one(first, links.studies[s], links) for s in positions[1:]):
            found.append((number, positions, "several people"))
        else:
            days = _by_day([s for s in positions if not _is_other_exam(s, links)] or positions, links)
            found += [(number, sorted(day), "one exam") for day in days if len(day) > 1] + [(number, [s for day in days for s in day], "several exams")] * (len(days) > 1)
    return found


def longer_numbers(number, links):
    """The orders' accession numbers of which one of 16 characters, the most that DICOM allows (VR SH), is the beginning."""
    return sorted({n for n in links.orders.column("accession_number") if len(n) > SH_LENGTH and n.startswith(number)}) if len(number) == SH_LENGTH else []


def _are_one(one, other, links):
    return same_person(one, other, links.merged, links.known) and (may_be_one(one, other) or not is_temporary(one))


def _is_other_exam(s, links):
    orders = {links.orders[o]["accession_number"]: links.orders[o] for o in links.orders_of.get(s, [])}
    return len(orders) == 1 and any(contradictions(order, links.studies[s]) for order in orders.values())


def _by_day(positions, links):
    """The positions in order of time, in groups with a day or more between them."""
    days, end = [], None
    for s in sorted(positions, key=lambda s: (str(made_at(links.studies[s])), s)):
        at = made_at(links.studies[s])
        if not days or end is not None and at - end >= ONE_EXAM:
            days.append([])
        days[-1].append(s)
        end = max(at, end_of(links.studies[s])) if pd.notna(at) else end
    return days


def describe_splits(dept, *, site):
    """One row per case, in order of time: its shape, accession numbers, studies, where and when, counts, and the evidence in words.

    `split`: the scanner made several studies of one visit, under one accession number or several. `group case`: one study for several orders, by its Request Attributes, not an
    error. `linked report`: one report for several accession numbers of one patient that are neither. `several exams in a row`: studies less than 30
    minutes apart on one station that nothing holds together; they stay as they are.
    """
    links = link_exams(dept, site)
    answers, cases = _answers(links, site), find_cases(links)
    whole = {s: set(part) for shape, part in cases for s in part}
    answered = defaultdict(set)
    for r, numbers in enumerate(answers):
        answered[numbers].update(links.of_report[r][1])
    for numbers, hit in answered.items():
        part = sorted(hit, key=lambda s: str(links.studies[s]["started_at"]))
        if len(numbers - {""}) > 1 and part and _is_one_patient(part, links) and not hit <= whole.get(part[0], set()):
            cases.append(("linked report", part))
            whole |= dict.fromkeys(part, hit)
    for visit in find_visits(links):
        if len({site.clean_accession(links.studies[s]["accession_number"]) or s for s in visit}) > 1 and not set(visit) <= whole.get(visit[0], set()):
            cases.append(("several exams in a row", visit))
    table = conform([_case(shape, part, links, answers, site) for shape, part in cases], CASES)
    return table.sort_values(["started_at", "shape", "accession_number"], kind="stable").reset_index(drop=True)


def _is_one_patient(part, links):
    named = [links.studies[s] for s in part if links.studies[s]["patient_id"]]
    return all(_are_one(named[0], t, links) for t in named[1:])


def find_cases(links):
    """`("split" or "group case", positions)` of each visit in several studies, whatever their accession numbers, and each study for several orders."""
    return [("split", part) for visit in find_visits(links) for part in _parts(visit, links) if len(part) > 1] + [("group case", [s]) for s in find_group_cases(links)]


def _answers(links, site):
    """Per report the cleaned accession numbers that its message answers, or a later version of it that answers more."""
    covers = defaultdict(set)
    messages = [(t["source_file"], t["source_offset"], t["patient_id"], t["message_control_id"] or r) for r, t in enumerate(links.reports)]
    for message, report in zip(messages, links.reports):
        covers[message].add(site.clean_accession(report["accession_number"]))
    wide = defaultdict(list)
    for numbers in {frozenset(c) for c in covers.values() if len(c) > 1}:
        for n in numbers:
            wide[n].append(numbers)
    return [max((w for n in covers[m] for w in wide[n] if covers[m] < w), key=len, default=frozenset(covers[m])) for m in messages]


def numbers_of(study):
    """The accession numbers that a study carries or was asked for by, its own first."""
    return list(dict.fromkeys(filter(None, [study["accession_number"], *study["requested_accession_numbers"].split()])))


def _case(shape, part, links, answers, site):
    studies = [links.studies[s] for s in part]
    numbers = {}
    for n in (n for t in studies for n in numbers_of(t)):
        numbers.setdefault(site.clean_accession(n), n)
    reports = {r for s in part for r in links.reports_of.get(s, [])} | {r for n in numbers for r in links.reports_by_accession.get(n, [])}
    told = {answers[r] for r in reports}
    if shape == "linked report":
        numbers |= {n: n for n in sorted(set().union(*told)) if n not in numbers and n}
    orders = {o for s in part for o in links.orders_of.get(s, [])} | {o for n in numbers for o in links.orders_by_accession.get(n, [])}
    return {"shape": shape, "accession_number": " ".join(numbers.values()), "study_instance_uid": " ".join(t["study_instance_uid"] for t in studies),
            **{name: studies[0][name] for name in ("patient_id", "station_name", "started_at")}, "n_studies": len(studies),
            "n_orders": len({links.orders[o]["accession_number"] or o for o in orders}), "n_reports": len(told),
            "confidence": _confidence(studies) if shape == "split" else None, "evidence": "; ".join(filter(None, [*_how_made(shape, studies, len(numbers)), _how_reported(set(numbers), told)])) + "."}


def _how_made(shape, studies, n_numbers):
    if shape == "group case":
        return [f"One study for {max(n_numbers, len(studies[0]['requested_procedure_ids'].split()))} orders, as its Request Attributes say"]
    if len(studies) == 1:
        return ["One study"]
    frames = [set(t["frame_of_reference_uids"].split()) for t in studies]
    frame = ("one frame of reference" if set.intersection(*frames) else "some share a frame of reference" if _share_a_frame(studies)
             else "each its own frame of reference" if all(frames) else "frame of reference not given")
    return [f"{len(studies)} studies", frame, _how_far_apart(studies), _which_parts(studies)]


def _which_parts(studies):
    parts, regions = [t["body_part_examined"] or t["study_description"] for t in studies], _regions(studies)
    names, apart = ", ".join(p or "?" for p in parts), [f"{a} and {b}" for a, b, one, other in zip(parts, parts[1:], regions, regions[1:]) if not regions_adjoin(one, other)]
    if not all(regions):
        return f"{names}: {'not all of these body parts are known' if all(parts) else 'not all body parts given'}"
    return f"{names}: {', '.join(apart)} do not adjoin" if apart else f"each {parts[0]}" if len(set(parts)) == 1 else f"{names}: adjoining"


def _how_far_apart(studies):
    ends = pd.Series([end_of(t) for t in studies]).cummax()
    gaps = [(b["started_at"] - end).total_seconds() / 60 for b, end in zip(studies[1:], ends)]
    low, high = round(min(gaps), 0), round(max(gaps), 0)
    return "" if pd.isna(gaps).any() else f"acquisitions overlap by {-low:.0f} min" if low < 0 else f"{low:.0f} min apart" if low == high else f"{low:.0f} to {high:.0f} min apart"


def _how_reported(numbers, told):
    done = numbers & set().union(*told)
    if len(numbers) > 1 and any(numbers <= answer for answer in told):
        return "one report for all"
    if len(numbers) > 1 and done == numbers and len(told) == len(numbers):
        return "each with its own report"
    return "no report" if not told else "reported" if done == numbers else f"{len(done)} of {len(numbers)} accession numbers reported"
