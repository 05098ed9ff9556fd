"""Programs that speak ACP, each with one habit: what the tests of ACP agents run.

Run as `python acp_agents.py HABIT`. They are written without the SDK, so that they can do what no
SDK would: a well-behaved one, of the SDK's makers, is in `test_acp_others.py`.
"""

import json
import os
import signal
import subprocess
import sys
import time

SESSION = "s-1"


def send(message):
    """Say one message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def heard():
    """Yield what the gateway says, to the end of the input."""
    for line in sys.stdin:
        yield json.loads(line)


def result(request, **fields):
    send({"id": request["id"], "result": fields})


def refuse(request, code, text, data=None):
    send({"id": request["id"], "error": {"code": code, "message": text, "data": data}})


def update(kind, /, session=None, **fields):
    """Report something of the session."""
    body = {"sessionId": session or SESSION, "update": {"sessionUpdate": kind, **fields}}
    send({"method": "session/update", "params": body})


def say(text, **more):
    update("agent_message_chunk", content={"type": "text", "text": text}, **more)


def ask(method, **params):
    """Ask the gateway, and return its answer; what else it says meanwhile is kept for later."""
    send({"id": f"ask-{method}", "method": method, "params": {"sessionId": SESSION, **params}})
    for message in INPUT:
        if message.get("id") == f"ask-{method}" and "method" not in message:
            return {"error": message["error"]} if message.get("error") else message["result"]
        LATER.append(message)
    sys.exit(0)


LATER = []


def messages():
    """Yield every message, those first that came while something was asked."""
    while True:
        if LATER:
            yield LATER.pop(0)
        else:
            try:
                yield next(INPUT)
            except StopIteration:
                return


def prompt_of(request):
    return "".join(block["text"] for block in request["params"]["prompt"])


class Agent:
    """A well-behaved agent: it says every prompt again. Others have one habit of their own."""

    options = ()

    def run(self):
        for message in messages():
            act = getattr(self, message.get("method", "").replace("/", "_"), None)
            if act is not None:
                act(message)

    def initialize(self, request):
        self.capabilities = request["params"]["clientCapabilities"]
        result(request, protocolVersion=1, agentCapabilities={})

    def session_new(self, request):
        self.cwd = request["params"]["cwd"]
        result(request, sessionId=SESSION, configOptions=list(self.options))

    def session_prompt(self, request):
        self.answer(prompt_of(request))
        result(request, stopReason="end_turn")

    def answer(self, text):
        say(text)


class Traced(Agent):
    """Say what came with the prompt beside it."""

    def session_prompt(self, request):
        say(json.dumps(request["params"].get("_meta")))
        result(request, stopReason="end_turn")


class Teller(Agent):
    """Tell everything that there is to tell in one turn."""

    def answer(self, text):
        update("agent_thought_chunk", content={"type": "text", "text": "hm"})
        entries = [
            {"content": "look", "priority": "high", "status": "completed"},
            {"content": "mend", "priority": "low", "status": "pending"},
        ]
        update("plan", entries=entries)
        update("available_commands_update", availableCommands=[])
        update("a_kind_of_the_future", surprise=True)
        say("first ", messageId="m1")
        say("message", messageId="m1")
        update("tool_call", toolCallId="c1", title="read", kind="read", status="pending")
        update("tool_call_update", toolCallId="c1", status="in_progress", rawInput={"path": "a"})
        content = [{"type": "content", "content": {"type": "text", "text": "the text of a"}}]
        update("tool_call_update", toolCallId="c1", status="completed", content=content)
        update("tool_call", toolCallId="c2", title="edit", status="failed", rawOutput={"no": 1})
        update("tool_call", toolCallId="c3", title="run", status="in_progress")
        say("second", messageId="m2")
        link = {"type": "resource_link", "name": "a", "uri": "file:///a"}
        update("agent_message_chunk", content=link)
        update("usage_update", used=10, size=100, cost={"amount": 0.5, "currency": "USD"})
        update("usage_update", used=10, size=100, cost={"amount": 0.75, "currency": "USD"})

    def session_prompt(self, request):
        self.answer(prompt_of(request))
        usage = {"totalTokens": 30, "inputTokens": 20, "outputTokens": 10, "cachedReadTokens": 5}
        result(request, stopReason="end_turn", usage=usage)


class Careful(Agent):
    """Ask for permission before it uses a tool, with the options that the prompt names."""

    def answer(self, text):
        kinds = text.split()
        call = {"toolCallId": "c1", "title": "rm", "rawInput": {"path": "/"}}
        update("tool_call", **call, status="pending")
        options = [{"optionId": f"opt-{kind}", "name": kind, "kind": kind} for kind in kinds]
        answer = ask("session/request_permission", toolCall=call, options=options)
        outcome = answer["outcome"]
        done = outcome.get("optionId", "").startswith("opt-allow")
        update("tool_call_update", toolCallId="c1", status="completed" if done else "failed")
        say(f"{outcome['outcome']} {outcome.get('optionId')}")


class Patient(Agent):
    """Work until it is cancelled."""

    def session_prompt(self, request):
        self.request = request
        update("tool_call", toolCallId="c1", title="dig", status="in_progress")
        say("working")

    def session_cancel(self, notice):
        result(self.request, stopReason="cancelled")


class Asking(Patient):
    """Be cancelled while it waits for a permission, and say how that was answered."""

    def session_prompt(self, request):
        options = [{"optionId": "yes", "name": "yes", "kind": "allow_once"}]
        call = {"toolCallId": "c1", "title": "rm"}
        answer = ask("session/request_permission", toolCall=call, options=options)
        sys.stderr.write(f"the permission was {answer['outcome']['outcome']}\n")
        sys.stderr.flush()
        result(request, stopReason="cancelled")


class Deaf(Agent):
    """Never end a turn, and ignore that it is cancelled."""

    def session_prompt(self, request):
        say("working")


class Stopping(Agent):
    """End the turn for the reason that the prompt names."""

    def session_prompt(self, request):
        result(request, stopReason=prompt_of(request))


class Failing(Agent):
    """Answer every prompt with an error."""

    def session_prompt(self, request):
        refuse(request, -32603, "out of luck", {"details": "the moon"})


class Choosy(Agent):
    """Offer two models, and answer with the name of the one that was chosen."""

    model = "house/small"

    def session_new(self, request):
        names = [{"value": f"house/{name}", "name": name.title()} for name in ("small", "large")]
        option = {"id": "m", "name": "Model", "category": "model", "type": "select"}
        self.options = ({**option, "currentValue": self.model, "options": names},)
        super().session_new(request)

    def session_set_config_option(self, request):
        self.model = request["params"]["value"]
        result(request, configOptions=[])

    def answer(self, text):
        say(self.model)


class ChoosyBefore(Choosy):
    """Offer them as the protocol had it before: beside the session's options."""

    def session_new(self, request):
        models = [{"modelId": f"house/{name}", "name": name.title()} for name in ("small", "large")]
        offered = {"availableModels": models, "currentModelId": self.model}
        result(request, sessionId=SESSION, models=offered)

    def session_set_model(self, request):
        self.model = request["params"]["modelId"]
        result(request)


class Terse(Choosy):
    """Say nothing when an option was set."""

    def session_set_config_option(self, request):
        self.model = request["params"]["value"]
        send({"id": request["id"], "result": {}})


class Stubborn(Choosy):
    """Keep the model that it has, and say so."""

    def session_set_config_option(self, request):
        result(request, configOptions=list(self.options))


class Refractory(Choosy):
    """Refuse every change of the model, by either method."""

    def session_set_config_option(self, request):
        refuse(request, -32602, "Invalid params")


class RefractoryBefore(ChoosyBefore):
    """The same, with the method of before."""

    def session_set_model(self, request):
        refuse(request, -32601, "Method not found")


class Wayward(Choosy):
    """Change the model by itself when it is told to, and say so by one of the ways there are."""

    def answer(self, text):
        if text.startswith("change"):
            self.model = text.split()[1]
            (option,) = self.options
            options = [{**option, "currentValue": self.model}]
            update("config_option_update", configOptions=options)
        say(self.model)


class WaywardBefore(ChoosyBefore):
    """The same, as the protocol had it before."""

    def answer(self, text):
        if text.startswith("change"):
            self.model = text.split()[1]
            update("current_model_update", currentModelId=self.model)
        say(self.model)


class Scripted(Agent):
    """Do what the prompt says, step by step: `["update", {...}]`, `["ask", method, {...}]`,
    `["answer", ...]`, `["line", "..."]`, `["run", source]`, `["pause", seconds]`, `["exit", code]`.
    """

    def session_prompt(self, request):
        for kind, *what in json.loads(prompt_of(request)):
            match kind:
                case "update":
                    update(what[0].pop("sessionUpdate"), **what[0])
                case "ask":
                    say(json.dumps(ask(what[0], **what[1])))
                case "answer":
                    send({"id": request["id"], "result": what[0]})
                case "line":
                    sys.stdout.write(what[0] + "\n")
                    sys.stdout.flush()
                case "run":
                    exec(what[0], globals())
                case "pause":
                    time.sleep(what[0])
                case "exit":
                    sys.exit(what[0])


class Worker(Agent):
    """Ask the gateway for whatever the prompt says, and say what came of it."""

    def answer(self, text):
        for method, params in json.loads(text):
            if method == "update":
                update("tool_call_update", **params)
                continue
            params = {name: self.filled(value) for name, value in params.items()}
            answer = ask(method, **params)
            self.last = answer.get("terminalId", getattr(self, "last", None))
            say(json.dumps(answer) + "\n")
        say(json.dumps(self.capabilities) + "\n")

    def filled(self, value):
        if not isinstance(value, str):
            return value
        return value.replace("$CWD", self.cwd).replace("$TERM", str(getattr(self, "last", "")))


class Family(Agent):
    """Have a grandchild, be deaf to SIGTERM and to the end of its input, and say who they are."""

    def answer(self, text):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
        say(f"{os.getpid()} {child.pid}")

    def run(self):
        super().run()
        while True:
            time.sleep(1000)


class Inquisitive(Agent):
    """Say what it can see: its environment and its directory."""

    def answer(self, text):
        say(json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "told": self.cwd}))


# -- misbehaving -------------------------------------------------------------------------------


class Silent(Agent):
    """Say nothing at all."""

    def initialize(self, request):
        pass


class Rubbish(Agent):
    """Print what is no protocol, without end."""

    def run(self):
        for number in range(1_000_000):
            sys.stdout.write(f"[{number}] server listening on port 1234\n")


class Chatty(Agent):
    """Print a few lines that are no protocol, as launchers do, and then behave."""

    def run(self):
        sys.stdout.write("npm warn: a newer version is available\n\n[]\n42\n")
        super().run()


class Unending(Agent):
    """Print one line that never ends."""

    def run(self):
        while True:
            sys.stdout.write("x" * 65536)


class Huge(Agent):
    """Send one message that is larger than a message may be."""

    def answer(self, text):
        say("x" * (17 * 1024 * 1024))


class Gone(Agent):
    """Exit at once."""

    def run(self):
        sys.exit(3)


class Dropping(Agent):
    """Exit in the middle of a turn."""

    def answer(self, text):
        say("half a ")
        ask("fs/read_text_file", path="none")  # whatever the answer: what was said has arrived
        sys.exit(4)


class Closing(Agent):
    """Close its output in the middle of a turn, and live on."""

    def answer(self, text):
        say("half a ")
        os.close(1)
        while True:
            time.sleep(1000)


class Disordered(Agent):
    """Answer what was not asked yet, twice, and under ids of other types, before what was."""

    def initialize(self, request):
        for wrong in (99, "0", None, 2):
            send({"id": wrong, "result": {"stopReason": "end_turn"}})
        super().initialize(request)
        send({"id": request["id"], "result": {"protocolVersion": 7}})


class Malformed(Agent):
    """Send messages that have the right look and the wrong types."""

    def session_prompt(self, request):
        for wrong in (
            {"id": [1], "result": {}},
            {"id": 1, "error": "no object"},
            {"method": 5},
            {"id": {"a": 1}, "method": "session/update"},
            {"method": "session/update", "params": [1, 2]},
            {"method": "session/update", "params": {"sessionId": SESSION, "update": "none"}},
            {"method": "session/update"},
            {"id": 7, "method": "no/such_method"},
            {"id": 8, "method": "session/request_permission", "params": {"sessionId": SESSION}},
            {"id": 9, "method": "fs/read_text_file", "params": {"path": 5}},
        ):
            send(wrong)
        sys.stdout.write("[" * 50_000 + "\n" + '{"a":' * 100_000 + "\n")
        say("half \ud83d of it")
        update("usage_update", used=1, size=1, cost={"amount": float("inf"), "currency": "USD"})
        super().session_prompt(request)


class Flooding(Agent):
    """Report without end, whatever it is asked."""

    def answer(self, text):
        while True:
            say("x" * 1000)


class FloodingEarly(Agent):
    """Report without end before it was asked anything."""

    def run(self):
        while True:
            say("x" * 100)


class FloodingRequests(Agent):
    """Ask without end, and read no answers."""

    def answer(self, text):
        while True:
            send({"id": "a", "method": "fs/read_text_file", "params": {"path": "x" * 1000}})


class Crowding(Agent):
    """Ask for a hundred permissions at once, and say how many were refused without asking."""

    def answer(self, text):
        for number in range(100):
            options = [{"optionId": "yes", "name": "yes", "kind": "allow_once"}]
            call = {"toolCallId": f"c{number}", "title": "rm"}
            params = {"sessionId": SESSION, "toolCall": call, "options": options}
            send({"id": number, "method": "session/request_permission", "params": params})
        refused = 0
        while refused + 64 < 100:
            refused += "error" in next(INPUT)
        say(f"{refused} refused")


class Endless(Agent):
    """Begin more calls than anybody can count, and end none."""

    def answer(self, text):
        for number in range(1200):
            update("tool_call", toolCallId=f"c{number}", title="dig", status="in_progress")


class Locked(Agent):
    """Want to be logged in, by one method."""

    def session_new(self, request):
        if getattr(self, "method", None) == "token":
            super().session_new(request)
        else:
            refuse(request, -32000, "Authentication required")

    def authenticate(self, request):
        self.method = request["params"]["methodId"]
        result(request)


class OldFashioned(Agent):
    """Speak another version of the protocol."""

    def initialize(self, request):
        result(request, protocolVersion=2)


class Refusing(Agent):
    """Refuse to open a session."""

    def session_new(self, request):
        refuse(request, -32603, "no seats", {"details": "/secret/place"})


class Homely(Agent):
    """Remember every prompt in its home, and say what it remembers."""

    def session_prompt(self, request):
        place = os.path.join(os.environ["HOME"], "AGENTS.md")
        with open(place, "a+") as memory:
            memory.seek(0)
            say(f"{memory.read()}|{os.environ['HOME']}")
            memory.write(prompt_of(request))
        result(request, stopReason="end_turn")


class Untidy(Agent):
    """Nest directories in its working directory and its home, and say where those are."""

    def session_prompt(self, request):
        places = os.getcwd(), os.environ["HOME"]
        for place in places:
            os.chdir(place)
            for _ in range(int(prompt_of(request))):
                os.mkdir("d")
                os.chdir("d")
        say(" ".join(places))
        result(request, stopReason="end_turn")


if __name__ == "__main__":
    INPUT = heard()
    globals()[sys.argv[1]]().run()
