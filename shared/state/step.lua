-- One atomic step. Every check comes before the first write, for a script that fails half-way keeps what it wrote.
--
-- KEYS  request, generations, sequences, lanes, then all others, which the arguments name by their number.
-- ARGV  counter, answer, request seconds, lane limit, wake channel, then three lists, each begun by its length:
--       checks (code, key, field, value), writes (code, key, field, value, stamped),
--       drafts (lane key, stream, sequence counter, id, subject, body).
local REQUEST, GENERATIONS, SEQUENCES, LANES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local counter, answer, seconds = ARGV[1], ARGV[2], ARGV[3]
local lane_limit, channel = tonumber(ARGV[4]), ARGV[5]

local position = 6
local function list(width)
  local items = {}
  for _ = 1, tonumber(ARGV[position]) do
    local item = {}
    for column = 1, width do
      item[column] = ARGV[position + column]
    end
    items[#items + 1] = item
    position = position + width
  end
  position = position + 1
  return items
end
local checks, writes, drafts = list(4), list(5), list(6)

local function key_of(item, column)
  return KEYS[tonumber(item[column])]
end

local function plain(number)
  return string.format('%.0f', number)
end

-- Checks.

local remembered = redis.call('GET', REQUEST)
if remembered then
  -- A write, so that where there are replicas this connection waits for them, too.
  redis.call('EXPIRE', REQUEST, seconds)
  return {'again', remembered}
end

for _, draft in ipairs(drafts) do
  if redis.call('XLEN', key_of(draft, 1)) >= lane_limit then
    return {'full', draft[2]}
  end
end

local function integer_or_nil(text)
  if text == false then
    return 0
  end
  return string.match(text, '^-?%d+$') and #text <= 15 and tonumber(text) or nil
end

local holds = {
  value_is = function(key, _, value) return redis.call('GET', key) == value end,
  value_absent = function(key) return redis.call('GET', key) == false end,
  field_is = function(key, field, value) return redis.call('HGET', key, field) == value end,
  field_absent = function(key, field) return redis.call('HGET', key, field) == false end,
  not_member = function(key, member) return redis.call('ZSCORE', key, member) == false end,
  is_member = function(key, member) return redis.call('ZSCORE', key, member) ~= false end,
  is_empty = function(key) return redis.call('EXISTS', key) == 0 end,
  field_at_most = function(key, field, limit)
    return (integer_or_nil(redis.call('HGET', key, field)) or math.huge) <= tonumber(limit)
  end,
  score_is = function(key, member, score)
    local found = redis.call('ZSCORE', key, member)
    return found ~= false and tonumber(found) == tonumber(score)
  end,
}
for _, check in ipairs(checks) do
  if not holds[check[1]](key_of(check, 2), check[3], check[4]) then
    return {'moved'}
  end
end

local needs = {put = 'string', put_field = 'hash', drop_field = 'hash', add = 'hash', index = 'zset', unindex = 'zset'}
local dropped, kinds = {}, {}
for _, write in ipairs(writes) do
  local code, key = write[1], key_of(write, 2)
  if code == 'drop' then
    dropped[key] = true
  elseif not dropped[key] then
    local kind = kinds[key] or redis.call('TYPE', key).ok
    kinds[key] = kind
    if kind ~= 'none' and kind ~= needs[code] then
      return {'wrong', key .. ' is a ' .. kind}
    end
    if code == 'add' and not integer_or_nil(redis.call('HGET', key, write[3])) then
      return {'wrong', key .. ' ' .. write[3] .. ' is no integer'}
    end
  end
end

-- Writes.

local generation = '0'
if counter ~= '' then
  generation = plain(redis.call('HINCRBY', GENERATIONS, counter, 1))
end

local does = {
  put = function(key, expiry, value)
    if expiry == '' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'EX', expiry)
    end
  end,
  drop = function(key) redis.call('DEL', key) end,
  drop_field = function(key, field) redis.call('HDEL', key, field) end,
  add = function(key, field, by) redis.call('HINCRBY', key, field, by) end,
  index = function(key, member, score) redis.call('ZADD', key, score, member) end,
  unindex = function(key, member) redis.call('ZREM', key, member) end,
}
local function value_of(write)
  return write[5] == '1' and generation or write[4]
end
local number = 1
while number <= #writes do
  local write = writes[number]
  if write[1] == 'put_field' then
    -- Fields of one hash that follow each other are set, and written to the file, as one command.
    local fields = {}
    repeat
      fields[#fields + 1], fields[#fields + 2] = writes[number][3], value_of(writes[number])
      number = number + 1
      local more = writes[number]
    until not more or more[1] ~= 'put_field' or more[2] ~= write[2] or #fields >= 1000
    redis.call('HSET', key_of(write, 2), unpack(fields))
  else
    does[write[1]](key_of(write, 2), write[3], value_of(write))
    number = number + 1
  end
end

for _, draft in ipairs(drafts) do
  local lane, stream, sequence_counter, id, subject, body = key_of(draft, 1), unpack(draft, 2)
  local sequence = plain(redis.call('HINCRBY', SEQUENCES, sequence_counter, 1))
  local content = string.sub(body, 1, -2) .. ',"sequence":' .. sequence .. ',"generation":' .. generation .. '}'
  if redis.call('XLEN', lane) == 0 then
    redis.call('PUBLISH', channel, lane)
  end
  -- The entry's own number is its id: the lane itself refuses a step backwards, and removal up to a number is exact.
  local number = plain(redis.call('HINCRBY', LANES, stream, 1))
  redis.call('XADD', lane, number .. '-1', 'id', id, 'subject', subject, 'content', content)
end

redis.call('SET', REQUEST, generation .. ' ' .. answer, 'EX', seconds)
return {'done', generation, answer}
