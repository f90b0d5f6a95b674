-- random_error: defers by chance, to see how clients bear it; qpsmtpd's of that name.
--
--   [[policy]]
--   use     = "contrib/policies/random_error.lua"
--   percent = 5

local random_error = policy {
  about    = "Defers a part of all commands.",
  settings = { percent = number (1) : about "of commands that are deferred" },
}

local function roll()
  if math.random() * 100 < random_error.percent then return defer("4.3.0", "An error by chance") end
end

for _, stage in ipairs { "connect", "helo", "mail", "rcpt", "data", "message" } do random_error[stage] = roll end

return random_error
