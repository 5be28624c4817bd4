r"""What runs inside the server: each script is one atomic step, and decides before it writes.

A server does not undo what a script wrote before an error, so a script refuses first, and what it
does then cannot fail. Readers write nothing, so that they work where writes are refused.

A topic has these keys, whose common ``{topic}`` keeps them together on one server:

=====================  ======  ====================================================================
``prefix:{topic}``     hash    ``tag``, ``last``, ``floor``, ``end``, ``size`` (bytes of the
                               history), ``reign``, ``base``, ``runs``; also the channel of hints
``...:log``            stream  every entry that is kept, under its id, which we make: flags, key,
                               block
``...:state``          hash    key -> ``<id> <flags>\n<block>``: what a snapshot is made of
``...:history``        zset    score ms, member ``<seq>:<ms>:<bytes>``: the order in which the
                               history goes
``...:tokens``         hash    token -> the ids of its append
=====================  ======  ====================================================================

``prefix`` itself is a sorted set of the topics' names.

**Lost tails.** A replica that takes over, or a server that comes back from its disk, may lack the
last entries that were acknowledged. Their ids are still out there. So the ids of one *reign*, the
time between two such events (a server then takes a new replication id), form a *run*: their counts
begin at the run's base, 0 for the first and a random multiple of a million for each later one. A
topic knows its runs and where each of them stopped. An id of another run, or of a run after the
place where it stopped, is of an entry that was lost.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

import attrs

from .. import RECENT_TOKENS

# The bases of runs are multiples of the one, and fewer than the other: so that counts, which begin
# at the base, have at most fifteen digits.
_SPAN: Final = 1_000_000
_RUNS: Final = 1_000_000_000

# What Redis 7.0 calls flags: whether a script may run when memory is full, or on a reader's rights.
_WRITES: Final = "#!lua\n"
_DELETES: Final = "#!lua flags=allow-oom\n"
_READS: Final = "#!lua flags=no-writes\n"

_COMMON: Final = """
local RUN = '(%d+) (%d+-%d+);'  -- its base, and where it stopped

local topic, log, state, history, tokens, names = unpack(KEYS)

local function text(number) return string.format('%.0f', number) end

local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)')
  return tonumber(ms), tonumber(seq)
end

local function is_after(id, other)
  local ms, seq = split(id)
  local other_ms, other_seq = split(other)
  return ms > other_ms or (ms == other_ms and seq > other_seq)
end

local function now(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

_TRIM: Final = """
-- Let the oldest of the history go until it is within bounds ('' is none); return floor and size.
local function trim(floor, size, most_entries, most_bytes, age, now_ms)
  most_entries = tonumber(most_entries) or math.huge
  most_bytes = tonumber(most_bytes) or math.huge
  local oldest_ms = now_ms - (tonumber(age) or math.huge)
  local count = redis.call('ZCARD', history)
  while count > 0 do
    local is_too_much = count > most_entries or size > most_bytes
    if not is_too_much and age == '' then break end
    local first = redis.call('ZRANGE', history, 0, 0)[1]
    local seq, ms, bytes = string.match(first, '^(%d+):(%d+):(%d+)$')
    if not is_too_much and tonumber(ms) >= oldest_ms then break end
    floor = ms .. '-' .. text(tonumber(seq))
    redis.call('ZREM', history, first)
    redis.call('XDEL', log, floor)
    count = count - 1
    size = size - bytes
  end
  return floor, size
end
"""

_APPEND: Final = """
local name, given_ms, new_tag, new_base, token = unpack(ARGV, 1, 5)
local max_keys, most_entries, most_bytes, age = unpack(ARGV, 6, 9)
local forgotten = tonumber(ARGV[10])
local first_entry = 11 + forgotten  -- flags, key, block of each from here on

-- Nobody will repeat these, whatever becomes of this append.
if forgotten > 0 then redis.call('HDEL', tokens, unpack(ARGV, 11, 10 + forgotten)) end

local tag, last, floor, the_end, size, reign, base = unpack(redis.call('HMGET', topic,
  'tag', 'last', 'floor', 'end', 'size', 'reign', 'base'))
if tag then
  local ids = redis.call('HGET', tokens, token)
  if ids then return {'appended', tag, ids} end
  if the_end then return {'ended', tag, the_end} end
end

-- Would there be too many keys?
local count = (#ARGV - first_entry + 1) / 3
local live = redis.call('HLEN', state)
if max_keys ~= '' and live + count > tonumber(max_keys) then
  local known = {}
  local function is_live(key)
    if known[key] == nil then known[key] = redis.call('HEXISTS', state, key) == 1 end
    return known[key]
  end
  for i = first_entry, #ARGV, 3 do
    local flags, key = ARGV[i], ARGV[i + 1]
    if string.find(flags, 'x') then
      live = 0
    elseif string.find(flags, 'k') then
      local stays = not string.find(flags, 'r')
      if is_live(key) ~= stays then live = live + (stays and 1 or -1) end
      known[key] = stays
    end
  end
  if live > tonumber(max_keys) then return {'full'} end
end

-- From here on nothing is refused.
local now_ms = now(given_ms)
local current_reign = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not tag then
  tag, last, floor, size, base = new_tag, '0-0', '0-0', 0, 0
  redis.call('ZADD', names, 0, name)
  redis.call('HSET', topic, 'tag', tag, 'floor', floor, 'reign', current_reign, 'base', 0)
end
local ms, seq = split(last)
base = tonumber(base)
local begins = reign and reign ~= current_reign
if begins then
  local runs = text(base) .. ' ' .. last .. ';'
  for run, stopped in string.gmatch(redis.call('HGET', topic, 'runs') or '', RUN) do
    if not is_after(floor, stopped) then runs = runs .. run .. ' ' .. stopped .. ';' end
  end
  base = tonumber(new_base)
  redis.call('HSET', topic, 'runs', runs, 'reign', current_reign, 'base', new_base)
end

local function next_id()
  if begins or now_ms > ms then
    ms, seq, begins = math.max(now_ms, ms + 1), base, false
  else
    seq = seq + 1
    if seq == base + SPAN then ms, seq = ms + 1, base end
  end
  last = text(ms) .. '-' .. text(seq)
end

local function keep(id, bytes)
  local its_ms, its_seq = split(id)
  local member = string.format('%015.0f:%.0f:%d', its_seq, its_ms, bytes)
  redis.call('ZADD', history, its_ms, member)
  size = size + bytes
end

-- An entry leaves the state: it is history, unless nobody is owed it or could have it.
local function supersede(entry)
  local id, flags, start = string.match(entry, '^(%d+-%d+) (%a*)\\n()')
  if not string.find(flags, 'c') and is_after(id, floor) then
    keep(id, #entry - start + 1)
  else
    redis.call('XDEL', log, id)
  end
end

size = tonumber(size)
local ids = {}
for i = first_entry, #ARGV, 3 do
  local flags, key, block = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  next_id()
  ids[#ids + 1] = last
  redis.call('XADD', log, last, 'f', flags, 'k', key, 'b', block)
  if string.find(flags, 'e') then
    if string.find(flags, 'x') then
      for _, entry in ipairs(redis.call('HVALS', state)) do supersede(entry) end
      redis.call('DEL', state)
    end
    redis.call('HSET', topic, 'end', last)
  elseif string.find(flags, 'k') then
    local entry = redis.call('HGET', state, key)
    if entry then supersede(entry) end
    if string.find(flags, 'r') then
      redis.call('HDEL', state, key)
      keep(last, #block)
    else
      redis.call('HSET', state, key, last .. ' ' .. flags .. '\\n' .. block)
    end
  else
    keep(last, #block)
  end
end
floor, size = trim(floor, size, most_entries, most_bytes, age, now_ms)
redis.call('HSET', topic, 'last', last, 'floor', floor, 'size', text(size))

ids = table.concat(ids, ' ')
redis.call('HSET', tokens, token, ids)
if redis.call('HLEN', tokens) > 2 * TOKENS then  -- the older half goes
  local all, found = redis.call('HGETALL', tokens), {}
  for i = 1, #all, 2 do found[#found + 1] = {all[i], split(all[i + 1])} end
  table.sort(found, function(one, other)
    return one[2] < other[2] or (one[2] == other[2] and one[3] < other[3])
  end)
  for i = 1, #found - TOKENS do redis.call('HDEL', tokens, found[i][1]) end
end
redis.call('PUBLISH', topic, '')
return {'appended', tag, ids}
"""

_TRIM_NOW: Final = """
local floor, size = unpack(redis.call('HMGET', topic, 'floor', 'size'))
if floor then
  floor, size = trim(floor, tonumber(size), ARGV[1], ARGV[2], ARGV[3], now(ARGV[4]))
  redis.call('HSET', topic, 'floor', floor, 'size', text(size))
end
return 'trimmed'
"""

_DELETE: Final = """
if redis.call('HGET', topic, 'tag') == ARGV[2] then
  redis.call('UNLINK', topic, log, state, history, tokens)
  redis.call('ZREM', names, ARGV[1])
  redis.call('PUBLISH', topic, '')
end
return 'deleted'
"""

# Every reader begins so: age and clock are its first arguments.
_HEAD: Final = """
local tag, last, floor, the_end, base, runs = unpack(redis.call('HMGET', topic,
  'tag', 'last', 'floor', 'end', 'base', 'runs'))
if not tag then return 'absent' end
if ARGV[1] ~= '' then
  local oldest_ms = now(ARGV[2]) - tonumber(ARGV[1])
  if redis.call('ZCOUNT', history, '-inf', string.format('(%.17g', oldest_ms)) > 0 then
    return 'expired'
  end
end
local head = {tag, last, floor, the_end or ''}

-- Whether an entry of this id, not before the floor, was appended and not lost.
local function is_known(id)
  if is_after(id, last) then return false end
  local _, seq = split(id)
  local its_base = seq - seq % SPAN
  if its_base == tonumber(base) then return true end
  for run, stopped in string.gmatch(runs or '', RUN) do
    if tonumber(run) == its_base then return not is_after(id, stopped) end
  end
  return false
end
"""

_READ: Final = """
local after, after_tag, limit, max_bytes = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local is_between = not is_after(floor, after) and not is_after(after, last)
if after_tag == tag and is_between and not is_known(after) then
  return {head, 'lost', {}}
end
local batches, taken, bytes, from = {}, 0, 0, '(' .. after
while true do
  local batch = redis.call('XRANGE', log, from, '+', 'COUNT', BATCH)
  local length = #batch
  batches[#batches + 1] = batch
  for i = 1, length do
    bytes = bytes + #batch[i][2][6]
    if taken == limit or (bytes > max_bytes and taken > 0) then
      for excess = length, i, -1 do batch[excess] = nil end
      return {head, 'cut', batches}
    end
    taken = taken + 1
  end
  if length < BATCH then return {head, 'whole', batches} end
  from = '(' .. batch[length][1]
end
"""

_HAS: Final = """
local is_here = ARGV[4] == tag and not is_after(floor, ARGV[3]) and is_known(ARGV[3])
return {head, is_here and 1 or 0}
"""

_SNAPSHOT: Final = """
return {head, the_end and redis.call('XRANGE', log, the_end, the_end) or {},
  redis.call('HGETALL', state)}
"""


@attrs.frozen
class Script:
    """A script, by the text that is loaded and the digest that calls it."""

    text: bytes
    digest: bytes

    @classmethod
    def of(cls, *parts: str) -> Script:
        """Put a script together."""
        flags, *body = parts
        # A topic's history is read in small batches, for how large its blocks are is not known.
        numbers = f"local SPAN, TOKENS, BATCH = {_SPAN}, {RECENT_TOKENS}, 16\n"
        text = "".join([flags, numbers, _COMMON, *body]).encode()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())

    def called(self, keys: Sequence[bytes], *arguments: bytes | int) -> tuple[bytes | int, ...]:
        """Return the command that runs it."""
        return (b"EVALSHA", self.digest, len(keys), *keys, *arguments)


def any_base() -> int:
    """Return a base for a run, in case that one begins."""
    return (1 + secrets.randbelow(_RUNS - 1)) * _SPAN


APPEND: Final = Script.of(_WRITES, _TRIM, _APPEND)
TRIM: Final = Script.of(_DELETES, _TRIM, _TRIM_NOW)
DELETE: Final = Script.of(_DELETES, _DELETE)
READ: Final = Script.of(_READS, _HEAD, _READ)
SNAPSHOT: Final = Script.of(_READS, _HEAD, _SNAPSHOT)
HEAD: Final = Script.of(_READS, _HEAD, "return {head}")
HAS: Final = Script.of(_READS, _HEAD, _HAS)

SCRIPTS: Final = (APPEND, TRIM, DELETE, READ, SNAPSHOT, HEAD, HAS)
