-- Leases: one a node, never one a session. Whether a node is alive, suspect or dead.

local LEASE_LOST = 'lease_lost'

-- Return a node's lease: gone, deadline, hold, lease, tokens; nil where it has none.
local function lease_of(node)
  local lease = redis.call('HMGET', P .. 'lease:' .. node,
    'gone', 'deadline', 'hold', 'lease', 'tokens')
  if not lease[2] then return nil end
  known_tokens[node] = lease[5]
  return {
    gone = lease[1], deadline = tonumber(lease[2]), hold = tonumber(lease[3]),
    lease = tonumber(lease[4]), tokens = lease[5]
  }
end

local function standing(lease)
  if not lease or lease.gone or now >= lease.deadline + lease.hold then return 'dead' end
  return now < lease.deadline and 'live' or 'suspect'
end

-- Make a node gone for good, unless it is; return what its entries end with.
local function declare_gone(node, kind)
  local lease = P .. 'lease:' .. node
  if redis.call('EXISTS', lease) == 0 then return kind end
  redis.call('HSETNX', lease, 'gone', kind)
  return redis.call('HGET', lease, 'gone')
end
