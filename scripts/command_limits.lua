-- command_limits: hangs up on clients that talk nonsense, or do nothing again and
-- again: web browsers, worms and those that try commands.
--
-- Commands that are none are counted over the whole connection, NOOPs and RSETs in a
-- row, VRFY and EXPN over the whole connection. 0 is any number. A client that passes a
-- bound hears 521 (RFC 7504) and is disconnected. A mail server keeps a connection open
-- with some NOOPs now and then, which is far from the default.
--
-- Settings:
--   unrecognised  commands that are none (4)
--   noop          NOOPs in a row (20)
--   rset          RSETs without a message in between (20)
--   asking        VRFYs and EXPNs (5)
--   text          of the reply
--
-- Example:
--   [[policy]]
--   use  = "command_limits"
--   noop = 3

local limits = policy {
  about    = "Hangs up on clients that talk nonsense or do nothing.",
  settings = {
    unrecognised = integer (4)  : about "commands that are none",
    noop         = integer (20) : about "NOOPs in a row",
    rset         = integer (20) : about "RSETs without a message in between",
    asking       = integer (5)  : about "VRFYs and EXPNs",
    text         = string "You are wasting our time" : about "of the reply",
  },
}

local kinds = { NOOP = "noop", RSET = "rset", VRFY = "asking", EXPN = "asking", HELP = "", QUIT = "", ETRN = "" }

function limits.command(conn, line)
  local kind = kinds[line.verb] or "unrecognised"
  if kind ~= "noop" then conn.notes.limit_noop = 0 end
  if kind == "" then return end
  local note = "limit_" .. kind
  local n = (conn.notes[note] or 0) + 1
  conn.notes[note] = n
  if limits[kind] > 0 and n >= limits[kind] then
    conn:result("command_limits", { kind = kind })
    return reject { code = 521, enhanced = "5.5.1", text = limits.text, disconnect = true }
  end
end

function limits.helo(conn) conn.notes.limit_noop = 0 end
function limits.mail(tx) tx.conn.notes.limit_noop = 0 end
function limits.data(tx) tx.conn.notes.limit_rset = 0 end

return limits
