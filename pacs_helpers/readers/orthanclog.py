"""Orthanc's log, at verbose or trace level, with or without the thread names of Orthanc 1.12.

Lines about an association name AE title and address; two associations of one AE title and address at a time are ambiguous. "New instance
stored" names nobody: it belongs to the C-STORE of its thread, else to the only one under way; what fits several C-STOREs is told of
each only as far as it agrees for all of them, so sizes and times of parallel stores are often missing while their success is not.
Orthanc logs whole MiB, rounded up, of the file, no answers to C-ECHO, C-FIND, C-MOVE and C-GET, and no end of associations it
opened itself. A C-STORE that Orthanc cannot store is answered A700 (its StoreScp), which the log does not spell out. Lines of other parts
(HTTP, plugins, Lua, jobs) and lines without prefix are framing.
"""

import re
from functools import partial, reduce
from operator import or_

from ..schemas import SERVICES
from .associations import NOTHING_DONE, State, acknowledge, answer, describe, end_all, finish, pool_of, receive, refuse_one, request
from .dimse import DUMP_FIELD, SERVICE_WORDS, read_dump

LAYOUTS = (
    ("Orthanc", "no_year",
     r"[FEWIT](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +(?:(?P<who>\S.*?) +)??[\w.+-]+:\d+\] (?:\([a-z]+\) )?(?P<text>.*)"),
)
_PEER = r" AET (?P<calling_ae_title>.*?) on IP (?P<peer_address>[^\s,:]+)"
MOST_CLOSED = 64        # C-STOREs looked back for whose lines are whose
MORE = re.compile(DUMP_FIELD)


def follow_more(record, text):
    """`(belongs to a row, "")` of a line without prefix: trace level prints DIMSE messages before the line of the request."""
    found = MORE.match(text)
    if found:
        if found["field"] == "Message Type":
            record.dumps.clear()
        record.dumps[found["field"]] = found["value"]
    return bool(found), ""


def _key(fields):
    return (fields["calling_ae_title"].strip(), fields["peer_address"]) if "peer_address" in fields else None


def _on_acknowledged(record, thread, moment, fields):
    key = _key(fields)
    if key is None and record.pending:      # before Orthanc 1.6 the line names nobody
        for association in record.pending if len(record.pending) > 1 else []:
            association.row["is_ambiguous"] = True
        key = record.pending[-1].key
    acknowledge(record, key, moment)


def _on_called(record, thread, moment, fields):
    if association := next((a for a in reversed(record.associations) if a.key == _key(fields)), None):
        describe(association.row, **fields)


def _on_rejected(record, thread, moment, fields):
    key = _key(fields)
    reason = "called AE title not recognized" if "called_ae_title" in fields else fields.pop("reason", "calling AE title not allowed")
    refuse_one(record, key, moment, "rejected", reason.strip(), **fields)


def _on_request(record, thread, moment, fields):
    word, key = fields.pop("word"), _key(fields)
    service = SERVICE_WORDS.get(word, word.upper())
    names = {k: v for k, v in fields.items() if k != "peer_address"}
    pool = pool_of(record, key, moment, **fields)
    for member in pool.members:
        describe(member.row, **names)
    if len(pool.members) == 1:
        _close_stores(record, [store for store in record.stores if store.key == key])
    dump, record.dumps, pool.is_getting = record.dumps and read_dump(record.dumps), {}, service == "C-GET"
    told = dump.fields if dump and dump.is_request and dump.service == service else {}
    if service not in SERVICES:
        return
    operation = request(record, pool, service, moment, **names, **told)
    if service == "C-STORE":
        _open_store(record, key, thread, operation)


def _open_store(record, key, thread, operation):
    """Nothing; a C-STORE is under way. Its `bit` stands for it in the `holders` of the lines that may be about it."""
    bit = ~record.taken & (record.taken + 1)
    record.taken |= bit
    record.stores.append(State(bit=bit, key=key, thread=thread, operation=operation, answers=[], sizes=[]))


def _hear(record, thread, name, told):
    """The C-STOREs under way that a line may be about."""
    under_way = thread and [s for s in record.stores if s.thread == thread] or record.stores
    line = State(told=told, holders=sum([store.bit for store in under_way]))
    for store in under_way:
        getattr(store, name).append(line)
    return under_way


def _on_answered(record, thread, moment, fields, outcome=("", "Success")):
    under_way = _hear(record, thread, "answers", (outcome, moment))
    if len(under_way) == 1:
        _close_stores(record, under_way[:])


def _close_stores(record, over):
    """Nothing; tells what is certain of the C-STOREs that are over, once no C-STORE under way can claim the same lines."""
    shared = []
    for store in over:
        record.stores.remove(store)
        if all([line.holders == store.bit for line in store.answers + store.sizes]):
            record.taken -= store.bit
            _tell(store)
        else:
            shared.append(store)
    if shared or record.closed:
        _settle_closed(record, shared, MOST_CLOSED if len(shared) == len(over) else 1 << 30)
    if record.stores and not any(s.operation for s in record.stores):
        for store in [s for s in record.stores if s.answers]:
            record.stores.remove(store)
            _let_go(record, store)


def _settle_closed(record, shared, n_kept):
    """Nothing; tells of C-STOREs that are over and share their lines with none under way, and of the oldest beyond `n_kept`."""
    record.closed += shared
    for store in shared:
        _unsettle(record, store)
    is_open = sum([store.bit for store in record.stores])
    while unsettled := record.unsettled & record.taken & ~is_open:
        store = next(s for s in record.closed if s.bit & unsettled)
        record.unsettled -= store.bit
        _eliminate(record, store, "answers")
        _eliminate(record, store, "sizes")
    sure = [s for s in record.closed if not any([line.holders & is_open for line in s.answers]) and not any([line.holders & is_open for line in s.sizes])]
    for store in sure or record.closed[:-n_kept]:
        record.closed.remove(store)
        _let_go(record, store)
        _tell(store)


def _holders(lines):
    return reduce(or_, [line.holders for line in lines], 0) if len(lines) > 1 else lines[0].holders if lines else 0


def _unsettle(record, store):
    """Nothing; what may hold all lines of the C-STORE is to be looked at anew."""
    for lines in (store.answers, store.sizes):
        if lines:
            record.unsettled |= lines[-1].holders


def _let_go(record, store):
    _unsettle(record, store)
    record.taken -= store.bit
    for line in store.answers + store.sizes:
        line.holders -= store.bit


def _eliminate(record, store, name):
    """Nothing; takes lines that must belong to some closed C-STOREs (as many lines as C-STOREs that have no other) from the rest."""
    lines = getattr(store, name)
    sharing = _holders(lines)
    if sharing.bit_count() <= len(lines):
        return
    known = set(lines)
    owners = [s for s in record.closed if s.bit & sharing and known.issuperset(getattr(s, name))]
    if len(owners) != len(lines):
        return
    owned = sum([s.bit for s in owners])
    for line in lines:
        line.holders &= owned
    for other in (*record.stores, *record.closed):
        if other.bit & sharing & ~owned:
            setattr(other, name, [line for line in getattr(other, name) if line.holders & other.bit])
            _unsettle(record, other)


def _tell(store):
    operation, answers, sizes = store.operation, store.answers, {line.told for line in store.sizes}
    if operation and len({line.told[0] for line in answers}) == 1:
        answer(operation, *answers[0].told[0], answers[0].told[1] if len(answers) == 1 else None)
    if operation and len(sizes) == 1:
        operation.row |= {"n_bytes": sizes.pop(), "n_bytes_source": "mb_rounded"}


def _on_sub_request(record, thread, moment, fields):
    """Orthanc sends the images of a C-GET back on the association, and does not log the answers."""
    pools = [p for p in record.pools if p.is_getting]
    if len(pools) == 1:
        request(record, pools[0], "C-STORE", moment).is_reversed = True


def _on_ended(record, thread, moment, fields, outcome):
    key, reason = _key(fields), fields.pop("reason", "").strip()
    pool = pool_of(record, key, moment, **fields)
    if len(pool.members) <= len(pool.ends) + 1:
        _close_stores(record, [store for store in record.stores if store.key == key])
    finish(record, pool, moment, outcome, reason)


def _on_opened(record, thread, moment, fields):
    record.pending.remove(receive(record, ("opened", fields["called_ae_title"].strip()), moment, **fields))


def _on_not_opened(record, thread, moment, fields):
    key = ("opened", fields["called_ae_title"].strip())
    if opened := next((a for a in reversed(record.associations) if a.key == key and "outcome" not in a.row), None):
        opened.row |= {"outcome": "failed", "reason": fields["reason"].strip(), "ended_at": moment.at} | NOTHING_DONE


def end_log(record):
    """Nothing; the log ends here, or Orthanc was started anew."""
    _close_stores(record, list(record.stores))
    end_all(record)


EVENTS = (
    (lambda record, thread, moment, fields: receive(record, _key(fields), moment, **fields), r"Association Received from" + _PEER),
    (_on_acknowledged, r"Association Acknowledged \(Max Send PDV: \d+\)(?: to" + _PEER + ")?"),
    (_on_called, r"Incoming connection from" + _PEER + ", calling AET (?P<called_ae_title>.*)"),
    (_on_request, r"Incoming (?P<word>\S+) request from" + _PEER + ", calling AET (?P<called_ae_title>.*)"),
    (lambda record, thread, moment, fields: _hear(record, thread, "sizes", int(fields["megabytes"]) << 20),
     r'Creating attachment ".*" of "DICOM" type \(size: (?P<megabytes>\d{1,7})MB\)'),
    (_on_answered, r"New instance stored|Already stored"),
    (partial(_on_answered, outcome=("A700", "Failure")), r"Exception while storing DICOM|Store has failed because"),
    (lambda record, thread, moment, fields: _open_store(record, None, thread, None), r"Receiving a DICOM file of \d+ bytes through HTTP"),
    (_on_sub_request, r"Store SCU RQ: MsgID \d+"),
    (_on_rejected, r"Rejected association, because of a bad called AET in the request \((?P<called_ae_title>.*)\)"
                 r"|Rejected association for remote" + _PEER + "|Association Rejected: (?P<reason>Bad Application Context Name)"),
    (partial(_on_ended, outcome="released"), r"Association Release(?: with" + _PEER + ")?$"),
    (partial(_on_ended, outcome="aborted"), r"Association Aborted(?: with" + _PEER + ")?$"),
    (partial(_on_ended, outcome="failed"), r"DIMSE failure \(aborting association(?: with" + _PEER + r")?\): (?:[0-9a-f]{4}:[0-9a-f]{4} )?(?P<reason>.*)"),
    (_on_opened, r'Opening a DICOM SCU connection.* from AET "(?P<calling_ae_title>.*)" to AET "(?P<called_ae_title>.*)" on host'),
    (_on_not_opened, r'.*DicomAssociation - connecting to AET "(?P<called_ae_title>.*?)": (?P<reason>.*)'),
    (lambda record, thread, moment, fields: end_log(record), r"Orthanc version: |Orthanc has stopped"),
)
