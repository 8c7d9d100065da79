import re

from pacs_helpers.views.comparison import comparison_table


def row_of(label, one, other, field="patient_id"):
    """The two values and the verdict of a row, as HTML."""
    table = comparison_table({field: one}, {field: other})
    return re.search(rf">{label}</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>", table).groups()


def marked(text):
    return re.findall(r"<mark style='[^']*text-decoration:underline[^']*'>(.*?)</mark>", text)


def test_what_differs_is_underlined_and_said_in_a_sign_and_a_word():
    left, right, verdict = row_of("Patient ID", "TEST100213", "TEST100231")
    assert verdict == "≠ differs" and len(marked(left)) == 1 and len(marked(right)) == 1
    assert re.sub("<[^>]*>", "", left) == "TEST100213" and re.sub("<[^>]*>", "", right) == "TEST100231"


def test_equal_values_are_said_to_be_the_same_and_unmarked():
    assert row_of("Sex", "F", "F", "patient_sex") == ("F", "F", "= same")
    assert row_of("Sex", "F", "", "patient_sex") == ("F", "–", "– only one side")


def test_outer_double_and_no_break_spaces_are_drawn_and_explained():
    left, right, verdict = row_of("Patient ID", " TEST1 ", "TEST1")
    assert verdict == "≠ differs" and marked(left) == ["␣", "␣"] and marked(right) == []
    assert row_of("Patient name", "ASH^ROWAN  MAY", "ASH^ROWAN  MAY", "patient_name")[0] == "ASH^ROWAN␣␣MAY"
    assert marked(row_of("Patient name", "ASH\xa0MAY", "ASH MAY", "patient_name")[0]) == ["⍽"]
    assert marked(row_of("Patient name", "ASH MAY", "ASHMAY", "patient_name")[0]) == ["␣"]
    assert "␣ is a space" in comparison_table({"patient_id": " 1"}, {"patient_id": "1"}) and "is a space" not in comparison_table({"patient_id": "1"}, {"patient_id": "1"})


def test_markup_is_escaped_also_where_it_differs():
    assert "<b>" not in "".join(row_of("Patient name", "<b>A</b>", "<i>A</i>", "patient_name"))
