-- One batch of one gateway process: settle what has ended, then reserve what begins. wire.py describes the bytes.
--
-- KEYS: 1 the process, 2 all processes by the time they were last heard of, 3 when Redis was last away, 4.. counters
-- ARGV: 1 the batch, 2.. labels of spend
--
-- All states are read at once, changed here, and written at the end: an error before the first write changes nothing.
-- A process numbers its batches. A number that was already carried out gets the kept reply; a gap means that this data
-- set is not the one the process talked to, and the process has to begin anew. Times are whole microseconds.

local pack, take, call = struct.pack, struct.unpack, redis.call
local floor, ceil, max, min, byte = math.floor, math.ceil, math.max, math.min, string.byte

local STATE = '<dddddddddddd'
local SPEND = '{nexus}:spend:'
local MINUTE, DAY = 60000000, 86400000000
local SPEND_SECONDS = 34560000 -- 400 days
local GONE_SECONDS = 86400     -- how long it is remembered that a process was given up
local RECLAIM = 500            -- reservations of lost processes that one batch gives back at most
local CHUNK = 1000             -- far below the 8,000 values that Lua's stack takes

local process, processes, away = KEYS[1], KEYS[2], KEYS[3]
local batch = ARGV[1]
local flags, seq, lease, n_counters, n_settles, n_reserves, pos = take('<BddHHH', batch)
local sweep, bye = flags % 2 >= 1, flags % 4 >= 2

local known = call('HMGET', process, 'n', 'd')
local last = tonumber(known[1] or 0)
if known[2] or (last ~= seq - 1 and last ~= seq) then
  return pack('<Bd', 1, last)
end
if last == seq then return call('HGET', process, 'r') end

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local today = floor(now / DAY)

-- Civil calendar from days since 1970-01-01. Source: Howard Hinnant, chrono-compatible low-level date algorithms.
local function month_of(days)
  local z = days + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  return (yoe + era * 400 + (m <= 2 and 1 or 0)) * 12 + m - 1
end

local function first_day(month)
  local y, m = floor(month / 12), month % 12 + 1
  if m <= 2 then y = y - 1 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5)
  return era * 146097 + yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy - 719468
end

local month = month_of(today)
local day_end = (today + 1) * DAY - now
local month_end = first_day(month + 1) * DAY - now

-- A counter's state: r_* requests and t_* tokens by rate (time of arrival, sum of what was given back), requests under
-- way, use of the day and of the month, seconds to keep it.
local function load_state(c, raw)
  if raw and #raw == 96 then
    c.r_tat, c.r_back, c.t_tat, c.t_back, c.used, c.day, c.d_tokens, c.d_nano, c.month, c.m_tokens, c.m_nano, c.kept =
      take(STATE, raw)
    -- A clock that went back must not lock anybody out; whoever has a longer debt is forgiven the rest of it.
    if c.t_tat > now + 60 * MINUTE then c.t_tat = now + 60 * MINUTE end
  else
    c.r_tat, c.r_back, c.t_tat, c.t_back, c.used, c.day, c.d_tokens, c.d_nano, c.month, c.m_tokens, c.m_nano =
      0, 0, 0, 0, 0, today, 0, 0, month, 0, 0
  end
  -- What was used on a day that the clock has taken back counts for today: else nothing would be counted until that day.
  if c.day < today then c.d_tokens, c.d_nano = 0, 0 end
  if c.month < month then c.m_tokens, c.m_nano = 0, 0 end
  c.day, c.month = today, month
end

local counters = {}
for from = 1, n_counters, CHUNK do
  local to = min(from + CHUNK - 1, n_counters)
  local raws = call('MGET', unpack(KEYS, from + 3, to + 3))
  for i = from, to do
    local c = { key = KEYS[i + 3] }
    load_state(c, raws[i - from + 1])
    c.interval, c.burst, c.token, c.concurrent, c.day_tokens, c.month_tokens, c.day_nano, c.month_nano, c.kept, pos =
      take('<ddddddddd', batch, pos)
    if c.r_tat > now + c.burst then c.r_tat = now + c.burst end
    counters[i] = c
  end
end

local function use(c, day, its_month, tokens, nano)
  if c.day == day then
    c.d_tokens, c.d_nano = max(0, c.d_tokens + tokens), max(0, c.d_nano + nano)
  end
  if c.month == its_month then
    c.m_tokens, c.m_nano = max(0, c.m_tokens + tokens), max(0, c.m_nano + nano)
  end
  c.changed = true
end

-- Settle. What a rate gives back is only the part that time has not refilled yet: `v` is the arrival time right after
-- the reservation plus all that had been given back until then, so `v - c.*_back` is never later than where the
-- reservation's own part ends, and nothing that others took meanwhile is given away.
local ended, spends = {}, {}
for _ = 1, n_settles do
  local kind, id, requests, est_tokens, est_nano, prompt, output, nano, day, its_month, label, n
  kind, id, requests, est_tokens, est_nano, prompt, output, nano, day, its_month, label, n, pos =
    take('<Bc8ddddddddHB', batch, pos)
  local refund, reserved = kind % 2 >= 1, kind % 4 >= 2
  local at_counted = pos + 2 * n - 1
  local at_receipt = pos + 3 * n
  local tokens = prompt + output
  if reserved then ended[#ended + 1] = id end
  for k = 1, n do
    local low, high = byte(batch, pos + 2 * k - 2, pos + 2 * k - 1)
    local c = counters[low + 256 * high]
    use(c, day, its_month, tokens - est_tokens, nano - est_nano)
    if reserved then
      if byte(batch, at_counted + k) == 1 then c.used = max(0, c.used - 1) end
      local r_v, t_v
      r_v, t_v, at_receipt = take('<dd', batch, at_receipt)
      if refund and c.interval > 0 then
        local back = min(c.interval, max(0, r_v - c.r_back - now))
        c.r_tat, c.r_back = c.r_tat - back, c.r_back + back
      end
      if c.token > 0 then
        local reserved_us = min(ceil(est_tokens * c.token), MINUTE)
        local more = ceil(tokens * c.token) - reserved_us
        if more > 0 then
          c.t_tat = max(c.t_tat, now) + more
        else
          local back = min(-more, max(0, t_v - c.t_back - now))
          c.t_tat, c.t_back = c.t_tat - back, c.t_back + back
        end
      end
    end
  end
  pos = reserved and at_receipt or pos + 3 * n
  if label > 0 and (requests > 0 or tokens > 0) then
    local of_day = spends[day]
    if not of_day then of_day = {}; spends[day] = of_day end
    local s = of_day[label]
    if not s then s = { 0, 0, 0, 0 }; of_day[label] = s end
    s[1], s[2], s[3], s[4] = s[1] + requests, s[2] + prompt, s[3] + output, s[4] + nano
  end
end

-- Reserve. A request takes from all of its counters or from none; the limit that makes it wait longest is named.
local out = { pack('<Bddd', 0, now, today, month) }
local write = { 'n', seq, 'r', '' }
for _ = 1, n_reserves do
  local id, tokens, nano, size, n
  id, tokens, nano, size, n, pos = take('<c8ddHB', batch, pos)
  local mine, wait, who, what = {}, 0, 0, 0
  for k = 1, n do
    local low, high = byte(batch, pos + 2 * k - 2, pos + 2 * k - 1)
    local c = counters[low + 256 * high]
    mine[k] = c
    if c.interval > 0 then
      local w = max(c.r_tat, now) + c.interval - now - c.burst
      if w > wait then wait, who, what = w, k, 1 end
    end
    if c.token > 0 then
      local w = max(c.t_tat, now) + min(ceil(tokens * c.token), MINUTE) - now - MINUTE
      if w > wait then wait, who, what = w, k, 2 end
    end
    if c.concurrent > 0 and c.used >= c.concurrent and wait < 1000000 then wait, who, what = 1000000, k, 3 end
    if c.day_tokens > 0 and c.d_tokens + tokens > c.day_tokens and day_end > wait then
      wait, who, what = day_end, k, 4
    end
    if c.day_nano > 0 and c.d_nano + nano > c.day_nano and day_end > wait then wait, who, what = day_end, k, 6 end
    if c.month_tokens > 0 and c.m_tokens + tokens > c.month_tokens and month_end > wait then
      wait, who, what = month_end, k, 5
    end
    if c.month_nano > 0 and c.m_nano + nano > c.month_nano and month_end > wait then
      wait, who, what = month_end, k, 7
    end
  end
  local status = who > 0 and 1 or 0
  local r_who, r_left, r_reset, t_who, t_what, t_left, t_reset = 0, 0, 0, 0, 0, 0, 0
  local receipt, spare = '', 1e15 -- how many more requests like this one there is room for
  for k = 1, n do
    local c = mine[k]
    if status == 0 then
      if c.interval > 0 then c.r_tat = max(c.r_tat, now) + c.interval end
      if c.token > 0 then c.t_tat = max(c.t_tat, now) + min(ceil(tokens * c.token), MINUTE) end
      if byte(batch, pos + 2 * n + k - 1) == 1 then c.used = c.used + 1 end
      use(c, today, month, tokens, nano)
      receipt = receipt .. pack('<dd', c.r_tat + c.r_back, c.t_tat + c.t_back)
      if c.concurrent > 0 then spare = min(spare, c.concurrent - c.used) end
      if nano > 0 then
        if c.day_nano > 0 then spare = min(spare, (c.day_nano - c.d_nano) / nano) end
        if c.month_nano > 0 then spare = min(spare, (c.month_nano - c.m_nano) / nano) end
      end
    end
    if c.interval > 0 then
      local behind = max(c.r_tat - now, 0)
      local left = max(0, floor((c.burst - behind) / c.interval))
      if r_who == 0 or left < r_left then r_who, r_left, r_reset = k, left, behind end
    end
    if c.token > 0 then
      local behind = max(c.t_tat - now, 0)
      local left = max(0, floor((MINUTE - behind) / c.token))
      if t_who == 0 or left < t_left then t_who, t_what, t_left, t_reset = k, 2, left, behind end
    end
    if c.day_tokens > 0 then
      local left = max(0, c.day_tokens - c.d_tokens)
      if t_who == 0 or left < t_left then t_who, t_what, t_left, t_reset = k, 4, left, day_end end
    end
    if c.month_tokens > 0 then
      local left = max(0, c.month_tokens - c.m_tokens)
      if t_who == 0 or left < t_left then t_who, t_what, t_left, t_reset = k, 5, left, month_end end
    end
  end
  out[#out + 1] = pack('<BBBBBBddddd', status, who, what, r_who, t_who, t_what, wait, r_left, r_reset, t_left, t_reset)
  pos = pos + 3 * n
  if status == 0 then
    if r_who > 0 then spare = min(spare, r_left) end
    if t_who > 0 then spare = min(spare, t_left / max(tokens, 1)) end
    out[#out + 1] = pack('<d', max(spare, 0)) .. receipt
    if size > 0 then
      write[#write + 1] = id
      write[#write + 1] = pack('<dddd', today, month, tokens, nano) .. batch:sub(pos, pos + size - 1)
    end
  end
  pos = pos + size
end

-- Lost processes: whoever was not heard of for a lease is given up, and its reservations are given back.
local given_up = {}
if sweep then
  local by_key = {}
  for _, c in ipairs(counters) do by_key[c.key] = c end
  local room = RECLAIM

  local function give_back(record)
    local day, its_month, tokens, nano, at = take('<dddd', record)
    while at <= #record do
      local size, counted
      size, at = take('<H', record, at)
      local key = record:sub(at, at + size - 1)
      counted, at = byte(record, at + size), at + size + 1
      local c = by_key[key]
      if not c then
        local raw = call('GET', key)
        if raw then
          c = { key = key }
          load_state(c, raw)
          by_key[key], counters[#counters + 1] = c, c
        end
      end
      if c then
        if counted == 1 then c.used = max(0, c.used - 1) end
        use(c, day, its_month, -tokens, -nano)
      end
    end
  end

  local function reclaim(name)
    local fields, ids = call('HKEYS', name), {}
    for _, field in ipairs(fields) do
      if #field == 8 and #ids < room then ids[#ids + 1] = field end
    end
    if #ids > 0 then
      for _, record in ipairs(call('HMGET', name, unpack(ids))) do give_back(record) end
      room = room - #ids
    end
    given_up[#given_up + 1] = { name, ids, #fields - #ids <= 3 } -- the rest is n, r and d
  end

  local heard = call('HMGET', away, 'last', 'since')
  local since = tonumber(heard[2] or now)
  -- Nobody could be heard while Redis was away, or while its clock was ahead.
  if not heard[1] or now - heard[1] > lease / 2 or now - heard[1] < 0 then since = now end
  given_up.since = since
  given_up.ahead = call('ZRANGEBYSCORE', processes, string.format('(%.0f', now), '+inf')
  for _, name in ipairs(call('ZRANGEBYSCORE', processes, '-inf', now - lease, 'LIMIT', 0, 8)) do
    if name ~= process and room > 0 and (since <= now - lease or call('HEXISTS', name, 'd') == 1) then
      reclaim(name)
    end
  end
end

for _, c in ipairs(counters) do
  if c.changed then
    call('SET', c.key, pack(STATE, c.r_tat, c.r_back, c.t_tat, c.t_back, c.used, c.day, c.d_tokens, c.d_nano, c.month,
      c.m_tokens, c.m_nano, c.kept), 'EX', c.kept)
  end
end
for day, labels in pairs(spends) do
  local key, names, old = SPEND .. day, {}, nil
  for label in pairs(labels) do names[#names + 1] = ARGV[label + 1] end
  old = call('HMGET', key, unpack(names))
  local fields = {}
  local i = 0
  for _, s in pairs(labels) do
    i = i + 1
    local requests, prompt, output, nano = 0, 0, 0, 0
    if old[i] then requests, prompt, output, nano = take('<dddd', old[i]) end
    fields[2 * i - 1] = names[i]
    fields[2 * i] = pack('<dddd', requests + s[1], prompt + s[2], output + s[3], nano + s[4])
  end
  call('HSET', key, unpack(fields))
  call('EXPIRE', key, SPEND_SECONDS)
end
local reply = table.concat(out)
write[4] = reply
call('HSET', process, unpack(write))
if #ended > 0 then call('HDEL', process, unpack(ended)) end
for _, lost in ipairs(given_up) do
  local name, ids, done = lost[1], lost[2], lost[3]
  call('HSET', name, 'd', 1)
  if #ids > 0 then call('HDEL', name, unpack(ids)) end
  if done then
    call('ZREM', processes, name)
    call('EXPIRE', name, GONE_SECONDS)
  end
end
if sweep then
  call('HSET', away, 'last', now, 'since', given_up.since)
  for _, name in ipairs(given_up.ahead) do call('ZADD', processes, now, name) end
  call('ZADD', processes, bye and 0 or now, process)
end
if bye then call('HSET', process, 'd', 1) end
return reply
