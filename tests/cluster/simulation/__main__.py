"""`python -m cluster.simulation` (in `tests/`): histories of seeds, and what is wrong with them.

--seed N            one history, in lines for people, and the findings
--seeds FIRST LAST  many, up to the first that has findings: only these; the status is 1 then
"""

import argparse
import os
import sys
import warnings
from contextlib import nullcontext

from cluster.checker import findings
from cluster.history import in_words
from cluster.simulation.mutations import MUTATIONS, applied
from cluster.simulation.world import BOUNDS, World

HASH_SEED = "0"


def main():
    """Run what the command line asks for; return the status."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "LAST"))
    parser.add_argument("--faults", type=int, help="how many, instead of a number drawn")
    parser.add_argument("--kinds", nargs="+", default=[], help="which, instead of kinds drawn")
    names = [mutation.name for mutation in MUTATIONS]
    parser.add_argument("--mutation", choices=names, help="what to break on purpose")
    options = parser.parse_args()
    # What a kill leaves of a process is collected in the middle of something: nobody minds.
    sys.unraisablehook = lambda unraisable: None
    warnings.simplefilter("ignore", RuntimeWarning)
    chosen = {"faults": options.faults, "kinds": options.kinds}
    mutation = next((one for one in MUTATIONS if one.name == options.mutation), None)
    if mutation is not None and mutation.kinds:
        chosen = {"faults": 6, "kinds": mutation.kinds}
    if options.seed is None:
        return int(any(_fails(seed, chosen, mutation) for seed in range(*options.seeds)))
    with _broken(mutation):
        history = World(options.seed).run(**chosen)
    _print(*map(in_words, history))
    return _report(findings(history, BOUNDS))


def _broken(mutation):
    return nullcontext() if mutation is None else applied(mutation)


def _fails(seed, chosen, mutation):
    """Report what is wrong with a seed; what is wrong without the mutation too is not its."""
    with _broken(mutation):
        found = _found(seed, chosen)
    if found and mutation is not None and _found(seed, chosen):
        return 0
    return _report(found, f"seed {seed}: ")


def _found(seed, chosen):
    try:
        return findings(World(seed).run(**chosen), BOUNDS)
    except Exception as error:  # of a node or the index: a finding as good as any
        return [repr(error)]


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
