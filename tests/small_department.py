"""A department small enough to work out by hand: one patient, one exam, unless a test says otherwise."""

import pandas as pd

from pacs_helpers.department import Department
from pacs_helpers.site import Site
from pacs_helpers.tables import EVENTS, ORDERS, PATIENTS, REPORTS, SERIES, STUDIES, TRACE, conform

SITE = Site(time_zone="UTC")
NOW = pd.Timestamp("2025-11-20T12:00Z")
PERSON = {"patient_id": "TEST100231", "patient_name": "ASH^ROWAN", "patient_birth_date": "19480312", "patient_sex": "F"}
OTHER = {"patient_id": "TEST200777", "patient_name": "BIRCH^KIM", "patient_birth_date": "19710923", "patient_sex": "M"}


def order(accession="R1001", **more):
    return {**PERSON, "accession_number": accession, "modality": "CT", "procedure_name": "CT CHEST", "order_status": "CM", "is_cancelled": False,
            "placer_order_number": f"P{accession}", "message_control_id": f"O{accession}",
            "ordered_at": "2025-11-10T08:00Z", "scheduled_at": "2025-11-10T09:00Z", **more}


def study(accession="R1001", uid="2.25.1", **more):
    return {**PERSON, "study_instance_uid": uid, "accession_number": accession, "modality": "CT", "body_part_examined": "CHEST", "station_name": "CT1_DEMO",
            "study_at": "2025-11-10T09:00Z", "started_at": "2025-11-10T09:00Z", "ended_at": "2025-11-10T09:10Z", "n_instances": 3, **more}


def report(accession="R1001", **more):
    return {**PERSON, "accession_number": accession, "modality": "CT", "procedure_name": "CT CHEST", "result_status": "F", "is_duplicate": False,
            "placer_order_number": f"P{accession}", "message_control_id": f"V{accession}", "acknowledgment_code": "AA", "observed_at": "2025-11-10T09:00Z",
            "status_changed_at": "2025-11-10T11:00Z", "message_at": "2025-11-10T11:00Z", **more}


def merge(old, new, at="2025-11-12T08:00Z", **more):
    return {**PERSON, "patient_id": new, "prior_patient_id": old, "trigger_event": "A40", "at": at, **more}


def person(**more):
    return {**PERSON, "trigger_event": "A04", "at": "2025-11-01T08:00Z", **more}


def department(*, orders=(), studies=(), reports=(), patients=(), events=(), trace=(), series=(), reviewed=()):
    return Department(conform(list(orders), ORDERS), conform(list(studies), STUDIES), conform(list(reports), REPORTS), conform(list(patients), PATIENTS),
                      conform(list(events), EVENTS), conform(list(trace), TRACE), pd.DataFrame(), conform(list(series), SERIES), tuple(reviewed))
