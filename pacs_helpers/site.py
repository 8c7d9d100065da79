"""What differs between sites: time zone, AE titles, field conventions, status words, targets, hours. From site.toml."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .tables import EXAMS, MILESTONES, TableError, nearest

ACCESSION_FIELDS = {"OBR-18": "obr_18", "OBR-3": "obr_3", "ORC-3": "orc_3", "OBR-20": "obr_20", "OBR-2": "obr_2",
                    "ORC-2": "orc_2", "IPC-1": "ipc_1"}
STATUS_TARGETS = ("O", "S", "I", "R", "P", "A", "F", "C", "X", "SC", "IP", "CM", "CA", "ARRIVED")
# Words that real RIS feeds put where HL7 table 0123 and 0038 want a letter; a site's own words come first.
STATUS_WORDS = {"final": "F", "preliminary": "P", "prelim": "P", "corrected": "C", "addendum": "C", "cancelled": "X",
                "canceled": "X", "partial": "A", "scheduled": "S", "arrived": "ARRIVED", "completed": "CM",
                "in process": "IP", "in progress": "IP"}
FIXED_ZONES = {"EST": "'America/New_York', or 'America/Panama'", "MST": "'America/Denver', or 'America/Phoenix'"}
SH_LENGTH = 16      # Accession Number is VR SH, PS3.5 table 6.2-1
RIS_FIELDS = ("date_order", *(c.removesuffix("_at") if c.removesuffix("_at") in MILESTONES else c for c in EXAMS if not c.startswith("source_") and c not in ("raw", "precision", "problems")))
TRANSFER_FIELDS = (
    "date_order", "size_unit", "duration_unit", "started", "ended", "calling_ae_title", "called_ae_title", "peer_address", "n_instances", "n_stored", "n_failed", "n_bytes", "duration", "status",
                   "reason", "sop_instance_uid", "modality")
SIZE_UNITS = {"bytes": 1, "kB": 10**3, "KiB": 1 << 10, "MB": 10**6, "MiB": 1 << 20, "GB": 10**9, "GiB": 1 << 30}
DURATION_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h:min": 60}
DATE_ORDERS = ("day first", "month first")
OPTIONS = {"date_order": DATE_ORDERS, "size_unit": tuple(SIZE_UNITS), "duration_unit": tuple(DURATION_UNITS)}      # of a map of columns
_KEYS = {
    "": {"name": str, "time_zone": str, "accession": dict, "ae_titles": dict, "statuses": dict, "targets": dict, "working_hours": dict, "ris": dict, "transfers": dict, "audit": dict},
    "accession": {"hl7_field": str, "strip_prefixes": list, "ignore_leading_zeros": bool},
    "ae_titles": {"name": str, "place": str, "modality": str, "owner": str},
    "targets": {"minutes": (int, float), "share": (int, float)},
    "ris": dict.fromkeys(RIS_FIELDS, (str, list)),
    "transfers": dict.fromkeys(TRANSFER_FIELDS, (str, list)),
    "working_hours": {"weekdays": str, "holidays": str},
    "audit": {"not_reading": list},
}


@dataclass(frozen=True)
class Site:
    """A site's conventions. Only `time_zone` has no default; `Site.load` reads them from a TOML file."""

    time_zone: str
    name: str = ""
    hl7_field: str = "auto"
    strip_prefixes: tuple = ()
    ignore_leading_zeros: bool = True
    ae_titles: dict = field(default_factory=dict)
    statuses: dict = field(default_factory=dict)
    targets: dict = field(default_factory=dict)
    working_hours: dict = field(default_factory=dict)
    ris: dict = field(default_factory=dict)
    transfers: dict = field(default_factory=dict)
    not_reading: tuple = ()     # users who open studies for another reason, as patterns with * and ?

    def __post_init__(self):
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise TableError(f"time_zone: '{self.time_zone}' is not an IANA time zone; write one such as 'America/Chicago'.") from None
        if self.time_zone in FIXED_ZONES:
            raise TableError(f"time_zone: '{self.time_zone}' has no summer time; write a place instead, such as {FIXED_ZONES[self.time_zone]}.")
        base = self.hl7_field.removesuffix(".1")
        for export in (self.ris, self.transfers):
            check_options(export)
        if base != "auto" and base not in ACCESSION_FIELDS:
            raise TableError(f"hl7_field: '{self.hl7_field}' is not 'auto' or one of {', '.join(ACCESSION_FIELDS)}."
                             f"{nearest(self.hl7_field, ACCESSION_FIELDS)}")

    @classmethod
    def load(cls, path):
        """The Site that a site.toml describes. TableError names the key, its line and the nearest spelling."""
        path = Path(path)
        if not path.is_file():
            raise TableError(f"site.toml: no file '{path}'. `python3 workbook.py new NAME` makes one to fill in.")
        text = path.read_text(encoding="utf-8")
        try:
            given = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise TableError(f"{path}: not valid TOML: {error}.") from None
        _check(given, "", str(path), text)
        if "time_zone" not in given:
            raise TableError(f"{path}: 'time_zone' is missing; write one such as time_zone = \"America/Chicago\".")
        accession = given.pop("accession", {})
        if "strip_prefixes" in accession:
            accession["strip_prefixes"] = tuple(accession["strip_prefixes"])
        audit = given.pop("audit", {})
        try:
            return cls(**given, **accession, not_reading=tuple(audit.get("not_reading", ())))
        except TableError as error:
            raise TableError(f"{path}{_line_of(str(error).partition(':')[0], text)}: {error}") from None

    def target(self, start, end, priority=""):
        """`(minutes, share)` aimed at from `start` to `end`, that of the priority if it has one, or None."""
        for key in (f"{start}>{end}/{priority}", f"{start}>{end}"):
            if key in self.targets:
                return float(self.targets[key]["minutes"]), float(self.targets[key].get("share", 1.0))
        return None

    def status(self, word):
        """The HL7 table 0123 / 0038 letter for a feed's word; the word itself when nothing maps it."""
        lower = {k.casefold(): v for k, v in self.statuses.items()}
        key = word.strip().casefold()
        return lower.get(key) or STATUS_WORDS.get(key) or word.strip().upper()

    def clean_accession(self, value):
        """An accession number reduced to what must be equal: no spaces, upper case, no site prefix, at most 16 long.

        Leading zeros go when `ignore_leading_zeros`. Only for comparing: it is never shown or written.
        """
        text = "".join(value.split()).upper()
        for prefix in self.strip_prefixes:
            text = text.removeprefix(prefix.upper())
        text = text[:SH_LENGTH]
        return text.lstrip("0") or text if self.ignore_leading_zeros else text

    def ae_name(self, ae_title):
        """What people call the system behind an AE title; the title itself when site.toml does not say."""
        return self.ae_titles.get(ae_title, {}).get("name", ae_title)


def check_options(columns):
    """Nothing; TableError when an option of a map of columns has a value that is none."""
    for option, allowed in OPTIONS.items():
        if columns.get(option) not in (None, *allowed):
            raise TableError(f"{option}: '{columns[option]}' is not one of {', '.join(allowed)}.")


def require_site(site):
    """Nothing; TableError when `site` is no Site."""
    if not isinstance(site, Site):
        raise TableError(f"site: a Site is needed, not {type(site).__name__}; use Site.load('site.toml').")


def _line_of(key, text):
    found = re.search(rf"^\s*\[?\s*\"?{re.escape(key)}\b", text, re.M) or re.search(rf"\b{re.escape(key)}\b\s*=", text)
    return f", line {text.count(chr(10), 0, found.start()) + 1 + found.group().count(chr(10))}" if found else ""


def _check(given, section, file, text):
    allowed = _KEYS[section]
    for key, value in given.items():
        where = f"{file}{_line_of(key, text)}"
        if key not in allowed:
            inside = f" in [{section}]" if section else ""
            raise TableError(f"{where}: unknown key '{key}'{inside}.{nearest(key, allowed)} Known: {', '.join(allowed)}.")
        if not isinstance(value, allowed[key]) or (isinstance(value, bool) and allowed[key] is not bool):
            raise TableError(f"{where}: '{key}' has the wrong kind of value.")
        if key in ("accession", "working_hours", "ris", "transfers", "audit") and not section:
            _check(value, key, file, text)
        if key in ("ae_titles", "targets") and not section:
            for name, entry in value.items():
                if not isinstance(entry, dict):
                    raise TableError(f"{file}{_line_of(name, text)}: '{name}' in [{key}] must look like {{ {next(iter(_KEYS[key]))} = ... }}.")
                _check(entry, key, file, text)
        if key == "targets" and not section:
            _check_targets(value, file, text)
        if key == "statuses" and not section:
            _check_statuses(value, file, text)


def _check_targets(targets, file, text):
    for name, entry in targets.items():
        where = f"{file}{_line_of(name, text)}"
        for milestone in name.split("/")[0].split(">"):
            if milestone not in MILESTONES:
                raise TableError(f"{where}: '{milestone}' in target '{name}' is not a milestone.{nearest(milestone, MILESTONES)}")
        if name.count(">") != 1 or "minutes" not in entry:
            raise TableError(f"{where}: target '{name}' must look like \"exam_ended>final\" = {{ minutes = 1440, share = 0.95 }}.")


def _check_statuses(statuses, file, text):
    for word, letter in statuses.items():
        if letter not in STATUS_TARGETS:
            raise TableError(f"{file}{_line_of(word, text)}: status '{word}' maps to '{letter}'; use one of {', '.join(STATUS_TARGETS)}.")
