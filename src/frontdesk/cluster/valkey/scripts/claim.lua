#!lua
--@ uses: asked, era, leases
-- claim: claim the answer to a request that may come more than once.
--
-- Keys: meta, claim:<slot>, claims, lease:<incarnation>.
-- Arguments: incarnation, slot, digest, for how long in microseconds.
-- Reply: `claimed`, revision, incarnation and digest of who has it; `lease_lost`.
-- Cost: constant.
-- The race: one request that came to two nodes at once.

begin()
local node, slot = A[1], P .. 'claim:' .. A[2]
if standing(lease_of(node)) ~= 'live' then return answer(LEASE_LOST) end
-- Two that ran out go with each call, which adds one at most.
local ended = redis.call('ZRANGEBYSCORE', P .. 'claims', '-inf', decimal(now), 'LIMIT', 0, 2)
for _, over in ipairs(ended) do
  redis.call('DEL', P .. 'claim:' .. over)
  redis.call('ZREM', P .. 'claims', over)
end
local there = redis.call('HMGET', slot, 'node', 'digest', 'until')
if there[1] and tonumber(there[3]) > now and standing(lease_of(there[1])) ~= 'dead' then
  return answer('claimed', there[1], there[2])
end
local deadline = decimal(now + A[4])
redis.call('HSET', slot, 'node', node, 'digest', A[3], 'until', deadline)
redis.call('ZADD', P .. 'claims', deadline, A[2])
return answer('claimed', node, A[3])
