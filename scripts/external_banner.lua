-- external_banner: a line on top of mail that comes from outside.
--
-- At MESSAGE mail from strangers to recipients of ours gets a text on top of what a
-- reader shows, and a mark in its subject where `subject` is set. Signed and encrypted
-- mail keeps its body. Mail of correspondents that are known (the policy known_senders
-- in front) can be left alone, and so can senders and clients that you name. Whoever
-- verifies DKIM behind this gateway finds the signature broken: let them read our
-- Authentication-Results instead, and seal with `[arc]`.
--
-- Settings:
--   plain    the text
--   html     the same as HTML; unset: made of the text
--   subject  what is put in front of the subject, such as "[EXTERNAL] "; unset: nothing
--   header   a field that is set to "yes", such as "X-External"; unset: none
--   known    whether mail of known correspondents gets it, too (true)
--   trust    networks of clients that are not outside
--   exempt   senders that are left alone, in the forms of badmailfrom; SPF must pass
--
-- Example:
--   [[policy]]
--   use     = "external_banner"
--   subject = "[EXTERNAL] "

local addresses = require "addresses"

local banner = policy {
  about    = "Puts a line on top of mail that comes from outside.",
  immune   = { "relaying", "authenticated" },
  settings = {
    plain   = string "This message came from outside. Don't follow its links unless you know the sender." : about "the text",
    html    = string "" : about "the same as HTML; unset: made of the text",
    subject = string "" : about "what is put in front of the subject; unset: nothing",
    header  = string "" : about "a field that is set to yes; unset: none",
    known   = boolean (true) : about "whether mail of known correspondents gets it, too",
    trust   = cidrs {} : about "networks of clients that are not outside",
    exempt  = list(string) {} : about "senders that are left alone; SPF must pass",
  },
}

local exempt = addresses.read(banner, "exempt")

local function inside(tx)
  local spf = tx:results("spf")
  return banner.trust:match(tx.conn.ip) or tx.conn.ip.loopback
    or not banner.known and tx:results("known_senders") ~= nil
    or not tx.sender.null and spf and spf.pass and exempt:find(tx.sender) ~= nil
end

function banner.message(tx)
  if banner.header ~= "" then tx.headers:remove(banner.header) end
  if inside(tx) then return end
  if banner.header ~= "" then tx.headers:prepend(banner.header, "yes") end
  local subject = tx.headers:get("Subject") or ""
  if banner.subject ~= "" and not subject:find(banner.subject, 1, true) then tx.headers:replace("Subject", banner.subject .. subject) end
  if banner.plain == "" then return end
  local html = banner.html
  if html == "" then
    local text = banner.plain:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })
    html = '<div style="border:1px solid #c90;background:#fff8e0;padding:.5em">' .. text .. "</div>"
  end
  tx.body:footer { text = banner.plain .. "\n", html = html, top = true }
end

return banner
