"""Where conversations are stored: what is written, what is read back, and the stores that do it.

Beside the agents and below the session service; it knows neither. One thread writes what all
conversations of a process have said, in their order, many in one transaction.

    operations              what is written: one record for each thing that happened
    stored                  what is read back
    frames                  how one event is stored
    conversations           what a store can do, whichever it is
    remote_conversations    the store that one of several workers has: its supervisor's
    conversation_server     the supervisor's side of it
    storage_wire            calls and answers between them
    group_commit            the batches of all workers that wait, as one transaction
"""
