-- Entries and reservations, with their indexes, counters and the log, which never part.
--
-- An entry is an array in the order of FIELDS; false stands for what it has not. A reservation is
-- one without a fence.

local FIELDS = {
  'node', 'token', 'fence', 'version', 'tenant', 'key', 'created', 'blueprint', 'model', 'pid',
  'minted', 'until'
}
local NODE, TOKEN, FENCE, VERSION, TENANT, KEY, CREATED, BLUEPRINT, MODEL, PID, MINTED, UNTIL =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- Return what is under an id, and whether it is an entry; nil where there is nothing.
local function at_id(id)
  local e = redis.call('HMGET', P .. 'entry:' .. id, unpack(FIELDS))
  if not e[NODE] then return nil, false end
  return e, e[FENCE] ~= false
end

local function put(id, e)
  local words = {}
  for place = 1, UNTIL do
    if e[place] then
      words[#words + 1] = FIELDS[place]
      words[#words + 1] = e[place]
    end
  end
  redis.call('HSET', P .. 'entry:' .. id, unpack(words))
end

local function blueprint_of(e)
  return 'b:' .. #e[TENANT] .. ':' .. e[TENANT] .. e[BLUEPRINT]
end

local function count(counter, one)
  if redis.call('HINCRBY', P .. 'used', counter, one) == 0 then
    redis.call('HDEL', P .. 'used', counter)
  end
end

-- Entries of a tenant or a key are as many as are in its set; of a blueprint there is none.
local function count_entry(e, one)
  if e[BLUEPRINT] then count(blueprint_of(e), one) end
end

local function count_reservation(e, one)
  count('t:' .. e[TENANT], one)
  if e[KEY] then count('k:' .. e[KEY], one) end
  count_entry(e, one)
end

local function halves(token)
  return tonumber(string.sub(token, 1, 8), 16), tonumber(string.sub(token, 9), 16)
end

-- All tokens of a node's entries, exclusive-ored: what a renewal is compared with.
local function toggle_token(e)
  local all = tokens[e[NODE]]
  if all == nil then all = known_tokens[e[NODE]] end
  if all == nil then all = redis.call('HGET', P .. 'lease:' .. e[NODE], 'tokens') end
  if all then
    local high, low = halves(all)
    local other_high, other_low = halves(e[TOKEN])
    all = bit.tohex(bit.bxor(high, other_high)) .. bit.tohex(bit.bxor(low, other_low))
  end
  tokens[e[NODE]] = all
end

local function log(kind, number, id, e, ...)
  changes[#changes + 1] = {
    kind, number, id, e[PID], e[KEY], e[TENANT], e[CREATED], e[BLUEPRINT], e[MODEL],
    e[FENCE], e[NODE], e[TOKEN], ...
  }
end

-- Enter a session under the next revision, which is its fence unless it has one.
local function enter(id, e)
  revision, entries = revision + 1, entries + 1
  local number = decimal(revision)
  e[FENCE] = e[FENCE] or number
  e[VERSION], e[UNTIL] = number, false
  put(id, e)
  redis.call('ZADD', P .. 'tenant:' .. e[TENANT], e[FENCE], id)
  redis.call('ZADD', P .. 'node:' .. e[NODE], e[FENCE], id)
  if e[KEY] then redis.call('ZADD', P .. 'key:' .. e[KEY], e[FENCE], id) end
  count_entry(e, 1)
  toggle_token(e)
  log('created', number, id, e)
end

-- Replace blueprint and model under the next revision; false is none.
local function change(id, e, blueprint, model)
  revision = revision + 1
  local number = decimal(revision)
  count_entry(e, -1)
  e[BLUEPRINT], e[MODEL], e[VERSION] = blueprint, model, number
  count_entry(e, 1)
  redis.call('HDEL', P .. 'entry:' .. id, 'blueprint', 'model')
  put(id, e)
  log('updated', number, id, e)
end

-- End an entry under the next revision. The reason is JSON, as it is told to nodes; `node_gone` is
-- given where all that its node has ends.
local function end_entry(id, e, reason, ended_at, node_gone)
  revision, entries = revision + 1, entries - 1
  redis.call('DEL', P .. 'entry:' .. id)
  redis.call('ZREM', P .. 'tenant:' .. e[TENANT], id)
  redis.call('ZREM', P .. 'node:' .. e[NODE], id)
  if e[KEY] then redis.call('ZREM', P .. 'key:' .. e[KEY], id) end
  count_entry(e, -1)
  toggle_token(e)
  log('ended', decimal(revision), id, e, reason, ended_at, node_gone)
end

-- End an entry for a reason without further facts, at the server's clock.
local function end_now(id, e, kind, node_gone)
  end_entry(id, e, '{"kind":"' .. kind .. '"}', decimal(math.floor(clock / 1000)), node_gone)
end

-- Have a reservation run out, at a decimal time.
local function run_out_at(id, deadline)
  redis.call('ZADD', P .. 'reserved', deadline, id)
  local at = tonumber(deadline)
  if not due or at < due then due, renewed = at, true end
end

local function hold(id, e)
  e[FENCE], e[VERSION] = false, false
  put(id, e)
  redis.call('ZADD', P .. 'reserved:' .. e[NODE], 0, id)
  if e[UNTIL] then run_out_at(id, e[UNTIL]) end
  count_reservation(e, 1)
end

local function unreserve(id, e)
  redis.call('DEL', P .. 'entry:' .. id)
  redis.call('ZREM', P .. 'reserved:' .. e[NODE], id)
  if e[UNTIL] then redis.call('ZREM', P .. 'reserved', id) end
  count_reservation(e, -1)
end
