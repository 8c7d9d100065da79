"""Recorded logs read night by night give what reading all nights at once gives, wherever the nights cut them."""

import os
import random

import pandas as pd
import pytest

import pacs_helpers as pacs
from tests.test_store import places_of

LOGS = ["day/dcmqrscp_day_file.log", "day/storescp_WS3_day_fork_file.log", "day/orthanc_main_verbose.log", "day/wlmscpfs_day_file.log",
        "levels/storescp_v.log", "levels_scu/storescp_trace.log", "syslog/fileformat_rfc3339.log"]


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("seed", range(3))
def test_three_nights_of_a_rotated_log_are_the_log(shared, tmp_path, name, seed):
    source = shared / "rig" / "logs" / name
    site = pacs.Site(time_zone="UTC")
    lines = source.read_bytes().splitlines(keepends=True)
    cuts = [0, *sorted(random.Random(f"{name} {seed}").sample(range(1, len(lines)), 2)), len(lines)]
    logs = tmp_path / "logs"
    logs.mkdir()
    for night, (start, stop) in enumerate(zip(cuts, cuts[1:]), 1):
        log = logs / f"server.log-2026112{night}"
        log.write_bytes(b"".join(lines[start:stop]))
        os.utime(log, ns=(source.stat().st_mtime_ns,) * 2)      # Orthanc's stamps have no year: it is that of the file
        pacs.update_store(tmp_path / "store", {"network": logs}, site=site)
    got, want = pacs.read_store(tmp_path / "store", site=site).network, pacs.read_dicom_log(logs, site=site)
    for name, order in (("associations", ["source_file", "source_offset"]), ("operations", ["source_file", "source_offset", "started_at"]), ("rejected", ["source_file", "source_offset"])):
        tables = [getattr(result, name).sort_values(order, kind="stable", ignore_index=True) for result in (got, want)]
        if "association_id" in tables[0]:
            tables = [table.assign(association_id=table["association_id"].map(places_of(result))) for table, result in zip(tables, (got, want))]
        pd.testing.assert_frame_equal(*tables)
