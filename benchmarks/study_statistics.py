"""Whether the statistics can be relied on: on recorded runs, in simulated studies, against other tools, on real data.

    python benchmarks/study_statistics.py [--quick] [--json FILE] [--only NAME,NAME]

recorded    demonstrations against fine-tuning on trec and banking77, and methods against zero-shot on medical questions
simulated   500 studies whose crossover is known, and such as never cross, always do, or end level
references  scipy, statsmodels, scikit-learn; what inspect and lm-eval return on the same inputs; the bills of T-Few
defects     what the data lint finds in real labelled sets, against what is known to be wrong with them

Recordings and sets are not part of the repository: what is not at hand is not measured.
"""

from __future__ import annotations

import importlib
import time

from harness import finish, parser

PARTS = ("recorded", "simulated", "references", "defects")


def main() -> None:
    given_by = parser(__doc__)
    given_by.add_argument("--only", default=",".join(PARTS), metavar="NAMES", help=", ".join(PARTS))
    given = given_by.parse_args()
    rows = []
    for name in [each for each in PARTS if each in given.only.split(",")]:
        started = time.perf_counter()
        rows += importlib.import_module(f"statistical.{name}").measure(quick=given.quick)
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    finish(rows, given, packages=("scipy", "statsmodels", "scikit-learn"))


if __name__ == "__main__":
    main()
