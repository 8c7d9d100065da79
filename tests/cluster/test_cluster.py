"""Readers on a cluster of separate processes give the tables that they give here, and lose nothing with a worker."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster, wait

import pacs_helpers as pacs

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "data" / "samples"


@pytest.fixture(scope="module")
def site():
    return pacs.Site.load(SAMPLES / "site.toml")


@pytest.fixture
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as cluster, Client(cluster) as client:
        yield client


def assert_same(here, there):
    for name, table in here._asdict().items():
        pd.testing.assert_frame_equal(getattr(there, name).drop(columns="seconds", errors="ignore"), table.drop(columns="seconds", errors="ignore"), obj=name)


def test_every_reader_gives_the_same_tables_on_a_cluster(client, site):
    for read, folder in ((pacs.read_hl7_log, "hl7"), (pacs.read_headers, "dicom"), (pacs.read_dicom_log, "network")):
        assert_same(read(SAMPLES / folder, site=site), read(SAMPLES / folder, site=site, executor=client.get_executor()))


class KillsAWorker:
    """An executor on `client` that kills the worker of the first finished unit, with all the results it holds, before it hands anything back."""

    def __init__(self, client):
        self.client, self.killed = client, []

    def map(self, function, units):
        futures = self.client.map(function, units, pure=False)
        wait(futures[:1])
        victim = self.client.who_has(futures[:1])[futures[0].key][0]
        pid = self.client.run(os.getpid, workers=[victim])[victim]
        os.kill(pid, signal.SIGKILL)
        self.killed.append(pid)
        return self.client.gather(futures)


def test_a_worker_that_dies_takes_nothing_with_it(client, site):
    for read, folder in ((pacs.read_hl7_log, "hl7"), (pacs.read_headers, "dicom")):
        executor = KillsAWorker(client)
        assert_same(read(SAMPLES / folder, site=site), read(SAMPLES / folder, site=site, executor=executor))
        assert len(executor.killed) == 1
