"""One TCP connection of a capture: the bytes of both sides in order (RFC 9293), handed to what is spoken on it, and their account."""

from ipaddress import ip_address

from ..tables import add_problem
from .account import reject
from .packets import ACK, FIN, RST, SYN
from .upperlayer import Connection, OutOfStep

RECOGNISED = 2              # bytes that tell what is spoken
HELD_BYTES = 4 << 20        # that wait for a packet before it is taken as lost
START, END = b"\x0b", b"\x1c"     # of an MLLP frame
LONGEST_FRAME = 16 << 20
_ROUND = 1 << 32            # sequence numbers start again here
_LOST = "packets are missing, and with them where the next PDU or message begins; capture nearer to the archive"
_CUT = "packets were cut short when they were captured, and with them where the next PDU begins; capture whole packets (tcpdump -s 0)"
_BEFORE = "a connection that began before the capture"
_STRANGERS = ((b"\x02\0", "the answers of a DICOM association without its requests; capture both directions"),
              (b"\x16\x03", "TLS, which is encrypted; capture where it is decrypted"), (b"GET ", "HTTP"), (b"POST ", "HTTP"), (b"PUT ", "HTTP"), (b"HTTP/", "HTTP"), (b"SSH-", "SSH"))


class Stream:
    """One TCP connection: puts the bytes of both sides in order and hands them to what is spoken on it."""

    def __init__(self, wire, packet):
        self.wire, self.first, self.client, self.last = wire, packet, packet.source, packet
        self.has_start = bool(packet.flags & SYN)
        self.expected, self.held, self.n_held = [None, None], [{}, {}], [0, 0]
        self.heads = (bytearray(), bytearray())
        self.speaker, self.kind, self.n_payload, self.n_other, self.ended = None, "", 0, 0, set()
        self.is_cut, self.deaf, self.n_lost = False, set(), 0       # sides whose bytes cannot be told apart any more, and how many these are

    def is_new_start(self, packet):
        return self.n_payload > 0 or packet.source != self.client or packet.number != self.first.number

    def take(self, packet):
        who, n = int(packet.source != self.client), len(packet.payload)
        self.n_other += packet.n_bytes - n
        self.last = packet
        if packet.flags & SYN:
            packet = packet._replace(number=(packet.number + 1) % _ROUND)
            self.expected[who] = packet.number
        if n and packet.flags & ACK:
            self._believe(1 - who, packet.acknowledged)
        if n or packet.n_missing:
            if self.expected[who] is None:
                self.expected[who] = packet.number
            self._order(who, packet)
        if packet.flags & (RST | FIN):
            self.ended |= {who, 1 - who} if packet.flags & RST else {who}
            if len(self.ended) == 2:
                self._flush()
                self._end(packet)

    def _order(self, who, packet):
        ahead = (packet.number - self.expected[who] + _ROUND // 2) % _ROUND - _ROUND // 2
        if ahead > 0:
            before = self.held[who].setdefault(packet.number, packet)
            if before is packet:
                self.n_held[who] += len(packet.payload)
            else:
                self.n_other += len(packet.payload)
            if self.n_held[who] > HELD_BYTES:
                self._skip(who)
            return
        self._deliver(who, packet, -ahead)
        while self.held[who] and (later := self._next_held(who)) is not None:
            self.n_held[who] -= len(later.payload)
            self._deliver(who, later, (self.expected[who] - later.number) % _ROUND)

    def _next_held(self, who):
        exact = self.held[who].pop(self.expected[who], None)
        if exact is not None:
            return exact
        behind = next((number for number in self.held[who] if (self.expected[who] - number) % _ROUND < _ROUND // 2), None)
        return None if behind is None else self.held[who].pop(behind)

    def _deliver(self, who, packet, n_known):
        """Nothing; the bytes of a packet after the first `n_known`, which came before."""
        new = packet.payload[n_known:]
        self.n_other += len(packet.payload) - len(new)
        n_missing = packet.n_missing if n_known <= len(packet.payload) else 0
        self.expected[who] = (self.expected[who] + len(new) + n_missing) % _ROUND
        self._speak(who, new, packet)
        if n_missing:
            self.is_cut = True
            self._lose(who, n_missing, packet)

    def _skip(self, who):
        """Nothing; the packet that is waited for is lost, what was held goes on after it."""
        number, later = min(self.held[who].items(), key=lambda item: (item[0] - self.expected[who]) % _ROUND)
        self._lose(who, (number - self.expected[who]) % _ROUND, later)
        self.expected[who] = number
        del self.held[who][number]
        self.n_held[who] -= len(later.payload)
        self._order(who, later)

    def _believe(self, who, acknowledged):
        """Nothing; what the other side answers it has got: a packet that is waited for below `acknowledged` was not captured."""
        while self.held[who] and 0 < (acknowledged - self.expected[who]) % _ROUND < _ROUND // 2:
            self._skip(who)

    def _flush(self):
        for who in (0, 1):
            while self.held[who]:
                self._skip(who)

    def _speak(self, who, data, packet):
        if not len(data):
            return
        self.n_payload += len(data)
        if not self.kind:
            self.heads[who].extend(data)
            if len(self.heads[who]) < RECOGNISED:
                return
            data = self.heads[who]
            self._recognise(who, bytes(data[:8]))
        if self.kind == _BEFORE and b"\x0bMSH" in bytes(data):       # feeds keep one connection open for days
            self.client_is_first, self.kind, self.speaker = True, "mllp", Mllp(self, self.n_payload - len(data))
        if who in self.deaf:
            self.n_lost += len(data)
        elif self.speaker:
            try:
                self.speaker.feed(who if self.client_is_first else 1 - who, data, packet)
            except OutOfStep:
                self._give_up(who)

    def _recognise(self, who, head):
        self.client_is_first = who == 0
        requestor = str(ip_address((self.first.source, self.first.target)[who][0]))
        if head[:2] == b"\x01\0":
            self.kind, self.speaker = "dicom", Connection(self.wire.record, f"{self.first.offset}", requestor, self.wire.moment)
        elif head[:1] == b"\x0b":
            self.kind, self.speaker = "mllp", Mllp(self, 0)
        else:
            known = next((name for start, name in _STRANGERS if head.startswith(start)), "neither DICOM nor MLLP")
            self.kind = known if self.has_start or known != "neither DICOM nor MLLP" else _BEFORE

    def _lose(self, who, n, packet):
        if self.kind == "dicom" and self.speaker and self.speaker.association:
            row = self.speaker.association.row
            row["problems"] = add_problem(row["problems"], "PACKETS_LOST")
        if self.speaker and who not in self.deaf:
            try:
                self.speaker.lose(who if self.client_is_first else 1 - who, n, packet)
            except OutOfStep:
                self._give_up(who)

    def _give_up(self, who):
        """Nothing; from here the bytes of this side cannot be told apart. The other side still tells how the association ends."""
        self.deaf.add(who)
        if self.speaker.association:
            self.wire.holed.append(self.speaker.association)

    def _end(self, packet):
        acceptor = int(self.speaker is not None and self.client_is_first)
        if self.speaker and acceptor not in self.deaf:
            self.speaker.end(self.wire.moment(packet), "failed", "the connection was closed without a release")

    def close(self):
        """Nothing; settles the account of the connection."""
        self._flush()
        if self.kind == "mllp":
            self._end(self.last)
        if self.kind == "dicom" and self.speaker.is_one_sided and self.speaker.association:
            row = self.speaker.association.row
            row["problems"] = add_problem(row["problems"], "ONE_SIDED")
            self.wire.holed.append(self.speaker.association)
        counts, is_known = self.wire.counts, self.kind in ("dicom", "mllp") or not self.n_payload
        n_left = self.speaker.n_dropped if self.kind == "mllp" else self.n_lost if is_known else self.n_payload
        counts["rows"] += self.n_payload - n_left
        counts["framing"] += self.n_other if is_known else 0
        if n_left:
            ends = " to ".join(f"{ip_address(host)}:{port}" for host, port in (self.first.source, self.first.target))
            code, why = ("PACKETS_LOST", _CUT if self.is_cut else _LOST) if is_known else ("UNKNOWN_STREAM", self.kind)
            self.wire.rejected.append(reject(self.wire.file, self.first.offset, n_left + (0 if is_known else self.n_other), code, f"{ends}: {why}"))


class Mllp:
    """The messages of one MLLP connection, of both sides. What has no beginning is dropped: `n_dropped` counts it."""

    def __init__(self, stream, n_dropped):
        self.wire, self.n_dropped = stream.wire, n_dropped
        self.sides, self.starts, self.is_begun = (bytearray(), bytearray()), [None, None], [False, False]
        ends = [f"{ip_address(host)}:{port}" for host, port in (stream.first.source, stream.first.target)]
        self.peers = ends if stream.client_is_first else ends[::-1]

    def feed(self, who, data, packet):
        held = self.sides[who]
        if not self.is_begun[who]:
            data = bytes(data)
            start = data.find(START)
            self.n_dropped += len(data) if start < 0 else start
            if start < 0:
                return
            data, self.is_begun[who] = data[start:], True
        if not held:
            self.starts[who] = packet
        n_before = len(held)
        held += data
        while (end := held.find(END, n_before)) >= 0:
            self._read(who, bytes(held[:end + 1]), packet)
            del held[:end + 1]
            n_before = 0
            if held[:1] in (b"\r", b"\n"):
                del held[:1]
            self.starts[who] = packet
        if len(held) > LONGEST_FRAME:
            self.lose(who, 0, packet)

    def lose(self, who, n, packet):
        """Nothing; the message under way is not whole, and the next one is waited for."""
        self.n_dropped += len(self.sides[who])
        self.sides[who].clear()
        self.is_begun[who] = False

    def end(self, moment, outcome, reason):
        for who, held in enumerate(self.sides):
            if held.strip():
                self._read(who, bytes(held), self.starts[who])
            held.clear()

    def _read(self, who, frame, packet):
        self.wire.add_frame(frame, self.starts[who].offset, packet.at, self.peers[who])
