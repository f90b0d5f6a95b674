-- attachment: refuses attachments by name and type, inside archives, too.
--
-- At MESSAGE every part is looked at, those of forwarded messages and uuencoded files as
-- well, by every name that a reader might show; then what is in archives (zip, tar,
-- gzip, bzip2, and archives in those; of RAR and 7z the names), without unpacking it,
-- within bounds. The default extensions are those of programs that run by a click. What can't be looked into is
-- only noted unless you ask for more. The result `attachment` has `names` and `hashes`
-- (SHA-256) of up to 20 attachments, `archives`, how many there were, and `found`, what
-- was refused.
--
-- Settings:
--   extensions  extensions that are refused, without dot
--   names       expressions for whole file names that are refused (none)
--   types       expressions for media types that are refused (none)
--   archives    look into archives (true)
--   encrypted   what follows an archive with a password: "pass", "score", "defer" or "reject" (pass)
--   unreadable  what follows an archive that can't be read: broken, too deep, too large, or
--               of a format such as cab (pass)
--   macros      what follows an office document with macros (pass)
--   depth       archives inside archives that are looked into (5)
--   entries     files in one attachment that are looked at (1000)
--   unpacked    how much is unpacked to look into one attachment (64MiB)
--   points      where the choice is "score" (3)
--   text        of the reply; {name} is filled in
--
-- Example:
--   [[policy]]
--   use       = "attachment"
--   encrypted = "score"
--   names     = ["^invoice.*\\.html?$"]

local action = enum { "pass", "score", "defer", "reject" }

local faults = require "faults"

local attachment = policy {
  about    = "Refuses attachments by name and type, inside archives, too.",
  settings = {
    extensions = list(string) {
      "bat", "chm", "cmd", "com", "cpl", "dll", "exe", "hta", "jar", "js", "jse", "lnk", "msi", "pif", "ps1", "reg", "scr", "vb", "vbe", "vbs", "wsf", "wsh",
    } : about "extensions that are refused",
    names      = list(string) {} : about "expressions for whole file names that are refused",
    types      = list(string) {} : about "expressions for media types that are refused",
    archives   = boolean (true) : about "look into archives",
    encrypted  = action "pass" : about "what follows an archive with a password",
    unreadable = action "pass" : about "what follows an archive that can't be read",
    macros     = action "pass" : about "what follows an office document with macros",
    depth      = integer (5) : about "archives inside archives that are looked into",
    entries    = integer (1000) : about "files in one attachment that are looked at",
    unpacked   = size "64MiB" : about "how much is unpacked to look into one attachment",
    points     = number (3) : about "where the choice is score",
    text       = string "We take no files such as {name}" : about "of the reply; {name} is filled in",
  },
}

local extensions, names, types = {}, {}, {}
for _, one in ipairs(attachment.extensions) do extensions[one:lower():gsub("^%.", "")] = true end
local wrong = faults.new()
for setting, into in pairs { names = names, types = types } do
  for n, text in ipairs(attachment[setting]) do
    local re, err = regex.compile("(?i)" .. text)
    if not re then wrong:add(setting, n, "%q: %s", text, err.text) end
    table.insert(into, re)
  end
end
wrong:raise()

local function matches(list, text)
  for _, re in ipairs(list) do
    if re:match(text) then return true end
  end
end

-- refused tells whether a file name is one that we don't take.
local function refused(name)
  local plain = name:gsub("[%s.]+$", "")
  local extension = plain:match("%.([^./\\]+)$")
  return extension and extensions[extension:lower()] or matches(names, plain)
end

local function refuse(tx, name, notes)
  notes.found = name
  tx:result("attachment", notes)
  local text = attachment.text:gsub("{(%w+)}", { name = (name:gsub("^.*[/\\]", "")) })
  return reject("5.7.1", "%s", text)
end

-- follow does what follows where something is wrong with an archive.
local function follow(tx, what, name)
  local follows = attachment[what]
  local says = { encrypted = "%s has a password", unreadable = "%s can't be looked into", macros = "%s has macros" }
  if follows == "score" then tx:score("attachment." .. what, attachment.points, name) end
  if follows == "defer" then return defer("4.7.1", says[what], name) end
  if follows == "reject" then return reject("5.7.1", says[what], name) end
end

local function judge_archive(tx, part, notes)
  local bounds = { depth = attachment.depth, entries = attachment.entries, size = attachment.unpacked }
  local found, err = part:archive(bounds)
  if not found then
    assert(err.kind == "none", err.text)
    return
  end
  notes.archives = notes.archives + 1
  local name = part.name or "an attachment"
  local macros = false
  for _, entry in ipairs(found.entries) do
    if refused(entry.name) then return refuse(tx, entry.name, notes) end
    macros = macros or entry.name:lower():find("vbaproject%.bin$") ~= nil
  end
  local decision = found.encrypted and follow(tx, "encrypted", name)
  if found.fault or found.truncated or #found.unread > 0 then decision = decision or follow(tx, "unreadable", name) end
  if macros then decision = decision or follow(tx, "macros", name) end
  return decision
end

function attachment.message(tx)
  local notes = { names = {}, hashes = {}, archives = 0 }
  local later -- a refusal for what can't be looked into; a name that is refused goes first
  for part in tx.mime:parts() do
    local message = part.type == "message/rfc822" or part.type == "message/global" -- what is in it is a part, too
    if not part.multipart and not message then
      for _, name in ipairs(part.names) do
        if refused(name) then return refuse(tx, name, notes) end
      end
      if matches(types, part.type) then return refuse(tx, part.name or part.type, notes) end
      if part.attachment then
        if #notes.names < 20 then
          table.insert(notes.names, part.name or "")
          table.insert(notes.hashes, (part:hash "sha256"))
        end
        local decision = attachment.archives and judge_archive(tx, part, notes)
        if notes.found then return decision end
        later = later or decision
      end
    end
  end
  if #notes.names > 0 then tx:result("attachment", notes) end
  return later or nil
end

return attachment
