import datetime as dt
import io

import openpyxl
import pandas as pd
import pytest

from pacs_helpers import Site, TableError, best_events, build_department
from pacs_helpers.readers.risexport import propose_columns, read_ris_export

MAP = {"accession_number": "Acc", "patient_id": "MRN", "patient_name": "Name", "ordered": "Ordered", "final": "Signed"}
SITE = Site(time_zone="America/Chicago", ris=MAP)
HEADER = "Acc,MRN,Name,Ordered,Signed\n"
ROW = "A1,00123,ROE,2024-03-11 09:20,2024-03-11 10:00\n"


@pytest.fixture
def load(tmp_path):
    def load(data, *, columns=None, name="ris.csv"):
        data = data if isinstance(data, bytes) else data.encode()
        (tmp_path / name).write_bytes(data)
        got = read_ris_export(tmp_path, site=SITE, columns=columns)
        source = got.sources.iloc[0]
        assert source["n_bytes"] == len(data) == source["n_bytes_in_rows"] + source["n_bytes_rejected"] + source["n_bytes_framing"]
        assert source["n_rejected"] == len(got.rejected)
        return got
    return load


def test_a_row_is_an_exam_with_its_milestones(load):
    row = load(HEADER + ROW).exams.iloc[0]
    assert row[["accession_number", "patient_id", "patient_name", "problems", "raw"]].tolist() == ["A1", "00123", "ROE", "", ""]
    assert [row["ordered_at"], row["final_at"]] == [pd.Timestamp("2024-03-11T14:20Z"), pd.Timestamp("2024-03-11T15:00Z")] and pd.isna(row["arrived_at"])
    assert row["precision"] == "ordered_at=minute final_at=minute" and row["source_offset"] == len(HEADER)


# The numbered rows of bad input

@pytest.mark.parametrize("number", ["1.23457E+11", "1,2E+9", "9E15"])
def test_100_a_number_that_excel_rounded_is_no_key(load, number):
    row = load(HEADER + f'A1,"{number}",ROE,,\n').exams.iloc[0]
    assert row[["patient_id", "problems", "raw"]].tolist() == ["", "EXCEL_NUMBER", f'{{"patient_id": "{number}"}}']


@pytest.mark.parametrize("name", ["NA", "None", "nan", "NULL", "n/a"])
def test_101_names_that_look_like_nothing_stay_names(load, name):
    assert load(HEADER + f"A1,00123,{name},,\n").exams["patient_name"].tolist() == [name]


def test_102_a_line_with_another_number_of_fields_is_rejected_and_never_shifted(load):
    got = load(HEADER + ROW + "A2,extra,00124,POE,2024-03-11 09:20,2024-03-11 10:00\n" + "A3,00125,TOE\n" + ROW.replace("A1", "A4"))
    assert got.exams["accession_number"].tolist() == ["A1", "A4"] and got.rejected["code"].tolist() == ["FIELD_COUNT", "FIELD_COUNT"]
    assert got.rejected["reason"][0].startswith("line 3 has 6 fields where the header has 5")


def test_103_a_quote_that_never_closes_costs_one_line(load):
    lines = [ROW.replace("A1", f"A{n}") for n in range(50)]
    lines[1] = 'A1,00123,"ROE,2024-03-11 09:20,2024-03-11 10:00\n'
    got = load(HEADER + "".join(lines))
    assert len(got.exams) == 49 and got.rejected["code"].tolist() == ["UNBALANCED_QUOTE"] and got.rejected["reason"][0].startswith("line 3 ")


def test_a_quoted_value_may_hold_the_delimiter_a_quote_and_a_line_end(load):
    got = load(HEADER + 'A1,00123,"ROE, ""R""\nJR",2024-03-11 09:20,\nA2,00124,5" TUBE,,\n')
    assert got.exams["patient_name"].tolist() == ['ROE, "R"\nJR', '5" TUBE'] and len(got.rejected) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_104_any_delimiter_and_mark(load, delimiter, encoding):
    row = load((HEADER + ROW.replace("ROE", "MÜLLER")).replace(",", delimiter).encode(encoding)).exams.iloc[0]
    assert row[["accession_number", "patient_name", "problems"]].tolist() == ["A1", "MÜLLER", ""]


def test_text_in_no_known_encoding_is_kept_and_flagged(load):
    row = load((HEADER + ROW.replace("ROE", "MÜLLER")).encode("latin-1")).exams.iloc[0]
    assert row[["patient_name", "problems"]].tolist() == ["MÜLLER", "CHARSET_MISSING"]


def test_105_a_header_that_stands_twice_is_not_guessed_until_picked(load):
    text = "Acc,MRN,MRN,Name,Ordered,Signed\nA1,00123,77,ROE,,\n"
    row = load(text).exams.iloc[0]
    assert row[["patient_id", "problems"]].tolist() == ["", "DUPLICATE_HEADER"]
    assert load(text, columns={**MAP, "patient_id": "MRN#2"}).exams[["patient_id", "problems"]].values.tolist() == [["77", ""]]


@pytest.mark.parametrize(("text", "code"), [("45361.5", "EXCEL_DATE"), ("3/10/68", "TWO_DIGIT_YEAR"), ("31/31/2024", "BAD_TIME"), ("soon", "BAD_TIME")])
def test_106_a_date_that_is_a_number_or_has_two_digits_of_year_is_not_guessed(load, text, code):
    row = load(HEADER + f"A1,00123,ROE,{text},\n").exams.iloc[0]
    assert pd.isna(row["ordered_at"]) and row["problems"] == code and row["raw"] == f'{{"ordered_at": "{text}"}}'


def test_107_a_long_number_beside_a_blank_keeps_its_digits(load):
    got = load(HEADER + "A1,9007199254740993,ROE,,\nA2,,ROE,,\n")
    assert got.exams["patient_id"].tolist() == ["9007199254740993", ""]


def test_108_titles_and_totals_are_no_records(load):
    got = load("Turnaround report\nprinted 2024-03-12,,,,\n" + HEADER + ROW + ",,,,\n" + "Total,1,,,\n" + "Total:\n")
    assert got.exams["accession_number"].tolist() == ["A1"] and got.rejected["code"].tolist() == ["NOT_A_RECORD"] * 4


def test_a_header_repeated_on_each_page_is_framing(load):
    got = load(HEADER + ROW + HEADER + ROW.replace("A1", "A2"))
    assert got.exams["accession_number"].tolist() == ["A1", "A2"] and len(got.rejected) == 0


@pytest.mark.parametrize("written", [" 00123 ", "\u00a000123", "'00123"])
def test_109_what_spreadsheets_put_around_an_id_is_taken_off_and_told(load, written):
    row = load(HEADER + f"A1,{written},ROE,,\n").exams.iloc[0]
    assert row[["patient_id", "problems"]].tolist() == ["00123", "ID_CLEANED"] and "00123" in row["raw"]


def test_110_blank_keys_join_nothing(load):
    got = load("Acc,MRN,Mod,Ordered\n,1,CT,2024-03-11 09:20\n,2,MR,2024-03-11 09:30\nA1,3,US,2024-03-11 09:40\n",
               columns={"accession_number": "Acc", "patient_id": "MRN", "modality": "Mod", "ordered": "Ordered"})
    events = build_department(ris=got, site=SITE).events
    assert events["accession_number"].tolist() == ["", "", "A1"] and best_events(events)["accession_number"].tolist() == ["A1"]
    assert not {"CT", "MR"} & set(events.loc[events["accession_number"] == "A1", "modality"].astype("str"))


def test_85_day_and_month_are_told_by_the_whole_column_or_by_the_site(load):
    ambiguous, clear = "A1,1,ROE,03/04/2024 09:20,\n", "A2,2,ROE,03/25/2024 09:20,\n"
    got = load(HEADER + ambiguous).exams.iloc[0]
    assert pd.isna(got["ordered_at"]) and got["problems"] == "DATE_AMBIGUOUS"
    assert load(HEADER + ambiguous + clear).exams["ordered_at"].tolist() == [pd.Timestamp("2024-03-04T15:20Z"), pd.Timestamp("2024-03-25T14:20Z")]
    assert load(HEADER + ambiguous, columns={**MAP, "date_order": "day first"}).exams["ordered_at"].tolist() == [pd.Timestamp("2024-04-03T14:20Z")]
    assert load(HEADER + clear + "A3,3,ROE,25/03/2024 09:20,\n").exams["problems"].tolist() == ["DATE_AMBIGUOUS", "DATE_AMBIGUOUS"]


def test_dates_with_dots_have_the_day_first(load):
    assert load(HEADER + "A1,1,ROE,03.04.2024 09:20,\n").exams["ordered_at"].tolist() == [pd.Timestamp("2024-04-03T14:20Z")]


@pytest.mark.parametrize(("text", "at"), [
    ("2024-03-11T09:20:30", "2024-03-11T14:20:30Z"), ("2024/03/11 9:20 PM", "2024-03-12T02:20Z"), ("03/25/2024 12:05 AM", "2024-03-25T05:05Z"), ("25.03.2024 12:05", "2024-03-25T17:05Z"),
    ("20240311092030", "2024-03-11T14:20:30Z"), ("2024-03-11", "2024-03-11T05:00Z"),
])
def test_times_in_the_ways_that_exports_write_them(load, text, at):
    assert load(HEADER + f"A1,1,ROE,{text},\n").exams["ordered_at"].tolist() == [pd.Timestamp(at)]


@pytest.mark.parametrize(("data", "code"), [(b"", "EMPTY_FILE"), (b"one column\nonly\n", "UNKNOWN_FORMAT"), (b"PK\3\4 no workbook", "BAD_ARCHIVE")])
def test_what_holds_no_table_is_one_rejected_row(load, data, code):
    assert load(data).rejected["code"].tolist() == [code]


def test_73_a_value_beyond_the_limit_is_rejected_with_it(load):
    got = load(HEADER + ROW + f'A2,1,{"x" * 140_000},,\n')
    assert got.exams["accession_number"].tolist() == ["A1"] and got.rejected["code"].tolist() == ["LINE_TOO_LONG"]


def test_an_excel_sheet_keeps_zeros_dates_and_text(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Monthly export"], ["Acc", "MRN", "Name", "Ordered", "Signed"], ["A1", "00123", "ROE", dt.datetime(2024, 3, 11, 9, 20), None],
                ["A2", 124, "POE", None, "2024-03-11 10:00"], ["Total", 2]):
        sheet.append(row)
    sheet["B4"].number_format = "00000"
    book.save(tmp_path / "ris.xlsx")
    got = read_ris_export(tmp_path, site=SITE)
    assert got.exams[["accession_number", "patient_id", "source_offset"]].values.tolist() == [["A1", "00123", 2], ["A2", "00124", 3]]
    assert got.exams["ordered_at"].tolist() == [pd.Timestamp("2024-03-11T14:20Z"), pd.NaT] and got.exams["final_at"].tolist() == [pd.NaT, pd.Timestamp("2024-03-11T15:00Z")]
    assert got.rejected["code"].tolist() == ["NOT_A_RECORD", "NOT_A_RECORD"]


def workbook(*sheets):
    book = openpyxl.Workbook()
    for number, rows in enumerate(sheets):
        sheet = book.active if not number else book.create_sheet()
        for row in rows:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_offsets_of_a_sheet_are_its_rows_and_other_sheets_are_told(load):
    rows = [["Acc", "MRN", "Name", "Ordered", "Signed"], ["A1", "1", "ROE"], ["Total", 1], ["A2", "2", "POE"]]
    got = load(workbook(rows, [], [["A3"]]), name="ris.xlsx")
    assert got.exams[["accession_number", "source_offset"]].values.tolist() == [["A1", 1], ["A2", 3]]
    assert got.rejected[["code", "n_bytes"]].values.tolist() == [["NOT_A_RECORD", 0], ["OTHER_SHEET", 0]] and got.rejected["reason"][1].startswith("sheet 3 ")


def test_a_damaged_workbook_is_rejected_whole(load):
    whole = workbook([["Acc", "MRN", "Name", "Ordered", "Signed"], ["A1", "1", "ROE"]])
    start = whole.index(b"xl/workbook.xml") + len(b"xl/workbook.xml")
    for data in (whole[:start] + bytes(range(40)) + whole[start + 40:], whole[:len(whole) // 2]):
        got = load(data, name="ris.xlsx")
        assert len(got.exams) == 0 and got.rejected[["code", "n_bytes"]].values.tolist() == [["BAD_ARCHIVE", len(data)]]


def test_any_prefix_is_accounted_for(load):
    data = (HEADER + ROW + 'A2,00124,"P, OE",,\n' + "Total,1\n").encode()
    for n in range(len(HEADER), len(data)):
        assert len(load(data[:n]).exams) <= 2


def test_a_file_of_another_shape_among_others_is_rejected_whole(load, tmp_path):
    (tmp_path / "other.csv").write_text("Station,Count\nCT1,3\n")
    (tmp_path / "ris.csv").write_text(HEADER + ROW)
    got = read_ris_export(tmp_path, site=SITE)
    assert got.exams["accession_number"].tolist() == ["A1"] and got.rejected[["code", "n_bytes"]].values.tolist() == [["MISSING_COLUMN", 20]]


@pytest.mark.parametrize(("columns", "said"), [({"acession_number": "Acc"}, "Did you mean 'accession_number'"), ({"accession_number": "Accs"}, "Did you mean 'Acc'"), ({}, "propose_columns")])
def test_a_callers_mistake_is_told(load, columns, said):
    with pytest.raises(TableError, match=said):
        load(HEADER + ROW, columns=columns)


# The proposal

EXPORT = ("Accession #,Pt MRN,Patient Name,DOB,Modality,Exam Description,Order Date/Time,Scheduled Time,Begin Exam,End Exam,Prelim Date,Signed Date,Reading Radiologist,Comments\n"
          + "".join(f"A{n},{n:05},ROE,19600102,CT,CT HEAD,2024-03-11 09:{n:02},2024-03-11 10:{n:02},2024-03-11 10:{n:02},2024-03-11 11:{n:02},,2024-03-11 12:{n:02},R1,none\n" for n in range(10, 40)))


def test_a_proposal_names_each_column_and_its_evidence(tmp_path):
    (tmp_path / "ris.csv").write_text(EXPORT)
    got = propose_columns(tmp_path)
    assert dict(zip(got["field"], got["header"])) == {
        "accession_number": "Accession #", "patient_id": "Pt MRN", "patient_name": "Patient Name", "patient_birth_date": "DOB", "modality": "Modality", "procedure_name": "Exam Description",
        "ordered": "Order Date/Time", "scheduled": "Scheduled Time", "exam_started": "Begin Exam", "exam_ended": "End Exam", "preliminary": "Prelim Date", "final": "Signed Date",
        "principal_interpreter": "Reading Radiologist", "": "Comments"}
    assert got.set_index("field").loc["preliminary", "share_filled"] == 0 and got.set_index("field").loc["final", "evidence"] == "the header says so; 100% filled, 100% look like times"
    assert "ROE" not in got.to_csv()


def test_a_proposal_says_which_of_day_and_month_comes_first_if_any_column_shows_it(tmp_path):
    (tmp_path / "ris.csv").write_text("Acc,Order Date,Signed\n" + "".join(f"A{n},03/04/2024 09:00,03/{n}/2024 09:00\n" for n in range(10, 20)))
    got = propose_columns(tmp_path / "ris.csv").set_index("field")
    assert got.loc["date_order", "header"] == "month first"
    (tmp_path / "ris.csv").write_text("Acc,Order Date\nA1,03/04/2024 09:00\nA2,03/04/2024 09:00\n")
    assert "date_order" not in propose_columns(tmp_path / "ris.csv")["field"].tolist()


def test_a_proposal_can_be_written_into_the_site_file_once(tmp_path):
    (tmp_path / "ris.csv").write_text(EXPORT)
    (tmp_path / "site.toml").write_text('time_zone = "UTC"\n')
    propose_columns(tmp_path / "ris.csv", write_to=tmp_path / "site.toml")
    site = Site.load(tmp_path / "site.toml")
    assert site.ris["final"] == "Signed Date" and len(read_ris_export(tmp_path / "ris.csv", site=site).exams) == 30
    with pytest.raises(TableError, match="has a .ris. table"):
        propose_columns(tmp_path / "ris.csv", write_to=tmp_path / "site.toml")


def test_numbers_guarded_for_excel_are_the_numbers(load):
    row = load('Acc,MRN,Name,Ordered,Signed\n="000100",="007",ROE,,\n').exams.iloc[0]
    assert row[["accession_number", "patient_id", "problems"]].tolist() == ["000100", "007", "ID_CLEANED"]


@pytest.mark.parametrize(("written", "date", "problems"), [("12.03.1950", "19500312", ""), ("1950-03-12", "19500312", ""), ("19500312", "19500312", ""),
                                                           ("01/02/1960", "", "DATE_AMBIGUOUS"), ("soon", "", "BAD_DATE")])
def test_a_birth_date_is_spelled_as_the_feeds_spell_it_or_not_guessed(load, written, date, problems):
    row = load(f"Acc,Born\nA1,{written}\n", columns={"accession_number": "Acc", "patient_birth_date": "Born"}).exams.iloc[0]
    assert row[["patient_birth_date", "problems"]].tolist() == [date, problems]
    assert row["raw"] == ("" if date else f'{{"patient_birth_date": "{written}"}}')


def test_the_time_of_an_order_is_no_order_number(tmp_path):
    (tmp_path / "a.csv").write_text("Accession,Order Date,Order Time\nA1,2024-03-11,07:00\nA2,2024-03-12,7:30 PM\n")
    got = propose_columns(tmp_path)
    assert list(zip(got["field"], got["header"])) == [("accession_number", "Accession"), ("ordered", ["Order Date", "Order Time"])]


@pytest.mark.parametrize(("date", "clock", "at"), [("2024-03-11", "07:05", "2024-03-11T12:05Z"), ("20240311", "0705", "2024-03-11T12:05Z"), ("11.03.2024", "7:05:09 PM", "2024-03-12T00:05:09Z"),
                                                   ("2024-03-11", "190509", "2024-03-12T00:05:09Z"), ("03/25/2024", "7:05", "2024-03-25T12:05Z")])
def test_a_date_and_its_time_of_day_in_two_columns_are_one_instant(load, date, clock, at):
    row = load(f"Acc,Order Date,Order Time\nA1,{date},{clock}\n", columns={"accession_number": "Acc", "ordered": ["Order Date", "Order Time"]}).exams.iloc[0]
    assert row["ordered_at"] == pd.Timestamp(at) and row["problems"] == ""


@pytest.mark.parametrize(("date", "clock", "problems", "raw"), [("", "07:05", "BAD_TIME", '{"ordered_at": "07:05"}'),
                                                               ("2024-03-11", "soon", "BAD_TIME", '{"ordered_at": "2024-03-11 soon"}'), ("", "", "", "")])
def test_half_an_instant_is_none(load, date, clock, problems, raw):
    row = load(f"Acc,Order Date,Order Time\nA1,{date},{clock}\n", columns={"accession_number": "Acc", "ordered": ["Order Date", "Order Time"]}).exams.iloc[0]
    assert pd.isna(row["ordered_at"]) and row[["problems", "raw"]].tolist() == [problems, raw]


def test_a_map_of_two_columns_goes_through_the_site_file(tmp_path):
    (tmp_path / "a.csv").write_text("Accession,Order Date,Order Time\nA1,2024-03-11,07:00\nA2,2024-03-12,7:30 PM\n")
    (tmp_path / "site.toml").write_text('time_zone = "UTC"\n')
    propose_columns(tmp_path / "a.csv", write_to=tmp_path / "site.toml")
    got = read_ris_export(tmp_path / "a.csv", site=Site.load(tmp_path / "site.toml"))
    assert got.exams["ordered_at"].tolist() == [pd.Timestamp("2024-03-11T07:00Z"), pd.Timestamp("2024-03-12T19:30Z")]


def test_excel_of_the_old_kind_and_its_lock_file_say_what_they_are(load):
    assert load(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), name="old.xls").rejected["reason"].tolist() == ["an Excel file of the old kind; save it as .xlsx or CSV"]


def test_numbers_that_look_like_dates_prove_no_order_of_day_and_month(tmp_path):
    (tmp_path / "a.csv").write_text("Accession,MRN,RIS Version,Study Date,Ordered\n" + "".join(f"A{n},P{n},13.2.5,25.03.2025,03/04/2025 08:{n}\n" for n in range(10, 20)))
    assert "date_order" not in propose_columns(tmp_path)["field"].tolist()


def test_dates_with_dots_have_the_day_first_and_say_nothing_about_others(load):
    got = load(HEADER + "A1,1,R,03/04/2024 09:00,03.04.2024 10:00\n").exams.iloc[0]
    assert pd.isna(got["ordered_at"]) and got["final_at"] == pd.Timestamp("2024-04-03T15:00Z") and got["problems"] == "DATE_AMBIGUOUS"


def test_an_exam_that_ends_before_it_starts_says_so(load):
    row = load("Acc,Date,Start,End\nA1,2024-03-11,23:50,00:20\n", columns={"accession_number": "Acc", "exam_started": ["Date", "Start"], "exam_ended": ["Date", "End"]}).exams.iloc[0]
    assert row["problems"] == "END_BEFORE_START" and row["exam_ended_at"] < row["exam_started_at"]


@pytest.mark.parametrize("clock", ["1899-12-30 07:05:00", "07:05"])
@pytest.mark.parametrize("date", ["2024-03-11 00:00:00", "2024-03-11T00:00:00.000", "2024-03-11"])
def test_dates_and_times_of_databases_carry_a_midnight_or_a_day_nought(load, date, clock):
    row = load(f"Acc,Order Date,Order Time\nA1,{date},{clock}\n", columns={"accession_number": "Acc", "ordered": ["Order Date", "Order Time"]}).exams.iloc[0]
    assert row["ordered_at"] == pd.Timestamp("2024-03-11T12:05Z") and row["problems"] == ""


@pytest.mark.parametrize(("columns", "words"), [(["Acc"], "{field: header} is needed"), ({"accession_number": "Acc", "date_order": "dmy"}, "'dmy' is not one of day first"),
                                                ({"patient_id": "MRN"}, "no header is named for accession_number"), ({"accession_number": ["Acc", "No"]}, "'accession_number' needs one header"),
                                                ({"accession_number": "Acc", "final": ["Signed"]}, "or a list of two")])
def test_a_map_that_cannot_work_is_refused(load, columns, words):
    with pytest.raises(TableError, match=words):
        load(HEADER + ROW, columns=columns)


def test_a_proposal_needs_english_headers_and_a_site_file(tmp_path):
    (tmp_path / "a.csv").write_text("Auftrag,Geboren\n1,2\n2,3\n")
    with pytest.raises(TableError, match="no header of .* in English; it has: Auftrag, Geboren"):
        propose_columns(tmp_path)
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    with pytest.raises(TableError, match="no file .*nosuch.toml"):
        propose_columns(tmp_path, write_to=tmp_path / "nosuch.toml")
