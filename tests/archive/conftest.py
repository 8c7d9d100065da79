"""A real Orthanc with its DICOMweb service and a real dcmqrscp on loopback, with the same few studies; stopped by their own process."""

import json
import os
import shutil
import socket
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import Verification

PLUGINS = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"), Path("/usr/lib/orthanc/libOrthancDicomWeb.so")
#        accession, patient, name, day, time, series as (modality, number of images)
STUDIES = [("A100", "000123", "MÜLLER^JÜRGEN", "20261102", "080000", [("CT", 2), ("CT", 1), ("SR", 1)]),
           ("A101", "123", "ROE^RICHARD", "20261102", "235900", [("CT", 1)]),
           ("A102", "00456", "POE^PAT", "20261104", "001500", [("CT", 3)])]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def need(program):
    path = shutil.which(program)
    if not path:
        (pytest.fail if os.environ.get("REQUIRE_PROGRAMS") else pytest.skip)(f"no {program} on this machine; install it to run the archive tests")
    return path


def images():
    for number, (accession, patient, name, day, clock, series) in enumerate(STUDIES):
        study = generate_uid(entropy_srcs=["study", accession])
        for at, (modality, n) in enumerate(series):
            for image in range(n):
                ds = Dataset()
                ds.SpecificCharacterSet, ds.PatientID, ds.PatientName, ds.AccessionNumber = "ISO_IR 100", patient, name, accession
                ds.PatientBirthDate, ds.PatientSex, ds.StudyDate, ds.StudyTime, ds.StudyID, ds.StudyDescription = "19700101", "O", day, clock, str(number), "CT HEAD"
                ds.StudyInstanceUID, ds.SeriesInstanceUID = study, generate_uid(entropy_srcs=["series", accession, str(at)])
                ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=["image", accession, str(at), str(image)])
                ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDate, ds.SeriesTime = modality, at + 1, image + 1, day, clock
                yield ds


def store(host, port, called):
    ae = AE("CT1_DEMO")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate(host, port, ae_title=called)
    assert association.is_established
    for ds in images():
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        assert association.send_c_store(FileDataset("", ds, file_meta=ds.file_meta)).Status == 0
    association.release()


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """A function that starts a DICOM server and waits until it answers an echo."""
    running = []

    def start(command, port, called, folder):
        running.append(subprocess.Popen(command, cwd=folder, stdout=(folder / "log").open("wb"), stderr=subprocess.STDOUT))
        until = time.monotonic() + 60
        while running[-1].poll() is None and time.monotonic() < until:
            ae = AE("CT1_DEMO")
            ae.add_requested_context(Verification)
            association = ae.associate("127.0.0.1", port, ae_title=called)
            if association.is_established:
                association.release()
                return
            time.sleep(0.1)
        pytest.fail(f"{command[0]} does not answer: {(folder / 'log').read_text(errors='replace')[-1000:]}")

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.fixture
def web():
    """A function that serves what `answer(path and query)` gives as JSON, and returns the address."""
    servers = []

    def serve_json(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve_json
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def orthanc(serve, tmp_path_factory):
    """`(dicom address, DICOMweb address)` of an Orthanc that holds STUDIES."""
    program, folder = need("Orthanc"), tmp_path_factory.mktemp("orthanc")
    plugin = next((p for p in PLUGINS if p.exists()), None) or need("libOrthancDicomWeb.so")
    port, web = free_port(), free_port()
    (folder / "orthanc.json").write_text(json.dumps({
        "Name": "demo", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "DicomAet": "ORTHANC_DEMO", "DicomPort": port, "HttpPort": web,
        "DicomCheckCalledAet": True, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowFind": True, "Plugins": [str(plugin)], "DicomWeb": {"Enable": True},
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False}))
    serve([program, str(folder / "orthanc.json")], port, "ORTHANC_DEMO", folder)
    store("127.0.0.1", port, "ORTHANC_DEMO")
    return f"dicom://ORTHANC_DEMO@127.0.0.1:{port}", f"http://127.0.0.1:{web}/dicom-web"


@pytest.fixture(scope="session")
def dcmqrscp(serve, tmp_path_factory):
    """The address of a DCMTK archive that holds STUDIES."""
    program, folder = need("dcmqrscp"), tmp_path_factory.mktemp("dcmqrscp")
    port = free_port()
    (folder / "db").mkdir()
    (folder / "dcmqrscp.cfg").write_text(f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 6\nHostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
                                         f"AETable BEGIN\nARCHIVE_DEMO {folder / 'db'} RW (200, 1024mb) ANY\nAETable END\n")
    serve([program, "-c", str(folder / "dcmqrscp.cfg")], port, "ARCHIVE_DEMO", folder)
    store("127.0.0.1", port, "ARCHIVE_DEMO")
    return f"dicom://ARCHIVE_DEMO@127.0.0.1:{port}"
