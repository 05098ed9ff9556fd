#!lua flags=allow-oom
--@ uses: asked, era, entries
-- read: the entry of an id.
--
-- Keys: entry:<id>; meta where there is none.
-- Arguments: id.
-- Reply: `entry`, 0, the entry; or `entry`, revision, false; or `recovering` with microseconds.
-- Cost: constant.
-- The race: an id that is only not told again yet is not taken for gone.

local e, is_entry = at_id(A[1])
if is_entry then return answer('entry', e) end
look()
local wait = recovery_left()
if wait > 0 then return answer('recovering', wait) end
return answer('entry', false)
