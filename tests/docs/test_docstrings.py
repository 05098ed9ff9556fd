"""Every example in a docstring of Frontdesk runs and gives what it shows."""

import doctest
import importlib
import pkgutil

import pytest

import frontdesk

MODULES = [
    "frontdesk",
    *(
        found.name
        for found in pkgutil.walk_packages(frontdesk.__path__, "frontdesk.")
        if not found.name.endswith("__main__")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_module_run(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    for test in tests:
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=said.append)
        assert not runner.summarize(verbose=False).failed, "".join(said)
