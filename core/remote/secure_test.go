package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/send"
)

// authority signs certificates.
func authority(t *testing.T) (roots *x509.CertPool, issue func(until time.Time, names ...string) *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(root)
	return roots, func(until time.Time, names ...string) *tls.Config {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				leaf.IPAddresses = append(leaf.IPAddresses, ip)
			} else {
				leaf.DNSNames = append(leaf.DNSNames, n)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	}
}

// What each TLS level makes of each kind of next hop.
func TestTLSLevels(t *testing.T) {
	roots, issue := authority(t)
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	const clear, secure = "in the clear", "by TLS"
	hops := map[string]struct {
		change func(*sink)
		want   map[string]string // by level: how it arrives, or the status that it waits with
	}{
		"no TLS": {func(*sink) {}, map[string]string{"none": clear, "may": clear, "encrypt": "4.7.4", "verify": "4.7.4"}},
		"good":   {func(s *sink) { s.tls = issue(later, "127.0.0.1") }, map[string]string{"none": clear, "may": secure, "encrypt": secure, "verify": secure}},
		"self-signed": {
			func(s *sink) { s.tls = certificate(t) },
			map[string]string{"none": clear, "may": secure, "encrypt": secure, "verify": "4.7.5"},
		},
		"wrong name": {
			func(s *sink) { s.tls = issue(later, "mx.example.net") },
			map[string]string{"none": clear, "may": secure, "encrypt": secure, "verify": "4.7.5"},
		},
		"expired": {
			func(s *sink) { s.tls = issue(before, "127.0.0.1") },
			map[string]string{"none": clear, "may": secure, "encrypt": secure, "verify": "4.7.5"},
		},
		"STARTTLS refused": {func(s *sink) {
			s.tls = issue(later, "127.0.0.1")
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) { return "454 4.7.0 not now", verb == "STARTTLS" }
		}, map[string]string{"none": clear, "may": clear, "encrypt": "4.7.4", "verify": "4.7.4"}},
		"no handshake": {
			func(s *sink) { s.tls = &tls.Config{} },
			map[string]string{"none": clear, "may": clear, "encrypt": "4.7.5", "verify": "4.7.5"},
		},
		// RFC 3207 section 6: what came in the clear behind the reply must not count.
		"injected reply": {func(s *sink) {
			s.tls = issue(later, "127.0.0.1")
			s.answer = func(_ *sink, _ int, verb, _ string) (string, bool) {
				return "220 go\r\n250-evil\r\n250 AUTH PLAIN", verb == "STARTTLS"
			}
		}, map[string]string{"none": clear, "may": clear, "encrypt": "4.7.5", "verify": "4.7.5"}},
		"smtps, good": {
			func(s *sink) { s.tls, s.direct = issue(later, "127.0.0.1"), true },
			map[string]string{"may": secure, "encrypt": secure, "verify": secure},
		},
		"smtps, self-signed": {
			func(s *sink) { s.tls, s.direct = certificate(t), true },
			map[string]string{"may": secure, "encrypt": secure, "verify": "4.7.5"},
		},
		"smtps, no TLS there": {func(s *sink) {}, map[string]string{"may": "4.7.5", "encrypt": "4.7.5", "verify": "4.7.5"}},
	}
	for name, hop := range hops {
		for level, want := range hop.want {
			t.Run(name+"/"+level, func(t *testing.T) {
				s := newSink(t, func(s *sink) {
					s.strict = false // a handshake in the place of a command
					hop.change(s)
				})
				c := newClient(t, nil)
				c.Reconfigure(Settings{Hostname: "mx.here.example", Roots: roots})
				j := jobTo(t, s, "\r\nx\r\n")
				j.TLS = level
				if strings.HasPrefix(name, "smtps") {
					j.NextHop.Scheme = send.SchemeSMTPS
				}
				o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
				got := o.Reply.Status()
				if o.Result == send.Delivered {
					got = clear
					if s.got()[0].tls {
						got = secure
					}
					if (o.TLS != "") != (got == secure) {
						t.Errorf("told as %q", o.TLS)
					}
				} else if o.Result != send.Deferred || !o.Unreached || o.Peer == "" || len(s.got()) > 0 {
					t.Errorf("%+v", o)
				}
				if got != want {
					t.Errorf("%s, want %s: %+v", got, want, o)
				}
			})
		}
	}
}

// The certificate of a mail exchanger must bear the exchanger's name; the next
// address is asked where it doesn't. Connections are not shared between levels.
func TestVerifiedExchanger(t *testing.T) {
	roots, issue := authority(t)
	later := time.Now().Add(time.Hour)
	wrong := newSink(t, func(s *sink) { s.tls = issue(later, "x.example") })
	right := newSink(t, func(s *sink) { s.tls = issue(later, "mx2.x.example") })
	var order []string
	c := newClient(t, func(o *Options) {
		o.Resolver = &dns.Zone{
			A:  map[string][]string{"mx1.x.example": {"192.0.2.1"}, "mx2.x.example": {"192.0.2.2"}},
			MX: map[string][]string{"x.example": {"10 mx1.x.example", "20 mx2.x.example"}},
		}
		o.Dial = dialer(map[string]*sink{"192.0.2.1:25": wrong, "192.0.2.2:25": right}, &order)
	})
	c.Reconfigure(Settings{Hostname: "mx.here.example", Roots: roots})
	for _, level := range []string{"may", "verify"} {
		j := jobTo(t, nil, "\r\nx\r\n", "a@x.example")
		j.NextHop, j.Domain, j.TLS = send.NextHop{Scheme: send.SchemeMX}, "x.example", level
		if o := outcomes(t, j, c.Deliver(t.Context(), j))[0]; o.Result != send.Delivered {
			t.Errorf("%s: %+v", level, o)
		}
	}
	if len(wrong.got()) != 1 || len(right.got()) != 1 {
		t.Errorf("%d and %d messages", len(wrong.got()), len(right.got()))
	}
}

// A session that was verified is not used again once other authorities are asked.
func TestVerifiedSessions(t *testing.T) {
	roots, issue := authority(t)
	others, _ := authority(t)
	s := newSink(t, func(s *sink) { s.tls = issue(time.Now().Add(time.Hour), "127.0.0.1") })
	c := newClient(t, nil)
	for _, step := range []struct {
		roots    *x509.CertPool
		want     string
		sessions int
	}{
		{roots, "250 2.0.0", 1},
		{roots.Clone(), "250 2.0.0", 1}, // a reload that changes nothing
		{others, "451 4.7.5", 2},
	} {
		c.Reconfigure(Settings{Hostname: "mx.here.example", Roots: step.roots})
		j := jobTo(t, s, "\r\nx\r\n")
		j.TLS = "verify"
		o := outcomes(t, j, c.Deliver(t.Context(), j))[0]
		if !strings.HasPrefix(o.Reply.String(), step.want) {
			t.Errorf("%+v, want %s", o, step.want)
		}
		if n := strings.Count(strings.Join(s.said(), "\n"), "STARTTLS"); n != step.sessions {
			t.Errorf("%d sessions, want %d", n, step.sessions)
		}
	}
}

// Mail leaves from the source address of its route, to hosts of that family.
func TestSource(t *testing.T) {
	s := newSink(t, nil)
	var from []netip.Addr
	var order []string
	dial := dialer(map[string]*sink{"192.0.2.2:25": s}, &order)
	c := newClient(t, func(o *Options) {
		o.Resolver = &dns.Zone{
			A:  map[string][]string{"mx.x.example": {"2001:db8::2", "192.0.2.2"}, "six.example": {"2001:db8::2"}},
			MX: map[string][]string{"x.example": {"10 mx.x.example"}, "y.example": {"10 six.example"}},
		}
		o.Dial = func(ctx context.Context, source netip.Addr, network, to string) (net.Conn, error) {
			from = append(from, source)
			return dial(ctx, source, network, to)
		}
	})
	ours := netip.MustParseAddr("192.0.2.99")
	for domain, want := range map[string]string{"x.example": "250 2.0.0", "y.example": "451 4.4.4"} {
		j := jobTo(t, nil, "\r\nx\r\n", "a@"+domain)
		j.NextHop, j.Domain, j.Source = send.NextHop{Scheme: send.SchemeMX}, domain, ours
		if o := outcomes(t, j, c.Deliver(t.Context(), j))[0]; !strings.HasPrefix(o.Reply.String(), want) {
			t.Errorf("%s: %+v", domain, o)
		}
	}
	if len(from) != 1 || from[0] != ours {
		t.Errorf("from %v to %v", from, order)
	}
	// By the real network: 127.0.0.2 is an address of this host, 192.0.2.99 is none.
	real := newClient(t, nil)
	j := jobTo(t, s, "\r\nx\r\n")
	j.Source = ours
	if o := outcomes(t, j, real.Deliver(t.Context(), j))[0]; o.Result != send.Deferred || !o.Unreached {
		t.Errorf("%+v", o)
	}
	j.Source = netip.MustParseAddr("127.0.0.1")
	if o := outcomes(t, j, real.Deliver(t.Context(), j))[0]; o.Result != send.Delivered {
		t.Errorf("%+v", o)
	}
}
