-- Who may have an id: what `reserve` and `create` decide alike.
--
-- The entry that is asked for is A[2] (its id A[1]), the limits of tenant, key and blueprint A[3]
-- to A[5], false for none.

local id, asked = A[1], A[2]
local SCOPES = {'per_tenant', 'per_api_key', 'per_blueprint'}

-- Give up reservations that ran out: the hundred earliest.
local function unreserve_due()
  local due = redis.call('ZRANGEBYSCORE', P .. 'reserved', '-inf', decimal(now), 'LIMIT', 0, 100)
  for _, other in ipairs(due) do unreserve(other, at_id(other)) end
end

local function is_own(e)
  return e[NODE] == asked[NODE] and e[TOKEN] == asked[TOKEN]
end

local function ran_out(e)
  return e[UNTIL] and now >= tonumber(e[UNTIL])
end

local function limit_reached()
  local counted = counters(asked)
  for place, scope in ipairs(SCOPES) do
    local counter, limit = counted[place], A[2 + place]
    if counter and limit then
      local used = tonumber(redis.call('HGET', P .. 'used', counter) or 0)
      if used >= limit then return answer('limit_reached', scope, limit) end
    end
  end
end

-- Free the id where its owner is dead; returns the answer where it may not be had.
local function make_room(e, is_entry)
  local owned = e and (is_entry or not ran_out(e))
  if owned then
    local lease = lease_of(e[NODE])
    local owner = standing(lease)
    if owner == 'live' then return answer('already_exists', is_entry and e) end
    if owner == 'suspect' then return answer('owner_suspect', lease.deadline + lease.hold - now) end
  end
  if asked[MINTED] == '0' then
    local wait = recovery_left()
    if wait > 0 then return answer('recovering', wait) end
  end
  if owned then
    local reason = declare_gone(e[NODE], 'lost')
    if is_entry then end_now(id, e, reason) end
  end
  if e and not is_entry then unreserve(id, e) end
  return limit_reached()
end
