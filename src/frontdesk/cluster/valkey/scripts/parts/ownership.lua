-- Who may have an id: what `reserve` and `create` decide alike.
--
-- Both take several, each an array: id, entry, and the limits of tenant, key and blueprint, false
-- for none. They are looked at in turn, as if each came alone, and each has its outcome in the
-- answer: what came of it, and the rest. What one tick of a caller's loop asks is one script then,
-- and one entry of the log.

local SCOPES = {'per_tenant', 'per_api_key', 'per_blueprint'}
local standings = {}

-- Return what the lease of a node says that asks. It is the same for all that it asks here.
local function standing_of_asking(node)
  if not standings[node] then standings[node] = standing(lease_of(node)) end
  return standings[node]
end

-- Give up reservations that ran out: the hundred earliest.
local function unreserve_due()
  if not due or now < due then return end
  local ended = redis.call('ZRANGEBYSCORE', P .. 'reserved', '-inf', decimal(now), 'LIMIT', 0, 100)
  for _, other in ipairs(ended) do unreserve(other, at_id(other)) end
  due, renewed = tonumber(redis.call('ZRANGE', P .. 'reserved', 0, 0, 'WITHSCORES')[2]), true
end

-- Return what is under an id that is asked for: as a rule nothing, which costs little to find out.
local function present(id)
  if redis.call('EXISTS', P .. 'entry:' .. id) == 0 then return nil, false end
  return at_id(id)
end

local function is_own(e, asked)
  return e[NODE] == asked[NODE] and e[TOKEN] == asked[TOKEN]
end

local function ran_out(e)
  return e[UNTIL] and now >= tonumber(e[UNTIL])
end

-- In the order in which limits are looked at: of the tenant, the key, the blueprint.
local function limit_reached(one)
  local asked = one[2]
  for place, scope in ipairs(SCOPES) do
    local limit, name, set = one[2 + place], nil, nil
    if limit and place == 1 then name, set = 't:' .. asked[TENANT], 'tenant:' .. asked[TENANT] end
    if limit and place == 2 and asked[KEY] then
      name, set = 'k:' .. asked[KEY], 'key:' .. asked[KEY]
    end
    if limit and place == 3 and asked[BLUEPRINT] then name = blueprint_of(asked) end
    if name then
      local used = tonumber(redis.call('HGET', P .. 'used', name) or 0)
      if set then used = used + redis.call('ZCARD', P .. set) end
      if used >= limit then return {'limit_reached', scope, limit} end
    end
  end
end

-- Free the id where its owner is dead; returns the outcome where it may not be had.
local function make_room(one, e, is_entry)
  local id, asked = one[1], one[2]
  local owned = e and (is_entry or not ran_out(e))
  if owned then
    local lease = lease_of(e[NODE])
    local owner = standing(lease)
    if owner == 'live' then return {'already_exists', is_entry and e} end
    if owner == 'suspect' then return {'owner_suspect', lease.deadline + lease.hold - now} end
  end
  if asked[MINTED] == '0' then
    local wait = recovery_left()
    if wait > 0 then return {'recovering', wait} end
  end
  if owned then
    local reason = declare_gone(e[NODE], 'lost')
    if is_entry then end_now(id, e, reason, true) end
  end
  if e and not is_entry then unreserve(id, e) end
  return limit_reached(one)
end
