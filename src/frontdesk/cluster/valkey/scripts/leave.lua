#!lua flags=allow-oom
--@ uses: asked, era, leases, entries, burial
-- leave: let a node go; a hundred of its entries end with `shutdown`. Called until it is done.
--
-- Keys, cost, reply: as `bury`.
-- Arguments: incarnation.
-- The race: a node that leaves while it is buried: the reason is that of whoever began.

begin()
return answer('buried', bury_batch(A[1], 'shutdown'))
