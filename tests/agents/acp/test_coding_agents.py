"""The coding agents that people have: each is tried once, and what was found is held to its record.

The table in `docs/how-to/coding-agents.md` is made from the records. A trial is one session: turns,
approvals, an abort, a kill and a restart, with a model on loopback. All together take minutes
and two gigabytes of packages, so some are tried unless `FRONTDESK_CODING_AGENTS` names others, or
`all`.
"""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass, field

import pytest

from frontdesk.agents.errors import ModelRefused
from support.acp import open_acp_service, open_session
from support.coding_agents import chosen_agents
from support.model_server import COMPLETION_TOKENS, PROMPT_TOKENS, ModelServer, Thought, ToolUse
from support.sessions import Stream, data_of, names, soon, stats_of, text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BOUND_S = 120
CALL_TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS
MARMALADE = "say yes, and keep marmalade in mind"
APPROVED, REJECTED = "make the first file", "make the second file"
DAWDLE, AGAIN = "talk on and on", "say yes again"


@dataclass
class Trial:
    """What was found of one agent: the events of each turn by its prompt, and beside them."""

    agent: object
    events: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    refused: str = ""
    options: tuple = ()
    shown: dict = field(default_factory=dict)
    made: set = field(default_factory=set)
    log: str = ""
    stats: dict = field(default_factory=dict)
    left: int = 0

    def calls_of(self, prompt):
        """Return the calls of the model for a turn: not those for titles, memories and the like."""
        return [each for each in self.calls if each.tools and each.text.rstrip().endswith(prompt)]

    def of_kind(self, prompt, kind):
        return [data_of(each) for each in self.events[prompt] if each.name == kind]

    def used_in(self, prompt):
        used = self.of_kind(prompt, "agent_end")[0]["tokenUsage"]
        return None if used is None else used["totalTokens"]


@pytest.fixture(scope="module", params=chosen_agents(), ids=lambda agent: agent.name)
def trial(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return tried(request.param, tmp_path_factory.mktemp(request.param.name), patch)


def tried(agent, place, patch):
    """Try one agent, and return what was found as far as it came."""
    home = place / "homes" / "acme"
    home.mkdir(parents=True)
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("frontdesk")
    level = logger.level
    trial = Trial(agent)
    with ModelServer(script_of(agent)) as server:
        environment = agent.environment(server.url, home)
        for name, value in environment.items():
            patch.setenv(name, value)
        logger.addHandler(handler)
        logger.setLevel("INFO")
        try:
            asyncio.run(run(trial, place, tuple(environment)))
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            trial.log = "\n".join(records)
            trial.calls = server.calls
    return trial


def script_of(agent):
    """Return what the model does: it says yes, makes files, or talks on, as the prompt has it."""

    async def script(call):
        prompt = call.text.rstrip()
        if prompt.endswith(DAWDLE):
            for _ in range(1000):
                yield "well "
                await asyncio.sleep(0.1)
        elif prompt.endswith((MARMALADE, AGAIN)):
            yield Thought("I wonder")
            yield "yes"
        elif call.after_tool:
            yield "done"
        elif prompt.endswith(APPROVED):
            yield "Let me. "
            yield ToolUse(*agent.made_by("first"))
        elif prompt.endswith(REJECTED):
            yield "Let me. "
            yield ToolUse(*agent.made_by("second"))
        else:
            yield "something else"

    return script


async def run(trial, place, environment):
    agent = trial.agent
    options = {
        "env": environment,
        "start_timeout_s": BOUND_S,
        "homes": place / "homes",
        "restart": "on_crash",
        "service": {"abort_grace_s": 60, "tenants_root": place},
        **agent.settings,
    }
    project = place / "acme" / "project"
    project.mkdir(parents=True)
    async with open_acp_service(agent.command(agent.version), **options) as service:
        try:
            await open_session(service, model="gpt-of-the-future")
        except ModelRefused as error:
            trial.refused = str(error)
        session = await open_session(service, model=agent.model, working_dir="project")
        offered = service.blueprints["coder"].agent_options()
        trial.options = tuple(each.option_id for each in offered)
        stream = Stream(session, bound_s=BOUND_S)
        try:
            await steps(trial, session, stream)
        finally:
            stream.close()
            trial.stats = stats_of(session)
            trial.made = {each.name for each in project.iterdir()}
            await service.tenant("acme", "key-1").delete(session.session_id)
            await soon(lambda: not len(service.keeper))


async def steps(trial, session, stream):
    """Run the turns of a trial, one after another."""

    async def turn(prompt, *ends):
        session.prompt(prompt)
        trial.events[prompt] = await stream.until("agent_end", "agent_abort", *ends)

    await turn(MARMALADE)
    for prompt, deed in ((APPROVED, session.approve), (REJECTED, session.reject)):
        await turn(prompt, "approval_required")
        trial.shown[prompt] = data_of(trial.events[prompt][-1])
        deed(trial.shown[prompt]["approvalId"])
        trial.events[prompt] += await stream.until("agent_end", "agent_abort")
    await turn(DAWDLE, "message_delta")
    while "well" not in text(trial.events[DAWDLE]):
        assert "agent_end" not in names(trial.events[DAWDLE])
        trial.events[DAWDLE] += await stream.until("message_delta", "agent_end")
    session.abort("enough")
    trial.events[DAWDLE] += await stream.until("agent_end", "agent_abort")
    os.kill(session.pid, signal.SIGKILL)
    await stream.until("agent_restarted")
    await turn(AGAIN)


def test_it_opens_with_the_model_that_was_asked_for(trial):
    assert {each.model for each in trial.calls_of(MARMALADE)} == {trial.agent.served}


def test_a_model_that_it_does_not_have_is_refused(trial):
    assert ("no choice of models" not in trial.refused) is trial.agent.models
    assert "gpt-of-the-future" in trial.refused


def test_its_options_are_those_of_its_record(trial):
    assert trial.options == trial.agent.options


def test_what_it_says_comes_as_it_is_said(trial):
    events = trial.events[MARMALADE]
    assert text(events).endswith("yes")
    assert names(events)[-1] == "agent_end"


def test_what_it_thinks_is_told_as_thoughts(trial):
    thoughts = "".join(each["delta"] for each in trial.of_kind(MARMALADE, "thinking_delta"))
    assert ("I wonder" in thoughts) is trial.agent.thinks


def test_what_it_is_about_to_do_is_shown_before_it_is_done(trial):
    for prompt, name in ((APPROVED, "first"), (REJECTED, "second")):
        assert name in str(trial.shown[prompt])
        kinds = {each["kind"] for each in trial.shown[prompt]["details"]["options"]}
        assert {"allow_once", "reject_once"} <= kinds


def test_what_is_approved_is_done_and_told_as_done(trial):
    assert "first" in trial.made
    ended = trial.of_kind(APPROVED, "tool_execution_end")
    assert [each["status"] for each in ended] == ["ok"]
    assert text(trial.events[APPROVED]).endswith("done")
    (resolved,) = trial.of_kind(APPROVED, "approval_resolved")
    assert resolved["status"] == "approved"
    assert resolved["optionId"]


def test_what_is_rejected_is_not_done_nor_told_as_done(trial):
    assert "second" not in trial.made
    ended = trial.of_kind(REJECTED, "tool_execution_end")
    assert {each["status"] for each in ended} <= {"rejected"}
    ends = "error" if trial.of_kind(REJECTED, "error") else names(trial.events[REJECTED])[-1]
    assert ends == trial.agent.rejected


def test_an_abort_ends_its_turn_and_not_its_session(trial):
    assert trial.of_kind(DAWDLE, "agent_abort")[0]["reason"] == "enough"
    assert len(trial.of_kind(DAWDLE, "message_delta")) < 500


def test_after_a_kill_it_has_its_session_back_or_begins_anew(trial):
    found = "its session back" if "has its session back" in trial.log else "begins anew"
    assert found in trial.agent.restart
    (call, *_) = trial.calls_of(AGAIN)
    assert ("marmalade" in str(call.body)) is (found == "its session back")
    assert text(trial.events[AGAIN]).endswith("yes")


def test_nothing_that_it_said_before_a_restart_is_told_again(trial):
    assert trial.of_kind(AGAIN, "out_of_turn") == []
    assert "done" not in text(trial.events[AGAIN])


def test_its_tokens_are_those_that_were_served(trial):
    served = {prompt: CALL_TOKENS * len(trial.calls_of(prompt)) for prompt in (MARMALADE, APPROVED)}
    assert served == {MARMALADE: CALL_TOKENS, APPROVED: 2 * CALL_TOKENS}
    used = {prompt: trial.used_in(prompt) for prompt in (MARMALADE, APPROVED, AGAIN)}
    unknown = trial.stats["tokenUsage"]["unknownTurns"]
    match trial.agent.tokens:
        case "not said":
            assert set(used.values()) == {None}
        case "last call":
            assert set(used.values()) == {CALL_TOKENS}
            assert unknown == 5
        case _:
            assert used == {**served, AGAIN: CALL_TOKENS}
            assert unknown <= 1  # the one that was aborted
