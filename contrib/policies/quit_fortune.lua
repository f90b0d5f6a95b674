-- quit_fortune: a good word on the way; qpsmtpd's of that name.
--
--   [[policy]]
--   use  = "contrib/policies/quit_fortune.lua"
--   file = "fortunes.txt"

local quit_fortune = policy {
  about    = "Says a good word to clients that leave.",
  settings = {
    words = list(string) { "Fare well" } : about "one of them is said",
    file  = file ""                      : about "a file with one a line",
  },
}

local words = quit_fortune.file and quit_fortune.file.lines or quit_fortune.words

function quit_fortune.command(_, line)
  if line.verb == "QUIT" and #words > 0 then return accept { text = words[math.random(#words)] } end
end

return quit_fortune
