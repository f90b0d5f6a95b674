-- Answers what the connection's note "wish" says: a verb, and the kind of an edit.
local echo = policy { about = "Answers what it is told to.", every = "1h" }

local B = "b@example.net"

local function b(tx, rcpt)
  if rcpt and rcpt.address == B then return rcpt end
  for _, r in ipairs(tx.recipients) do
    if r.address == B then return r end
  end
end

local edits = {
  ["headers:prepend"] = function(tx) tx.headers:prepend("X-New", "grüß") end,
  ["headers:append"] = function(tx) tx.headers:append("X-New", "new") end,
  ["headers:replace"] = function(tx) tx.headers:replace("Subject", "other") end,
  ["headers:remove"] = function(tx) tx.headers:remove("Received", 1) end,
  ["recipients:add"] = function(tx) tx.recipients:add("new@example.net") end,
  ["recipients:remove"] = function(tx) tx.recipients:remove(B) end,
  ["recipients:replace"] = function(tx, rcpt) b(tx, rcpt):replace("other@example.net") end,
  ["route"] = function(tx, rcpt) b(tx, rcpt):route("smtp://192.0.2.9") end,
  ["notes"] = function(tx) tx.notes.n = tx.conn and { 1, "a" } end, -- a connection has no conn
  ["conn.notes"] = function(_, _, _, conn) conn.notes.n = true end,
  ["score"] = function(tx) tx:score("sym", 2.5, "why") end,
  ["tag"] = function(tx) tx:tag("t") end,
  ["result"] = function(tx) tx:result("r", { k = "v" }) end,
  ["skip"] = function(tx) tx:skip("other") end,
  ["priority"] = function(tx) tx:priority(7) end,
  ["received"] = function(tx) tx.received = "text" end,
  ["sender"] = function(tx) tx.sender = "new@example.org" end,
  ["ret"] = function(tx) tx:ret("hdrs") end,
  ["notify"] = function(tx, rcpt) b(tx, rcpt):notify("never") end,
  ["rcpt.notes"] = function(tx, rcpt) b(tx, rcpt).notes.n = 3 end,
  ["rcpt.headers:prepend"] = function(tx, rcpt) b(tx, rcpt).headers:prepend("X-For", "b") end,
  ["rcpt.headers:append"] = function(tx, rcpt) b(tx, rcpt).headers:append("X-For", "b") end,
  ["rcpt.headers:remove"] = function(tx, rcpt) b(tx, rcpt).headers:remove("Received", 1) end,
  ["body:replace"] = function(tx) tx.body:replace("new text\r\n", "text/plain") end,
  ["body:footer"] = function(tx) tx.body:footer { text = "the end" } end,
  ["pardon"] = function(tx) tx:pardon("other") end,
  ["capabilities:add"] = function(conn) conn.capabilities:add("X-OURS 1") end,
  ["capabilities:remove"] = function(conn) conn.capabilities:remove("SIZE") end,
  ["plan"] = function(tx, rcpt, plan) plan.tls = "encrypt" end,
  ["notice.to"] = function(tx, notice) notice.to = "pm@example.net" end,
}

local function decide(verb, tx, stage)
  if verb == "accept" then
    if stage == "auth" then return accept { user = "jane" } end
    return accept()
  elseif verb == "reject" then return reject("5.7.9", "No %s", "thanks")
  elseif verb == "defer" then return defer("Later")
  elseif verb == "discard" then return discard("because")
  elseif verb == "quarantine" then return quarantine("because")
  elseif verb == "hold" then return hold("because")
  elseif verb == "disconnect" then return disconnect("Bye")
  elseif verb == "each" then
    return tx:each_rcpt(function(r)
      if r.user == "b" then return reject("Not for %s", r.user) end
    end)
  end
end

-- The stages.
local function answer(stage, conn, first, second, third)
  local wish = conn.notes.wish
  if wish.edit then edits[wish.edit](first, second, third, conn) end
  return decide(wish.verb, first, stage)
end

function echo.connect(conn, more) return answer("connect", conn, conn, more) end

function echo.helo(conn, more) return answer("helo", conn, conn, more) end

function echo.tls(conn, more) return answer("tls", conn, conn, more) end

function echo.auth(conn, more) return answer("auth", conn, conn, more) end

function echo.command(conn, more) return answer("command", conn, conn, more) end

function echo.disconnect(conn, more) return answer("disconnect", conn, conn, more) end

function echo.deny(about, refusal) return answer("deny", about.conn, about, refusal) end

function echo.mail(tx, ...) return answer("mail", tx.conn, tx, ...) end

function echo.rcpt(tx, ...) return answer("rcpt", tx.conn, tx, ...) end

function echo.data(tx, ...) return answer("data", tx.conn, tx, ...) end

function echo.headers(tx, ...) return answer("headers", tx.conn, tx, ...) end

function echo.message(tx, ...) return answer("message", tx.conn, tx, ...) end

function echo.queue(tx, ...) return answer("queue", tx.conn, tx, ...) end

function echo.queued(tx, ...) return answer("queued", tx.conn, tx, ...) end

function echo.route(tx, ...) return answer("route", tx.conn, tx, ...) end

function echo.attempt(tx, ...) return answer("attempt", tx.conn, tx, ...) end

function echo.delivered(tx, ...) return answer("delivered", tx.conn, tx, ...) end

function echo.deferred(tx, ...) return answer("deferred", tx.conn, tx, ...) end

function echo.bounced(tx, ...) return answer("bounced", tx.conn, tx, ...) end

function echo.dsn(tx, ...) return answer("dsn", tx.conn, tx, ...) end

function echo.load() end

function echo.tick() end

function echo.unload() end

return echo
