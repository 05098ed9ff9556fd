#!lua flags=allow-oom
--@ uses: asked, era
-- follow: the changes after a revision of an era.
--
-- Keys: meta, log.
-- Arguments: the revision, the era, how many changes at most.
-- Reply: an array: `log`, revision, era, whether there is a gap; then what some log entries hold,
--   consecutive and as they were packed. The first may begin earlier and the last end later.
-- Cost: what it returns, and a few entries more.
-- The race: a cursor from before the engine lost something, whose revisions mean others now: the
--   era differs. One from before the log begins finds its first entry too late.

local after, limit = A[1], A[3]
look(math.max(after, A[2]))
local gap = A[2] ~= era
local reply = {''}
local reached = after
while not gap and reached < revision and reached < after + limit do
  local read = redis.call('XRANGE', P .. 'log', decimal(reached + 1), '+', 'COUNT', 64)
  for _, entry in ipairs(read) do
    gap = gap or tonumber(entry[2][2]) > reached + 1
    reached = tonumber(string.match(entry[1], '%d+'))
    reply[#reply + 1] = entry[2][4]
    if gap or reached >= after + limit then break end
  end
  gap = gap or #read == 0
end
if gap then reply = {''} end
reply[1] = answer('log', decimal(era), gap)
return reply
