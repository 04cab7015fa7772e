"""How fast LETOR text is read: against scikit-learn's loader, from the cache, and in how much memory.

    pip install "tfmtl2r[baselines]"
    python recipes/bench_data.py --file train.txt.gz

Readers run in turn, round after round, so that other load on the machine hits all alike; a time is the best of its
rounds and a ratio the median of the ratios within a round. Peak memory is that of a fresh process which parses the
file, or the file repeated 20 times with new query ids, into the cache.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from tfmtl2r.report import show

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "mslr" / "train.txt.gz"
CHILD = """
import re, resource, sys
from pathlib import Path
from tfmtl2r.data import prepare_letor
if len(sys.argv) > 1:
    prepare_letor(sys.argv[1], sys.argv[2])
status = Path("/proc/self/status")
# ru_maxrss of a child starts at what its parent had; VmHWM, where there is one, is its own.
peak = re.search(r"VmHWM:\\s*(\\d+)", status.read_text()) if status.exists() else None
print(peak.group(1) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--file", type=Path, default=DEFAULT, help="a LETOR file (.txt, .gz, .bz2) with qid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=20, help="copies of the file for the memory test")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = peaks(options.file, options.repeat, Path(folder))
        megabytes, times = speeds(options.file, options.rounds, Path(folder))
    print_table(options, megabytes, times, memory)


def speeds(file: Path, rounds: int, folder: Path) -> tuple[float, dict[str, list[float]]]:
    """Megabytes of text, and seconds per round of each reader."""
    from sklearn.datasets import load_svmlight_file

    from tfmtl2r.data import prepare_letor, read_letor

    cache = folder / "cache"
    prepare_letor(file, cache)
    readers: dict[str, Callable[[], object]] = {
        "scikit-learn": lambda: load_svmlight_file(str(file), query_id=True),
        "tfmtl2r, cold, validated": lambda: read_letor(file),
        "tfmtl2r, cold, into the cache": lambda: prepare_letor(file, tempfile.mkdtemp(dir=folder)),
        "tfmtl2r, from the cache": lambda: read_letor(file, cache_dir=cache),
    }
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, reader in readers.items():
            start = time.perf_counter()
            reader()
            times[name].append(time.perf_counter() - start)
    return len(opened(file)) / 1e6, times


def peaks(file: Path, repeat: int, folder: Path) -> dict[str, float]:
    """Peak megabytes of a process that imports only, parses the file, and parses the repeated file."""
    text = opened(file)
    files = {"imports only": []}
    for copies in (1, repeat):
        path = folder / f"{copies}.txt"
        with path.open("wb") as out:
            for copy in range(copies):
                out.write(re.sub(rb" qid:", b" qid:%d" % (10 ** len(str(copies)) + copy), text))
        files[f"file x {copies}"] = [str(path), str(folder / f"memory{copies}")]
    found = {}
    for name, arguments in files.items():
        run = subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True)
        found[name] = int(run.stdout) / 1024
    return found


def opened(file: Path) -> bytes:
    """The text of a file."""
    content = file.read_bytes()
    if file.suffix == ".gz":
        return gzip.decompress(content)
    return bz2.decompress(content) if file.suffix == ".bz2" else content


def print_table(
    options: argparse.Namespace, megabytes: float, times: dict[str, list[float]], memory: dict[str, float]
) -> None:
    """Prints the tables."""
    table = Table(title=f"{options.file} ({megabytes:.1f} MB of text)", title_justify="left")
    for column in ("reader", "seconds", "MB/s", "times scikit-learn"):
        table.add_column(column, justify="left" if column == "reader" else "right")
    reference = times["scikit-learn"]
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(reference, seconds, strict=True))
        table.add_row(name, f"{min(seconds):.3f}", f"{megabytes / min(seconds):.0f}", f"{ratio:.1f}")
    show(table)
    for name, peak in memory.items():
        print(f"peak memory, {name}: {peak:.0f} MB")


if __name__ == "__main__":
    main()
