#!lua
--@ uses: asked, era, entries
-- update: change blueprint and model of an entry.
--
-- Keys: meta, log, used, entry:<id>.
-- Arguments: incarnation, id, fence; blueprint and model: nil leaves it, false is none.
-- Reply: `updated`, revision, that revision or false where there is no such entry.
-- Cost: constant.
-- The race: an update that comes after its session ended, and another has the id: another fence is
--   left alone.

begin()
local e, is_entry = at_id(A[2])
if not is_entry or e[NODE] ~= A[1] or e[FENCE] ~= A[3] then return answer('updated', false) end
local blueprint, model = A[4], A[5]
if blueprint == nil then blueprint = e[BLUEPRINT] end
if model == nil then model = e[MODEL] end
change(A[2], e, blueprint, model)
return answer('updated', decimal(revision))
