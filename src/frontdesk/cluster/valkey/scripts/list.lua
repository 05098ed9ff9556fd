#!lua flags=allow-oom
--@ uses: asked, era, entries
-- list: a page of entries with higher fences, oldest first.
--
-- Keys: meta, entry:<id>, and tenant:<t>, key:<k> or node:<incarnation>; of everything, leases and
--   every node's.
-- Arguments: the end of the set's key (`tenant:…`), or false for everything; the fence; how many.
-- Reply: `page`, revision, era, whether there are more, whether some may be missing, and id and
--   entry of each, flat.
-- Cost: what it returns; of everything, a few ids a node more.
-- The race: none; it is one moment, and its revision is where a reader of the log goes on.

local above, wanted = '(' .. decimal(A[2]), A[3] + 1

local function chunk_of(node, offset, number)
  return redis.call('ZRANGEBYSCORE', P .. 'node:' .. node, above, '+inf', 'WITHSCORES',
    'LIMIT', offset, number)
end

-- Merge the nodes' sets: each is read in chunks, and the one that is behind is read on.
local function of_all()
  local nodes = redis.call('ZRANGE', P .. 'leases', 0, -1)
  local chunk = math.ceil(wanted / math.max(#nodes, 1)) + 8
  local heads, found = {}, {}
  for _, node in ipairs(nodes) do
    local read = chunk_of(node, 0, chunk)
    if #read > 0 then heads[#heads + 1] = {node = node, read = read, at = 1, offset = chunk} end
  end
  while #heads > 0 and #found < wanted do
    local first
    for place, head in ipairs(heads) do
      local id, fence = head.read[head.at], tonumber(head.read[head.at + 1])
      if not first or fence < first.fence or (fence == first.fence and id < first.id) then
        first = {place = place, id = id, fence = fence}
      end
    end
    found[#found + 1] = first.id
    local head = heads[first.place]
    head.at = head.at + 2
    if head.at > #head.read then
      head.read = chunk_of(head.node, head.offset, chunk)
      head.at, head.offset = 1, head.offset + chunk
      if #head.read == 0 then table.remove(heads, first.place) end
    end
  end
  return found
end

look()
local ids
if A[1] then
  ids = redis.call('ZRANGEBYSCORE', P .. A[1], above, '+inf', 'LIMIT', 0, wanted)
else
  ids = of_all()
end
local listed = {}
for place = 1, math.min(#ids, A[3]) do
  listed[2 * place - 1], listed[2 * place] = ids[place], at_id(ids[place])
end
return answer('page', decimal(era), #ids == wanted, recovery_left() > 0, listed)
