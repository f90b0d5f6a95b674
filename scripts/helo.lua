-- helo: refuses names in HELO and EHLO that no honest client gives.
--
-- Each test can be switched; the first three hurt nobody who reads RFC 5321
-- section 4.1.4 and are on. Clients on the loopback address, relaying and
-- authenticated clients are left alone.
--
-- Settings:
--   syntax    refuse what is neither a host name nor an address literal (true)
--   ip        refuse an address without brackets (true)
--   ours      refuse our own name or address, and localhost (true)
--   names     further names of ours
--   fqdn      refuse a name without a dot (false)
--   literal   refuse an address literal of another address than the client's (false)
--   resolves  refuse a name that has neither an address nor an MX record (false)
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
    syntax   = boolean (true)  : about "refuse what is neither a host name nor an address literal",
    ip       = boolean (true)  : about "refuse an address without brackets",
    ours     = boolean (true)  : about "refuse our own name or address, and localhost",
    names    = domains {}      : about "further names of ours",
    fqdn     = boolean (false) : about "refuse a name without a dot",
    literal  = boolean (false) : about "refuse an address literal of another address than the client's",
    resolves = boolean (false) : about "refuse a name that has neither an address nor an MX record",
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
  for _, look in ipairs { dns.a, dns.aaaa, dns.mx } do
    local found, err = look(name)
    if found or err.kind == "temporary" then return false end
  end
  return true
end

local function judge_literal(conn, name)
  local address = address_of(name)
  if not address then
    return helo.syntax and reject("5.5.2", "HELO: %s is no address literal", name)
  end
  if helo.ours and address == conn.local_ip then
    return reject("5.7.1", "HELO: %s is our address, not yours", name)
  end
  if helo.literal and address ~= conn.ip then
    return reject("5.7.1", "HELO: %s is not your address", name)
  end
end

local function judge_name(name)
  local lower = name:lower():gsub("%.$", "")
  if ip.parse(lower) then
    return helo.ip and reject("5.7.1", "HELO: write your host name, or the address in brackets: [%s]", lower)
  end
  if helo.syntax and not is_name(lower) then
    return reject("5.5.2", "HELO: this is no host name; configure your server's name")
  end
  if helo.ours and (lower == "localhost" or lower == "localhost.localdomain" or addr.ours(lower) or helo.names:match(lower)) then
    return reject("5.7.1", "HELO: %s is not your name; configure your server's name", lower)
  end
  if helo.fqdn and not lower:find(".", 1, true) then
    return reject("5.5.2", "HELO: %s is not a fully qualified host name", lower)
  end
  if helo.resolves and nowhere(lower) then
    return reject("5.7.1", "HELO: the DNS does not know %s", lower)
  end
end

function helo.helo(conn)
  local name = conn.helo
  if not name or conn.ip.loopback then return end
  if name:sub(1, 1) == "[" then return judge_literal(conn, name) or nil end
  return judge_name(name) or nil
end

return helo
