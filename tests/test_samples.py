"""data/samples: believable, rebuilt byte for byte, and every planted defect found with nothing invented."""

import ast
import csv
import gzip
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import hl7
import pandas as pd
import pydicom
import pytest

from pacs_helpers.analyses.matching import find_mismatches
from pacs_helpers.analyses.turnaround import measure_turnaround, summarize_turnaround
from pacs_helpers.department import build_department
from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.readers.hl7log import read_hl7_log
from pacs_helpers.schemas import FINDING_CODES
from pacs_helpers.site import Site

DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLES = DATA / "samples"
AS_OF = pd.Timestamp("2025-12-01T06:00Z")
FOLDED = {("U01", "U14"), ("U02", "U18"), ("U04", "U07")}      # what follows from a defect and is no finding of its own
NOT_DICOM = {"dicom/README.txt", "dicom/CR1_DEMO/empty.dcm"}
NO_PATIENT_NUMBER = ("U05b", "U05c", "U05d", "U14", "U15")       # defects that are about the identity on the images


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def text_files(*folders):
    """Every text of these folders below data/samples as latin-1, which no byte can break; .gz unpacked."""
    return {p.name: (gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes()).decode("latin-1")
            for folder in folders for p in sorted((SAMPLES / folder).iterdir())}


@pytest.fixture(scope="module")
def key():
    with open(SAMPLES / "answer_key.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def headers():
    return {name: pydicom.dcmread(SAMPLES / name) for name in files(SAMPLES) if name.startswith("dicom/") and name not in NOT_DICOM}


@pytest.fixture(scope="module")
def segments():
    """Fields of every HL7 segment in the feeds, whatever stands around it, by segment name."""
    found = {}
    for text in text_files("hl7").values():
        text = text.replace("\\r", "\r").replace("<R>", "\r")
        for segment in re.findall(r"(?:MSH|PID|MRG|ORC|OBR|ZDS|MSA)\|[^\r\n'\"\x1c]*", text):
            found.setdefault(segment[:3], []).append(segment.split("|"))
    return found


@pytest.fixture(scope="module")
def loaded():
    site = Site.load(SAMPLES / "site.toml")
    dicom, messages = read_headers(SAMPLES / "dicom", site=site), read_hl7_log(SAMPLES / "hl7", site=site)
    network = read_dicom_log(SAMPLES / "network", site=site, year=2025)
    dept = build_department(hl7=messages, dicom=dicom, network=network, site=site)
    return SimpleNamespace(site=site, dicom=dicom, hl7=messages, network=network, dept=dept, findings=find_mismatches(dept, as_of=AS_OF, site=site))


# Made from one seed, by code that knows nothing of the package

def test_the_samples_are_rebuilt_byte_for_byte(tmp_path):
    subprocess.run([sys.executable, DATA / "make_samples.py", tmp_path], check=True)
    kept, made = files(SAMPLES), files(tmp_path)
    assert sorted(kept) == sorted(made)
    assert [name for name in kept if kept[name] != made[name]] == []


def test_the_generator_knows_nothing_of_the_package():
    own = {p.stem for p in DATA.glob("*.py")}
    trees = [ast.walk(ast.parse(p.read_text(encoding="utf-8"))) for p in DATA.glob("*.py")]
    names = {(alias.name if isinstance(node, ast.Import) else node.module).split(".")[0]
             for tree in trees for node in tree if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    assert names - own - set(sys.stdlib_module_names) <= {"pydicom", "numpy"}


def test_the_samples_stay_small():
    kept = files(SAMPLES)
    assert sum(map(len, kept.values())) < 8_000_000 and len(kept) < 1_600


# Nothing in them is real

def test_no_uid_has_the_root_of_a_real_maker(headers):
    uids = [str(v) for ds in headers.values() for part in (ds.file_meta, ds) for element in part.iterall() if element.VR == "UI"
            for v in (element.value if element.VM > 1 else [element.value])]
    invented = [uid for uid in uids if not uid.startswith("1.2.840.10008.")]
    assert invented and [uid for uid in invented if not re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid)] == []
    texts = text_files("hl7", "network").values()
    assert [found for text in texts for found in re.findall(r"(?<![\d.])[012](?:\.\d+){5,}", text)] == []


def test_patient_numbers_are_test_numbers_unless_the_defect_is_about_them(headers, segments, key):
    planted = {uid for row in key if row["code"] in NO_PATIENT_NUMBER for uid in row["study_instance_uid"].split()}
    odd = {ds.PatientID: ds.StudyInstanceUID for ds in headers.values() if not re.fullmatch(r"TEST\d{5,6}", ds.PatientID)}
    assert odd and set(odd.values()) <= planted
    told = {f[3].split("^")[0] for f in segments["PID"]} | {f[1].split("^")[0] for f in segments["MRG"]}
    assert {number for number in told if not re.fullmatch(r"TEST\d{6}", number)} <= set(odd)


# Readable by what everybody uses

def test_pydicom_reads_every_header_and_none_has_pixels(headers):
    assert len(headers) > 1_000
    assert [name for name, ds in headers.items() if "PixelData" in ds or not (ds.SOPInstanceUID and ds.StudyInstanceUID and ds.Modality)] == []
    assert [name for name in headers if (SAMPLES / name).read_bytes()[128:132] != b"DICM"] == []


def test_python_hl7_reads_every_order_message():
    texts = text_files("hl7")
    raw = texts["ris_orders_1.hl7"] + texts["ris_orders_2.hl7.gz"]
    messages = [hl7.parse(text) for text in re.split(r"(?=MSH\|)", raw) if text]
    assert len(messages) == raw.count("MSH|") > 1_500
    assert [str(m.segment("MSH")[10]) for m in messages if len(m.segments("ORC")) != 1 or not str(m.segment("OBR")[18])] == []


def test_reports_refused_by_the_archive_are_in_the_engine_log(segments):
    assert Counter(f[1] for f in segments["MSA"])["AE"] == 3


# A department worth looking at

def test_every_modality_and_section_is_large_enough_to_show(loaded):
    orders = loaded.dept.orders
    assert 450 <= len(orders) <= 650
    assert orders["modality"].value_counts().min() > 11
    assert set(loaded.hl7.messages["sending_facility"]) >= {"MAIN_DEMO", "ED_DEMO", "CLINIC_DEMO"}
    clinic = orders["accession_number"].str.startswith("CL-")
    assert (orders["patient_class"] == "E").sum() > 100 and clinic.sum() > 100


def test_clinic_and_mammography_rest_at_weekends(loaded):
    at = loaded.dept.studies.set_index("station_name")["study_at"].dt.tz_convert("America/Chicago")
    assert (at[at.index.isin(["MG1_DEMO", "US2_DEMO", "CR3_DEMO"])].dt.day_of_week < 5).all()
    assert at["CR2_DEMO"].dt.day_of_week.nunique() == 7 and (at["CT2_DEMO"].dt.hour < 6).any()


def test_screening_invites_women_from_forty_on(headers):
    ages = [int(ds.StudyDate[:4]) - int(ds.PatientBirthDate[:4]) for ds in headers.values() if ds.Modality == "MG"]
    assert min(ages) >= 40 and {ds.PatientSex for ds in headers.values() if ds.Modality == "MG"} == {"F"}


def test_urgent_exams_are_read_sooner_and_targets_are_partly_missed(loaded):
    intervals = measure_turnaround(loaded.dept.events, "exam_ended", "final", as_of=AS_OF)
    by = summarize_turnaround(intervals, by="priority", site=loaded.site).set_index("priority")
    assert by.loc["STAT", "median"] < 60 < 240 < by.loc["ROUTINE", "median"]
    assert by.loc["STAT", "share_within_target"] < 0.9 and by.loc["ROUTINE", "share_within_target"] < 0.95


def test_device_clocks_differ_as_the_story_says(loaded):
    at = loaded.dept.events.query("milestone == 'exam_started'")
    shown = at[at["source"] == "dicom"].groupby("accession_number")["at"].min()
    told = at[(at["source"] == "hl7") & (at["source_field"] != "OBR-7")].groupby("accession_number")["at"].min()
    station = loaded.dept.studies.drop_duplicates("accession_number").set_index("accession_number")["station_name"]
    clocks = pd.DataFrame({"station": station, "day": told.dt.tz_convert("America/Chicago").dt.day, "ahead": (shown - told).dt.total_seconds() / 60}).dropna()
    assert clocks.query("station == 'MR1_DEMO'")["ahead"].median() == pytest.approx(-7, abs=0.1)
    assert clocks.query("station == 'CT1_DEMO'")["ahead"].median() == pytest.approx(0, abs=0.1)
    lagging = clocks.query("station == 'US2_DEMO'")
    assert lagging.query("3 <= day <= 5")["ahead"].median() == pytest.approx(60, abs=0.1)
    assert lagging.query("day >= 7")["ahead"].median() == pytest.approx(0, abs=0.1)


def test_exams_in_the_repeated_hour_are_marked_and_not_guessed(loaded):
    doubtful = loaded.dicom.instances[loaded.dicom.instances["problems"].str.contains("AMBIGUOUS_TIME")]
    assert set(doubtful["station_name"]) == {"CT2_DEMO", "CR2_DEMO"}


def test_report_feed_is_silent_for_an_hour_and_archive_for_two(loaded):
    reports = loaded.hl7.messages.query("message_type == 'ORU'")
    silent = reports["received_at"].between(pd.Timestamp("2025-11-12T20:00Z"), pd.Timestamp("2025-11-12T21:00Z"), inclusive="left")
    signed = reports["status_changed_at"].between(pd.Timestamp("2025-11-12T20:00Z"), pd.Timestamp("2025-11-12T20:59Z"), inclusive="left")
    assert silent.sum() == 0 < signed.sum()
    night = loaded.network.operations.query("called_ae_title == 'ARCHIVE_DEMO'")["started_at"]
    assert night.between(pd.Timestamp("2025-11-18T07:00Z"), pd.Timestamp("2025-11-18T09:00Z")).sum() == 0
    assert night.between(pd.Timestamp("2025-11-18T09:00Z"), pd.Timestamp("2025-11-18T10:00Z")).sum() > 0


def test_a_report_sent_again_is_the_same_bytes(loaded):
    again = loaded.hl7.messages[loaded.hl7.messages["problems"].str.contains("DUPLICATE_MESSAGE")]
    assert (again["message_type"] == "ORU").all() and len(again) == 8


# The answer key

def test_every_code_is_planted_twice_or_more_and_consequences_are_marked(key):
    assert [row for row in key if row["covered"] != str((row["code"], row["because_of"]) not in FOLDED)] == []
    counts = Counter(row["code"] for row in key if row["covered"] == "True")
    assert [code for code in FINDING_CODES if counts[code] < 2] == []


def test_what_the_key_names_is_in_the_data(key, headers, segments):
    uids = {ds.StudyInstanceUID for ds in headers.values()}
    accessions = {ds.AccessionNumber for ds in headers.values()} | {f[18] for f in segments["OBR"] if len(f) > 18}
    controls = {f[9] for f in segments["MSH"] if len(f) > 9}
    assert {a for row in key if (a := row["accession_number"])} <= accessions
    assert {uid for row in key for uid in row["study_instance_uid"].split()} <= uids
    assert {control for row in key for control in row["message_control_id"].split()} <= controls


def test_readers_reject_nothing_but_what_is_no_image_and_no_message(loaded):
    assert sorted(loaded.dicom.rejected["code"]) == ["EMPTY_FILE", "NOT_DICOM"]
    assert set(loaded.hl7.rejected["code"]) <= {"NOT_HL7"} and loaded.network.rejected.empty


def test_every_planted_defect_is_found_and_none_is_invented(loaded, key):
    clean = loaded.site.clean_accession
    expected = sorted((r["code"], clean(r["accession_number"]), r["study_instance_uid"]) for r in key if r["covered"] == "True")
    found = sorted((f.code, clean(f.accession_number), f.study_instance_uid) for f in loaded.findings.itertuples())
    assert found == expected


def test_findings_name_the_messages_that_the_key_names(loaded, key):
    named = {(r["code"], r["study_instance_uid"]): r["message_control_id"] for r in key if r["message_control_id"] and r["covered"] == "True"}
    found = {(f.code, f.study_instance_uid): f.message_control_id for f in loaded.findings.itertuples()}
    assert named and {k: found[k] for k in named} == named


def test_overdue_exams_stand_on_the_desk_where_the_planter_left_them(loaded, key):
    owner = {f.study_instance_uid: f.owner for f in loaded.findings.itertuples() if f.code == "U02"}
    for row in (r for r in key if r["code"] == "U02" and r["covered"] == "True"):
        desk = {"no final, technologist": "technologist"}.get(row["note"], "radiologist")
        assert owner[row["study_instance_uid"]] == desk, row["accession_number"]
