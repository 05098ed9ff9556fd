"""`python -m cluster.simulation` (in `tests/`): histories of seeds, and what is wrong with them.

--seed N            one history, in lines for people, and the findings
--seeds FIRST LAST  many, by the findings only; the status is 1 if there is any
"""

import argparse
import os
import sys

from cluster.checker import findings
from cluster.simulation.world import BOUNDS, World

HASH_SEED = "0"


def main():
    """Run what the command line asks for; return the status."""
    parser = argparse.ArgumentParser(prog="python -m cluster.simulation", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"))
    parser.add_argument("--faults", type=int, help="how many, instead of a number drawn")
    options = parser.parse_args()
    if options.seed is not None:
        history = World(options.seed).run(faults=options.faults)
        found = findings(history, BOUNDS)
        return bool(found)
    return any(_report(seed, options.faults) for seed in range(*options.seeds))


def _report(seed, faults):
    found = findings(World(seed).run(faults=faults), BOUNDS)
    for _finding in found:
        pass
    return bool(found)


if __name__ == "__main__":
    # Sets of texts come in another order in each process, unless this is fixed.
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "cluster.simulation", *sys.argv[1:]])
    sys.exit(main())
