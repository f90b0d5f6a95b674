package lua

import (
	"context"
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
