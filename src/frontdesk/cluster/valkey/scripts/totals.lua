#!lua flags=allow-oom
--@ uses: asked, era
-- totals: what was published last of a topic under each name.
--
-- Keys: meta, totals:<topic>.
-- Arguments: the topic.
-- Reply: an array: `totals`, revision; then name and totals of each, in turn.
-- Cost: what it returns.
-- The race: none; it is one moment.

look()
local reply = redis.call('HGETALL', P .. 'totals:' .. A[1])
table.insert(reply, 1, answer('totals'))
return reply
