"""Agents that speak the Agent Client Protocol: the blueprint kind `acp`.

`blueprint.py` starts one for each session; `agent.py` opens the agent's session and runs turns;
`updates.py` turns what it reports into events; `client_methods.py` answers what it asks for, with
`workdir.py` (files) and `terminals.py`; `own_directory.py` is removed with the session, and
`model_choice.py` is which model answers. Messages go
through `connection.py` (answers are checked, an end is noticed) over `transport.py` (bounds).
"""
