-- The end of a node: a hundred of its entries and reservations a script, so that others are
-- answered in between. The lease goes last, so that whoever finds it knows what is left to do.

local BURY_BATCH = 100

-- End a node's entries together, as `end_now` does each, with few calls: a set is asked once.
local function end_together(node, ids, kind)
  local reason, at = '{"kind":"' .. kind .. '"}', decimal(math.floor(clock / 1000))
  local names, members, blueprints = {}, {[P .. 'node:' .. node] = ids}, {}
  local all_high, all_low = 0, 0
  local function leaves(set, id)
    members[set] = members[set] or {}
    table.insert(members[set], id)
  end
  for place, id in ipairs(ids) do
    local e = at_id(id)
    revision, entries, names[place] = revision + 1, entries - 1, P .. 'entry:' .. id
    leaves(P .. 'tenant:' .. e[TENANT], id)
    if e[KEY] then leaves(P .. 'key:' .. e[KEY], id) end
    if e[BLUEPRINT] then
      local counter = blueprint_of(e)
      blueprints[counter] = (blueprints[counter] or 0) + 1
    end
    local high, low = halves(e[TOKEN])
    all_high, all_low = bit.bxor(all_high, high), bit.bxor(all_low, low)
    log('ended', decimal(revision), id, e, reason, at, true)
  end
  if #ids > 0 then redis.call('DEL', unpack(names)) end
  for set, left in pairs(members) do
    if #left > 0 then redis.call('ZREM', set, unpack(left)) end
  end
  for counter, number in pairs(blueprints) do count(counter, -number) end
  toggle_token({[NODE] = node, [TOKEN] = bit.tohex(all_high) .. bit.tohex(all_low)})
end

-- Go on with the end of a node; returns how many entries ended, and whether nothing is left.
local function bury_batch(node, kind)
  if redis.call('EXISTS', P .. 'lease:' .. node) == 0 then return 0, true end
  local reason = declare_gone(node, kind)
  local ids = redis.call('ZRANGE', P .. 'node:' .. node, 0, BURY_BATCH - 1)
  end_together(node, ids, reason)
  if #ids < BURY_BATCH then
    for _, id in ipairs(redis.call('ZRANGE', P .. 'reserved:' .. node, 0, BURY_BATCH - 1 - #ids)) do
      unreserve(id, at_id(id))
    end
  end
  local left = redis.call('EXISTS', P .. 'node:' .. node, P .. 'reserved:' .. node)
  if left > 0 then return #ids, false end
  redis.call('DEL', P .. 'lease:' .. node)
  redis.call('ZREM', P .. 'leases', node)
  tokens[node] = false
  return #ids, true
end
