-- The plain create, which nearly every one is: of one session without limits, of a node whose lease
-- is valid, under a free id, in an era that has recovered (or surely has not, where the id is minted). It is
-- done here in one straight line, for to define what the other parts do costs as much as to do it.
-- It does what `enter` and `answer` do; whatever else may be is left to them, and nothing is done
-- before.

local function plain(one)
  local id, e = one[1], one[2]
  if one[3] or one[4] or one[5] then return end
  local m = redis.call('HMGET', META, 'revision', 'run', 'time', 'clock', 'lease', 'recovered',
    'entries', 'due', 'began')
  if m[2] ~= CALLER[1] or CALLER[2] > tonumber(m[1]) then return end
  local moved = math.min(math.max(clock - m[4], 0), math.floor(m[5] / 2))
  local now, due, lease = m[3] + moved, tonumber(m[8] or ''), P .. 'lease:' .. e[1]
  if m[6] ~= '1' and (e[11] == '0' or now >= m[9] + math.min(m[5], 60000000)) then return end
  local said = redis.call('HMGET', lease, 'gone', 'deadline', 'tokens')
  if said[1] or not said[2] or not said[3] or now >= tonumber(said[2]) then return end
  if due and now >= due or redis.call('EXISTS', P .. 'entry:' .. id) == 1 then return end

  local revision = m[1] + 1
  local number = string.format('%.0f', revision)
  local words = {
    'node', e[1], 'token', e[2], 'fence', number, 'version', number, 'tenant', e[5],
    'created', e[7], 'pid', e[10], 'minted', e[11]
  }
  redis.call('ZADD', P .. 'tenant:' .. e[5], number, id)
  redis.call('ZADD', P .. 'node:' .. e[1], number, id)
  if e[6] then
    words[17], words[18] = 'key', e[6]
    redis.call('ZADD', P .. 'key:' .. e[6], number, id)
  end
  if e[8] then
    words[#words + 1], words[#words + 2] = 'blueprint', e[8]
    redis.call('HINCRBY', P .. 'used', 'b:' .. #e[5] .. ':' .. e[5] .. e[8], 1)
  end
  if e[9] then words[#words + 1], words[#words + 2] = 'model', e[9] end
  redis.call('HSET', P .. 'entry:' .. id, unpack(words))
  local all, token = said[3], e[2]
  redis.call('HSET', lease, 'tokens',
    bit.tohex(bit.bxor(tonumber(all:sub(1, 8), 16), tonumber(token:sub(1, 8), 16)))
    .. bit.tohex(bit.bxor(tonumber(all:sub(9), 16), tonumber(token:sub(9), 16))))
  redis.call('HSET', META, 'revision', number, 'entries', string.format('%.0f', m[7] + 1),
    'time', string.format('%.0f', now), 'clock', string.format('%.0f', clock))
  redis.call('XADD', P .. 'log', 'MAXLEN', '~', 65536, number .. '-0', 'first', number,
    'changes', cmsgpack.pack({{
      'created', number, id, e[10], e[6], e[5], e[7], e[8], e[9], number, e[1], e[2]
    }}))
  return cmsgpack.pack({'created', revision, {{'created', number}}})
end

if #A == 1 then
  local done = plain(A[1])
  if done then return done end
end

