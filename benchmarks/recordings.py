"""Recorded outputs of real models through our strategies: the papers' own figures, to the last item. No model is asked.

    python benchmarks/recordings.py [--quick] [--json FILE] [--only NAME,NAME]

A recording is a file in replays/. The recordings are not part of the repository: what is not at hand is not measured.
"""

from __future__ import annotations

import importlib
import time

from harness import finish, parser

RECORDINGS = (
    "game24",
    "game24_samples",
    "crosswords",
    "gsm8k",
    "bbh",
    "last_letters",
    "fever",
    "tau_bench",
    "program_of_thoughts",
)


def main() -> None:
    given_by = parser(__doc__)
    given_by.add_argument("--only", default=",".join(RECORDINGS), metavar="NAMES", help=", ".join(RECORDINGS))
    given = given_by.parse_args()
    rows = []
    for name in [each for each in RECORDINGS if each in given.only.split(",")]:
        started = time.perf_counter()
        rows += importlib.import_module(f"replays.{name}").measure(quick=given.quick)
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    finish(rows, given)


if __name__ == "__main__":
    main()
