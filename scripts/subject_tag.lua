-- subject_tag: marks messages by their points: in the subject, in a field, or both.
--
-- At QUEUE, when all points are known, those of score rules too. A mark that is there
-- already is not put twice, and fields of these names that came in are removed. Mail of
-- relaying and authenticated clients is left alone.
--
-- Settings:
--   from    points from which a message is marked (5)
--   mark    what is put in front of the subject; empty: nothing ([SPAM])
--   flag    a field that is set to YES; empty: none (X-Spam-Flag)
--   status  a field with the points, of every message; empty: none (X-Spam-Status)
--   level   a field with a star for each point; empty: none (none)
--
-- Example:
--   [[policy]]
--   use  = "subject_tag"
--   from = 4
--   mark = "*** JUNK ***"

local tag = policy {
  about    = "Marks messages by their points.",
  immune   = { "relaying", "authenticated" },
  settings = {
    from   = number (5) : about "points from which a message is marked",
    mark   = string "[SPAM]" : about "what is put in front of the subject; empty: nothing",
    flag   = string "X-Spam-Flag" : about "a field that is set to YES; empty: none",
    status = string "X-Spam-Status" : about "a field with the points, of every message; empty: none",
    level  = string "" : about "a field with a star for each point; empty: none",
  },
}

local function set(tx, name, value)
  if name == "" then return end
  tx.headers:remove(name)
  if value then tx.headers:prepend(name, value) end
end

function tag.queue(tx)
  local marked = tx.total >= tag.from
  set(tx, tag.flag, marked and "YES")
  set(tx, tag.status, ("%s, score=%.1f required=%.1f"):format(marked and "Yes" or "No", tx.total, tag.from))
  set(tx, tag.level, tx.total >= 1 and ("*"):rep(math.min(50, math.floor(tx.total))))
  if not marked or tag.mark == "" then return end
  local subject = tx.headers:get("Subject") or ""
  if not subject:find(tag.mark, 1, true) then tx.headers:replace("Subject", tag.mark .. " " .. subject) end
end

return tag
