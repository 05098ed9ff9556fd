"""The requirements and the tests know each other, both ways."""

import ast
from pathlib import Path

from gateway.requirements import BY_ID, REQUIREMENTS

TESTS = Path(__file__).parents[1]


def covered_ids():
    for path in sorted(TESTS.glob("**/test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "covers(" in text else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "covers":
                for argument in node.args:
                    yield argument.value, path.name


def test_every_requirement_of_the_contract_has_a_test():
    covered = {each for each, _ in covered_ids()}
    missing = [each.id for each in REQUIREMENTS if each.id not in covered]
    assert missing == []


def test_every_test_names_requirements_that_there_are():
    unknown = [(each, place) for each, place in covered_ids() if each not in BY_ID]
    assert unknown == []


def test_no_two_requirements_share_an_id():
    assert len(BY_ID) == len(REQUIREMENTS)
