#!lua
--@ uses: era, leases, entries, ownership
-- create: enter a session; its fence is the revision at which it is.
--
-- Keys: meta, log, used, entry:<id>, tenant:<t>, key:<k>, node:<incarnation>, lease:<incarnation>,
--   reserved, reserved:<incarnation>; of a dead owner's entry the same.
-- Arguments: id, entry, limits of tenant, key and blueprint.
-- Reply: `created`, revision, fence; else as `reserve`.
-- Cost: constant, and what ran out, a hundred at most.
-- The race: two who create one id; one whose answer was lost, and asks again with its token; one
--   whose lease ran out a moment ago, so that its ids may be given away.

begin()
local lease = lease_of(asked[NODE])
if standing(lease) ~= 'live' then return answer(LEASE_LOST) end
unreserve_due()
local e, is_entry = present()
local own = e and is_own(e)
if own and is_entry then return answer('created', e[FENCE]) end
if own and not ran_out(e) then
  unreserve(id, e)
else
  local refused = make_room(e, is_entry)
  if refused then return refused end
end
enter(id, asked)
return answer('created', asked[FENCE])
