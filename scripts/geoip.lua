-- geoip: in which country the client is, for points, refusals and other policies.
--
-- The databases are those of [geoip]. At CONNECT the result `geoip` gets `country` (the
-- ISO code), `continent`, `city` and `distance` (km from `home`, where both are known)
-- of what the database says; at MAIL follows what is to follow, so that clients can log
-- in before. What is not known, and a database that can't be read, changes nothing.
--
-- Settings:
--   points    points by country, such as { XX = 1.5 } (none)
--   reject    countries whose clients are refused (none)
--   only      countries whose clients are not refused, all others are; empty: no such rule
--   home      where we are, "LATITUDE,LONGITUDE"; unset: no distance
--   too_far   distance in km beyond which far_points are given; 0: any (0)
--   far_points  points of a client that is too far (1)
--   exempt    networks that are not looked up
--   header    note country and network in a field X-GeoIP (false)
--
-- Example:
--   [[policy]]
--   use    = "geoip"
--   points = { XX = 1, YY = 2 }

local faults = require "faults"

local geo = policy {
  about      = "Finds out in which country the client is.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  settings   = {
    points  = map(number) {} : about "points by country",
    reject  = list(string) {} : about "countries whose clients are refused",
    only    = list(string) {} : about "countries whose clients are not refused, all others are; empty: no such rule",
    home    = string "" : about "where we are, LATITUDE,LONGITUDE; unset: no distance",
    too_far = number (0) : about "distance in km beyond which far_points are given; 0: any",
    far_points = number (1) : about "points of a client that is too far",
    exempt  = cidrs {} : about "networks that are not looked up",
    header  = boolean (false) : about "note country and network in a field X-GeoIP",
  },
}

local refused, welcome = {}, {}
local points, wrong = {}, faults.new()

local function country(setting, n, code)
  if not code:find("^%a%a$") then wrong:add(setting, n, "%q is no country; write its two letters, such as DE", code) end
  return code:upper()
end

for n, code in ipairs(geo.reject) do refused[country("reject", n, code)] = true end
for n, code in ipairs(geo.only) do welcome[country("only", n, code)] = true end
for code, value in pairs(geo.points) do points[country("points", nil, code)] = value end

local latitude, longitude = geo.home:match("^%s*(-?[%d.]+)%s*,%s*(-?[%d.]+)%s*$")
if geo.home ~= "" and not latitude then wrong:add("home", nil, "write LATITUDE,LONGITUDE, such as 52.5,13.4") end
wrong:raise()

-- distance is that on the globe, in km.
local function distance(there)
  if not latitude or type(there) ~= "table" or not there.latitude then return nil end
  local a, b = math.rad(tonumber(latitude)), math.rad(there.latitude)
  local angle = math.rad(there.longitude - tonumber(longitude))
  local cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(angle)
  return math.floor(6371 * math.acos(math.max(-1, math.min(1, cosine))) + 0.5)
end

function geo.connect(conn)
  if conn.ip.private or conn.ip.loopback or geo.exempt:match(conn.ip) then return end
  local record = geoip.lookup(conn.ip)
  local country = record and geoip.country(conn.ip)
  if not country then return end
  local far = distance(record.location)
  conn:result("geoip", {
    country = country, continent = record.continent and record.continent.code, distance = far,
    city = record.city and record.city.names and record.city.names.en,
  })
  if points[country] then conn:score("geoip." .. country, points[country], tostring(conn.ip)) end
  if far and geo.too_far > 0 and far > geo.too_far then conn:score("geoip.far", geo.far_points, far .. " km") end
end

function geo.mail(tx)
  local it = tx:results("geoip")
  if not it then return end
  if refused[it.country] or next(welcome) and not welcome[it.country] then
    return reject("5.7.1", "We take no mail from where you are (%s)", it.country)
  end
end

function geo.headers(tx)
  local it = tx:results("geoip")
  if not geo.header then return end
  tx.headers:remove("X-GeoIP")
  if it then tx.headers:prepend("X-GeoIP", it.country) end
end

return geo
