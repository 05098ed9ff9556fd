-- Who may have an id: what `reserve` and `create` decide alike.
--
-- The entry that is asked for is A[2] (its id A[1]), the limits of tenant, key and blueprint A[3]
-- to A[5], false for none.

local id, asked = A[1], A[2]
local SCOPES = {'per_tenant', 'per_api_key', 'per_blueprint'}

-- Give up reservations that ran out: the hundred earliest.
local function unreserve_due()
  if not due or now < due then return end
  local ended = redis.call('ZRANGEBYSCORE', P .. 'reserved', '-inf', decimal(now), 'LIMIT', 0, 100)
  for _, other in ipairs(ended) do unreserve(other, at_id(other)) end
  due, renewed = tonumber(redis.call('ZRANGE', P .. 'reserved', 0, 0, 'WITHSCORES')[2]), true
end

local function is_own(e)
  return e[NODE] == asked[NODE] and e[TOKEN] == asked[TOKEN]
end

local function ran_out(e)
  return e[UNTIL] and now >= tonumber(e[UNTIL])
end

-- In the order in which limits are looked at: of the tenant, the key, the blueprint.
local function limit_reached()
  for place, scope in ipairs(SCOPES) do
    local limit, name, set = A[2 + place], nil, nil
    if limit and place == 1 then name, set = 't:' .. asked[TENANT], 'tenant:' .. asked[TENANT] end
    if limit and place == 2 and asked[KEY] then
      name, set = 'k:' .. asked[KEY], 'key:' .. asked[KEY]
    end
    if limit and place == 3 and asked[BLUEPRINT] then name = blueprint_of(asked) end
    if name then
      local used = tonumber(redis.call('HGET', P .. 'used', name) or 0)
      if set then used = used + redis.call('ZCARD', P .. set) end
      if used >= limit then return answer('limit_reached', scope, limit) end
    end
  end
end

-- Return what is under the id that is asked for: as a rule nothing, which costs little to find out.
local function present()
  if redis.call('EXISTS', P .. 'entry:' .. id) == 0 then return nil, false end
  return at_id(id)
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
