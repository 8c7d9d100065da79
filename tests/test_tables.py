import pandas as pd
import pytest

from pacs_helpers import schemas
from pacs_helpers.tables import EVENTS, ORDERS, TableError, add_problem, conform


def test_every_schema_gives_an_empty_table_of_its_dtypes():
    tables = {n: s for n, s in vars(schemas).items() if n.isupper() and isinstance(s, dict) and not n.startswith("_")}
    assert len(tables) >= 16
    for schema in tables.values():
        got = conform([], schema)
        assert list(got.columns) == list(schema)
        assert all(isinstance(kind, tuple) or got[name].dtype == kind for name, (kind, _) in schema.items())


def test_missing_text_is_empty_missing_instants_and_counts_are_missing():
    got = conform([{"accession_number": None, "n_messages": None}], ORDERS)
    assert got["accession_number"].tolist() == [""] and got["placer_order_number"].tolist() == [""]
    assert got["n_messages"].isna().all() and got["ordered_at"].isna().all()


def test_identifiers_stay_text_with_their_zeros():
    assert conform([{"accession_number": "000123"}], ORDERS)["accession_number"].tolist() == ["000123"]


@pytest.mark.parametrize(("row", "words"), [
    ({"accession": "A1"}, "Unknown column 'accession'. Did you mean 'accession_number'?"),
    ({"milestone": "finale"}, "'finale' is not one of"),
    ({"at": "2024-03-11T09:00"}, "need a time zone or an offset"),
])
def test_a_callers_mistake_is_named(row, words):
    with pytest.raises(TableError, match=None) as caught:
        conform([row], EVENTS)
    assert words in str(caught.value)


def test_instants_of_any_offset_become_utc():
    got = conform([{"at": "2024-03-11T09:00-06:00"}, {"at": pd.Timestamp("2024-03-11T16:00", tz="Europe/Berlin")}], EVENTS)
    assert got["at"].tolist() == [pd.Timestamp("2024-03-11T15:00Z")] * 2


def test_a_problem_code_stands_once():
    assert add_problem(add_problem("", "BAD_TIME"), "BAD_TIME") == "BAD_TIME"
    assert add_problem("BAD_TIME", "EMPTY_ID") == "BAD_TIME EMPTY_ID"
