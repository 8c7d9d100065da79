"""RIS exports, CSV or Excel, by a map of their columns -> one row per exam with the milestones that the RIS knows."""

import time
from typing import NamedTuple

import pandas as pd

from ..site import RIS_FIELDS, require_site
from ..tables import EXAMS, MILESTONES, conform
from .columns import Form, export_source, propose, read_columns, read_exports
from .transfers import TRANSFERS

RIS = Form("ris", "an exam", {      # what headers call a field
    "accession_number": r"acc(?:ession)?(?:[ _]?(?:number|no|nr|num|#))?|exam (?:number|id)",
    "patient_id": r"mrn|(?:patient|pat|pt)[ _]?(?:id|number|no|nr)|medical record (?:number|no)", "patient_name": r"(?:patient|pat|pt)?[ _]?name",
    "patient_birth_date": r"dob|birth[ _]?date|date of birth", "patient_sex": r"sex|gender", "modality": r"modality|mod",
    "procedure_code": r"(?:procedure|exam|proc)[ _]?code|cpt", "procedure_name": r"(?:procedure|exam|study|proc)(?:[ _]?(?:name|description|desc))?",
    "patient_class": r"(?:patient|pt)[ _]?(?:class|type|status)|in.?/?out.?patient", "priority": r"priority|urgency|stat",
    "section": r"section|department|dept|location|site",
    "placer_order_number": r"(?:placer[ _]?)?order(?:[ _]?(?:number|no|id))?|placer(?:[ _]?(?:number|no))?",
    "filler_order_number": r"filler(?:[ _]?(?:order[ _]?)?(?:number|no))?", "study_instance_uid": r"study[ _]?(?:instance[ _]?)?uid",
    "result_status": r"(?:report|result|exam)?[ _]?status", "principal_interpreter": r"radiologist|reading (?:physician|doctor)|reader|interpret\w+",
    "ordered": r"order(?:ed|ing)?(?: created| entered)?", "scheduled": r"sched(?:uled|ule)?|appointment|appt",
    "arrived": r"arriv(?:ed|al)|check(?:ed)?[ -]?in", "exam_started": r"(?:exam )?(?:begin|began|start(?:ed)?)(?: exam)?",
    "exam_ended": r"(?:exam )?(?:end(?:ed)?|complet(?:e|ed|ion)|finish(?:ed)?)(?: exam)?",
    "images_available": r"images? (?:available|received)|availability", "opened": r"opened|read(?:ing)? start(?:ed)?",
    "dictated": r"dictat(?:ed|ion)", "preliminary": r"prelim(?:inary)?", "final": r"final(?:i[sz]ed)?|sign(?:ed)?|verif(?:ied|y)|approved",
    "addended": r"addend(?:ed|um)", "delivered": r"deliver(?:ed|y)|sent", "cancelled": r"cancel(?:l?ed)?",
}, fields=RIS_FIELDS, times=frozenset(MILESTONES), span=("exam_started", "exam_ended"),
    ids=frozenset(("accession_number", "patient_id", "placer_order_number", "filler_order_number", "study_instance_uid")),
    distinct="accession_number", needed=("accession_number", "study_instance_uid"))


class RisExport(NamedTuple):
    exams: pd.DataFrame
    rejected: pd.DataFrame
    sources: pd.DataFrame


def read_ris_export(path, *, site, columns=None, executor=None):
    """RisExport(exams, rejected, sources) of the CSV and Excel exports at `path`: a file, a folder or a list.

    `columns` is {field: header}, else that of [ris] in site.toml; propose_columns makes one. Fields are those of EXAMS, milestones without `_at`; a header
    that stands twice is named `MRN#1` and `MRN#2`. Identifiers are text; what Excel has rounded is kept in `raw` only, and so is a date of which day and
    month cannot be told apart until `date_order` ("day first" or "month first") says so. A line whose fields do not fit the header is rejected, never shifted.
    """
    require_site(site)
    parts, rejected, sources = read_exports(path, site, site.ris if columns is None else columns, RIS, read_file, executor)
    return RisExport(conform(pd.concat([table for table, *_ in parts], ignore_index=True) if parts else [], EXAMS), rejected, sources)


def read_file(unit):
    """`(EXAMS table, rejected rows, source row)` of `(file, site, columns)`."""
    file, site, wanted = unit
    started = time.perf_counter()
    table, found = read_columns(file, wanted, RIS, site.time_zone)
    return conform(table, EXAMS), found.rejected, export_source(file, found, started)




def propose_columns(path, *, write_to=None):
    """DataFrame(field, header, share_filled, evidence) of which column of a RIS export or list of transfers is what, to be checked by a person.

    A field goes to the column whose header names it best, in English, and whose values look like it, a time to two where date and time of day stand apart; headers
    without a field come last. `write_to` is a site.toml that gets the map as its table [ris] or [transfers]; TableError when it has one.
    """
    return propose(path, (RIS, TRANSFERS), write_to=write_to)
