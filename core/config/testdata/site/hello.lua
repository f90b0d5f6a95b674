local hello = policy {
  about    = "Refuses a subject with one of our words.",
  settings = { words = list(string) {} : about "words to refuse" },
}

function hello.message(tx)
  local subject = (tx.headers:get("Subject") or ""):lower()
  for _, word in ipairs(hello.words) do
    if subject:find(word, 1, true) then return reject("5.7.1", "Refused: %s", word) end
  end
end

return hello
