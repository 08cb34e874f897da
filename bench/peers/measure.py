"""Measuring one round of a case, for the peers that are written in Python.

    python bench.py <case> [--n N]

prints one line of JSON: the whole round in seconds of wall and CPU time, and by how many bytes the peak memory of the
process grew for each of the n, where the n are alive at once, or how large a file each of them left.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

WARM_UP = 20


@dataclass(frozen=True)
class Case:
    """One case: what does the work, how often, and whether the n are alive at once.

    A case that writes a file returns its size.
    """

    run: Callable[[int], int | None]
    n: int
    memory: bool = False


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(peer: str, cases: dict[str, Case]) -> None:
    """Runs the case that the command line names, and prints its line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=list(cases))
    parser.add_argument("--n", type=int)
    arguments = parser.parse_args()
    case = cases[arguments.case]
    n = arguments.n or case.n

    case.run(WARM_UP)
    peak, wall, cpu = _peak_bytes(), time.perf_counter(), time.process_time()
    written = case.run(n)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if written is not None:
        bytes_per_run = written / n
    else:
        bytes_per_run = (_peak_bytes() - peak) / n if case.memory else None

    line = {"case": arguments.case, "n": n, "peer": peer, "wall_s": wall, "cpu_s": cpu, "bytes_per_run": bytes_per_run}
    print(json.dumps(line))
