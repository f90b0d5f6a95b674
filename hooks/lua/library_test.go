package lua

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
)

func TestHash(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
eq(hash.sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
eq(#hash.sha512("abc", "raw"), 64) eq(hash.md5("abc", "base64"), "kAFQmDzST7DWlj99KOF/cg==")
-- RFC 2202, test case 2
eq(hash.hmac("md5", "Jefe", "what do ya want for nothing?"), "750c783e6ab0b503eaa86e310a5db738")
eq(hash.hmac("sha1", "Jefe", "what do ya want for nothing?"), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
-- RFC 4231, test case 2
eq(hash.hmac("sha256", "Jefe", "what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
eq(hash.equal("a", "a"), true) eq(hash.equal("a", "ab"), false) eq(hash.equal("", ""), true)
fails('no form "hxe"; did you mean "hex"', hash.sha1, "x", "hxe")
fails('no algorithm "sha265"; did you mean "sha256"', hash.hmac, "sha265", "k", "x")
fails("string expected", hash.sha1, {})
`); err != nil {
		t.Error(err)
	}
}

func TestBase64(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
for _, s in ipairs { "", "a", "ab", "abc", "\0\255\254", ("x"):rep(1000) } do
  eq(base64.decode(base64.encode(s)), s) eq(base64.decode(base64.encode(s, "url")), s)
end
eq(base64.decode("YQ"), "a") eq(base64.decode("YQ=="), "a") eq(base64.decode(" Y Q\r\n= ="), "a")
for _, s in ipairs { "Y", "YQ=a", "Y*==", "\0" } do local v, err = base64.decode(s) eq(v, nil, s) eq(err.kind, "bad") end
fails("only other form", base64.encode, "x", "mail")
`); err != nil {
		t.Error(err)
	}
}

func TestTime(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
local at = time.parse("Fri, 21 Nov 1997 09:55:06 -0600")
eq(at, 880127706) eq(time.parse("21 Nov 97 09:55:06 -0600"), at) eq(time.parse("1997-11-21T15:55:06Z"), at) eq(time.parse("Fri, 21 Nov 1997 09:55:06 -0600 (comment)"), at)
eq(time.parse("1997-11-21"), 880070400) eq(time.parse("1997-11-21T15:55:06.250Z"), at + 0.25)
for _, layout in ipairs { "rfc5322", "rfc3339" } do eq(time.parse(time.format(at, layout)), at) end
eq(time.format(at, "%Y-%m-%d %H:%M:%S %j %u %% %z"), "1997-11-21 15:55:06 325 5 % +0000")
eq(time.format(at, "%F %T %Z", "America/New_York"), "1997-11-21 10:55:06 EST")
eq(time.format(-1, "rfc3339"), "1969-12-31T23:59:59Z") eq(time.format(0.5, "%s"), "0")
local d = time.date(at, "Asia/Tokyo") eq(d.day, 22) eq(d.weekday, 6) eq(d.offset, 32400) eq(d.zone, "JST")
for _, zone in ipairs { "Nowhere/City", "../../etc/passwd", "/etc/localtime" } do
  local text, err = time.format(at, "rfc5322", zone) eq(text, nil) eq(err.kind, "bad")
end
for _, s in ipairs { "", "soon", "1997-13-01", ("x"):rep(1e5) } do local v, err = time.parse(s) eq(v, nil) eq(err.kind, "bad") end
fails("no %%Q in a layout", time.format, at, "%Q") fails("stands at the end", time.format, at, "x%") fails("is no layout", time.format, at, "short")
fails("years 1 and 9999", time.format, 1e300) fails("years 1 and 9999", time.format, 0/0)
`); err != nil {
		t.Error(err)
	}
}

// counted is what scripts counted.
type counted struct {
	mu   sync.Mutex
	list []string
	err  error
}

func (c *counted) Count(policy, name string, labels map[string]string, n float64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprint(policy, " ", name, labels, n))
	return c.err
}

func (c *counted) Observe(policy, name string, labels map[string]string, value float64) error {
	return c.Count(policy, name, labels, -value)
}

func TestMetric(t *testing.T) {
	o, _ := testOptions(t)
	c := &counted{}
	o.Library.Metrics = c
	if err := handle(t, o, `
eq(metric.counter("hits"), true) eq(metric.counter("hits", { list = "a\nb", n = 5, ours = rcpt.ours }, 2.5), true)
eq(metric.histogram("took", 0.25, { x = ("y"):rep(1000) }), true)
fails("letters, digits and _", metric.counter, "a-b") fails("letters, digits and _", metric.counter, ("x"):rep(61))
fails("only grows", metric.counter, "hits", {}, -1) fails("only grows", metric.counter, "hits", {}, 0/0) fails("finite", metric.histogram, "took", 1/0)
fails("and not policy", metric.counter, "hits", { policy = "x" }) fails("and not policy", metric.counter, "hits", { "x" }) fails("must be a text", metric.counter, "hits", { x = {} })
fails("at most 5 labels", metric.counter, "hits", { a = 1, b = 1, c = 1, d = 1, e = 1, f = 1 })
`); err != nil {
		t.Error(err)
	}
	want := "[test hitsmap[] 1 test hitsmap[list:a b n:5 ours:true] 2.5 test tookmap[x:" + strings.Repeat("y", 100) + "] -0.25]"
	if got := fmt.Sprint(c.list); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.err = errors.New("too many")
	if err := handle(t, o, `local ok, err = metric.counter("hits") eq(ok, nil) eq(err.kind, "bad") eq(err.text, "too many")`); err != nil {
		t.Error(err)
	}
	o.Library.Metrics = nil
	if err := handle(t, o, `eq(metric.counter("hits"), true)`); err != nil {
		t.Error(err)
	}
}

func TestGeoIP(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `local code, err = geoip.country(tx.conn.ip) eq(code, nil) eq(err.kind, "temporary")`); err != nil {
		t.Error(err)
	}
	o.Library.Places = examplePlaces{}
	if err := handle(t, o, `
eq(geoip.country("192.0.2.7"), "DE") local n, name = geoip.asn("192.0.2.7") eq(n, 64496) eq(name, "Example")
local r, err = geoip.lookup("2001:db8::1") eq(r, nil) eq(err.kind, "none")
local r, err = geoip.country("nonsense") eq(r, nil) eq(err.kind, "bad")
fails("an ip is expected", geoip.country, 5)
`); err != nil {
		t.Error(err)
	}
}

func TestVERP(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
for _, who in ipairs { "user@example.org", "a-b=c@sub.example.org", "x+y@example.org" } do
  for _, sep in ipairs { "-", "+", "=" } do
    local made = addr.verp("the-list@example.net", who, sep)
    eq(made.domain, "example.net") eq(tostring(addr.unverp(made, "the-list@example.net", sep)), who)
    eq(tostring(addr.unverp(addr.parse(tostring(made)), "the-list@EXAMPLE.net", sep)), who)
  end
end
for _, a in ipairs { "list@example.net", "list-@example.net", "list-x@example.net", "list-=x@example.net", "list-a=b@example.org", "other-a=b@example.net" } do
  local to, err = addr.unverp(a, "list@example.net") eq(to, nil, a) eq(err.kind, "none")
end
local to, err = addr.unverp("list-a=..@example.net", "list@example.net") eq(to, nil) eq(err.kind, "bad")
local made, err = addr.verp("", "a@b.example") eq(made, nil) eq(err.kind, "bad")
`); err != nil {
		t.Error(err)
	}
}

func TestHostAndPause(t *testing.T) {
	o, _ := testOptions(t)
	var waited []time.Duration
	o.Library.Pause = func(_ context.Context, d time.Duration) { waited = append(waited, d) }
	o.Library.Load = func() (float64, error) { return 7.5, nil }
	if err := handle(t, o, `
local load, cpus = host.load() eq(load, 7.5) eq(cpus >= 1, true)
pause("2s") pause(0) pause(3600) pause("500ms")
fails("is not a duration", pause, "soon")
`); err != nil {
		t.Error(err)
	}
	if want := []time.Duration{2 * time.Second, time.Minute, 500 * time.Millisecond}; !slices.Equal(waited, want) {
		t.Errorf("waited %v", waited)
	}
	o.Library.Load = func() (float64, error) { return 0, errors.New("no kernel") }
	if err := handle(t, o, `local load, err = host.load() eq(load, nil) eq(err.kind, "temporary")`); err != nil {
		t.Error(err)
	}
}

// TestPauseEnds: a policy's time-out ends a pause, and the real load is a number.
func TestPauseEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	holdOn(ctx, time.Hour)
	holdOn(t.Context(), time.Nanosecond)
	if load, err := loadAverage(); err != nil && !os.IsNotExist(err) || load < 0 {
		t.Error(load, err)
	}
}

func TestListedNames(t *testing.T) {
	o, _ := testOptions(t)
	zone := o.Library.DNS.(*dns.Zone)
	zone.A["a.example.dbl.example"], zone.A["b.example.dbl.example"] = []string{"127.0.0.2", "127.0.0.4"}, []string{"127.0.0.8"}
	zone.Fail["a.example.dead.example"] = dns.Timeout
	if err := handle(t, o, `
local list = dns.listed({ "a.example", "c.example", "b.example" }, { "dead.example", "dbl.example" })
eq(#list, 3) eq(list[1].name, "a.example") eq(list[1].answer, "127.0.0.2") eq(list[2].answer, "127.0.0.4") eq(list[3].name, "b.example") eq(list[3].zone, "dbl.example")
eq(#dns.listed("c.example", "dbl.example"), 0)
local none, err = dns.listed("a.example", "dead.example") eq(none, nil) eq(err.kind, "temporary")
fails("name 1 is a number", dns.listed, { 5 }, "dbl.example")
local many = {} for i = 1, 65 do many[i] = "x" .. i end
fails("at most 64 names", dns.listed, many, "dbl.example")
fails("at most 64 zones", dns.listed, "a.example", many)
local both = parallel { { dns.listed, "b.example", "dbl.example" } } eq(both[1][1].name, "b.example")
`); err != nil {
		t.Error(err)
	}
}

func TestArchiveOfPart(t *testing.T) {
	o, _ := testOptions(t)
	if err := handle(t, o, `
local gz = "Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=setup.exe.gz\r\n\r\nH4sIAAAAAAACA/N1AQA+pr91AgAAAA==\r\n"
local found = mime.parse(gz).root:archive()
eq(found.format, "gzip") eq(found.entries[1].name, "setup.exe") eq(found.entries[1].extension, "exe")
local broken = mime.parse(gz:gsub("H4sIAAAAAAACA/N1", "H4sIAAAAAAACA/N2")).root:archive{ size = 100, ratio = 5, entries = 3 }
eq(broken.format, "gzip")
local cab = mime.parse("\r\n" .. "MSCF....").root:archive() eq(cab.unread[1], "cab") eq(#cab.entries, 0)
local rar = mime.parse("\r\n" .. "Rar!\26\7\1\0").root:archive() eq(rar.format, "rar") eq(#rar.unread, 0)
local none, err = tx.mime.root:archive() eq(none, nil) eq(err.kind, "none")
fails("depth is a number", tx.mime.root.archive, tx.mime.root, { depth = 0 })
fails("no option", tx.mime.root.archive, tx.mime.root, { deep = 1 })
fails("options are a table", tx.mime.root.archive, tx.mime.root, 5)
`); err != nil {
		t.Error(err)
	}
}
