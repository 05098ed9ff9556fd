#!lua flags=allow-oom
--@ uses: asked, era, leases
-- renew: renew a node's lease, and compare what it says that it has.
--
-- Keys: meta, leases, lease:<incarnation>, node:<incarnation>.
-- Arguments: incarnation; count and exclusive-or (hex) of the tokens of its entries; the greater
--   age of loop and listener in microseconds; draining, '1' or '0'.
-- Reply: `renewed`, revision, era, whether count and tokens are the same here; `lease_lost`.
-- Cost: constant.
-- The race: a node that lives on while others believe it dead. It is refused once somebody has
--   begun to bury it, however late it comes, and renewed before.

local node = A[1]
begin()
local lease = lease_of(node)
if not lease or lease.gone then return answer(LEASE_LOST) end
local deadline = decimal(now + lease.lease)
redis.call('HSET', P .. 'lease:' .. node, 'deadline', deadline,
  'stalled', A[4] >= lease.lease and '1' or '0', 'draining', A[5])
redis.call('ZADD', P .. 'leases', deadline, node)
local matches = redis.call('ZCARD', P .. 'node:' .. node) == A[2] and lease.tokens == A[3]
return answer('renewed', decimal(era), matches)
