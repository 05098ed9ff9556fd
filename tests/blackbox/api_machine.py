"""The API, stateful: sequences of what the description allows, and of what it does not.

Cases are schemathesis', from the description that the running gateway gives of itself; which
follows which, for whom and on which session is hypothesis'. Two tenants ask for each other's
sessions as for their own. After every step the lists hold what they must; at the end of a sequence
every accepted prompt has its end.
"""

import itertools
import json
import sys

import hypothesis.strategies as st
import requests
import schemathesis
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from blackbox.expected import Expected
from blackbox.findings import Found, Rule, check, check_same
from blackbox.served import AGENTS, PROMPTLY_S, Answer

DESCRIBED = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CREATE = "POST /v1/sessions"
DELETE = "DELETE /v1/sessions/{sessionId}"
TOOLS = "POST /v1/sessions/{sessionId}/tools"
ENDLESS = ("/events", "/ws", "/feed")
"""What answers without an end: `campaigns.py` asks for what a session's says."""
LISTED = ("tools", "plugins", "workingDir", "skillsDirs", "providerOpts", "promptMode")
"""Fields of a create that name what the operator would have to have listed."""
NUMBERS = itertools.count(1)
PICKS = st.integers(0, 5)
"""Which of the sessions that there are: drawn from no more, as the gateway decides how many."""
NUMBER = st.integers(0, 1)
TEXT = st.text(min_size=1, max_size=40)
RESPONSES = st.recursive(st.none() | st.text(), st.lists, max_leaves=5)
STEPS = (
    *("open", "open_the_same_id", "delete", "open_a_stream_and_leave", "ask_anything"),
    *("prompt", "prompt", "prompt", "steer", "abort", "resolve", "respond"),
    *("ask_of_one", "ask_of_one", "ask_of_a_foreign_one", "ask_of_a_foreign_one"),
)
BLUEPRINTS = st.sampled_from(AGENTS)


def new_session(blueprint):
    """Return what opens a session under an id that no other has."""
    return {"model": "test", "blueprint": blueprint, "sessionId": f"s{next(NUMBERS):05}"}


@schemathesis.serializer("application/jsonl")
def lines(_context, value):
    """Write a body of lines as it is: it is a text already, or something that is none."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


class Operations:
    """What the running gateway says can be asked, as strategies of schemathesis' cases."""

    def __init__(self, box):
        document = json.loads(box.tenants(1)[0].ask("GET", "/openapi.json").body)
        schema = schemathesis.openapi.from_dict(document)
        found = [each.ok() for each in schema.get_all_operations()]
        self._cases = {each.label: cases_of(each) for each in found}
        self.endless = [name for name in self._cases if name.endswith(ENDLESS)]
        self.any = [name for name in self._cases if name not in self.endless]
        self.of_a_session = [name for name in self.any if "{sessionId}" in name and name != DELETE]

    def __getitem__(self, name):
        return self._cases[name]


def cases_of(operation):
    """Return what fits an operation's schema, and what does not."""
    fits = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    return fits | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


class ApiMachine(RuleBasedStateMachine):
    """One sequence. A subclass has the `box`, the `tenants` and the `operations` of a campaign."""

    box = tenants = operations = None

    def __init__(self):
        super().__init__()
        self.expected = Expected(self.tenants)
        self.session = requests.Session()
        self.session.trust_env = False
        self.asked = []

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, tenant, case):
        """Send a case with a tenant's key; hold its answer to the rules, and learn from it."""
        if isinstance(case.body, dict) and isinstance(case.body.get("wait"), int | float):
            # Who waits for a turn's end waits up to its deadline: longer than a test reads.
            case.body = {**case.body, "wait": min(case.body["wait"], 0.2)}
        response = case.call(
            base_url=self.box.url,
            session=self.session,
            headers={"X-API-Key": tenant.key},
            timeout=PROMPTLY_S,
        )
        headers = {name: ", ".join(values) for name, values in response.headers.items()}
        answer = Answer(response.status_code, headers, response.content)
        asked = f"{case.method} {case.formatted_path} of {tenant.name}: {case.body!r:.300}"
        self.asked.append(f"{asked} -> {answer.status}")
        check(answer, asked, method=case.method)
        try:
            case.validate_response(response, checks=DESCRIBED)
        except FailureGroup as group:
            detail = "; ".join(str(each) for each in group.exceptions)
            raise Found(Rule.DESCRIBED, f"{asked}: {detail}") from None
        self.expected.saw(tenant, case.method, case.formatted_path, answer)
        return answer

    # -- steps -----------------------------------------------------------------------------------

    @initialize(chosen=st.tuples(BLUEPRINTS, BLUEPRINTS, BLUEPRINTS))
    def open_some(self, chosen):
        for number, blueprint in enumerate(chosen):
            tenant = self.tenants[number % len(self.tenants)]
            answer = tenant.ask("POST", "/v1/sessions", json=new_session(blueprint))
            check(answer, "a create")
            self.expected.saw(tenant, "POST", "/v1/sessions", answer)

    @rule(kind=st.sampled_from(STEPS), data=st.data())
    def step(self, kind, data):
        # One rule: hypothesis would leave out most of many, to look at the others for longer.
        getattr(self, kind)(data)

    def open(self, data):
        case = data.draw(self.operations[CREATE], label=CREATE)
        body = dict(case.body) if isinstance(case.body, dict) else {}
        body = {name: value for name, value in body.items() if name not in LISTED}
        case.body = {**body, **new_session(data.draw(BLUEPRINTS))}
        self.ask(self.tenants[data.draw(NUMBER)], case)

    def open_the_same_id(self, data):
        case = data.draw(self.operations[CREATE], label=CREATE)
        opened, foreign = self.picked(data), data.draw(st.booleans())
        case.body = {"model": "test", "sessionId": opened.session_id}
        self.ask(self.other(opened) if foreign else opened.tenant, case)

    def ask_of_one(self, data):
        name, case = self.drawn(self.operations.of_a_session, data)
        opened, real = self.picked(data), data.draw(st.booleans())
        case.path_parameters["sessionId"] = opened.session_id
        if real and isinstance(case.body, dict) and name != TOOLS:
            case.body = {**case.body, **self.pending(opened)}
        self.ask(opened.tenant, case)

    def prompt(self, data):
        opened, text = self.picked(data), data.draw(TEXT)
        for _ in range(data.draw(st.integers(1, 4))):
            self.post(opened, "prompt", {"text": text})

    def steer(self, data):
        self.post(self.picked(data), "steer", {"text": data.draw(TEXT | st.just("go"))})

    def abort(self, data):
        reason, kill = data.draw(st.none() | st.text(max_size=20)), data.draw(st.booleans())
        self.post(self.picked(data), "abort", {"reason": reason, "killTools": kill})

    def resolve(self, data):
        opened, answer = self.picked(data), data.draw(st.sampled_from(("approve", "reject")))
        if approval := self.pending(opened).get("approvalId"):
            self.post(opened, answer, {"approvalId": approval})

    def respond(self, data):
        opened, response = self.picked(data), data.draw(RESPONSES)
        if reference := self.pending(opened).get("ref"):
            self.post(opened, "respond", {"ref": reference, "response": response})

    def delete(self, data):
        opened = self.picked(data)
        answer = opened.tenant.ask("DELETE", opened.path)
        check(answer, f"DELETE {opened}")
        self.expected.saw(opened.tenant, "DELETE", opened.path, answer)

    def open_a_stream_and_leave(self, data):
        opened, since = self.picked(data), data.draw(st.none() | st.integers(0, 9))
        query = {} if since is None else {"since": since}
        with opened.tenant.client.stream("GET", f"{opened.path}/events", params=query) as got:
            if got.status_code not in (200, 204, 404):
                raise Found(Rule.STAYS, f"the stream of {opened} is {got.status_code}")

    def ask_of_a_foreign_one(self, data):
        streams = [name for name in self.operations.endless if "{sessionId}" in name]
        every = [*self.operations.of_a_session, *[DELETE] * 12, *streams]
        _, case = self.drawn(every, data)
        opened = self.picked(data)
        tenant = self.other(opened)
        if opened.session_id in self.expected.known(tenant):
            return
        # Same length, and nobody opens any that begin like this.
        never = f"n{opened.session_id[1:]}"
        answers = []
        for session_id in (opened.session_id, never):
            case.path_parameters["sessionId"] = session_id
            answers.append(self.ask(tenant, case))
        asked = f"{case.method} {opened.path} ... of {tenant.name}"
        check_same(*answers, asked=asked, ids=(opened.session_id, never))

    def ask_anything(self, data):
        _, case = self.drawn(self.operations.any, data)
        self.ask(self.tenants[data.draw(NUMBER)], case)

    # -- of the steps ----------------------------------------------------------------------------

    def drawn(self, names, data):
        """Draw a case of one of some operations."""
        name = data.draw(st.sampled_from(names))
        return name, data.draw(self.operations[name], label=name)

    def picked(self, data):
        """Draw one of the sessions that were opened, rather one that is not deleted."""
        every = self.expected.all()
        order = sorted(every, key=lambda each: each.deleted)
        return order[min(data.draw(PICKS), len(order) - 1)]

    def pending(self, opened):
        """Return references that wait for an answer, so that some are answered."""
        status = json.loads(opened.tenant.ask("GET", f"{opened.path}/status").body)
        approvals = [each["approvalId"] for each in status.get("pendingApprovals", ())]
        questions = [each["ref"] for each in status.get("pendingQuestions", ())]
        found = {"approvalId": approvals[0]} if approvals else {}
        return {**found, "ref": questions[0]} if questions else found

    def post(self, opened, what, body):
        path = f"{opened.path}/{what}"
        answer = opened.tenant.ask("POST", path, json=body)
        asked = f"POST {path} of {opened.tenant.name}: {body}"
        self.asked.append(f"{asked} -> {answer.status}")
        check(answer, asked)
        self.expected.saw(opened.tenant, "POST", path, answer)

    def other(self, opened):
        first, second = self.tenants
        return second if opened.tenant is first else first

    # -- what must hold --------------------------------------------------------------------------

    @invariant()
    def lists_hold_what_they_must(self):
        self.expected.check_lists()

    def teardown(self):
        failed = sys.exc_info()[1]
        try:
            if failed is not None:
                failed.add_note("\n".join(["after:", *self.asked]))
            else:
                self.expected.check_alive()
                self.expected.check_ends()
                self.expected.check_lists()
        finally:
            self.expected.delete_all()
            self.session.close()
