"""Lists of transfers as a PACS exports them: counts, sizes and times that stand on what the list says, and nothing that it does not."""

import pandas as pd
import pytest

from pacs_helpers import Site, TableError, propose_columns, read_transfer_list, summarize_links, summarize_throughput
from pacs_helpers.site import SIZE_UNITS

MAP = {"started": "Start", "ended": "End", "calling_ae_title": "Source AE", "called_ae_title": "Destination AE", "n_stored": "Images", "n_failed": "Failed", "n_bytes": "Size", "status": "Status"}
SITE = Site(time_zone="America/Chicago", transfers=MAP)
HEADER = "Start,End,Source AE,Destination AE,Images,Failed,Size,Status\n"


@pytest.fixture
def load(tmp_path):
    def load(*lines, header=HEADER, columns=None):
        data = (header + "".join(line + "\n" for line in lines)).encode()
        (tmp_path / "list.csv").write_bytes(data)
        got = read_transfer_list(tmp_path, site=SITE, columns=columns)
        source = got.sources.iloc[0]
        assert source["n_bytes"] == len(data) == source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"]
        return got
    return load


def test_a_line_is_an_association_and_the_stores_that_it_counts(load):
    got = load("2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,300,2,157286400,Partially failed")
    row = got.associations.iloc[0]
    told = {"calling_ae_title": "CT1", "called_ae_title": "ARCHIVE", "outcome": "failed", "n_operations": 302, "n_stored": 300, "n_failed": 2, "n_bytes": 157286400, "n_bytes_source": "exact",
            "problems": "", "source_offset": len(HEADER)}
    assert {name: row[name] for name in told} == told
    assert row[["started_at", "ended_at"]].tolist() == [pd.Timestamp("2024-02-29T14:00Z"), pd.Timestamp("2024-02-29T14:00:20Z")]
    assert got.operations[["service", "status_category", "n_instances"]].astype("str").values.tolist() == [["C-STORE", "Success", "300"], ["C-STORE", "Failure", "2"]]
    assert got.operations["n_bytes"].tolist() == [157286400, pd.NA] and set(got.operations["association_id"]) == {row["association_id"]}


def test_throughput_counts_what_a_line_stands_for(load):
    got = load("2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,300,2,100000000,Completed", "2024-02-29 08:10:00,2024-02-29 08:10:20,CT1,ARCHIVE,100,,50000000,Completed")
    buckets = summarize_throughput(got.operations, every="1h")
    assert buckets[["n_instances", "n_failed", "n_bytes", "n_bytes_source"]].values.tolist() == [[400, 2, 150000000, "exact"]]
    link = summarize_links(got.operations, got.associations).iloc[0]
    # 150 MB in two times 20 seconds: 30 Mbit/s, and 400 instances in 40 s
    assert link[["n_associations", "n_instances", "n_failed"]].tolist() == [2, 400, 2] and link["mbit_per_s_association"] == 30.0 and link["instances_per_s"] == 10.0
    assert link["mean_object_mbytes"] == 150 / 400


def test_a_list_of_instances_is_operations_without_association(load):
    got = load("2024-02-29 08:00:00,CT1,ARCHIVE,1.2.1,524288,Success", "2024-02-29 08:00:01,CT1,ARCHIVE,1.2.2,524288,Failure: A700", "2024-02-29 08:00:02,CT1,ARCHIVE,1.2.3,524288,Queued",
               header="Time,From,To,UID,Bytes,Status\n",
               columns={"started": "Time", "calling_ae_title": "From", "called_ae_title": "To", "sop_instance_uid": "UID", "n_bytes": "Bytes", "status": "Status"})
    assert got.associations.empty and set(got.operations["association_id"]) == {""}
    assert got.operations["sop_instance_uid"].tolist() == ["1.2.1", "1.2.2", "1.2.3"]
    assert got.operations["status_category"].astype(object).where(got.operations["status_category"].notna(), None).tolist() == ["Success", "Failure", None]
    assert got.operations["n_bytes"].tolist() == [524288, pd.NA, pd.NA] and got.operations["problems"].tolist() == ["", "", "NO_COUNT"]
    assert summarize_throughput(got.operations, every="1h")[["n_instances", "n_failed", "n_bytes"]].values.tolist() == [[1, 1, 524288]]


@pytest.mark.parametrize(("written", "unit", "n_bytes", "source"), [
    ("1048576", None, 1048576, "exact"), ("1,048,576", None, 1048576, "exact"), ("1.048.576", None, 1048576, "exact"), ("1,048", None, 1048, "exact"), ("12.5", "MB", 12500000, "mb_rounded"),
    ("12,5", "MB", 12500000, "mb_rounded"), ("1,234.5", "kB", 1234500, "mb_rounded"), ("1.5 GB", None, 1500000000, "mb_rounded"), ("2 MiB", "kB", 2097152, "mb_rounded"),
    ("500 KB", None, 500000, "mb_rounded"),
    ("3 MBytes", None, 3000000, "mb_rounded"), ("0", None, 0, "exact")])
def test_a_size_is_what_its_unit_says(load, written, unit, n_bytes, source):
    columns = {**MAP, **({"size_unit": unit} if unit else {})}
    row = load(f'2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,3,,"{written}",ok', columns=columns).associations.iloc[0]
    assert row[["n_bytes", "n_bytes_source", "problems"]].tolist() == [n_bytes, source, ""]


@pytest.mark.parametrize(("written", "unit"), [("1,234", "MB"), ("1.234", "MB"), ("big", None), ("-5", None), ("12 furlongs", None), ("1,23,4", None)])
def test_a_size_that_can_be_read_two_ways_or_none_is_missing(load, written, unit):
    row = load(f'2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,3,,"{written}",ok', columns={**MAP, **({"size_unit": unit} if unit else {})}).associations.iloc[0]
    assert pd.isna(row["n_bytes"]) and row[["n_bytes_source", "problems"]].tolist() == ["missing", "BAD_NUMBER"]


@pytest.mark.parametrize(("word", "outcome", "problems"), [
    ("Completed", "released", ""), ("SUCCESS", "released", ""), ("0x0000", "released", ""), ("B000", "released", ""), ("0xA700", "failed", ""), ("C123: cannot understand", "failed", ""),
    ("1000 sent", None, "UNKNOWN_STATUS"), ("Failed (timeout)", "failed", ""), ("Refused: out of resources", "rejected", ""),
    ("aborted by peer", "aborted", ""),
    ("In progress", "unfinished", "NO_COUNT"), ("incomplete", "failed", "PARTLY_FAILED"), ("not sent", None, "UNKNOWN_STATUS"), ("", None, ""), ("unsuccessful", None, "UNKNOWN_STATUS")])
def test_a_status_is_taken_at_its_word_or_not_at_all(load, word, outcome, problems):
    row = load(f"2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,3,,9,{word}").associations.iloc[0]
    assert (None if pd.isna(row["outcome"]) else row["outcome"]) == outcome and row["problems"] == problems


@pytest.mark.parametrize(("written", "seconds"), [("20", 20), ("20.5 s", 20.5), ("1:20", 80), ("00:01:20", 80), ("1500 ms", 1.5), ("2 min", 120)])
def test_a_duration_gives_the_end(load, written, seconds):
    got = load(f"2024-02-29 08:00:00,{written},CT1,ARCHIVE,3", header="Start,Duration,From,To,Images\n",
               columns={"started": "Start", "duration": "Duration", "calling_ae_title": "From", "called_ae_title": "To", "n_stored": "Images"})
    assert got.associations["ended_at"].tolist() == [pd.Timestamp("2024-02-29T14:00Z") + pd.Timedelta(seconds=seconds)]


@pytest.mark.parametrize(("start", "problems"), [("2024-02-29 08:00", "NO_SECONDS"), ("2024-02-29", "NO_TIME_OF_DAY"), ("02/03/2024 08:00:00", "DATE_AMBIGUOUS"), ("yesterday", "BAD_TIME")])
def test_what_a_time_does_not_say_is_flagged(load, start, problems):
    row = load(f"{start},,CT1,ARCHIVE,3,,9,ok").associations.iloc[0]
    assert row["problems"] == problems and pd.isna(row["ended_at"])


@pytest.mark.parametrize(("images", "failed", "status", "stored_and_failed", "problems"), [
    ("100", "", "Failed", [0, 100], ""), ("100", "", "Rejected", [0, 100], ""), ("100", "", "ok", [100, None], ""), ("100", "", "", [100, None], ""), ("100", "7", "ok", [93, 7], ""),
    ("100", "100", "Failed", [0, 100], ""), ("100", "", "Partial", [None, None], "PARTLY_FAILED"), ("100", "", "In progress", [None, None], "NO_COUNT"),
    ("100", "", "Fehlgeschlagen", [None, None], "UNKNOWN_STATUS"), ("many", "", "ok", [None, None], "BAD_NUMBER NO_COUNT"), ("", "", "ok", [None, None], "NO_COUNT")])
def test_what_was_stored_is_what_counts_and_status_say_together(load, images, failed, status, stored_and_failed, problems):
    got = load(f"2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,{images},{failed},,{status}", columns={**{k: v for k, v in MAP.items() if k != "n_stored"}, "n_instances": "Images"})
    row = got.associations.iloc[0]
    assert [None if pd.isna(row[name]) else row[name] for name in ("n_stored", "n_failed")] == stored_and_failed and row["problems"] == problems
    buckets = summarize_throughput(got.operations, every="1h")
    counted = [[stored_and_failed[0] or 0, stored_and_failed[1] or 0]] if any(stored_and_failed) else []
    assert buckets[["n_instances", "n_failed"]].values.tolist() == counted


def test_what_was_sent_is_not_nothing_where_only_its_size_is_told(load):
    got = load("2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,,,1000000,ok", "2024-02-29 08:10:00,2024-02-29 08:10:20,CT1,ARCHIVE,10,,20000000,ok")
    assert got.associations["problems"].tolist() == ["NO_COUNT", ""]
    assert summarize_throughput(got.operations, every="1h")[["n_instances", "n_bytes"]].values.tolist() == [[10, 21_000_000]]
    assert summarize_links(got.operations, got.associations)["n_bytes"].tolist() == [21_000_000]


@pytest.mark.parametrize(("header", "written", "seconds"), [("Duration (ms)", "1500", 1.5), ("Duration (min)", "1.5", 90), ("Duration (hh:mm)", "00:02", 120), ("Duration [s]", "12,5", 12.5),
                                                          ("Duration", "00:00:12,5", 12.5)])
def test_the_unit_of_a_duration_stands_in_its_header(load, header, written, seconds):
    got = load(f'2024-02-29 08:00:00,"{written}",CT1,ARCHIVE,3', header=f"Start,{header},From,To,Images\n",
               columns={"started": "Start", "duration": header, "calling_ae_title": "From", "called_ae_title": "To", "n_stored": "Images"})
    assert got.associations["ended_at"].tolist() == [pd.Timestamp("2024-02-29T14:00Z") + pd.Timedelta(seconds=seconds)]


def test_the_unit_of_a_size_stands_in_its_header_and_bytes_are_whole(load):
    columns = {"started": "Start", "n_bytes": "Size (MB)", "n_stored": "Images", "calling_ae_title": "From"}
    got = load("2024-02-29 08:00:00,250.5,3,CT1", header="Start,Size (MB),Images,From\n", columns=columns)
    assert got.associations[["n_bytes", "n_bytes_source"]].values.tolist() == [[250_500_000, "mb_rounded"]]
    got = load("2024-02-29 08:00:00,250.5,3,CT1", header="Start,Size,Images,From\n", columns={**columns, "n_bytes": "Size"})
    assert got.associations["problems"].tolist() == ["BAD_NUMBER"] and pd.isna(got.associations["n_bytes"].iloc[0])


def test_a_line_of_totals_is_kept_and_counts_nowhere(load):
    got = load("2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,30,,9,ok", ",,,,30,,9,", "Total,,,,30,,9,")
    assert got.associations["problems"].tolist() == ["", "NOT_A_TRANSFER", "BAD_TIME NOT_A_TRANSFER"] and got.associations["n_stored"].sum() == 30 and len(got.operations) == 1


def test_lists_that_overlap_count_once(tmp_path):
    lines = [f"2024-02-29 08:0{n}:00,2024-02-29 08:0{n}:20,CT1,ARCHIVE,1{n},,1000,ok\n" for n in range(4)]
    for n, some in enumerate((lines[:3], lines[1:])):
        (tmp_path / f"{n}.csv").write_text(HEADER + "".join(some))
    got = read_transfer_list(tmp_path, site=SITE)
    assert got.associations["problems"].tolist() == ["", "", "", "DUPLICATE_LINE", "DUPLICATE_LINE", ""]
    assert got.associations["n_stored"].sum() == 10 + 11 + 12 + 13 == got.operations["n_instances"].sum()


def test_an_image_that_two_lists_name_is_kept_twice_and_counts_once(tmp_path):
    columns = {"started": "Time", "calling_ae_title": "From", "called_ae_title": "To", "sop_instance_uid": "UID", "n_bytes": "Bytes"}
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("Time,From,To,UID,Bytes\n2024-02-29 08:00:00,CT1,ARCHIVE,1.2.1,1000\n")
    got = read_transfer_list(tmp_path, site=SITE, columns=columns)
    assert got.operations["problems"].tolist() == ["", "DUPLICATE_LINE NO_COUNT"]
    assert summarize_throughput(got.operations, every="1h")[["n_instances", "n_bytes"]].values.tolist() == [[1, 1000]]


def test_times_to_the_minute_or_backward_give_no_rate(load):
    got = load("2024-02-29 08:00,2024-02-29 08:01,CT1,ARCHIVE,3,,50000000,ok", "2024-02-29 09:00:00,2024-02-29 08:59:00,CT2,ARCHIVE,3,,50000000,ok")
    assert got.associations["problems"].tolist() == ["NO_SECONDS", "END_BEFORE_START"]
    links = summarize_links(got.operations, got.associations)
    assert links[["mbit_per_s_association", "mbit_per_s_flow", "instances_per_s"]].isna().all(axis=None) and links["n_instances"].tolist() == [3, 3]


def test_a_proposal_tells_a_list_of_transfers_from_a_ris_export(tmp_path):
    (tmp_path / "list.csv").write_text("Start Date,Start Time,End Time,Source AE Title,Destination AE Title,Number of Images,Failed Images,Size (MB),Transfer Status,Patient Name\n"
                                       + "".join(f"2024-02-29,08:{n}:00,2024-02-29 08:{n}:30,CT{n % 3},ARCHIVE,{n},0,{n}.5,OK,ROE^{n}\n" for n in range(10, 40)))
    (tmp_path / "site.toml").write_text('time_zone = "UTC"\n')
    got = propose_columns(tmp_path / "list.csv", write_to=tmp_path / "site.toml")
    assert dict(zip(got["field"], got["header"])) == {
        "started": ["Start Date", "Start Time"], "ended": "End Time", "calling_ae_title": "Source AE Title", "called_ae_title": "Destination AE Title", "n_instances": "Number of Images",
        "n_failed": "Failed Images", "n_bytes": "Size (MB)", "status": "Transfer Status", "": "Patient Name"}
    read = read_transfer_list(tmp_path / "list.csv", site=Site.load(tmp_path / "site.toml"))
    assert read.associations["n_bytes"].tolist() == [n * 1_000_000 + 500_000 for n in range(10, 40)] and not read.associations["problems"].any()
    assert read.associations["started_at"].iloc[0] == pd.Timestamp("2024-02-29T08:10Z")


@pytest.mark.parametrize("header", ["# Images,# Sent,# Failed", "Total Images,Sent,Failed", "Images,Images Sent,Failed Images", "Instances,Completed,Errors"])
def test_a_proposal_tells_what_was_meant_from_what_was_sent(tmp_path, header):
    (tmp_path / "list.csv").write_text(f"Start Time,Source,Destination,{header}\n" + "".join(f"2024-02-29 08:{n}:00,CT{n % 3},ARCHIVE,{n},{n - 3},3\n" for n in range(10, 40)))
    got = propose_columns(tmp_path / "list.csv")
    assert [dict(zip(got["field"], got["header"]))[name] for name in ("n_instances", "n_stored", "n_failed")] == header.split(",")


def test_a_date_serves_the_times_beside_it_and_a_study_date_is_no_transfer(tmp_path):
    (tmp_path / "list.csv").write_text("Study Date,Study Time,Date,Start Time,End Time,Source,Images\n" + "".join(
        f"2020-01-02,07:00:00,2024-02-29,08:{n}:00,08:{n}:30,CT1,{n}\n" for n in range(10, 40)))
    got = dict(zip(*(propose_columns(tmp_path / "list.csv")[c] for c in ("field", "header"))))
    assert got["started"] == ["Date", "Start Time"] and got["ended"] == ["Date", "End Time"]


@pytest.mark.parametrize(("columns", "said"), [({"calling_ae_title": "Source AE"}, "no header is named for started"),
                                               ({**MAP, "size_unit": "Mb/s"}, "size_unit: 'Mb/s' is not one of " + ", ".join(SIZE_UNITS)),
                                               ({**MAP, "n_images": "Images"}, "'n_images' is no field of a transfer"), ({**MAP, "reason": "Why"}, "no column 'Why'"), ({}, "propose_columns")])
def test_a_callers_mistake_is_told(load, columns, said):
    with pytest.raises(TableError, match=said):
        load("2024-02-29 08:00:00,2024-02-29 08:00:20,CT1,ARCHIVE,3,,9,ok", columns=columns)
