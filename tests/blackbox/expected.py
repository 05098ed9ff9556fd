"""What must be there: the sessions that were opened, and the prompts that were accepted.

It learns from answers alone (`saw`), and holds lists and streams to what it learned. A session is
there from its 201 until its deletion was answered; an accepted prompt has its end in the stream,
which is the session's own where that ended first.
"""

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from blackbox.findings import Found, Rule
from blackbox.served import PROMPTLY_S, WAITING, Tenant

OF_A_SESSION = re.compile(r"/v1/sessions/([^/?]+)(?:/(\w+))?")
ENDS = ("agent_end", "agent_abort")


@dataclass(eq=False)
class Opened:
    """A session that a 201 told of."""

    tenant: Tenant
    session_id: str
    blueprint: str
    prompts: dict[str, None] = field(default_factory=dict)
    """The request ids of the 202s."""
    deleted: bool = False

    @property
    def path(self):
        return f"/v1/sessions/{self.session_id}"

    def __repr__(self):
        return f"<{self.tenant.name}/{self.session_id} {self.blueprint}>"


class Expected:
    """What must be there of some tenants."""

    def __init__(self, tenants):
        self.tenants = tenants
        self._sessions = {tenant: {} for tenant in tenants}
        self._known = set()

    def live(self, tenant):
        """Return a tenant's sessions that must be there, by their ids."""
        return {key: each for key, each in self._sessions[tenant].items() if not each.deleted}

    def known(self, tenant):
        """Return the ids of all that a tenant opened."""
        return set(self._sessions[tenant])

    def all(self):
        return [each for sessions in self._sessions.values() for each in sessions.values()]

    # -- learning --------------------------------------------------------------------------------

    def saw(self, tenant, method, path, answer):
        """Learn from an answer."""
        if (method, path, answer.status) == ("POST", "/v1/sessions", 201):
            self._opened(tenant, json.loads(answer.body))
            return
        match = OF_A_SESSION.fullmatch(path)
        opened = match and self._sessions[tenant].get(match[1])
        if not opened:
            return
        asked = (method, match[2], answer.status)
        if asked == ("POST", "prompt", 202):
            opened.prompts[json.loads(answer.body)["requestId"]] = None
        elif asked == ("DELETE", None, 200):
            opened.deleted = True

    def _opened(self, tenant, body):
        session_id = body["sessionId"]
        if (tenant, session_id, body["fence"]) in self._known:
            return  # the first answer again, for the same Idempotency-Key
        self._known.add((tenant, session_id, body["fence"]))
        self._sessions[tenant][session_id] = Opened(tenant, session_id, body["blueprint"])

    # -- holding to it ---------------------------------------------------------------------------

    def check_lists(self):
        """Hold every tenant's list to what must be there."""
        for tenant in self.tenants:
            listed = list(everything_listed(tenant))
            ids = {each["sessionId"] for each in listed}
            wanted = set(self.live(tenant))
            foreign = [each for each in listed if each["tenantId"] != tenant.name]
            if foreign or ids - wanted:
                raise Found(Rule.OWN_LIST, f"{tenant.name}: {foreign or ids - wanted}")
            if wanted - ids:
                raise Found(Rule.STAYS, f"{tenant.name}: {wanted - ids} are gone")
            if len(ids) != len(listed):
                raise Found(Rule.OWN_LIST, f"{tenant.name}: one more than once in {listed}")

    def check_alive(self):
        """Ask for every session that must be there."""
        for tenant in self.tenants:
            for opened in self.live(tenant).values():
                answer = tenant.ask("GET", opened.path)
                if answer.status != 200:
                    raise Found(Rule.STAYS, f"{opened}: {answer}")

    def check_ends(self):
        """Hold the stream of every session to the prompts that it accepted."""
        for opened in self.all():
            if opened.prompts or opened.deleted:
                Ends(opened).check()

    def delete_all(self):
        """End what is left."""
        for tenant in self.tenants:
            for opened in self.live(tenant).values():
                tenant.ask("DELETE", opened.path)
                opened.deleted = True


def everything_listed(tenant, *, limit=1000):
    """Yield every session of a tenant's list, page by page."""
    after = ""
    while after is not None:
        answer = tenant.ask("GET", "/v1/sessions", params={"limit": limit, "after": after})
        if answer.status != 200:
            raise Found(Rule.ANSWERED, f"the list of {tenant.name}: {answer}")
        page = json.loads(answer.body)
        yield from page["sessions"]
        after = page["next"]


def frames_of(response):
    """Yield (id, type, data) of each frame of an event stream.

    Lines end where the format says so: a client's idea of lines ends some within a JSON string.
    """
    received = b""
    for piece in response.iter_bytes():
        *frames, received = (received + piece).split(b"\n\n")
        for frame in frames:
            fields = dict(line.split(b": ", 1) for line in frame.split(b"\n") if line[:1] != b":")
            if fields:
                event_id = fields.get(b"id", b"").decode() or None
                yield event_id, fields[b"event"].decode(), json.loads(fields[b"data"])


class Ends:
    """One session's stream from its beginning, held to the prompts that were accepted."""

    def __init__(self, opened):
        self._opened = opened
        self._waiting = opened.blueprint in WAITING
        self._begun, self._ended = [], Counter()
        self._index, self._over = 0, False

    def check(self):
        """Read until every accepted prompt has had its end. What waits for somebody is aborted."""
        opened, stream = self._opened, f"{self._opened.path}/events"
        tenant, options = opened.tenant, {"params": {"since": "0"}}
        options["timeout"] = httpx.Timeout(PROMPTLY_S, read=tenant.silence_s)
        with suppress(httpx.ReadTimeout), tenant.client.stream("GET", stream, **options) as got:
            if opened.deleted and got.status_code == 404:
                return  # it is erased, with the ends of its prompts
            if opened.deleted or got.status_code != 200:
                raise Found(Rule.ENDS, f"{opened}: its stream is {got.status_code}")
            for event_id, name, event in frames_of(got):
                self._number(event_id)
                self._take(name, event)
                if self._over or not self._missing():
                    break
        self._hold()

    def _missing(self):
        return [each for each in self._opened.prompts if not self._ended[each]]

    def _number(self, event_id):
        """Hold the numbers to having no gaps; what says that there is one has none itself."""
        if event_id is None:
            self._index = None
            return
        index = int(event_id.rpartition("-")[2])
        if self._index is not None and index != self._index + 1:
            raise Found(Rule.NUMBERED, f"{self._opened}: {index} after {self._index}")
        self._index = index

    def _take(self, name, event):
        request_id = event.get("requestId")
        if name == "error" and event.get("reason") == "gap":
            self._begun = []  # what was before is no longer held, and was not promised
        elif name == "prompt_received":
            self._begun.append(request_id)
            if self._waiting:
                self._opened.tenant.ask("POST", f"{self._opened.path}/abort", json={})
        elif name in ENDS:
            self._ended[request_id] += 1
        elif name == "session_end":
            self._over = True

    def _hold(self):
        opened = self._opened
        twice = [each for each, times in self._ended.items() if times != 1]
        endless = [each for each in self._begun if not self._ended[each]]
        if twice or endless:
            raise Found(Rule.ENDS, f"{opened}: {endless} without an end, {twice} with several")
        if self._over:
            raise Found(Rule.STAYS, f"{opened}: ended, and nobody asked for that")
        if self._missing():
            raise Found(Rule.ENDS, f"{opened}: {self._missing()} were accepted and never ended")
