-- One atomic step. Every check comes before the first write, for a script that fails half-way keeps what it wrote.
--
-- KEYS  request, generations, sequences, lanes, then all others, which the arguments name by their number.
-- ARGV  counter, answer, request seconds, lane limit, wake channel, then three lists, each begun by its length:
--       checks (code, key, field, value), writes (code, key, field, value, stamped),
--       drafts (lane key, stream, sequence counter, id, subject, body).
local KEYS, ARGV, call = KEYS, ARGV, redis.call
local REQUEST, GENERATIONS, SEQUENCES, LANES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local counter, answer, seconds = ARGV[1], ARGV[2], ARGV[3]
local lane_limit, channel = tonumber(ARGV[4]), ARGV[5]

-- The lists stay where they are: of each only its first and its last place is known.
local position = 6
local function list(width)
  local first = position + 1
  position = first + tonumber(ARGV[position]) * width
  return first, position - 1
end
local first_check, last_check = list(4)
local first_write, last_write = list(5)
local first_draft, last_draft = list(6)

local function key_at(place)
  return KEYS[tonumber(ARGV[place])]
end

local function plain(number)
  return string.format('%.0f', number)
end

-- Checks.

local remembered = call('GET', REQUEST)
if remembered then
  -- A write, so that where there are replicas this connection waits for them, too.
  call('EXPIRE', REQUEST, seconds)
  return {'again', remembered}
end

local held, brought = {}, {}
for draft = first_draft, last_draft, 6 do
  local lane = key_at(draft)
  if not held[lane] then
    held[lane] = call('XLEN', lane)
    if held[lane] >= lane_limit then
      return {'full', ARGV[draft + 1]}
    end
  end
  brought[lane] = (brought[lane] or 0) + 1
end

local function integer_or_nil(text)
  if text == false then
    return 0
  end
  return string.match(text, '^-?%d+$') and #text <= 15 and tonumber(text) or nil
end

local holds = {
  value_is = function(key, _, value) return call('GET', key) == value end,
  value_absent = function(key) return call('GET', key) == false end,
  field_is = function(key, field, value) return call('HGET', key, field) == value end,
  field_absent = function(key, field) return call('HGET', key, field) == false end,
  not_member = function(key, member) return call('ZSCORE', key, member) == false end,
  is_member = function(key, member) return call('ZSCORE', key, member) ~= false end,
  is_empty = function(key) return call('EXISTS', key) == 0 end,
  field_at_most = function(key, field, limit)
    return (integer_or_nil(call('HGET', key, field)) or math.huge) <= tonumber(limit)
  end,
  score_is = function(key, member, score)
    local found = call('ZSCORE', key, member)
    return found ~= false and tonumber(found) == tonumber(score)
  end,
}
-- What a check could read is of the kind that it reads, or absent: nobody needs to ask again.
local reads = {
  value_is = 'string', value_absent = 'string',
  field_is = 'hash', field_absent = 'hash', field_at_most = 'hash',
  not_member = 'zset', is_member = 'zset', score_is = 'zset',
}
local fits = {}
for check = first_check, last_check, 4 do
  local code, key = ARGV[check], key_at(check + 1)
  if not holds[code](key, ARGV[check + 2], ARGV[check + 3]) then
    return {'moved'}
  end
  fits[key] = reads[code]
end

local needs = {put = 'string', put_field = 'hash', drop_field = 'hash', add = 'hash', index = 'zset', unindex = 'zset'}
local dropped = {}
for write = first_write, last_write, 5 do
  local code, key = ARGV[write], key_at(write + 1)
  if code == 'drop' then
    dropped[key] = true
  elseif not dropped[key] then
    local need = needs[code]
    if fits[key] ~= need then
      local kind = call('TYPE', key).ok
      if kind ~= 'none' and kind ~= need then
        return {'wrong', key .. ' is a ' .. kind}
      end
      fits[key] = need
    end
    if code == 'add' and not integer_or_nil(call('HGET', key, ARGV[write + 2])) then
      return {'wrong', key .. ' ' .. ARGV[write + 2] .. ' is no integer'}
    end
  end
end

-- Writes.

local generation = '0'
if counter ~= '' then
  generation = plain(call('HINCRBY', GENERATIONS, counter, 1))
end

local does = {
  put = function(key, expiry, value)
    if expiry == '' then
      call('SET', key, value)
    else
      call('SET', key, value, 'EX', expiry)
    end
  end,
  drop = function(key) call('DEL', key) end,
  drop_field = function(key, field) call('HDEL', key, field) end,
  add = function(key, field, by) call('HINCRBY', key, field, by) end,
  index = function(key, member, score) call('ZADD', key, score, member) end,
  unindex = function(key, member) call('ZREM', key, member) end,
}
local function value_of(write)
  return ARGV[write + 4] == '1' and generation or ARGV[write + 3]
end
local write = first_write
while write <= last_write do
  local code, key = ARGV[write], key_at(write + 1)
  if code == 'put_field' then
    -- Fields of one hash that follow each other are set, and written to the file, as one command.
    local number, fields = ARGV[write + 1], {}
    repeat
      fields[#fields + 1], fields[#fields + 2] = ARGV[write + 2], value_of(write)
      write = write + 5
    until write > last_write or ARGV[write] ~= code or ARGV[write + 1] ~= number or #fields >= 1000
    call('HSET', key, unpack(fields))
  else
    does[code](key, ARGV[write + 2], value_of(write))
    write = write + 5
  end
end

local last = {}
for draft = first_draft, last_draft, 6 do
  local lane, stream, sequence_counter, id, subject, body = key_at(draft), unpack(ARGV, draft + 1, draft + 5)
  local sequence = plain(call('HINCRBY', SEQUENCES, sequence_counter, 1))
  local content = string.sub(body, 1, -2) .. ',"sequence":' .. sequence .. ',"generation":' .. generation .. '}'
  if not last[lane] then
    last[lane] = call('HINCRBY', LANES, stream, brought[lane]) - brought[lane]
    if held[lane] == 0 then
      call('PUBLISH', channel, lane)
    end
  end
  -- The entry's own number is its id: the lane itself refuses a step backwards, and removal up to a number is exact.
  last[lane] = last[lane] + 1
  call('XADD', lane, plain(last[lane]) .. '-1', 'id', id, 'subject', subject, 'content', content)
end

call('SET', REQUEST, generation .. ' ' .. answer, 'EX', seconds)
return {'done', generation, answer}
