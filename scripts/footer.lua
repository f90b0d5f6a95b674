-- footer: puts a text under the mail that our users send, or under all mail.
--
-- At MESSAGE the text goes to the end of what a reader shows: of each text of a
-- multipart/alternative, in the part's own charset and encoding. Mail that is signed or
-- encrypted (S/MIME, PGP) is left as it is, and so are bounces and mail that has the
-- text already, as answers have. DKIM signatures of ours come after it; those of others
-- break, so that by default only our users' mail gets it.
--
-- Settings:
--   plain    the text; {sender} and {domain} are filled in
--   html     the same as HTML; unset: made of the text
--   to       "outgoing": mail of our users; "all" (outgoing)
--   foreign  only where a recipient is not ours (false)
--   exempt   senders that get none, in the forms of badmailfrom
--
-- Example:
--   [[policy]]
--   use   = "footer"
--   plain = "Example Ltd, 1 Example Street, Exampleton"

local addresses = require "addresses"

local footer = policy {
  about    = "Puts a text under the mail that our users send.",
  settings = {
    plain   = string "" : about "the text; {sender} and {domain} are filled in",
    html    = string "" : about "the same as HTML; unset: made of the text",
    to      = enum { "outgoing", "all" } "outgoing" : about "whose mail gets it",
    foreign = boolean (false) : about "only where a recipient is not ours",
    exempt  = list(string) {} : about "senders that get none, in the forms of badmailfrom",
  },
}

local exempt = addresses.read(footer, "exempt")

local function escaped(text)
  return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }):gsub("\n", "<br>"))
end

local function leaves(tx)
  for _, rcpt in ipairs(tx.recipients) do
    if not rcpt.ours then return true end
  end
end

function footer.message(tx)
  local ours = tx.conn.relaying or tx.conn.authenticated
  if footer.plain == "" or tx.sender.null or exempt:find(tx.sender) or footer.to == "outgoing" and not ours then return end
  if footer.foreign and not leaves(tx) then return end
  local values = { sender = tostring(tx.sender), domain = tx.sender.domain }
  local text = footer.plain:gsub("{(%w+)}", values)
  local first = text:match("^[^\n]*")
  if (tx.mime:text() or ""):find(first, 1, true) then return end
  local html = footer.html ~= "" and footer.html:gsub("{(%w+)}", values) or "<p>" .. escaped(text) .. "</p>"
  tx.body:footer { text = text, html = html }
end

return footer
