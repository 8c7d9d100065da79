"""One HL7 v2 message -> rows of MESSAGES, one for each order group (ORC and/or OBR with what follows)."""

import json
import re

from ..tables import add_problem
from .times import parse_time

# HL7 table 0211
CHARACTER_SETS = {"ASCII": "ascii", "": "", "UNICODE": "utf-8", "UNICODE UTF-8": "utf-8", "UTF-8": "utf-8", "UNICODE UTF-16": "utf-16", "ISO IR6": "ascii",
                  "ISO IR14": "iso2022_jp", "ISO IR87": "iso2022_jp", "ISO IR159": "iso2022_jp_1", "GB 18030-2000": "gb18030", "KS X 1001": "euc_kr",
                  "BIG-5": "big5", **{f"8859/{n}": f"iso8859_{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)}}
_UID = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*)){5,}")
_GROUP_ONLY = ("ORC", "OBR", "OBX", "NTE", "ZDS", "IPC", "TQ1", "TQ2", "OBX", "SPM", "DG1", "BLG", "CTI", "FT1", "PRT", "SAC")


def decode_message(segments):
    """`(lines of text, MSH-18, problem codes)`; the message's own character set first, then UTF-8, then Latin-1."""
    raw = b"\r".join(segments)
    codes = ["NUL_BYTES"] if b"\0" in raw else []
    raw = raw.replace(b"\0", b"")
    delimiter = raw[3:4]
    header = raw.split(b"\r", 1)[0].split(delimiter)
    declared = header[17].split(raw[4:5])[0].split(raw[5:6] or b"~")[0].decode("latin-1").strip() if len(header) > 17 else ""
    codec = CHARACTER_SETS.get(declared.upper())
    if raw.isascii() and codec not in ("iso2022_jp", "iso2022_jp_1"):
        return raw.decode("ascii").split("\r"), declared, codes
    if codec is None:
        codes.append("CHARSET_UNKNOWN")
    elif codec == "":
        codes.append("CHARSET_MISSING")
    text, used = _first_that_fits(raw, codec)
    if codec and used != codec:
        codes.append("CHARSET_MISMATCH")
    return text.split("\r"), declared, codes


def _first_that_fits(raw, codec):
    one_byte = bool(codec) and codec.startswith("iso8859")
    # Any bytes are valid Latin-1, so a declared one-byte set is believed only if the bytes are not well-formed UTF-8.
    for name in (["utf-8", codec] if one_byte or not codec else [codec, "utf-8"]):
        try:
            return raw.decode(name or "utf-8"), name or "utf-8"
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("cp1252", "replace"), "cp1252"


class Message:
    """A decoded message: `fields(segment)` and `part(...)` with its own delimiters (MSH-1, MSH-2) and escapes undone."""

    def __init__(self, lines):
        header = lines[0]
        self.separator = header[3]
        marks = header[4:].split(self.separator, 1)[0]
        self.component, self.repetition, self.escape, self.subcomponent = (marks + "^~\\&"[len(marks):])[:4]
        self.segments = [line.split(self.separator) for line in lines if line.strip()]
        self.segments[0].insert(1, self.separator)
        self.problems, self.raw = "", {}

    def flag(self, code):
        self.problems = add_problem(self.problems, code)

    def part(self, fields, number, component=1):
        """A component of a field's first repetition; component 0 gives the whole field as it stands."""
        value = fields[number] if fields and number < len(fields) else ""
        if not component or (number <= 2 and fields and fields[0] == "MSH"):
            return value
        pieces = value.split(self.repetition, 1)[0].split(self.component)
        piece = pieces[component - 1] if component <= len(pieces) else ""
        return self.plain(piece.split(self.subcomponent, 1)[0])

    def plain(self, value):
        value = "" if value == '""' else value.strip()
        if self.escape not in value:
            return value
        known = {"F": self.separator, "S": self.component, "T": self.subcomponent, "R": self.repetition, "E": self.escape, ".br": "\n", "H": "", "N": ""}
        mark = re.escape(self.escape)

        def one(found):
            code = found.group(1)
            if code in known:
                return known[code]
            if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
                return bytes.fromhex(code[1:]).decode("utf-8", "replace")
            self.flag("BAD_ESCAPE")
            return found.group()

        plain = re.sub(rf"{mark}([^{mark}]*){mark}", one, value)
        return plain

    def time(self, row, column, value, zone):
        at, precision, code = parse_time(value.split(self.component)[0].split(self.repetition)[0].strip().strip('"'), zone)
        row[column] = at
        if code:
            self.flag(code)
            if code == "BAD_TIME":
                row["_raw"][column] = value
        if precision and precision != "second":
            row["_precision"].append(f"{column}={precision}")


def message_rows(lines, *, zone, status, problems):
    """MESSAGES rows of one decoded message, as dicts without where it was read. `status` maps a feed's status word."""
    message = Message(lines)
    for code in problems:
        message.flag(code)
    names = [s[0].strip() for s in message.segments]
    shared, groups = _group(message.segments, names)
    head = _header(message, shared, zone)
    people = [i for i, s in enumerate(message.segments) if s[0] == "PID"]
    rows = []
    if not groups and len(people) > 1:
        for i, start in enumerate(people):
            stop = people[i + 1] if i + 1 < len(people) else len(message.segments)
            own = {s[0]: s for s in message.segments[start:stop]}
            rows.append({**_copy(head), **_person(message, {**shared, **own})})
    else:
        base = {**head, **_person(message, shared)}
        whole = [s for s in message.segments if s[0] == "OBX"]
        rows = [_order_group(message, _copy(base), group, whole, status, zone) for group in groups or [[]]]
    return [_finish(message, row) for row in rows]


def _copy(row):
    return {**row, "_precision": list(row["_precision"]), "_raw": dict(row["_raw"])}


def _finish(message, row):
    row["precision"] = " ".join(row.pop("_precision"))
    raw = row.pop("_raw")
    row["raw"] = json.dumps(raw, ensure_ascii=False) if raw else ""
    row["problems"] = message.problems
    return row


def _group(segments, names):
    """`(first of each segment outside order groups, list of groups)`; ORC starts a group, OBR too unless it follows its ORC."""
    shared, groups = {}, []
    for name, fields in zip(names, segments):
        if name == "ORC" or (name == "OBR" and (not groups or any(s[0] == "OBR" for s in groups[-1]))) or (name == "SCH" and not groups):
            groups.append([])
        if groups and name not in ("MSH", "EVN", "PID", "PV1", "MRG", "MSA", "ERR"):
            groups[-1].append(fields)
        else:
            shared.setdefault(name, fields)
    return shared, groups


def _header(message, shared, zone):
    part, msh = message.part, shared.get("MSH", message.segments[0])
    row = {"_precision": [], "_raw": {}, "message_control_id": part(msh, 10), "message_type": part(msh, 9), "trigger_event": part(msh, 9, 2),
           "sending_application": part(msh, 3), "sending_facility": part(msh, 4), "receiving_application": part(msh, 5), "version": part(msh, 12),
           "character_set": part(msh, 18)}
    message.time(row, "message_at", part(msh, 7), zone)
    if not row["message_control_id"] or not row["message_type"]:
        message.flag("MISSING_FIELD")
    evn, pv1, msa, err, mrg = (shared.get(n) for n in ("EVN", "PV1", "MSA", "ERR", "MRG"))
    if evn:
        message.time(row, "event_at", part(evn, 2), zone)
        row["trigger_event"] = row["trigger_event"] or part(evn, 1)
    row.update(patient_class=part(pv1, 2), patient_location=part(pv1, 3), visit_number=part(pv1, 19), acknowledgment_code=part(msa, 1),
               acknowledged_control_id=part(msa, 2), error_text=part(msa, 3) or part(err, 8) or part(err, 1), prior_patient_id=part(mrg, 1))
    return row


def _person(message, shared):
    pid = shared.get("PID")
    if not pid:
        return {"prior_patient_id": message.part(shared.get("MRG"), 1)}
    ids = [rep.split(message.component) for rep in message.part(pid, 3, 0).split(message.repetition)]
    ids = [[message.plain(c.split(message.subcomponent)[0]) for c in one] + [""] * 5 for one in ids if one[0].strip('" ')]
    # PID-3 may list several numbers; the medical record number (table 0203 MR) is the one images carry.
    ids.sort(key=lambda one: one[4] not in ("MR", ""))
    others = [f"{one[0]}^^^{one[3]}" for one in ids[1:]] + [v for n in (2, 4) if (v := message.part(pid, n))]
    number, issuer = (ids[0][0], ids[0][3]) if ids else (message.part(pid, 2), "")
    if not number:
        message.flag("EMPTY_ID")
    return {"patient_id": number, "issuer_of_patient_id": issuer, "other_patient_ids": " ".join(others), "patient_name": _name(message, pid),
            "patient_birth_date": message.part(pid, 7)[:8], "patient_sex": message.part(pid, 8), "prior_patient_id": message.part(shared.get("MRG"), 1)}


def _name(message, pid):
    """XPN as DICOM PN orders it: HL7 has suffix then prefix, PS3.5 6.2.1 prefix then suffix."""
    parts = message.part(pid, 5, 0).split(message.repetition, 1)[0].split(message.component) + [""] * 5
    family, given, middle, suffix, prefix = (message.plain(p.replace(message.subcomponent, " ")) for p in parts[:5])
    return "^".join((family, given, middle, prefix, suffix)).rstrip("^")


def _order_group(message, row, group, whole, status, zone):
    first = {}
    for fields in group:
        first.setdefault(fields[0], fields)
    part, orc, obr, tq1, ipc, sch = message.part, *(first.get(n) for n in ("ORC", "OBR", "TQ1", "IPC", "SCH"))
    observations = [f for f in group if f[0] == "OBX"]
    said = next((v for f in reversed(observations or whole) if (v := part(f, 11))), "")
    row.update(
        order_control=part(orc, 1), orc_2=part(orc, 2), orc_3=part(orc, 3), obr_2=part(obr, 2), obr_3=part(obr, 3), obr_18=part(obr, 18), obr_20=part(obr, 20),
        ipc_1=part(ipc, 1), placer_order_number=part(orc, 2) or part(obr, 2), filler_order_number=part(orc, 3) or part(obr, 3),
        order_status=status(part(orc, 5)), procedure_code=part(obr, 4), procedure_name=part(obr, 4, 2),
        priority=part(obr, 5) or part(obr, 27, 6) or part(orc, 7, 6) or part(tq1, 9), modality=part(obr, 24),
        result_status=status(part(obr, 25) or (said if row["message_type"] == "ORU" else "")), requested_procedure_id=part(obr, 19),
        study_instance_uid=part(first.get("ZDS"), 1) or part(ipc, 3) or _observed_uid(message, observations or whole),
        principal_interpreter=part(obr, 32), n_observations=len(observations))
    for column, value in (("transaction_at", part(orc, 9)), ("observed_at", part(obr, 7)), ("observation_ended_at", part(obr, 8)), ("status_changed_at", part(obr, 22)),
                          ("scheduled_at", part(orc, 7, 4) or part(tq1, 7) or part(obr, 27, 4) or part(obr, 36) or part(sch, 11, 4))):
        message.time(row, column, value, zone)
    return row


def _observed_uid(message, observations):
    """A Study Instance UID sent as an observation: DCM 113014 or 110180, or named so, in OBX-3."""
    for fields in observations:
        named = message.part(fields, 3, 0)
        value = message.part(fields, 5)
        if _UID.fullmatch(value) and ("113014" in named or "110180" in named or "STUDY INSTANCE" in named.upper()):
            return value
    return ""
