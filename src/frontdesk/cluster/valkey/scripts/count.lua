#!lua flags=allow-oom
--@ uses: asked, era
-- count: how many entries there are.
--
-- Keys: meta, and tenant:<t>, key:<k> or node:<incarnation>.
-- Arguments: the end of the set's key (`tenant:…`), or false for everything.
-- Reply: `count`, revision, the number.
-- Cost: constant.
-- The race: none; reservations are in no set.

look()
return answer('count', A[1] and redis.call('ZCARD', P .. A[1]) or entries)
