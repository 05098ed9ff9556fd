"""Programs that speak ACP and have something of a session's own: settings, memories, MCP servers.

Run as `python acp_sessions.py HABIT`. What they share with the others is in `acp_agents.py`.
"""

import json
import os
import pathlib
import sys
import uuid

import acp_agents
from acp_agents import Agent, ask, prompt_of, refuse, result, say, update

MODES = [{"id": "build", "name": "Build"}, {"id": "plan", "name": "Plan only"}]


class Modal(Agent):
    """Have modes beside the options, as the protocol had them before, and say which one is on."""

    mode = "build"

    def session_new(self, request):
        modes = {"currentModeId": self.mode, "availableModes": MODES}
        result(request, sessionId=acp_agents.SESSION, modes=modes)

    def session_set_mode(self, request):
        self.mode = request["params"]["modeId"]
        update("current_mode_update", currentModeId=self.mode)
        result(request)

    def answer(self, text):
        if text.startswith("change"):
            self.mode = text.split()[1]
            update("current_mode_update", currentModeId=self.mode)
        say(self.mode)


class Settable(Agent):
    """Have a mode, an effort and a switch among its options, and say how they are set."""

    stubborn = False

    def initialize(self, request):
        self.values = {"mode": "build", "effort": "low", "fast": False}
        self.greet(request)

    def greet(self, request):
        super().initialize(request)

    def listed(self):
        named = [{"value": each["id"], "name": each["name"]} for each in MODES]
        efforts = [{"value": each, "name": each.title()} for each in ("low", "high")]
        select = {"type": "select", "name": "Of many"}
        mode = {"id": "mode", "category": "mode", **select, "options": named}
        effort = {"id": "effort", "category": "thought_level", **select, "options": efforts}
        fast = {"id": "fast", "name": "Fast", "type": "boolean"}
        odd = {"id": "odd", "name": "Odd", "type": "of the future", "currentValue": 7}
        known = [{**each, "currentValue": self.values[each["id"]]} for each in (mode, effort, fast)]
        return [*known, odd]

    def session_new(self, request):
        if servers := request["params"]["mcpServers"]:
            self.values["servers"] = [each["name"] for each in servers]
        result(request, sessionId=acp_agents.SESSION, configOptions=self.listed())

    def session_set_config_option(self, request):
        params = request["params"]
        if not self.stubborn:
            self.values[params["configId"]] = params["value"]
        result(request, configOptions=self.listed())

    def answer(self, text):
        if text.startswith("change"):
            self.values["mode"] = text.split()[1]
            update("config_option_update", configOptions=self.listed())
        say(json.dumps(self.values))


class Unmoved(Settable):
    """Keep every option as it is, and say so."""

    stubborn = True


class Refusing(Settable):
    """Refuse to set any option."""

    def session_set_config_option(self, request):
        refuse(request, -32602, "no")


class Served(Agent):
    """Take MCP servers over the transports that its argument names, and say which it was given."""

    def initialize(self, request):
        capabilities = dict.fromkeys(sys.argv[2:], True)
        result(request, protocolVersion=1, agentCapabilities={"mcpCapabilities": capabilities})

    def session_new(self, request):
        self.servers = request["params"]["mcpServers"]
        super().session_new(request)

    def answer(self, text):
        say(json.dumps(self.servers))


class Remembering(Agent):
    """Keep what was said in each session in its home; give sessions back as its arguments say.

    `resume` and `load` are ways to; `deaf` refuses, `fatal` exits then, `silent` says nothing of
    its models.
    """

    ways = frozenset(sys.argv[2:])

    @property
    def place(self):
        return pathlib.Path(os.environ["HOME"], f"{acp_agents.SESSION}.json")

    def initialize(self, request):
        capabilities = {"loadSession": "load" in self.ways}
        if "resume" in self.ways:
            capabilities["sessionCapabilities"] = {"resume": {}}
        result(request, protocolVersion=1, agentCapabilities=capabilities)
        self.said, self.came_by, self.model = [], "new", "small"

    def models(self):
        offered = [{"modelId": each, "name": each} for each in ("small", "large")]
        return {"availableModels": offered, "currentModelId": self.model}

    def session_new(self, request):
        acp_agents.SESSION = f"s-{uuid.uuid4()}"
        pathlib.Path("marker").touch()
        self.place.write_text("[]")
        result(request, sessionId=acp_agents.SESSION, models=self.models())

    def session_set_model(self, request):
        self.model = request["params"]["modelId"]
        result(request)

    def session_resume(self, request):
        self.come_back(request, "resume")

    def session_load(self, request):
        self.come_back(request, "load")

    def come_back(self, request, way):
        if "fatal" in self.ways:
            os._exit(4)
        if "deaf" in self.ways:
            refuse(request, -32002, "no such session")
            return
        acp_agents.SESSION = request["params"]["sessionId"]
        self.said, self.came_by = json.loads(self.place.read_text()), way
        if way == "load":
            for _ in range(6000):  # as many messages as nobody may send unasked
                for text in self.said:
                    update("user_message_chunk", content={"type": "text", "text": text})
                    say(f"again: {text}")
        result(request, **({} if "silent" in self.ways else {"models": self.models()}))
        if way == "load":
            say("and this came late")

    def session_prompt(self, request):
        text = prompt_of(request)
        if text == "exit":
            os._exit(3)
        self.said.append(text)
        self.place.write_text(json.dumps(self.said))
        kept = os.path.exists("marker")
        says = {"by": self.came_by, "said": self.said, "model": self.model, "kept": kept}
        say(json.dumps(says))
        calls = len(self.said)
        used = {"inputTokens": 10 * calls, "outputTokens": calls, "totalTokens": 11 * calls}
        cost = {"amount": 0.5 * calls, "currency": "USD"}
        update("usage_update", used=1, size=1, cost=cost)
        result(request, stopReason="end_turn", usage=used)


class Moody(Settable):
    """Give every session back, in the mode that a new one has."""

    def greet(self, request):
        capabilities = {"sessionCapabilities": {"resume": {}}}
        result(request, protocolVersion=1, agentCapabilities=capabilities)

    def session_resume(self, request):
        acp_agents.SESSION = request["params"]["sessionId"]
        result(request, configOptions=self.listed())


class Curious(Agent):
    """Ask its user what the prompt says, and say what the answer was."""

    def answer(self, text):
        say(json.dumps(ask("elicitation/create", **json.loads(text))))


if __name__ == "__main__":
    acp_agents.INPUT = acp_agents.heard()
    globals()[sys.argv[1]]().run()
