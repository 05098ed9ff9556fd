#!lua
--@ uses: asked, era, leases, entries, ownership
-- reserve: hold an id, and a place under the limits, while an agent is started.
--
-- Keys: meta, entry:<id>, reserved, reserved:<incarnation>, used, lease:<incarnation>.
-- Arguments: for each: id, entry, limits of tenant, key and blueprint, how long in microseconds.
-- Reply: `reserved`, revision, and the outcome of each: `reserved`; `lease_lost`,
--   `already_exists` with the entry or false, `owner_suspect` and `recovering` with microseconds,
--   `limit_reached` with scope and limit.
-- Cost: constant, and what ran out, a hundred at most.
-- The race: two who want one id, or the last place: one of them has it, before either has started
--   an agent.

local function reserved(one)
  local id, asked = one[1], one[2]
  if standing_of_asking(asked[NODE]) ~= 'live' then return {LEASE_LOST} end
  local e, is_entry = present(id)
  local deadline = decimal(now + one[6])
  if e and is_own(e, asked) then
    if is_entry then return {'reserved'} end
    if not ran_out(e) then
      if e[UNTIL] then
        redis.call('HSET', P .. 'entry:' .. id, 'until', deadline)
        run_out_at(id, deadline)
      end
      return {'reserved'}
    end
  end
  local refused = make_room(one, e, is_entry)
  if refused then return refused end
  asked[UNTIL] = deadline
  hold(id, asked)
  return {'reserved'}
end

begin()
unreserve_due()
local outcomes = {}
for place, one in ipairs(A) do outcomes[place] = reserved(one) end
return answer('reserved', outcomes)
