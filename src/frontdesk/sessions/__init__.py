"""The session service: conversations, turns, event log, supervision. It knows no HTTP.

`service.py` opens, finds and ends sessions, `tenant.py` is how one tenant sees them,
`conversation.py` what a client sees of one. `runner.py` runs its turns.
"""
