"""How a table is born: `conform` checks columns and vocabularies against the schemas."""

import difflib

import pandas as pd

from .schemas import (  # noqa: F401  the schemas are read from here by every other room
    ASSOCIATIONS,
    AUDIT,
    BACKLOG,
    CANDIDATES,
    COUNT,
    DRAFTS,
    EVENTS,
    EXAMS,
    FINDINGS,
    FLAG,
    INSTANCES,
    INSTANT,
    INTERVALS,
    LANES,
    LINK_RATES,
    MEASURE,
    MESSAGES,
    MILESTONES,
    OPERATIONS,
    ORDERS,
    OWNERS,
    PATIENTS,
    PERFORMED_STEPS,
    REHEARSAL,
    REJECTED,
    REPORTS,
    SERIES,
    SOURCES,
    STUDIES,
    TEXT,
    THROUGHPUT,
    TRACE,
    UPDATES,
)


class TableError(ValueError):
    """A caller's mistake: the argument or column, what is allowed, and the nearest spelling."""


class AccountingError(AssertionError):
    """Bytes or files that are in no row and not rejected: a bug of this package, not bad data."""


def nearest(word, allowed):
    """` Did you mean 'x'?`, or an empty text when nothing is near."""
    near = difflib.get_close_matches(str(word), [str(a) for a in allowed], 1)
    return f" Did you mean '{near[0]}'?" if near else ""


def conform(rows, schema):
    """A DataFrame with exactly the schema's columns, in order and of its dtypes.

    `rows` is a list of dicts, a dict of columns or a DataFrame. Columns left out are filled: text with "", the rest
    with missing. Unknown columns, unknown category values and instants without a zone raise TableError.
    """
    given = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    for column in given.columns:
        if column not in schema:
            raise TableError(f"Unknown column '{column}'.{nearest(column, schema)}")
    index = given.index if isinstance(rows, pd.DataFrame) else pd.RangeIndex(len(given))
    return pd.DataFrame({name: _column(name, given.get(name), kind, index) for name, (kind, _) in schema.items()}, index=index)


def _column(name, values, kind, index):
    if isinstance(kind, tuple):
        return _category(name, values, kind, index)
    if values is None:
        filler = {TEXT: "", INSTANT: pd.NaT, MEASURE: float("nan")}.get(kind, pd.NA)
        return pd.Series(filler, index=index, dtype=kind)
    if kind == TEXT:
        return values.astype("str").where(values.notna(), "")
    if kind == INSTANT:
        return _instants(name, values)
    try:
        return values.astype(kind)
    except (TypeError, ValueError):
        return pd.to_numeric(values, errors="raise").astype(kind)


def _instants(name, values):
    if not pd.api.types.is_datetime64_any_dtype(values):
        given = values[values.notna()]
        values = pd.Series([pd.Timestamp(v) for v in given], index=given.index, dtype=object).reindex(values.index)
        naive = any(v.tz is None for v in values.dropna())
    else:
        naive = values.dt.tz is None and values.notna().any()
    if naive:
        raise TableError(f"Column '{name}': instants need a time zone or an offset; give them in UTC.")
    return pd.to_datetime(values, utc=True).astype(INSTANT)


def _category(name, values, allowed, index):
    dtype = pd.CategoricalDtype(list(allowed), ordered=True)
    if values is None:
        return pd.Series(pd.NA, index=index, dtype=dtype)
    values = values.where(values.notna() & (values.astype("str") != ""), None)
    for value in pd.unique(values.dropna()):
        if value not in allowed:
            raise TableError(f"Column '{name}': '{value}' is not one of {', '.join(allowed)}.{nearest(value, allowed)}")
    return values.astype(dtype)


def require_columns(table, names, argument):
    """Nothing; TableError naming the argument and the first column that is not there."""
    if not isinstance(table, pd.DataFrame):
        raise TableError(f"{argument}: a table is needed, not {type(table).__name__}; of what a reader returns, take the table: {argument}=result.{argument}.")
    for name in names:
        if name not in table.columns:
            raise TableError(f"{argument}: column '{name}' is missing.{nearest(name, table.columns)}")


def add_problem(problems, code):
    """The problems text with `code` in it once."""
    codes = problems.split()
    return problems if code in codes else " ".join([*codes, code])
