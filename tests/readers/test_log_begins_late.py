"""Logs that begin while an association is open, as every rotated one does."""

from pacs_helpers import Site, read_dicom_log

LATE = """\
2026-11-24 08:00:00.100  INFO: Worklist Find SCP Response 4 (Success)
2026-11-24 08:00:00.200  INFO: Association Release
2026-11-24 08:00:01.000  INFO: Association Received (us1:US1 -> HOSPWL)
2026-11-24 08:00:01.001  INFO: Association Acknowledged (Max Send PDV: 16372)
2026-11-24 08:00:01.002 DEBUG: Cleaned up after child (4711)
2026-11-24 08:00:02.000  INFO: Association Release
"""


def test_the_end_of_a_child_from_before_the_log_is_not_that_of_the_next_association(tmp_path):
    (tmp_path / "a.log").write_text(LATE)
    rows = read_dicom_log(tmp_path / "a.log", site=Site(time_zone="UTC")).associations
    assert [(r.calling_ae_title, r.outcome, "START_NOT_SEEN" in r.problems) for r in rows.itertuples()] == [("", "released", True), ("US1", "released", False)]
    assert rows["ended_at"].dt.strftime("%S.%f").tolist() == ["00.200000", "02.000000"]
