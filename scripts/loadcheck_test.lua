local function greeting(t, how)
  how = how or {}
  how.ip = how.ip or "198.51.100.7"
  return t:connect(how).greeting
end

test("while there is too much to do", function(t)
  local _, processors = host.load()
  t:policy("loadcheck", { most = 2 })
  t:load(1.5 * processors)
  expect(greeting(t)):accepts()
  t:load(2.5 * processors)
  expect(greeting(t)):defers("4.3.2", "Too much to do")
  expect(greeting(t, { relaying = true })):accepts()
  expect(greeting(t, { ip = "127.0.0.1" })):accepts()
  t:policy("loadcheck", { most = 0, ours = 1, text = "Later" })
  expect(greeting(t)):accepts()
  expect(greeting(t, { relaying = true })):defers("4.3.2", "^Later$")
  expect((pcall(t.policy, t, "loadcheck", { most = "high" }))):equals(false)
end)
