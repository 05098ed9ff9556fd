"""An MCP server on stdin and stdout with one tool, `touch`, which makes a file where it runs."""

import json
import pathlib
import sys

TOOL = {
    "name": "touch",
    "description": "Make a file",
    "inputSchema": {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    },
}


def answer(method, params):
    if method == "initialize":
        version = params["protocolVersion"]
        server = {"name": "touch", "version": "1"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        pathlib.Path(params["arguments"]["name"]).touch()
        return {"content": [{"type": "text", "text": "made"}]}
    return {}


if __name__ == "__main__":
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            result = answer(request["method"], request.get("params"))
            message = {"jsonrpc": "2.0", "id": request["id"], "result": result}
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
