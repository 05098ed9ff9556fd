"""What an index over several engines would come to, as the documents say it."""

from pathlib import Path

from cluster.simulation import partitions

PAGE = Path(__file__).resolve().parents[2] / "docs/explanation/cluster.md"


def test_the_figures_of_several_engines_are_those_of_the_documents():
    written = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [row for row in partitions.rows() if row not in written]
    assert missing == [], "python -m cluster.simulation.partitions prints them"


def test_ids_are_spread_as_a_cluster_of_the_engine_does_it():
    assert partitions.slot_of("123456789") == 0x31C3
