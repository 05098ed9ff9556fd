"""Agents that speak the Agent Client Protocol: the blueprint kind `acp`.

`blueprint.py` starts one, `agent.py` runs its turns, `transport.py` bounds what it sends.
"""
