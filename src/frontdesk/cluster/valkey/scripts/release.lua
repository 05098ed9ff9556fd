#!lua flags=allow-oom
--@ uses: asked, era, entries
-- release: give a reservation of this node under this token back.
--
-- Keys: meta, entry:<id>, reserved, reserved:<incarnation>, used.
-- Arguments: incarnation, id, token.
-- Reply: `released`, revision, whatever was there.
-- Cost: constant.
-- The race: one that ran out, and is somebody else's by now: another token is left alone.

begin()
local e, is_entry = at_id(A[2])
if e and not is_entry and e[NODE] == A[1] and e[TOKEN] == A[3] then unreserve(A[2], e) end
return answer('released')
