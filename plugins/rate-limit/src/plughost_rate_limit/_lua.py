"""The same arithmetic on the server: one script for each algorithm, all limits of a call in one run.

A script runs alone on the server and reads the server's clock, so neither the number of replicas nor their clocks
matter. Numbers in Lua are doubles; microseconds since 1970 and everything made of them stay below 2**53.

KEYS: one for each limit. ARGV: the cost, then two numbers for each limit. Returns remaining and wait for each limit.
"""

from __future__ import annotations

from collections.abc import Mapping

from plughost_rate_limit._algorithms import SLOTS

_AROUND = """
local time = redis.call('TIME')
local now, cost = time[1] * 1000000 + time[2], tonumber(ARGV[1])
local answer, writes, passes = {}, {}, true
%s
for index, key in ipairs(KEYS) do
  local remaining, wait, write = step(key, tonumber(ARGV[2 * index]), tonumber(ARGV[2 * index + 1]))
  answer[2 * index - 1], answer[2 * index], writes[index] = remaining, wait, write
  passes = passes and wait == 0
end
if passes and cost > 0 then
  for index = 1, #KEYS do writes[index]() end
end
return answer
"""

_SLIDING = f"""
local function step(key, count, slot)
  local newest, total, used = math.floor(now / slot), 0, {{}}
  local stored = redis.call('HGETALL', key)
  for index = 1, #stored, 2 do
    local number, calls = tonumber(stored[index]), tonumber(stored[index + 1])
    if number < newest - {SLOTS} then
      redis.call('HDEL', key, stored[index])
    else
      total = total + calls
      used[#used + 1] = {{number, calls}}
    end
  end
  local left = count - total - cost
  if left < 0 and cost > 0 then
    table.sort(used, function(one, other) return one[1] < other[1] end)
    local staying, index = total, 0
    repeat
      index = index + 1
      staying = staying - used[index][2]
    until staying + cost <= count
    return math.max(left + cost, 0), (used[index][1] + {SLOTS + 1}) * slot - now, nil
  end
  return math.max(left, 0), 0, function()
    redis.call('HINCRBY', key, string.format('%.0f', newest), cost)
    redis.call('PEXPIRE', key, math.ceil({SLOTS + 2} * slot / 1000))
  end
end
"""

_GCRA = """
local function step(key, interval, tolerance)
  local stored = tonumber(redis.call('GET', key) or 0)
  local arrival = math.min(math.max(stored, now), now + tolerance) + cost * interval
  local wait = arrival - now - tolerance
  if wait > 0 then
    return math.floor(math.max(cost * interval - wait, 0) / interval), wait, nil
  end
  return math.floor(-wait / interval), 0, function()
    redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
  end
end
"""

_FIXED = """
local function step(key, count, period)
  local stored = redis.call('HMGET', key, 'begin', 'used')
  local begin, used = tonumber(stored[1] or now), tonumber(stored[2] or 0)
  local fresh = used == 0 or now - begin >= period
  if fresh then begin, used = now, 0 end
  local left = count - used - cost
  if left < 0 and cost > 0 then
    return math.max(left + cost, 0), begin + period - now, nil
  end
  return math.max(left, 0), 0, function()
    redis.call('HSET', key, 'begin', string.format('%.0f', begin), 'used', string.format('%.0f', used + cost))
    if fresh then redis.call('PEXPIRE', key, math.ceil(period / 1000) + 1) end
  end
end
"""

SCRIPTS: Mapping[str, str] = {
    "sliding-window": _AROUND % _SLIDING,
    "gcra": _AROUND % _GCRA,
    "fixed-window": _AROUND % _FIXED,
}
