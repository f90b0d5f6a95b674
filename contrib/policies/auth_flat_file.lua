-- auth_flat_file: users and their passwords in a file; qpsmtpd's and Haraka's of that
-- name. Lines of user:password. Better is [[auth]], whose file holds hashes: this is
-- for a file that is there already.
--
--   [[policy]]
--   use  = "contrib/policies/auth_flat_file.lua"
--   file = "flat_auth_pw"

local auth_flat_file = policy {
  about    = "Knows users and passwords from a file.",
  settings = { file = file "" : about "lines of user:password" },
}

local passwords = {}

for _, line in ipairs(auth_flat_file.file and auth_flat_file.file.lines or {}) do
  local user, password = line:match("^([^:]+):(.*)$")
  if user then passwords[user:lower()] = password end
end

function auth_flat_file.auth(_, login)
  local right = passwords[login.user:lower()]
  if right and login.password and hash.equal(right, login.password) then return accept { user = login.user:lower() } end
end

return auth_flat_file
