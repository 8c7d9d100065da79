"""pynetdicom's logs: its own handler (`I: …`), logging.basicConfig and formats with %(asctime)s, of servers and of clients.

What the program accepted and what it requested itself are told apart by the words of each line; two of one kind at a time are ambiguous.
AE titles stand at DEBUG only, addresses only where the program writes them, the answer of a server to C-STORE never: its status is missing.
"""

from functools import partial

from ..tables import add_problem
from .associations import acknowledge, answer, describe, end_all, finish, pool_of, receive, refuse, refuse_one, request, tell, under_way
from .dimse import CODE_MODALITIES, SERVICE_WORDS, read_dump, status_category

_STAMP = r"(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d{3,6})?)"
_LEVEL = "(?:CRITICAL|ERROR|WARNING|INFO|DEBUG)"
_WORDS = (r"(?im)^I: (?:Accepting Association|Association (?:Released|Accepted))\r?$|^E: Association request failed: unable to connect"
          r"|^D: =+ \w+ A-ASSOCIATE-\w\w PDU|^I: Received \w+ Response \(Status: 0x|^D: Our Implementation Version Name: +PYNETDICOM"
          r"|^I: (?:Find|Move|Get) SCP (?:Response|Result):? ?\d*(?: -|:) 0x")
LAYOUTS = (
    ("pynetdicom, time before level", "dated", _STAMP + r"\W+pynetdicom[\w.]*(?: (?P<who>[^\s\[-].*?))?\W+" + _LEVEL + r"\b\W*?(?:[\]:]| -) ?(?P<text>.*)"),
    ("pynetdicom, level before name", "dated", _STAMP + r"\W+" + _LEVEL + r"\W+pynetdicom[\w.]*(?::| -|\])? ?(?P<text>.*)"),
    ("pynetdicom, basicConfig", "none", _LEVEL + r":pynetdicom[\w.]*:(?P<text>.*)"),
    ("pynetdicom native", "none", r"[CEWID]:(?: |$)(?P<text>.*)", _WORDS),
)
MORE = None             # no line without prefix says anything
end_log = end_all
_WORDS_OF_N = {"Create": "N-CREATE", "Set": "N-SET", "Action": "N-ACTION", "Event Report": "N-EVENT-REPORT"}
_OTHER = {"accepted": "requested", "requested": "accepted"}


def _place(record, role, moment):
    """`(pool, is_reversed)`: the images of a C-GET travel against the request, on the only kind of association that is open."""
    is_reversed = not any([role in pool.speakers for pool in record.pools]) and any([_OTHER[role] in pool.speakers for pool in record.pools])
    return pool_of(record, _OTHER[role] if is_reversed else role, moment), is_reversed


def _on_way(role, record, thread, moment, fields):
    record.dumps[thread] = {"way": fields["way"]}


def _on_received(role, record, thread, moment, fields):
    asking = [a for a in record.pending if a.key == role and role == "requested" and not a.row.get("calling_ae_title")]
    record.asking[thread] = asking[-1] if asking else receive(record, role, moment)


def _on_named(role, record, thread, moment, fields):
    if thread in record.asking:
        describe(record.asking[thread].row, **fields)


def _on_accepted(role, record, thread, moment, fields):
    acknowledge(record, role, moment)


def _on_released(role, record, thread, moment, fields):
    finish(record, pool_of(record, role, moment), moment, "released")


def _on_refused(role, record, thread, moment, fields, outcome="rejected"):
    refuse_one(record, role, moment, outcome, fields.get("reason", ""))


def _on_reason(role, record, thread, moment, fields):
    if record.associations and record.associations[-1].row.get("outcome") == "rejected":
        describe(record.associations[-1].row, **fields)


def _tell(record, role, moment, teller, service, **fields):
    pool, is_reversed = _place(record, role, moment)
    tell(record, pool, teller, service, moment, **fields).is_reversed = is_reversed


def _on_request(role, record, thread, moment, fields):
    service = SERVICE_WORDS.get(fields["word"]) or _WORDS_OF_N[fields["word"]]
    _tell(record, role, moment, "line", service, modality=CODE_MODALITIES.get(fields.get("code"), ""))


def _answer(record, role, service, code, moment):
    category = status_category(code)
    fitting = under_way([p for p in record.pools if not role or role in p.speakers], service)
    if len(fitting) == 1 and category != "Pending":
        answer(fitting[0], code.upper(), category, moment)


def _on_message(role, record, thread, moment, fields):
    lines = {name.replace("Requested", "Affected"): value for name, value in record.dumps.pop(thread, {}).items()}
    way, lines["DIMSE Status"] = lines.pop("way", ""), lines.get("Status", "")
    dump = read_dump(lines)
    if dump.is_request:
        _tell(record, "accepted" if way == "INCOMING" else "requested", moment, "dump", dump.service, **dump.fields)
    elif dump.status_code:
        _answer(record, "accepted" if way == "OUTGOING" else "requested", dump.service, dump.status_code, moment)


def _on_response(role, record, thread, moment, fields):
    _answer(record, role, SERVICE_WORDS[fields["word"]], fields["status"], moment)


def _on_sub_response(role, record, thread, moment, fields):
    """A C-STORE that the program sent for a C-MOVE or C-GET, of which only the answer is logged."""
    pool, is_reversed = _place(record, role, moment)
    operation = request(record, pool, "C-STORE", moment)
    operation.is_reversed = is_reversed
    operation.row |= {"started_at": None, "problems": add_problem(operation.row["problems"], "START_NOT_SEEN")}
    answer(operation, fields["status"].upper(), status_category(fields["status"]), moment)


def _on_address(role, record, thread, moment, fields):
    members = [m for p in record.pools if role in p.speakers for m in p.members]
    if len(members) == 1:
        describe(members[0].row, **fields)


def _on_aborted(role, record, thread, moment, fields):
    """What is open is over; a client says it also behind a request that failed."""
    if record.pools or not record.associations:
        finish(record, pool_of(record, None, moment), moment, "aborted")
    for association in [] if record.pools else list(record.pending):
        refuse(record, association, moment, "aborted", "")


EVENTS = tuple((handler and partial(handler, role), pattern) for handler, role, pattern in (
    (None, "", r"(?P<field>Message Type|(?:Affected|Requested) SOP (?:Class|Instance) UID|Status|Move Destination) +: *(?P<value>.*)"),
    (_on_message, "", r"=+ END DIMSE MESSAGE =+"),
    (_on_received, "accepted", r"=+ INCOMING A-ASSOCIATE-RQ PDU"),
    (_on_received, "requested", r"=+ OUTGOING A-ASSOCIATE-RQ PDU|Requesting Association$"),
    (_on_named, "", r"Calling Application Name: +(?P<calling_ae_title>.*)|Called Application Name: +(?P<called_ae_title>.*)"),
    (_on_way, "", r"=+ (?P<way>INCOMING|OUTGOING) DIMSE MESSAGE"),
    (_on_accepted, "accepted", r"Accepting Association$"),
    (_on_accepted, "requested", r"Association Accepted$"),
    (_on_refused, "accepted", r"Rejecting Association"),
    (_on_refused, "requested", r"Association Rejected"),
    (partial(_on_refused, outcome="failed"), "requested", r"Association [Rr]equest [Ff]ailed: (?P<reason>.*)"),
    (_on_reason, "requested", r"(?:Result: .*)?Reason: (?P<reason>.*)"),
    (_on_request, "accepted", r"Received (?P<word>Echo|Store|Find|Move|Get) Request"),
    (_on_request, "accepted", r"(?P<word>Find|Move|Get) SCP Request Identifier"),
    (_on_request, "requested", r"Sending (?P<word>Echo|Store|Find|Move|Get|Create|Set|Action|Event Report) Request: MsgID \d+(?:, \((?P<code>\w+)\))?"),
    (_on_response, "requested", r"Received (?P<word>Echo|Store) Response \(Status: 0x(?P<status>[0-9A-Fa-f]{4})"),
    (_on_response, "", r"(?P<word>Find|Move|Get) SCP (?:Response|Result):? ?\d*(?: -|:) 0x(?P<status>[0-9A-Fa-f]{4})"),
    (_on_sub_response, "requested", r"(?:Move|Get) SCP: Received Store SC[PU] response 0x(?P<status>[0-9A-Fa-f]{4})"),
    (_on_address, "accepted", r"Received \S+ request from (?P<peer_address>\S+):\d+ at "),
    (_on_released, "accepted", r"Association Released$"),
    (_on_released, "requested", r"Releasing Association$"),
    (_on_aborted, "", r"(?:Association Aborted|Aborting Association)"),
))
