-- What a script is asked, by whom, and when by the server's clock.
--
-- KEYS[1] is the cluster's `meta`; every other key begins as it does. ARGV[1] is a MessagePack
-- array: the server's run id, as the caller's connection heard it, and the highest revision that the
-- caller knows. ARGV[2] is another: the verb's own arguments, A. An answer is one too: what came of
-- it, the revision after it (0 where the script did not look), and the verb's own.

local META, P = KEYS[1], string.sub(KEYS[1], 1, -5)
local CALLER, A = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local clock_of_server = redis.call('TIME')
local clock = clock_of_server[1] * 1000000 + clock_of_server[2]

