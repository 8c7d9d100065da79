"""Orthanc's log, at verbose or trace level, with or without the thread names of Orthanc 1.12.

Lines about an association name AE title and address; two associations of one AE title and address at a time are ambiguous. "New instance
stored" names nobody: it belongs to the C-STORE of its thread, else to the only one under way; what fits several C-STOREs is told of
each only as far as it agrees for all of them, so sizes and times of parallel stores are often missing while their success is not.
Orthanc logs whole MiB, rounded up, of the file, no answers to C-ECHO, C-FIND, C-MOVE and C-GET, and no end of associations it
opened itself. A C-STORE that Orthanc cannot store is answered A700 (its StoreScp), which the log does not spell out. Lines of other parts
(HTTP, plugins, Lua, jobs) and lines without prefix are framing.
"""

import re
from collections import defaultdict
from types import SimpleNamespace

from ..schemas import SERVICES
from .associations import acknowledge, answer, describe, end_all, finish, pool_of, receive, refuse, request
from .dimse import DUMP_FIELD, SERVICE_WORDS, read_dump
from .loglines import compile_events

LAYOUTS = (
    ("Orthanc", "no_year",
     r"[FEWIT](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +(?:(?P<who>\S.*?) +)?[\w.+-]+:\d+\] (?:\([a-z]+\) )?(?P<text>.*)"),
)
_PEER = r" AET (?P<calling_ae_title>.*?) on IP (?P<peer_address>[^\s,:]+)"
EVENTS = tuple((name, re.compile(pattern)) for name, pattern in (
    ("received", r"Association Received from" + _PEER),
    ("acknowledged", r"Association Acknowledged \(Max Send PDV: \d+\)(?: to" + _PEER + ")?"),
    ("called", r"Incoming connection from" + _PEER + ", calling AET (?P<called_ae_title>.*)"),
    ("request", r"Incoming (?P<word>\S+) request from" + _PEER + ", calling AET (?P<called_ae_title>.*)"),
    ("attached", r'Creating attachment ".*" of "DICOM" type \(size: (?P<megabytes>\d{1,7})MB\)'),
    ("stored", r"New instance stored|Already stored"),
    ("not_stored", r"Exception while storing DICOM|Store has failed because"),
    ("uploaded", r"Receiving a DICOM file of \d+ bytes through HTTP"),
    ("sub_request", r"Store SCU RQ: MsgID \d+"),
    ("rejected", r"Rejected association, because of a bad called AET in the request \((?P<called_ae_title>.*)\)"),
    ("rejected", r"Rejected association for remote" + _PEER),
    ("rejected", r"Association Rejected: (?P<reason>Bad Application Context Name)"),
    ("released", r"Association Release(?: with" + _PEER + ")?$"),
    ("aborted", r"Association Aborted(?: with" + _PEER + ")?$"),
    ("failed", r"DIMSE failure \(aborting association(?: with" + _PEER + r")?\): (?:[0-9a-f]{4}:[0-9a-f]{4} )?(?P<reason>.*)"),
    ("opened", r'Opening a DICOM SCU connection.* from AET "(?P<calling_ae_title>.*)" to AET "(?P<called_ae_title>.*)" on host'),
    ("not_opened", r'.*DicomAssociation - connecting to AET "(?P<called_ae_title>.*?)": (?P<reason>.*)'),
    ("started", r"Orthanc version: |Orthanc has stopped"),
))
ANY = compile_events(pattern for *_, pattern in EVENTS)
MOST_CLOSED = 64        # C-STOREs looked back for whose lines are whose
MORE = DUMP_FIELD
_DUMP_FIELD = re.compile(DUMP_FIELD)


def follow_line(record, thread, text, moment):
    """True when the text of a line says something about an association. `moment()` is where and when."""
    if not (event := ANY.match(text)):
        return False
    name, pattern = EVENTS[event.lastindex - 1]
    found = pattern.match(text)
    fields = {k: v.strip() for k, v in found.groupdict().items() if v}
    key = (fields["calling_ae_title"], fields["peer_address"]) if "peer_address" in fields else None
    _HANDLERS[name](record, key, thread, moment(), fields)
    return True


def follow_more(record, text):
    """`(belongs to a row, "")` of a line without prefix: trace level prints DIMSE messages before the line of the request."""
    found = _DUMP_FIELD.match(text)
    if found:
        if found["field"] == "Message Type":
            record.dumps.clear()
        record.dumps[found["field"]] = found["value"]
    return bool(found), ""


def _on_acknowledged(record, key, thread, moment, fields):
    if key is None and record.pending:      # before Orthanc 1.6 the line names nobody
        for association in record.pending if len(record.pending) > 1 else []:
            association.row["is_ambiguous"] = True
        key = record.pending[-1].key
    acknowledge(record, key, moment)


def _on_called(record, key, thread, moment, fields):
    if association := next((a for a in reversed(record.associations) if a.key == key), None):
        describe(association.row, **fields)


def _on_rejected(record, key, thread, moment, fields):
    pending = [a for a in record.pending if key in (None, a.key)]
    association = pending[-1] if pending else receive(record, key, moment)
    association.row["is_ambiguous"] = len(pending) > 1
    describe(association.row, **fields)
    reason = "called AE title not recognized" if "called_ae_title" in fields else fields.get("reason", "calling AE title not allowed")
    refuse(record, association, moment, "rejected", reason)


def _on_request(record, key, thread, moment, fields):
    service = SERVICE_WORDS.get(fields["word"], fields["word"].upper())
    names = {k: fields[k] for k in ("calling_ae_title", "called_ae_title")}
    pool = pool_of(record, key, moment, peer_address=key[1], **names)
    for member in pool.members:
        describe(member.row, **names)
    if len(pool.members) == 1:
        _close_stores(record, lambda store: store.key == key)
    dump, record.dumps, pool.is_getting = read_dump(record.dumps), {}, service == "C-GET"
    told = dump.fields if dump.is_request and dump.service == service else {}
    if service not in SERVICES:
        return
    operation = request(record, pool, service, moment, **names, **told)
    if service == "C-STORE":
        record.stores.append(SimpleNamespace(operation=operation, key=key, thread=thread, answers={}, sizes={}))


def _on_uploaded(record, key, thread, moment, fields):
    record.stores.append(SimpleNamespace(operation=None, key=None, thread=thread, answers={}, sizes={}))


def _under_way(record, thread):
    return [s for s in record.stores if thread and s.thread == thread] or record.stores


def _on_attached(record, key, thread, moment, fields):
    size = SimpleNamespace(n_bytes=int(fields["megabytes"]) << 20)
    for store in _under_way(record, thread):
        store.sizes[id(size)] = size


def _on_answered(category, code=""):
    def note(record, key, thread, moment, fields):
        under_way, heard = _under_way(record, thread), SimpleNamespace(category=category, code=code, moment=moment)
        for store in under_way:
            store.answers[id(heard)] = heard
        if len(under_way) == 1:
            _close_stores(record, lambda store: store is under_way[0])
    return note


def _close_stores(record, is_over):
    """Nothing; tells what is certain of the C-STOREs that are over, once no C-STORE under way can claim the same lines."""
    record.closed += [s for s in record.stores if is_over(s)]
    record.stores = [s for s in record.stores if not is_over(s)]
    for name in ("answers", "sizes"):
        while _eliminate(record, name):
            pass
    claimed = {line for s in record.stores for line in [*s.answers, *s.sizes]}
    over = [s for s in record.closed if claimed.isdisjoint([*s.answers, *s.sizes])]
    for store in over or record.closed[:-MOST_CLOSED]:
        record.closed.remove(store)
        if store.operation:
            _tell(store.operation, list(store.answers.values()), list(store.sizes.values()))
    if not any(s.operation for s in record.stores):
        record.stores = [s for s in record.stores if not s.answers]


def _eliminate(record, name):
    """True when lines that must belong to some closed C-STOREs (as many lines as C-STOREs that have no other) were taken from the rest."""
    holders, closed = defaultdict(list), set(map(id, record.closed))
    for store in [*record.closed, *record.stores]:
        for line in (own := getattr(store, name)):
            holders[line].append((id(store), own))
    for store in record.closed:
        lines = getattr(store, name).keys()
        if all(len(holders[line]) == 1 for line in lines):
            continue
        sharing = dict(holder for line in lines for holder in holders[line])
        owners = [place for place, own in sharing.items() if place in closed and own.keys() <= lines]
        others = [own for place, own in sharing.items() if place not in owners]
        if others and len(owners) == len(lines):
            for own in others:
                for line in lines & own.keys():
                    del own[line]
            return True
    return False


def _tell(operation, answers, sizes):
    outcomes = {(a.code, a.category) for a in answers}
    if len(outcomes) == 1:
        answer(operation, *outcomes.pop(), answers[0].moment if len(answers) == 1 else None)
    if len({s.n_bytes for s in sizes}) == 1:
        operation.row |= {"n_bytes": sizes[0].n_bytes, "n_bytes_source": "mb_rounded"}


def _on_sub_request(record, key, thread, moment, fields):
    """Orthanc sends the images of a C-GET back on the association, and does not log the answers."""
    pools = [p for p in record.pools if p.is_getting]
    if len(pools) == 1:
        request(record, pools[0], "C-STORE", moment).is_reversed = True


def _on_ended(outcome):
    def end(record, key, thread, moment, fields):
        pool = pool_of(record, key, moment, **{k: v for k, v in fields.items() if k != "reason"})
        _close_stores(record, lambda store: store.key == key and len(pool.members) <= len(pool.ends) + 1)
        finish(record, pool, moment, outcome, fields.get("reason", ""))
    return end


def _on_opened(record, key, thread, moment, fields):
    association = receive(record, ("opened", fields["called_ae_title"]), moment, **fields)
    record.pending.remove(association)


def _on_not_opened(record, key, thread, moment, fields):
    key = ("opened", fields["called_ae_title"])
    if opened := next((a for a in reversed(record.associations) if a.key == key and "outcome" not in a.row), None):
        opened.row |= {"outcome": "failed", "reason": fields["reason"], "ended_at": moment.at,
                       "n_operations": 0, "n_stored": 0, "n_failed": 0}


def end_log(record):
    """Nothing; the log ends here, or Orthanc was started anew."""
    _close_stores(record, lambda store: True)
    end_all(record)


_HANDLERS = {
    "received": lambda record, key, thread, moment, fields: receive(record, key, moment, **fields),
    "acknowledged": _on_acknowledged, "called": _on_called, "request": _on_request, "attached": _on_attached,
    "stored": _on_answered("Success"), "not_stored": _on_answered("Failure", "A700"), "uploaded": _on_uploaded,
    "sub_request": _on_sub_request, "rejected": _on_rejected, "released": _on_ended("released"), "aborted": _on_ended("aborted"),
    "failed": _on_ended("failed"), "opened": _on_opened, "not_opened": _on_not_opened,
    "started": lambda record, key, thread, moment, fields: end_log(record),
}
