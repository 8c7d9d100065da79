"""Small DICOM files of every kind that a corrected copy has to leave whole, and a department of them."""

from types import SimpleNamespace

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from pacs_helpers.department import build_department
from pacs_helpers.fixes.corrections import record_correction
from pacs_helpers.readers.headers import read_headers
from pacs_helpers.tables import ORDERS, conform

from ..small_department import OTHER, PERSON, SITE, order

SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "compressed": JPEGBaseline8Bit, "deflated": DeflatedExplicitVRLittleEndian,
            "big endian": ExplicitVRBigEndian, "Japanese": ExplicitVRLittleEndian}


def image(study="2.25.1", series="2.25.11", instance="2.25.111", **more):
    """A CT image with private elements, a nested sequence and pixels."""
    ds = Dataset()
    values = {"PatientID": "TEST100213", "PatientName": "ASH^ROWAN", "PatientBirthDate": "19480312", "PatientSex": "F", "AccessionNumber": "R1001", "StudyDate": "20251110",
              "StudyTime": "090000", "StudyID": "7", "StudyDescription": "CT CHEST", "Modality": "CT", "SeriesNumber": 1, "InstanceNumber": 1, "BodyPartExamined": "CHEST",
              "AcquisitionDateTime": "20251110090000", "SOPClassUID": CTImageStorage, "Rows": 2, "Columns": 2, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
              "PixelRepresentation": 0, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "StationName": "CT1_DEMO",
              "StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance, **more}
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    ds.private_block(0x0029, "DEMO PRIVATE", create=True).add_new(0x10, "OB", b"\x00\xffraw\x01")
    ds.OtherPatientIDsSequence = [item(PatientID="77", IssuerOfPatientID="ELSEWHERE")]
    return ds


def item(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def save(path, ds, syntax=ExplicitVRLittleEndian):
    pixels = np.arange(4, dtype="uint8").tobytes()
    ds.PixelData = encapsulate([b"\xff\xd8 no real jpeg \xff\xd9"]) if syntax == JPEGBaseline8Bit else pixels
    ds["PixelData"].VR = "OB"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = syntax, ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta, ds.preamble = meta, b"MZ" + bytes(126)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian, enforce_file_format=True)
    return path


def kind_of_image(name):
    more = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎", "StudyDescription": "胸部"} if name == "Japanese" else {}
    return image(**more), SYNTAXES[name]


def loaded(folder, *, orders=(), **more):
    """What was read from a folder of images, and the department of them with these orders."""
    headers = read_headers(folder, site=SITE, **more)
    dept = build_department(dicom=headers, site=SITE)._replace(orders=conform(list(orders) or [order(), order("R2", **OTHER)], ORDERS))
    return SimpleNamespace(instances=headers.instances, sources=headers.sources, dept=dept)


def decide(ledger, kind="patient_id", **more):
    values = {"target": "2.25.1", "old": "TEST100213", "new": PERSON["patient_id"]} if kind == "patient_id" else {}
    return record_correction(ledger, kind=kind, reason="TYPED_WRONG", decided_by="Pat", **{**values, **more})
