import pytest

from pacs_helpers.site import Site
from pacs_helpers.tables import TableError

GOOD = """
name = "General Hospital"
time_zone = "America/Chicago"
[accession]
hl7_field = "OBR-3.1"
strip_prefixes = ["NS-"]
[ae_titles]
CT1 = { name = "CT 1", place = "Main", modality = "CT", owner = "CT lead" }
[statuses]
"Wet Read" = "P"
[targets]
"exam_ended>final" = { minutes = 1440, share = 0.95 }
"exam_ended>final/STAT" = { minutes = 60 }
[working_hours]
weekdays = "08:00-18:00"
holidays = "US"
"""


def load(tmp_path, text):
    (tmp_path / "site.toml").write_text(text, encoding="utf-8")
    return Site.load(tmp_path / "site.toml")


def test_a_full_file_is_read(tmp_path):
    site = load(tmp_path, GOOD)
    assert (site.name, site.hl7_field, site.strip_prefixes, site.ae_name("CT1"), site.ae_name("X")) == ("General Hospital", "OBR-3.1", ("NS-",), "CT 1", "X")
    assert site.target("exam_ended", "final") == (1440.0, 0.95) and site.target("exam_ended", "final", "STAT") == (60.0, 1.0)
    assert site.target("ordered", "final") is None


@pytest.mark.parametrize(("old", "new", "words"), [
    ("[accession]", "[accesion]", "line 4: unknown key 'accesion'. Did you mean 'accession'?"),
    ("strip_prefixes", "strip_prefix", "line 6: unknown key 'strip_prefix' in [accession]. Did you mean 'strip_prefixes'?"),
    ("owner =", "owned =", "line 8: unknown key 'owned' in [ae_titles]. Did you mean 'owner'?"),
    ("exam_ended>final/STAT", "exam_end>final", "'exam_end' in target 'exam_end>final' is not a milestone. Did you mean 'exam_ended'?"),
    ('"P"', '"Prelim"', "line 10: status 'Wet Read' maps to 'Prelim'"),
    ("America/Chicago", "Chicago", "'Chicago' is not an IANA time zone"),
    ('time_zone = "America/Chicago"', "", "'time_zone' is missing"),
    ("OBR-3.1", "OBR-33", "hl7_field: 'OBR-33' is not 'auto' or one of"),
    ("[targets]", "[targets", "not valid TOML"),
    ('name = "General Hospital"', "name = 3", "line 2: 'name' has the wrong kind of value"),
])
def test_a_mistake_is_one_clear_sentence(tmp_path, old, new, words):
    with pytest.raises(TableError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert words in str(caught.value) and "\n" not in str(caught.value).replace("not valid TOML", "")


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(TableError, match="workbook.py new NAME"):
        Site.load(tmp_path / "site.toml")


def test_words_of_this_ris_come_before_the_usual_ones():
    site = Site(time_zone="UTC", statuses={"Final": "P"})
    assert [site.status(w) for w in ("final", " Preliminary ", "F", "odd word")] == ["P", "P", "F", "ODD WORD"]


@pytest.mark.parametrize(("value", "clean"), [(" ns-0012 3 ", "123"), ("A1234567890123456789", "A123456789012345"), ("000", "000"), ("NS-A1", "A1"), ("", "")])
def test_clean_accession_forgets_only_what_may_differ(value, clean):
    assert Site(time_zone="UTC", strip_prefixes=("NS-",)).clean_accession(value) == clean


def test_leading_zeros_stay_where_they_matter():
    assert Site(time_zone="UTC", ignore_leading_zeros=False).clean_accession("00123") == "00123"


def test_a_zone_without_the_summer_time_of_its_name_is_refused():
    with pytest.raises(TableError, match="'EST' has no summer time; write a place instead, such as 'America/New_York'"):
        Site(time_zone="EST")


@pytest.mark.parametrize(("table", "option"), [("ris", "date_order"), ("transfers", "size_unit"), ("transfers", "duration_unit")])
def test_an_option_of_a_map_of_columns_that_is_none_is_named_with_its_line(tmp_path, table, option):
    (tmp_path / "site.toml").write_text(f'time_zone = "UTC"\n\n[{table}]\n{option} = "furlongs"\n')
    with pytest.raises(TableError, match=f"line 4: {option}: 'furlongs' is not one of"):
        Site.load(tmp_path / "site.toml")
