-- karma: what clients did before, and what follows from it.
--
-- Every connection is counted when it ends. It is bad where the points of a message
-- (those of all policies and rules, see [score]), or `refusal` points for each refusal
-- by a policy, reach `bad_at`; it is good where it brought a message and no more points
-- than `good_at`. The history of a client is its good connections less its bad ones. A
-- client whose history falls to -`strikes` goes into the penalty box: its connections
-- are deferred for `penalty`, longer each time, up to a day. A bad history gives points
-- to all that the client sends, a good one takes some away, before anything is decided.
-- The result `karma`, for other policies and score rules, has `history`, `good` and
-- `bad`. Rules that give points for what policies found are [[score.rule]].
--
-- Settings:
--   good_at      points up to which a connection with a message is good (1)
--   bad_at       points from which a connection is bad (5)
--   refusal      points of a refusal by a policy, up to bad_at in all (1)
--   refusals     points of the refusals of some policies, by their names ({ greylist = 0 })
--   strikes      how far below zero a history leads into the penalty box; 0: never (3)
--   penalty      how long a client is in it for the first time (1h)
--   lifetime     how long a client is remembered after its last connection (30d)
--   points       of one bad connection more than good ones; as many are taken away for
--                one good more (0.25)
--   most         points that a history gives or takes at most (2)
--   tlds         points by the last part of the client's confirmed name, such as { top = 1 }
--   asns         points by the number of the client's network, such as { "64496" = 1 }
--   refuse_at    points at which a message is refused at DATA, before it is sent; 0: never (0)
--   tarpit       how long a client with a bad history waits at each recipient (0s)
--   ipv4         prefix length that stands for an IPv4 client (32)
--   ipv6         prefix length that stands for an IPv6 client (64)
--
-- Example:
--   [[policy]]
--   use      = "karma"
--   refusals = { greylist = 0, dnsbl = 3 }
--   tarpit   = "2s"

local karma = policy {
  about      = "Remembers what clients did, and lets those wait that did ill.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    good_at   = number (1) : about "points up to which a connection with a message is good",
    bad_at    = number (5) : about "points from which a connection is bad",
    refusal   = number (1) : about "points of a refusal by a policy",
    refusals  = map(number) { greylist = 0 } : about "points of the refusals of some policies, by their names",
    strikes   = integer (3) : about "how far below zero a history leads into the penalty box; 0: never",
    penalty   = duration "1h" : about "how long a client is in it for the first time",
    lifetime  = duration "30d" : about "how long a client is remembered after its last connection",
    points    = number (0.25) : about "of one bad connection more than good ones",
    most      = number (2) : about "points that a history gives or takes at most",
    tlds      = map(number) {} : about "points by the last part of the client's confirmed name",
    asns      = map(number) {} : about "points by the number of the client's network",
    refuse_at = number (0) : about "points at which a message is refused at DATA; 0: never",
    tarpit    = duration "0s" : about "how long a client with a bad history waits at each recipient",
    ipv4      = integer (32) : range(0, 32) : about "prefix length that stands for an IPv4 client",
    ipv6      = integer (64) : range(0, 128) : about "prefix length that stands for an IPv6 client",
  },
}

local day = 24 * 3600

local function key(conn) return { "karma", conn.ip:prefix(karma.ipv4, karma.ipv6) } end

-- marks gives points for where a client is.
local function marks(conn)
  local points = next(karma.tlds) and conn.host and karma.tlds[conn.host:match("([^.]+)$"):lower()]
  if points then conn:score("karma.tld", points, conn.host) end
  local number, name = nil, nil
  if next(karma.asns) then number, name = geoip.asn(conn.ip) end
  points = number and karma.asns[("%d"):format(number)]
  if points then conn:score("karma.asn", points, ("%d %s"):format(number, name)) end
end

function karma.connect(conn)
  local known = store.get(key(conn))
  if known and known.boxed > now() then
    conn.notes.karma_boxed = true
    return defer { text = ("Your server did ill; it may come back in %D"):format(math.ceil(known.boxed - now())), code = 421, enhanced = "4.7.1", disconnect = true }
  end
  marks(conn)
  local history = known and known.good - known.bad or 0
  conn:result("karma", { history = history, good = known and known.good or 0, bad = known and known.bad or 0 })
  local points = math.max(-karma.most, math.min(karma.most, -history * karma.points))
  if points ~= 0 then conn:score("karma", points, ("a history of %d"):format(history)) end
end

local function ill(tx)
  local it = tx:results("karma")
  return it and it.history < 0
end

function karma.rcpt(tx)
  if karma.tarpit > 0 and ill(tx) then pause(karma.tarpit) end
end

function karma.data(tx)
  if karma.refuse_at > 0 and tx.total >= karma.refuse_at then
    return reject("5.7.1", "Too much speaks against this message")
  end
end

-- worse keeps the worst points of a connection's messages.
local function worse(conn, points)
  conn.notes.karma_points = math.max(conn.notes.karma_points or -1000, points)
end

function karma.queue(tx) worse(tx.conn, tx.total) end

-- deny adds refusals up. Its first argument is the message, where one is under way.
function karma.deny(tx, refusal)
  local conn = refusal.conn
  if refusal.policy ~= "" then
    conn.notes.karma_refused = (conn.notes.karma_refused or 0) + (karma.refusals[refusal.policy] or karma.refusal)
  end
  if refusal.stage == "message" then worse(conn, tx.total) end
end

-- verdict is "good", "bad" or neither of a connection that is over.
local function verdict(conn)
  local points, refused = conn.notes.karma_points, conn.notes.karma_refused or 0
  if math.max(points or 0, refused) >= karma.bad_at then return "bad" end
  if conn.totals.messages > 0 and (points or 0) <= karma.good_at then return "good" end
end

-- counted is what is known of a client after a further connection.
local function counted(known, what)
  local new = { good = known and known.good or 0, bad = known and known.bad or 0, boxed = 0, times = known and known.times or 0 }
  new[what] = new[what] + 1
  if what == "bad" and karma.strikes > 0 and new.good - new.bad <= -karma.strikes then
    new.times = new.times + 1
    new.boxed = now() + math.min(day, karma.penalty * 2 ^ (new.times - 1))
    new.bad = new.good + math.max(0, karma.strikes - 1) -- one more after that, and it is in again
  end
  return new
end

function karma.disconnect(conn)
  local what = not conn.notes.karma_boxed and verdict(conn)
  if not what then return end
  for _ = 1, 5 do -- other connections of the client may end at the same time
    local known = store.get(key(conn))
    if store.swap(key(conn), known, counted(known, what), karma.lifetime) then return end
  end
end

return karma
