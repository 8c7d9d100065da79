"""Audit messages of imaging systems (PS3.15 A.5, RFC 3881), bare or inside syslog -> one row per message, and the account of every byte."""

import json
import re
import time
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import pandas as pd
from defusedxml import DTDForbidden, EntitiesForbidden
from defusedxml.ElementTree import fromstring

from ..site import require_site
from ..tables import AUDIT, conform
from .account import close_account, list_files, read_bytes, reject, run_over, source_row
from .times import parse_time

_START = re.compile(rb"<(?P<prefix>[\w.-]+:)?AuditMessage\b")
# What may stand between messages: octet counts, syslog headers (RFC 5424, RFC 3164), prologs, a root around several messages.
_HEADER = (rb"<\d{1,3}>(?:1 \S+ \S+ \S+ \S+ \S+ (?:-|(?:\[(?:\"(?:\\.|[^\"\\])*\"|[^\]\"])*\])+)|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d (?:\S+ )?[^\s<]*)"
           rb"|\d{4}-\d\d-\d\dT\S+ \S+ [^\s<]*|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [^\s<]*")
_BETWEEN = re.compile(rb"(?:\s|\0|\xef\xbb\xbf|\d+(?= ?<\d{1,3}>)|" + _HEADER + rb"|<\?xml[^>]*\?>|<!--.*?-->|</?[\w.:-]+(?:\s[^<>]*)?>)*", re.S)
_PROLOG = re.compile(rb"<\?xml[^>]*\bencoding=[\"']([\w.-]+)")
_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)? ?(Z|[+-]\d\d:?\d\d)?")
_PATIENT_NUMBER, _STUDY = "2", "110180"     # RFC 3881 5.5.4, DCM
_PATIENT_ROLE = "1"                         # ParticipantObjectTypeCodeRole
_EMPTY = re.compile(rb"[^<>]*/>")
_UNDEFINED_ENTITY = 11      # of expat
_REASONS = {
    "XML_ENTITY": "the message defines or uses entities, which is how XML attacks readers; ask the sender for messages without a document type",
    "XML_DTD": "a document type declaration stands before the message; ask the sender for messages without one",
    "XML_NOT_WELL_FORMED": "the message is no well-formed XML; ask the sender for it again",
    "TRUNCATED": "the file ends inside the message; copy it again",
    "NOT_AUDIT": "no audit message; nothing to do if that is what it is",
}


class AuditLog(NamedTuple):
    audit: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_audit_log(path, *, site, executor=None):
    """AuditLog(audit, rejected, sources) of the audit messages in the files at `path`: a file, a folder or a list, .gz too.

    One row per AuditMessage, also several to a file, with or without prolog, namespace, syslog header and octet count. Times without an offset are
    in `site.time_zone` and have `is_zoned` false. Document types and entities are rejected before anything is parsed, nothing is ever fetched.
    """
    require_site(site)
    files, rejected = list_files(path)
    rows, sources = [], []
    for found, refused, source in run_over(read_file, [(file, site) for file in sorted(files)], executor):
        rows += found
        rejected += refused
        sources.append(source)
    rejected, sources = close_account(rejected, sources, unit="bytes")
    return AuditLog(conform(rows, AUDIT), rejected, sources)


def read_file(unit):
    """`(rows, rejected rows, source row)` of `(file, site)`."""
    file, site = unit
    started = time.perf_counter()
    data, digest, refused = read_bytes(file)
    data = data or b""
    rows, counts, at = [], {"row": 0, "framing": 0}, 0

    def refuse(start, stop, code):
        if stop > start:
            refused.append(reject(file, start, stop - start, code, f"byte {start:,}: {_REASONS[code]}"))

    for start, stop, code in _messages(data):
        known = _BETWEEN.match(data, at, start).end()
        counts["framing"] += known - at
        declared = "XML_ENTITY" if b"<!ENTITY" in data[known:start] else "XML_DTD" if b"<!DOCTYPE" in data[known:start] else ""
        row = code = declared or code
        if not code:
            row = _row(data[start:stop], data[at:start], site.time_zone)
        if not declared:
            refuse(known, start, "NOT_AUDIT")
        if isinstance(row, dict):
            rows.append({**row, "source_file": file, "source_offset": start})
            counts["row"] += stop - start
        else:
            refuse(known if declared else start, stop, row)
        at = stop
    if at:
        known = _BETWEEN.match(data, at).end()
        counts["framing"] += known - at
        refuse(known, len(data), "NOT_AUDIT")
    elif data:
        refused.append(reject(file, 0, len(data), "UNKNOWN_FORMAT", "no AuditMessage in it; give the files of the audit record repository"))
    elif not refused:
        refused.append(reject(file, 0, 0, "EMPTY_FILE", "0 bytes; ask for it again"))
    return rows, refused, source_row(file, n_bytes=len(data), n_bytes_in_rows=counts["row"], n_bytes_rejected=sum(r["n_bytes"] for r in refused),
                                     n_bytes_framing=counts["framing"], n_rows=len(rows), n_rejected=len(refused), sha256=digest, started=started)


def _messages(data):
    """`(start, stop, code)` of each AuditMessage; code "" when its end is there."""
    starts = list(_START.finditer(data))
    for found, following in zip(starts, [*starts[1:], None]):
        limit = following.start() if following else len(data)
        end = _EMPTY.match(data, found.end()) or re.compile(rb"</" + re.escape(found["prefix"] or b"") + rb"AuditMessage\s*>").search(data, found.end(), limit)
        if end:
            yield found.start(), end.end(), ""
        else:
            line_end = data.find(b"\n", found.start(), limit) if following else -1
            yield found.start(), line_end if line_end >= 0 else limit, "XML_NOT_WELL_FORMED" if following else "TRUNCATED"


def _row(data, before, zone):
    """The row of a message's bytes, or the code of why there is none. `before` may hold its prolog."""
    prolog = _PROLOG.search(before)
    text, codes = _decode(data, prolog[1].decode() if prolog else "utf-8")
    try:
        root = fromstring(text, forbid_dtd=True)
    except (DTDForbidden, EntitiesForbidden):
        return "XML_ENTITY"
    except ElementTree.ParseError as error:
        return "XML_ENTITY" if error.code == _UNDEFINED_ENTITY else "XML_NOT_WELL_FORMED"
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    event = root.find("EventIdentification")
    event = ElementTree.Element("EventIdentification") if event is None else event
    people = root.findall("ActiveParticipant")
    asking = next((p for p in people if p.get("UserIsRequestor", "").lower() in ("true", "1")), people[0] if people else ElementTree.Element("ActiveParticipant"))
    at, is_zoned, spelled = _instant(event.get("EventDateTime", ""), zone, codes)
    objects = root.findall("ParticipantObjectIdentification")
    patients = [o.get("ParticipantObjectID", "") for o in objects if _code(o.find("ParticipantObjectIDTypeCode")) == _PATIENT_NUMBER or
                o.get("ParticipantObjectTypeCodeRole") == _PATIENT_ROLE and o.get("ParticipantObjectTypeCode") == "1"]
    return {"event_id": _code(event.find("EventID")), "event_type": " ".join(filter(None, map(_code, event.findall("EventTypeCode")))), "event_at": at, "is_zoned": is_zoned,
            "action": event.get("EventActionCode", ""), "outcome": event.get("EventOutcomeIndicator", ""), "user_id": asking.get("UserID", ""),
            "requestor": asking.get("AlternativeUserID", ""), "network_access_point": asking.get("NetworkAccessPointID", ""),
            "study_instance_uid": " ".join(o.get("ParticipantObjectID", "") for o in objects if _code(o.find("ParticipantObjectIDTypeCode")) == _STUDY),
            "accession_number": " ".join(dict.fromkeys(a.get("Number", "") for a in root.iter("Accession"))).strip(),
            "patient_id": next(filter(None, patients), "").split("^")[0], "raw": json.dumps({"event_at": spelled}) if spelled else "", "problems": " ".join(dict.fromkeys(codes))}


def _decode(data, declared):
    for name in ("utf-8", declared, "cp1252"):
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        return text, [] if name in ("utf-8", declared) and (data.isascii() or name == declared or declared == "utf-8") else ["CHARSET_MISMATCH"]
    return data.decode("latin-1"), ["CHARSET_MISMATCH"]


def _code(node):
    """The code of an element that holds one: `csd-code` in DICOM, `code` in RFC 3881."""
    return "" if node is None else node.get("csd-code") or node.get("code") or ""


def _instant(text, zone, codes):
    """`(instant, whether it has an offset, the text when it is no time)` of an xs:dateTime."""
    found = _STAMP.fullmatch(text.strip())
    if not found:
        codes += ["BAD_TIME"] if text.strip() else ["MISSING_FIELD"]
        return None, None, text
    *parts, fraction, offset = (group or "" for group in found.groups())
    at, _, code = parse_time("".join(parts) + (f".{fraction[:6]}" if fraction else "") + offset.replace(":", "").replace("Z", "+0000"), zone)
    codes += [code] if code else []
    return at, bool(offset), "" if at else text
