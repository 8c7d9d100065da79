"""The DICOM upper layer (PS3.8 section 9.3) and DIMSE commands (PS3.7 section 9.3) of one connection -> its association and operations.

Data sets are counted and passed over: their lengths say where the next header stands, also when packets of them are missing. Only the
short ones of performed procedure steps are kept, as `data_set` of their operation: (bytes, transfer syntax UID).
"""

from struct import unpack_from

from pydicom.uid import UID_dictionary

from .associations import acknowledge, answer, describe, finish, pool_of, receive, refuse, request
from .dimse import sop_class, status_category
from .headerrows import PERFORMED_STEP_CLASS
from .steps import LONGEST_DATA_SET
from .steps import SERVICES as STEP_SERVICES

RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
HEADER = 6                  # bytes of a PDU header and of a PDV header
LONGEST_PDU = 1 << 20       # of those that are read whole
_SHORTEST = {RQ: 68, AC: 68}
SERVICES = {0x0001: "C-STORE", 0x0010: "C-GET", 0x0020: "C-FIND", 0x0021: "C-MOVE", 0x0030: "C-ECHO", 0x0100: "N-EVENT-REPORT", 0x0120: "N-SET", 0x0130: "N-ACTION", 0x0140: "N-CREATE"}
RESPONSE = 0x8000
_AFFECTED_CLASS, _REQUESTED_CLASS, _FIELD, _ID, _ANSWERED, _STATUS, _INSTANCE, _REQUESTED_INSTANCE = 0x0002, 0x0003, 0x0100, 0x0110, 0x0120, 0x0900, 0x1000, 0x1001
# PS3.8 table 9-21: (source, reason) of a rejection
_REJECTIONS = {(1, 1): "no reason given", (1, 2): "application context not supported", (1, 3): "calling AE title not recognized", (1, 7): "called AE title not recognized",
               (2, 1): "no reason given", (2, 2): "protocol version not supported", (3, 1): "temporary congestion", (3, 2): "local limit exceeded"}


class OutOfStep(Exception):
    """The bytes are no PDU: a header was lost or the stream is something else."""


class Side:
    """One direction of a connection: what is gathered, what is passed over, and what the next header is."""

    def __init__(self):
        self.gathered, self.needed, self.passing, self.next = bytearray(), HEADER, 0, "pdu"
        self.pdu_left, self.kind, self.command, self.n_data, self.is_last = 0, 0, bytearray(), 0, False
        self.data, self.context = bytearray(), 0


class Connection:
    """The association of one TCP connection; `feed` takes the bytes of a side in order, `lose` says how many were not captured.

    `moment` gives the Moment of a packet.
    """

    def __init__(self, record, key, peer_address, moment):
        self.record, self.key, self.peer_address, self.moment = record, key, peer_address, moment
        self.sides = (Side(), Side())       # of the requestor, of the acceptor
        self.association, self.operations, self.sending, self.is_over, self.is_accepted = None, {}, [None, None], False, False
        self.syntaxes = {}      # of presentation contexts
        self.is_one_sided = False

    def feed(self, who, data, packet):
        """Nothing; OutOfStep when `data` goes on with no PDU."""
        side, at, n = self.sides[who], 0, len(data)
        while at < n:
            if side.passing:
                step = min(side.passing, n - at)
                self._pass(who, side, step, packet)
            else:
                step = min(side.needed - len(side.gathered), n - at)
                side.gathered += data[at:at + step]
                if len(side.gathered) == side.needed:
                    chunk = bytes(side.gathered)
                    side.gathered.clear()
                    self._take(who, side, chunk, packet)
            at += step

    def lose(self, who, n, packet):
        """Nothing; OutOfStep when a header is among the `n` bytes that are missing."""
        side = self.sides[who]
        if side.next == "data":     # not kept whole, so not at all
            side.passing, side.next = side.needed - len(side.gathered), "pdv"
            side.n_data += len(side.gathered)
            side.gathered.clear()
            self.sending[who].is_whole = False
        if n > side.passing:
            raise OutOfStep
        self._pass(who, side, n, packet)

    def _pass(self, who, side, n, packet):
        side.passing -= n
        side.n_data += n
        if not side.passing:
            if side.is_last and self.sending[who]:
                row = self.sending[who].row
                row |= {"data_ended_at": self.moment(packet).at, "n_bytes": side.n_data, "n_bytes_source": "exact"}
            if side.is_last:
                side.n_data, self.sending[who] = 0, None
            self._expect_next(side)

    def _expect_next(self, side):
        side.next, side.needed = ("pdv", HEADER) if side.pdu_left else ("pdu", HEADER)

    def _take(self, who, side, chunk, packet):
        if side.next == "pdu":
            side.kind, n = chunk[0], int.from_bytes(chunk[2:])
            if not RQ <= side.kind <= ABORT or side.kind != P_DATA and not _SHORTEST.get(side.kind, 4) <= n <= LONGEST_PDU:
                raise OutOfStep
            self.is_one_sided |= side.kind == P_DATA and not self.is_accepted     # nobody sends data before an answer
            side.pdu_left = n if side.kind == P_DATA else 0
            side.next, side.needed = ("pdv", HEADER) if side.kind == P_DATA else ("body", n)
        elif side.next == "body":
            self._associate(side.kind, chunk, self.moment(packet))
            self._expect_next(side)
        elif side.next == "pdv":
            n = int.from_bytes(chunk[:4]) - 2
            if n < 0 or n + HEADER > side.pdu_left:
                raise OutOfStep
            side.pdu_left -= n + HEADER
            side.is_last, side.context = bool(chunk[5] & 2), chunk[4]
            if chunk[5] & 1:
                side.next, side.needed = "command", n
            elif n and self._is_kept(who, side, n):
                side.next, side.needed = "data", n
            else:
                side.passing = n
                if not n:
                    self._pass(who, side, 0, packet)
        elif side.next == "data":
            side.data += chunk
            if side.is_last:
                self.sending[who].data_set, side.data = (bytes(side.data), self.syntaxes.get(side.context, b"")), bytearray()
            side.passing = len(chunk)
            self._pass(who, side, len(chunk), packet)
        else:
            side.command += chunk
            if side.is_last:
                command, side.command = bytes(side.command), bytearray()
                self._dimse(who, command, self.moment(packet))
            self._expect_next(side)

    def _is_kept(self, who, side, n):
        operation = self.sending[who]
        return operation is not None and operation.is_kept and operation.is_whole and len(side.data) + n <= LONGEST_DATA_SET

    def _associate(self, kind, body, moment):
        if kind == RQ:
            called, calling = (body[at:at + 16].decode("latin-1").strip(" \0") for at in (4, 20))
            self.association = receive(self.record, self.key, moment, calling_ae_title=calling, called_ae_title=called, peer_address=self.peer_address)
        elif kind == AC and self.association:
            acknowledge(self.record, self.key, moment)
            self.is_accepted, self.syntaxes = True, _accepted_syntaxes(body)
        elif kind == RJ and self.association and not self.is_accepted:
            refuse(self.record, self.association, moment, "rejected", _REJECTIONS.get(tuple(body[2:4]), "reason unknown"))
            self.is_over = True
        elif kind == RELEASE_RP:
            self.end(moment, "released")
        elif kind == ABORT:
            self.end(moment, "aborted", "by the service user" if body[2] == 0 else "by the service provider")

    def end(self, moment, outcome, reason=""):
        """Nothing; the association ends here unless it has before."""
        if self.association is None or self.is_over:
            return
        self.is_over = True
        if self.is_accepted:
            finish(self.record, pool_of(self.record, self.key, moment), moment, outcome, reason)
        else:
            refuse(self.record, self.association, moment, outcome, reason)

    def _dimse(self, who, command, moment):
        fields = _command_fields(command)
        code = int.from_bytes(fields.get(_FIELD, b"\0\0"), "little")
        service = SERVICES.get(code & ~RESPONSE)
        if service is None or not self.is_accepted:
            self.sending[who] = None
        elif code & RESPONSE:
            status = f"{int.from_bytes(fields.get(_STATUS, b''), 'little'):04X}"
            operation = self.operations.get((1 - who, fields.get(_ANSWERED)))
            self.sending[who] = None
            if operation:
                describe(operation.row, sop_instance_uid=_uid(fields, _INSTANCE))       # the receiver may be the one to choose it
            if operation and status_category(status) != "Pending":
                answer(operation, status, status_category(status), moment)
        else:
            uid, instance = (_uid(fields, *tags) for tags in ((_AFFECTED_CLASS, _REQUESTED_CLASS), (_INSTANCE, _REQUESTED_INSTANCE)))
            operation = request(self.record, pool_of(self.record, self.key, moment), service, moment, sop_class_uid=uid, sop_instance_uid=instance,
                                modality=sop_class(uid)[1] if uid in UID_dictionary else "")
            operation.data_set, operation.is_whole, operation.is_reversed, operation.is_kept = None, True, who == 1, uid == PERFORMED_STEP_CLASS and service in STEP_SERVICES
            self.operations[who, fields.get(_ID)] = self.sending[who] = operation


def _accepted_syntaxes(body):
    """`{presentation context ID: transfer syntax UID}` of an A-ASSOCIATE-AC (PS3.8 tables 9-17 to 9-19)."""
    found, at = {}, 68
    while at + 4 <= len(body):
        kind, n = body[at], int.from_bytes(body[at + 2:at + 4])
        if kind == 0x21 and body[at + 8:at + 9] == b"\x40":
            found[body[at + 4]] = body[at + 12:at + 12 + int.from_bytes(body[at + 10:at + 12])]
        at += 4 + n
    return found


def _uid(fields, *tags):
    return next((v for t in tags if (v := fields.get(t, b"").decode("latin-1").strip(" \0"))), "")


def _command_fields(command):
    """`{element of group 0000: raw value}` of a command set, which is always implicit little endian (PS3.7 6.3.1)."""
    fields, at = {}, 0
    while at + 8 <= len(command):
        group, element, n = unpack_from("<HHL", command, at)
        if group == 0:
            fields[element] = command[at + 8:at + 8 + n]
        at += 8 + n
    return fields
