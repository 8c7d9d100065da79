"""A live archive, asked day by day by C-FIND (PS3.4 C.4.1) or QIDO-RS (PS3.18 10.6) -> the tables of its files. It is only read."""

import json
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from itertools import islice
from urllib.parse import urlsplit

import pandas as pd
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from ..site import require_site
from ..tables import INSTANCES, PERFORMED_STEPS, TableError, conform, nearest
from .account import close_account, reject, source_row
from .dicomjson import read_objects
from .elements import walk
from .headerrows import COUNTED, OPENED, WANTED, answer_row
from .headers import Headers
from .part10 import Elements

LEVELS = ("study", "series")
GIVE_UP_AFTER = 3       # days in a row without an answer
DICOM_PORT = 104
_PERSON = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = (*_PERSON, "AccessionNumber", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy", "InstitutionName",
          "TimezoneOffsetFromUTC", "NumberOfStudyRelatedInstances")
_SERIES = ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDate", "SeriesTime", "SeriesDescription", "ProtocolName", "BodyPartExamined", "Laterality",
           "StationName", "Manufacturer", "ManufacturerModelName", "OperatorsName", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
           "RequestAttributesSequence", "NumberOfSeriesRelatedInstances")
_REQUEST = "RequestAttributesSequence"
_STUDY_UID = int(tag_for_keyword("StudyInstanceUID"))
_PENDING = (0xFF00, 0xFF01)     # PS3.4 C.4.1.1.4
_REASONS = {
    "NO_ANSWER": "the archive did not answer this day ({}); ask for these days again",
    "NOT_ASKED": "the archive did not answer {} days in a row, so from this day on it was not asked; check the connection and ask again from here",
    "LIMIT_REACHED": "the archive has more than {:,} studies on this day; those after them were not read, raise `most`",
    "BAD_ANSWER": "an answer that is no DICOM data set; tell the archive's vendor",
}


def read_archive(address, *, site, start, end, level="study", calling_ae_title="WORKBOOK", pause=0.5, timeout=30, page=200, most=10_000, session=None):
    """Headers(instances, performed_steps, rejected, sources) of what an archive answers about the studies of `start` to `end`, both days included.

    `address` is `dicom://CALLED_AE@host:104` or the `http(s)://` root of its DICOMweb service. A row of instances stands for a study or a
    series, without sop_instance_uid; `n_instances` says how many images it has. `pause` and `timeout` are seconds, the pause is kept before
    every request; `page` answers are asked for at a time and at most `most` studies read of a day. Days without an answer are in `rejected`,
    after three in a row the archive is left alone. `session` is a requests.Session with the credentials of a DICOMweb service.
    """
    require_site(site)
    if level not in LEVELS:
        raise TableError(f"level: '{level}' is not one of {', '.join(LEVELS)}.{nearest(level, LEVELS)}")
    connect, name = _connection(address, calling_ae_title, timeout, page, pause, session)
    rows, rejected, sources, n_failed = [], [], [], 0
    days = _days(start, end)
    for number, day in enumerate(days):
        source = f"{name} {day:%Y%m%d}"
        try:
            found, refused, account = _read_day(source, connect, day, level, site.time_zone, pause, most)
            n_failed = 0
        except OSError as error:
            found, refused, n_failed = [], [reject(source, 0, 0, "NO_ANSWER", _REASONS["NO_ANSWER"].format(_why(error)))], n_failed + 1
            account = source_row(source, n_bytes=0, n_bytes_in_rows=0, n_bytes_rejected=0, n_bytes_framing=0, n_rows=0, n_rejected=1, sha256="", started=time.perf_counter())
        except KeyboardInterrupt as stop:
            stop.add_note(f"{number} of {len(days)} days were read; nothing is kept of them.")
            raise
        rows, rejected, sources = rows + found, rejected + refused, [*sources, account]
        if n_failed == GIVE_UP_AFTER and day != days[-1]:
            rejected.append(reject(f"{name} {days[number + 1]:%Y%m%d}", 0, 0, "NOT_ASKED", _REASONS["NOT_ASKED"].format(GIVE_UP_AFTER)))
            break
    rejected, sources = close_account(rejected, sources, unit="bytes")
    return Headers(conform(rows, INSTANCES), conform([], PERFORMED_STEPS), rejected, sources)


def _why(error):
    """What went wrong, without the address, which may hold credentials."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    return str(error) if isinstance(error, ConnectionError) else type(error).__name__


def _days(start, end):
    try:
        first, last = pd.Timestamp(start).date(), pd.Timestamp(end).date()
    except ValueError as error:
        raise TableError("start, end: days are needed, such as '2026-11-01'.") from error
    if last < first:
        raise TableError("start, end: the last day is before the first.")
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _connection(address, calling_ae_title, timeout, page, pause, session):
    """`(context manager, name without credentials)`; the manager gives `ask(level, keys, match)`, which yields `(n_bytes, Elements or None)` and raises OSError."""
    parts = urlsplit(address)
    if parts.scheme == "dicom" and parts.hostname and parts.username:
        place = parts.hostname, parts.port or DICOM_PORT, parts.username
        return (lambda: _c_find(place, calling_ae_title, timeout)), f"dicom://{parts.username}@{parts.hostname}:{place[1]}"
    if parts.scheme in ("http", "https") and parts.hostname:
        return (lambda: _qido(address, session, timeout, page, pause)), parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    raise TableError("address: write dicom://CALLED_AE@host:104 for C-FIND or https://host/dicom-web for QIDO-RS.")


def _import(module):
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise TableError(f"read_archive needs the package {module.partition('.')[0]}; it comes with pacs-helpers[archive].") from error


@contextmanager
def _c_find(place, calling_ae_title, timeout):
    (host, port, called), model = place, _import("pynetdicom.sop_class").StudyRootQueryRetrieveInformationModelFind
    ae, encode = _import("pynetdicom").AE(calling_ae_title), _import("pynetdicom.dsutils").encode
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    ae.add_requested_context(model)
    association = ae.associate(host, port, ae_title=called)
    if not association.is_established:
        raise ConnectionRefusedError("association rejected" if association.is_rejected else "no association")

    def ask(level, keys, match):
        query = _query(**{**dict.fromkeys(keys), **match, "QueryRetrieveLevel": level.upper()})
        if _REQUEST in keys:
            query.RequestAttributesSequence = [_query(AccessionNumber=None, RequestedProcedureID=None)]
        try:
            for status, found in association.send_c_find(query, model):
                if status.get("Status") in _PENDING:
                    data = encode(found, False, True) or b""
                    yield len(data), _elements(data) if data else None
                elif status.get("Status") != 0:
                    raise ConnectionAbortedError("C-FIND failed")
        except GeneratorExit:       # nobody waits for the answers still to come
            association.abort()
            raise

    try:
        yield ask
    finally:
        if association.is_established:
            association.release()


def _query(**attributes):
    query = Dataset()
    for keyword, value in attributes.items():
        setattr(query, keyword, value)
    return query


@contextmanager
def _qido(address, session, timeout, page, pause):
    client = _import("dicomweb_client").DICOMwebClient(address, session=session, timeout=timeout)
    client.set_http_retry_params(retry=False)

    def ask(level, keys, match):
        search = client.search_for_studies if level == "study" else partial(client.search_for_series, match.pop("StudyInstanceUID"))
        offset, before = 0, None
        while True:
            answers = search(fields=list(keys), search_filters=match, limit=page, offset=offset)
            if answers == before:       # a service that takes no offset gives the same page again
                return
            for answer in answers:
                data = json.dumps(answer).encode()
                yield len(data), next(read_objects(data))[2]
            if len(answers) < page:
                return
            offset, before = offset + len(answers), answers
            time.sleep(pause)

    yield ask


def _read_day(source, connect, day, level, zone, pause, most):
    """`(rows, rejected rows, source row)` of the studies of one day."""
    started, rows, rejected, at = time.perf_counter(), [], [], 0
    time.sleep(pause)
    with connect() as ask:
        answers = list(islice(ask("study", _STUDY, {"StudyDate": f"{day:%Y%m%d}"}), most + 1))
    if len(answers) > most:
        answers.pop()
        rejected.append(reject(source, 0, 0, "LIMIT_REACHED", _REASONS["LIMIT_REACHED"].format(most)))
    if level == "series" and answers:
        with connect() as ask:
            answers = [series for study in answers for series in _series_of(study, ask, pause)]
    for n_bytes, found in answers:
        table, row = answer_row(found, zone) if found else ("rejected", None)
        if table == "instances":
            rows.append({**row, "source_file": source, "source_offset": at})
        else:
            rejected.append(reject(source, at, n_bytes, "BAD_ANSWER", _REASONS["BAD_ANSWER"]))
        at += n_bytes
    n_bad = sum(r["n_bytes"] for r in rejected)
    return rows, rejected, source_row(source, n_bytes=at, n_bytes_in_rows=at - n_bad, n_bytes_rejected=n_bad, n_bytes_framing=0,
                                      n_rows=len(rows), n_rejected=len(rejected), sha256="", started=started)


def _series_of(study, ask, pause):
    """The answers about a study's series, each with what the archive said of the study; the study alone when it names none."""
    told = study[1]
    uid = told.values.get(_STUDY_UID, [b""])[0].decode("latin-1").strip(" \0") if told else ""
    time.sleep(pause)
    answers = list(ask("series", _SERIES, {"StudyInstanceUID": uid})) if uid else []
    return [(n, found and found._replace(values={**told.values, **found.values}, items={**told.items, **found.items}, codes=[*told.codes, *found.codes]))
            for n, found in answers] or [study]


def _elements(data):
    """The Elements of a C-FIND identifier in explicit little endian."""
    values, items, codes, reached = walk(lambda at, n: data[at:at + n], 0, len(data), implicit=False, big=False, wanted=WANTED.union(COUNTED), opened=OPENED)
    return Elements({}, values, items, codes, reached)
