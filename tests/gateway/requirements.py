"""What the wire contract demands, sentence by sentence, as data.

Each requirement has an id, the sentence, and the section that it comes from. Tests name the ones
they hold the gateway to with `@covers("id", ...)`; `test_requirements.py` checks that both sides
agree: no requirement without a test, no test for a requirement that there is not.
"""

from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Requirement:
    """One demand of the contract."""

    id: str
    sentence: str
    source: str


def _section(source, **sentences):
    return tuple(
        Requirement(f"{source.lower().replace(' ', '-')}.{name.replace('_', '-')}", text, source)
        for name, text in sentences.items()
    )


REQUIREMENTS = (
    *_section(
        "Wire",
        json_camel_case="Bodies are JSON in UTF-8 with camelCase names.",
        default_address="`frontdesk serve` listens on 127.0.0.1:4000 unless told otherwise.",
    ),
    *_section(
        "Keys",
        header="X-API-Key lets in, else Authorization: Bearer.",
        query="`?api_key=` counts on a WebSocket and an event stream, and nowhere else.",
        query_not_logged="A key in a query is never logged.",
        none_configured="Without a configured key nobody gets in.",
        environment="FRONTDESK_KEYS gives keys: tenant/name:secret, 24 characters, id env:<name>.",
        open_routes="Health, readiness, agent card and API description need no key.",
        hashes_only="Only hashes of secrets are kept.",
        revocation="A revoked key stops working within a second, open streams included.",
        expiry="An expired key stops working, open streams included.",
        operator="Operator keys open /ops and /metrics only, and every use is logged.",
        guessing="Guessing is limited by address.",
        scopes="A key has some of read, prompt, approve, create, delete; all by default.",
        every_route="Every route asks for its right, of every credential, under every prefix.",
        rotation="Two secrets of one key overlap while it is rotated.",
        last_use="A key's last use is known, and stored sparingly.",
        command_line="`frontdesk keys` creates, lists and revokes; the secret is printed once.",
    ),
    *_section(
        "Tokens",
        opens="A session token reads and prompts in its session as its scopes allow.",
        url="`?api_key=` takes a session token.",
        one_session="In any other session it gets, byte for byte, what an unknown one gets.",
        scopes="A token has never more scopes than the key that makes it.",
        bounded="A token's life is bounded by a setting.",
        ends_with_session="A token ends with its session.",
        ends_with_time="A token ends with its time, open streams included.",
        ends_with_key="A token ends with its key, open streams included.",
        acting_key="What a token asks for counts for the key that made it.",
    ),
    *_section(
        "JWT",
        caller="A bearer token of the operator's identity provider is a caller like a key.",
        counts="Limits and the meter count its subject.",
        scopes="Its scopes are those of its claim that are ours.",
        header_only="It counts in the Authorization header only.",
        expiry="It ends with its time, open streams included.",
        wrong="One that is wrong in any way opens nothing.",
        rotation="A new key of the provider's counts at once, one that is gone no more.",
        flood="Unknown keys are no flood of fetches.",
        never_delays="Fetching keys delays nobody else.",
        down="Where the provider does not answer, what was fetched last stays in force.",
        file="Keys may come from a file.",
        settings="Settings that would let in too many are refused.",
    ),
    *_section(
        "Tenants",
        foreign_is_absent="A foreign key gets, byte for byte, what a session that never was gets.",
        same_id="Two tenants use the same session id side by side.",
        names="Tenants and session ids are checked; anything else is 400.",
        listing="A listing shows the caller's tenant only.",
        other_key="A different credential of another tenant cannot go on with a session.",
    ),
    *_section(
        "Origins",
        every_origin="/v1 allows every origin without credentials; the preflight needs no key.",
        listed="Where origins are listed, pages of others read nothing and open no WebSocket.",
        websocket_cookie="A WebSocket that brings a cookie has its Origin checked.",
    ),
    *_section(
        "Errors",
        shape="Errors are {error, message} and retryAfter where it applies.",
        bad_request="Malformed JSON and missing or wrong fields are 400, the field named.",
        unauthorized="No key or a wrong one is 401 unauthorized.",
        forbidden="A good credential without the scope that a route needs is 403, scope named.",
        not_found="An unknown session is 404 not_found.",
        unknown_route="An unknown route is 404 with method and path named.",
        method_not_allowed="A wrong verb is 405 with Allow.",
        session_dead="A session whose agent ended recently is 404 session_dead with the reason.",
        already_exists="An id that the tenant has already is 409 already_exists.",
        queue_full="Too much steering is 409 queue_full.",
        too_large="A body over the limit is 413, refused before it is read whole.",
        create_failed="An agent that cannot be built is 422 create_failed.",
        registration_failed="A tool that cannot be registered is 422 registration_failed.",
        guardrail="A text that a filter refuses is 422 guardrail.",
        rate_limited="Too many requests are 429 rate_limited with Retry-After.",
        prompt_queue_full="Too many waiting prompts are 429 prompt_queue_full.",
        budget_exceeded="Past a budget prompts are 429 budget_exceeded, scope and limit named.",
        session_limit="Too many sessions are 429 session_limit, scope and limit named.",
        unavailable="Draining and full in total are 503 unavailable with Retry-After.",
        nothing_inside="No error shows a stack trace, a path or another tenant's data.",
        idempotency="An Idempotency-Key repeats the first answer; with another body it is 409.",
    ),
    *_section(
        "Routes",
        healthz="GET /healthz answers status, version, sessions, meter and timestamp.",
        healthz_numbers="The numbers of /healthz tell nothing of other tenants.",
        location="201 comes with Location.",
        readyz="GET /readyz is 200 when ready and 503 while starting or draining.",
        create="POST /v1/sessions opens a session and answers 201.",
        minted_id="Without sessionId one of at least 16 lower-case hex digits is minted.",
        listing="GET /v1/sessions lists with limit and an opaque cursor.",
        info="GET /v1/sessions/{id} answers all fields of the contract.",
        delete="DELETE answers 200 when the entry is gone.",
        delete_bounded="DELETE answers within grace plus one second, whatever is under way.",
        prompt="POST prompt answers 202 with requestId, sessionId and queued.",
        wait="With wait, prompt answers 200 with the turn's end, or 202 when the time is over.",
        accepted_has_an_end="What was accepted has an end, whatever ends the wait for it.",
        create_with_prompt="POST /v1/sessions takes a prompt; one that is refused opens none.",
        prompts_in_order="Prompts run one after another from a bounded queue.",
        abort="POST abort answers 202; the turn ends with agent_abort and the session lives on.",
        steer="POST steer answers 202.",
        switch_model="POST switch_model answers 202 and emits model_switched.",
        stats="GET stats answers all fields of the contract.",
        status="GET status answers state, pending approvals and tools, queues, last event index.",
        messages="GET messages answers the history in pages.",
        attach_tool="POST tools attaches a callback tool and answers 201.",
        detach_tool="DELETE tools/{name} answers 200, an unknown name 404.",
        blueprints="GET /v1/blueprints and /v1/models answer what the caller may open.",
        usage="GET /v1/usage answers the meters of the key and of its tenant.",
        description="/openapi.json has every route, error and event, with examples.",
        unknown_fields="Unknown fields of a body are refused by name.",
    ),
    *_section(
        "Events",
        frame="A frame has id <fence>-<index>, the type, and a JSON object.",
        no_gaps="The index counts from 1 without gaps, in bursts as well.",
        request_id="The events of a turn carry its requestId.",
        exactly_one_end="Every turn ends with exactly one of agent_end and agent_abort.",
        killed_in_the_middle="A killed agent's stream ends with agent_abort and session_end.",
        exception_type_only="Clients see the type of an exception, not its text.",
    ),
    *_section(
        "Streams",
        headers="text/event-stream, no-cache, x-accel-buffering: no.",
        heartbeat="A comment line is the heartbeat.",
        resume="Last-Event-ID, which beats ?since=, resumes with nothing lost or repeated.",
        since="?since= takes an id or a bare index.",
        gap="What is not held is answered with an error{gap} frame without an id.",
        types="?types= filters.",
        envelope="envelope=1 sends {event, data, index} as messages without a name, the id kept.",
        begin_at_latest_prompt="Without either the stream begins at the latest accepted prompt.",
        ends="The stream ends after session_end.",
        replay="The stream of a recently ended session replays and ends.",
        drained="A client that has it all gets 204.",
        slow_reader="A client that reads too slowly is disconnected and can resume.",
        leaving="A client that leaves is noticed within a second.",
        disconnect_harms_no_turn="A client's disconnect does not touch the turn.",
        bounded="Open streams per key are bounded.",
    ),
    *_section(
        "WebSocket",
        actions="Every action is answered once with {action, status}, before the events it causes.",
        errors="A refused action is answered with {action, error, message}.",
        events="Events come as {event, data, index}.",
        from_now="Without since, events come from the connection on; with it, after it.",
        refused_before_upgrade="Refusals come before the upgrade, with the HTTP errors.",
        malformed="Malformed messages are answered, not fatal.",
        too_large="A message over the limit closes with 1009.",
        pings="The server sends heartbeat pings.",
    ),
    *_section(
        "Answers",
        approve="After approve the turn goes on.",
        reject="After reject the agent is told and the turn goes on.",
        once="An approval is resolved once; the second answer is 400.",
        pending="What is pending is in status.",
        respond="ask_user waits for respond.",
    ),
    *_section(
        "Callbacks",
        posted="The gateway posts callId, toolName, args and sessionId, and takes result or error.",
        signed="Requests are signed over timestamp and body.",
        secret_derived="The signing secret is derived from the master secret and the key id.",
        private_refused="Loopback, link-local and private addresses are refused, unless allowed.",
        pinned="The address that was judged is the one connected to: rebinding changes nothing.",
        no_redirects="Redirects are not followed.",
        bounded="The answer is size-limited, and the call has a deadline.",
    ),
    *_section(
        "Limits",
        guardrail_input="A refused prompt never reaches the agent.",
        guardrail_output="Refused output ends the turn with error and agent_abort.",
        per_tenant_filters="Filters are per tenant.",
        rate_headers="X-RateLimit-Limit, -Remaining and -Reset are on answers.",
        ratelimit_fields="RateLimit and RateLimit-Policy are beside the X- headers.",
        health_exempt="Health and metrics are exempt from the rate limit.",
        head_size="Heads are bounded in size and time.",
        body_time="Bodies are bounded in time.",
        text_size="Texts are bounded.",
        idle_connections="A connection that says nothing is closed.",
    ),
    *_section(
        "Meter",
        counts="Prompts, tokens and cost are counted by key and tenant.",
        by_day="GET /v1/usage answers sums by day, model and key, from one day to another.",
        budgets="The meter says what is left of each budget; budgets survive a restart.",
        survives_restart="The meter survives a restart.",
        complete_after_sigterm="The meter is complete after SIGTERM.",
        behind_after_sigkill="The meter is at most a second behind after SIGKILL.",
        disk_full="A full disk breaks no turn, and what was counted is written later.",
    ),
    *_section(
        "Cluster",
        any_node="Any node serves any request, without sticky routing.",
        limits="Limits of sessions by tenant, key and blueprint hold over all nodes.",
        rates="Rates are counted in the engine, over all nodes.",
        rates_alone="While the engine cannot answer, each node counts rates alone.",
        idempotency="Of a create that comes twice, to any nodes, one session is opened.",
        idempotency_taken_over="A claim to an answer is free when its node is dead.",
        meter="The meter is each node's own, published as absolute totals and summed.",
        meter_days="Sums by day, model and key are over all nodes.",
        meter_of_dead_nodes="What a dead node had counted still counts.",
        budgets="Budgets are over all nodes.",
        configuration="A difference between the nodes' configurations is shown.",
        ready_when_cut_off="/readyz stays 200 on a node that is cut off; /healthz says it.",
        drain_by_an_operator="An operator drains a node through any node; its sessions go on.",
        draining="A draining node passes new sessions on to the node with the fewest.",
    ),
    *_section(
        "Dashboard",
        page="GET / is the dashboard's page, with its policy.",
        files="Its files are small, compressed, known by their content, and asked for anew.",
        login="A key logs a browser in: a cookie that no page reads and no other site sends.",
        code="The link of a development run opens while the run lives, and is no key.",
        cookie_name="__Host-frontdesk with TLS, frontdesk on loopback without, else a refusal.",
        twelve_hours="A login ends after 12 hours and with its key, open streams included.",
        any_node="A login is good on any node.",
        changes="Changes by a login need a same-origin Sec-Fetch-Site and a header.",
        strangers="What other pages ask for by a login is refused.",
        wrong_cookies="A cookie that is wrong in any way is as none at all.",
        guessing="Wrong keys at the login count as anywhere.",
        nowhere="A key that logs in is in no URL, no storage, no log.",
    ),
    *_section(
        "Shutdown",
        drain="On SIGTERM readyz turns 503 while the listener stays open; new work is refused.",
        grace="Turns under way get the grace period.",
        session_end="Streams get session_end{shutdown} and end.",
        exit_code="The server exits with code 0.",
        second_signal="A second signal ends at once.",
        reload="SIGHUP reloads keys and limits.",
        wrong_file="A wrong file leaves the old one in force and says so.",
        mistakes_by_line="A wrong file stops the start with every mistake listed by line.",
        tls="TLS is an option.",
        proxies="Trusted proxies are believed, others are not.",
    ),
)

BY_ID = {requirement.id: requirement for requirement in REQUIREMENTS}


def covers(*ids):
    """Mark a test as the proof of these requirements."""
    for each in ids:
        if each not in BY_ID:
            raise LookupError(f"the contract has no requirement {each!r}")
    return pytest.mark.requirement(*ids)
