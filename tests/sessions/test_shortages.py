"""A machine that is out of something now: the create is refused for now, not for good."""

import errno
import os
import resource

import pytest

from frontdesk.agents import Blueprint
from frontdesk.agents.errors import AgentUnavailable, CreateFailed
from frontdesk.keeper.errors import SpawnFailed
from support.isolated_sessions import open_isolated
from support.sessions import open_service, open_session

pytestmark = pytest.mark.anyio


class Failing:
    """Fail to start, with this error."""

    def __init__(self, error):
        self.error = error

    def check(self, context):
        pass

    async def start(self, context):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        OSError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "errno", "")),
)
async def test_a_shortage_is_not_the_callers_fault_and_may_pass(error):
    blueprint = Blueprint(name="failing", kind="python", factory=Failing(error))
    async with open_service(blueprint) as service:
        with pytest.raises(AgentUnavailable):
            await open_session(service)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "no such file"), PermissionError("no"), ValueError("wrong")]
)
async def test_what_will_not_pass_is_a_create_that_failed(error):
    blueprint = Blueprint(name="failing", kind="python", factory=Failing(error))
    async with open_service(blueprint) as service:
        with pytest.raises(CreateFailed):
            await open_session(service)


@pytest.mark.parametrize(
    ("problem", "may_pass"),
    [
        ("[Errno 24] Too many open files", True),
        ("[Errno 11] Resource temporarily unavailable", True),
        ("[Errno 12] Cannot allocate memory", True),
        ("[Errno 2] No such file or directory", False),
        ("[Errno 13] Permission denied", False),
        ("not a number", False),
    ],
)
def test_a_spawn_that_failed_says_whether_it_may_pass(problem, may_pass):
    assert SpawnFailed("s-1", stage="fork", problem=problem).may_pass is may_pass


async def test_out_of_descriptors_no_process_starts_and_when_there_are_some_it_does():
    async with open_isolated("parrot") as service:
        await open_session(service)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 1, hard))
        try:
            with pytest.raises(AgentUnavailable):
                await open_session(service)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await open_session(service)
        assert service.store.count() == 2
