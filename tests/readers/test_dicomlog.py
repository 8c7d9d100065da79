import gzip
import os
from datetime import UTC, datetime

import pandas as pd
import pytest

from pacs_helpers.readers.account import show_rejected
from pacs_helpers.readers.dicomlog import read_dicom_log
from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

SITE = Site(time_zone="UTC")
PEER = "AET CT1 on IP 10.0.0.1"


def load(tmp_path, *texts, name="server.log", written="2026-11-24T12:00:00", site=SITE, **options):
    """Each text is a file; several are a rotation, the oldest first."""
    for number, text in enumerate(texts):
        age = len(texts) - 1 - number
        file = tmp_path / (f"{name}.{age}" if age else name)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        stamp = datetime.fromisoformat(written).replace(tzinfo=UTC).timestamp()
        os.utime(file, (stamp, stamp))
    return read_dicom_log(tmp_path, site=site, **options)


def orthanc(*lines, day="1124", hour="03"):
    """Lines `MM:SS.ffffff text` of an Orthanc log."""
    return "".join(f"I{day} {hour}:{line.partition(' ')[0]} X.cpp:1] {line.partition(' ')[2]}\n" for line in lines)


def opening(at="00:00.000000", peer=PEER, called="ARCHIVE"):
    return (f"{at} (dicom) Association Received from {peer}", f"{at} Incoming connection from {peer}, calling AET {called}",
            f"{at} (dicom) Association Acknowledged (Max Send PDV: 16372) to {peer}")


def store(at, peer=PEER):
    return f"{at} Incoming Store request from {peer}, calling AET ARCHIVE"


def stored(at, megabytes=1):
    return (f'{at} Creating attachment "a" of "DICOM" type (size: {megabytes}MB)', f"{at} New instance stored")


def release(at, peer=PEER):
    return f"{at} (dicom) Association Release with {peer}"


def clocks(column):
    return [None if pd.isna(at) else at.strftime("%H:%M:%S.%f")[:-3] for at in column]


# Orthanc

def test_orthanc_association_has_both_titles_the_peer_and_its_stores(tmp_path):
    log = load(tmp_path, orthanc(*opening("00:01.500000"), store("00:02.000000"), *stored("00:03.250000", 2), release("00:04.000000")))
    row = log.associations.iloc[0]
    assert (row["calling_ae_title"], row["called_ae_title"], row["peer_address"], row["outcome"]) == ("CT1", "ARCHIVE", "10.0.0.1", "released")
    assert clocks([row["started_at"], row["ended_at"]]) == ["03:00:01.500", "03:00:04.000"]
    assert (row["n_operations"], row["n_stored"], row["n_failed"], row["n_bytes"], row["n_bytes_source"]) == (1, 1, 0, 2 << 20, "mb_rounded")
    operation = log.operations.iloc[0]
    assert (operation["service"], operation["calling_ae_title"], operation["called_ae_title"], operation["status_category"]) == \
        ("C-STORE", "CT1", "ARCHIVE", "Success")
    assert clocks([operation["started_at"], operation["ended_at"]]) == ["03:00:02.000", "03:00:03.250"]
    assert operation["association_id"] == row["association_id"]


def test_parallel_associations_of_different_peers_are_told_apart(tmp_path):
    other = "AET MR1 on IP 10.0.0.2"
    log = load(tmp_path, orthanc(*opening(), *opening("00:01.000000", other), store("00:02.000000"), *stored("00:03.000000"),
                                 release("00:04.000000"), store("00:05.000000", other), *stored("00:06.000000"), release("00:07.000000", other)))
    assert log.associations["calling_ae_title"].tolist() == ["CT1", "MR1"]
    assert clocks(log.associations["ended_at"]) == ["03:00:04.000", "03:00:07.000"]
    assert log.associations["n_stored"].tolist() == [1, 1] and not log.associations["is_ambiguous"].any()


def test_two_associations_of_one_title_and_address_are_ambiguous_but_nothing_is_lost(tmp_path):
    log = load(tmp_path, orthanc(*opening(), store("00:01.000000"), *stored("00:02.000000"), *opening("00:03.000000"), store("00:04.000000"),
                                 *stored("00:05.000000"), release("00:06.000000"), release("00:07.000000")))
    assert log.associations["is_ambiguous"].tolist() == [True, True]
    assert clocks(log.associations["started_at"]) == ["03:00:00.000", "03:00:03.000"]
    assert log.associations["ended_at"].isna().all() and log.associations["n_stored"].isna().all()
    assert log.associations["outcome"].tolist() == ["released", "released"]
    first = log.associations["association_id"].iloc[0]
    assert log.operations["association_id"].tolist() == [first, ""]
    assert log.operations["problems"].tolist() == ["", "AMBIGUOUS_ASSOCIATION"]
    assert log.operations["calling_ae_title"].tolist() == ["CT1", "CT1"] and log.operations["status_category"].tolist() == ["Success"] * 2


def test_answers_that_fit_two_stores_give_their_status_but_no_time(tmp_path):
    other = "AET MR1 on IP 10.0.0.2"
    log = load(tmp_path, orthanc(
        *opening(), *opening("00:01.000000", other), store("00:02.000000"), store("00:02.100000", other), *stored("00:03.000000", 1),
        *stored("00:03.100000", 5), release("00:04.000000"), release("00:04.100000", other)))
    assert log.operations["status_category"].tolist() == ["Success", "Success"]
    assert log.operations["ended_at"].isna().all() and log.operations["n_bytes"].isna().all()
    assert log.associations["n_stored"].tolist() == [1, 1] and log.associations["n_bytes"].isna().all()


def test_a_slow_store_keeps_the_only_answer_that_a_fast_one_cannot_have(tmp_path):
    other = "AET CR1 on IP 10.0.0.2"
    log = load(tmp_path, orthanc(
        *opening(), *opening("00:00.100000", other), store("00:01.000000", other), store("00:02.000000"), *stored("00:03.000000", 1),
        release("00:04.000000"), *stored("00:09.000000", 40), release("00:09.500000", other)))
    by = log.operations.set_index("calling_ae_title")
    assert clocks(by.loc[["CT1", "CR1"], "ended_at"]) == ["03:00:03.000", "03:00:09.000"]
    assert by.loc[["CT1", "CR1"], "n_bytes"].tolist() == [1 << 20, 40 << 20]


def test_thread_names_pair_answers_with_their_requests(tmp_path):
    other = "AET MR1 on IP 10.0.0.2"
    lines = orthanc(*opening(), *opening("00:01.000000", other), store("00:02.000000"), store("00:02.100000", other), *stored("00:03.000000", 5),
                    *stored("00:03.100000", 1), release("00:04.000000"), release("00:04.100000", other)).splitlines(keepends=True)
    threads = ["DICOM-1"] * 6 + ["DICOM-2", "DICOM-7"] + ["DICOM-7"] * 2 + ["DICOM-2"] * 2 + ["DICOM-2", "DICOM-7"]
    text = "".join(line.replace(" X.cpp", f" {thread:>16} X.cpp") for line, thread in zip(lines, threads, strict=True))
    log = load(tmp_path, text)
    by = log.operations.set_index("calling_ae_title")
    assert clocks(by.loc[["CT1", "MR1"], "ended_at"]) == ["03:00:03.100", "03:00:03.000"]
    assert by.loc[["CT1", "MR1"], "n_bytes"].tolist() == [1 << 20, 5 << 20]


def test_files_uploaded_over_http_are_nobodys_store(tmp_path):
    log = load(tmp_path, orthanc(*opening(), "00:01.000000 (http) Receiving a DICOM file of 9 bytes through HTTP", *stored("00:02.000000", 9),
                                 store("00:03.000000"), *stored("00:04.000000"), release("00:05.000000")))
    assert len(log.operations) == 1 and clocks(log.operations["ended_at"]) == ["03:00:04.000"]
    assert log.associations["n_bytes"].tolist() == [1 << 20]


def test_upload_over_http_beside_a_store_leaves_its_size_open(tmp_path):
    log = load(tmp_path, orthanc(*opening(), "00:01.000000 (http) Receiving a DICOM file of 9 bytes through HTTP", store("00:01.500000"),
                                 *stored("00:02.000000", 9), *stored("00:03.000000", 1), release("00:05.000000")))
    assert log.operations["n_bytes"].isna().all() and log.operations["status_category"].tolist() == ["Success"]


def test_orthanc_store_that_failed_counts_as_failed(tmp_path):
    log = load(tmp_path, orthanc(*opening(), store("00:01.000000"), "00:02.000000 Exception while storing DICOM: Cannot write", release("00:03.000000")))
    assert log.associations[["n_stored", "n_failed"]].values.tolist() == [[0, 1]]
    assert log.operations["status_code"].tolist() == ["A700"]


def test_rejected_aborted_failed_and_unfinished_are_four_outcomes(tmp_path):
    peers = [f"AET A{n} on IP 10.0.0.{n}" for n in range(4)]
    log = load(tmp_path, orthanc(
        f"00:00.000000 Association Received from {peers[0]}", "00:00.100000 Rejected association, because of a bad called AET in the request (NOBODY)",
        *opening("00:01.000000", peers[1]), f"00:02.000000 Association Aborted with {peers[1]}",
        *opening("00:03.000000", peers[2]), f"00:04.000000 DIMSE failure (aborting association with {peers[2]}): DUL network closed",
        *opening("00:05.000000", peers[3])))
    assert log.associations["outcome"].tolist() == ["rejected", "aborted", "failed", "unfinished"]
    assert log.associations["called_ae_title"].tolist() == ["NOBODY", "ARCHIVE", "ARCHIVE", "ARCHIVE"]
    assert log.associations["reason"].tolist() == ["called AE title not recognized", "", "DUL network closed", ""]
    assert clocks(log.associations["ended_at"]) == ["03:00:00.100", "03:00:02.000", "03:00:04.000", None]


def test_images_of_a_c_get_travel_from_acceptor_to_requestor_and_their_answers_are_not_told(tmp_path):
    log = load(tmp_path, orthanc(*opening(), f"00:01.000000 Incoming Get request from {PEER}, calling AET ARCHIVE",
                                 "00:02.000000 (dicom) Store SCU RQ: MsgID 1, (MR)", release("00:03.000000")))
    assert log.operations["service"].tolist() == ["C-GET", "C-STORE"]
    assert log.operations["calling_ae_title"].tolist() == ["CT1", "ARCHIVE"] and log.operations["called_ae_title"].tolist() == ["ARCHIVE", "CT1"]
    assert log.associations["n_stored"].isna().all()


def test_connection_that_orthanc_could_not_open_is_failed(tmp_path):
    log = load(tmp_path, orthanc('00:01.000000 (dicom) Opening a DICOM SCU connection without DICOM TLS from AET "ARCHIVE" to AET "WS9" on host h:104')
               + 'E1124 03:00:02.000000 X.cpp:58] Error in the network protocol: DicomAssociation - connecting to AET "WS9": TCP Initialization Error\n')
    row = log.associations.iloc[0]
    assert (row["calling_ae_title"], row["called_ae_title"], row["outcome"], row["reason"]) == ("ARCHIVE", "WS9", "failed", "TCP Initialization Error")


# years, days and clocks

def test_year_is_the_latest_that_is_not_after_the_file_was_written(tmp_path):
    text = orthanc(*opening(), release("00:01.000000"), day="1231")
    assert load(tmp_path, text, written="2026-01-02T00:00:00").associations["started_at"].dt.year.tolist() == [2025]
    assert load(tmp_path, text, written="2026-12-31T12:00:00").associations["started_at"].dt.year.tolist() == [2026]
    assert load(tmp_path, text, year=2019).associations["started_at"].dt.year.tolist() == [2019]


def test_new_year_inside_a_log_rolls_the_year(tmp_path):
    text = orthanc(*opening("59:59.000000"), day="1231", hour="23") + orthanc(release("00:01.000000"), day="0101", hour="00")
    row = load(tmp_path, text, written="2027-01-01T08:00:00").associations.iloc[0]
    assert row["ended_at"] - row["started_at"] == pd.Timedelta("2s") and row["started_at"].year == 2026


def test_line_that_comes_late_after_new_year_stays_in_the_old_one(tmp_path):
    other = "AET MR1 on IP 10.0.0.2"
    text = (orthanc(*opening("59:58.000000"), day="1231", hour="23") + orthanc(*opening("00:00.000001", other), day="0101", hour="00")
            + orthanc(release("59:59.999999"), day="1231", hour="23") + orthanc(release("00:02.000000", other), day="0101", hour="00"))
    ended = load(tmp_path, text, written="2027-01-01T08:00:00").associations["ended_at"]
    assert [at.isoformat() for at in ended] == ["2026-12-31T23:59:59.999999+00:00", "2027-01-01T00:00:02+00:00"]


def test_log_clock_is_the_sites(tmp_path):
    log = load(tmp_path, orthanc(*opening(), release("00:01.000000")), site=Site(time_zone="America/Chicago"))
    assert log.associations["started_at"].tolist() == [pd.Timestamp("2026-11-24T09:00:00Z")]


def test_time_in_the_repeated_hour_is_marked(tmp_path):
    log = load(tmp_path, orthanc(*opening(), release("00:01.000000"), day="1101", hour="01"), site=Site(time_zone="America/Chicago"))
    assert log.associations["problems"].tolist() == ["AMBIGUOUS_TIME"]


def test_clock_that_steps_back_is_marked_and_lines_keep_their_order(tmp_path):
    log = load(tmp_path, orthanc(*opening("10:00.000000"), release("05:00.000000")))
    assert log.associations["problems"].tolist() == ["TIME_GOES_BACK"] and log.associations["outcome"].tolist() == ["released"]


CONSOLE = "23:59:58  INFO: Association Received (ct1:CT1 -> ARCHIVE)\n23:59:59  INFO: Association Acknowledged (Max Send PDV: 16372)\n" \
          "00:00:03  INFO: Association Release\n"


def test_clock_without_date_is_rejected_until_a_start_date_is_given_and_then_rolls(tmp_path):
    log = load(tmp_path, CONSOLE)
    assert log.rejected["code"].tolist() == ["NO_DATE"] and len(log.associations) == 0
    assert log.rejected["n_bytes"].tolist() == [len(CONSOLE)]
    row = load(tmp_path, CONSOLE, start_date="2026-11-24").associations.iloc[0]
    assert [row["started_at"].isoformat(), row["ended_at"].isoformat()] == ["2026-11-24T23:59:58+00:00", "2026-11-25T00:00:03+00:00"]


# DCMTK

def dcmtk(*lines, at="2026-11-24 03:17:47.418", pid=None):
    return "".join(f"{at} [{pid}] dcmtk.dcmnet INFO  {line}\n" if pid else f"{at}  INFO: {line}\n" for line in lines)


ACKNOWLEDGED = "Association Acknowledged (Max Send PDV: 16372)"


def dump(service, uid, *, status=""):
    way, kind = ("OUTGOING", "RSP") if status else ("INCOMING", "RQ")
    return (f"===================== {way} DIMSE MESSAGE ====================", f"Message Type                  : {service} {kind}",
            "Affected SOP Class UID        : CTImageStorage", f"Affected SOP Instance UID     : {uid}",
            *([f"DIMSE Status                  : 0x{status}: x"] if status else []), "======================= END DIMSE MESSAGE =======================")


def test_storescp_file_log_tells_titles_from_its_dump_and_stores_from_its_lines(tmp_path):
    log = load(tmp_path, dcmtk("Association Received: ct-scanner", at="2026-11-24 03:17:47.418") + dcmtk(
        "Association Received", "Calling Application Name:    CT1             ", "Called Application Name:     WS1", ACKNOWLEDGED,
        "Received Store Request", *dump("C-STORE", "1.2.3"), at="2026-11-24 03:17:47.500") + dcmtk(
        "storing DICOM file: /srv/WS1/CT.1.2.3", at="2026-11-24 03:17:48.000") + dcmtk("Association Release", at="2026-11-24 03:17:49.000"))
    row = log.associations.iloc[0]
    assert (row["calling_ae_title"], row["called_ae_title"], row["peer_address"], row["n_stored"]) == ("CT1", "WS1", "ct-scanner", 1)
    assert clocks([row["started_at"], row["ended_at"]]) == ["03:17:47.418", "03:17:49.000"]
    operation = log.operations.iloc[0]
    assert (operation["sop_class_uid"], operation["sop_instance_uid"], operation["modality"]) == ("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "CT")
    assert clocks([operation["data_ended_at"], operation["ended_at"]]) == ["03:17:48.000", None] and len(log.operations) == 1


def test_store_that_could_not_be_written_is_a700(tmp_path):
    log = load(tmp_path, dcmtk("Association Received", ACKNOWLEDGED, "Received Store Request", "storing DICOM file: /srv/CT.1.2",
                               "Received Store Request", "storing DICOM file: /srv/CT.1.3", "cannot write DICOM file: /srv/CT.1.3: full",
                               "Association Release"))
    assert log.associations[["n_stored", "n_failed"]].values.tolist() == [[1, 1]]
    assert log.operations["status_code"].tolist() == ["", "A700"]


def test_dots_are_pdvs_and_continue_behind_a_line_of_another_process(tmp_path):
    text = ("I: Association Received (a:CT1 -> ARCHIVE)\nI: " + ACKNOWLEDGED + "\nI: Received Store SCP:\n" + "".join(
        f"I: {line}\n" for line in dump("C-STORE", "1.2.3")) + "RECV: .....I: Association Received (b:MR1 -> NOBODY)\n....\n"
        "I: Refusing Association (BadAEService)\n" + "".join(f"I: {line}\n" for line in dump("C-STORE", "1.2.3", status="0000")) + "I: Association Release\n")
    log = load(tmp_path, text)
    assert log.operations["n_bytes"].tolist() == [9 * 16_372] and log.operations["n_bytes_source"].tolist() == ["pdv_dots"]
    assert log.associations["outcome"].tolist() == ["released", "rejected"] and log.associations["started_at"].isna().all()
    assert log.associations["n_bytes"].tolist()[0] == 9 * 16_372 and not log.associations["is_ambiguous"].any()


def test_dots_of_two_stores_at_once_count_for_neither(tmp_path):
    text = "".join(f"I: {line}\n" for line in (
        "Association Received (a:CT1 -> A)", ACKNOWLEDGED, "Association Received (b:MR1 -> A)", ACKNOWLEDGED, *dump("C-STORE", "1.1"),
        *dump("C-STORE", "1.2"))) + "RECV: .RECV: ........\n" + "".join(f"I: {line}\n" for line in (
            *dump("C-STORE", "1.2", status="0000"), *dump("C-STORE", "1.1", status="A700"), "Association Release", "Association Release"))
    log = load(tmp_path, text)
    assert log.operations["n_bytes"].isna().all()
    assert log.operations.set_index("sop_instance_uid")["status_category"].to_dict() == {"1.1": "Failure", "1.2": "Success"}
    assert log.operations["called_ae_title"].tolist() == ["A", "A"] and log.operations["calling_ae_title"].tolist() == ["", ""]
    assert log.associations["is_ambiguous"].all()


def test_process_ids_tell_interleaved_children_apart(tmp_path):
    text = (dcmtk("Association Received (a:CT1 -> A)", ACKNOWLEDGED, pid=1) + dcmtk(*dump("C-STORE", "1.1"), pid=11)
            + dcmtk("Association Received (b:MR1 -> A)", ACKNOWLEDGED, pid=1) + dcmtk(*dump("C-STORE", "1.2"), pid=12)
            + dcmtk(*dump("C-STORE", "1.1", status="0000"), pid=11) + dcmtk(*dump("C-STORE", "1.3"), *dump("C-STORE", "1.3", status="0000"), pid=11)
            + dcmtk(*dump("C-STORE", "1.2", status="0000"), "Association Release", pid=12) + dcmtk("Association Release", pid=11))
    log = load(tmp_path, text)
    assert log.associations.set_index("calling_ae_title")["n_stored"].to_dict() == {"CT1": 2, "MR1": 1}
    assert not log.associations["is_ambiguous"].any()


def test_children_that_accept_for_themselves_are_told_apart(tmp_path):
    text = "".join(dcmtk("Association Received", f"Calling Application Name:    {name}", ACKNOWLEDGED, pid=pid) for name, pid in (("CT1", 11), ("MR1", 12)))
    log = load(tmp_path, text + dcmtk("Received Echo Request", pid=12) + dcmtk("Association Release", pid=12) + dcmtk("Association Aborted", pid=11))
    assert log.associations[["calling_ae_title", "outcome", "n_operations"]].astype(str).values.tolist() == [["CT1", "aborted", "0"], ["MR1", "released", "1"]]


def test_children_that_cannot_be_assigned_to_their_parent_are_ambiguous(tmp_path):
    text = (dcmtk("Association Received (a:CT1 -> A)", ACKNOWLEDGED, "Association Received (b:MR1 -> A)", ACKNOWLEDGED, pid=1)
            + dcmtk(*dump("C-STORE", "1.1"), *dump("C-STORE", "1.1", status="0000"), "Association Release", pid=11) + dcmtk("Association Aborted", pid=12))
    log = load(tmp_path, text)
    assert log.associations["is_ambiguous"].all() and log.associations["outcome"].isna().all()
    assert log.operations["association_id"].tolist() == [""] and log.operations["status_category"].tolist() == ["Success"]


def test_child_that_dies_without_a_word_does_not_blur_what_follows(tmp_path):
    text = "".join(f"I: {line}\n" for line in (
        "Association Received (a:CT1 -> A)", ACKNOWLEDGED, "Cleaned up after child (7)", "Association Received (b:MR1 -> A)", ACKNOWLEDGED,
        *dump("C-STORE", "1.2"), *dump("C-STORE", "1.2", status="0000"), "Association Release"))
    log = load(tmp_path, text)
    assert log.associations["outcome"].tolist() == ["unfinished", "released"] and log.associations["n_stored"].tolist() == [0, 1]
    assert not log.associations["is_ambiguous"].any()


def test_sub_association_of_a_move_is_an_association_of_its_own(tmp_path):
    text = dcmtk("Association Received (ws:WS1 -> ARCHIVE)", ACKNOWLEDGED, "Message Type                  : C-MOVE RQ",
                 "Move Destination              : WS2", "======================= END DIMSE MESSAGE =======================",
                 "Requesting Sub-Association", "Store SCU RQ: MsgID 1, (CT)", "Move SCP: Received Store SCU RSP [Status=Success]",
                 "Store SCU RQ: MsgID 2, (CT)", "Move SCP: Received Store SCU RSP [Status=Refused: OutOfResources]", "Releasing Sub-Association",
                 "Move SCP Response 2 [status: Success]", "Association Release")
    log = load(tmp_path, text)
    assert log.associations[["calling_ae_title", "called_ae_title", "n_operations", "n_stored", "n_failed"]].values.tolist() == [
        ["WS1", "ARCHIVE", 1, 0, 0], ["ARCHIVE", "WS2", 2, 1, 1]]
    assert log.operations["service"].tolist() == ["C-MOVE", "C-STORE", "C-STORE"]
    assert log.operations["status_category"].tolist() == ["Success", "Success", "Failure"]


def test_line_per_stored_object_has_exact_bytes_and_its_own_zone(tmp_path):
    log = load(tmp_path, "2026-11-24T03:17:47,427837791+02:00|MR1|WS2|mr1|MR.1.2.3|132764\n", site=Site(time_zone="America/Chicago"))
    row = log.operations.iloc[0]
    assert row["ended_at"] == pd.Timestamp("2026-11-24T01:17:47.427837Z")
    assert (row["calling_ae_title"], row["called_ae_title"], row["sop_instance_uid"], row["modality"], row["n_bytes"], row["n_bytes_source"]) == \
        ("MR1", "WS2", "1.2.3", "MR", 132764, "exact")


def test_programs_in_one_syslog_are_read_apart_and_the_rest_is_rejected(tmp_path):
    text = ("Nov 24 03:33:17 vm storescp: I: Association Received\nNov 24 03:33:17 vm sshd[99]: Accepted publickey\n"
            "Nov 24 03:33:17 vm dcmqrscp: I: Association Received (a:CT1 -> A)\n"
            f"Nov 24 03:33:18 vm storescp: I: {ACKNOWLEDGED}\nNov 24 03:33:18 vm dcmqrscp: I: {ACKNOWLEDGED}\n"
            "Nov 24 03:33:19 vm dcmqrscp: I: Association Aborted\nNov 24 03:33:20 vm storescp: I: Association Release\n")
    log = load(tmp_path, text)
    assert clocks(log.associations["ended_at"]) == ["03:33:20.000", "03:33:19.000"]
    assert log.associations["outcome"].tolist() == ["released", "aborted"] and not log.associations["is_ambiguous"].any()
    assert log.rejected["code"].tolist() == ["OTHER_PROGRAM"] and b"sshd" in show_rejected(log, 0)


# nothing lost

def test_log_that_begins_inside_an_association_keeps_it(tmp_path):
    log = load(tmp_path, orthanc(store("00:01.000000"), *stored("00:02.000000"), release("00:03.000000")))
    row = log.associations.iloc[0]
    assert row["problems"] == "START_NOT_SEEN" and pd.isna(row["started_at"])
    assert (row["calling_ae_title"], row["called_ae_title"], row["n_stored"]) == ("CT1", "ARCHIVE", 1)


def test_last_line_without_end_is_rejected_for_the_next_load(tmp_path):
    text = orthanc(*opening(), release("00:01.000000"))
    log = load(tmp_path, text + "I1124 03:00:02.0000")
    assert log.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [[len(text), 19, "PARTIAL_LINE"]]


def test_lines_without_prefix_belong_to_the_line_above(tmp_path):
    trace = "Traceback (most recent call last):\n  at Foo\n\n"
    log = load(tmp_path, orthanc("00:00.000000 Error") + trace + orthanc(*opening(), release("00:01.000000")))
    assert len(log.rejected) == 0 and log.sources["n_bytes_framing"].tolist() == [len(orthanc("00:00.000000 Error")) + len(trace)]


def test_binary_and_foreign_lines_are_one_rejected_row_per_run(tmp_path):
    junk, foreign = b"\0\1\2\3\4\5\n" * 3, b"[2026-11-24 03:00:00] nginx: GET /\n" * 2
    head, tail = orthanc(*opening()).encode(), orthanc(release("00:01.000000")).encode()
    log = load(tmp_path, head + junk + foreign + tail)
    assert log.rejected[["source_offset", "n_bytes", "code"]].values.tolist() == [
        [len(head), len(junk), "NOT_TEXT"], [len(head) + len(junk), len(foreign), "UNKNOWN_FORMAT"]]
    assert log.associations["outcome"].tolist() == ["released"]


def test_rejected_rows_stay_few_and_their_bytes_still_add_up(tmp_path):
    text = orthanc(*opening()) + "".join(f"{orthanc('00:01.000000 (http) GET /' + str(n))}[2026-11-24 03:00:00] other {n}\n" for n in range(1500))
    log = load(tmp_path, text)
    assert len(log.rejected) == 1001
    assert log.rejected["n_bytes"].sum() == sum(len(f"[2026-11-24 03:00:00] other {n}\n") for n in range(1500))


@pytest.mark.parametrize(("content", "code", "words"), [
    (b"", "EMPTY_FILE", "0 bytes"),
    (b"Doe^John 1970 something\n", "UNKNOWN_FORMAT", "aaa^aaaa 9999"),
    (b"MSH|^~\\&|RIS|A\r", "UNKNOWN_FORMAT", "HL7 messages; they are read by read_hl7_log;"),
    ("Start;Source AE;Destination AE;Images\n".encode("utf-16"), "UNKNOWN_FORMAT", "save it as UTF-8"),
    (b"\x93\0\1,\xff,\2,\xee,\0\n\0\0", "NOT_TEXT", "binary"),
    (b"\nStart;Source AE;Destination AE;Images\n02/03/2024 08:00;CT1;PACS;3\n", "UNKNOWN_FORMAT", "a table with columns; lists of transfers are read by read_transfer_list;"),
    (b'[{"00080005": {}}]\n', "UNKNOWN_FORMAT", "DICOMweb service are read by read_headers;"),
    (b"<AuditMessage/>\n", "UNKNOWN_FORMAT", "audit messages are read by read_audit_log;"),
    (b"\x89PNG\0\0\0\1\2\3\4\5\6\n", "NOT_TEXT", "binary"),
    (b"W: DICOM file already exists, overwriting: /srv/x\n", "NO_ASSOCIATIONS", "verbose"),
])
def test_file_of_no_use_is_rejected_whole_with_a_reason_and_no_value(tmp_path, content, code, words):
    log = load(tmp_path, content)
    assert log.rejected["code"].tolist() == [code] and log.rejected["n_bytes"].tolist() == [len(content)]
    assert words in log.rejected["reason"].iloc[0] and "Doe" not in log.rejected["reason"].iloc[0]
    assert len(log.associations) == len(log.operations) == 0


def test_terminal_codes_in_a_title_are_escaped_and_marked(tmp_path):
    log = load(tmp_path, orthanc(*opening(peer="AET CT\x1b[31m on IP 10.0.0.1")))
    assert log.associations["calling_ae_title"].tolist() == ["CT\\x1b[31m"] and log.associations["problems"].tolist() == ["CONTROL_CHARS"]


def test_rotated_files_are_one_log_read_oldest_first(tmp_path):
    log = load(tmp_path, orthanc(*opening(), store("00:01.000000")), orthanc(*stored("00:02.000000")), orthanc(release("00:03.000000")))
    assert log.associations["n_stored"].tolist() == [1] and clocks(log.associations["ended_at"]) == ["03:00:03.000"]
    assert log.associations["problems"].tolist() == [""] and log.associations["source_file"].str.endswith("server.log.2").all()


def test_lines_copied_by_rotation_are_read_once(tmp_path):
    first = dcmtk("Association Received", ACKNOWLEDGED, "Received Echo Request", "Association Release")
    copied = "".join(first.splitlines(keepends=True)[-3:])
    log = load(tmp_path, first, copied + dcmtk("Association Received", ACKNOWLEDGED, "Association Aborted", at="2026-11-24 03:20:00.000"))
    assert log.associations["outcome"].tolist() == ["released", "aborted"] and len(log.operations) == 1
    assert log.rejected[["code", "source_offset", "n_bytes"]].values.tolist() == [["DUPLICATE_LINE", 0, len(copied)]]
    assert log.rejected["source_file"].str.endswith("server.log").all()


def test_lines_that_stand_twice_in_a_file_are_read_once(tmp_path):
    once = orthanc(store("00:01.000000"), *stored("00:02.000000"))
    log = load(tmp_path, orthanc(*opening()) + once + once + orthanc(release("00:03.000000")))
    assert len(log.operations) == 1 and log.rejected[["code", "n_bytes"]].values.tolist() == [["DUPLICATE_LINE", len(once)]]


def test_packed_log_reads_as_the_plain_one(tmp_path):
    text = orthanc(*opening(), store("00:01.000000"), *stored("00:02.000000"), release("00:03.000000"))
    plain = load(tmp_path, text)
    (tmp_path / "server.log").unlink()
    packed = load(tmp_path, gzip.compress(text.encode()), name="server.log.gz")
    same = ["calling_ae_title", "started_at", "ended_at", "n_stored", "n_bytes"]
    assert packed.associations[same].equals(plain.associations[same]) and packed.sources["n_bytes"].tolist() == [len(text)]


def test_windows_line_ends_change_nothing(tmp_path):
    log = load(tmp_path, orthanc(*opening(), release("00:03.000000")).replace("\n", "\r\n"))
    assert log.associations["outcome"].tolist() == ["released"] and len(log.rejected) == 0


def test_association_ids_are_unique_over_all_files(tmp_path):
    for name in ("a.log", "b.log"):
        (tmp_path / name).write_text(orthanc(*opening(), release("00:01.000000")) * 1)
    log = read_dicom_log(tmp_path, site=SITE)
    assert log.associations["association_id"].is_unique and len(log.associations) == 2


@pytest.mark.parametrize("options", [{"year": "26"}, {"year": 26}, {"start_date": "24.11.2026"}, {"site": "UTC"}])
def test_wrong_argument_is_named(tmp_path, options):
    with pytest.raises(TableError, match=next(iter(options))):
        load(tmp_path, CONSOLE, **options)
