"""DCMTK's logs: storescp, dcmqrscp, wlmscpfs and the client tools, in the layouts that ship and that people set.

LAYOUTS is how a line begins, EVENTS what its text says; another tool or version is another row. Lines that match no row of EVENTS
(hex dumps, presentation contexts, query keys) carry nothing for the tables and are framing. storescp logs the end of the data but no
answer: its C-STOREs are Success unless it could not write the file (A700), and have `data_ended_at` and no `ended_at`. The console prints
one dot per PDV received: `n_bytes` is at most what they say, and missing while two C-STOREs print at once.
"""

import re
from functools import partial

from ..tables import add_problem
from .associations import State, acknowledge, answer, asking, clean_up, describe, end_all, finish, pool_of, receive, refuse, request, tell, under_way
from .dimse import CODE_MODALITIES, DUMP_FIELD, SERVICE_WORDS, read_dump, status_category, status_of_words
from .logclock import zoned_instants

_FAULT = "(?:[0-9a-f]{4}:[0-9a-f]{4} )?(?P<reason>.*)"
_LEVEL = "(?:FATAL|ERROR|WARN|INFO|DEBUG|TRACE)"
_INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.,]?\d*(?:Z|[+-]\d\d:?\d\d)"
LAYOUTS = (     # name, kind of clock, how a line begins; the first that fits a file is taken
    ("storescp -xcr", "zoned",
     rf"(?P<stamp>{_INSTANT})" + r"\|(?P<text>[^|]*\|[^|]*\|[^|]*\|[^|]*\|\d{1,15}$)"),
    ("DCMTK with process id", "dated",
     r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3,6}) \[(?P<who>\d+)\] (?:dcmtk\S* )?" + _LEVEL + r"\b:? *(?P<text>.*)"),
    ("DCMTK file", "dated", r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d{3,6})?) +" + _LEVEL + r":(?: |$)(?P<text>.*)"),
    ("DCMTK console", "no_date", r"(?P<stamp>\d\d:\d\d:\d\d) +" + _LEVEL + r":(?: |$)(?P<text>.*)"),
    ("DCMTK native", "none", r"[FEWIDT]:(?: |$)(?P<text>.*)"),
)
MORE = re.compile(r"(?:(?:RECV|XMIT): ?|\.+)+")


def follow_more(record, text):
    """`(belongs to a row, rest)` of a line without prefix: dots, and what another process wrote behind them.

    Dots while two C-STOREs are under way belong to neither.
    """
    found = MORE.match(text)
    if not found:
        return False, ""
    receiving = [o for o in under_way(record.pools, "C-STORE") if "data" not in o.told] if "." in found[0] else []
    for operation in receiving:
        operation.dots = operation.dots + found[0].count(".") if len(receiving) == 1 and operation.dots is not None else None
    return True, text[found.end():]


end_log = end_all


def _pick(record, key, service, uid=""):
    """The open operation that a line is about, when only one fits."""
    fitting = under_way([p for p in record.pools if key in p.speakers], service)
    named = [o for o in fitting if uid and o.row.get("sop_instance_uid") == uid]
    fitting = named or [o for o in fitting if not (uid and o.row.get("sop_instance_uid"))]
    return fitting[0] if len(fitting) == 1 else None


def _on_received(record, key, moment, fields):
    connected = (a for a in record.pending if a.key == key and not a.is_named)
    association = next(connected, None) or receive(record, key, moment)
    association.is_named = True
    describe(association.row, **fields)


def _on_named(record, key, moment, fields):
    if association := next((a for a in reversed(record.associations[-8:]) if a.key == key), None):
        describe(association.row, **fields)


def _on_refused(record, key, moment, fields, outcome="rejected"):
    refuse(record, asking(record, key, moment), moment, outcome, fields.get("reason", ""))


def _on_ended(record, key, moment, fields, outcome="released"):
    finish(record, pool_of(record, key, moment), moment, outcome, fields.get("reason", ""))


def _on_request(record, key, moment, fields):
    tell(record, pool_of(record, key, moment), "line", SERVICE_WORDS[fields["word"]], moment, modality=CODE_MODALITIES.get(fields.get("code"), ""))


def _on_message(record, key, moment, fields):
    dump = read_dump(record.dumps.pop(key, {}))
    if dump.is_request:
        tell(record, pool_of(record, key, moment), "dump", dump.service, moment, **dump.fields).destination = dump.destination
    elif dump.status_code and status_category(dump.status_code) != "Pending":
        if operation := _pick(record, key, dump.service, dump.fields["sop_instance_uid"]):
            answer(operation, dump.status_code, status_category(dump.status_code), moment)


def _on_response(record, key, moment, fields):
    code, category = status_of_words(fields.get("words", ""))
    operation = _pick(record, key, SERVICE_WORDS[fields["word"]])
    if operation and category is None:
        operation.row["ended_at"] = moment.at
    elif operation and category != "Pending":
        answer(operation, code, category, moment)


def _on_data(record, key, moment, fields):
    if operation := _pick(record, key, "C-STORE"):
        operation.row |= {"n_bytes": operation.row.get("n_bytes", 0) + int(fields["n"]), "n_bytes_source": "exact"}


def _on_stored(record, key, moment, fields):
    if operation := _pick(record, key, "C-STORE", fields.get("uid", "")):
        describe(operation.row, modality=CODE_MODALITIES.get(fields.get("code"), ""), sop_instance_uid=fields.get("uid", ""))
        operation.row |= {"data_ended_at": moment.at, "status_category": "Success"}
        operation.row["problems"] = add_problem(operation.row["problems"], moment.problem) if moment.problem else operation.row["problems"]
        operation.told |= {"data"}


def _on_not_stored(record, key, moment, fields):
    told = [o for o in under_way([p for p in record.pools if key in p.speakers]) if "data" in o.told]
    if operation := told[0] if len(told) == 1 else _pick(record, key, "C-STORE"):
        answer(operation, "A700", "Failure", moment)


def _on_sub_opened(record, key, moment, fields):
    """A C-MOVE opens an association of its own, to the move destination."""
    pool = pool_of(record, key, moment)
    destinations = {o.destination for o in under_way([pool], "C-MOVE")}
    own = {m.row.get("called_ae_title", "") for m in pool.members}
    receive(record, (key, "sub"), moment, calling_ae_title=own.pop() if len(own) == 1 else "",
            called_ae_title=destinations.pop() if len(destinations) == 1 else "")
    acknowledge(record, (key, "sub"), moment, is_sub=True)


def _on_sub_request(record, key, moment, fields):
    """A C-STORE on the sub-association of a C-MOVE, or back on the association of a C-GET, where the acceptor is the sender."""
    sub = (key, "sub")
    is_moved = any(sub in p.speakers for p in record.pools)
    operation = request(record, pool_of(record, sub if is_moved else key, moment), "C-STORE", moment,
                        modality=CODE_MODALITIES.get(fields["code"], ""))
    operation.is_reversed = not is_moved


def _on_sub_response(record, key, moment, fields):
    code, category = status_of_words(fields["words"])
    if operation := _pick(record, (key, "sub"), "C-STORE") or _pick(record, key, "C-STORE"):
        answer(operation, code, category, moment)


def _on_object(record, key, moment, fields):
    """One stored file, of the `#a|#c|#r|#f|size` that storescp runs for each; it names no association."""
    row = {"service": "C-STORE", "association_id": "", "ended_at": moment.at, "status_category": "Success",
           "n_bytes": int(fields["n"]), "n_bytes_source": "exact",
           "source_file": moment.file, "source_offset": moment.offset, "problems": moment.problem}
    describe(row, modality=CODE_MODALITIES.get(fields.get("code"), ""), sop_instance_uid=fields.get("uid", ""),
             **{name: fields.get(name, "") for name in ("calling_ae_title", "called_ae_title")})
    record.operations.append(State(row=row))


def follow_objects(record, file, offsets, text):
    """Nothing; what `_on_object` does, of many lines in columns."""
    cells = text.replace("\r", "").replace("\n", "|").split("|")
    stamps, calling, called, _, names, sizes = (cells[n:-1:6] for n in range(6))
    ended_at, problems = zoned_instants(stamps)
    n = len(offsets)
    record.plain.append({
        "service": ["C-STORE"] * n, "association_id": [""] * n, "ended_at": ended_at, "status_category": ["Success"] * n, "n_bytes": [*map(int, sizes)],
        "n_bytes_source": ["exact"] * n, "source_file": [file] * n, "source_offset": offsets, "problems": problems,
        "modality": [CODE_MODALITIES.get(name[:2] if name[2] == "." else name[:3]) for name in names],
        "sop_instance_uid": [name[3:] if name[2] == "." else name[4:] for name in names], "calling_ae_title": calling, "called_ae_title": called})


PLAIN = {"storescp -xcr": (r"^" + _INSTANT + r"\|" + 3 * r"[!-{}~]*\|" + r"[A-Za-z]{2,3}\.[0-9.]*[0-9]\|\d{1,15}\r?\n$", follow_objects)}
EVENTS = (
    (None, DUMP_FIELD),
    (_on_message, r"=+ END DIMSE MESSAGE =+"),
    (lambda record, key, moment, fields: receive(record, key, moment, is_named=False, **fields), r"Association Received: (?P<peer_address>\S+)"),
    (_on_received, r"(?:Association Received(?: in child process \(pid: \d+\))?|Requesting Association)"
                 r"(?: \((?P<peer_address>[^:]*):(?P<calling_ae_title>.*) -> (?P<called_ae_title>.*)\))?$"),
    (_on_named, r"Calling Application Name: +(?P<calling_ae_title>.*)|Called Application Name: +(?P<called_ae_title>.*)|Reason: (?P<reason>.*)"),
    (lambda record, key, moment, fields: acknowledge(record, key, moment), r"Association (?:Acknowledged|Accepted) \("),
    (_on_refused, r"Refusing Association \((?P<reason>.*)\)|Association Rejected"),
    (partial(_on_refused, outcome="failed"), r"(?:Failed to receive association|Receiving Association failed|Association Request Failed): " + _FAULT),
    (_on_request, r"(?:Received|Sending) (?P<word>(?:C-)?(?:Echo|Store|Find|Move|Get|ECHO|STORE|FIND|MOVE|GET))(?: SCP RQ| SCP:| Request)(?:.*?, (?P<code>\w+)\))?"),
    (_on_response, r"Received (?P<word>(?:C-)?(?:Echo|Store|Find|Move|Get|ECHO|STORE|FIND|MOVE|GET)) Response(?: \((?P<words>.*)\))?"),
    (_on_response, r"(?:Worklist )?(?P<word>Find|Move|Get) SCP Response \d+ (?:\[status: |\()(?P<words>[^\])]*)"),
    (_on_data, r"DIMSE receiveDataSetIn\w+: (?P<n>\d{1,15}) bytes read"),
    (_on_stored, r"storing DICOM file: (?:.*[/\\])?(?:(?P<code>\w{2,3})\.(?P<uid>[0-9.]*[0-9]))?"),
    (_on_not_stored, r"cannot write DICOM file|Can't open output file"),
    (_on_sub_opened, r"Requesting Sub-Association"),
    (_on_sub_request, r"Store SCU RQ: MsgID \d+, \((?P<code>\w+)\)"),
    (_on_sub_response, r"(?:Move|Get) SCP: Received Store SCU RSP \[Status=(?P<words>.*)\]"),
    (lambda record, key, moment, fields: _on_ended(record, (key, "sub"), moment, fields), r"Releasing Sub-Association"),
    (_on_ended, r"(?:Association Release|Releasing Association)$"),
    (partial(_on_ended, outcome="aborted"), r"(?:Association Aborted|Aborting Association|Peer Aborted Association)$"),
    (partial(_on_ended, outcome="failed"), r"DIMSE [Ff]ailure \(aborting association\): " + _FAULT),
    (lambda record, key, moment, fields: clean_up(record, fields["pid"]), r"Cleaned up after child \((?P<pid>\d+)\)"),
    (lambda record, key, moment, fields: end_all(record), r"\$dcmtk: "),
    (_on_object, r"(?P<calling_ae_title>[^|]*)\|(?P<called_ae_title>[^|]*)\|[^|]*\|"
               r"(?:(?P<code>\w{2,3})\.)?(?P<uid>[0-9.]*[0-9])?[^|]*\|(?P<n>\d{1,15})$"),
)
