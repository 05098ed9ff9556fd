"""Histories of whole clusters under faults, from seeds; and of two nodes, in every order.

A seed that fails is shown by `cd tests && python -m cluster.simulation --seed N`.
"""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.simulation import mutations, small

SOME = 31
"""Of all orders of two nodes, each so manieth is looked at in the quick suite."""

TESTS = Path(__file__).resolve().parents[1]


def run_seeds(first, last, *options):
    """Return what is wrong with the histories of these seeds, in a process of their own.

    The first one that fails ends it.
    """
    command = [sys.executable, "-m", "cluster.simulation", "--seeds", str(first), str(last)]
    done = subprocess.run([*command, *options], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout + done.stderr


def test_clusters_hold_their_laws_under_faults():
    assert run_seeds(0, 60) == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(60, 2060, 500))
def test_thousands_of_clusters_hold_their_laws_under_faults(first):
    assert run_seeds(first, first + 500) == ""


def test_a_seed_always_gives_the_same_history():
    shown = [
        subprocess.run(
            [sys.executable, "-m", "cluster.simulation", "--seed", "7"],
            cwd=TESTS,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert shown[0].count("\n") > 100
    assert shown[0] == shown[1]


def play(cases):
    """Return the cases that have findings."""
    return [(name, case, found) for name, case in cases if (found := small.Scene().play(*case))]


def test_two_nodes_and_one_id_hold_the_laws_in_many_orders():
    assert play(itertools.islice(small.cases(), 0, None, SOME)) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_two_nodes_and_one_id_hold_the_laws_in_every_order_with_a_fault_anywhere(part):
    assert play(itertools.islice(small.cases(), part, None, 4)) == []


# -- whether it would find anything ----------------------------------------------------------------


def is_found_by_two_nodes(mutation):
    """Tell whether some order of two nodes shows what is broken."""
    with mutations.applied(mutation):
        for _, case in itertools.islice(small.cases(), 0, None, SOME):
            if small.Scene().play(*case):
                return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_broken_on_purpose_is_found(mutation):
    if mutation.seed is None:
        assert is_found_by_two_nodes(mutation)
        return
    found = run_seeds(mutation.seed, mutation.seed + 200, "--mutation", mutation.name)
    assert found.startswith("seed ")
    # What fails so does not fit what it was to break: that is no finding.
    assert not re.search("TypeError|AttributeError|NameError", found), found
