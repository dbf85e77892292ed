"""What Redis does in one step, in Lua. The rules of the business are not here but in `reservation.take`.

Times are text of 17 digits, microseconds since 1970, so that the later one is the greater text; 17
zeros are no time. `redis_values` says what a contact looks like as text.
"""

import hashlib
from dataclasses import dataclass, field

_LATER = """
local function keep_latest(key, field, at)
    local known = redis.call('HGET', key, field)
    if known and known >= at then return 0 end
    redis.call('HSET', key, field, at)
    return 1
end
"""

# A consent is `granted`, `at`, `granted_at`. The last word counts, whenever it arrives; of two at
# the same instant, the one that withdraws.
_CONSENT = """
local function change_consent(key, field, granted, at)
    local known = redis.call('HGET', key, field) or ''
    local was, since, given = string.sub(known, 1, 1), string.sub(known, 2, 18), string.sub(known, 19, 35)
    local word, when = granted, at
    if known ~= '' and (since > at or (since == at and was == '0')) then word, when = was, since end
    if granted == '1' and at > given then given = at end
    if given == '' then given = string.rep('0', 17) end
    local now = word .. when .. given
    if now == known then return 0 end
    redis.call('HSET', key, field, now)
    if word == was and given == string.sub(known, 19, 35) then return 0 end
    return 1
end
"""

# What a customer is, rather than met, has no end; contacts alone end with the key.
_LASTS = """
local function lasts(key)
    redis.call('HSET', key, 'd', '')
    redis.call('PERSIST', key)
end
"""

# KEYS: spent by period, pending charges by when they run out, history by quarter of an hour. The
# history is what the ledger said at the last rebuild: a period that is first asked for afterwards is
# counted from it. So a charge that is in it (`h`) is taken out of it as well. Beside the periods stands
# `g`, who made the hash: a lease of one that is lost or was made anew must not be given back to it.
_SPEND = """
local function charge(at, amount, in_history)
    local quarter = string.format('%.0f', math.floor(tonumber(at) / 900000000) * 900000000)
    if in_history then redis.call('HINCRBY', KEYS[3], quarter, string.format('%.0f', amount)) end
    local spent = redis.call('HGETALL', KEYS[1])
    for place = 1, #spent, 2 do
        local begin, ending = string.match(spent[place], '(.*)/(.*)')
        if begin and tonumber(begin) <= tonumber(at) and tonumber(at) < tonumber(ending) then
            redis.call('HINCRBY', KEYS[1], spent[place], string.format('%.0f', amount))
        end
    end
end
"""


@dataclass(frozen=True)
class Script:
    """A script and the name that Redis knows it by."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode()).hexdigest())  # noqa: S324 (Redis's choice)


# What is due to a budget when a contact's state changes is noted in the contact, until it is settled.
_DUE = """
local due = {b = {r = 'B', c = 'K'}, h = {r = 'H', c = 'J'}}
local function with_state(value, state)
    local charged, was = string.sub(value, 73, 73), string.sub(value, 1, 1)
    if state ~= was and due[charged] then charged = due[charged][was] end
    return state .. string.sub(value, 2, 72) .. charged .. string.sub(value, 74)
end
local function is_due(value)
    return string.find('BKHJ', string.sub(value, 73, 73), 1, true) ~= nil
end
"""

# Every sixteenth time a long hash is freed of contacts that count no more.
_FORGET = """
local function forget(key, version, oldest)
    if version % 16 ~= 0 or redis.call('HLEN', key) < 24 then return end
    local known = redis.call('HGETALL', key)
    for place = 1, #known, 2 do
        local value = known[place + 1]
        if #known[place] > 1 and #value >= 77 and string.sub(value, 2, 18) <= oldest then
            redis.call('HDEL', key, known[place])
        end
    end
end
"""

# KEYS: customer, claim, account (or none), the other members of the person that the customer is. ARGV:
# version seen, claim, seconds to keep the claim, seconds to keep contacts, what the customer's contacts
# are called in the account, the time up to which contacts are too old, which of KEYS is the account (0:
# none), and then a field and a value for each new contact. Gives the new version; the claim that stands,
# as text; or, where the version is another, customer and account.
RESERVE = Script(
    _FORGET
    + """
local claim = redis.call('GET', KEYS[2])
if claim then return claim end
local account = KEYS[tonumber(ARGV[7])]
local version = tonumber(redis.call('HGET', KEYS[1], 'v') or 0)
for place = 3, #KEYS do version = version + tonumber(redis.call('HGET', KEYS[place], 'v') or 0) end
if version ~= tonumber(ARGV[1]) then
    return {redis.call('HGETALL', KEYS[1]), account and redis.call('HGETALL', account) or {}}
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
if #ARGV < 8 then return version end
redis.call('HSET', KEYS[1], unpack(ARGV, 8))
forget(KEYS[1], redis.call('HINCRBY', KEYS[1], 'v', 1), ARGV[6])
if redis.call('HEXISTS', KEYS[1], 'd') == 0 then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
if not account then return version + 1 end
for place = 8, #ARGV, 2 do redis.call('HSET', account, ARGV[5] .. ARGV[place], ARGV[place + 1]) end
forget(account, redis.call('HINCRBY', account, 'v', 1), ARGV[6])
redis.call('EXPIRE', account, ARGV[4])
return version + 2
"""
)

# KEYS: customer, claim, account (or none). ARGV: the claim that was found abandoned, what the
# customer's contacts are called in the account, and the fields of its contacts. Releases all; gives
# field, former state, state and value of those that are due to a budget. `REMOVE` ends it.
ABANDON = Script(
    _DUE
    + """
local changed, charged = 0, {}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return charged end
for place = 3, #ARGV do
    local value = redis.call('HGET', KEYS[1], ARGV[place])
    if value then
        local now = with_state(value, 'x')
        if now ~= value then
            changed = 1
            redis.call('HSET', KEYS[1], ARGV[place], now)
        end
        if KEYS[3] then redis.call('HDEL', KEYS[3], ARGV[2] .. ARGV[place]) end
        if is_due(now) then
            for _, said in ipairs({ARGV[place], string.sub(value, 1, 1), 'x', now}) do charged[#charged + 1] = said end
        end
    end
end
if changed == 1 then
    redis.call('HINCRBY', KEYS[1], 'v', 1)
    if KEYS[3] then redis.call('HINCRBY', KEYS[3], 'v', 1) end
end
return charged
"""
)

# KEYS: customer, claim. ARGV: the abandoned claim, and the fields of its contacts, all released and settled.
REMOVE = Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
for place = 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[place]) end
return 1
""")

# KEYS: customer. ARGV: new state (`c`, `x` or none), where the time of the answer stands in a contact
# (0: nowhere), time of the outcome, what an account's key begins and ends with, what the customer's
# contacts are called in the account, suppressed channel and the consent that this withdraws (or
# none), number of contacts, their fields, and the fields whose latest time counts. Gives field,
# former state, state and value of every contact that is due to a budget: its state changed now, or
# before, and whoever told it then died. `CLEAR` ends it.
APPLY = Script(
    _LATER
    + _DUE
    + _CONSENT
    + _LASTS
    + """
local changed, charged = 0, {}
local first = 10 + tonumber(ARGV[9])
for place = 10, first - 1 do
    local name = ARGV[place]
    local value = redis.call('HGET', KEYS[1], name)
    if value then
        local state, answer = string.sub(value, 1, 1), tonumber(ARGV[2])
        local now, after = value, state
        if ARGV[1] == 'x' or (ARGV[1] == 'c' and state == 'r') then after = ARGV[1] end
        if answer > 0 and string.sub(now, answer, answer + 16) < ARGV[3] then
            now = string.sub(now, 1, answer - 1) .. ARGV[3] .. string.sub(now, answer + 17)
        end
        now = with_state(now, after)
        if now ~= value then
            changed = 1
            redis.call('HSET', KEYS[1], name, now)
            local length = tonumber(string.sub(value, 74, 77))
            if length > 0 then
                local account = ARGV[4] .. string.sub(value, 78, 77 + length) .. ARGV[5]
                if redis.call('HEXISTS', account, ARGV[6] .. name) == 1 then
                    redis.call('HSET', account, ARGV[6] .. name, now)
                    redis.call('HINCRBY', account, 'v', 1)
                end
            end
        end
        if is_due(now) then
            for _, said in ipairs({name, state, after, now}) do charged[#charged + 1] = said end
        end
    end
end
if ARGV[7] ~= '' then
    changed = math.max(changed, keep_latest(KEYS[1], ARGV[7], ARGV[3]))
    changed = math.max(changed, change_consent(KEYS[1], ARGV[8], '0', ARGV[3]))
end
for place = first, #ARGV do changed = math.max(changed, keep_latest(KEYS[1], ARGV[place], ARGV[3])) end
if ARGV[7] ~= '' or first <= #ARGV then lasts(KEYS[1]) end
if changed == 1 then redis.call('HINCRBY', KEYS[1], 'v', 1) end
return charged
"""
)

# KEYS: customer. ARGV: field and state of each contact that is settled with its budget.
CLEAR = Script("""
local settled = {B = 'b', K = 'b', H = 'h', J = 'h'}
for place = 1, #ARGV, 2 do
    local value = redis.call('HGET', KEYS[1], ARGV[place])
    local charged = value and settled[string.sub(value, 73, 73)]
    if charged and string.sub(value, 1, 1) == ARGV[place + 1] then
        redis.call('HSET', KEYS[1], ARGV[place], string.sub(value, 1, 72) .. charged .. string.sub(value, 74))
    end
end
return 1
""")

# KEYS: customer. ARGV: field and time of everything that happened, or field and what begins with its time.
HAPPEN = Script(
    _LATER
    + _LASTS
    + """
local changed = 0
for place = 1, #ARGV, 2 do changed = math.max(changed, keep_latest(KEYS[1], ARGV[place], ARGV[place + 1])) end
lasts(KEYS[1])
if changed == 1 then redis.call('HINCRBY', KEYS[1], 'v', 1) end
return changed
"""
)

# KEYS: hashes of ids. ARGV, for each: its ties as they were read (or none), its new ties (or none: these
# stay), and the person that it is now (none: nobody but itself; `=`: stays). Says whether it was done: it is
# not where any ties are others by now.
LINK = Script(
    _LASTS
    + """
for place, key in ipairs(KEYS) do
    if (redis.call('HGET', key, 'l') or '') ~= ARGV[3 * place - 2] then return 0 end
end
for place, key in ipairs(KEYS) do
    local ties, person = ARGV[3 * place - 1], ARGV[3 * place]
    if ties ~= '' then
        redis.call('HSET', key, 'l', ties)
        lasts(key)
    end
    if person ~= '=' then
        if person == '' then redis.call('HDEL', key, 'm') else redis.call('HSET', key, 'm', person) end
        redis.call('HINCRBY', key, 'v', 1)
    end
end
return 1
"""
)

# KEYS: the state of an id. ARGV: the hash of the one that it was worked out from (or none), the new one, when
# nothing is left of it, in milliseconds since 1970 (or none: always something). Says whether it was put.
PUT_STATE = Script("""
local known = redis.call('GET', KEYS[1])
if (known and redis.sha1hex(known) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
return 1
""")

# KEYS: customer. ARGV: field, word and time of each change.
CONSENT = Script(
    _CONSENT
    + _LASTS
    + """
local changed = 0
for place = 1, #ARGV, 3 do
    changed = math.max(changed, change_consent(KEYS[1], ARGV[place], ARGV[place + 1], ARGV[place + 2]))
end
lasts(KEYS[1])
if changed == 1 then redis.call('HINCRBY', KEYS[1], 'v', 1) end
return changed
"""
)

# KEYS: a budget's. ARGV: begin and end of the period, what of its amount is released by now, how much
# is wanted, the largest single charge, the time now (pending charges have run out by then, periods
# ended), share of what is left that is leased at once, how many charges a lease must be good for to be
# worth it, and what to call the hash where it is new. Gives what is leased, what is spent with it,
# whether it is only what was wanted, and what the hash is called. Who wants nothing changes no period.
LEASE = Script(
    _SPEND
    + """
local period = ARGV[1] .. '/' .. ARGV[2]
local asks_only = tonumber(ARGV[4]) == 0 and tonumber(ARGV[5]) == 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[6], 'LIMIT', 0, 1000)) do
    local kind, at, amount = string.match(member, '^(%a):(%-?%d+):(%d+):')
    redis.call('ZREM', KEYS[2], member)
    charge(at, -tonumber(amount), kind == 'h')
end
local spent = tonumber(redis.call('HGET', KEYS[1], period) or nil)
if not spent then
    local history = redis.call('HGETALL', KEYS[3])
    spent = 0
    for place = 1, #history, 2 do
        local at = tonumber(history[place])
        if tonumber(ARGV[1]) <= at and at < tonumber(ARGV[2]) then spent = spent + tonumber(history[place + 1]) end
    end
    if not asks_only then
        local length = tonumber(ARGV[2]) - tonumber(ARGV[1])
        for _, old in ipairs(redis.call('HKEYS', KEYS[1])) do
            local ending = tonumber(string.match(old, '/(.*)') or nil)
            if ending and ending + length < tonumber(ARGV[6]) then redis.call('HDEL', KEYS[1], old) end
        end
        redis.call('HSET', KEYS[1], period, string.format('%.0f', spent))
    end
end
if asks_only then return {0, spent, 1, redis.call('HGET', KEYS[1], 'g') or ''} end
redis.call('HSETNX', KEYS[1], 'g', ARGV[9])
local free, wanted, unit = tonumber(ARGV[3]) - spent, tonumber(ARGV[4]), tonumber(ARGV[5])
local block, single = math.floor(free / tonumber(ARGV[7])), 0
local lease = wanted + block
if unit == 0 or block < unit * tonumber(ARGV[8]) then lease, single = math.max(0, math.min(wanted, free)), 1 end
if lease > 0 then redis.call('HINCRBY', KEYS[1], period, string.format('%.0f', lease)) end
return {lease, spent + lease, single, redis.call('HGET', KEYS[1], 'g')}
"""
)

# KEYS: a budget's hash. ARGV: period, what the hash was called when it was leased, amount. What is
# leased of a hash that is lost, or was made anew, was never charged to the one that stands now.
GIVE_BACK = Script("""
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[2] or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[1], '-' .. ARGV[3])
return 1
""")

# KEYS: a budget's, and what was settled and is not yet cleared in its contact. ARGV: the contact's
# state (`c`: charged; `x`: not), whether it was settled as charged before (1 or 0), name, time and
# amount of the charge, and whether it is in the history. What ran out is charged again. The same again
# changes nothing, and what is released stays so.
SETTLE = Script(
    _SPEND
    + """
local known = redis.call('HGET', KEYS[4], ARGV[3])
if known == 'x' or known == ARGV[1] then return 0 end
local pending = redis.call('ZREM', KEYS[2], ARGV[3]) == 1
local was, is = pending or known == 'c' or ARGV[2] == '1', ARGV[1] == 'c'
local amount = tonumber(ARGV[5])
if is and not was then charge(ARGV[4], amount, ARGV[6] == 'h') end
if was and not is then charge(ARGV[4], -amount, ARGV[6] == 'h') end
redis.call('HSET', KEYS[4], ARGV[3], ARGV[1])
return 1
"""
)

# KEYS: what was settled. ARGV: a charge, and as what it was settled: cleared in its contact since.
SETTLED = Script("""
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
""")

# KEYS: paused actions and the mark among them. ARGV: what marks of this schema begin with, the new mark,
# and whether it takes the place of one that stands (1 or 0).
MARK = Script("""
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if string.sub(member, 1, 1) == '=' then
        if ARGV[3] == '0' and string.sub(member, 1, #ARGV[1]) == ARGV[1] then return 0 end
        redis.call('SREM', KEYS[1], member)
    end
end
return redis.call('SADD', KEYS[1], ARGV[2])
""")

# KEYS: a customer or account as it is, and as it was made anew. ARGV: what of its contacts the
# ledger may not know yet (made after this time), the rebuild's name, seconds to keep contacts. Once a
# rebuild, since keys may be listed twice.
REPLACE = Script("""
if redis.call('HGET', KEYS[1], 'g') == ARGV[2] then return 0 end
local known = redis.call('HGETALL', KEYS[1])
for place = 1, #known, 2 do
    local name, value = known[place], known[place + 1]
    if #name > 1 and #value >= 77 and string.sub(value, 2, 18) > ARGV[1] then
        redis.call('HSETNX', KEYS[2], name, value)
    end
end
local version = tonumber(redis.call('HGET', KEYS[1], 'v') or 0) + 1
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'v', version, 'g', ARGV[2])
redis.call('RENAME', KEYS[2], KEYS[1])
if redis.call('HEXISTS', KEYS[1], 'd') == 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return version
""")

ALL = (
    RESERVE, ABANDON, REMOVE, APPLY, CLEAR, HAPPEN, LINK, PUT_STATE, CONSENT, LEASE, GIVE_BACK, SETTLE, SETTLED, MARK,
    REPLACE,
)  # fmt: skip
