"""Traces, by OpenTelemetry's API: spans of requests, turns, model calls and tools.

    tracing                   whether there are any; what the gateway has of them
    request_spans             a span for each request, and whose child it is
    turn_spans                one for each turn, seen as an observer of the session service
    turn_span                 what is below it: model calls and tools
    conventions               every name in them

Nothing of it is imported where nobody has set up an SDK: the API alone makes no spans, so whoever
runs the gateway brings one (`opentelemetry-instrument`, or a host that sets its own). No text of
anybody's is in a span, unless the setting `trace_text` says so.
"""
