"""Associations and operations pieced together from the lines of one program's log.

A log names the association of a line by a key: a process id, or AE title and address, or nothing at all. Associations that are open at
the same time under one key form a pool and cannot be told apart: they are kept with `is_ambiguous`, without end and counts, and
their operations carry AMBIGUOUS_ASSOCIATION and no association_id. Everything that a line does prove is kept.
"""

from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

from ..tables import add_problem

NOTHING_DONE = {"n_operations": 0, "n_stored": 0, "n_failed": 0}
AES = ("calling_ae_title", "called_ae_title")
_STRAIGHT, _TURNED = tuple(zip(AES, AES, strict=True)), tuple(zip(AES, AES[::-1], strict=True))
PDV_BYTES = 16_372      # largest PDV of a PDU of 16,384 bytes, DCMTK's default (PS3.8 9.3.5)


class Moment(NamedTuple):
    """Where a line stands and when it was written; `at` is None without a clock."""

    file: str
    offset: int
    at: object
    problem: str


class State(SimpleNamespace):
    """What is known so far of one thing. Two are equal only when they are one. The defaults are an operation's."""

    told, is_open, is_reversed, destination, number, dots = frozenset(), True, False, "", "", 0
    __eq__, __hash__ = object.__eq__, object.__hash__


def new_record(numbers, *, has_pid=False):
    """The state of one program. `numbers` counts the associations of the load; `has_pid`: keys are process ids, children may be forked."""
    return SimpleNamespace(numbers=numbers, has_pid=has_pid, associations=[], operations=[], pending=[], pools=[],
                           dumps={}, asking={}, plain=[], stores=[], closed=[], taken=0, unsettled=0, n_acknowledged=0, n_cleaned=0)


def receive(record, key, moment, *, is_named=True, **fields):
    """A new association, not yet accepted or refused. `is_named`: no line with its titles is to come."""
    row = {"association_id": f"{moment.file}#{next(record.numbers)}", "started_at": moment.at, "n_bytes_source": "missing",
           "is_ambiguous": False, "source_file": moment.file, "source_offset": moment.offset, "problems": moment.problem}
    association = State(row=row, key=key, operations=[], is_counted=False, is_named=is_named)
    describe(association.row, **fields)
    record.associations.append(association)
    record.pending.append(association)
    return association


def asking(record, key, moment, **fields):
    """The first association of the key that is neither accepted nor refused, a new one without any."""
    return next((a for a in record.pending if a.key == key), None) or receive(record, key, moment, **fields)


def describe(row, **fields):
    """Nothing; fills the fields of a row that are still empty. Control characters are escaped and marked."""
    for column, value in fields.items():
        if value and not row.get(column):
            if isinstance(value, str) and not (value := value.strip()).isprintable():
                value = value.encode("unicode_escape").decode("ascii")
                row["problems"] = add_problem(row["problems"], "CONTROL_CHARS")
            row[column] = value


def acknowledge(record, key, moment, *, is_sub=False):
    """Nothing; the association of the key is accepted. `is_sub`: it is one of the program's own, served by no new child."""
    association = asking(record, key, moment)
    record.pending.remove(association)
    record.n_acknowledged += not is_sub
    pool = next((p for p in record.pools if key in p.speakers), None)
    if pool and record.has_pid:     # a process serves one association at a time: the end of the last one is not in the log
        finish(record, pool, None, "unfinished")
        pool = None
    if pool is None:
        pool = _new_pool(record, set() if record.has_pid and not is_sub else {key})
    pool.members.append(association)


def _new_pool(record, speakers):
    pool = State(members=[], speakers=speakers, ends=[], operations=[], waiting=[], is_mixed=False, n_marked=0, is_getting=False, is_partly_read=False)
    record.pools.append(pool)
    return pool


def pool_of(record, key, moment, **fields):
    """The open pool that a line of `key` speaks for. `key` None is a line without any; then all open pools are one.

    A process id not heard before is a child of one of the accepted associations no child has spoken for. Without any, the
    association began before the log: a row with START_NOT_SEEN.
    """
    pools = [p for p in record.pools if key is None or key in p.speakers]
    if not pools and record.has_pid:
        pools = [p for p in record.pools if len(p.members) > len(p.speakers)]
        pools = [p for p in pools if any(m.key == key for m in p.members)] or pools
    if not pools:
        association = receive(record, key, moment, **fields)
        association.row |= {"started_at": None, "problems": add_problem(association.row["problems"], "START_NOT_SEEN")}
        record.pending.remove(association)
        record.n_acknowledged += not isinstance(key, tuple)
        pool = _new_pool(record, {key})
        pool.members.append(association)
        return pool
    for other in pools[1:]:
        for name in ("members", "ends", "operations", "waiting"):
            getattr(pools[0], name).extend(getattr(other, name))
        pools[0].speakers |= other.speakers
        record.pools.remove(other)
    pools[0].speakers |= {key} - {None}
    return pools[0]


def request(record, pool, service, moment, **fields):
    """A new operation on the pool."""
    _check_mixed(pool)
    file, offset, at, problem = moment
    row = {"service": service, "started_at": at, "n_bytes_source": "missing", "association_id": "",
           "source_file": file, "source_offset": offset, "problems": problem}
    describe(row, **fields)
    operation = State(row=row)
    if pool.is_mixed:
        row["problems"] = add_problem(row["problems"], "AMBIGUOUS_ASSOCIATION")
    else:
        _close(pool)    # one operation at a time: the earlier one has been answered, even if the log does not say so
        row["association_id"] = pool.members[0].row["association_id"]
        pool.members[0].operations.append(operation)
    pool.operations.append(operation)
    pool.waiting.append(operation)
    record.operations.append(operation)
    return operation


def under_way(pools, *services):
    """The operations of some pools that have no answer yet."""
    for pool in pools:
        pool.waiting = [o for o in pool.waiting if o.is_open]
    return [o for pool in pools for o in pool.waiting if not services or o.row["service"] in services]


def tell(record, pool, teller, service, moment, **fields):
    """The operation that a request line or a dumped request is about: a log may have both, in either order."""
    by_other = {"line", "dump"} - {teller}
    half_told = [o for o in pool.waiting if o.told == by_other and o.is_open and o.row["service"] == service]
    operation = half_told[0] if half_told else request(record, pool, service, moment)
    describe(operation.row, **fields)
    operation.told |= {teller}
    return operation


def answer(operation, code, category, moment):
    """Nothing; the operation has its final status. `moment` None when the time of the answer is not told."""
    operation.row |= {"status_code": code, "status_category": category, "ended_at": moment and moment.at}
    if moment and moment.problem:
        operation.row["problems"] = add_problem(operation.row["problems"], moment.problem)
    operation.is_open = False


def finish(record, pool, moment, outcome, reason=""):
    """Nothing; one association of the pool has ended. The rows are settled when all have."""
    _check_mixed(pool)
    pool.ends.append((moment, outcome, reason))
    if not pool.is_mixed:
        _close(pool)
    if len(pool.ends) >= len(pool.members):
        _settle(pool)
        record.pools.remove(pool)


def refuse(record, association, moment, outcome, reason):
    """Nothing; a pending association was not accepted."""
    record.pending.remove(association)
    association.row |= {"outcome": outcome, "reason": reason, "ended_at": moment and moment.at} | NOTHING_DONE


def refuse_one(record, key, moment, outcome, reason, **fields):
    """Nothing; the latest pending association of the key, or of any when it is None, was not accepted: one of several is ambiguous."""
    pending = [a for a in record.pending if key in (None, a.key)]
    association = pending[-1] if pending else receive(record, key, moment)
    association.row["is_ambiguous"] = len(pending) > 1
    describe(association.row, **fields)
    refuse(record, association, moment, outcome, reason)


def clean_up(record, key):
    """Nothing; the parent has seen a child end. Associations still open when as many children ended as were accepted are over."""
    record.n_cleaned = min(record.n_cleaned + 1, record.n_acknowledged)
    over = [p for p in record.pools if key in p.speakers]
    if record.n_cleaned == record.n_acknowledged:
        over = list(record.pools)
    _leave_unfinished(record, over)


def end_all(record):
    """Nothing; the log ends here, or the program was started anew: what is open stays unfinished."""
    _leave_unfinished(record, list(record.pools))
    for association in list(record.pending):
        refuse(record, association, None, "unfinished", "")


def _leave_unfinished(record, pools):
    for pool in pools:
        while pool in record.pools:
            finish(record, pool, None, "unfinished")


def mark_open(record, code):
    """Nothing; puts a problem code on everything that is under way."""
    associations = [*record.pending, *(a for p in record.pools for a in p.members)]
    for thing in [*associations, *under_way(record.pools)]:
        thing.row["problems"] = add_problem(thing.row["problems"], code)


def _close(pool):
    for operation in pool.operations:
        operation.is_open = False
    pool.operations, pool.waiting = [], []


def _check_mixed(pool):
    pool.is_mixed = pool.is_mixed or len(pool.members) > 1
    if pool.is_mixed:
        for association in pool.members[pool.n_marked:]:
            association.row["is_ambiguous"] = True
        pool.n_marked = len(pool.members)


def _settle(pool):
    moments, outcomes, reasons = zip(*pool.ends, strict=True)
    for association in pool.members:
        row = association.row
        row["outcome"] = outcomes[0] if len(set(outcomes)) == 1 else None
        describe(row, reason=reasons[0] if len(set(reasons)) == 1 else "")
        association.is_counted = not pool.is_partly_read and not any(o.row["association_id"] == "" for o in pool.operations)
        if pool.is_mixed:
            continue
        if moments[0]:
            row["ended_at"] = moments[0].at
            row["problems"] = " ".join(dict.fromkeys([*row["problems"].split(), *moments[0].problem.split()]))
    alone = pool.members[0].row if len(pool.members) == 1 else None
    told = alone or {ae: names.pop() for ae in AES if len(names := {a.row.get(ae, "") for a in pool.members}) == 1}
    rows = {a.row["association_id"]: a.row for a in pool.members}
    for operation in [*pool.operations, *(o for a in pool.members for o in a.operations)]:
        own = rows.get(operation.row["association_id"], told)
        for column, name in _TURNED if operation.is_reversed else _STRAIGHT:
            if not operation.row.get(column):
                describe(operation.row, **{column: own.get(name)})


def table_rows(record):
    """`(rows of associations, rows of operations)`, once the log has ended."""
    for operation in record.operations:
        if operation.dots and not operation.row.get("n_bytes"):
            operation.row |= {"n_bytes": operation.dots * PDV_BYTES, "n_bytes_source": "pdv_dots"}
    for association in record.associations:
        if association.is_counted:
            association.row |= _counts(association.operations, association.row["outcome"])
    return [a.row for a in record.associations], [o.row for o in record.operations]


def _counts(operations, outcome):
    """The counts of an association; missing where an answer is neither in the log nor ruled out by how the association ended."""
    categories = Counter(o.row.get("status_category") for o in operations)
    stores = [o.row for o in operations if o.row["service"] == "C-STORE"]
    stored = [row for row in stores if row.get("status_category") in ("Success", "Warning")]
    untold = [row for row in stores if row.get("status_category") is None]
    was_cut = outcome != "released" and untold == [o.row for o in operations[-1:]]
    counts = {"n_operations": len(operations), "n_failed": categories["Failure"],
              "n_stored": len(stored) if was_cut or not untold else None}
    sources = {row["n_bytes_source"] for row in stored}
    if len(sources) == 1 and None not in (sizes := [row.get("n_bytes") for row in stored]):
        counts |= {"n_bytes": sum(sizes), "n_bytes_source": sources.pop()}
    return counts
