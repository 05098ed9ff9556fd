#!lua
--@ uses: era, leases, entries, ownership
-- reserve: hold an id, and a place under the limits, while an agent is started.
--
-- Keys: meta, entry:<id>, reserved, reserved:<incarnation>, used, lease:<incarnation>.
-- Arguments: id, entry, limits of tenant, key and blueprint, for how long in microseconds.
-- Reply: `reserved`, revision; `lease_lost`, `already_exists` with the entry or false,
--   `owner_suspect` and `recovering` with microseconds, `limit_reached` with scope and limit.
-- Cost: constant, and what ran out, a hundred at most.
-- The race: two who want one id, or the last place: one of them has it, before either has started
--   an agent.

begin()
if standing(lease_of(asked[NODE])) ~= 'live' then return answer(LEASE_LOST) end
unreserve_due()
local e, is_entry = present()
local deadline = decimal(now + A[6])
if e and is_own(e) then
  if is_entry then return answer('reserved') end
  if not ran_out(e) then
    if e[UNTIL] then
      redis.call('HSET', P .. 'entry:' .. id, 'until', deadline)
      run_out_at(id, deadline)
    end
    return answer('reserved')
  end
end
local refused = make_room(e, is_entry)
if refused then return refused end
asked[UNTIL] = deadline
hold(id, asked)
return answer('reserved')
