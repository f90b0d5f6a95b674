package lua

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/hooks"
)

// bombs are handlers that want all of the processor, or of the memory.
func bombs() map[string]string {
	return map[string]string{
		"loop":            `while true do end`,
		"loop in pcall":   `while true do pcall(function() while true do end end) end`,
		"pcall and pass":  `pcall(function() while true do end end) return accept()`,
		"xpcall":          `xpcall(function() while true do end end, function() return 1 end) return accept()`,
		"goto":            `::a:: goto a`,
		"repeat":          `repeat until false`,
		"rep":             `local s = ("x"):rep(1e9)`,
		"rep in pcall":    `pcall(string.rep, "x", 1e9) return accept()`,
		"rep negative":    `local s = ("xxxxxxxx"):rep(9e18)`,
		"pattern":         `local s = ("a"):rep(30000) s:find((".-"):rep(20) .. "b")`,
		"pattern star":    `local s = ("a"):rep(5000) s:match(("a*"):rep(30) .. "b")`,
		"unpack":          `unpack({}, 1, 1e7)`,
		"unpack range":    `unpack({}, -1e15, 1e15)`,
		"byte":            `local s = ("x"):rep(1e6) return s:byte(1, -1)`,
		"concat":          `local s = "x" for i = 1, 60 do s = s .. s end`,
		"table.concat":    `local t = {} local s = ("x"):rep(1e6) for i = 1, 1e5 do t[i] = s end table.concat(t)`,
		"gsub":            `local s = ("x"):rep(1e6) s:gsub("x", ("y"):rep(1e5))`,
		"gsub %0":         `local s = ("x"):rep(1e6) s:gsub(".+", ("%0"):rep(1e5))`,
		"gsub function":   `local s = ("x"):rep(1e6) local y = ("y"):rep(1e5) s:gsub("x", function() return y end)`,
		"format":          `local s = ("x"):rep(4e6) for i = 1, 1000 do string.format("%s%s", s, s) end`,
		"sparse":          `local t = {} for i = 1, 1e6 do local u = {} u[6e7] = 1 t[i] = u end`,
		"sparse new":      `local t = { [6e7] = 1 }`,
		"insert far":      `local t = {} table.insert(t, 6e7, 1)`,
		"table growth":    `local t = {} local i = 1 while true do t[i] = { i } i = i + 1 end`,
		"recursion":       `local function f() return 1 + f() end f()`,
		"pcall recursion": `local function f() pcall(f) end f() return accept()`,
		"sort":            `local t = {} for i = 1, 1e6 do t[i] = -i end for i = 1, 100 do table.sort(t, function(a, b) return a < b end) end`,
		"sort recursion":  `local function f(a, b) table.sort({3, 2, 1}, f) return a < b end f(1, 2)`,
		"error handler":   `local function h() error("again") end while true do pcall(xpcall, error, h) end`,
		"tail calls":      `local function f() return f() end f()`,
		"many texts":      `local t = {} for i = 1, 1e6 do t[i] = ("x"):rep(1e6) end`,
		"upper":           `local s = ("x"):rep(4e6) while true do s:upper() end`,
		"metatable loop":  `local t = setmetatable({}, { __index = function(t, k) return t[k .. "x"] end }) return t.a`,
		"json":            `while true do json.decode("[" .. ("1,"):rep(1e5) .. "1]") end`,
		"regex":           `regex.match("(a?){1000}(b?){1000}c", ("a"):rep(4e6))`,
		"notes":           `local t = {} for i = 1, 1e5 do t[i] = i end tx.notes.x = t while true do end`,
		"edits":           `for i = 1, 1e5 do tx:tag("x" .. i) end`,
		"gmatch":          `for x in (("a"):rep(30000)):gmatch((".-"):rep(20) .. "b") do end while true do end`,
		"format width":    `while true do string.format("%99d%99d%99d", 1, 2, 3) end`,
		"format of rep":   `local s = ("%s"):rep(2000) local x = ("x"):rep(1e4) local t = {} for i = 1, 2000 do t[i] = x end string.format(s, unpack(t))`,
		"json nested":     `while true do json.decode(("["):rep(1e5)) end`,
		"json encode":     `local t = {} for i = 1, 2e4 do t[i] = ("x"):rep(40) end while true do json.encode(t) end`,
		"hash":            `local s = ("x"):rep(4e6) while true do hash.sha512(s) end`,
		"base64":          `local s = ("x"):rep(3e6) while true do base64.decode(base64.encode(s)) end`,
		"time":            `while true do time.parse(time.format(0)) end`,
		"regex.gmatch":    `local s = ("x"):rep(1e6) while true do for m in regex.gmatch("x", s) do end end`,
		"regex.replace":   `regex.replace("x", ("x"):rep(1e4), ("y"):rep(1e4))`,
		"metatable chain": `local t = {} for i = 1, 1e6 do t = setmetatable({}, { __index = t }) end return t.x`,
		"tostring":        `local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) return tostring(t)`,
		"closures":        `local t = {} while true do t[#t + 1] = function() return t end end`,
		"parallel":        `while true do parallel { { store.incr, "bomb" }, { store.get, "bomb" } } end`,
		"store":           `local s = ("x"):rep(1e6) while true do store.put("bomb", s, "1m") end`,
		"error texts":     `while true do pcall(error, ("x"):rep(1e6)) end`,
	}
}

// laterBombs are those of members that belong to one stage, or reach out: the stage,
// a blank, and a name.
func laterBombs() map[string]string {
	return map[string]string{
		"message each_rcpt":        `return tx:each_rcpt(function() while true do end end)`,
		"message each_rcpt again":  `while true do tx:each_rcpt(function() return reject("x") end) end`,
		"message each_rcpt nested": `local function f() return tx:each_rcpt(f) end return f()`,
		"message body edits":       `while true do tx.body:replace(("x\r\n"):rep(1e6)) end`,
		"message body seen":        `while true do tx.body:replace("x") local n = tx.mime.count end`,
		"message footers":          `while true do tx.body:footer{ text = ("x"):rep(1000) } local n = tx.body.size end`,
		"message body match":       `while true do tx.body:match("(a?){100}b") end`,
		"message body contains":    `while true do tx.body:contains("not there", "nor this") end`,
		"message body read":        `while true do tx.body:read(1, 2^20) end`,
		"message mime":             `while true do for p in tx.mime:parts() do p:hash() p:text() p:header("subject") end end`,
		"message mime text":        `while true do tx.mime:text(2^22) end`,
		"message urls":             `while true do tx.mime:urls() end`,
		"message header values":    `local x = ("x"):rep(900) while true do tx.headers:append("X", x) end`,
		"message large headers":    `local x = ("x "):rep(2e6) while true do tx.headers:append("X", x) end`,
		"message header copies":    `local x = ("x "):rep(2e6) while true do rcpt = tx.recipients[1] rcpt.headers:append("X", x) end`,
		"message headers read":     `while true do for name, value in tx.headers:each() do end tx.headers:all("Subject") end`,
		"message recipients":       `local i = 0 while true do i = i + 1 tx.recipients:add("a" .. i .. "@example.net") local n = #tx.recipients end`,
		"message notes":            `local t = {} for i = 1, 9000 do t[i] = ("x"):rep(50) end while true do tx.notes.x = t local n = tx.notes.x end`,
		"message many notes":       `local x = ("x"):rep(2e5) local i = 0 while true do i = i + 1 tx.notes["n" .. i] = x end`,
		"message results":          `local t = {} for i = 1, 9000 do t["k" .. i] = i end while true do tx:result("r", t) end`,
		"message scores":           `local why = ("x"):rep(1e6) while true do tx:score("s", 1, why) end`,
		"message tags":             `local x = ("x"):rep(1e6) local i = 0 while true do i = i + 1 tx:tag(x .. i) end`,
		"message mime.parse":       `local s = ("Content-Type: message/rfc822\r\n\r\n"):rep(1e4) while true do mime.parse(s) end`,
		"message mime.decode":      `local s = ("=?utf-8?q?x?= "):rep(1e5) while true do mime.decode(s) end`,
		"message mime.encode":      `local s = ("ü "):rep(1e5) while true do mime.encode(s) end`,
		"helo capabilities":        `local i = 0 while true do i = i + 1 conn.capabilities:add("X" .. i) local list = conn.capabilities:list() end`,
		"helo capability":          `local s = ("x"):rep(4e6) while true do conn.capabilities:get(s) end`,
		"route plan":               `while true do try.next_hop = "smtp://mx.example.net" try.source = "192.0.2.1" try.retry = "1m" end`,
		"rcpt lookup.ip":           `while true do lookup.ip("partners", "2001:db8::1") end`,
		"rcpt lookup.get":          `while true do lookup.get("partners", ("x"):rep(1e6)) end`,
		"rcpt lookup.address":      `local a = "a@" .. ("x."):rep(100) .. "example" while true do lookup.address("partners", a) end`,
		"rcpt lookup.user":         `while true do lookup.user(rcpt, "none") end`,
		"rcpt http":                `while true do http.get("http://api.example.net/words") end`,
		"rcpt http bodies":         `local s = ("x"):rep(1e6) while true do http.post("http://api.example.net/echo", s) end`,
		"rcpt tcp":                 `while true do local c = tcp.connect("spamd.example.net:783") if c then c:close() end end`,
		"rcpt tcp many":            `local t = {} for i = 1, 1e6 do t[i] = tcp.connect("spamd.example.net:783") end while true do end`,
		"rcpt dns":                 `while true do dns.a("mx.example.org") dns.txt("t.example") end`,
		"rcpt dns names":           `local s = ("x"):rep(1e6) while true do dns.a(s) end`,
		"rcpt dnsbl":               `local zones = {} for i = 1, 64 do zones[i] = "bl" .. i .. ".example" end while true do dns.dnsbl("192.0.2.1", zones) end`,
		"rcpt store keys":          `local i = 0 while true do i = i + 1 store.put({ "bomb", i }, i, "1s") end`,
		"rcpt store long keys":     `local s = ("x"):rep(1e6) while true do store.get(s) end`,
		"rcpt store parts":         `local t = {} for i = 1, 1e5 do t[i] = i end while true do store.get(t) end`,
		"rcpt store tables":        `local t = {} for i = 1, 9000 do t[i] = i end while true do store.put("bomb", t, "1s") end`,
		"rcpt addr":                `local s = ("a"):rep(1e6) .. "@example.org" while true do addr.parse(s) end`,
		"rcpt addr.verp":           `while true do addr.verp("list@example.net", "a@example.org") end`,
		"rcpt ip.set":              `local t = {} for i = 1, 2e4 do t[i] = "192.0.2.0/24" end while true do ip.set(t):match("192.0.2.1") end`,
		"rcpt ip.match":            `local t = {} for i = 1, 2e4 do t[i] = "198.51.100.0/24" end while true do ip.match("192.0.2.1", t) end`,
		"rcpt regex.compile":       `local i = 0 while true do i = i + 1 regex.compile("(x{100}){10}" .. i) end`,
		"rcpt regexes":             `local i = 0 while true do i = i + 1 regex.match("x{900}" .. i, "x") end`,
		"rcpt metric":              `local i = 0 while true do i = i + 1 metric.counter("n", { l = i }) end`,
		"rcpt geoip":               `while true do geoip.lookup("192.0.2.1") end`,
		"rcpt log":                 `local s = ("x"):rep(1e6) while true do log.info(s) end`,
		"rcpt reject texts":        `local s = ("x"):rep(1e6) while true do reject("%s", s) end`,
		"rcpt parallel":            `local t = {} for i = 1, 64 do t[i] = { lookup.get, "partners", "x" } end while true do parallel(t) end`,
		"rcpt time zones":          `while true do time.format(now(), "%c", "Europe/Berlin") end`,
		"rcpt early":               `while true do tx.conn:early(0) end`,
	}
}

// bombed is a policy with a bomb in it, and what asks it.
func bombed(t *testing.T, name, source string, o Options) func() error {
	t.Helper()
	word, _, _ := strings.Cut(name, " ")
	at, ok := hooks.ParseStage(word)
	if !ok {
		t.Fatalf("no stage in %q", name)
	}
	parameters := "tx, rcpt, try"
	if at.Row().Scope == hooks.OfConnection {
		parameters = "conn"
	}
	p := load(t, o, fmt.Sprintf("local p = policy {}\nfunction p.%s(%s)\n%s\nend\nreturn p", at, parameters, source), nil)
	return func() error {
		tx := exampleTransaction(at)
		if at == hooks.Message {
			mail := "Subject: =?utf-8?q?x?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("see http://example.org/a and more words of no use\r\n", 15_000) + "--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU2Nzg5\r\n", 8_000) + "--b--\r\n"
			with := withMail(mail)
			tx.Header, tx.Body, tx.Size, tx.Current = with.Header, with.Body, with.Size, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), hooks.DefaultTimeout)
		defer cancel()
		_, err := p.Handle(ctx, at, tx)
		return err
	}
}

// TestLaterBombs: each of them ends by a bound of its own, long before the
// policy's timeout, the heap stays bounded, and another policy is served meanwhile.
func TestLaterBombs(t *testing.T) {
	for name, source := range laterBombs() {
		t.Run(name, func(t *testing.T) {
			o := exampleOptions(t)
			o.Pool = NewPool(32)
			call := bombed(t, name, source, o)
			other := load(t, o, greylist, nil)
			before, peak, served := heap(), uint64(0), 0
			var running atomic.Int32
			var calls sync.WaitGroup
			for range 2 {
				running.Add(1)
				calls.Go(func() {
					defer running.Add(-1)
					err := call()
					if err == nil || errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("it ended with: %v", err)
					}
				})
			}
			for running.Load() > 0 || served == 0 {
				if d, err := other.Handle(context.Background(), hooks.Rcpt, at1(testTransaction())); err != nil || d.Verb != hooks.Defer {
					t.Errorf("the other policy: %v, %v", d, err)
					break
				}
				served++
				peak = max(peak, heap())
			}
			calls.Wait()
			if peak > before+maxHeap {
				t.Errorf("the heap grew by %d MiB", (peak-before)>>20)
			}
			t.Logf("%d calls of the other policy, %d MiB", served, (max(peak, before)-before)>>20)
		})
	}
}

// TestBombs: each ends soon with a limit's error, which pcall does not catch.
func TestBombs(t *testing.T) {
	for name, source := range bombs() {
		t.Run(name, func(t *testing.T) {
			_, err := body(t, hooks.Rcpt, source)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), "test.lua:") {
				t.Errorf("no file and line: %v", err)
			}
		})
	}
}

// heap is how many bytes the heap's objects have now.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// maxHeap is what four bombs at a time may add to the heap: what one call may make
// in texts is 64 MiB, and tables grow for as long as the call's time lasts.
const maxHeap = 512 << 20

// TestBombsHurtNobodyElse: while bombs run, another policy that shares their pool
// is served, and the memory of the process stays bounded.
func TestBombsHurtNobodyElse(t *testing.T) {
	for name, source := range bombs() {
		t.Run(name, func(t *testing.T) {
			o, _ := testOptions(t)
			o.Pool = NewPool(32)
			bomb := load(t, o, "local p = policy {}\nfunction p.rcpt(tx, rcpt)\n"+source+"\nend\nreturn p", nil)
			other := load(t, o, greylist, nil)
			before, most, served := heap(), uint64(0), 0
			var running atomic.Int32
			var calls sync.WaitGroup
			for range 4 {
				running.Add(1)
				calls.Go(func() {
					defer running.Add(-1)
					if _, err := bomb.Handle(context.Background(), hooks.Rcpt, at1(testTransaction())); err == nil {
						t.Error("no error")
					}
				})
			}
			for running.Load() > 0 || served == 0 {
				if d, err := other.Handle(context.Background(), hooks.Rcpt, at1(testTransaction())); err != nil || d.Verb != hooks.Defer {
					t.Errorf("the other policy: %v, %v", d, err)
					break
				}
				served++
				most = max(most, heap())
			}
			calls.Wait()
			if most > before+maxHeap {
				t.Errorf("the heap grew by %d MiB", (most-before)>>20)
			}
			t.Logf("%d calls of the other policy, %d MiB", served, (max(most, before)-before)>>20)
		})
	}
}

// TestWhatScriptsLack: what could step out of the bounds is not there.
func TestWhatScriptsLack(t *testing.T) {
	for _, name := range []string{
		"rawset", "rawget", "setfenv", "getfenv", "newproxy", "load", "loadstring", "loadfile", "dofile", "module", "collectgarbage", "coroutine", "channel",
		"os", "io", "package", "_printregs",
	} {
		if _, err := body(t, hooks.Rcpt, "if "+name+" ~= nil then error('there') end"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFiveHundredWaits: 500 calls that wait for five seconds, of however many
// policies, do not hold up another one, and all are answered.
func TestFiveHundredWaits(t *testing.T) {
	for _, policies := range []int{1, 4, 20, 500} {
		t.Run(fmt.Sprint(policies), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, _ := testOptions(t)
				o.Pool = NewPool(0)
				script, problems := Compile("slow.lua", []byte("local p = policy {}\nfunction p.connect(conn) conn:early('5s') return accept() end\nreturn p"), o)
				if Failed(problems) {
					t.Fatal(problems)
				}
				slow := make([]*Policy, policies)
				for i := range slow {
					slow[i], _ = script.Instance(nil)
					defer slow[i].Close()
				}
				other := load(t, o, greylist, nil)
				began := time.Now()
				var answered atomic.Int32
				var calls sync.WaitGroup
				for i := range 500 {
					tx := testTransaction()
					tx.Session.Early = func(_ context.Context, wait time.Duration) bool {
						time.Sleep(wait)
						return false
					}
					calls.Go(func() {
						if d, err := slow[i%policies].Handle(context.Background(), hooks.Connect, tx); err == nil && d.Verb == hooks.Accept {
							answered.Add(1)
						}
					})
				}
				synctest.Wait()
				// A policy's first state is its own: it may wait on top of the three quarters.
				if policies <= 20 && o.Pool.asleep > 384+policies {
					t.Errorf("%d states wait: no quarter is left", o.Pool.asleep)
				}
				if o.Pool.States() > DefaultStates {
					t.Errorf("%d states", o.Pool.States())
				}
				for range 50 {
					calls.Go(func() {
						if d, err := other.Handle(context.Background(), hooks.Rcpt, at1(testTransaction())); err != nil || d.Verb != hooks.Defer {
							t.Errorf("the other policy: %v, %v", d, err)
						}
						if waited := time.Since(began); waited > 0 {
							t.Errorf("the other policy waited for %s", waited)
						}
					})
				}
				calls.Wait()
				if answered.Load() != 500 {
					t.Errorf("%d of 500 calls were answered", answered.Load())
				}
			})
		})
	}
}
