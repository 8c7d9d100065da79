"""Rebuild data/samples, byte for byte, from one seed: `python data/make_samples.py [FOLDER]`.

The story. Lakeside Hospital (invented) has a main department, an emergency department and a clinic whose X-ray and ultrasound stand
behind a slow line. In November 2025 a reader is away in the second week and a backlog grows; Thanksgiving is quiet; clocks go back on the
2nd, with two exams in the repeated hour, and one ultrasound device does not follow for four days; the MR clock is seven minutes slow; the
report feed is silent for an hour on the 12th; the archive is down for two hours on the 18th. In between stands one of everything that
goes wrong with exams, listed in answer_key.csv: `code` and identifiers as a finding would carry them, `because_of` the code of the defect
it follows from, `covered` whether it is a finding of its own. All people, numbers and devices are invented.
"""

import csv
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sample_defects import plant  # noqa: E402
from sample_department import AS_OF, ZONE, Department  # noqa: E402
from sample_writers import (  # noqa: E402
    engine_log,
    framed,
    headers,
    identity_messages,
    order_messages,
    orthanc_log,
    packed,
    qrscp_log,
    raw,
    report_messages,
    transfers,
    xcr_log,
)

SEED = 2511
SITE = """# What differs between sites is written here, not in code. Only time_zone must be set.
name = "Lakeside Hospital (sample)"
time_zone = "America/Chicago"

[accession]
hl7_field = "auto"              # measured: the HL7 field whose values DICOM knows best
strip_prefixes = ["CL-"]        # the clinic's RIS writes CL- before the number, its devices do not
ignore_leading_zeros = true

[ae_titles]
CT1_DEMO = { name = "CT 1", place = "Main", modality = "CT", owner = "CT lead" }
CT2_DEMO = { name = "CT 2", place = "Emergency", modality = "CT", owner = "CT lead" }
MR1_DEMO = { name = "MR 1", place = "Main", modality = "MR", owner = "MR lead" }
US1_DEMO = { name = "Ultrasound 1", place = "Main", modality = "US", owner = "US lead" }
US2_DEMO = { name = "Ultrasound 2", place = "Clinic", modality = "US", owner = "US lead" }
CR1_DEMO = { name = "X-ray 1", place = "Main", modality = "CR", owner = "X-ray lead" }
CR2_DEMO = { name = "X-ray 2", place = "Emergency", modality = "CR", owner = "X-ray lead" }
CR3_DEMO = { name = "X-ray 3", place = "Clinic", modality = "CR", owner = "X-ray lead" }
MG1_DEMO = { name = "Mammography", place = "Clinic", modality = "MG", owner = "Breast unit" }
NM1_DEMO = { name = "Gamma camera", place = "Main", modality = "NM", owner = "NM lead" }
ARCHIVE_DEMO = { name = "Archive", place = "Data centre", owner = "PACS team" }
WS_DEMO = { name = "Reading room", place = "Main", owner = "PACS team" }
EDVIEW_DEMO = { name = "ED viewer", place = "Emergency", owner = "PACS team" }

[statuses]                      # this RIS's words -> HL7 table 0123 or 0038
"Wet Read" = "P"
"Final" = "F"
"Addended" = "C"
"Arrived" = "ARRIVED"

[targets]
"exam_ended>final" = { minutes = 1440, share = 0.95 }
"exam_ended>final/STAT" = { minutes = 60, share = 0.90 }

[working_hours]
weekdays = "08:00-18:00"
holidays = "US"
"""


def make(folder):
    """Write the sample department below `folder`, which is emptied first."""
    folder = Path(folder)
    for name in ("hl7", "dicom", "network"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    department = Department(SEED)
    planter = plant(department)
    (folder / "site.toml").write_text(SITE, encoding="utf-8", newline="\n")
    studies = [(e, s) for e in department.exams for s in e.studies] + [(None, s) for s in planter.extra_studies]
    sop_uids = {s.uid: [department.uid() for _ in range(s.n + bool(s.late_at))] for _, s in studies}
    _clash(department, sop_uids)
    _write_dicom(folder / "dicom", studies, sop_uids, department)
    controls = _write_hl7(folder / "hl7", department, planter)
    _write_network(folder / "network", [s for _, s in studies if s.institution.startswith("LAKESIDE")], sop_uids)
    _write_key(folder / "answer_key.csv", planter.key, controls)


def _clash(department, sop_uids):
    """A disk cloned in the field: two studies whose first SOP Instance UID is another patient's (U11)."""
    honest = [e.studies[0] for e in department.exams if e.studies and not e.defect]
    for victim, other in zip([e.studies[0] for e in department.exams if e.defect == "U11"], honest):
        sop_uids[victim.uid][0] = sop_uids[other.uid][0]


def _write_dicom(folder, studies, sop_uids, department):
    counts = {}
    for exam, study in sorted(studies, key=lambda x: (x[1].start, x[1].uid)):
        for ds in headers(exam, study, sop_uids[study.uid]):
            ae = study.station.ae
            counts[ae] = counts.get(ae, 0) + 1
            (folder / ae).mkdir(exist_ok=True)
            ds.save_as(folder / ae / (f"{counts[ae]:04d}" if ae == "CR2_DEMO" else f"{counts[ae]:04d}.dcm"), enforce_file_format=True)
    (folder / "README.txt").write_text("Headers of November 2025, copied without pixel data. This file is no image and must be rejected.\n", encoding="utf-8", newline="\n")
    (folder / "CR1_DEMO" / "empty.dcm").write_bytes(b"")


def _write_hl7(folder, department, planter):
    renamed = {p.id: (at, p) for trigger, at, p, _ in planter.adt if trigger == "A08"}
    merged = {p.id: (at, old) for trigger, at, p, old in planter.adt if trigger in ("A40", "A47")}

    def patient_at(exam, at):
        if exam.patient.id in merged and at < merged[exam.patient.id][0]:
            return exam.studies[0].patient
        change = renamed.get(exam.patient.id)
        return change[1] if change and at > change[0] else exam.patient

    orders = sorted((m for e in department.exams for m in order_messages(e, patient_at) if m[0] < AS_OF), key=lambda m: m[0])
    half = len(orders) // 2
    (folder / "ris_orders_1.hl7").write_bytes(raw(orders[:half]))
    (folder / "ris_orders_2.hl7.gz").write_bytes(packed(raw(orders[half:])))
    identities = sorted((m for m in identity_messages(department.exams, planter.adt, patient_at) if m[0] < AS_OF), key=lambda m: m[0])
    (folder / "adt_capture.mllp").write_bytes(framed(identities))
    reports = [m for e in department.exams for m in report_messages(e, e.reports, patient_at)]
    reports += [m for exam, report, procedure, modality in planter.extra_reports for m in report_messages(exam, [report], patient_at, procedure, modality)]
    reports = sorted((m for m in reports if m[0] < AS_OF), key=lambda m: m[0])
    for week in range(5):
        mine = [m for m in reports if min(4, (m[0].astimezone(ZONE).day - 1) // 7) == week]
        (folder / f"oru_engine_week{week + 1}.log").write_bytes(engine_log(mine, ("repr", "listener")[week % 2]))
    return {e.accession: " ".join(f"V{e.placer[1:]}{n}" for n in range(len(e.reports))) for e in department.exams}


def _write_network(folder, studies, sop_uids):
    moves = list(transfers(studies))
    lines = orthanc_log(moves)
    cut = [i for i, (at, _) in enumerate(lines) if at.astimezone(ZONE).day >= 16][0]
    (folder / "archive_orthanc_1.log.gz").write_bytes(packed("".join(t for _, t in lines[:cut]).encode()))
    (folder / "archive_orthanc_2.log.gz").write_bytes(packed("".join(t for _, t in lines[cut:]).encode()))
    week = [m for m in moves if 10 <= m[1].astimezone(ZONE).day < 13 and m[0].modality in ("CT", "MR")]
    (folder / "workstation_dcmqrscp.log").write_bytes(qrscp_log(week, sop_uids))
    (folder / "edview_storescp_xcr.log").write_bytes(xcr_log([m for m in moves if m[0].station.section == "ED_DEMO"], sop_uids))


def _write_key(path, key, controls):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(key[0]), lineterminator="\n")
        writer.writeheader()
        for row in sorted(key, key=lambda r: (r["code"], r["accession_number"], r["study_instance_uid"])):
            writer.writerow({**row, "message_control_id": controls.get(row["message_control_id"], row["message_control_id"])})


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent / "samples")
