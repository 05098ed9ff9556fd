#!lua
--@ uses: asked, plain, era, leases, entries, ownership
-- create: enter a session; its fence is the revision at which it is.
--
-- Keys: meta, log, used, entry:<id>, tenant:<t>, key:<k>, node:<incarnation>, lease:<incarnation>,
--   reserved, reserved:<incarnation>; of a dead owner's entry the same.
-- Arguments: for each: id, entry, limits of tenant, key and blueprint.
-- Reply: `created`, revision, and the outcome of each: `created` with the fence; else as `reserve`.
-- Cost: constant, and what ran out, a hundred at most.
-- The race: two who create one id; one whose answer was lost, and asks again with its token; one
--   whose lease ran out a moment ago, so that its ids may be given away.

local function created(one)
  local id, asked = one[1], one[2]
  if standing_of_asking(asked[NODE]) ~= 'live' then return {LEASE_LOST} end
  local e, is_entry = present(id)
  local own = e and is_own(e, asked)
  if own and is_entry then return {'created', e[FENCE]} end
  if own and not ran_out(e) then
    unreserve(id, e)
  else
    local refused = make_room(one, e, is_entry)
    if refused then return refused end
  end
  enter(id, asked)
  return {'created', asked[FENCE]}
end

begin()
unreserve_due()
local outcomes = {}
for place, one in ipairs(A) do outcomes[place] = created(one) end
return answer('created', outcomes)
