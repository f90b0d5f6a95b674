-- count_unrecognized_commands: hangs up on clients that talk nonsense, web
-- browsers and worms among them; qpsmtpd's of that name.
--
--   [[policy]]
--   use  = "contrib/policies/count_unrecognized_commands.lua"
--   most = 4

local count_unrecognized_commands = policy {
  about    = "Hangs up after some commands that are none.",
  settings = { most = integer (4) : about "commands of that kind that are answered" },
}

local known = { VRFY = true, HELP = true, NOOP = true, RSET = true, QUIT = true, EXPN = true, ETRN = true }

function count_unrecognized_commands.command(conn, line)
  if known[line.verb] then return end
  local n = (conn.notes.unrecognized or 0) + 1
  conn.notes.unrecognized = n
  if n >= count_unrecognized_commands.most then
    return reject { code = 521, enhanced = "5.5.1", text = "Too many unrecognised commands", disconnect = true }
  end
end

return count_unrecognized_commands
