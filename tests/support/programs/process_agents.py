"""Agents that the tests run as tasks and in processes alike: each does one thing to its turn."""

import ast
import asyncio
import ctypes
import errno
import hashlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

from frontdesk.agents import EndSession, blueprint
from frontdesk.agents.errors import (
    CreateFailed,
    ModelRefused,
    QuestionExpired,
    ToolFailed,
    UnknownTool,
)
from frontdesk.agents.events import (
    AgentEnd,
    Error,
    LastMessage,
    MessageDelta,
    MessageStart,
    ThinkingDelta,
    ToolCalls,
    ToolExecutionEnd,
    ToolExecutionStart,
    TurnTokens,
)
from frontdesk.agents.task import FunctionProgram


@blueprint("parrot")
async def parrot(turn):
    """Say the prompt, word by word."""
    for word in turn.text.split():
        yield word + " "


@blueprint("receiver", attachments=("image/*", "text/*"))
async def receiver(turn):
    """Say what came with the prompt."""
    yield repr(
        [
            (each.name, each.media_type, hashlib.sha256(each.content).hexdigest())
            for each in turn.attachments
        ]
    )


@blueprint("returner")
async def returner(turn):
    """Return the answer, without yielding."""
    return turn.text.upper()


@blueprint("witness")
async def witness(turn):
    """Say everything that the turn knows."""
    yield repr(
        [
            turn.text,
            turn.session.tenant_id,
            turn.session.blueprint,
            turn.session.model,
            turn.session.user_data,
            turn.session.provider_opts,
            turn.model,
            [(each.role, each.content) for each in turn.history],
            [(tool.name, tool.parameters) for tool in turn.tools],
            turn.steering(),
        ]
    )


@blueprint("emitter")
async def emitter(turn):
    """Emit one of each, with values that are awkward to carry."""
    turn.emit(ThinkingDelta("hm"))
    turn.emit(MessageStart())
    turn.emit(MessageDelta("half \ud800 a pair, \x00 and ünïcode"))
    turn.emit(ToolCalls(1))
    turn.emit(ToolExecutionStart("c1", "look", {"at": [1, 2.5, None], "what": object}))
    turn.emit(ToolExecutionEnd("c1", "look", "ok", {"seen": {3: "three"}}, 5))
    turn.emit(Error("not so bad"))
    yield MessageDelta("last")
    turn.usage(prompt=10, completion=5, cached=3, cost=0.25)


@blueprint("forbidden")
async def forbidden(turn):
    """Emit what is not an agent's to emit."""
    turn.emit(AgentEnd(LastMessage("assistant", "x"), TurnTokens()))
    yield ""


@blueprint("babbler")
async def babbler(turn):
    """Yield what is neither text nor an event."""
    yield 42


@blueprint("flooder")
async def flooder(turn):
    """Say a lot, without ever waiting."""
    for number in range(5000):
        yield f"{number} "


@blueprint("huge")
async def huge(turn):
    """Say something very long at once."""
    yield "x" * 500_000


@blueprint("raiser")
async def raiser(turn):
    """Fail, in one of several ways."""
    if turn.text == "value":
        raise ValueError("not for clients")
    if turn.text == "own":
        raise LookupError("not for clients")
    if turn.text == "exit":
        sys.exit(3)
    if turn.text == "end":
        raise EndSession
    if turn.text == "cancel":
        raise asyncio.CancelledError
    yield "fine"


@blueprint("asker")
async def asker(turn):
    """Ask for approval and for an answer, and say what came."""
    if turn.text == "approve":
        answer = await turn.approval("rm", {"path": "/"}, hint="all of it")
        yield f"{bool(answer)} {answer.status} {answer.reason}"
    elif turn.text == "impatient":
        try:
            async with asyncio.timeout(0.05):
                await turn.approval("rm", None)
        except TimeoutError:
            yield "too late"
    else:
        try:
            yield repr(await turn.ask("why?"))
        except QuestionExpired as error:
            yield f"expired {error.ref[:4]} {error.waited_s}"


@blueprint("caller")
async def caller(turn):
    """Call callback tools, and say what came of it."""
    yield repr([tool.name for tool in turn.tools])
    try:
        yield repr(await turn.call_tool(turn.text, {"at": 1}))
    except ToolFailed as error:
        yield f"failed {error.name} {error.problem}"
    except UnknownTool as error:
        yield f"unknown {error.name}"


@blueprint("listener")
async def listener(turn):
    """Say each change of the model, the tools and the steering as it comes."""
    yield "ready"
    while True:
        await asyncio.sleep(0.001)
        if texts := turn.steering():
            yield f"steered {texts}"
            if "stop" in texts:
                return
        if turn.model != turn.session.model:
            yield f"model {turn.model}"
            return
        if turn.tools:
            yield f"tools {[tool.name for tool in turn.tools]}"
            return


@blueprint("sleeper")
async def sleeper(turn):
    """Wait for ever, and clean up when that is cut short."""
    yield "asleep"
    try:
        await asyncio.sleep(1000)
    finally:
        turn.usage(prompt=7)
        yield_late = MessageDelta("cleaned up")
        turn.emit(yield_late)


@blueprint("slow")
async def slow(turn):
    """Be deaf to cancellation for as long as the prompt says; then parrot."""
    if turn.text == "deaf":
        yield "deaf"
        until = time.monotonic() + 1.0
        while (left := until - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue
        turn.emit(MessageDelta("too late for anybody"))
    else:
        yield turn.text


# -- what only a process can take --------------------------------------------------------------


@blueprint("rowdy")
async def rowdy(turn):
    """Do to its process what the prompt says, once it is told to."""
    yield f"{os.getpid()}"
    while not turn.steering():
        await asyncio.sleep(0.001)
    match turn.text:
        case "hang":
            await asyncio.sleep(1000)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "spend":
            turn.usage(prompt=9, cost=0.5)
            os._exit(0)
        case "spin":
            while True:
                pass
        case "block":
            time.sleep(1000)
        case "leak":
            hoard = []
            while True:
                hoard.append(bytearray(16 << 20))
        case "garbage":
            _write_to_channel(b"\x00\x00\x00\x05hello")
            await asyncio.sleep(1000)
        case "huge frame":
            _write_to_channel(b"\xff\xff\xff\xff")
            await asyncio.sleep(1000)
        case "half a frame":
            _write_to_channel(b"\x00\x00\x01\x00half")
            os._exit(0)
        case "close":
            os.close(_channel())
            await asyncio.sleep(1000)
        case "shout":
            for _ in range(2000):
                sys.stderr.write("x" * 500 + "\n")
            yield " shouted"
        case "children":
            context = multiprocessing.get_context("fork")
            child = context.Process(target=_be_a_deaf_child, daemon=False)
            child.start()
            yield f" {child.pid}"
            await asyncio.sleep(1000)
        case "stop a child":
            context = multiprocessing.get_context("fork")
            child = context.Process(target=time.sleep, args=(1000,))
            child.start()
            child.terminate()
            child.join()
            yield f" {child.exitcode}"
        case "breed":
            for _ in range(50):
                if os.fork() == 0:
                    os.setsid()
                    _be_a_deaf_child()
            yield " bred"
            await asyncio.sleep(1000)


def _be_a_deaf_child():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def _channel():
    """Return the descriptor of the socket to the gateway: the only stream socket there is."""
    for number in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                import socket

                with socket.socket(fileno=os.dup(number)) as found:
                    if found.family == socket.AF_UNIX and _peer_is_elsewhere(found):
                        return number
        except OSError:
            continue
    raise LookupError("there is no channel")


def _peer_is_elsewhere(found):
    """Tell the channel from the loop's own wake-up pair: its peer is another process's."""
    import socket
    import struct

    pid, _, _ = struct.unpack(
        "3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return pid != os.getpid()


def _write_to_channel(data):
    os.write(_channel(), data)


# -- programs that cannot be opened ------------------------------------------------------------


class Choosy(FunctionProgram):
    """A program that takes one model only."""

    def __init__(self, model="right"):
        super().__init__(parrot.factory.program.function)
        self._model = model

    def check(self, context):
        """Refuse other models."""
        if context.model == "explode":
            raise RuntimeError("not for clients")
        if context.model == "exit":
            os._exit(9)
        if context.model == "hang":
            time.sleep(1000)
        if context.system_prompt == "bad":
            raise CreateFailed("this system prompt is not to my taste")
        if context.model != self._model:
            raise ModelRefused(context.model, problem="unknown here")


choosy = Choosy()
not_a_program = 42


class _Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


FAILURES = {
    "lookup": KeyError("not for clients"),
    "os": FileNotFoundError(2, "not for clients"),
    "timeout": TimeoutError(),
    "assertion": AssertionError("not for clients"),
    "group": ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    "recursion": RecursionError("too deep"),
    "memory": MemoryError(),
    "exit": SystemExit(3),
    "end": EndSession("enough"),
    "cancel": asyncio.CancelledError(),
    "tool": ToolFailed("look", problem="it broke"),
    "unknown": UnknownTool("nothing"),
    "question": QuestionExpired("ask_1", waited_s=1.0),
    "refused": ModelRefused("m", problem="no"),
    "wordless": _Wordless(),
}
"""What an agent may raise."""


@blueprint("puppet")
async def puppet(turn):
    """Do what the prompt says: a list of steps, as a Python literal."""
    for step, value in ast.literal_eval(turn.text):
        match step:
            case "say":
                yield value
            case "think":
                turn.emit(ThinkingDelta(value))
            case "delta":
                turn.emit(MessageDelta(value))
            case "call":
                turn.emit(ToolExecutionStart("c1", "look", value))
            case "result":
                turn.emit(ToolExecutionEnd("c1", "look", "ok", value, 5))
            case "took":
                turn.emit(ToolExecutionEnd("c1", "look", "ok", None, value))
            case "count":
                turn.emit(ToolCalls(value))
            case "error":
                turn.emit(Error(value))
            case "usage":
                turn.usage(**value)
            case "ask":
                yield repr(await turn.ask(value))
            case "approve":
                answer = await turn.approval(value, [value], hint=value)
                yield repr(answer.status)
            case "tool":
                yield repr(await turn.call_tool("look", value))
            case "raise":
                raise ValueError(value)
            case "fail":
                raise FAILURES[value]
            case "hang":
                turn.emit(Error("hangs"))
                try:
                    await asyncio.Event().wait()
                finally:
                    turn.emit(MessageDelta(value))
                    turn.usage(prompt=3)
            case "pause":
                await asyncio.sleep(0)


def read_memory_of(pid):
    """Read a byte of another process's memory by the system call for that."""
    here = ctypes.create_string_buffer(1)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(here), 1)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.process_vm_readv(pid, vector, 1, vector, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


@blueprint("intruder")
async def intruder(turn):
    """Try what the prompt says on other processes, and say how each went."""
    outcomes = []
    for what, pid in ast.literal_eval(turn.text):
        try:
            if what == "signal":
                os.kill(pid, 0)
            elif what == "stop":
                os.kill(pid, signal.SIGSTOP)
            elif what == "group":
                os.killpg(os.getpgid(pid), 0)
            elif what == "pidfd":
                signal.pidfd_send_signal(os.pidfd_open(pid), 0)
            elif what == "child":
                child = subprocess.Popen(["/bin/sleep", "60"])
                child.terminate()
                child.wait()
            elif what == "vm":
                read_memory_of(pid)
            elif what == "abstract":
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(f"\0frontdesk-test-{pid}")
            elif what == "link":
                os.readlink(f"/proc/{pid}/cwd")
            elif what == "fd":
                os.readlink(f"/proc/{pid}/fd/0")
            elif what == "file":
                with open(pid, "rb") as file:
                    file.read(1)
            else:
                with open(f"/proc/{pid}/{what}", "rb") as file:
                    file.read(1)
            outcomes.append("done")
        except OSError as error:
            outcomes.append(errno.errorcode[error.errno])
    yield repr(outcomes)


@blueprint("mortal")
async def mortal(turn):
    """Say a text character by character, and end as the prompt says before one of them."""
    how, place, text = ast.literal_eval(turn.text)
    for number, character in enumerate(text):
        if number == place:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif how == "exit":
                os._exit(7)
            elif how == "half":
                _write_to_channel(b"\x00\x00\x01\x00half")
                os._exit(0)
            elif how == "raise":
                raise ValueError("not for clients")
        yield character
        await asyncio.sleep(0)


@blueprint("counted")
async def counted(turn):
    """Keep all its prompts in `turn.memory` and say them; wait where the prompt says so."""
    turn.memory = [*(turn.memory or []), turn.text]
    yield repr(turn.memory)
    if turn.text == "wait":
        await asyncio.get_running_loop().create_future()
