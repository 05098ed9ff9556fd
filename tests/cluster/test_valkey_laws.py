"""The engine on Valkey, and on Redis, obeys every law of an engine."""

import pytest

from cluster.engine_laws import LAWS, check_law
from cluster.valkey_subject import valkey_clusters
from support.engines import PROGRAMS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_engine_obeys_the_law(law, program):
    program.needed()
    check_law(law, valkey_clusters(program))
