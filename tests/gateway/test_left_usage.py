"""What workers have counted is counted on when there are fewer of them, or none: once."""

import pytest

from frontdesk.agents.records import TokenUsage
from frontdesk.gateway import left_usage
from frontdesk.gateway.left_usage import take_over_usage
from frontdesk.gateway.metering import UsageMeter
from frontdesk.gateway.state_dir import StateDir
from frontdesk.gateway.state_lock import locked


def use(state, prompts, *, key="k"):
    with UsageMeter(state) as meter:
        tokens = TokenUsage(prompts, prompts, 0, 0.5)
        meter.record(tenant_id="acme", api_key=key, model="m", prompts=prompts, tokens=tokens)


def used(state):
    with UsageMeter(state) as meter:
        spent = meter.spent("acme", None, period="day")
        return meter.of_tenant("acme").prompts, spent.prompt


@pytest.fixture
def shared(tmp_path):
    return StateDir.make(tmp_path / "state")


def test_with_fewer_workers_the_first_one_has_what_the_others_counted(shared):
    for number, prompts in ((1, 1), (2, 2), (3, 4), (4, 8)):
        use(shared.worker(number), prompts)
    use(shared, 16)
    for _ in range(2):
        take_over_usage(shared.worker(1), workers=2)
        assert used(shared.worker(1)) == (29, 29)
        assert used(shared.worker(2)) == (2, 2)
    assert used(shared) == used(shared.worker(3)) == (0, 0)


def test_without_workers_one_gateway_has_what_all_counted(shared):
    for number in (1, 2):
        use(shared.worker(number), number, key=f"k{number}")
    use(shared, 4)
    take_over_usage(shared, workers=1)
    assert used(shared) == (7, 7)
    use(shared.worker(1), 8)
    take_over_usage(shared, workers=1)
    assert used(shared) == (15, 15)


def test_what_a_running_process_has_is_left_alone(shared):
    use(shared.worker(3), 4)
    with locked(shared.worker(3)):
        take_over_usage(shared.worker(1), workers=2)
    with UsageMeter(shared):
        take_over_usage(shared.worker(1), workers=2)
    assert used(shared.worker(1)) == (4, 4)


@pytest.mark.parametrize("at", ["before", "after"])
def test_who_is_killed_in_the_middle_has_counted_it_once(shared, monkeypatch, at):
    use(shared.worker(3), 4)

    class Killed(BaseException):
        pass

    take = left_usage._take

    def killed(state, file):
        if at == "after":
            monkeypatch.setattr(type(file), "unlink", stop)
            take(state, file)
        raise Killed

    def stop(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(left_usage, "_take", killed)
        with pytest.raises(Killed):
            take_over_usage(shared.worker(1), workers=2)
        monkeypatch.undo()
    take_over_usage(shared.worker(1), workers=2)
    assert used(shared.worker(1)) == (4, 4)
    assert list(shared.worker(3).own.glob("left-*")) == []
