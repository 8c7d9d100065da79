"""Which HL7 field holds the accession number: measured, shown, never assumed."""

import numpy as np
import pandas as pd

from ..site import ACCESSION_FIELDS, SH_LENGTH
from ..tables import TableError
from .hl7lines import hashes_of

_ORDERED = list(ACCESSION_FIELDS)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def measure_accession_fields(messages, site, dicom_accession_numbers=()):
    """One row per candidate field: how it is filled, how long, and the share of its values that DICOM knows.

    Columns: field, n_filled, share_filled, n_distinct, share_unique (distinct values per distinct exam key),
    share_short (at most 16 characters, PS3.5 SH), share_in_dicom (of the distinct values, missing without DICOM),
    is_chosen, is_guess (chosen without DICOM at hand, or DICOM knew none). Shares are 0..1.
    """
    known = {site.clean_accession(a) for a in dicom_accession_numbers} - {""}
    is_about_orders = messages["message_type"].isin(["ORM", "OMG", "OMI", "ORU", "SIU"]).to_numpy(bool)
    exams = messages["observed_at"].astype("int64").to_numpy().view(np.uint64)
    for column in ("patient_id", "procedure_code"):
        exams = exams * _MIX + hashes_of(messages[column])
    exams = pd.factorize(exams)[0]
    rows = [_measure(name, messages[ACCESSION_FIELDS[name]], is_about_orders, exams, known, site) for name in _ORDERED]
    table = pd.DataFrame(rows)
    fixed = site.hl7_field.removesuffix(".1")
    by_overlap = bool(known) and table["share_in_dicom"].max() > 0
    if fixed != "auto":
        chosen = fixed
    elif not table["n_filled"].any():
        chosen = _ORDERED[0]
    else:
        # Overlap alone would let a field filled once win: weigh it by how often it is filled.
        score = table["share_in_dicom"] * table["share_filled"] if by_overlap else _guess(table)
        chosen = table["field"][score.idxmax()]
    table["is_chosen"] = table["field"] == chosen
    table["is_guess"] = table["is_chosen"] & (fixed == "auto") & (not by_overlap)
    return table


def _measure(name, values, is_about_orders, exams, known, site):
    filled = np.flatnonzero(is_about_orders & (values != "").to_numpy(bool))
    distinct = values.iloc[filled[~pd.Series(hashes_of(values)[filled]).duplicated().to_numpy()]]
    n_filled, n, n_about, n_exams = len(filled), len(distinct), int(is_about_orders.sum()), np.count_nonzero(np.bincount(exams[filled], minlength=1))
    return {
        "field": name, "n_filled": n_filled, "share_filled": n_filled / n_about if n_about else 0.0,
        "n_distinct": n, "share_unique": min(1.0, n / n_exams) if n_exams else 0.0,
        "share_short": int((distinct.str.len() <= SH_LENGTH).sum()) / n if n else 0.0,
        "share_in_dicom": sum(site.clean_accession(v) in known for v in distinct) / n if known and n else (0.0 if known else float("nan")),
    }


def _guess(table):
    # Filler numbers are assigned by the imaging side, so at equal fill a filler field is likelier than a placer's.
    prior = table["field"].map({"OBR-18": 1.0, "OBR-3": 0.98, "IPC-1": 0.97, "ORC-3": 0.96, "OBR-20": 0.9, "OBR-2": 0.8, "ORC-2": 0.8})
    return table["share_filled"] * table["share_unique"] * table["share_short"] * prior


def fill_accession_numbers(messages, table):
    """`messages` with `accession_number` taken from the chosen field of `measure_accession_fields`."""
    chosen = table.loc[table["is_chosen"], "field"]
    if len(chosen) != 1:
        raise TableError("table: exactly one field must be chosen; use what measure_accession_fields returned.")
    return messages.assign(accession_number=messages[ACCESSION_FIELDS[chosen.iloc[0]]])
