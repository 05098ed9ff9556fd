"""`python -m cluster.simulation` (in `tests/`): histories of seeds, and what is wrong with them.

--seed N            one history, in lines for people, and the findings
--seeds FIRST LAST  many, by the findings only; the status is 1 if there is any
"""

import argparse
import os
import sys
import warnings

from cluster.checker import findings
from cluster.history import in_words
from cluster.simulation.world import BOUNDS, World

HASH_SEED = "0"


def main():
    """Run what the command line asks for; return the status."""
    parser = argparse.ArgumentParser(prog="python -m cluster.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"))
    parser.add_argument("--faults", type=int, help="how many, instead of a number drawn")
    options = parser.parse_args()
    # What a kill leaves of a process is collected in the middle of something: nobody minds.
    sys.unraisablehook = lambda unraisable: None
    warnings.simplefilter("ignore", RuntimeWarning)
    if options.seed is not None:
        history = World(options.seed).run(faults=options.faults)
        _print(*map(in_words, history))
        return _report(findings(history, BOUNDS))
    failed = 0
    for seed in range(*options.seeds):
        found = findings(World(seed).run(faults=options.faults), BOUNDS)
        failed |= _report(found, f"seed {seed}: ")
    return failed


def _report(found, before=""):
    _print(*(f"{before}{finding}" for finding in found))
    return int(bool(found))


def _print(*lines):
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    # Sets of texts come in another order in each process, unless this is fixed.
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "cluster.simulation", *sys.argv[1:]])
    sys.exit(main())
