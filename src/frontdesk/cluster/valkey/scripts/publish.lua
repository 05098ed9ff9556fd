#!lua
--@ uses: era
-- publish: put a node's absolute totals of a topic in place of its last ones.
--
-- Keys: meta, totals:<topic>.
-- Arguments: the topic, the node's name. ARGV[2]: its totals, bytes of its own; none are kept where
--   they are empty.
-- Reply: `published`, revision.
-- Cost: constant.
-- The race: none: they are absolute, and each node's own.

begin()
local topic = P .. 'totals:' .. A[3]
if ARGV[2] == '' then redis.call('HDEL', topic, A[4]) else redis.call('HSET', topic, A[4], ARGV[2]) end
return answer('published')
