-- helo: refuses names in HELO and EHLO that no honest client gives.
--
-- Each test can be switched, the first that finds something counts; the first three hurt nobody who reads RFC 5321
-- section 4.1.4 and are on. Clients on the loopback address, relaying and
-- authenticated clients are left alone.
--
-- Settings:
--   syntax    find what is neither a host name nor an address literal (true)
--   ip        find an address without brackets (true)
--   ours      find our own name or address, and localhost (true)
--   names     further names of ours
--   fqdn      find a name without a dot (false)
--   literal   find an address literal of another address than the client's (false)
--   resolves  find a name that has neither an address nor an MX record (false)
--   named     find a name of another organization than the client's confirmed name (false)
--   dynamic   find a name that has the client's address in it (false)
--   changed   find another name than the client gave before (false)
--   belongs   domains whose names only clients have whose confirmed name is in one of some
--             domains, such as { "bigmail.example" = ["bigmail.example"] } (none)
--   action    what follows: "reject", "defer" or "score" (reject)
--   points    where the action is "score" (2)
--
-- Example:
--   [[policy]]
--   use   = "helo"
--   names = ["mx.example.net"]
--   fqdn  = true

local helo = policy {
  about    = "Refuses names in HELO and EHLO that no honest client gives.",
  immune   = { "relaying", "authenticated" },
  settings = {
    syntax   = boolean (true)  : about "find what is neither a host name nor an address literal",
    ip       = boolean (true)  : about "find an address without brackets",
    ours     = boolean (true)  : about "find our own name or address, and localhost",
    names    = domains {}      : about "further names of ours",
    fqdn     = boolean (false) : about "find a name without a dot",
    literal  = boolean (false) : about "find an address literal of another address than the client's",
    resolves = boolean (false) : about "find a name that has neither an address nor an MX record",
    named    = boolean (false) : about "find a name of another organization than the client's confirmed name",
    dynamic  = boolean (false) : about "find a name that has the client's address in it",
    changed  = boolean (false) : about "find another name than the client gave before",
    belongs  = map(list(string)) {} : about "domains whose names only clients of some confirmed names have",
    action   = enum { "reject", "defer", "score" } "reject" : about "what follows",
    points   = number (2) : about "where the action is score",
  },
}

-- address_of is the address in [192.0.2.1] or [IPv6:2001:db8::1], or nil.
local function address_of(name)
  local inner = name:match("^%[(.+)%]$")
  if not inner then return nil end
  local six = inner:match("^[Ii][Pp][Vv]6:(.+)$")
  local address = ip.parse(six or inner)
  if address and (address.version == 6) == (six ~= nil) then return address end
end

local function is_name(name)
  if name:find("[^%w._-]") or name:find("..", 1, true) then return false end
  return not name:find("^[.-]") and not name:find("%-$")
end

-- nowhere tells whether it is certain that a name has no address and no MX.
local function nowhere(name)
  local found, errs = parallel { { dns.a, name }, { dns.aaaa, name }, { dns.mx, name } }
  for i = 1, 3 do
    if found[i] or errs[i].kind == "temporary" then return false end
  end
  return true
end

-- dynamic tells whether an IPv4 address's last two numbers, or an IPv6 one's last two
-- groups, stand in a name.
local function dynamic(name, address)
  local c, d = tostring(address):match("(%x+)[.:](%x+)$")
  if not d or #c + #d < 3 then return false end
  local numbers = {}
  for n in name:gmatch("%x+") do numbers[n:gsub("^0+", "")] = true end
  if numbers[c] and numbers[d] then return true end
  return address.version == 4 and name:find(("%03d%03d"):format(c, d), 1, true) ~= nil
end

local function within(name, domain) return name == domain or name:sub(-#domain - 1) == "." .. domain end

-- impostor tells whether a name belongs to somebody whose clients have other names.
local function impostor(conn, name)
  for domain, list in pairs(helo.belongs) do
    if within(name, domain:lower()) then
      for _, own in ipairs(list) do
        if conn.host and within(conn.host:lower(), own:lower()) then return false end
      end
      return true
    end
  end
end

-- A judge gives the finding, the status and the text, or nothing.
local function judge_literal(conn, name)
  local address = address_of(name)
  if not address then
    if helo.syntax then return "syntax", "5.2", "HELO: %s is no address literal" end
  elseif helo.ours and address == conn.local_ip then
    return "ours", "7.1", "HELO: %s is our address, not yours"
  elseif helo.literal and address ~= conn.ip then
    return "literal", "7.1", "HELO: %s is not your address"
  end
end

local function judge_name(conn, name)
  if ip.parse(name) then
    if helo.ip then return "ip", "7.1", "HELO: write your host name, or the address in brackets: [%s]" end
    return
  end
  if helo.syntax and not is_name(name) then return "syntax", "5.2", "HELO: this is no host name; configure your server's name" end
  if helo.ours and (name == "localhost" or name == "localhost.localdomain" or addr.ours(name) or helo.names:match(name)) then
    return "ours", "7.1", "HELO: %s is not your name; configure your server's name"
  end
  if helo.fqdn and not name:find(".", 1, true) then return "fqdn", "5.2", "HELO: %s is not a fully qualified host name" end
  if impostor(conn, name) then return "belongs", "7.1", "HELO: %s is not your name" end
  if helo.dynamic and dynamic(name, conn.ip) then return "dynamic", "7.1", "HELO: %s is a name that anybody's address gets" end
  if helo.named and conn.host and addr.organization(name) ~= addr.organization(conn.host) then
    return "named", "7.1", "HELO: %s is not the name of your address"
  end
  if helo.resolves and nowhere(name) then return "resolves", "7.1", "HELO: the DNS does not know %s" end
end

function helo.helo(conn)
  local name = conn.helo
  if not name or conn.ip.loopback then return end
  local lower = name:lower():gsub("%.$", "")
  local judge = name:sub(1, 1) == "[" and judge_literal or judge_name
  local found, status, text = judge(conn, lower)
  if not found and helo.changed and conn.notes.helo and conn.notes.helo ~= lower then
    found, status, text = "changed", "7.1", "HELO: %s is another name than before"
  end
  conn.notes.helo = lower
  if not found then return end
  conn:result("helo", { found = found })
  if helo.action == "score" then
    conn:score("helo." .. found, helo.points, name)
  elseif helo.action == "defer" then
    return defer("4." .. status, text, lower)
  else
    return reject("5." .. status, text, lower)
  end
end

return helo
