#!lua flags=no-writes,allow-oom
--@ uses: nothing
-- admission: which commands this account may not ask for, before any of them is needed.
--
-- Keys: meta; nothing is read.
-- Arguments: the commands, a subcommand after a bar, as ARGV.
-- Reply: those that it may not, here.
-- Cost: constant.
-- The race: none; a script that is stopped in its middle would leave half of it done.

-- Who has come so far may do these.
local DONE = {evalsha = true, info = true, ['script|load'] = true}

local refused = {}
for _, command in ipairs(ARGV) do
  local allowed = true
  if command == 'time' then
    allowed = redis.acl_check_cmd('time')
  elseif command == 'xread' then
    allowed = redis.acl_check_cmd('xread', 'STREAMS', KEYS[1], '0')
  elseif not DONE[command] then
    -- Its arguments are in order, whatever it is: Valkey 9 does not survive those that are not.
    allowed = redis.acl_check_cmd(command, KEYS[1], KEYS[1], KEYS[1], KEYS[1])
  end
  if not allowed then refused[#refused + 1] = command end
end
return refused
