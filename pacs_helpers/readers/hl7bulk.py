"""Plain HL7 v2 messages -> columns of MESSAGES, a block at a time; the same cells as `message_rows` gives, which has the word on the rest."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .hl7fields import HEADER, HEADER_INSTANTS, INSTANTS, ORDER, STUDY_CODES, VISIT, Notes, names_a_study, patient_ids, piece_of
from .hl7lines import MARKS
from .hl7pieces import arrange, cut_pieces, piece_at, spans_of
from .hl7text import charset_problem
from .hl7times import CODES, MISSING, PRECISIONS, read_instants

_CHARSETS = ("", "CHARSET_MISSING", "CHARSET_UNKNOWN", "CHARSET_MISMATCH", None)
_PIPES, _SPACES = (np.uint64(int.from_bytes(mark * 8, "little")) for mark in (b"|", b" "))
_STUDY_CODES = [int.from_bytes(c.encode(), "little") for c in STUDY_CODES]


def plain_columns(plain, site, place):
    """The columns of the messages that are not slow; `plain.is_slow` gains those that turn out to take judgment. `plain` lies at `place` of the file."""
    block = _Block(plain, site)
    block.read_person()
    block.read_order()
    block.read_statuses()
    message, n = block.rows.message, len(block.rows.message)
    nothing, filled = empty_texts(n, pa.StringArray), {name: piece for name, piece in block.pieces.items() if block.length[piece].any()}
    taken = block.take(np.concatenate([*filled.values(), np.empty(0, int)]))
    columns = {**dict.fromkeys(block.pieces, nothing), **{name: taken.slice(i * n, n) for i, name in enumerate(filled)}, **block.columns, **block.notes()}
    columns |= {**dict.fromkeys(("direction", "peer", "_found", "_digest"), nothing), "received_at": np.full(n, MISSING), "source_offset": plain.starts[plain.first[message]] + place,
                "_is_half": (plain.has_start != plain.has_end)[message], "_stop": plain.stops[message] + place}
    keep = ~plain.is_slow[message]
    if not keep.all():
        mask = pa.array(keep)
        columns = {name: c.filter(mask) if isinstance(c, pa.Array) else c[keep] for name, c in columns.items()}
    return columns


def _bytes_that_are(mark, words):
    """The high bit of each of eight bytes that is the mark."""
    low, words = np.uint64(0x7F7F7F7F7F7F7F7F), words ^ mark
    return ~(((words & low) + low) | words | low)


def empty_texts(n, kind=pa.LargeStringArray):
    """`n` empty texts."""
    return kind.from_buffers(n, pa.py_buffer(bytes(8 * n + 8)), pa.py_buffer(b""))


class _Block:
    """The rows of a block while their columns are found: `pieces` by number, `columns` that are ready, `doubts` and `coarse` times to note."""

    def __init__(self, plain, site):
        self.plain, self.site, self.cut = plain, site, cut_pieces(plain)
        self.rows = arrange(plain, self.cut)
        self.length = self.cut.stop - self.cut.start
        self.columns, self.known, self.coarse = {}, {}, []
        self.pieces = {column: self.at(*places) for column, places in {**HEADER, **VISIT, **ORDER}.items()}
        is_lacking = (self.length[self.pieces["message_control_id"]] == 0) | (self.length[self.pieces["message_type"]] == 0)
        self.doubts = [(_CHARSETS, self._charsets()[self.rows.message]), (("", "MISSING_FIELD"), is_lacking)]

    def take(self, piece):
        return self.cut.tokens.take(pa.array(2 * piece))

    def _charsets(self):
        """What is wrong with MSH-18 of each message, as its place in _CHARSETS; None takes judgment."""
        problems, cut = np.zeros(len(self.plain.places), np.int8), self.cut
        holders = np.flatnonzero(self.plain.has_others & ~self.plain.is_slow)
        segment = self.rows.segment.get("MSH", holders)[self.rows.first[holders]]      # without any MSH there are no holders either
        begin, end = (cut.marks[np.minimum(cut.pipes[cut.pipe[segment] + n], cut.end[segment])] for n in (16, 17))
        sets = spans_of(cut.joined, begin + (begin < end), end).dictionary_encode()
        problems[holders] = np.array([_CHARSETS.index(charset_problem(one.encode())) for one in sets.dictionary.to_pylist()], np.int8)[sets.indices.to_numpy()]
        self.plain.is_slow[problems == len(_CHARSETS) - 1] = True
        return problems

    def at(self, *places):
        """The first piece with a value among those at the places."""
        found = None
        for place in places:
            if place not in self.known:
                self.known[place] = piece_at(self.cut, place, self.rows)
            found = self.known[place] if found is None else np.where(self.length[found] > 0, found, self.known[place])
        return found

    def text(self, piece):
        return self.cut.joined[self.cut.start[piece]:self.cut.stop[piece]]

    def slow(self, rows):
        self.plain.is_slow[self.rows.message[rows]] = True

    def read_instants(self):
        """The columns of times and what is to be noted about them."""
        wanted = {**HEADER_INSTANTS, **INSTANTS}
        piece = np.concatenate([self.at(*places) for places in wanted.values()])
        found = read_instants(self.cut.text, self.cut.words, self.cut.start[piece], self.length[piece], self.site.time_zone)
        at, precision, code = (part.reshape(len(wanted), -1) for part in found)
        self.slow((code == CODES.index("BAD_TIME")).any(axis=0))
        # One list of codes stands for all rows of a message, in the order they were met.
        self.slow((code[2:] > 0).any(axis=0) & (self.rows.n[self.rows.message] > 1))
        self.columns |= dict(zip(wanted, at))
        self.coarse = [*zip(wanted, precision)]
        self.doubts[1:1] = [(CODES, one) for one in code[:2]]
        self.doubts += [(CODES, one) for one in code[2:]]

    def read_person(self):
        birth = self.pieces["patient_birth_date"] = self.at(("PID", 7, 1))
        is_long = (self.length[birth] > 8) & (self.cut.words[self.cut.start[birth]] & np.uint64(0x8080808080808080) == 0)
        self.cut.stop[birth[is_long]], self.length[birth[is_long]] = self.cut.start[birth[is_long]] + 8, 8
        start, length = self.cut.start[birth], self.length[birth]
        self.read_ids()
        family, given, middle, suffix, prefix = (self.at(("PID", 5, n)) for n in range(1, 6))
        parts = [self.take(piece) for piece in (family, given, middle, prefix, suffix)]
        self.columns["patient_name"] = pc.utf8_rtrim(pc.binary_join_element_wise(*parts, "^"), "^")
        self.pieces["patient_sex"] = self.at(("PID", 8, 1))
        self.slow(length > 8)
        self.doubts.append((("", "BAD_DATE"), read_instants(self.cut.text, self.cut.words, start, length, "UTC")[2] > 0))

    def read_ids(self):
        """PID-3 of one or two repetitions with PID-2 and PID-4 of one component; other shapes go through `patient_ids`, one by one."""
        cut, empty, nobody = self.cut, self.cut.empty, np.full(len(self.rows.message), -1)
        has_person = self.rows.segment.get("PID", nobody) >= 0
        values, issuers, is_odd, kinds = [], [], np.zeros(len(has_person), bool), []
        first = self.at(("PID", 3, 1))
        begin, is_there = first, first != empty
        for _ in range(2):
            end = begin + 1
            for _ in range(10):
                end += cut.kinds[end] == 94
            n_hats = end - begin - 1
            values.append(np.where(is_there, begin, empty))
            issuers.append(np.where(is_there & (n_hats > 2), begin + 3, empty))
            kinds.append(np.where(is_there & (n_hats > 3), begin + 4, empty))
            is_odd |= is_there & (n_hats == 10)
            begin, is_there = end, is_there & (cut.kinds[end] == 126)
        is_odd |= is_there
        for number in (2, 4):
            piece = self.at(("PID", number, 1))
            values.append(piece)
            issuers.append(np.full(len(piece), empty))
            after = cut.kinds[piece + 1]
            is_odd |= (piece != empty) & ((after == 94) | (after == 126))
        is_record = [(self.length[k] == 0) | (self.length[k] == 2) & (cut.words[cut.start[k]] & np.uint64(0xFFFF) == int.from_bytes(b"MR", "little")) for k in kinds]
        swap = (self.length[values[1]] > 0) & is_record[1] & ~is_record[0]
        for one in (values, issuers):
            one[0], one[1] = np.where(swap, one[1], one[0]), np.where(swap, one[0], one[1])
        present, sizes = [self.length[v] > 0 for v in values], [(self.length[v], self.length[i]) for v, i in zip(values, issuers)]
        for late in range(1, 4):
            for early in range(late):
                alike = np.flatnonzero(present[early] & present[late] & (sizes[early][0] == sizes[late][0]) & (sizes[early][1] == sizes[late][1]))
                for row in alike.tolist():
                    present[late][row] = any(self.text(one[early][row]) != self.text(one[late][row]) for one in (values, issuers))
        first, issuer, rank = np.full(len(has_person), empty), np.full(len(has_person), empty), np.zeros(len(has_person), int)
        spans = np.zeros((2, 5, len(has_person)), np.int32)     # where the text of the first, second, ... number is
        for value, of, is_here in zip(values, issuers, present):
            is_first, has_issuer = is_here & (rank == 0), self.length[of] > 0
            first, issuer = np.where(is_first, value, first), np.where(is_first, of, issuer)
            is_apart = has_issuer & (cut.start[of] != cut.stop[value] + 3)
            is_odd |= is_here & ~is_first & (is_apart | cut.is_spaced[value] | cut.is_spaced[of])
            place = rank, np.arange(len(rank))
            spans[0][place], spans[1][place] = np.where(is_here, cut.start[value], 0), np.where(is_here, np.where(has_issuer, cut.stop[of], cut.stop[value]), 0)
            rank += is_here
        ids, others = [self.take(first), self.take(issuer)], spans_of(cut.joined, *spans[:, 1])
        for starts, stops in zip(*spans[:, 2:rank.max(initial=0)]):
            others = pc.utf8_rtrim(pc.binary_join_element_wise(others, spans_of(cut.joined, starts, stops), " "), " ")
        is_odd &= has_person
        found = [self._ids_of(row) for row in np.flatnonzero(is_odd).tolist()]
        for name, column, new in zip(("patient_id", "issuer_of_patient_id", "other_patient_ids"), (*ids, others), zip(*found) if found else ((),) * 3):
            self.columns[name] = pc.replace_with_mask(column, pa.array(is_odd), pa.array(new, pa.string())) if found else column
        self.doubts.append((("", "EMPTY_ID"), has_person & (pc.binary_length(self.columns["patient_id"]).to_numpy() == 0)))

    def _ids_of(self, row):
        line = self.cut.line[self.rows.segment["PID"][row]]
        notes = Notes(MARKS, [], self.site.time_zone, None)
        ids = patient_ids(self.plain.data[self.plain.starts[line]:self.plain.ends[line]].decode().split("|"), notes)
        self.plain.is_slow[self.rows.message[row]] |= bool(notes.codes)
        return ids

    def read_order(self):
        self.read_instants()
        self.columns["n_observations"] = np.bincount(self.rows.row, minlength=len(self.rows.message))
        lines = self.rows.observation[self.length[self.pieces["study_instance_uid"]][self.rows.row] == 0]
        if len(lines):
            self.plain.is_slow[self.plain.of[lines[self._may_name_a_study(lines)]]] = True

    def _may_name_a_study(self, lines):
        """Whether OBX-3 of these lines may say that a Study Instance UID follows."""
        plain = self.plain
        zero = _bytes_that_are(_PIPES, plain.words[plain.starts[lines] + 4])
        zero &= zero - np.uint64(1)
        second = np.bitwise_count((zero & (~zero + np.uint64(1))) - np.uint64(1)).astype(np.int64) >> 3
        at = plain.starts[lines] + 5 + np.minimum(second, 7)
        may = (zero == 0) | np.isin(plain.words[at] & np.uint64((1 << 48) - 1), _STUDY_CODES)
        rest = np.arange(len(lines))
        for step in range(0, 64, 8):        # a name has a space in it
            end, space = (_bytes_that_are(mark, plain.words[np.minimum(at[rest] + step, len(plain.words) - 1)]) for mark in (_PIPES, _SPACES))
            may[rest[space & (end - np.uint64(1)) & ~end > 0]] = True
            rest = rest[end == 0]
        may[rest] = True
        named = np.flatnonzero(may)
        may[named] = [names_a_study(b"".join(plain.data[a:b].split(b"|", 4)[3:4]).decode("utf-8", "replace")) for a, b in zip(plain.starts[lines[named]].tolist(), plain.ends[lines[named]].tolist())]
        return may

    def read_statuses(self):
        words = {"order_status": self.take(self.pieces.pop("order_status")), "result_status": self._result_status()}
        notes = []
        for column, values in words.items():
            found = values.dictionary_encode()
            sent = found.dictionary.to_pylist()
            shown = [self.site.status(word) if word else "" for word in sent]
            self.columns[column] = pa.array(shown, pa.string()).take(found.indices) if shown != sent else values
            notes.append(([{column: word} if word != new else {} for word, new in zip(sent, shown)], found.indices.to_numpy()))
        self.columns["raw"] = _spelled(notes, lambda met: json.dumps({k: v for one in met for k, v in one.items()}, ensure_ascii=False) if any(met) else "")

    def _result_status(self):
        """OBR-25, else OBX-11 of the row's observations or, when it has none, of the last order's."""
        rows, piece = self.rows, self.pieces.pop("result_status")
        kind = self.at(("MSH", 9, 1))
        sent = self.cut.words[self.cut.marks[np.minimum(kind, len(self.cut.marks) - 1)] + 1]
        is_order = (sent & np.uint64(0xFFFFFF) == int.from_bytes(b"ORM", "little"))
        is_order |= (sent & np.uint64(0xFFFF) == int.from_bytes(b"OM", "little")) & ((sent >> np.uint64(16)) & np.uint64(0xFF) > 64) & ((sent >> np.uint64(16)) & np.uint64(0xFF) < 91)
        last = rows.first[rows.message] + rows.n[rows.message] - 1
        n_seen = self.columns["n_observations"]
        source = np.where(n_seen > 0, np.arange(len(last)), last)
        wanted = (self.length[piece] == 0) & (kind != self.cut.empty) & ~is_order & (n_seen[source] > 0)
        bounds = np.searchsorted(rows.row, [source[wanted], source[wanted] + 1])
        found = [self._observed_status(rows.observation[a:b].tolist()) for a, b in bounds.T.tolist()]
        return pc.replace_with_mask(self.take(piece), pa.array(wanted), pa.array(found, pa.string()))

    def _observed_status(self, lines):
        notes = Notes(MARKS, [], self.site.time_zone, None)
        for line in lines:
            fields = self.plain.data[self.plain.starts[line]:self.plain.ends[line]].decode().split("|", 12)
            value = piece_of({"OBX": fields}, ("OBX", 11, 1), notes)
            self.plain.is_slow[self.plain.of[line]] |= bool(notes.codes)
            if value:
                return value
        return ""

    def notes(self):
        """The columns `problems` and `precision`."""
        def listed(met):
            return " ".join(dict.fromkeys(filter(None, met)))

        coarse = [([f"{column}={name}" if name != "second" else "" for name in PRECISIONS], precision) for column, precision in self.coarse]
        return {"problems": _spelled(self.doubts, listed), "precision": _spelled(coarse, listed)}


def _spelled(notes, spell):
    """Text of each row: `spell` of what is met in it, of `[(what can be met, place of what is met in each row)]`."""
    notes, n = [(choices, places) for choices, places in notes if any(choices) and (choices[0] or places.any())], len(notes[0][1])
    if not notes:
        return empty_texts(n, pa.StringArray)
    number = 0
    for choices, places in notes:
        number = number * len(choices) + places.astype(np.int64)
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    texts = [spell([choices[int(places[i])] for choices, places in notes]) for i in first.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(inverse))
