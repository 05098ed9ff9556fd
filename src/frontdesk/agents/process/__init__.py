"""Agents in processes of their own: the end in the gateway and the end in the process.

`factory.py` starts them through the keeper, `agent.py` is the end in the gateway, `worker.py` the
end in the process; `messages.py` is what the two say to each other.
"""
