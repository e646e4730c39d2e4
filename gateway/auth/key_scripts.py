"""What Redis does with API keys in one step each.

Three keys: a hash of records by key id, a sorted set of key ids by the version that changed them last, and a hash of
`epoch` (which data sets this one has grown from), `version` (counts changes) and `pepper` (fingerprints of all that
were ever a writer's first, the newest last). Nothing is ever deleted, so a version that is lower than one seen before
means that Redis has lost data.
"""

from __future__ import annotations

from typing import Final

from gateway.redis_connection import KEY_PREFIX

PAGE: Final = 500
"""Records in one answer: some 200 kB, parsed in some 8 ms."""

KEYS: Final = (f"{KEY_PREFIX}keys", f"{KEY_PREFIX}keys:order", f"{KEY_PREFIX}keys:state")
CHANNEL: Final = f"{KEY_PREFIX}keys:changes"

READ: Final = """
local state = redis.call('HMGET', KEYS[3], 'epoch', 'version', 'pepper')
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
local last, records = ARGV[1], {}
if #ids > 0 then
  last = redis.call('ZSCORE', KEYS[2], ids[#ids])
  records = redis.call('HMGET', KEYS[1], unpack(ids))
end
return {state[1] or '', state[2] or '0', state[3] or '', last, ids, records}
"""
"""ARGV: version after which, most records.

Returns epoch, version, peppers, version of the last record, ids, records.
"""

WRITE: Final = """
local function has(list, item) return string.find(',' .. list .. ',', ',' .. item .. ',', 1, true) end
local state = redis.call('HMGET', KEYS[3], 'epoch', 'version', 'pepper')
local epoch, version, missing = state[1] or '', tonumber(state[2] or '0'), ''
for part in string.gmatch(ARGV[1], '[^,]+') do
  if not has(epoch, part) then missing = missing .. ',' .. part end
end
if ARGV[2] == 'strict' and (missing ~= '' or version < tonumber(ARGV[3])) then return 'lost' end
local peppers, first = state[3] or '', string.match(ARGV[5], '^[^,]*')
if peppers ~= '' and not has(ARGV[5], string.match(peppers, '[^,]*$')) then return 'pepper' end
if not has(peppers, first) then peppers = string.gsub(peppers .. ',' .. first, '^,', '') end
for i = 7, #ARGV, 3 do
  if (redis.call('HGET', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 'conflict' end
end
if ARGV[2] == 'restore' or (epoch == '' and missing == '') then missing = missing .. ',' .. ARGV[4] end
epoch = string.gsub(epoch .. missing, '^,', '')
version = math.max(version, tonumber(ARGV[3]))
for i = 7, #ARGV, 3 do
  version = version + 1
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  redis.call('ZADD', KEYS[2], version, ARGV[i])
end
redis.call('HSET', KEYS[3], 'epoch', epoch, 'version', version, 'pepper', peppers)
redis.call('PUBLISH', ARGV[6], version)
return 'ok'
"""
"""ARGV: own epoch, `strict` or `restore`, own version, a new epoch, peppers, channel, then id, old, new record.

A restore begins an epoch, so that every gateway reads all records again, whatever version it has seen.
Returns `ok`, `lost` (Redis knows less than the caller), `pepper` (another one), or `conflict` (an old record differs).
"""
