-- content_signatures: refuses messages that hold a given text.
--
-- The whole message is searched as it came, header section included: a text is
-- found byte for byte, not where the message encodes it. The text of GTUBE, which
-- every spam filter refuses so that filters can be tried, is among them unless
-- it is switched off.
--
-- Settings:
--   gtube       refuse the test message GTUBE (true)
--   signatures  further texts
--   text        of the reply
--
-- Example:
--   [[policy]]
--   use        = "content_signatures"
--   signatures = ["http://malware.example/"]

local content_signatures = policy {
  about    = "Refuses messages that hold a given text, GTUBE by default.",
  settings = {
    gtube      = boolean (true)  : about "refuse the test message GTUBE",
    signatures = list(string) {} : about "further texts, as they stand in the message",
    text       = string "The content of this message is not accepted here" : about "of the reply",
  },
}

local gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

local function holds(tx, text)
  local found, err = tx.body:contains(text)
  assert(found ~= nil, err and err.text)
  return found
end

function content_signatures.message(tx)
  if content_signatures.gtube and holds(tx, gtube) then
    tx:result("content_signatures", { found = "GTUBE" })
    return reject("5.7.1", "%s (GTUBE)", content_signatures.text)
  end
  for i, signature in ipairs(content_signatures.signatures) do
    if signature ~= "" and holds(tx, signature) then
      tx:result("content_signatures", { found = "signature " .. i })
      return reject("5.7.1", "%s", content_signatures.text)
    end
  end
end

return content_signatures
