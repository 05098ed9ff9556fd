#!lua
--@ uses: asked, era
-- publish: put a node's absolute totals of a topic in place of its last ones.
--
-- Keys: meta, totals:<topic>.
-- Arguments: the topic, the node's name. ARGV[3]: its totals, bytes of its own; none are kept where
--   they are empty.
-- Reply: `published`, revision.
-- Cost: constant.
-- The race: none: they are absolute, and each node's own.

begin()
local topic = P .. 'totals:' .. A[1]
if ARGV[3] == '' then redis.call('HDEL', topic, A[2]) else redis.call('HSET', topic, A[2], ARGV[3]) end
return answer('published')
