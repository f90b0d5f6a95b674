-- asn: whose network the client is in, for points, refusals and other policies.
--
-- The number and the name of the operator come from the databases of [geoip], or, with
-- `zones`, from the DNS, where services such as origin.asn.cymru.com answer for IPv4
-- and `zones6` for IPv6: all at once, the first that knows. At CONNECT the result `asn`
-- gets `number` and `name`; at MAIL follows what is to follow. What is not known changes
-- nothing, nor does a service that does not answer.
--
-- Settings:
--   points  points by number, such as { "64496" = 1 } (none)
--   reject  numbers of networks whose clients are refused (none)
--   zones   zones of the DNS that know operators of IPv4 addresses, if no database does (none)
--   zones6  the same of IPv6 addresses (none)
--   header  note number and name in a field X-ASN (false)
--
-- Example:
--   [[policy]]
--   use    = "asn"
--   zones  = ["origin.asn.cymru.com"]
--   zones6 = ["origin6.asn.cymru.com"]
--   points = { "64496" = 1 }

local asn = policy {
  about      = "Finds out whose network the client is in.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    points = map(number) {} : about "points by number",
    reject = list(integer) {} : about "numbers of networks whose clients are refused",
    zones  = list(string) {} : about "zones of the DNS that know operators of IPv4 addresses, if no database does",
    zones6 = list(string) {} : about "the same of IPv6 addresses",
    header = boolean (false) : about "note number and name in a field X-ASN",
  },
}

local refused = {}
for _, number in ipairs(asn.reject) do refused[number] = true end

-- reversed is an address as the DNS is asked about it: octets, or nibbles.
local function reversed(address)
  local parts = {}
  if address.version == 4 then
    for n in tostring(address):gmatch("%d+") do table.insert(parts, 1, n) end
    return table.concat(parts, ".")
  end
  local left, right = tostring(address):match("^(.-)::(.*)$")
  local function groups(text)
    local list = {}
    for group in (text or ""):gmatch("%x+") do table.insert(list, ("0"):rep(4 - #group) .. group) end
    return list
  end
  local head, tail = groups(left or tostring(address)), groups(right)
  local digits = table.concat(head) .. ("0000"):rep(8 - #head - #tail) .. table.concat(tail)
  for digit in digits:gmatch("%x") do table.insert(parts, 1, digit) end
  return table.concat(parts, ".")
end

-- from_dns asks all zones: the texts begin with the number, "64496 | 192.0.2.0/24 | …".
local function from_dns(address)
  local zones = address.version == 4 and asn.zones or asn.zones6
  local asked = {}
  for i, zone in ipairs(zones) do asked[i] = { dns.txt, reversed(address) .. "." .. zone } end
  local found = parallel(asked)
  for i = 1, #zones do
    local number = found[i] and found[i][1]:match("^%s*(%d+)")
    if number then return tonumber(number), "" end
  end
end

function asn.connect(conn)
  if conn.ip.private or conn.ip.loopback then return end
  local number, name = geoip.asn(conn.ip)
  if not number then number, name = from_dns(conn.ip) end
  if not number then return end
  conn:result("asn", { number = number, name = name })
  local points = asn.points[("%d"):format(number)]
  if points then conn:score("asn", points, ("%d %s"):format(number, name)) end
end

function asn.mail(tx)
  local it = tx:results("asn")
  if it and refused[it.number] then return reject("5.7.1", "We take no mail from your network (AS%d)", it.number) end
end

function asn.headers(tx)
  if not asn.header then return end
  local it = tx:results("asn")
  tx.headers:remove("X-ASN")
  if it then tx.headers:prepend("X-ASN", (("%d %s"):format(it.number, it.name):gsub("%s+$", ""))) end
end

return asn
