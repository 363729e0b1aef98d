"""CSV.gz read into pandas, against only unpacking it, and against pyarrow alone."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from benchmarks.measure import Row
from benchmarks.taxi import ROWS, in_turn, profile_of, taxi_frame
from pipelines.io import Files


def measure(folder: Path) -> Iterator[Row]:
    path = folder / "taxi.csv.gz"
    with gzip.open(path, "wb", compresslevel=6) as file:
        pyarrow.csv.write_csv(pa.Table.from_pandas(taxi_frame(), preserve_index=False), file)
    files = Files.from_profile(profile_of(folder, {}))

    def ours() -> None:
        files.load(path)

    unpacked = in_turn(ours, lambda: subprocess.run(["zcat", path], stdout=subprocess.DEVNULL, check=True))
    bare = in_turn(ours, lambda: pyarrow.csv.read_csv(path))
    what = f"CSV.gz of {ROWS:,} taxi rows read into pandas"
    yield Row("", what, f"{unpacked.ours:.2f} s", f"zcat {unpacked.theirs:.2f} s {unpacked.times}", "", None)
    yield Row(
        "",
        f"{what}, against pyarrow",
        f"{bare.ours:.2f} s",
        f"pyarrow.csv.read_csv into Arrow {bare.theirs:.2f} s {bare.times}",
        "",
        None,
    )
