from pacs_helpers.views.widgets import ExamCaseFile

from ..small_department import SITE, department, order, report, study


def test_the_case_file_shows_an_exam_and_names_an_unknown_one():
    trace = [{"accession_number": "R1001", "at": "2025-11-10T08:00Z", "lane": "order", "what": "new order"}]
    events = [{"accession_number": "R1001", "milestone": m, "at": t, "source": "hl7", "source_field": "x", "rank": 1}
              for m, t in (("ordered", "2025-11-10T08:00Z"), ("exam_ended", "2025-11-10T09:10Z"), ("final", "2025-11-10T11:00Z"))]
    case = ExamCaseFile(department(orders=[order()], studies=[study()], reports=[report()], events=events, trace=trace), site=SITE)
    case.box_text.value = "R1001"
    assert case.accession_number == "R1001" and case.image.value[:8] == b"\x89PNG\r\n\x1a\n" and case.image.layout.display == "block"
    case.box_text.value = "R1002"
    case.show.click()
    assert "R1001" in case.message.value and case.image.layout.display == "none"
