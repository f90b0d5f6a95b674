package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// splitAddress takes host:port apart; port is empty where none is written. IPv6 addresses stand in brackets.
func splitAddress(s string) (host, port string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, rest, closed := strings.Cut(inner, "]")
		a, err := netip.ParseAddr(host)
		port, hasPort := strings.CutPrefix(rest, ":")
		if !closed || err != nil || !a.Is6() || rest != "" && (!hasPort || port == "") {
			return "", "", fmt.Errorf(`%q is not an address and port; write something like "[::1]:25"`, s)
		}
		return host, port, nil
	}
	host, port, hasPort := strings.Cut(s, ":")
	switch {
	case strings.Contains(port, ":"):
		return "", "", fmt.Errorf(`%q has more than one colon; write an IPv6 address in brackets, such as "[::1]:25"`, s)
	case hasPort && port == "":
		return "", "", fmt.Errorf("%q ends in a colon; write a port behind it", s)
	}
	return host, port, nil
}

// parsePort reads a port number; 0 is legal where the system may choose.
func parsePort(s string, low uint64) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < low || s != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("port %q is not a number from %d to 65535; write the number", s, low)
	}
	return uint16(n), nil
}

// checkHost accepts an IP address or a domain name.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	_, err := parseDomain(host)
	return err
}

// parseListen accepts what a listener can be bound to.
func parseListen(s string) (string, error) {
	host, port, err := splitAddress(s)
	if err != nil {
		return "", err
	}
	if port == "" {
		return "", fmt.Errorf(`%q has no port; write something like "127.0.0.1:2525"`, s)
	}
	if _, err := parsePort(port, 0); err != nil {
		return "", err
	}
	if host != "" {
		err = checkHost(host)
	}
	return s, err
}

// listenAddress is host:port, unix:/path or systemd:NAME for a listener.
func listenAddress() kind[string] {
	any := scalar("address", `"127.0.0.1:2525"`, func(s string) (string, error) {
		switch {
		case strings.HasPrefix(s, "unix:"):
			return s, checkSocket(s[len("unix:"):])
		case strings.HasPrefix(s, "systemd:"):
			return s, checkPassed(s[len("systemd:"):])
		}
		return parseListen(s)
	})
	return reader(any.typ, func(v value) (string, bool) {
		s, ok := any.read(v)
		path, unix := strings.CutPrefix(s, "unix:")
		if !ok || !unix {
			return s, ok
		}
		if path = v.load.resolve(path); len(path) > maxSocketPath {
			v.fail("%s is %d bytes long, and a socket's path may have %d; write a shorter one", path, len(path), maxSocketPath)
			return "", false
		}
		return "unix:" + path, true
	})
}

func checkSocket(path string) error {
	if path == "" || path != oneLine(path) || strings.HasPrefix(path, "@") || strings.HasPrefix(path, "//") {
		return fmt.Errorf(`"unix:%s" names no file; write something like "unix:/run/postern/smtp.sock"`, path)
	}
	return nil
}

func checkPassed(name string) error {
	if name == "" || len(name) > 255 || name != oneLine(name) || strings.ContainsAny(name, ": ") {
		return fmt.Errorf(`"systemd:%s" names no socket; write the FileDescriptorName= of a .socket unit, such as "systemd:smtp"`, name)
	}
	return nil
}

// greeting is what may stand in a reply of one line.
func greeting() kind[string] {
	return scalar("string", `"no spam, please"`, func(s string) (string, error) {
		if len(s) > 200 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(s) != s {
			return "", fmt.Errorf("%q can't be sent in one line; write at most 200 printable ASCII characters, without blanks around them", s)
		}
		return s, nil
	})
}

// socketMode is a file's mode as chmod takes it.
func socketMode() kind[fs.FileMode] {
	return scalar("mode", `"0660"`, func(s string) (fs.FileMode, error) {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o777 || n&0o200 == 0 {
			return 0, fmt.Errorf(`%q is no mode that lets its owner write; write one such as "0660" or "0666"`, s)
		}
		return fs.FileMode(n), nil
	})
}

// signer is a domain, or a selector, that must not be empty; in lower case.
func signer(example string) kind[string] {
	return scalar("domain", example, func(s string) (string, error) {
		name, err := parseDomain(s)
		return strings.ToLower(name), err
	})
}

// senderCheck is how the sender of a client that has authenticated is judged.
func senderCheck() kind[SenderCheck] {
	words := `"off", "user" or "@file.txt"`
	plain := scalar(words, `"user"`, func(s string) (string, error) {
		file, isFile := strings.CutPrefix(s, "@")
		switch near := Suggest(s, []string{"off", "user"}); {
		case s == "off", s == "user", isFile && file != "" && s == oneLine(s):
			return s, nil
		case near != "":
			return "", fmt.Errorf("%q is unknown; did you mean %q? It takes %s", s, near, words)
		}
		return "", fmt.Errorf("%q is unknown; write %s", s, words)
	})
	return reader(plain.typ, func(v value) (SenderCheck, bool) {
		s, ok := plain.read(v)
		file, isFile := strings.CutPrefix(s, "@")
		if isFile {
			return SenderCheck{File: v.load.resolve(file)}, ok
		}
		return SenderCheck{User: s == "user"}, ok
	})
}

// listenAddressOrNone is host:port, or the empty string.
func listenAddressOrNone() kind[string] {
	return scalar("address", `"127.0.0.1:2580"`, func(s string) (string, error) {
		switch {
		case s == "":
			return "", nil
		case strings.HasPrefix(s, "unix:"), strings.HasPrefix(s, "systemd:"):
			return "", fmt.Errorf(`%q is not available in this version; write an address and port such as "127.0.0.1:2580"`, s)
		}
		return parseListen(s)
	}).planned("`unix:/path`", "`systemd:NAME`")
}

// parseServer reads the address of a name server, whose port is 53 where none is written.
func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	host, port, err := splitAddress(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf(`%q is not an IP address with or without a port; write something like "127.0.0.1:53"`, s)
	}
	n := uint16(53)
	if port != "" {
		n, err = parsePort(port, 1)
	}
	return netip.AddrPortFrom(a, n), err
}

// parseDomain accepts a domain name (RFC 5321 2.3.5; underscores too, since they are met) and returns it lower-case,
// in the form in which domains are compared: with A-labels (RFC 5891 section 4).
func parseDomain(s string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf(`%q is not a domain name: %s; write something like "mx.example.net"`, s, why)
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return bad("it is an address")
	}
	name := s
	if len(s) <= 253 && strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) {
		ascii, err := idna.Lookup.ToASCII(s)
		if err != nil || !utf8.ValidString(s) {
			return bad("it has a letter that no domain has")
		}
		name = ascii
	}
	switch {
	case s == "":
		return bad("it is empty")
	case len(s) > 253:
		return bad("it is longer than 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return bad("a part between dots is empty")
		case len(label) > 63:
			return bad("a part is longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return bad("a part begins or ends with a hyphen")
		}
		for _, r := range label {
			switch {
			case r >= 0x80:
				return bad("it has a letter that no domain has")
			case r != '-' && r != '_' && !('0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z'):
				return bad(fmt.Sprintf("it holds %q", r))
			}
		}
	}
	return strings.ToLower(name), nil
}

// domain is a domain name as written, but with A-labels; empty is legal.
func domain() kind[string] {
	return scalar("domain", `"mx.example.net"`, func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		name, err := parseDomain(s)
		if strings.EqualFold(name, s) {
			name = s
		}
		return name, err
	})
}

// parsePattern reads "*", "name" or "*.name", lower-case.
func parsePattern(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	name, below := strings.CutPrefix(s, "*.")
	got, err := parseDomain(name)
	if err != nil {
		return "", fmt.Errorf(`%q is not a domain pattern; write "example.net", "*.example.net" or "*"`, s)
	}
	if below {
		got = "*." + got
	}
	return got, nil
}

// parseDestination reads a domain pattern, or a next hop's host: a name or an IP address, alone or with a port, or as
// smtp://HOST:PORT.
func parseDestination(s string) (string, error) {
	if got, err := parsePattern(s); err == nil {
		return got, nil
	}
	bare := strings.ToLower(strings.TrimPrefix(s, "smtp://"))
	if ip, err := netip.ParseAddr(strings.Trim(bare, "[]")); err == nil {
		return ip.String(), nil
	}
	if hop, err := parseNextHop("smtp://" + bare); err == nil && hop.Host != "" {
		if bare != strings.ToLower(s) {
			return strings.ToLower(s), nil
		}
		return bare, nil
	}
	return "", fmt.Errorf(`%q is not a destination; write a domain such as "example.net" or "*.example.net", or a next hop's host, "192.0.2.25" or "mx.example.net:25"`, s)
}

// matches tells whether a pattern takes a domain, both lower-case.
func matches(pattern, domain string) bool {
	below, isBelow := strings.CutPrefix(pattern, "*")
	return pattern == domain || isBelow && (below == "" || strings.HasSuffix(domain, below))
}

// parseMailbox reads an address; the domain comes back lower-case, the local part as written.
func parseMailbox(s string) (string, error) {
	bad := fmt.Errorf(`%q is not an address; write something like "user@example.net"`, s)
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 || s != oneLine(s) {
		return "", bad
	}
	local := s[:at]
	if !strings.HasPrefix(local, `"`) && strings.ContainsAny(local, ` "@<>()[],;:\`) {
		return "", bad
	}
	name, err := parseDomain(s[at+1:])
	if err != nil {
		return "", bad
	}
	return local + "@" + name, nil
}

// mailboxOrNone is an address or the empty string.
func mailboxOrNone() kind[string] {
	return scalar("address", `"postmaster@example.net"`, func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parseMailbox(s)
	})
}

// addresses is a list of addresses to compare with, lower-case; where null is true "<>" stands for the null sender.
func addresses(null bool) kind[[]string] {
	return some(scalar("address", `"user@example.net"`, func(s string) (string, error) {
		if null && (s == "" || s == "<>") {
			return "", nil
		}
		got, err := parseMailbox(s)
		return strings.ToLower(got), err
	}), `"user@example.net"`)
}

// account is the name of an account of this machine, or the empty string.
func account() kind[string] {
	return scalar("account", `"postern"`, func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		if _, err := user.Lookup(s); err != nil {
			return "", fmt.Errorf("there is no account %q on this machine; write one that is, or \"\" to stay", s)
		}
		return s, nil
	})
}

// checksum is a SHA-256 in hex, lower-case, or the empty string.
func checksum() kind[string] {
	return scalar("string", `"e3b0…b855", 64 hexadecimal digits`, func(s string) (string, error) {
		if sum, err := hex.DecodeString(s); s != "" && (err != nil || len(sum) != sha256.Size) {
			return "", fmt.Errorf("%.80q is not a SHA-256; write the 64 hexadecimal digits that sha256sum prints", s)
		}
		return strings.ToLower(s), nil
	})
}

// nextHop is where a route leads.
func nextHop() kind[NextHop] {
	return scalar("next hop", `"smtp://192.0.2.1:25"`, parseNextHop)
}

func parseNextHop(s string) (NextHop, error) {
	const forms = `"smtp://HOST:PORT", "smtps://HOST:PORT", "lmtp://HOST:PORT", "lmtp:///PATH", "qmqp://HOST:PORT,…", "mx", "local", "pipe:/PROGRAM" or "discard"`
	words := []string{"mx", "local", "discard"}
	for _, word := range words {
		if s == word {
			return NextHop{Scheme: word}, nil
		}
	}
	scheme, rest, hasScheme := strings.Cut(s, ":")
	host, slashes := strings.CutPrefix(rest, "//")
	switch {
	case scheme == "qmqp" && slashes:
		return parseServers(s, host)
	case hasScheme && scheme == "pipe":
		return parsePipe(s, rest)
	case scheme == "lmtp" && slashes && strings.HasPrefix(host, "/"):
		if s != oneLine(s) || len(host) > maxSocketPath {
			return NextHop{}, fmt.Errorf("%q is no path of a socket, which has at most %d bytes and no control characters; write one", s, maxSocketPath)
		}
		return NextHop{Scheme: scheme, Path: host}, nil
	case portOf(scheme) != 0 && slashes:
		return parseHost(s, host, scheme)
	case Suggest(s, words) != "":
		return NextHop{}, fmt.Errorf("%q is unknown; did you mean %q? It takes %s", s, Suggest(s, words), forms)
	case slashes && Suggest(scheme, []string{"smtp", "smtps", "lmtp", "qmqp"}) != "":
		near := Suggest(scheme, []string{"smtp", "smtps", "lmtp", "qmqp"})
		return NextHop{}, fmt.Errorf("%q has the unknown scheme %q; did you mean %q?", s, scheme, near+"://"+host)
	case slashes:
		return NextHop{}, fmt.Errorf("%q has the unknown scheme %q; write %s", s, scheme, forms)
	}
	if _, err := parseHost(s, s, "smtp"); err == nil {
		return NextHop{}, fmt.Errorf("%q has no scheme; did you mean %q?", s, "smtp://"+s)
	}
	return NextHop{}, fmt.Errorf("%q is not a next hop; write %s", s, forms)
}

// maxServers is how many servers of QMQP may be tried in turn.
const maxServers = 50

// parseServers reads the servers of QMQP that are tried in turn.
func parseServers(whole, list string) (NextHop, error) {
	servers := strings.Split(list, ",")
	if len(servers) > maxServers {
		return NextHop{}, fmt.Errorf("%.80q has more than %d servers; write fewer", whole, maxServers)
	}
	for _, one := range servers {
		if _, err := parseHost(whole, one, "smtp"); err != nil {
			return NextHop{}, err
		}
	}
	return NextHop{Scheme: "qmqp", Path: list}, nil
}

// portOf is the port of a scheme with a server, 0 for others. RFC 2033 names none for LMTP and forbids 25; 24 is for
// any private mail.
func portOf(scheme string) uint16 {
	switch scheme {
	case "smtp":
		return 25
	case "smtps":
		return 465
	case "lmtp":
		return 24
	}
	return 0
}

// parseHost reads the host and port of a server, the scheme's port where none is written.
func parseHost(whole, s, scheme string) (NextHop, error) {
	if strings.ContainsAny(s, "/@?#") {
		return NextHop{}, fmt.Errorf(`%q has more than a host and a port; write something like "smtp://192.0.2.1:25"`, whole)
	}
	host, port, err := splitAddress(s)
	if err != nil {
		return NextHop{}, err
	}
	if err := checkHost(host); err != nil {
		return NextHop{}, fmt.Errorf(`%q: %w`, whole, err)
	}
	hop := NextHop{Scheme: scheme, Host: host, Port: portOf(scheme)}
	if port != "" {
		hop.Port, err = parsePort(port, 1)
	}
	return hop, err
}

// parseSource reads an address of this machine.
func parseSource(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf(`%q is not an address of a machine; write one such as "192.0.2.1"`, s)
	}
	return a.Unmap(), nil
}

// parseUser reads a login name.
func parseUser(s string) (string, error) {
	if s == "" || s != oneLine(s) {
		return "", fmt.Errorf("%q is no name to log in with; write one", s)
	}
	return s, nil
}

// parseSeparator is what parts a local part from its detail.
func parseSeparator(s string) (string, error) {
	if len(s) > 1 || s != "" && !strings.Contains("!#$%&'*+-/=?^_`{|}~.", s) {
		return "", fmt.Errorf(`%q is no separator; write one character such as "+" or "-", or ""`, s)
	}
	return s, nil
}

// retry is "quadratic", a list of delays, or a table of what makes them grow.
func retry() kind[Retry] {
	word := enum(options{now: []string{"quadratic"}})
	list := some(duration(time.Second), `"5m", "30m", "2h"`)
	return reader(word.typ+", list of durations, or { start, factor, max, jitter }", func(v value) (Retry, bool) {
		switch v.raw.(type) {
		case string:
			_, ok := word.read(v)
			return Retry{}, ok
		case map[string]any:
			return growing(v)
		case []any, []map[string]any:
			delays, ok := list.read(v)
			return Retry{Delays: delays}, ok
		}
		v.fail(`%s; write "quadratic", a list of durations such as ["5m", "30m", "2h"], or { start = "5m", factor = 2, max = "4h", jitter = 0.2 }`, v.found())
		return Retry{}, false
	})
}

// growing reads a table of retry.
func growing(v value) (r Retry, ok bool) {
	sec := section[Growth]{name: v.key, rows: []row[Growth]{
		{"start", to(duration(time.Second), func(g *Growth) *time.Duration { return &g.Start }), required(`"5m"`), ""},
		{"factor", to(between(1, 100), func(g *Growth) *float64 { return &g.Factor }), 2.0, ""},
		{"max", to(duration(time.Second), func(g *Growth) *time.Duration { return &g.Max }), "4h", ""},
		{"jitter", to(between(0, 1), func(g *Growth) *float64 { return &g.Jitter }), 0.0, ""},
	}}
	before := len(v.load.problems)
	sec.setDefaults(v.load, &r.Growth)
	sec.walk(v, &r.Growth)
	if len(v.load.problems) == before && r.Growth.Max < r.Growth.Start {
		v.child("max", nil).fail("%s is shorter than the first wait, %s; write one as long at least", FormatDuration(r.Growth.Max), FormatDuration(r.Growth.Start))
	}
	return r, len(v.load.problems) == before
}

// engine is where shared state lives. An address is not quoted where it may hold a password.
func engine() kind[string] {
	word := enum(options{now: []string{"embedded"}})
	return reader("string", func(v value) (string, bool) {
		s, _ := v.raw.(string)
		scheme, rest, ok := strings.Cut(s, "://")
		switch {
		case ok && (scheme == "postgres" || scheme == "postgresql"):
			v.fail(`%q is not available in this version; write "embedded", or a Redis server such as "redis://127.0.0.1:6379/0"`, scheme+"://")
			return "", false
		case !ok:
			return word.read(v)
		case scheme != "redis" && scheme != "rediss" && scheme != "unix":
			v.fail(`%q is no store; write "embedded", or a Redis server such as "redis://127.0.0.1:6379/0"`, oneLine(scheme)+"://…")
			return "", false
		case rest == "" || s != oneLine(s):
			v.fail(`is no address; write one such as "redis://127.0.0.1:6379/0"`)
			return "", false
		}
		return s, true
	}).planned("`postgres://…`")
}

func domainName() kind[string] { return scalar("domain", `"example.net"`, parseDomainName) }

func parseDomainName(s string) (string, error) {
	file, isFile := strings.CutPrefix(s, "@")
	switch {
	case s == "", isFile && file != "":
		return s, nil
	case s == "*":
		return "", fmt.Errorf(`"*" would make every domain ours, an open relay; write the domains, or "*.example.net"`)
	}
	got, err := parsePattern(s)
	if err != nil {
		return "", fmt.Errorf(`%q is not a domain; write "example.net", "*.example.net" or "@file.txt"`, s)
	}
	return got, nil
}

// policyUse is what [[policy]] use takes; whether it can be loaded is for the loader of policies to say.
func policyUse() kind[string] {
	name := word("greylist")
	return reader("name or path", func(v value) (string, bool) {
		s, ok := name.read(v)
		if ok && (strings.HasPrefix(s, "https:") || strings.HasPrefix(s, "http:")) {
			v.fail("a service (%q) is not available in this version; write the name or path of a script or plugin", s)
			return "", false
		}
		return s, ok
	}).planned("`https://…`")
}
