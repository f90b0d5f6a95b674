package config

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "250ms": 250 * time.Millisecond, "2s": 2 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute,
		"7d": 7 * day, "36d": 36 * day, "2w": 14 * day, "1w1d1h1m1s1ms": 8*day + time.Hour + time.Minute + time.Second + time.Millisecond,
		"90m": 90 * time.Minute, "106751d": 106751 * day,
	} {
		if got, err := ParseDuration(s); got != want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "s", "-5m", "+5m", "5 m", "1.5h", "5m5m", "5m1h", "5 parsecs", "5M", "1us", "106752d", "99999999999999999999s", "106751d24h", "5m ", "٣s"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v", s, got)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Microsecond: "0s", 2 * time.Second: "2s", 90 * time.Minute: "1h30m", 7 * day: "7d", 36*day + time.Millisecond: "36d1ms",
		-5 * time.Minute: "-5m", math.MinInt64: "-106751d23h47m16s854ms",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", int64(d), got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "512": 512, "512B": 512, "4KiB": 4096, "50MiB": 50 << 20, "50 MiB": 50 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40,
		"8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{
		"50M": "50MiB", "50mb": "50MiB", "4k": "4KiB", "1gib": "1GiB", "3t": "3TiB", "3b": "3B",
	} {
		_, err := ParseSize(s)
		if err == nil || err.Error() != "\""+s+"\" has no unit that is known; did you mean \""+want+"\"?" {
			t.Errorf("ParseSize(%q): %v, want the suggestion %s", s, err, want)
		}
	}
	for _, s := range []string{"", "B", "MiB", "-1", "1.5MiB", "50 elephants", "8388608TiB", "99999999999999999999", "1e3"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %v", s, got)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1: "1B", 1000: "1000B", 4096: "4KiB", 50 << 20: "50MiB", 1 << 40: "1TiB", 1536: "1536B", 3 << 29: "1536MiB"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]Rate{
		"5/s": {5, time.Second}, "5/sec": {5, time.Second}, "60/min": {60, time.Minute}, "60/m": {60, time.Minute},
		"1000/hour": {1000, time.Hour}, "1/h": {1, time.Hour}, "10000/day": {10000, day}, "1/d": {1, day},
	} {
		if got, err := ParseRate(s); got != want || err != nil {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "60", "60/", "/min", "0/min", "-1/min", "60/week", "60/10min", "4294967296/s"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("ParseRate(%q) = %v", s, got)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.0/8": "127.0.0.0/8", "127.0.0.1/8": "127.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "::1": "::1/128", "2001:db8::1/32": "2001:db8::/32",
		"::ffff:192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.0/120": "192.0.2.0/24", "0.0.0.0/0": "0.0.0.0/0", "::/0": "::/0",
	} {
		if got, err := ParsePrefix(s); err != nil || got != netip.MustParsePrefix(want) {
			t.Errorf("ParsePrefix(%q) = %v, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "127.0.0.0/99", "127.0.0/8", "localhost", "fe80::1%eth0", "::ffff:0.0.0.0/90", "1.2.3.4/", "1.2.3.4/-1"} {
		if got, err := ParsePrefix(s); err == nil {
			t.Errorf("ParsePrefix(%q) = %v", s, got)
		}
	}
}

func TestParseNextHop(t *testing.T) {
	for s, want := range map[string]NextHop{
		"mx": {Scheme: "mx"}, "local": {Scheme: "local"}, "discard": {Scheme: "discard"},
		"smtp://127.0.0.1:2526": {"smtp", "127.0.0.1", 2526, ""}, "smtp://mail.example": {"smtp", "mail.example", 25, ""},
		"smtp://[::1]:2525": {"smtp", "::1", 2525, ""}, "smtp://[::1]": {"smtp", "::1", 25, ""},
		"smtps://mail.example": {"smtps", "mail.example", 465, ""}, "smtps://mail.example:2465": {"smtps", "mail.example", 2465, ""},
		"lmtp://[::1]:24": {"lmtp", "::1", 24, ""}, "lmtp://127.0.0.1": {"lmtp", "127.0.0.1", 24, ""},
		"qmqp://x": {Scheme: "qmqp", Path: "x"}, "qmqp://192.0.2.1,192.0.2.2:6280,[::1]:628": {Scheme: "qmqp", Path: "192.0.2.1,192.0.2.2:6280,[::1]:628"},
		"lmtp:///run/dovecot/lmtp": {Scheme: "lmtp", Path: "/run/dovecot/lmtp"},
	} {
		if got, err := parseNextHop(s); got != want || err != nil {
			t.Errorf("parseNextHop(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "smtp:", "smtp://", "smtp:x", "smtp://:25", "smtp://x:", "smtp://x:0", "smtp://u@x", "smtp://[::1", "smtp://[127.0.0.1]", "smtp://[::1]25", "mx://x", "smtp://a b", "smtps://", "smtp:///run/x", "lmtp://", "lmtp:/run/x", "lmtp:///a\nb", "lmtp:///" + strings.Repeat("x", 107), "qmqp://", "qmqp://x,", "qmqp://a b", "qmqp://x:0", "qmqp:///run/x"} {
		if got, err := parseNextHop(s); err == nil {
			t.Errorf("parseNextHop(%q) = %v", s, got)
		}
	}
}

func TestParseMailboxAndPattern(t *testing.T) {
	for s, want := range map[string]string{"A.b@Example.NET": "A.b@example.net", `"a b"@x.example`: `"a b"@x.example`} {
		if got, err := parseMailbox(s); got != want || err != nil {
			t.Errorf("parseMailbox(%q) = %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "a", "@x", "a@", "a b@x", "a@x@y", "<a@x>", "a@x..y", "a\n@x", "a@[192.0.2.1]"} {
		if got, err := parseMailbox(s); err == nil {
			t.Errorf("parseMailbox(%q) = %q", s, got)
		}
	}
	for s, want := range map[string]string{"*": "*", "*.Example": "*.example", "X": "x", "_a.example": "_a.example", "bücher.Example": "xn--bcher-kva.example", "*.BÜCHER.example": "*.xn--bcher-kva.example", "xn--bcher-kva.example": "xn--bcher-kva.example"} {
		if got, err := parsePattern(s); got != want || err != nil {
			t.Errorf("parsePattern(%q) = %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"", "*.", "**", "a.*", "*a", "a.", ".a", "-a", "a-", "192.0.2.1", "ä\u200d.example", "ä_b.example", "a＠b.example", "\xff.example", "a b"} {
		if got, err := parsePattern(s); err == nil {
			t.Errorf("parsePattern(%q) = %q", s, got)
		}
	}
	for _, tc := range []struct {
		pattern, domain string
		want            bool
	}{{"*", "x", true}, {"x", "x", true}, {"x", "a.x", false}, {"*.x", "a.b.x", true}, {"*.x", "x", false}, {"*.x", "ax", false}} {
		if got := matches(tc.pattern, tc.domain); got != tc.want {
			t.Errorf("matches(%q, %q) = %v", tc.pattern, tc.domain, got)
		}
	}
}
