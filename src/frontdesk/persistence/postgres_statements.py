"""What a batch writes, as PostgreSQL is told it. Each may be told again with its batch."""

from __future__ import annotations

from frontdesk.persistence.schema import WAITING

OPENED: str = """
INSERT INTO conversation (number, tenant_id, session_id, owner, state, blueprint, model, api_key,
    label, created_at_ms, last_activity_ms, fence, oldest_index, last_index, last_position,
    held_bytes, key_id, options, totals, forked_from)
VALUES (%(number)s, %(tenant_id)s, %(session_id)s, %(owner)s, 'live', %(blueprint)s, %(model)s,
    %(api_key)s, %(label)s, %(at_ms)s, %(at_ms)s, %(fence)s, 1, 0, 0, %(held_bytes)s, %(key_id)s,
    %(options)b, '', %(forked_from)s)
"""

EPOCH: str = """
INSERT INTO epoch (number, fence, first_index) VALUES (%(number)s, %(fence)s, %(first_index)s)
ON CONFLICT DO NOTHING
"""

STATE: str = """
UPDATE conversation SET state = %(state)s, ended = %(ended)b WHERE number = %(number)s
"""

TOTALS: str = "UPDATE conversation SET totals = %(totals)b WHERE number = %(number)s"

CHANGED: str = """
UPDATE conversation SET model = coalesce(%(model)s, model), label = coalesce(%(label)s, label),
    held_bytes = held_bytes + coalesce(octet_length(%(options)b) - octet_length(options), 0),
    options = coalesce(%(options)b, options)
WHERE number = %(number)s
"""

TENANT_ERASED: str = """
DELETE FROM {table} WHERE number IN
    (SELECT number FROM conversation WHERE tenant_id = %(tenant_id)s)
"""

KEY_DOOMED: str = """
WITH gone AS (DELETE FROM tenant_key WHERE tenant_id = %(tenant_id)s RETURNING key_id)
INSERT INTO doomed_key (key_id) SELECT key_id FROM gone
"""

TURN_QUEUED: str = """
WITH added AS (
    INSERT INTO turn (number, position, request_id, state, text, api_key, attachments, first_index,
        last_index, queued_at_ms)
    SELECT %(number)s, coalesce(max(position), 0) + 1, %(request_id)s, 'queued', %(text)b,
        %(api_key)s, %(attachments)b, 0, 0, %(at_ms)s
    FROM turn WHERE number = %(number)s
    ON CONFLICT DO NOTHING
    RETURNING octet_length(text) + octet_length(attachments) AS size)
UPDATE conversation SET held_bytes = held_bytes + (SELECT size FROM added),
    last_activity_ms = greatest(last_activity_ms, %(at_ms)s)
WHERE number = %(number)s AND EXISTS (SELECT FROM added)
"""

TURN_BEGUN: str = """
UPDATE turn SET state = 'running', begun_at_ms = coalesce(begun_at_ms, %(at_ms)s),
    first_index = CASE first_index WHEN 0 THEN %(first_index)s ELSE first_index END,
    kind = NULL, version = NULL, content = NULL
WHERE number = %(number)s AND request_id = %(request_id)s AND state IN ('queued', 'suspended')
"""

TURN_FREED: str = """
UPDATE conversation SET totals = %(totals)b, held_bytes = held_bytes - coalesce(
    (SELECT octet_length(attachments) - 1 FROM turn
        WHERE number = %(number)s AND request_id = %(request_id)s
        AND state IN ('queued', 'running', 'suspended')), 0)
WHERE number = %(number)s
"""

TURN_ENDED: str = """
UPDATE turn SET state = %(state)s, last_index = %(last_index)s, turn_end = %(end)b,
    turn_usage = %(usage)b, ended_at_ms = %(at_ms)s, attachments = '\\x00', kind = NULL,
    version = NULL, content = NULL
WHERE number = %(number)s AND request_id = %(request_id)s
    AND state IN ('queued', 'running', 'suspended')
"""

TURN_COUNTED: str = """
UPDATE turn SET turn_usage = %(usage)b
WHERE number = %(number)s AND request_id = %(request_id)s
    AND state IN ('queued', 'running', 'suspended')
"""

TURN_SUSPENDED: str = """
UPDATE turn SET state = 'suspended', kind = %(kind)s, version = %(version)s, content = %(content)b
WHERE number = %(number)s AND request_id = %(request_id)s
    AND state IN ('queued', 'running', 'suspended')
"""

ASKED: str = """
INSERT INTO pending (number, reference, place, request_id, kind, event)
SELECT %(number)s, %(reference)s, coalesce(max(place), 0) + 1, %(request_id)s, %(kind)s, %(event)b
FROM pending WHERE number = %(number)s
ON CONFLICT DO NOTHING
"""

ANSWERED: str = """
UPDATE pending SET answer = %(answer)b
WHERE number = %(number)s AND reference = %(reference)s
"""

UNASKED: str = "DELETE FROM pending WHERE number = %(number)s AND reference = %(reference)s"

PENDING_ENDED: str = "DELETE FROM pending WHERE number = %(number)s AND request_id = %(request_id)s"

MESSAGE: str = """
INSERT INTO message (number, position, content) VALUES (%(number)s, %(position)s, %(message)b)
ON CONFLICT DO NOTHING
"""

_MEMORY_GONE = """
WITH gone AS (
    DELETE FROM memory WHERE number = %(number)s AND {rows} AND NOT EXISTS (
        SELECT FROM checkpoint WHERE checkpoint.number = memory.number
        AND checkpoint.position >= memory.position AND checkpoint.position < {until})
    RETURNING octet_length(content) AS size)
UPDATE conversation
SET held_bytes = held_bytes - coalesce((SELECT sum(size) FROM gone), 0)::bigint
WHERE number = %(number)s
"""

_REPLACED = """kind = %(kind)s AND NOT EXISTS (SELECT FROM memory said
    WHERE said.number = %(number)s AND said.digest = %(digest)b AND said.until IS NOT NULL)"""
"""What a memory replaces: nothing, where it is replaced itself, as it was said before."""

REPLACED: tuple[str, str] = (
    _MEMORY_GONE.format(rows=_REPLACED, until="least(until, %(position)s)"),
    f"""
UPDATE memory SET until = %(position)s
WHERE number = %(number)s AND {_REPLACED} AND (until IS NULL OR until > %(position)s)
""",
)

MEMORY_FREED: str = _MEMORY_GONE.format(rows="until IS NOT NULL", until="until")

REMEMBERED: str = """
WITH added AS (
    INSERT INTO memory (number, place, position, request_id, kind, version, content, replaces,
        digest)
    SELECT %(number)s, coalesce(max(place), 0) + 1, %(position)s, %(request_id)s, %(kind)s,
        %(version)s, %(content)b, %(replaces)s, %(digest)b
    FROM memory WHERE number = %(number)s
    HAVING NOT coalesce(bool_or(digest = %(digest)b), false)
    RETURNING octet_length(content) AS size)
UPDATE conversation SET held_bytes = held_bytes + (SELECT sum(size) FROM added)
WHERE number = %(number)s AND EXISTS (SELECT FROM added)
"""

CHECKPOINT: str = """
INSERT INTO checkpoint (number, name, request_id, position, at_ms)
VALUES (%(number)s, %(name)s, %(request_id)s, %(position)s, %(at_ms)s)
ON CONFLICT (number, name) DO UPDATE SET request_id = excluded.request_id,
    position = excluded.position, at_ms = excluded.at_ms
"""

CHECKPOINT_REMOVED: str = "DELETE FROM checkpoint WHERE number = %(number)s AND name = %(name)s"

ANSWER_STORED: str = """
INSERT INTO idempotency (slot, number, digest, answer, until_ms)
VALUES (%(slot)s, %(number)s, %(digest)b, %(answer)b, %(until_ms)s)
ON CONFLICT (slot) DO UPDATE SET number = excluded.number, digest = excluded.digest,
    answer = excluded.answer, until_ms = excluded.until_ms
"""

JOURNAL: str = """
INSERT INTO journal (number, fence, first_index, last_index, held_bytes, frames)
SELECT * FROM unnest(%(numbers)b::bigint[], %(fences)b::bigint[], %(firsts)b::bigint[],
    %(lasts)b::bigint[], %(sizes)b::bigint[], %(frames)b::bytea[])
"""

JOURNAL_DROPPED: str = "DELETE FROM journal WHERE number = %(number)s AND last_index < %(before)s"

DROPPED: str = """
WITH gone AS (
    DELETE FROM segment WHERE number = %(number)s AND last_index < %(before)s
    RETURNING held_bytes AS size)
UPDATE conversation SET
    oldest_index = greatest(oldest_index, least(%(before)s, %(last_index)s + 1)),
    held_bytes = greatest(0, held_bytes - coalesce((SELECT sum(size) FROM gone), 0))
WHERE number = %(number)s
"""

SEGMENT: str = """
INSERT INTO segment (number, fence, first_index, last_index, held_bytes, frames)
VALUES (%(number)s, %(fence)s, %(first_index)s, %(last_index)s, %(size)s, %(frames)b)
ON CONFLICT DO NOTHING
"""

GROWN: str = """
UPDATE conversation SET held_bytes = held_bytes + %(held_bytes)s,
    last_index = greatest(last_index, %(last_index)s),
    last_position = greatest(last_position, %(last_position)s),
    last_activity_ms = greatest(last_activity_ms, %(last_activity_ms)s)
WHERE number = %(number)s
"""

REGISTER: str = """
INSERT INTO node (incarnation, sequence, at_ms)
VALUES (%(node)s, 0, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ON CONFLICT (incarnation) DO UPDATE SET sequence = node.sequence + 1, at_ms = excluded.at_ms
RETURNING sequence
"""

RELEASE: str = "DELETE FROM node WHERE incarnation = %s"

RAISE: str = """
UPDATE node
SET sequence = sequence + 1, at_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE incarnation = %s RETURNING sequence
"""

SEQUENCE: str = "SELECT sequence FROM node WHERE incarnation = %s FOR UPDATE"

LOCK_OWNERS: str = """
SELECT FROM node WHERE incarnation = %s
    OR incarnation IN (SELECT owner FROM conversation WHERE tenant_id = ANY(%s))
ORDER BY incarnation FOR UPDATE
"""

ROWS: str = """
SELECT number, owner, tenant_id, key_id, last_position FROM conversation WHERE number = ANY(%s)
"""

LOG_ENDS: str = """
SELECT c.number, greatest(c.last_index, max(j.last_index)),
    coalesce(sum(j.held_bytes), 0)::bigint
FROM conversation c LEFT JOIN journal j ON j.number = c.number
WHERE c.number = ANY(%s) GROUP BY c.number
"""

JOURNAL_ROWS: str = """
SELECT number, fence, first_index, last_index, frames FROM journal WHERE number = ANY(%s)
ORDER BY number, first_index
"""

TENANT_KEYS: str = """
SELECT tenant_id, key_id FROM tenant_key WHERE tenant_id = ANY(%s) FOR KEY SHARE
"""

NEW_KEY: str = """
INSERT INTO tenant_key (tenant_id, key_id) VALUES (%s, %s)
ON CONFLICT (tenant_id) DO UPDATE SET key_id =
    CASE tenant_key.key_id WHEN %s THEN excluded.key_id ELSE tenant_key.key_id END
RETURNING key_id
"""

OTHERS: str = """
SELECT incarnation, (extract(epoch FROM clock_timestamp()) * 1000)::bigint - at_ms
FROM node WHERE incarnation <> %s
"""

# OFFSET 0: from the few that wait to their rows, and not through all conversations.
WAITING_ELSEWHERE: str = f"""
SELECT w.number, c.tenant_id, c.session_id
FROM (SELECT DISTINCT number FROM turn WHERE number > %(after)s AND {WAITING}) w,
    LATERAL (SELECT * FROM conversation WHERE number = w.number OFFSET 0) c
WHERE c.owner <> %(node)s AND c.owner <> ALL(%(held)s)
ORDER BY w.number LIMIT %(limit)s
"""

OWNERS: str = """
SELECT c.owner, (extract(epoch FROM clock_timestamp()) * 1000)::bigint - n.at_ms
FROM (SELECT DISTINCT owner FROM conversation WHERE owner <> %(node)s
    AND (%(number)s::bigint IS NULL OR number = %(number)s)) c
LEFT JOIN node n ON n.incarnation = c.owner
"""

LOCK_NODES: str = """
SELECT FROM node WHERE incarnation = ANY(%s) ORDER BY incarnation FOR UPDATE
"""

CLAIM: str = """
UPDATE conversation SET owner = %(node)s WHERE number IN (
    SELECT number FROM conversation WHERE owner = ANY(%(owners)s) AND number > %(after)s
        AND (%(number)s::bigint IS NULL OR number = %(number)s)
    ORDER BY number LIMIT %(limit)s)
RETURNING number, state
"""

STILL_OWNED: str = """
SELECT number FROM conversation WHERE number = ANY(%s) AND owner = %s AND state <> 'ended'
"""

END_BACKENDS: str = """
SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
WHERE application_name = ANY(%(names)s) AND datname = current_database()
    AND pid <> pg_backend_pid() AND (%(pid)s::int IS NULL OR pid = %(pid)s)
"""

TURN_RESUMED: str = """
UPDATE turn SET state = 'running', kind = NULL, version = NULL, content = NULL
WHERE number = %(number)s AND request_id = %(request_id)s AND state = 'suspended'
"""

ANSWERS_EXPIRED: str = """
DELETE FROM idempotency WHERE slot IN (SELECT slot FROM idempotency WHERE until_ms <= %s
    ORDER BY until_ms LIMIT 1000 FOR UPDATE SKIP LOCKED)
"""

KEY_ADDED: str = """
INSERT INTO wrapped_key (key_id, wrapped) VALUES (%(key_id)s, %(wrapped)b) ON CONFLICT DO NOTHING
"""

KEY: str = "SELECT wrapped FROM wrapped_key WHERE key_id = %s"

KEY_REMOVED: str = "DELETE FROM wrapped_key WHERE key_id = %s"
