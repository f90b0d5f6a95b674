-- record_envelope: writes sender and recipients of the envelope into the message.
--
-- At QUEUE each recipient's copy gets a field with that recipient, so that nobody sees
-- who else had the message (Bcc); the sender stands in another. Fields of these names
-- that came in are removed.
--
-- Settings:
--   from      field of the sender; empty: none (X-Envelope-From)
--   to        field of the recipient; empty: none (X-Envelope-To)
--   ours      only recipients of ours (true)
--
-- Example:
--   [[policy]]
--   use = "record_envelope"
--   to  = "X-Original-To"

local record = policy {
  about    = "Writes sender and recipients of the envelope into the message.",
  settings = {
    from = string "X-Envelope-From" : about "field of the sender; empty: none",
    to   = string "X-Envelope-To" : about "field of the recipient; empty: none",
    ours = boolean (true) : about "only recipients of ours",
  },
}

function record.queue(tx)
  if record.from ~= "" then
    tx.headers:remove(record.from)
    tx.headers:prepend(record.from, "<" .. tx.sender .. ">")
  end
  if record.to == "" then return end
  tx.headers:remove(record.to)
  for _, rcpt in ipairs(tx.recipients) do
    if rcpt.ours or not record.ours then rcpt.headers:prepend(record.to, "<" .. rcpt.address .. ">") end
  end
end

return record
