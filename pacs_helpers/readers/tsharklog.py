"""tshark's field export (`-T fields -E header=y`) of DICOM traffic: one line per frame, columns known by the header.

The stream number tells every association apart. tshark does not name every message: a C-STORE known by its data or answer alone has no
`started_at`, and an association with an answer that has no name ("Command") has no counts. `tcp.len` is of one frame, so sizes are missing:
read the capture itself for them.
"""

import re

from ..tables import add_problem
from .associations import acknowledge, answer, asking, describe, end_all, finish, pool_of, receive, refuse, request
from .dimse import sop_class, status_of_words

LAYOUTS = (
    ("tshark field export", "epoch", r"(?P<text>(?:(?:[^\t]*\t)*?(?P<stamp>\d{9,11}\.\d{6,9})(?:\t|$)|(?:frame|tcp|ip)\.\w+\t).*)",
     r"\A(?:\xef\xbb\xbf)?[\w.]+\t", *(r"\A[^\n]*\b" + name + r"\b" for name in (r"frame\.time_epoch", r"tcp\.stream", r"dicom\.pdu\.type"))),
)
_MESSAGE = re.compile(r"(?P<service>[CN]-[A-Z-]+?)-(?P<kind>RQ|RSP) ID=(?P<number>\d+)(?:[^,(]*\((?P<words>[^)]*)\))?|, (?P<name>[^,]* Storage\b[^,]*)")
MORE = None             # a frame is one line
end_log = end_all
_ENDS = {"0x05": "released", "0x07": "aborted"}


def _on_frame(record, who, told, fields):
    """False when a line says nothing about an association."""
    cells = fields["cells"].split("\t")
    if not told.at:
        record.asking = {name: place for place, name in enumerate(cells)}
        return False

    def cell(name):
        place = record.asking.get(name, len(cells))
        return cells[place].strip(' "') if place < len(cells) else ""

    key, kinds = cell("tcp.stream"), cell("dicom.pdu.type").split(",")
    for kind in dict.fromkeys(kinds):
        if kind == "0x01":
            receive(record, key, told, peer_address=cell("ip.src"), calling_ae_title=cell("dicom.assoc.ae.calling"),
                    called_ae_title=cell("dicom.assoc.ae.called"))
        elif kind == "0x02":
            acknowledge(record, key, told)
        elif kind == "0x03":
            refuse(record, asking(record, key, told), told, "rejected", cell("_ws.col.Info"))
        elif kind == "0x04":
            _on_data(record, key, told, cell("_ws.col.Info"))
        elif kind in _ENDS or (kind == "0x06" and any(key in p.speakers for p in record.pools)):
            finish(record, pool_of(record, key, told), told, _ENDS.get(kind, "released"))
    return any(kinds)


def _on_data(record, key, moment, info):
    pool = pool_of(record, key, moment)
    pool.is_partly_read |= "P-DATA, Command" in info      # an answer that tshark does not name
    for found in _MESSAGE.finditer(info):
        service, number = found["service"] or "C-STORE", found["number"]
        if found["kind"] == "RQ":
            request(record, pool, service, moment).number = number
            continue
        operation = next((o for o in pool.operations if o.is_open and o.row["service"] == service and o.number in ("", number or o.number)), None)
        if service == "C-STORE" and (operation is None or (found["name"] and "data" in operation.told)):
            operation = request(record, pool, service, moment)
            operation.row |= {"started_at": None, "problems": add_problem(operation.row["problems"], "START_NOT_SEEN")}
        if found["name"]:
            uid, modality = sop_class(found["name"])
            describe(operation.row, sop_class_uid=uid, modality=modality)
            operation.row["data_ended_at"] = moment.at
            operation.told |= {"data"}
        elif operation and (outcome := status_of_words(found["words"] or ""))[1] not in (None, "Pending"):
            answer(operation, *outcome, moment)


EVENTS = ((_on_frame, r"(?P<cells>.*)"),)
