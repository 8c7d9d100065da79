import pandas as pd
import pytest

from pacs_helpers.readers.accession import fill_accession_numbers, measure_accession_fields
from pacs_helpers.site import Site
from pacs_helpers.tables import MESSAGES, TableError, conform

SITE = Site(time_zone="UTC")


def messages(*rows):
    return conform([{"message_type": "ORU", "patient_id": f"P{i}", "procedure_code": "CTHEAD", **row} for i, row in enumerate(rows)], MESSAGES)


def chosen(table):
    return table.loc[table["is_chosen"], "field"].tolist()


def test_the_field_whose_values_the_images_know_is_chosen_with_its_share():
    feed = messages({"obr_18": "X1", "obr_3": "A1"}, {"obr_18": "X2", "obr_3": "A2"}, {"obr_18": "X3", "obr_3": "A3"}, {"obr_18": "X4", "obr_3": "A9"})
    got = measure_accession_fields(feed, SITE, ["A1", "A2", "A3"])
    assert chosen(got) == ["OBR-3"] and not got["is_guess"].any()
    assert got.set_index("field").loc[["OBR-3", "OBR-18", "IPC-1"], "share_in_dicom"].tolist() == [0.75, 0.0, 0.0]


def test_numbers_are_compared_as_the_site_spells_them():
    feed = messages({"orc_3": "NS-0012", "obr_3": "77"})
    site = Site(time_zone="UTC", strip_prefixes=("NS-",))
    assert chosen(measure_accession_fields(feed, site, ["12"])) == ["ORC-3"]


def test_a_field_filled_once_does_not_win_by_its_perfect_overlap():
    feed = messages({"obr_18": "A1", "obr_3": "A1"}, *({"obr_3": f"A{i}"} for i in range(2, 10)), {"obr_3": "B1"})
    got = measure_accession_fields(feed, SITE, [f"A{i}" for i in range(1, 10)])
    assert got.set_index("field").loc[["OBR-18", "OBR-3"], "share_in_dicom"].tolist() == [1.0, 0.9] and chosen(got) == ["OBR-3"]


def test_without_images_it_is_a_guess_by_fill_uniqueness_and_length():
    feed = messages(*({"obr_18": "RADIOLOGY", "orc_2": f"2025/HOSPITAL/ORDER/{i}", "obr_3": f"A{i}"} for i in range(4)))
    got = measure_accession_fields(feed, SITE).set_index("field")
    assert got.index[got["is_chosen"]].tolist() == ["OBR-3"] and got["is_guess"].tolist() == got["is_chosen"].tolist()
    assert got["share_in_dicom"].isna().all()
    assert (got.loc["OBR-18", "share_unique"], got.loc["ORC-2", "share_short"], got.loc["OBR-3", "share_filled"]) == (0.25, 0.0, 1.0)


def test_numbers_too_long_for_the_images_are_not_guessed():
    feed = messages(*({"obr_18": f"2025/HOSPITAL/ORDER/{i}", "obr_3": f"A{i}"} for i in range(4)))
    assert chosen(measure_accession_fields(feed, SITE)) == ["OBR-3"]


def test_images_that_know_no_number_leave_it_a_guess():
    got = measure_accession_fields(messages({"obr_3": "A1"}), SITE, ["Z9"])
    assert chosen(got) == ["OBR-3"] and got["is_guess"].sum() == 1


def test_the_field_a_site_names_is_taken_whatever_was_measured():
    got = measure_accession_fields(messages({"obr_3": "A1", "obr_20": "S1"}), Site(time_zone="UTC", hl7_field="OBR-20.1"), ["A1"])
    assert chosen(got) == ["OBR-20"] and not got["is_guess"].any()


def test_only_messages_about_orders_are_measured():
    feed = conform([{"message_type": "ADT"}, {"message_type": "ACK"}, {"message_type": "ORM", "obr_3": "A1"}], MESSAGES)
    assert measure_accession_fields(feed, SITE).set_index("field").loc["OBR-3", ["n_filled", "share_filled"]].tolist() == [1, 1.0]


def test_a_feed_without_any_number_still_has_one_field_chosen():
    assert len(chosen(measure_accession_fields(conform([], MESSAGES), SITE))) == 1


def test_accession_numbers_are_filled_from_the_chosen_field_with_their_zeros():
    feed = messages({"obr_3": "000123", "obr_18": "X", "accession_number": "X"}, {"obr_18": "Y", "accession_number": "Y"})
    got = fill_accession_numbers(feed, measure_accession_fields(feed, Site(time_zone="UTC", hl7_field="OBR-3")))
    assert got["accession_number"].tolist() == ["000123", ""] and feed["accession_number"].tolist() == ["X", "Y"]


def test_a_table_with_no_field_chosen_is_a_callers_mistake():
    with pytest.raises(TableError, match="exactly one field must be chosen"):
        fill_accession_numbers(messages({}), pd.DataFrame({"field": ["OBR-3"], "is_chosen": [False]}))
