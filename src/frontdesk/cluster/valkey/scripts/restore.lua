#!lua
--@ uses: asked, era, leases, entries
-- restore: tell again of entries that the engine may have lost, with their fences.
--
-- Keys: as `create`, for each.
-- Arguments: incarnation; the highest fence or version among them; whether these are the last;
--   then for each its id and entry.
-- Reply: `restored`, revision, an array of the fences that are not in the index now; `lease_lost`.
-- Cost: a hundred creates.
-- The race: two owners of one id, of which the engine has forgotten the order: the higher fence
--   stays.

local node = A[1]
begin(A[2])
local lease = lease_of(node)
if not lease or lease.gone then return answer(LEASE_LOST) end
local lost = {}
for place = 4, #A, 2 do
  local id, told = A[place], A[place + 1]
  local e, is_entry = at_id(id)
  local fence, fence_there = tonumber(told[FENCE]), is_entry and tonumber(e[FENCE])
  if is_entry and (fence_there > fence or (fence_there == fence and e[NODE] ~= node)) then
    lost[#lost + 1] = told[FENCE]
  elseif is_entry and fence_there == fence then
    if e[BLUEPRINT] ~= told[BLUEPRINT] or e[MODEL] ~= told[MODEL] then
      change(id, e, told[BLUEPRINT], told[MODEL])
    end
  else
    if is_entry then end_now(id, e, 'superseded') elseif e then unreserve(id, e) end
    enter(id, told)
  end
end
if A[3] then redis.call('HSET', P .. 'lease:' .. node, 'restored', decimal(era)) end
return answer('restored', lost)
