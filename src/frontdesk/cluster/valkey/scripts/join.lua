#!lua
--@ uses: asked, era, leases
-- join: take in a node, with a fresh lease.
--
-- Keys: meta, leases, lease:<incarnation>.
-- Arguments: incarnation, name, address, schema, version, config digest; lease and hold in
--   microseconds; the era that it was in before, or nil.
-- Reply: `joined`, revision, era, recovery left in microseconds; `lease_lost`; `schema_refused`
--   with the schema found.
-- Cost: constant, and while the index is rebuilt the number of nodes.
-- The race: two runs under one incarnation, and a node that comes back after it was buried: dead is
--   final, so the second is refused.

local node, before_era = A[1], A[9]
begin(before_era)
if redis.call('ZCARD', P .. 'leases') == 0 then schema, renewed = A[4], true end
if schema ~= A[4] and schema ~= A[4] - 1 then return answer('schema_refused', schema) end
local before = lease_of(node)
if before and (before.gone or not before_era) then return answer(LEASE_LOST) end
if before_era and before_era >= era then return answer(LEASE_LOST) end
lease_length, renewed = A[7], true
local deadline = decimal(now + lease_length)
-- A question that comes twice, the second time late, does not take back what was told since.
local restored = before_era and '0' or decimal(era)
if before then restored = redis.call('HGET', P .. 'lease:' .. node, 'restored') end
redis.call('HSET', P .. 'lease:' .. node, 'name', A[2], 'address', A[3], 'schema', decimal(A[4]),
  'version', A[5], 'digest', A[6], 'lease', decimal(A[7]), 'hold', decimal(A[8]),
  'deadline', deadline, 'restored', restored, 'stalled', '0',
  'draining', '0', 'tokens', before and before.tokens or '0000000000000000')
redis.call('ZADD', P .. 'leases', deadline, node)
return answer('joined', decimal(era), recovery_left())
