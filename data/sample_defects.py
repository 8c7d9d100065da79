"""Every defect of the taxonomy, planted in whole exams, and the answer key that says so. Written from what was done, not from any detector."""

from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta

from sample_department import AS_OF, BY_AE, NOT_SET_BACK, PROCEDURES, UTC, ZONE, Patient, Report, Study

TARGETS = {"STAT": 60, "ROUTINE": 1440}
FOLDED = {("U01", "U14"), ("U02", "U18"), ("U04", "U07")}       # what follows from a defect and is no finding of its own
SPAN = (datetime(2025, 11, 3, tzinfo=ZONE), datetime(2025, 11, 26, tzinfo=ZONE))


class Planter:
    """Takes one untouched exam after another, damages it, and writes the key."""

    def __init__(self, department):
        self.d, self.random, self.key = department, department.random, []
        self.adt, self.extra_reports, self.extra_studies, self.noted = [], [], [], set()

    def take(self, *, ae=None, section=None, body=None):
        whole = [e for e in self.d.exams if not e.defect and e.reports and e.reports[-1].status != "P" and SPAN[0] <= e.start <= SPAN[1]]
        fits = [e for e in whole if ae in (None, e.station.ae) and section in (None, e.station.section) and body in (None, e.procedure[2])
                and e.start.astimezone(ZONE).hour >= 6]
        exam = self.random.choice(fits)
        exam.defect = "taken"
        return exam

    def note(self, code, exam=None, *, accession="", studies=(), report="", because="", note=""):
        accession = accession or (exam.his if exam else "")
        uids = " ".join(sorted(s.uid for s in studies))
        self.key.append({"code": code, "accession_number": accession, "study_instance_uid": uids, "message_control_id": report, "because_of": because,
                         "covered": (code, because) not in FOLDED, "note": note})

    # U01 to U04

    def no_order(self):
        for ae in ("US1_DEMO", "CR1_DEMO", "CT2_DEMO", "CR2_DEMO"):
            exam = self.take(ae=ae)
            exam.has_order, exam.reports, exam.defect = False, [], "U01"
            study = exam.studies[0]
            study.accession, study.uid = ("" if ae != "CT2_DEMO" else "MANUAL1"), self.d.uid()
            self.note("U01", accession=study.accession, studies=[study], note="typed by hand, worklist down")

    def no_report(self):
        for owner in ("interface team", "radiologist", "technologist", "radiologist"):
            for section in ("MAIN_DEMO", "CLINIC_DEMO", "MAIN_DEMO"):
                exam = self.take(section=section)
                if owner == "interface team":
                    exam.reports = [replace(exam.reports[0], status="F", answer="AE")]
                    self.note("U18", exam, note="final report refused with AE, never sent again")
                elif owner == "technologist":
                    exam.reports, exam.order_status = [], "IP"
                elif sum(k["note"].startswith("prelim") for k in self.key) < 3:
                    exam.reports = [replace(exam.reports[0], status="P")]
                else:
                    exam.reports = []
                exam.defect = "U02"
                kind = "prelim only, never signed" if exam.reports and exam.reports[0].status == "P" else f"no final, {owner}"
                self.note("U02", exam, studies=exam.studies, because="U18" if owner == "interface team" else "", note=kind)
                self.noted.add(exam.accession)

    def no_images(self):
        for section in ("MAIN_DEMO", "ED_DEMO", "CLINIC_DEMO"):
            exam = self.take(section=section)
            exam.studies, exam.defect = [], "U03"
            self.note("U03", exam, note="images never left the modality")
        for n, ae in enumerate(("MR1_DEMO", "US1_DEMO", "CR1_DEMO")):
            exam = self.take(ae=ae)
            other = {"MR1_DEMO": "CR", "US1_DEMO": "MR", "CR1_DEMO": "US"}[ae]
            number = f"R8{n}77{n}5{n}1"
            report = Report("F", exam.reports[-1].at + timedelta(days=2, minutes=7), number, exam.patient, key=f"X{n}")
            self.extra_reports.append((exam, report, PROCEDURES[other][0], other))
            self.note("U03", accession=number, note="dictated on a number that no order has")
        for n, ae in enumerate(("MR1_DEMO", "MG1_DEMO", "NM1_DEMO", "CT1_DEMO")):
            exam = self.take(ae=ae)
            exam.studies, exam.reports, exam.defect = [], [], "U04"
            exam.order_status = "CM" if n == 3 else "SC"
            self.note("U04", exam, note="no show" if n < 3 else "performed, nothing sent")

    # U05

    def identity(self):
        typos = (lambda i: i[:-2] + i[-1] + i[-2], lambda i: i[:-1] + str((int(i[-1]) + 3) % 10), lambda i: i[:5] + i[6:])
        for wrong, ae in zip(typos, ("US2_DEMO", "CT2_DEMO", "CR1_DEMO")):
            exam = self.take(ae=ae)
            while len(set(exam.patient.id[-2:])) < 2:
                exam.defect = ""
                exam = self.take(ae=ae)
            self._relabel(exam, "U05a", replace(exam.patient, id=wrong(exam.patient.id)), "typed ID", by_hand=True)
        for spell, ae in ((lambda i: i[4:], "NM1_DEMO"), (lambda i: f"TEST-{i[4:]}", "CR3_DEMO"), (lambda i: f"TEST00{i[4:]}", "US1_DEMO")):
            exam = self.take(ae=ae)
            self._relabel(exam, "U05b", replace(exam.patient, id=spell(exam.patient.id)), "the same number written differently")
        for n, ae in enumerate(("CT2_DEMO", "CR2_DEMO", "CT1_DEMO")):
            exam = self.take(ae=ae)
            old = replace(exam.patient, id=f"TRAUMA11{n}7", name="DOE^JOHN") if n < 2 else replace(exam.patient, id="TEST990071")
            trigger = "A40" if n < 2 else "A47"
            self._relabel(exam, "U05c", old, f"merged by {trigger}, the archive has the old ID")
            final = next(t.at for t in exam.reports if t.status == "F")
            self.adt.append((trigger, (exam.end + (final - exam.end) / 2).replace(microsecond=0), exam.patient, old.id))
        for n, ae in enumerate(("CR2_DEMO", "CT2_DEMO", "CR2_DEMO")):
            exam = self.take(ae=ae)
            self._relabel(exam, "U05d", Patient(f"UNK_0{n}31", "DOE^JANE" if n else "UNKNOWN^MALE", "", exam.patient.sex), "temporary identity, not reconciled", by_hand=True)

    def _relabel(self, exam, code, person, note, *, by_hand=False):
        exam.studies[0].patient, exam.defect = person, code
        if by_hand:                         # without the worklist the device makes its own Study UID
            exam.studies[0].uid = self.d.uid()
        self.note(code, exam, studies=exam.studies, note=note)

    def wrong_patient(self):
        exam = self.take(ae="CT1_DEMO", body="CHEST")
        exam.studies[0].body = "KNEE"
        self._contradict(exam, "body part of another exam")
        exam = self.take(ae="MR1_DEMO", body="KNEE")
        exam.studies[0].side = "R" if exam.procedure[3] == "L" else "L"
        self._contradict(exam, "other side")
        exam = self.take(ae="CR1_DEMO", body="CHEST")
        exam.studies[0].body = "ANKLE"
        self._contradict(exam, "body part of another exam")
        for ae in ("US1_DEMO", "CR2_DEMO", "MG1_DEMO"):
            exam, other = self.take(ae=ae), self._bystander()
            self._relabel(exam, "U05e", copy(other), "images under another known patient", by_hand=True)
        for ae in ("CR1_DEMO", "US2_DEMO", "CT2_DEMO"):
            exam = self.take(ae=ae)
            twin = Patient(exam.patient.id[:-2] + f"{(int(exam.patient.id[-2:]) + 9) % 100:02d}", exam.patient.name + "A", exam.patient.born, exam.patient.sex)
            self.adt.append(("A04", exam.ordered - timedelta(days=1), twin, ""))
            for report in exam.reports:
                report.patient = twin
            exam.defect = "U05e"
            self.note("U05e", exam, studies=exam.studies, report=exam.accession, note="dictated under the look-alike patient")

    def _contradict(self, exam, note):
        exam.defect = "U05e"
        self.note("U05e", exam, studies=exam.studies, note=note)

    def _bystander(self):
        exam = self.take(section="MAIN_DEMO")
        exam.defect = "bystander"
        return exam.patient

    # U06 to U10

    def accessions(self):
        for ae in ("CT1_DEMO", "MR1_DEMO", "CR2_DEMO"):
            exam = self.take(ae=ae)
            exam.studies[0].accession, exam.defect = "", "U06"
            self.note("U06", exam, studies=exam.studies, note="images without accession number, linked by Study UID")
        for ae in ("CT2_DEMO", "NM1_DEMO", "US1_DEMO"):
            exam = self.take(ae=ae)
            exam.studies[0].accession, exam.defect = self._typo(exam.accession), "U06"
            self.note("U06", exam, studies=exam.studies, note="accession number typed wrong at the modality, linked by Study UID")
        for ae in ("CR1_DEMO", "MR1_DEMO", "CT1_DEMO"):
            exam = self.take(ae=ae)
            number = self._typo(exam.accession)
            for report in exam.reports:
                report.accession = number
            exam.defect = "U06"
            self.note("U06", accession=number, studies=exam.studies, report=exam.accession, note=f"report typed under a number that does not exist; belongs to {exam.accession}")
        for ae in ("CR3_DEMO", "US2_DEMO", "CR3_DEMO"):
            victim, exam = self.take(ae=ae), self.take(ae=ae)
            exam.studies[0].accession, exam.studies[0].uid = victim.studies[0].accession, self.d.uid()
            victim.defect = exam.defect = "U06"
            self.note("U06", accession=victim.accession, studies=[victim.studies[0], exam.studies[0]], note="one accession number on two patients")
            self.note("U06", exam, studies=exam.studies, because="U06", note="the exam whose number was typed wrong")

    def _typo(self, accession):
        taken = {e.accession for e in self.d.exams}
        for i in range(len(accession) - 2, 3, -1):
            swapped = accession[:i] + accession[i + 1] + accession[i] + accession[i + 2:]
            if swapped not in taken and swapped != accession:
                return swapped
        return accession[:-1] + "X"

    def splits(self):
        for parts in (("HEAD", "ABDOMEN", "PELVIS"), ("CHEST", "ABDOMEN"), ("ABDOMEN", "PELVIS")):
            exam = self.take(ae="CT1_DEMO")
            exam.defect, frame = "U08", exam.studies[0].frame
            exam.procedure = ("CT40", f"CT {parts[0]}", parts[0], "")
            group, at = [], exam.start
            for n, part in enumerate(parts):
                piece = self._sister(exam, at, ("CT40", f"CT {part}", part, "")) if n else exam
                first = piece.studies[0]
                first.body, first.start, first.end, first.frame, first.description = part, at, at + timedelta(minutes=3), frame if len(parts) == 3 or part != "PELVIS" else self.d.uid(), f"CT {part}"
                at += timedelta(minutes=5)
                group.append(piece)
            exam.end = exam.studies[0].end
            for report in exam.reports if len(parts) == 3 else []:
                report.also = tuple(group[1:])
            why = "shared frame of reference" if frame == group[-1].studies[0].frame else "adjoining regions"
            self.note("U08", exam, studies=[s for e in group for s in e.studies], note=f"one visit in {len(parts)} studies; {why}")
            self.noted |= {e.accession for e in group}

    def _sister(self, exam, at, procedure, start=None):
        other = self.d.exam(exam.station, at, exam.patient, procedure)
        other.ordered, other.arrived, other.scheduled, other.reports, other.defect = exam.ordered, exam.arrived, exam.scheduled, [], "part"
        self.d.exams.append(other)
        return other

    def group_cases(self):
        for ae in ("CT1_DEMO", "CT2_DEMO", "MR1_DEMO"):
            exam = self.take(ae=ae)
            other = self._sister(exam, exam.start, next(p for p in PROCEDURES[exam.station.modality] if p != exam.procedure))
            study = exam.studies[0]
            study.accession, study.requested = "", (exam.accession, other.accession)
            study.body, study.description = exam.procedure[2], f"{exam.procedure[1]} + {other.procedure[1]}"
            other.studies, other.end, other.study_uid = [], exam.end, study.uid
            other.reports = [replace(exam.reports[-1], status="F", accession=other.his, at=exam.reports[-1].at + timedelta(minutes=4))]
            exam.defect = "U09"
            self.note("U09", exam, studies=[study], note="one study for two orders: not an error")
            self.noted |= {exam.accession, other.accession}

    def restarts(self):
        for ae in ("MR1_DEMO", "CT1_DEMO", "NM1_DEMO"):
            exam = self.take(ae=ae)
            first = exam.studies[0]
            again = replace(first, uid=self.d.uid(), start=first.end + timedelta(minutes=4), end=first.end + timedelta(minutes=9))
            exam.studies.append(again)
            exam.end, exam.defect = again.end, "U10"
            exam.reports = [replace(t, at=max(t.at, again.end + timedelta(minutes=20))) for t in exam.reports]
            self.note("U10", exam, studies=exam.studies, note="scanner restarted, new Study UID")

    # U07 and U11 to U18, with their consequences

    def others(self):
        for _ in range(2):
            exam = self.take(ae="CT1_DEMO", body="HEAD")
            other = self._sister(exam, exam.start, PROCEDURES["CT"][0])
            other.studies, other.order_status, exam.studies[0].body = [], "SC", "CHEST"
            exam.defect = "U07"
            self.note("U07", exam, studies=exam.studies, note="picked the patient's other order on the worklist")
            self.note("U04", other, because="U07", note="the exam that was done under the other number")
        for ae in ("US1_DEMO", "CR1_DEMO"):
            self.note("U11", exam := self.take(ae=ae), studies=exam.studies, note="first SOP Instance UID equals another patient's")
            exam.defect = "U11"
        for exam in (self.take(ae="MG1_DEMO"), self.take(ae="CT1_DEMO")):
            person = exam.patient
            twin = Patient(f"TEST98{person.id[-4:]}", person.name[:-1], person.born, person.sex)
            self.adt.append(("A04", exam.ordered - timedelta(hours=5), twin, ""))
            self.note("U12", exam, note="registered twice")
            exam.defect = "U12"
        for ae in ("MR1_DEMO", "CT1_DEMO"):
            exam = self.take(ae=ae)
            exam.studies[0].late_at, exam.defect = next(t.at for t in exam.reports if t.status == "F") + timedelta(hours=3), "U13"
            self.note("U13", exam, studies=exam.studies, note="an instance made after the final report")
        self._foreign_and_phantoms()
        for ae in ("CR1_DEMO", "US1_DEMO"):
            exam = self.take(ae=ae)
            exam.reports = [replace(exam.reports[-1], status="F", at=exam.studies[0].start - timedelta(minutes=11))]
            exam.defect = "U16"
            self.note("U16", exam, studies=exam.studies, note="final before the exam began")
        for ae in ("CR3_DEMO", "CT1_DEMO"):
            exam = self.take(ae=ae)
            self._relabel(exam, "U17", replace(exam.patient, born="19000101", sex="O"), "same ID, other birth date and sex")

    def _foreign_and_phantoms(self):
        station = BY_AE["CT1_DEMO"]
        for n, at in enumerate((datetime(2025, 11, 12, 14, 5, tzinfo=ZONE), datetime(2025, 6, 3, 10, 0, tzinfo=ZONE))):
            at = at.astimezone(UTC)
            person = Patient(f"X99{n}12", "CURLEW^SAGE", "19610504", "F")
            study = Study(self.d.uid(), f"EXT{n}", person, station, "CHEST", "", at, at + timedelta(minutes=6), modality="CT", institution="ELSEWHERE DEMO CLINIC", n=1)
            self.extra_studies.append(study)
            self.note("U14", accession=study.accession, studies=[study], note="imported from a disk")
            if n == 0:
                self.note("U01", accession=study.accession, studies=[study], because="U14", note="imported without an order")
        for n, ae in enumerate(("CT1_DEMO", "MR1_DEMO", "NM1_DEMO")):
            at = datetime(2025, 11, 3 + 7 * n, 6, 20, tzinfo=ZONE).astimezone(UTC)
            study = Study(self.d.uid(), "", Patient(f"QC_{ae[:3]}", "PHANTOM^DAILY", "", "O"), BY_AE[ae], "PHANTOM", "", at, at + timedelta(minutes=4), modality=BY_AE[ae].modality, n=1)
            self.extra_studies.append(study)
            self.note("U15", studies=[study], note="daily quality control")

    # What only looks wrong

    def decoys(self):
        for ae in ("CT1_DEMO", "CT2_DEMO", "CR1_DEMO"):
            exam = self.take(ae=ae)
            regions = ("CHEST", "ABDOMEN") if ae != "CR1_DEMO" else ("WRIST", "ANKLE")
            second = self.d.exam(exam.station, exam.end + timedelta(minutes=9), exam.patient, next(p for p in PROCEDURES[exam.station.modality] if p[2] == regions[1]))
            exam.procedure = next(p for p in PROCEDURES[exam.station.modality] if p[2] == regions[0])
            exam.studies[0].body, exam.studies[0].side, exam.studies[0].description = exam.procedure[2], exam.procedure[3], exam.procedure[1]
            second.defect = exam.defect = "decoy: two exams in a row"
            self.d.exams.append(second)
        for n in range(6):
            exam = self.take(section=("MAIN_DEMO", "CLINIC_DEMO")[n % 2])
            exam.studies, exam.reports, exam.cancelled, exam.order_status, exam.defect = [], [], True, "SC", "decoy: cancelled"
        for _ in range(5):
            exam = self.take(section="CLINIC_DEMO")
            exam.rescheduled, exam.defect = True, "decoy: rescheduled"
        for _ in range(4):
            exam = self.take(section="MAIN_DEMO")
            self.adt.append(("A08", exam.end + timedelta(days=1), replace(exam.patient, name=f"{exam.patient.name.split('^')[0]}-OAKLEY^{exam.patient.name.split('^')[1]}"), ""))
            exam.defect = "decoy: married"
        for _ in range(8):
            exam = self.take(section="MAIN_DEMO")
            exam.reports[-1].resent, exam.defect = True, "decoy: report resent"
        for n in range(12):
            station, placed = BY_AE[("US2_DEMO", "MR1_DEMO", "MG1_DEMO", "NM1_DEMO")[n % 4]], datetime(2025, 11, 24 + n % 5, 9 + n % 7, 17, tzinfo=ZONE)
            exam = self.d.exam(station, datetime(2025, 12, 1 + n // 3, 9 + n % 6, 30, tzinfo=ZONE))
            exam.ordered, exam.studies, exam.reports, exam.order_status, exam.defect = placed.astimezone(UTC), [], [], "SC", "decoy: scheduled for December"
            self.d.exams.append(exam)

    def clock_not_set_back(self):
        exams = sorted((e for e in self.d.exams if e.station.ae == "US2_DEMO" and e.has_order and e.studies and NOT_SET_BACK[0] <= e.start < NOT_SET_BACK[1]), key=lambda e: e.start)
        self.note("U16", accession=exams[0].studies[0].accession, studies=[s for e in exams for s in e.studies], note="its clock was not set back with the others, one hour ahead for four days")

    def overdue(self):
        """Honest exams still unread at the month's end are U02 when their target has passed."""
        for exam in self.d.exams:
            if exam.accession in self.noted or not exam.studies or not exam.has_order or exam.cancelled or any(t.status in "FC" for t in exam.reports):
                continue
            due = exam.end + timedelta(minutes=TARGETS[exam.priority])
            assert abs((due - AS_OF).total_seconds()) > 600, "an exam too near its deadline: choose another seed"
            if due < AS_OF:
                self.note("U02", exam, studies=exam.studies, because="backlog", note="unread at the month's end")


def plant(department):
    """The Planter after its work: `key`, `adt`, `extra_reports`, `extra_studies`; the department's exams are damaged."""
    planter = Planter(department)
    for step in (planter.no_order, planter.no_report, planter.no_images, planter.identity, planter.wrong_patient, planter.accessions, planter.splits, planter.group_cases,
                 planter.restarts, planter.others, planter.decoys, planter.overdue, planter.clock_not_set_back):
        step()
    return planter
