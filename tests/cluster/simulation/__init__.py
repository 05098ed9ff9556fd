"""Whole clusters on virtual time: nodes as they are, an index as it is, and a made-up world.

    clockwork   virtual time: one heap of what happens when, and an event loop for each thread
    server      the engine's server around the real index: its clock, its crashes, its older files
    network     what is said between nodes and server: late, lost, cut, in the order of connections
    engine      the verbs of `Engine` over that network, and what they leave in the history
    process     a node's process around the real `Node`: its sessions, its lease, its kills
    clients     what is done to a cluster: creates, ends, lookups, requests, lists, watches
    faults      what befalls it
    world       all of them, from a seed to a history

A seed says everything: the same one gives the same history. Nothing here waits or reads a clock.
"""
