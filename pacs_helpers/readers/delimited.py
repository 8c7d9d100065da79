"""Records of a CSV, tab- or semicolon-separated file or an Excel sheet, as the text that stands there, and the account of every byte."""

import csv
import io
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from .account import INFLATE_LIMIT, read_bytes, reject

DELIMITERS = ",;\t|"
# What zipfile, the XML parser and openpyxl raise on a damaged workbook.
_BAD_BOOK = (zipfile.BadZipFile, zlib.error, ElementTree.ParseError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, OSError, EOFError)
LONGEST_RECORD = 50         # lines that one quoted record may take
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_REASONS = {
    "FIELD_COUNT": "line {line:,} has {n} fields where the header has {wanted}; a delimiter inside a value or a lost one shifts the columns, export it with quotes",
    "UNBALANCED_QUOTE": "line {line:,} opens a quote that never closes; export it with doubled quotes",
    "LINE_TOO_LONG": "line {line:,} has a value longer than 131,072 characters; leave report text out of the export",
    "NOT_A_RECORD": "line {line:,} is a title or total, not a record; nothing to do",
}


class Records(NamedTuple):
    """`header` names the columns; `rows` are `(offset, values)`; values are text, or a datetime from an Excel cell that is one."""

    header: list
    rows: list
    codes: list
    rejected: list
    n_bytes: int
    n_in_rows: int
    n_framing: int
    digest: str


def read_records(file):
    """The Records of a file; header empty when it holds no table, and then `rejected` says why."""
    data, digest, rejected = read_bytes(file)
    data = data or b""
    nothing = Records([], [], [], rejected, len(data), 0, 0, digest)
    if not data:
        return nothing._replace(rejected=rejected or [reject(file, 0, 0, "EMPTY_FILE", "0 bytes; ask for it again")])
    if Path(file).name.startswith("~$"):
        return nothing._replace(rejected=[*rejected, reject(file, 0, len(data), "NOT_A_RECORD", "what Excel leaves beside a workbook that is open; nothing to do")])
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return nothing._replace(rejected=[*rejected, reject(file, 0, len(data), "UNKNOWN_FORMAT", "an Excel file of the old kind; save it as .xlsx or CSV")])
    if data.startswith(b"PK\3\4"):
        return _excel(file, data, nothing)
    text, encoding, n_mark, codes = _decode(data)
    lines = list(io.StringIO(text, newline=""))
    delimiter = _delimiter(lines)
    if delimiter is None:
        return nothing._replace(rejected=[*rejected, reject(file, 0, len(data), "UNKNOWN_FORMAT", "no table with a header of two or more columns; export it as CSV or Excel")])
    records, sizes = list(_split(lines, delimiter)), [len(line.encode(encoding, "surrogatepass")) for line in lines]
    return _account(file, records, sizes, nothing._replace(codes=codes, n_framing=n_mark))


def _account(file, records, sizes, result):
    """The Records of `(first line, lines, values or code)`; the header is the first record with as many fields as most have."""
    usual = Counter(len(values) for _, _, values in records if isinstance(values, list) and len(values) > 1).most_common(1)
    n_usual = usual[0][0] if usual else 0
    header, rows, rejected, n_in_rows, n_framing, at = None, [], list(result.rejected), 0, result.n_framing, result.n_framing
    for line, n_lines, values in records:
        n = sum(sizes[line:line + n_lines])
        code, values = (values, []) if isinstance(values, str) else ("", values)
        filled = sum(bool(str(v).strip()) for v in values)
        if not code and not filled or values == header:
            n_framing += n
        elif header is None and len(values) == n_usual and filled > 1 and filled * 2 >= n_usual:
            header, n_framing = values, n_framing + n
        elif header and len(values) == len(header) and not (len(header) > 3 and filled <= 2 and _is_total(values)):
            rows.append((at, values))
            n_in_rows += n
        else:
            code = code or ("NOT_A_RECORD" if header is None or filled <= 2 or _is_total(values) else "FIELD_COUNT")
            rejected.append(reject(file, at, n, code, _REASONS[code].format(line=line + 1, n=len(values), wanted=len(header or ()))))
        at += n
    return result._replace(header=header or [], rows=rows, rejected=rejected, n_in_rows=n_in_rows, n_framing=n_framing)


def _is_total(values):
    return any(str(v).strip().casefold().rstrip(":").startswith(("total", "sum", "count", "grand total", "page ", "printed", "report", "end of")) for v in values[:2])


def _decode(data):
    """`(text, encoding, bytes of the mark, problem codes)`."""
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    body = data[len(mark):]
    try:
        return body.decode(encoding), encoding, len(mark), []
    except UnicodeDecodeError:
        return body.decode("latin-1"), "latin-1", len(mark), ["CHARSET_MISSING"]


def _delimiter(lines):
    """The delimiter that splits most of the first lines into the same number of fields, two or more; None when none does."""
    best = (0, 0, None)
    for delimiter in DELIMITERS:
        counts = Counter(len(values) for _, _, values in _split(lines[:100], delimiter) if isinstance(values, list))
        n_fields, n = max(((k, n) for k, n in counts.items() if k > 1), key=lambda item: item[1], default=(0, 0))
        best = max(best, (n, n_fields, delimiter), key=lambda item: item[:2])
    return best[2]


def _split(lines, delimiter):
    """`(first line, number of lines, values or code)` of each record; a line whose quote never closes stands alone."""
    at = 0
    while at < len(lines):
        values, n = _parse(lines[at], delimiter), 1
        while values == "UNBALANCED_QUOTE" and n < LONGEST_RECORD and at + n < len(lines):
            n += 1
            values = _parse("".join(lines[at:at + n]), delimiter)
        n = 1 if isinstance(values, str) else n
        yield at, n, values
        at += n


def _parse(record, delimiter):
    """The values of a record, or the code of why there are none."""
    try:
        return next(csv.reader([record], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        if "unexpected end" in str(error):
            return "UNBALANCED_QUOTE"
    try:        # a quote inside a value that does not begin with one
        return next(csv.reader([record], delimiter=delimiter), [])
    except csv.Error:
        return "LINE_TOO_LONG"


def _excel(file, data, nothing):
    import openpyxl

    try:
        if sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(data)).infolist()) > INFLATE_LIMIT:
            return nothing._replace(rejected=[reject(file, 0, len(data), "TOO_LARGE_INFLATED", f"more than {INFLATE_LIMIT >> 20} MB inflated; export it as CSV")])
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        cells = [[_cell(c) for c in row] for row in book.worksheets[0].iter_rows()]
        others = [n for n, sheet in enumerate(book.worksheets) if n and any(any(row) for row in sheet.iter_rows(values_only=True))]
    except _BAD_BOOK as error:
        return nothing._replace(rejected=[reject(file, 0, len(data), "BAD_ARCHIVE", f"no Excel workbook that can be opened ({type(error).__name__}); export it again, or as CSV")])
    width = max((len(row) for row in cells), default=0)
    records = [(n, 1, row + [""] * (width - len(row))) for n, row in enumerate(cells)]
    found = _account(file, records, [1] * len(cells), nothing)       # offsets of a sheet are its rows
    if not found.header:
        return nothing._replace(rejected=[reject(file, 0, len(data), "UNKNOWN_FORMAT", "no table with a header of two or more columns on its first sheet")])
    rejected = [{**row, "n_bytes": 0} for row in found.rejected] + [
        reject(file, 0, 0, "OTHER_SHEET", f"sheet {n + 1} is not read, only the first is; save it as a file of its own if it holds exams") for n in others]
    return found._replace(n_in_rows=len(data), n_framing=0, rejected=rejected)


def _cell(cell):
    """The text of a cell; its zeros where the number format shows them."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        shape = (cell.number_format or "").strip()
        return f"{value:0{len(shape)}d}" if shape and set(shape) == {"0"} else str(value)
    return str(value)
