"""What happens in the invented department in November 2025: patients, exams, reports. No defects yet; all times are true."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("America/Chicago")
UTC = timezone.utc
FIRST, LAST = datetime(2025, 11, 1, tzinfo=ZONE), datetime(2025, 12, 1, tzinfo=ZONE)
AS_OF = LAST.astimezone(UTC)
NOT_SET_BACK = (datetime(2025, 11, 2, 2, tzinfo=ZONE), datetime(2025, 11, 6, 8, tzinfo=ZONE))     # when the clock of US2_DEMO went on with summer time

# Invented people only: trees for families, stones and birds for given names.
FAMILIES = ("ASH BIRCH CEDAR ELM FIR HAZEL HOLLY IVY JUNIPER LARCH LINDEN MAPLE MYRTLE OAK OLIVE PINE POPLAR QUINCE ROWAN SEQUOIA SPRUCE SUMAC SYCAMORE TAMARACK "
            "TEAK WALNUT WILLOW YEW ALDER ASPEN BEECH CYPRESS DOGWOOD EBONY HAWTHORN HICKORY LAUREL MAGNOLIA MULBERRY REDBUD").split()
GIVEN = ("AGATE AMBER BERYL CORAL FINCH GARNET HERON JADE JASPER LARK MARTIN OPAL PEARL QUARTZ RAVEN ROBIN RUBY SLATE TOPAZ WREN ONYX SWIFT FLINT KESTREL "
         "CRANE IBIS LINNET MERLE PLOVER SORREL").split()
READERS = ("7001&HARBOR&ANN", "7002&MEADOW&LEE", "7003&VALLEY&SAM", "7004&RIDGE&KIT")
TECHNOLOGISTS = ("CREEK^PAT", "DALE^ROBIN", "GROVE^CHRIS", "BROOK^TERRY")


@dataclass(frozen=True)
class Station:
    ae: str
    modality: str
    section: str
    maker: str
    model: str
    ip: str
    mbit: float
    per_day: float          # exams on a working day
    weekend: float          # exams on a Saturday or Sunday
    hours: tuple            # local hours in which exams begin
    minutes: float          # typical exam length
    clock_error: int = 0    # seconds the device's clock is ahead


STATIONS = (
    Station("CT1_DEMO", "CT", "MAIN_DEMO", "NORTHLIGHT", "NL-64", "10.20.0.11", 1000, 3.6, 1.2, (7, 18), 12),
    Station("CT2_DEMO", "CT", "ED_DEMO", "NORTHLIGHT", "NL-16", "10.20.0.12", 1000, 3.0, 3.4, (0, 24), 10, 3),
    Station("MR1_DEMO", "MR", "MAIN_DEMO", "EASTFIELD", "EF-15T", "10.20.0.13", 100, 3.0, 0.6, (7, 19), 34, -420),
    Station("US1_DEMO", "US", "MAIN_DEMO", "SOUTHBANK", "SB-9", "10.20.0.14", 100, 2.4, 0.5, (8, 17), 22),
    Station("US2_DEMO", "US", "CLINIC_DEMO", "SOUTHBANK", "SB-7", "10.20.1.15", 2, 2.0, 0, (8, 17), 20),
    Station("CR1_DEMO", "CR", "MAIN_DEMO", "WESTGATE", "WG-CR", "10.20.0.16", 100, 3.4, 1.6, (6, 21), 6),
    Station("CR2_DEMO", "CR", "ED_DEMO", "WESTGATE", "WG-CR", "10.20.0.17", 100, 3.0, 3.6, (0, 24), 5),
    Station("CR3_DEMO", "CR", "CLINIC_DEMO", "WESTGATE", "WG-CR", "10.20.1.18", 2, 1.8, 0, (8, 17), 6),
    Station("MG1_DEMO", "MG", "CLINIC_DEMO", "EASTFIELD", "EF-MG", "10.20.1.19", 50, 2.0, 0, (8, 16), 12),
    Station("NM1_DEMO", "NM", "MAIN_DEMO", "SOUTHBANK", "SB-NM", "10.20.0.20", 100, 1.4, 0, (8, 14), 45),
)
BY_AE = {s.ae: s for s in STATIONS}
# code, name, Body Part Examined, laterality
PROCEDURES = {
    "CT": (("CT10", "CT CHEST", "CHEST", ""), ("CT20", "CT ABDOMEN PELVIS", "ABDOMEN", ""), ("CT30", "CT HEAD", "HEAD", "")),
    "MR": (("MR10", "MR BRAIN", "BRAIN", ""), ("MR20", "MR KNEE LEFT", "KNEE", "L"), ("MR21", "MR KNEE RIGHT", "KNEE", "R"), ("MR30", "MR LUMBAR SPINE", "LSPINE", "")),
    "US": (("US10", "US ABDOMEN COMPLETE", "ABDOMEN", ""), ("US20", "US THYROID", "NECK", ""), ("US30", "US PELVIS", "PELVIS", "")),
    "CR": (("XR10", "XR CHEST 2 VIEWS", "CHEST", ""), ("XR20", "XR WRIST RIGHT", "WRIST", "R"), ("XR21", "XR WRIST LEFT", "WRIST", "L"), ("XR30", "XR ANKLE LEFT", "ANKLE", "L")),
    "MG": (("MG10", "MG SCREENING BILATERAL", "BREAST", ""),),
    "NM": (("NM10", "NM BONE WHOLE BODY", "WHOLEBODY", ""), ("NM20", "NM RENAL", "KIDNEY", "")),
}
# median minutes from the end of a ROUTINE and of a STAT exam to its final report
READING = {"CT": (330, 38), "MR": (560, 60), "US": (240, 35), "CR": (400, 42), "MG": (700, 90), "NM": (460, 60)}


@dataclass
class Patient:
    id: str
    name: str
    born: str
    sex: str


@dataclass
class Study:
    """What the images say, which a defect may change."""

    uid: str
    accession: str
    patient: Patient
    station: Station
    body: str
    side: str
    start: datetime
    end: datetime
    frame: str = ""
    requested: tuple = ()
    modality: str = ""
    institution: str = "LAKESIDE DEMO HOSPITAL"
    n: int = 2
    late_at: datetime = None    # when an extra instance was made, after the final report
    description: str = ""


@dataclass
class Report:
    status: str                 # P, F or C
    at: datetime
    accession: str
    patient: Patient
    answer: str = "AA"
    resent: bool = False
    also: tuple = ()            # further exams of the same message
    key: str = ""


@dataclass
class Exam:
    accession: str
    patient: Patient
    station: Station
    procedure: tuple
    priority: str
    patient_class: str
    ordered: datetime
    scheduled: datetime
    arrived: datetime
    start: datetime
    end: datetime
    placer: str
    reader: str
    technologist: str
    study_uid: str
    studies: list = field(default_factory=list)
    reports: list = field(default_factory=list)
    has_order: bool = True
    order_status: str = "CM"    # the last one sent: SC, ARRIVED, IP or CM
    cancelled: bool = False
    rescheduled: bool = False
    defect: str = ""

    @property
    def his(self):
        """The accession number as this section's RIS writes it."""
        return f"CL-{self.accession}" if self.station.section == "CLINIC_DEMO" else self.accession


class Department:
    """One seed, one month. `exams` in time order; `patient()` and `uid()` hand out new ones."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.n_patients = self.n_uids = self.n_orders = 0
        self.people = []
        self.exams = []
        for day in range((LAST - FIRST).days):
            self._day((FIRST + timedelta(days=day)).date())
        # Two exams in the hour that the night of the clock change has twice, one in each.
        for ae, minute, fold in (("CT2_DEMO", 14, 0), ("CR2_DEMO", 37, 1)):
            self.exams.append(self.exam(BY_AE[ae], datetime(2025, 11, 2, 1, minute, 20, tzinfo=ZONE, fold=fold)))
        self.exams.sort(key=lambda e: (e.start, e.accession))

    def uid(self):
        self.n_uids += 1
        return f"2.25.{330000000000000000000000 + self.n_uids * 7919}"

    def patient(self):
        self.n_patients += 1
        r = self.random
        # Three digits apart at least, so that no honest number is a typo of another.
        number = 104000 + self.n_patients * 1117 % 800000
        given = "ZOË" if self.n_patients % 41 == 0 else r.choice(GIVEN)
        person = Patient(f"TEST{number}", f"{r.choice(FAMILIES)}^{given}", f"{r.randint(1932, 2015)}{r.randint(1, 12):02d}{r.randint(1, 28):02d}", r.choice("FM"))
        self.people.append(person)
        return person

    def accession(self):
        self.n_orders += 1
        return f"R{25110000 + self.n_orders * 37}"

    def _day(self, date):
        holiday = (date.month, date.day) == (11, 27)
        for station in STATIONS:
            rate = station.weekend if date.weekday() >= 5 or holiday else station.per_day
            n = int(rate * self.random.uniform(0.6, 1.4) + self.random.random())
            free = datetime(date.year, date.month, date.day, tzinfo=ZONE)
            begins = sorted(self._begin(date, station.hours) for _ in range(n))
            for begin in begins:
                exam = self.exam(station, max(begin, free))
                free = exam.end + timedelta(minutes=self.random.randint(35, 50))
                self.exams.append(exam)

    def _begin(self, date, hours):
        hour = self.random.triangular(hours[0], hours[1] - 0.1, (hours[0] + hours[1]) / 2 - 1) if hours != (0, 24) else self.random.uniform(0, 23.9)
        return datetime(date.year, date.month, date.day, int(hour), self.random.randint(0, 59), self.random.randint(0, 59), tzinfo=ZONE)

    def exam(self, station, start, patient=None, procedure=None):
        """A whole, well-behaved exam with its report, if that is due before the month's end."""
        r = self.random
        patient = patient or self.patient()
        if station.modality == "MG":                                          # screening invites women from 40 on
            patient.sex, patient.born = "F", f"{1945 + int(patient.born[:4]) % 40}{patient.born[4:]}"
        procedure = procedure or r.choice(PROCEDURES[station.modality])
        urgent = station.section == "ED_DEMO"
        priority = "STAT" if r.random() < (0.75 if urgent else 0.08) else "ROUTINE"
        start = start.astimezone(UTC)
        lead = timedelta(minutes=r.randint(15, 70)) if urgent else timedelta(hours=r.uniform(2, 30)) if station.section == "MAIN_DEMO" else timedelta(hours=r.uniform(26, 72))
        end = start + timedelta(minutes=station.minutes * r.lognormvariate(0, 0.3))
        end = end.replace(microsecond=0)
        scheduled = (start - timedelta(minutes=r.randint(0, 25))).replace(second=0)
        accession, uid = self.accession(), self.uid()
        exam = Exam(accession, patient, station, procedure, priority, "E" if urgent else "O" if station.section == "CLINIC_DEMO" else r.choice("IIO"), (start - lead).replace(microsecond=0),
                    scheduled, start - timedelta(minutes=r.randint(6, 30)), start, end, f"P{90000 + self.n_orders}", r.choice(READERS[:2] if urgent else READERS),
                    r.choice(TECHNOLOGISTS), uid)
        exam.ordered = min(exam.ordered, exam.arrived - timedelta(minutes=5))
        if station.section == "CLINIC_DEMO":                                  # its doctors order in office hours
            exam.ordered = exam.ordered.astimezone(ZONE)
            exam.ordered = exam.ordered.replace(hour=8 + exam.ordered.hour % 9).astimezone(UTC)
        exam.studies = [Study(uid, accession, patient, station, procedure[2], procedure[3], start, end, frame=self.uid() if station.modality in ("CT", "MR") else "",
                              n=r.randint(2, 3) if station.modality in ("CT", "MR", "MG") else r.randint(1, 2), modality=station.modality, description=procedure[1])]
        exam.reports = self._reports(exam)
        return exam

    def _reports(self, exam):
        r = self.random
        median = READING[exam.station.modality][exam.priority == "STAT"]
        local = exam.end.astimezone(ZONE)
        waiting_from = exam.end
        if exam.priority == "ROUTINE" and not 7 <= local.hour < 20:
            opens = local.replace(hour=7, minute=30, second=0) + timedelta(days=local.hour >= 20)
            waiting_from = max(exam.end, opens.astimezone(UTC))
        wait = median * (1 / max(r.random(), 1e-3) - 1) ** (1 / 3.2)          # log-logistic, shape 3.2
        if exam.priority == "ROUTINE" and datetime(2025, 11, 10, tzinfo=ZONE) <= local < datetime(2025, 11, 15, tzinfo=ZONE):
            wait = wait * 3 + 900 * r.random()                                # a reader is away for a week
        elif exam.priority == "ROUTINE" and local >= datetime(2025, 11, 27, tzinfo=ZONE):
            wait = wait * 4 + 600                                             # and nobody covers the long weekend
        final = waiting_from + timedelta(minutes=min(wait, 5 * 1440))
        reports = []
        if r.random() < (0.7 if exam.station.section == "ED_DEMO" else 0.25):
            reports.append(Report("P", exam.end + (final - exam.end) * r.uniform(0.3, 0.7), exam.his, exam.patient))
        reports.append(Report("F", final, exam.his, exam.patient))
        if r.random() < 0.03:
            reports.append(Report("C", final + timedelta(hours=r.uniform(2, 40)), exam.his, exam.patient))
        for report in reports:
            report.at = report.at.replace(microsecond=0)
        return [t for t in reports if t.at < AS_OF]
