-- Engine time, eras and revisions: what every script begins and ends with.
--
-- The race: a server that was restarted, promoted or wiped has lost what it acknowledged, and its
-- clients cannot know. Here each call finds that out before it does anything.

local RECOVERY, ASK_AGAIN, FIRST_LEASE, LOG_ENTRIES = 60000000, 1000000, 10000000, 65536
local revision, era, run, time_then, clock_then, lease_length, began, recovered, schema, entries
local now
-- No reservation runs out before: what spares most calls a look at them; false where there is none.
local due
-- What `answer` writes: revision, time and counts (`writes`), all of meta (`renewed`), and more.
local writes, renewed
local changes, tokens, known_tokens = {}, {}, {}

-- Numbers go up to 2^53: `tostring` would round them.
local function decimal(number)
  return string.format('%.0f', number)
end

local function load_meta()
  local m = redis.call('HMGET', META, 'revision', 'era', 'run', 'time', 'clock', 'lease', 'began',
    'recovered', 'schema', 'entries', 'due')
  if not m[1] then return false end
  revision, era, run = tonumber(m[1]), tonumber(m[2]), m[3]
  time_then, clock_then = tonumber(m[4]), tonumber(m[5])
  lease_length, began, recovered = tonumber(m[6]), tonumber(m[7]), m[8] == '1'
  schema, entries, due = tonumber(m[9]), tonumber(m[10]), tonumber(m[11] or '')
  return true
end

-- On by what the server's clock did since the script before: never back, never by more than half a
-- lease, so that a jump of the clock ends nobody's lease.
local function moved_time()
  return time_then + math.min(math.max(clock - clock_then, 0), math.floor(lease_length / 2))
end

local function restart_at(highest)
  era = math.max(clock, highest + 1)
  revision, run, clock_then = era, CALLER[1], clock
  began, recovered = time_then, false
  redis.call('DEL', P .. 'log')
  writes, renewed = true, true
end

-- Begin a new era where one is due; returns engine time.
local function look(known)
  known = math.max(CALLER[2], known or 0)
  if not load_meta() then
    time_then, lease_length, schema, entries, due = 0, FIRST_LEASE, 1, 0, 0
    restart_at(known)
  elseif run ~= CALLER[1] or known > revision then
    time_then = moved_time()
    restart_at(math.max(revision, known))
  end
  now = moved_time()
end

-- How long to wait before asking for an unknown id again; 0 when it is known to be gone. A node
-- that is not gone has told all where `restored` is the present era.
local function recovery_left()
  if recovered then return 0 end
  local left, quiet = began + RECOVERY - now, began + lease_length - now
  if left <= 0 then return 0 end
  if quiet > 0 then return math.min(left, quiet) end
  for _, node in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
    local lease = redis.call('HMGET', P .. 'lease:' .. node, 'gone', 'restored')
    if not lease[1] and tonumber(lease[2]) ~= era then return math.min(left, ASK_AGAIN) end
  end
  return 0
end

-- Begin a verb that writes: the time moves on, and a recovery that is over stays so.
local function begin(known)
  look(known)
  time_then, clock_then, writes = now, clock, true
  if not recovered and recovery_left() == 0 then recovered, renewed = true, true end
end

-- End the script: what has changed is written at once, meta, tokens and log together.
local function answer(what, ...)
  for node, token in pairs(tokens) do
    if token then redis.call('HSET', P .. 'lease:' .. node, 'tokens', token) end
  end
  if renewed then
    redis.call('HSET', META, 'revision', decimal(revision), 'era', decimal(era), 'run', run,
      'lease', decimal(lease_length), 'began', decimal(began), 'schema', decimal(schema),
      'recovered', recovered and '1' or '0', 'entries', decimal(entries),
      'due', due and decimal(due) or '', 'time', decimal(time_then), 'clock', decimal(clock_then))
  elseif #changes > 0 then
    redis.call('HSET', META, 'revision', changes[#changes][2], 'entries', decimal(entries),
      'time', decimal(time_then), 'clock', decimal(clock_then))
  elseif writes then
    redis.call('HSET', META, 'time', decimal(time_then), 'clock', decimal(clock_then))
  end
  if #changes > 0 then
    local last = changes[#changes][2]
    redis.call('XADD', P .. 'log', 'MAXLEN', '~', LOG_ENTRIES, last .. '-0',
      'first', changes[1][2], 'changes', cmsgpack.pack(changes))
  end
  return cmsgpack.pack({what, revision or 0, ...})
end
