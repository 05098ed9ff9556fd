"""What the tests of the cluster have in common."""

import pytest

# Before they are imported, so that a broken law shows the values that it compared.
pytest.register_assert_rewrite("cluster.engine_laws")
