"""A table as rows read by name, without a dict for each: what is looked at one by one, yet too much to copy."""

import numpy as np
import pandas as pd

from ..schemas import INSTANT, TEXT


class _Columns(dict):
    """Columns as arrays, each made when first asked for; equal texts are one object, in those of the other tables too."""

    def __init__(self, table, places):
        super().__init__()
        self.table, self.places, self.family = table, places, [self]

    def __missing__(self, name):
        column = self.table[name]
        if column.dtype == TEXT:
            self._fill(name)
        else:
            values = column.dt.tz_localize(None).to_numpy("datetime64[us]") if column.dtype == INSTANT else column.to_numpy(object)
            self[name] = values[self.places]
        return self[name]

    def _fill(self, name):
        having = [columns for columns in self.family if name in columns.table.columns]
        codes, texts = pd.factorize(pd.concat([columns.table[name] for columns in having], ignore_index=True))
        texts = np.asarray(texts, dtype=object)
        for columns, mine in zip(having, np.split(codes, np.cumsum([len(columns.places) for columns in having])[:-1])):
            columns[name] = texts[mine[columns.places]]


class Row:
    """One row: `row["patient_id"]`. Instants are pandas Timestamps in UTC, or NaT."""

    __slots__ = ("_columns", "position")

    def __init__(self, columns, position):
        self._columns, self.position = columns, position

    def __getitem__(self, name):
        value = self._columns[name][self.position]
        return pd.Timestamp(value, tz="UTC") if type(value) is np.datetime64 else value

    def __eq__(self, other):
        return isinstance(other, Row) and self._columns is other._columns and self.position == other.position

    def __hash__(self):
        return hash((id(self._columns), self.position))

    def get(self, name, default=None):
        return self[name] if name in self._columns.table.columns else default


class Rows:
    """The rows of a table in the order of `keys`, whatever theirs is: `rows[i]` is a Row, `rows.places[i]` where it stands in the table.

    `rows.column(name)` is a numpy array, text as objects, instants as datetime64 in UTC.
    """

    def __init__(self, table, keys):
        self.places = _sorted(table[keys].reset_index(drop=True), keys)
        self._columns, self._n = _Columns(table, self.places), len(table)

    def share_texts(self, *others):
        """Nothing; from now on equal texts in columns of one name are one object in all of these Rows."""
        family = [rows._columns for rows in (self, *others)]
        for columns in family:
            columns.family = family

    def __len__(self):
        return self._n

    def __getitem__(self, position):
        return Row(self._columns, position)

    def __iter__(self):
        return (Row(self._columns, i) for i in range(self._n))

    def column(self, name):
        return self._columns[name]

    def __contains__(self, name):
        return name in self._columns.table.columns


def _sorted(table, keys):
    """Positions of the rows in the order of all keys, of which the later ones are looked at only where the first is equal."""
    places = table[keys[0]].sort_values(kind="stable").index.to_numpy()
    tied = table[keys[0]].duplicated(keep=False).to_numpy()
    if tied.any():
        places = places.copy()
        places[tied[places]] = table[tied].sort_values(keys, kind="stable").index
    return places


def grouped(pairs):
    """`{key: [positions]}` of `(key, [position])`; a list of one is that which was given, not another."""
    found = {}
    for key, one in pairs:
        if (had := found.setdefault(key, one)) is not one:
            if len(had) == 1:
                found[key] = had + one
            else:
                had += one
    return found
