#!lua flags=allow-oom
--@ uses: asked, era, leases, entries
-- end: end entries of this node, each as it says.
--
-- Keys: meta, log, used, and those of each entry.
-- Arguments: incarnation; then for each id, fence, reason (JSON), when (milliseconds), and the
--   token under which the id stays reserved, or false.
-- Reply: `ended`, revision.
-- Cost: a hundred entries at most, a millisecond.
-- The race: the late end of an earlier session of that id: another fence is left alone. And of a
--   restart nobody else gets the id in between.

local node = A[1]
begin()
local lease = lease_of(node)
for place = 2, #A, 5 do
  local id, fence, next_token = A[place], A[place + 1], A[place + 4]
  local e, is_entry = at_id(id)
  if is_entry and e[NODE] == node and e[FENCE] == fence then
    end_entry(id, e, A[place + 2], A[place + 3])
    if next_token and lease and not lease.gone then
      e[TOKEN] = next_token
      hold(id, e)
    end
  end
end
return answer('ended')
