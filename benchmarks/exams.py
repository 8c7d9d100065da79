"""A year of a department as tables, for the matching benchmarks: orders, studies and reports, some of them damaged, and which belong together.

Everything follows from the seed. Names, birth dates and procedures are drawn with the unevenness of real ones: few surnames make up most of a town.
"""

import numpy as np
import pandas as pd

from pacs_helpers.department import Department
from pacs_helpers.tables import EVENTS, ORDERS, PATIENTS, REPORTS, SERIES, STUDIES, TRACE, conform

DAMAGES = ("no accession", "accession typo", "id typo", "id format", "name order", "name typo", "birth date", "temporary", "all typed")
PARTS = {"CT": ("HEAD", "CHEST", "ABDOMEN", "PELVIS", "LSPINE", "NECK"), "MR": ("HEAD", "LSPINE", "KNEE", "SHOULDER", "ABDOMEN"),
         "CR": ("CHEST", "HAND", "FOOT", "KNEE", "SHOULDER", "LSPINE", "PELVIS", "ANKLE"), "US": ("ABDOMEN", "PELVIS", "NECK"), "MG": ("BREAST",)}
SHARE = {"CT": 0.25, "MR": 0.15, "CR": 0.4, "US": 0.15, "MG": 0.05}
SURNAME_PARTS = ("AND BER CAR DAL ED FOR GAR HAN IR JOHN KAL LAR MON NOR OS PET QUI RAS SAL TOR UL VAN WES YOR ZEM".split(),
                 ("", "EN", "A", "O", "ING", "EL", "AR"), "SON MAN TON SEN EZ LEY WICK BERG OVA ELLI ER HAM".split())
FIRST = {"F": "MARY ANNA LAURA EMMA SOFIA NINA CLARA RUTH IRIS JUNE ALICE HELEN PAULA VERA DORA LENA ROSA TARA GWEN ELSA".split(),
         "M": "JOHN PETER PAUL DAVID MARK ERIC HUGO LEON OTTO IVAN KARL SEAN NOEL OMAR TOBY VICTOR WALTER ADAM BEN CARLOS".split()}


def make_exams(n, seed, damaged=0.02):
    """`(orders, studies, reports, damage of each study)` of `n` exams; row i of all three is exam i, `damaged` is the share of damaged studies."""
    chance = np.random.default_rng(seed)
    people = _people(chance, max(1, n // 3))
    who = chance.integers(0, len(people), n)
    modality = chance.choice(list(SHARE), n, p=list(SHARE.values()))
    part = np.array([PARTS[m][k % len(PARTS[m])] for m, k in zip(modality, chance.integers(0, 1000, n))])
    due = pd.Timestamp("2025-01-01T07:00Z") + pd.to_timedelta(np.sort(chance.integers(0, 365 * 24 * 60, n)), unit="min")
    # The ward's chest film of every morning, the second try of the afternoon: one exam in five repeats an earlier one of its patient.
    again, earlier = np.arange(n)[chance.random(n) < 0.2], chance.integers(0, n, n)
    who[again], modality[again], part[again] = who[earlier[again]], modality[earlier[again]], part[earlier[again]]
    minutes = chance.exponential(18 * 60, n).astype(np.int64) * np.isin(np.arange(n), again)
    due = due[np.where(np.isin(np.arange(n), again), earlier, np.arange(n))] + pd.to_timedelta(minutes, unit="min")
    late = pd.to_timedelta(np.round(chance.lognormal(2.5, 1.0, n)), unit="min")
    number = np.char.add("R25", np.char.zfill((np.arange(n) * 37 % 9_999_991 + 10_000).astype(str), 7))
    person = {c: people[c].to_numpy()[who] for c in people}
    orders = {**person, "accession_number": number, "placer_order_number": np.char.add("P", number), "modality": modality, "procedure_name": np.char.add(np.char.add(modality, " "), part),
              "procedure_code": np.char.add(modality, part), "ordered_at": due - pd.Timedelta("3h"), "scheduled_at": due, "order_status": "CM",
              "is_cancelled": False, "section": "MAIN", "priority": "R"}
    begun, rooms = due + late, chance.integers(1, 4, n).astype(str)
    ended = begun + pd.to_timedelta(chance.integers(2, 40, n), unit="min")
    studies = {**person, "accession_number": number, "modality": modality, "body_part_examined": part, "study_description": part, "study_at": begun, "started_at": begun, "ended_at": ended,
               "station_name": np.char.add(modality, rooms), "study_instance_uid": np.char.add("2.25.9", np.arange(n).astype(str)), "n_series": 1, "n_instances": 1}
    reports = {**person, "accession_number": number, "placer_order_number": np.char.add("P", number), "modality": modality, "procedure_name": orders["procedure_name"], "result_status": "F",
               "observed_at": ended, "status_changed_at": ended + pd.Timedelta("2h"), "message_at": ended + pd.Timedelta("2h"), "message_control_id": np.char.add("V", np.arange(n).astype(str)),
               "acknowledgment_code": "AA", "is_duplicate": False, "version_number": 1}
    studies = pd.DataFrame(studies).astype({c: object for c in (*person, "accession_number")})
    kinds = pd.Series("", index=studies.index)
    for row in np.flatnonzero(chance.random(n) < damaged):
        kinds[row] = _damage(studies, row, chance)
    return conform(pd.DataFrame(orders), ORDERS), conform(studies, STUDIES), conform(pd.DataFrame(reports), REPORTS), kinds


def make_department(orders, studies, reports):
    """A Department of these, with the milestones that findings ask for."""
    told = [pd.DataFrame({"accession_number": orders["accession_number"], "milestone": milestone, "at": at, "source": source, "rank": 1, "precision": "minute"})
            for milestone, at, source in (("exam_started", studies["started_at"], "hl7"), ("exam_ended", studies["ended_at"], "dicom"))]
    return Department(orders, studies, reports, conform([], PATIENTS), conform(pd.concat(told, ignore_index=True), EVENTS), conform([], TRACE), pd.DataFrame(), conform([], SERIES))


def _people(chance, n):
    stems = [a + b + c for a in SURNAME_PARTS[0] for b in SURNAME_PARTS[1] for c in SURNAME_PARTS[2]]
    chance.shuffle(stems)
    weights = 1 / np.arange(1, len(stems) + 1) ** 0.9
    sex = chance.choice(["F", "M"], n)
    last = chance.choice(stems, n, p=weights / weights.sum())
    first = np.array([FIRST[s][int(k)] for s, k in zip(sex, np.minimum(chance.geometric(0.12, n) - 1, 19))])
    born = pd.Timestamp("1930-01-01") + pd.to_timedelta(chance.integers(0, 90 * 365, n), unit="D")
    return pd.DataFrame({"patient_id": np.char.add("M", np.char.zfill(chance.permutation(n * 7)[:n].astype(str), 8)), "patient_name": [f"{a}^{b}" for a, b in zip(last, first)],
                         "patient_birth_date": born.strftime("%Y%m%d"), "patient_sex": sex})


def _damage(studies, row, chance):
    kind = DAMAGES[chance.integers(0, len(DAMAGES))]
    was = {c: studies.at[row, c] for c in ("accession_number", "patient_id", "patient_name", "patient_birth_date")}
    new = {"accession_number": _typo(was["accession_number"], chance) if kind == "accession typo" else ""}
    if kind in ("id typo", "all typed"):
        new["patient_id"] = _typo(was["patient_id"], chance)
    if kind == "id format":
        new["patient_id"] = was["patient_id"].lstrip("M0")
    if kind == "name order":
        new["patient_name"] = " ".join(was["patient_name"].split("^")[::-1])
    if kind in ("name typo", "all typed"):
        new["patient_name"] = _typo(was["patient_name"], chance)
    if kind == "birth date":
        new["patient_birth_date"] = _typo(was["patient_birth_date"], chance)
    if kind == "temporary":
        new |= {"patient_id": f"TEMP{row}", "patient_name": "DOE^JOHN", "patient_birth_date": ""}
    for column, value in new.items():
        studies.at[row, column] = value
    return kind


def _typo(text, chance):
    """One keystroke wrong: a neighbour swapped, a character changed, dropped or doubled."""
    at, kind = int(chance.integers(1, len(text) - 1)), chance.integers(0, 4)
    other = str(chance.integers(0, 10)) if text[at].isdigit() else chr(65 + int(chance.integers(0, 26)))
    return (text[:at] + text[at + 1] + text[at] + text[at + 2:], text[:at] + other + text[at + 1:], text[:at] + text[at + 1:], text[:at] + text[at] + text[at:])[kind]
