#!lua flags=allow-oom
--@ uses: asked, era, leases, entries, burial
-- bury: end a hundred of a dead node's entries with `lost`; its lease goes with the last.
--
-- Keys: meta, leases, log, used, and those of the node and its entries.
-- Arguments: incarnation; proven, true or false.
-- Reply: `buried`, revision, how many ended, whether nothing is left.
-- Cost: about a hundred entries, a millisecond.
-- The race: two who bury at once, and a node that renews while it is buried. Whoever begins makes
--   it gone, for good; the next goes on where the last one stopped.

local node = A[1]
begin()
local lease = lease_of(node)
if lease and not A[2] and standing(lease) ~= 'dead' then return answer('buried', 0, false) end
return answer('buried', bury_batch(node, 'lost'))
