-- The end of a node: a hundred of its entries and reservations a script, so that others are
-- answered in between. The lease goes last, so that whoever finds it knows what is left to do.

local BURY_BATCH = 100

-- Go on with the end of a node; returns how many entries ended, and whether nothing is left.
local function bury_batch(node, kind)
  if redis.call('EXISTS', P .. 'lease:' .. node) == 0 then return 0, true end
  local reason = declare_gone(node, kind)
  local ids = redis.call('ZRANGE', P .. 'node:' .. node, 0, BURY_BATCH - 1)
  for _, id in ipairs(ids) do
    end_now(id, at_id(id), reason)
  end
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
