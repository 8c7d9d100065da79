"""What a live archive answers is what it holds, whichever way it is asked, and what it does not answer is said."""

import pytest

import pacs_helpers as pacs
from pacs_helpers.tables import TableError

from .conftest import STUDIES, free_port

SITE = pacs.Site(time_zone="UTC")
ALL = {"start": "2026-11-01", "end": "2026-11-05", "site": SITE, "pause": 0}


@pytest.fixture(params=["orthanc by C-FIND", "orthanc by QIDO-RS", "dcmqrscp by C-FIND"])
def address(request):
    if request.param == "dcmqrscp by C-FIND":
        return request.getfixturevalue("dcmqrscp")
    return request.getfixturevalue("orthanc")["QIDO" in request.param]


def test_a_study_row_tells_who_what_when_and_how_many(address):
    got = pacs.read_archive(address, **ALL)
    rows = got.instances.sort_values("accession_number").reset_index(drop=True)
    assert rows[["accession_number", "patient_id", "patient_name"]].values.tolist() == [[a, p, n] for a, p, n, *_ in STUDIES]
    assert rows["study_at"].dt.strftime("%Y%m%d%H%M%S").tolist() == ["20261102080000", "20261102235900", "20261104001500"]
    assert rows["sop_instance_uid"].tolist() == [""] * 3
    assert (rows["problems"] == "").all()
    assert len(got.rejected) == 0 and len(got.sources) == 5
    assert got.sources["n_rows"].tolist() == [0, 2, 0, 1, 0]


def test_counts_and_modalities_come_along_where_the_archive_tells_them(orthanc):
    for address in orthanc:
        rows = pacs.read_archive(address, **ALL).instances.sort_values("accession_number")
        assert rows["n_instances"].tolist() == [4, 1, 3], address
        assert rows["modality"].tolist() == ["CT", "CT", "CT"], address


def test_series_rows_carry_their_study(address):
    got = pacs.read_archive(address, **ALL, level="series")
    rows = got.instances.sort_values(["accession_number", "series_number"])
    assert rows["accession_number"].tolist() == ["A100", "A100", "A100", "A101", "A102"]
    assert rows["modality"].tolist() == ["CT", "CT", "SR", "CT", "CT"]
    assert rows["patient_id"].tolist() == ["000123"] * 3 + ["123", "00456"]
    assert rows["series_instance_uid"].is_unique and (rows["series_instance_uid"] != "").all()


def test_the_department_counts_the_images_that_an_answer_stands_for(orthanc):
    for level in ("study", "series"):
        dept = pacs.build_department(dicom=pacs.read_archive(orthanc[0], **ALL, level=level), site=SITE)
        studies = dept.studies.sort_values("accession_number")
        assert studies["accession_number"].tolist() == ["A100", "A101", "A102"], level
        assert studies["n_instances"].tolist() == [4, 1, 3], level
        assert studies["modality"].tolist() == ["CT", "CT", "CT"], level
    assert studies["n_series"].tolist() == [3, 1, 1]


def test_a_study_time_is_no_end_of_an_exam(orthanc):
    events = pacs.build_department(dicom=pacs.read_archive(orthanc[0], **ALL), site=SITE).events
    assert set(events["milestone"]) == {"exam_started"}


def test_pages_add_up_to_the_whole(orthanc):
    whole, paged = (pacs.read_archive(orthanc[1], **ALL, page=page).instances["study_instance_uid"] for page in (200, 1))
    assert sorted(paged) == sorted(whole)


def test_a_day_with_more_than_the_limit_says_so(address):
    got = pacs.read_archive(address, **ALL, most=1)
    assert got.sources["n_rows"].tolist() == [0, 1, 0, 1, 0]
    assert got.rejected["code"].tolist() == ["LIMIT_REACHED"]
    assert got.rejected["source_file"].str.endswith("20261102").all()


def test_an_archive_that_does_not_answer_is_left_alone_after_three_days():
    got = pacs.read_archive(f"dicom://NOBODY@127.0.0.1:{free_port()}", **ALL, timeout=2)
    assert got.rejected["code"].tolist() == ["NO_ANSWER"] * 3 + ["NOT_ASKED"]
    assert got.rejected["source_file"].str[-8:].tolist() == ["20261101", "20261102", "20261103", "20261104"]
    assert len(got.instances) == 0


def test_a_wrong_called_ae_title_is_no_empty_archive(orthanc):
    got = pacs.read_archive(orthanc[0].replace("ORTHANC_DEMO", "SOMEBODY"), site=SITE, start="2026-11-02", end="2026-11-02", pause=0)
    assert got.rejected["code"].tolist() == ["NO_ANSWER"] and "rejected" in got.rejected["reason"].iloc[0]


def test_a_web_address_that_is_no_dicomweb_is_no_empty_archive(orthanc):
    got = pacs.read_archive(orthanc[1] + "/nothing", site=SITE, start="2026-11-02", end="2026-11-02", pause=0)
    assert got.rejected["code"].tolist() == ["NO_ANSWER"] and "404" in got.rejected["reason"].iloc[0]


def test_a_study_without_series_stays_and_a_service_without_pages_is_asked_once(web):
    study = {"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, "00100020": {"vr": "LO", "Value": ["00123"]}, "00201208": {"vr": "IS", "Value": [4]}}
    address = web(lambda path: [] if "/series" in path else [study] if "20261102" in path else [])
    got = pacs.read_archive(address, **ALL, level="series", page=1)
    assert got.instances[["study_instance_uid", "patient_id", "n_instances", "problems"]].values.tolist() == [["1.2.3", "00123", 4, ""]]
    assert len(got.rejected) == 0


def test_an_answer_that_is_no_data_set_is_rejected(web):
    got = pacs.read_archive(web(lambda path: [{"message": "busy"}]), site=SITE, start="2026-11-02", end="2026-11-02", pause=0)
    assert got.rejected["code"].tolist() == ["BAD_ANSWER"] and len(got.instances) == 0


def test_credentials_in_the_address_stay_out_of_the_tables(orthanc):
    got = pacs.read_archive(orthanc[1].replace("http://", "http://jdoe:secret@"), **ALL)
    assert len(got.instances) == 3
    assert not got.instances["source_file"].str.contains("secret").any() and not got.sources["source_file"].str.contains("secret").any()


@pytest.mark.parametrize(("change", "said"), [
    ({"level": "studies"}, "Did you mean 'study'"), ({"start": "2026-11-06"}, "before the first"), ({"start": "soon"}, "days are needed"), ({"site": None}, "a Site is needed"),
])
def test_a_callers_mistake_is_told(change, said):
    with pytest.raises(TableError, match=said):
        pacs.read_archive("dicom://PACS@127.0.0.1:104", **{**ALL, **change})


@pytest.mark.parametrize("address", ["127.0.0.1:104", "dicom://127.0.0.1:104", "ftp://PACS@127.0.0.1"])
def test_an_address_of_another_shape_is_told(address):
    with pytest.raises(TableError, match="dicom://CALLED_AE@host"):
        pacs.read_archive(address, **ALL)
