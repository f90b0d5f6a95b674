package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSocketPath is the longest path of a unix socket: sun_path has 108 bytes, the last of which is NUL.
const maxSocketPath = 107

// check holds the rules that join several keys, or a key and the files it names.
func check(l *loader, c *Config) {
	add := func(p ...Problem) { l.problems = append(l.problems, p...) }
	add(checkServer(c)...)
	add(checkListen(c)...)
	add(checkDigest(c)...)
	add(checkWays(c)...)
	add(checkTLS(c)...)
	add(checkAuth(c)...)
	add(checkDKIM(c)...)
	add(checkARC(c)...)
	add(checkRoutes(c)...)
	add(checkServed(c)...)
	add(checkAsked(c)...)
	add(checkDelivery(c)...)
	add(checkLocal(c)...)
	add(checkPolicies(c)...)
	add(checkScore(c)...)
	add(checkReturns(c)...)
	add(checkStore(c)...)
}

// checkServer looks at the folders and at the length of the control socket's path.
func checkServer(c *Config) (found Problems) {
	if n := len(c.Server.Control); n > maxSocketPath {
		found = append(found, c.Problem("server.control", fmt.Sprintf(
			"%s is %d bytes long, and a socket's path may have %d; write a shorter one", c.Server.Control, n, maxSocketPath)))
	}
	if st, err := os.Stat(c.Server.Control); err == nil && st.IsDir() {
		found = append(found, c.Problem("server.control", c.Server.Control+" is a folder; write the path of a socket"))
	}
	for key, dir := range map[string]string{
		"server.data_dir": c.Server.DataDir, "server.policy_dir": c.Server.PolicyDir, "server.plugin_dir": c.Server.PluginDir,
	} {
		if st, err := os.Stat(dir); err == nil && !st.IsDir() {
			found = append(found, c.Problem(key, dir+" is not a folder; write the path of one"))
		}
	}
	if c.Server.DataDir == "" {
		found = append(found, c.Problem("server.data_dir", `is empty; write a folder such as "var"`))
	}
	return found
}

// checkListen finds names and addresses that stand twice, and rules that can't be read.
func checkListen(c *Config) (found Problems) {
	names, addresses := map[string]Pos{}, map[string]string{}
	if a, once := bound(c.Console.Address); once {
		addresses[a] = "the console"
	}
	if a, once := bound(c.Digest.Address); once {
		if by := addresses[a]; by != "" {
			found = append(found, c.Problem("digest.address", fmt.Sprintf("%s is taken by %s already; write another address or port", c.Digest.Address, by)))
		} else {
			addresses[a] = "the pages of the quarantine"
		}
	}
	for _, l := range c.Listen {
		if l.Address == "" {
			continue // reported where it was read
		}
		a, once := bound(l.Address)
		if by := addresses[a]; by != "" {
			found = append(found, l.Problem("address", fmt.Sprintf("%s is taken by %s already; write another address or port", l.Address, by)))
			continue // its name is the same where none is written
		}
		if first, taken := names[l.Name]; taken {
			found = append(found, l.Problem("name", fmt.Sprintf("%q is the name of the entry at %s:%d already; write another", l.Name, first.File, first.Line)))
		}
		names[l.Name] = l.Pos
		if once {
			addresses[a] = fmt.Sprintf("the entry at %s:%d", l.File, l.Line)
		}
		if l.Rules == "" {
			continue
		}
		if err := readable(l.Rules); err != nil {
			found = append(found, l.Problem("rules", fmt.Sprintf("%s can't be read: %v; write the path of a file of connection rules", l.Rules, bare(err))))
		}
	}
	return found
}

// checkWays finds listeners that can't be used as they are meant.
func checkWays(c *Config) (found Problems) {
	for i := range c.Listen {
		l := &c.Listen[i]
		warn := func(key, text string) {
			p := l.Problem(key, text)
			p.Warning = true
			found = append(found, p)
		}
		_, port, _ := net.SplitHostPort(l.Address)
		// Whether a policy judges logins is not known before it is loaded.
		logIn := (len(c.Auth) > 0 || len(c.Policies) > 0) && len(l.Auth) > 0 && l.TLS != "off"
		switch {
		case l.Protocol == "lmtp" && port == "25":
			warn("protocol", "LMTP is not for port 25 (RFC 2033); write another port, or a unix socket")
		case l.Protocol == "submission" && !logIn && len(l.RelayFrom) == 0 && l.Rules == "":
			warn("protocol", "nobody may send there; write an [[auth]] (or a [[policy]] that judges logins) and a tls other than \"off\", or relay_from")
		}
		if whole := l.Protocol == "qmqp" || l.Protocol == "qmtp"; whole {
			if l.TLS == "required" || l.TLS == "starttls" && l.node.child("tls") != nil {
				found = append(found, l.Problem("tls", fmt.Sprintf("%s has no STARTTLS; write \"implicit\" or \"off\"", strings.ToUpper(l.Protocol))))
			}
			if l.Protocol == "qmqp" && len(l.RelayFrom) == 0 && l.Rules == "" && l.TLS != "implicit" {
				warn("protocol", "nobody may send there; write relay_from, rules with RELAYCLIENT, or tls = \"implicit\" for clients with certificates")
			}
		}
		if l.node.child("socket_mode") != nil && !strings.HasPrefix(l.Address, "unix:") && l.Address != "" {
			found = append(found, l.Problem("socket_mode", "is for unix sockets alone; leave it out"))
		}
		if file := l.SenderCheck.File; file != "" {
			if err := readable(file); err != nil {
				found = append(found, l.Problem("sender_check", fmt.Sprintf("%s can't be read: %v; write the path of a file of senders", file, bare(err))))
			}
		}
	}
	return found
}

// checkAuth looks at the password files.
func checkAuth(c *Config) (found Problems) {
	for i := range c.Auth {
		a := &c.Auth[i]
		if a.Path == "" {
			if a.node.child("path") != nil {
				found = append(found, a.Problem("path", `is empty; write the path of a password file`))
			}
			continue
		}
		if err := readable(a.Path); err != nil {
			found = append(found, a.Problem("path", fmt.Sprintf("%s can't be read: %v; write the path of a password file", a.Path, bare(err))))
			continue
		}
		if st, err := os.Stat(a.Path); err == nil && st.Mode().Perm()&0o004 != 0 {
			p := a.Problem("path", fmt.Sprintf("%s can be read by everyone on this machine; chmod o-r it", a.Path))
			p.Warning = true
			found = append(found, p)
		}
	}
	return found
}

// checkARC finds a section that says only a part.
func checkARC(c *Config) (found Problems) {
	for _, one := range []struct{ key, value string }{{"domain", c.ARC.Domain}, {"selector", c.ARC.Selector}, {"key", c.ARC.Key}} {
		if one.value == "" && c.ARC != (ARC{}) {
			found = append(found, c.Problem("arc."+one.key, "is missing; write domain, selector and key, or none of them"))
		}
	}
	return found
}

// checkDKIM looks at the signing keys as far as their files need not be read: selectors that stand twice, times, names.
func checkDKIM(c *Config) (found Problems) {
	seen := map[[2]string]int{}
	for i := range c.DKIM {
		d := &c.DKIM[i]
		if d.Key == "" && d.node.child("key") != nil {
			found = append(found, d.Problem("key", "is empty; write the path of a private key, such as postern dkim keygen makes"))
		}
		at := [2]string{d.Domain, d.Selector}
		if first, twice := seen[at]; twice && d.Domain != "" && d.Selector != "" {
			found = append(found, d.Problem("selector", fmt.Sprintf("%q of %s stands on line %d already; each key has a selector of its own", d.Selector, d.Domain, first)))
		} else {
			seen[at] = d.Line
		}
		if !d.Until.IsZero() && !d.From.Before(d.Until) {
			found = append(found, d.Problem("until", "is not after from, so that the key never signs; write a later date"))
		}
		for j, name := range d.Headers {
			key := fmt.Sprintf("headers[%d]", j)
			d.Headers[j] = strings.ToLower(name)
			switch {
			case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
				found = append(found, d.Problem(key, fmt.Sprintf("%q is no name of a field; write one such as \"subject\"", name)))
			case slices.Contains([]string{"dkim-signature", "received", "return-path", "bcc"}, d.Headers[j]):
				found = append(found, d.Problem(key, fmt.Sprintf("%q changes on the way, and would break the signature; leave it out (RFC 6376 section 5.4.1)", name)))
			}
		}
	}
	return found
}

// bound returns an address in a form to compare; once is false where the system chooses the port, or there is none.
func bound(address string) (a string, once bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "0" {
		return address, false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return net.JoinHostPort(strings.ToLower(host), port), true
}

// readable tells why a regular file can't be read.
func readable(path string) error {
	if err := checkFile(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// checkTLS reads the certificates and keys and looks whether they belong together.
func checkTLS(c *Config) (found Problems) {
	certs, keys := c.TLS.Certificate, c.TLS.Key
	if len(certs) != len(keys) {
		found = append(found, c.Problem("tls.key", fmt.Sprintf(
			"has %d entries, certificate has %d; write one key for each certificate, in the same order", len(keys), len(certs))))
	}
	for i := range max(len(certs), len(keys)) {
		var pem [2][]byte
		whole := true
		for j, list := range [2][]string{certs, keys} {
			if i >= len(list) {
				whole = false
				continue
			}
			key := "tls." + [2]string{"certificate", "key"}[j] + "[" + strconv.Itoa(i) + "]"
			text, err := readPEM(list[i])
			if err != nil {
				found = append(found, c.Problem(key, fmt.Sprintf("%s can't be read: %v; write the path of a PEM file", list[i], bare(err))))
				whole = false
			}
			pem[j] = text
		}
		if whole {
			found = append(found, checkPair(c, i, pem[0], pem[1])...)
		}
	}
	for i, file := range c.TLS.CA {
		text, err := readPEM(file)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(text) {
			err = errors.New("no certificate in it")
		}
		if err != nil {
			found = append(found, c.Problem("tls.ca["+strconv.Itoa(i)+"]", fmt.Sprintf("%s can't be read: %v; write the path of a PEM file", file, bare(err))))
		}
	}
	return append(found, checkClientCA(c)...)
}

// checkClientCA reads the authorities of client certificates.
func checkClientCA(c *Config) Problems {
	if c.TLS.ClientCA == "" {
		return nil
	}
	text, err := readPEM(c.TLS.ClientCA)
	if err != nil {
		return Problems{c.Problem("tls.client_ca", fmt.Sprintf("%s can't be read: %v; write the path of a PEM file", c.TLS.ClientCA, bare(err)))}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return Problems{c.Problem("tls.client_ca", fmt.Sprintf("%s holds no certificate in PEM; write the path of a file that does", c.TLS.ClientCA))}
	}
	return nil
}

// readPEM reads a file of the size that certificates have.
func readPEM(path string) ([]byte, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	return readConfig(path)
}

// checkPair parses a certificate with its key.
func checkPair(c *Config, i int, cert, key []byte) Problems {
	at := func(what string) string { return fmt.Sprintf("tls.%s[%d]", what, i) }
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return Problems{c.Problem(at("key"), fmt.Sprintf("%s and %s are no pair: %s; write a certificate and the key that belongs to it",
			c.TLS.Certificate[i], c.TLS.Key[i], strings.TrimPrefix(err.Error(), "tls: ")))}
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err == nil && time.Now().After(leaf.NotAfter) {
		p := c.Problem(at("certificate"), fmt.Sprintf("%s expired on %s; renew it", c.TLS.Certificate[i], leaf.NotAfter.Format(time.DateOnly)))
		p.Warning = true
		return Problems{p}
	}
	return nil
}

// checkRoutes finds entries without a pattern, and those behind one that takes everything.
func checkRoutes(c *Config) (found Problems) {
	var all *Route
	for i := range c.Routes {
		r := &c.Routes[i]
		if all != nil {
			p := r.Problem("", fmt.Sprintf("never used, since the entry at %s:%d takes all mail; put it before that one", all.File, all.Line))
			p.Warning = true
			found = append(found, p)
			continue
		}
		if !r.hasPattern() && !r.wrotePattern() {
			found = append(found, r.Problem("", `says nothing about which mail takes it; write to_domain = ["*"] for all`))
		}
		if r.takesAll() {
			all = r
		}
		found = append(found, checkWay(r)...)
	}
	return found
}

// checkWay looks whether a route's TLS, login and source fit its next hop.
func checkWay(r *Route) (found Problems) {
	add := func(key, text string) { found = append(found, r.Problem(key, text)) }
	server := portOf(r.NextHop.Scheme) != 0
	switch {
	case r.NextHop.Scheme == "smtps" && r.TLS == "none":
		add("tls", `"none" contradicts smtps://; write "encrypt" or "verify"`)
	case r.NextHop.Path != "" && r.TLS == "verify":
		add("tls", `"verify" needs a name, and a unix socket has none; write "none"`)
	}
	if r.Mode == "proxy" && !server && r.NextHop.Scheme != "" {
		add("mode", fmt.Sprintf(`"proxy" needs one server that answers while the client waits, and next_hop is %q; write next_hop = "smtp://HOST:PORT", or mode = "queue"`, r.NextHop.Scheme))
	}
	if r.node.child("auth") != nil {
		switch {
		case !server && r.NextHop.Scheme != "":
			add("auth", fmt.Sprintf("a password is for one server, and next_hop is %q; leave auth out", r.NextHop.Scheme))
		case r.TLS == "none":
			add("auth", `a password is never sent without TLS, and tls is "none"; write tls = "verify"`)
		case r.TLS != "verify" && r.NextHop.Path == "":
			p := r.Problem("auth", `whoever poses as the next hop gets the password; write tls = "verify"`)
			p.Warning = true
			found = append(found, p)
		}
		if file := r.Auth.PasswordFile; file != "" {
			if err := readable(file); err != nil {
				add("auth.password_file", fmt.Sprintf("%s can't be read: %v; write the path of a file with the password", file, bare(err)))
			}
		}
	}
	if r.Source.IsValid() && (r.NextHop.Path != "" || !server && r.NextHop.Scheme != "mx" && r.NextHop.Scheme != "") {
		add("source", "nothing is connected to there; leave source out")
	}
	if host, err := netip.ParseAddr(r.NextHop.Host); err == nil && r.Source.IsValid() && host.Unmap().Is4() != r.Source.Is4() {
		add("source", fmt.Sprintf("%s can't be reached from %s; write an address of the same family", host, r.Source))
	}
	return found
}

// hasPattern tells whether some mail is named.
func (r *Route) hasPattern() bool {
	return len(r.ToDomain)+len(r.ToAddress)+len(r.FromDomain)+len(r.FromAddress)+len(r.Client)+len(r.Tag) > 0
}

// wrotePattern tells whether a pattern was written that may have been refused.
func (r *Route) wrotePattern() bool {
	for _, key := range []string{"to_domain", "to_address", "from_domain", "from_address", "client", "tag"} {
		if r.node.child(key) != nil {
			return true
		}
	}
	return false
}

// takesAll tells whether no mail gets past the route.
func (r *Route) takesAll() bool {
	if len(r.ToAddress)+len(r.FromDomain)+len(r.FromAddress)+len(r.Client)+len(r.Tag) > 0 {
		return false
	}
	for _, p := range r.ToDomain {
		if p == "*" {
			return true
		}
	}
	return false
}

// checkServed warns of domains of ours that surely no route takes.
func checkServed(c *Config) (found Problems) {
	for i := range c.Domains {
		d := &c.Domains[i]
		for _, name := range d.Names {
			if c.mayRoute(name) {
				continue
			}
			p := d.Problem("name", fmt.Sprintf("mail for %s has no [[route]]; write one with to_domain = [%q]", name, name))
			p.Warning = true
			found = append(found, p)
			break // one is enough for an entry that may name thousands
		}
	}
	return found
}

// mayRoute tells whether some route could take mail for a domain, or for one below it where it is "*.name".
func (c *Config) mayRoute(name string) bool {
	return slices.ContainsFunc(c.Routes, func(r Route) bool { return r.mayTake(name) })
}

// checkDelivery finds rules that change nothing.
func checkDelivery(c *Config) (found Problems) {
	for _, r := range c.Delivery.Rules {
		if r.node.child("concurrency") == nil && r.node.child("rate") == nil {
			found = append(found, r.Problem("", `changes nothing; write concurrency = 2 or rate = "60/min"`))
		}
	}
	return found
}

// checkPolicies finds listeners that don't exist, and names given twice.
func checkPolicies(c *Config) (found Problems) {
	var listeners []string
	for _, l := range c.Listen {
		listeners = append(listeners, l.Name)
	}
	given := map[string]Pos{}
	for _, p := range c.Policies {
		for i, name := range p.When.Listener {
			if slices.Contains(listeners, name) {
				continue
			}
			text := fmt.Sprintf("no [[listen]] entry has the name %q; there are %s", name, strings.Join(listeners, ", "))
			if near := Suggest(name, listeners); near != "" {
				text = fmt.Sprintf("no [[listen]] entry has the name %q; did you mean %q?", name, near)
			}
			found = append(found, p.Problem("when.listener["+strconv.Itoa(i)+"]", text))
		}
		if p.RunAs != "" && c.Server.User != "" && p.RunAs != c.Server.User {
			found = append(found, p.Problem("run_as", fmt.Sprintf(
				"only root can run it as %s, and [server] user = %q drops root; leave one of the two out", p.RunAs, c.Server.User)))
		}
		if p.node.child("name") == nil {
			continue
		}
		if first, taken := given[p.Name]; taken {
			found = append(found, p.Problem("name", fmt.Sprintf("%q is the name of the entry at %s:%d already; write another", p.Name, first.File, first.Line)))
			continue
		}
		given[p.Name] = p.Pos
	}
	return found
}

// checkStore finds keys that the engine has no use for, and a password file that can't be read.
func checkStore(c *Config) (found Problems) {
	for key, is := range map[string]string{"user": c.Store.User, "password_file": c.Store.PasswordFile} {
		if is != "" && !c.Store.Shared() {
			found = append(found, c.Problem("store."+key, `is for an engine such as "redis://127.0.0.1:6379/0"; leave it out`))
		}
	}
	if file := c.Store.PasswordFile; file != "" && c.Store.Shared() {
		if err := readable(file); err != nil {
			found = append(found, c.Problem("store.password_file", fmt.Sprintf("%s can't be read: %v; write the path of a file with the password", file, bare(err))))
		}
	}
	return found
}

// checkScore holds the thresholds in the order in which they are to bite.
func checkScore(c *Config) (found Problems) {
	type threshold struct {
		key string
		at  *float64
	}
	last := threshold{}
	for _, t := range []threshold{{"tag", c.Score.Tag}, {"quarantine", c.Score.Quarantine}, {"reject", c.Score.Reject}} {
		if t.at == nil {
			continue
		}
		if last.at != nil && *t.at < *last.at {
			found = append(found, c.Problem("score."+t.key, fmt.Sprintf(
				"%g is below %s = %g, which could never act; write at least %g", *t.at, last.key, *last.at, *last.at)))
		}
		last = t
	}
	return found
}
