"""Logs of dcm4che programs: dcm4chee-arc's server.log and console, Weasis, and the console of the tools (storescu, findscu, dcmqrscp, …).

Every line names its association: `CALLING->CALLED(7)` where the program asked, `CALLED<-CALLING(7)` where it was asked; `<<` is sent and
`>>` received. Each answer names its message, so nothing is ambiguous. UIDs stand on the lines below the line of the message; sizes nowhere.
"""

import re
from functools import partial

from ..schemas import SERVICES
from .associations import acknowledge, answer, asking, describe, end_all, finish, pool_of, receive, refuse, request
from .dimse import sop_class, status_category

_LEVEL = "(?:FATAL|ERROR|WARN|INFO|DEBUG|TRACE)"
_NAME = r"(?P<left>[^\[\]:]+?)(?P<way>->|<-)(?P<right>[^\[\]:]+?)\((?P<serial>\d+)\)"
LAYOUTS = (
    ("dcm4che", "dated", r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) +" + _LEVEL + r" +\[[\w.$]+\] +\(.*?\) (?P<text>.*)",
     r"(?m)^\d{4}-\d\d-\d\d .*\[org\.dcm4che"),
    ("dcm4che console", "no_date", r"(?P<stamp>\d\d:\d\d:\d\d,\d{3}) +" + _LEVEL + r" +\[[\w.$]+\] +\(.*?\) (?P<text>.*)",
     r"(?m)^\d\d:\d\d:\d\d,\d{3} .*\[org\.dcm4che"),
    ("dcm4che in OSGi", "dated", r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3}) +\*" + _LEVEL + r"\* +\[.*?\] [\w.$]+:? (?P<text>.*)",
     r"(?m)^\d{4}-\d\d-\d\d .*\] org\.dcm4che"),
    ("dcm4che tool", "no_date", r"(?P<stamp>\d\d:\d\d:\d\d[.,]\d{3}) +(?:\[.*?\] +)?" + _LEVEL + r" +(?:[\w.$]+ +)?- (?P<text>.*)",
     r"(?m)^\d\d:\d\d:\d\d[.,]\d{3} .*(?:->|<-)[^\[\]\r\n:]+\(\d+\) (?:<<|>>) (?:A-|\d+:)"),
)
_EVENT = _NAME + (r"(?: (?P<sign><<|>>) (?P<what>A-[A-Z]+-?[A-Z]*|\d+:[CN]-[A-Z-]+-R(?:Q|SP)\[)(?P<rest>.*)|: (?P<said>.*))")
_SAID = re.compile(r"close .*?(?:addr=[^/,]*/|hostname=)(?P<peer_address>[^,\]]+)|i/o exception: (?P<reason>.*?)(?: in |$)")
MORE = re.compile(r" +(?P<name>cuid|iuid)=(?P<uid>[0-9.]+)")
_REASON = re.compile(r"reason: \d+(?: - (?P<reason>[^\],]+))?")


def follow_more(record, text):
    """`(belongs to a row, "")` of a line without prefix: the UIDs of the message above."""
    found = MORE.match(text)
    operation = record.asking.get("operation")
    if found and operation:
        uid, modality = sop_class(found["uid"])
        fields = {"sop_class_uid": uid, "modality": modality} if found["name"] == "cuid" else {"sop_instance_uid": uid}
        describe(operation.row, **fields)
    return bool(found and operation), ""


end_log = end_all


def _on_message(record, key, moment, names, number, service, rest, is_reversed):
    service, _, kind = service.rpartition("-")
    pool = pool_of(record, key, moment, **names)
    if kind == "RQ":
        if service not in SERVICES:
            return
        operation = request(record, pool, service, moment)
        operation.number, operation.is_reversed = number, is_reversed
        record.asking["operation"] = operation
        return
    number = (number[0], "<<" if number[1] == ">>" else ">>")
    status = re.search(r"status=([0-9a-fA-F]{1,4})H", rest)
    asked = (o for m in reversed(pool.members) for o in reversed(m.operations) if o.number == number and o.row["service"] == service)
    if status and (category := status_category(f"{status[1]:0>4}")) != "Pending" and (operation := next(asked, None)):
        answer(operation, f"{status[1].upper():0>4}", category, moment)


def _on_said(record, key, moment, said):
    """True when the line tells the peer's address, or that the connection broke."""
    if not said:
        return False
    if said["peer_address"] and (association := next((a for a in reversed(record.associations) if a.key == key), None)):
        describe(association.row, peer_address=said["peer_address"])
    for pool in [p for p in record.pools if key in p.speakers]:
        finish(record, pool, moment, "failed", said["reason"] or "connection closed")
    return True


def _on_ended(record, key, moment, names, reason, outcome="released"):
    finish(record, pool_of(record, key, moment, **names), moment, outcome, reason)


_HANDLERS = {
    "A-ASSOCIATE-RQ": lambda record, key, moment, names, reason: receive(record, key, moment, **names),
    "A-ASSOCIATE-AC": lambda record, key, moment, names, reason: acknowledge(record, key, moment),
    "A-ASSOCIATE-RJ": lambda record, key, moment, names, reason: refuse(record, asking(record, key, moment, **names), moment, "rejected", reason),
    "A-RELEASE-RQ": _on_ended, "A-ABORT": partial(_on_ended, outcome="aborted"),
}


def _on_line(record, thread, moment, fields):
    """False when the line says nothing."""
    record.asking.clear()
    key = f"{fields['left']}{fields['way']}{fields['right']}({fields['serial']})"
    titles = (fields["left"], fields["right"]) if fields["way"] == "->" else (fields["right"], fields["left"])
    names = dict(zip(("calling_ae_title", "called_ae_title"), titles, strict=True))
    if "what" not in fields:
        return _on_said(record, key, moment, _SAID.match(fields.get("said", "")))
    number, _, service = fields["what"].rstrip("[").rpartition(":")
    if number:
        is_reversed = (fields["way"] == "->") == (fields["sign"] == ">>")
        _on_message(record, key, moment, names, (number, fields["sign"]), service, fields.get("rest", ""), is_reversed)
    elif service in _HANDLERS:
        said = _REASON.search(fields.get("rest", ""))
        _HANDLERS[service](record, key, moment, names, said["reason"] or "" if said else "")
    return True


EVENTS = ((_on_line, _EVENT),)
