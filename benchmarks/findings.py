"""How long findings and candidates take: `python -m benchmarks.findings [EXAMS]` (200,000 without), with the memory of the whole process.

2 of 100 studies are damaged; 4,000 of them, or all there are, are asked for candidates among all orders.
"""

import resource
import sys
import time

import pandas as pd

from pacs_helpers.analyses.candidates import score_candidates
from pacs_helpers.analyses.links import link_exams
from pacs_helpers.analyses.matching import find_mismatches, rank_candidates
from pacs_helpers.site import Site

from .exams import make_department, make_exams

MOST_ASKED = 4_000


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(n=200_000):
    site, before = Site(time_zone="America/Chicago"), megabytes()
    dept = make_department(*make_exams(n, 20_261_124)[:3])
    made = megabytes()
    began = time.process_time()
    findings = find_mismatches(dept, as_of=pd.Timestamp("2026-01-20", tz="UTC"), site=site)
    print(f"{n:,} exams: {len(findings):,} findings in {time.process_time() - began:.1f} CPU s; process {megabytes():,.0f} MB (libraries {before:,.0f}, with the tables {made:,.0f})")
    began = time.process_time()
    print(f"rank_candidates: {len(rank_candidates(findings, dept, site=site)):,} candidates in {time.process_time() - began:.1f} CPU s, linking included")
    dept = make_department(*make_exams(n, 7, damaged=0.07)[:3])
    links = link_exams(dept, site)
    left = [s for s in range(n) if not links.orders_of.get(s)][:MOST_ASKED]
    began = time.process_time()
    found = score_candidates(links, "study", left)
    print(f"{len(left):,} studies without partner against {n:,} orders: {sum(map(len, found.values())):,} candidates in {time.process_time() - began:.1f} CPU s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
