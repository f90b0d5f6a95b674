-- prevent_credential_leaks: users don't send their own password away.
--
-- What a user who logged in gave as password is compared with the words of the messages
-- that the user sends on that connection: a message that holds both the user's name and
-- the password is refused. Only a keyed hash of the password is kept, for the connection;
-- mechanisms that do not tell it (SCRAM) leave nothing to compare. The first 256 KiB of
-- the text parts are looked at. AUTH is offered where a policy has its stage, so let
-- this one stand at listeners where users log in.
--
-- Settings:
--   shortest  passwords with fewer characters are not looked for (6)
--   text      of the reply
--
-- Example:
--   [[policy]]
--   use  = "prevent_credential_leaks"
--   when = { listener = ["submission"] }

local leaks = policy {
  about    = "Refuses messages in which users send their own password away.",
  settings = {
    shortest = integer (6) : about "passwords with fewer characters are not looked for",
    text     = string "This message holds your password; nobody who is entitled to it asks for it by mail" : about "of the reply",
  },
}

local function sign(conn, word) return hash.hmac("sha256", conn.id, word) end

function leaks.auth(conn, login)
  conn.notes.leaks = nil
  if not login.password or #login.password < leaks.shortest then return end
  conn.notes.leaks = { sign = sign(conn, login.password), length = #login.password, words = select(2, login.password:gsub("%s+", "")) + 1 }
end

-- has tells whether the password is among the words of a text: as it stands, or with
-- what people put around it.
local function has(conn, text, secret)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  for i = 1, #words - secret.words + 1 do
    local word = table.concat(words, " ", i, i + secret.words - 1)
    local forms = { word, word:gsub("^[\"'(<%[]+", ""):gsub("[\"').,;:!?>%]]+$", ""), word:match("[:=](.+)$") or "" }
    for _, form in ipairs { forms[1], forms[2], forms[#forms] } do
      if #form == secret.length and hash.equal(sign(conn, form), secret.sign) then return true end
    end
  end
end

function leaks.message(tx)
  local conn = tx.conn
  local secret = conn.notes.leaks
  if not conn.authenticated or not secret then return end
  local text = tx.mime:text(262144) or ""
  local name = conn.user:match("^[^@]+"):lower()
  if not text:lower():find(name, 1, true) then return end
  if has(conn, text, secret) then return reject("5.7.1", "%s", leaks.text) end
end

return leaks
