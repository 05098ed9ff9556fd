"""What goes over the wire as JSON: one frozen record for each answer of the gateway.

    answer_schemas      what clients are told of sessions, turns, tools, blueprints
    usage_schemas       what was used, and what budgets leave
    operator_schemas    what operators and other programs are told

The gateway fills them, clients read them, the API description shows them. Names are camelCase on
the wire. Whoever reads ignores fields that it does not know.
"""
