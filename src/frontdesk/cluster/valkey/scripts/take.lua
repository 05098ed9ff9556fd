#!lua
--@ uses: asked, era
-- take: count one in a moving window, if it is within the limit.
--
-- Keys: meta, rate:<counted>, rates.
-- Arguments: what is counted, limit, window in microseconds.
-- Reply: `taken`, revision, whether it was within, how many more are, microseconds until the oldest
--   counts no more.
-- Cost: what has left the window since the last time.
-- The race: the last one within the limit, asked for on two nodes.

begin()
-- Two that nobody asks for any more go with each call, which adds one at most.
local unused = redis.call('ZRANGEBYSCORE', P .. 'rates', '-inf', decimal(now), 'LIMIT', 0, 2)
for _, idle in ipairs(unused) do
  redis.call('DEL', P .. 'rate:' .. idle)
  redis.call('ZREM', P .. 'rates', idle)
end
local counted, limit, window = P .. 'rate:' .. A[1], A[2], A[3]
redis.call('ZREMRANGEBYSCORE', counted, '-inf', decimal(now - window))
local taken = redis.call('ZCARD', counted)
local allowed = taken < limit
if allowed then
  -- Of one microsecond there may be several: each is another member.
  local same = redis.call('ZCOUNT', counted, decimal(now), decimal(now))
  redis.call('ZADD', counted, decimal(now), decimal(now) .. '-' .. same)
  taken = taken + 1
end
local ends = redis.call('ZRANGE', counted, -1, -1, 'WITHSCORES')
redis.call('ZADD', P .. 'rates', decimal(tonumber(ends[2]) + window), A[1])
local oldest = redis.call('ZRANGE', counted, 0, 0, 'WITHSCORES')
return answer('taken', allowed, math.max(limit - taken, 0), tonumber(oldest[2]) + window - now)
