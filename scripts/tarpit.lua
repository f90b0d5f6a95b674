-- tarpit: lets clients wait that have points against them.
--
-- At RCPT, DATA and at the end of the message a client whose points reach `from` waits
-- `delay` for each point, at most `most`. Much malware gives up; mail servers wait for
-- minutes. A connection that waits costs memory and no processor time; of clients beyond
-- a fourth of the pool's states nobody waits. Score rules count at the end only: what is
-- known before are the points that policies gave.
--
-- Settings:
--   from   points from which a client waits (3)
--   delay  for each point (1s)
--   most   of one wait (10s)
--   every_refusal  wait this long before each refusal, too; 0: not (0s)
--
-- Example:
--   [[policy]]
--   use   = "tarpit"
--   delay = "2s"

local tarpit = policy {
  about      = "Lets clients wait that have points against them.",
  on_failure = "pass",
  immune     = { "relaying", "authenticated" },
  timeout    = "60s",
  settings   = {
    from  = number (3) : about "points from which a client waits",
    delay = duration "1s" : about "for each point",
    most  = duration "10s" : about "of one wait",
    every_refusal = duration "0s" : about "wait this long before each refusal, too; 0: not",
  },
}

local function wait(tx)
  if tx.total < tarpit.from then return end
  local long = math.min(tarpit.most, tarpit.delay * tx.total)
  metric.counter("tarpitted")
  pause(long)
end

tarpit.rcpt, tarpit.data, tarpit.message = wait, wait, wait

function tarpit.deny()
  if tarpit.every_refusal > 0 then pause(math.min(tarpit.most, tarpit.every_refusal)) end
end

return tarpit
