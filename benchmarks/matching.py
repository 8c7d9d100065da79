"""Which order each study belongs to: `python -m benchmarks.matching [N] [SEED]`. Ours and splink, when it is installed, each in its own process.

N orders and N studies (200,000 without), 2 of 100 studies damaged: number missing or mistyped, ID, name or birth date with a slip, a temporary
identity. Cut-offs were fixed before the scored seed was drawn: ours is candidates.STRONG_SCORE, splink's CUT_OFF, the best of four on seed 1.
"""

import importlib.util
import logging
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd

from pacs_helpers.analyses.candidates import STRONG_SCORE, score_candidates
from pacs_helpers.analyses.links import link_exams
from pacs_helpers.site import Site
from pacs_helpers.tables import REPORTS, conform

from .exams import make_department, make_exams

CUT_OFF = 0.9


def ours(orders, studies):
    """Order of each study, as positions: by the ladder, else the best candidate above the cut-off that no other study wants more."""
    links = link_exams(make_department(orders, studies, conform([], REPORTS)), Site(time_zone="UTC"))
    chosen = {s: found[0] for s, found in links.orders_of.items()}
    left = [s for s in range(len(studies)) if s not in chosen]
    best = {s: hits[0] for s, hits in score_candidates(links, "study", left).items() if hits[0][0] >= STRONG_SCORE}
    found = chosen | {s: o for s, (_, _, o) in _one_to_one(best).items()}
    return {int(links.studies.places[s]): int(links.orders.places[o]) for s, o in found.items()}


def _one_to_one(best):
    """The best claim on each order."""
    claims = {}
    for s, hit in sorted(best.items(), key=lambda claim: -claim[1][0]):
        claims.setdefault(hit[2], s)
    return {s: best[s] for s in claims.values()}


def splinks(orders, studies):
    """The same by splink: blocked by number, ID with day, birth date, and name with day; weights by its own training."""
    import splink.comparison_library as cl
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    tables = []
    for rows, when in ((orders, "scheduled_at"), (studies, "started_at")):
        told = pd.DataFrame({"unique_id": range(len(rows)), "accession": rows["accession_number"], "pid": rows["patient_id"], "name": rows["patient_name"], "born": rows["patient_birth_date"],
                             "sex": rows["patient_sex"], "modality": rows["modality"], "part": rows["procedure_name"].str.split().str[-1] if "procedure_name" in rows else rows["body_part_examined"],
                             "day": rows[when].dt.strftime("%Y-%m-%d")}).astype({c: object for c in ("accession", "pid", "name", "born", "sex", "modality", "part", "day")})
        tables.append(told.where(told != "", None))
    settings = SettingsCreator(
        link_type="link_only",
        comparisons=[cl.DamerauLevenshteinAtThresholds("accession", [1, 2]), cl.DamerauLevenshteinAtThresholds("pid", [1, 2]),
                     cl.JaroWinklerAtThresholds("name", [0.95, 0.85]).configure(term_frequency_adjustments=True), cl.DamerauLevenshteinAtThresholds("born", [1]),
                     cl.ExactMatch("sex"), cl.ExactMatch("modality"), cl.ExactMatch("part"), cl.ExactMatch("day")],
        blocking_rules_to_generate_predictions=[block_on("accession"), block_on("pid", "day"), block_on("born", "day"), block_on("name", "day"), block_on("born", "modality", "part")])
    database = DuckDBAPI()
    linker = Linker([database.register(table, dataset_display_name=name) for table, name in zip(tables, ("orders", "studies"))], settings)
    linker.training.estimate_probability_two_random_records_match([block_on("accession")], recall=0.98)
    linker.training.estimate_u_using_random_sampling(max_pairs=2e6)
    for rule in (block_on("accession"), block_on("pid", "day"), block_on("born", "day")):
        linker.training.estimate_parameters_using_expectation_maximisation(rule)
    found = linker.inference.predict(threshold_match_probability=CUT_OFF).as_pandas_dataframe().sort_values("match_weight", kind="stable")
    found = found.drop_duplicates("unique_id_r", keep="last").drop_duplicates("unique_id_l", keep="last")
    return dict(zip(found["unique_id_r"], found["unique_id_l"]))


def measure(name, n, seed):
    """`(name, right, claimed, right among the damaged, damaged, seconds, MB)`."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    orders, studies, _, kinds = make_exams(n, seed)
    began = time.perf_counter()
    found = {"ours": ours, "splink": splinks}[name](orders, studies)
    seconds = time.perf_counter() - began
    damaged = set(kinds.index[kinds != ""])
    right = {s for s, o in found.items() if s == o}
    by_kind = {kind: round(len(right & set(rows.index)) / len(rows), 3) for kind, rows in kinds.groupby(kinds) if kind}
    return name, len(right), len(found), len(right & damaged), len(damaged), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, by_kind


def main(n=200_000, seed=20_261_124):
    names = ["ours", *(["splink"] if importlib.util.find_spec("splink") else [])]
    print(f"{n:,} orders, {n:,} studies, seed {seed}\n{'':8} precision  recall  of the damaged   wrong   seconds     MB")
    for name in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            _, right, claimed, mended, damaged, seconds, mb, by_kind = pool.submit(measure, name, n, seed).result()
        print(f"{name:8} {right / claimed:9.5f} {right / n:7.5f} {mended / damaged:15.3f} {claimed - right:7,} {seconds:9.1f} {mb:6,.0f}   {by_kind}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
