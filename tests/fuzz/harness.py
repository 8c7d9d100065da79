"""`python -m tests.fuzz.harness KIND [libFuzzer options]` feeds a reader whatever bytes reach new lines of it, until something raises."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pacs_helpers.readers"]):
    from tests.seeds import READERS, SITE, seeds


def main(kind, options):
    with tempfile.TemporaryDirectory() as folder:
        file, corpus = Path(folder, "file"), Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds(kind)):
            (corpus / f"{number}").write_bytes(seed)

        def read(data):
            file.write_bytes(data)
            source = READERS[kind](file, site=SITE).sources.iloc[0]     # a broken byte law raises AccountingError
            assert source["n_bytes"] == len(data) or data[:2] == b"\x1f\x8b"

        atheris.Setup([sys.argv[0], str(corpus), *options], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
