#!lua flags=allow-oom
--@ uses: asked, era
-- nodes: all nodes, with how many entries each has.
--
-- Keys: meta, leases, lease:<incarnation>, node:<incarnation>.
-- Arguments: none.
-- Reply: `nodes`, revision, and an array a node: incarnation, name, address, schema, version,
--   digest, gone, microseconds left of its lease, stalled, draining, entries.
-- Cost: the number of nodes.
-- The race: none; it is one moment.

look()
local nodes = {}
for place, node in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
  local l = redis.call('HMGET', P .. 'lease:' .. node, 'name', 'address', 'schema', 'version',
    'digest', 'gone', 'deadline', 'stalled', 'draining')
  nodes[place] = {
    node, l[1], l[2], l[3], l[4], l[5], l[6], tonumber(l[7]) - now, l[8], l[9],
    redis.call('ZCARD', P .. 'node:' .. node)
  }
end
return answer('nodes', nodes)
