#!lua flags=no-writes,allow-oom
--@ uses: none
-- admission: which commands this account may not ask for, before any of them is needed.
--
-- Keys: meta; nothing is read.
-- Arguments: the commands, as ARGV.
-- Reply: those that it may not.
-- Cost: constant.
-- The race: none; a script that is stopped in its middle would leave half of it done.

local refused = {}
for _, command in ipairs(ARGV) do
  local words = {}
  for word in string.gmatch(command, '[^|]+') do words[#words + 1] = word end
  if not redis.acl_check_cmd(unpack(words)) then refused[#refused + 1] = command end
end
return refused
