"""How much each agreement says, learnt from a site's own certain matches: Fellegi-Sunter weights, estimated by expectation maximisation.

Three things can be true of a pair: it is one exam, it is two exams of one person, it is two people. The fields that tell people apart weigh
alike in the first two, so that a familiar patient is not taken for a familiar exam.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from .evidence import FIELDS, NOT_TOLD, PERSON, hours_apart
from .links import LEVELS

CERTAIN = 0.95              # of LEVELS: linked by a UID or an accession number
MOST_LEARNT = 3_000         # certain matches, evenly spread, are enough
BELIEF = 50                 # pairs that the table of FIELDS counts for
ROUNDS = 30
IN_POOL = 0.5               # chance that what has no partner has one here at all
QUANTILES, FEWEST = (0.25, 0.75, 0.02, 0.98, 0.001, 0.999), 30
DEFAULT_HOURS = np.array([-0.5, 2.0, -12.0, 24.0, -72.0, 120.0])
SAME_EXAM, SAME_PERSON, STRANGERS = range(3)


class Habits(NamedTuple):
    """What is usual at a site: quantiles of the hours from due to begun, and how often each `(section, modality)` was on each station."""

    hours: np.ndarray
    stations: Counter
    totals: Counter

    def time(self, hours):
        """The level of each number of hours: within the middle half, the middle 96 %, all but the rarest, or none of them."""
        inside = [(hours >= low) & (hours <= high) for low, high in self.hours.reshape(3, 2)]
        return np.where(np.isnan(hours), NOT_TOLD, np.select(inside, [0, 1, 2], 3)).astype(np.int8)

    def station(self, section, modality, station):
        if not station or self.totals[section, modality] < FEWEST:
            return NOT_TOLD
        return int(not self.stations[section, modality, station])


def certain_pairs(of_item):
    """`(item positions, study positions)` of what numbers link one to one, at most MOST_LEARNT, evenly spread."""
    pairs = [(i, hits[0]) for i, (level, hits) in enumerate(of_item) if LEVELS[level] >= CERTAIN and len(hits) == 1]
    step = max(1, len(pairs) // MOST_LEARNT)
    return tuple(np.array(side, dtype=np.int64) for side in zip(*pairs[::step])) if pairs else (np.empty(0, np.int64),) * 2


def learn_habits(items, studies, pairs):
    """The Habits of certain pairs."""
    hours = hours_apart(items, studies, pairs)
    hours = hours[~np.isnan(hours)]
    keys = list(zip(items.column("section")[pairs[0]], items.column("modality")[pairs[0]], studies.column("station_name")[pairs[1]]))
    spread = np.quantile(hours, QUANTILES) if len(hours) >= FEWEST else DEFAULT_HOURS
    slack = np.array([-1, 1, -1, 1, -1, 1]) * 0.1           # a site that is always on time is not late by a minute
    return Habits(spread + slack, Counter(keys), Counter(key[:2] for key in keys))


def beliefs():
    """`{field: array of (3, levels)}`: how often each level is seen with one exam, one person, two people, before anything is learnt."""
    return {field: np.array([match, other if same is None else same, other]) if same else np.array([match, match, other]) for field, (_, match, same, other) in FIELDS.items()}


def learn_weights(levels, classes):
    """`{field: array of (3, levels)}` after ROUNDS of EM. `classes` says what is known of each row of levels: a class, or NOT_TOLD to be estimated."""
    start = beliefs()
    table, share = start, np.full(3, 1 / 3)
    for _ in range(ROUNDS):
        odds = np.exp(log_likelihoods(levels, table)) * share
        belongs = odds / odds.sum(axis=1, keepdims=True)
        known = classes != NOT_TOLD
        belongs[known] = np.eye(3)[classes[known]]
        unknown = belongs[~known]
        share = (unknown.sum(axis=0) + 1) / (len(unknown) + 3)
        table = {field: _estimate(levels[:, f], belongs, prior, field in PERSON) for f, (field, prior) in enumerate(start.items())}
    return table


def _estimate(column, belongs, prior, is_person):
    told = column >= 0
    counts = np.array([np.bincount(column[told], belongs[told, c], prior.shape[1]) for c in range(3)])
    if is_person:
        counts[:2] = counts[:2].sum(axis=0)
    counts = counts + BELIEF * prior
    return counts / counts.sum(axis=1, keepdims=True)


def log_likelihoods(levels, table):
    """Natural logs of how likely each row of levels is under each of the three classes."""
    total = np.zeros((len(levels), 3))
    for f, weights in enumerate(table.values()):
        column = levels[:, f]
        total += np.where((column >= 0)[:, None], np.log(weights.T[np.maximum(column, 0)]), 0)
    return total
