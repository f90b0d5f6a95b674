package remote

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/send"
)

// dialer sends connections for made-up addresses to sinks, or refuses them.
func dialer(sinks map[string]*sink, order *[]string) func(context.Context, netip.Addr, string, string) (net.Conn, error) {
	return func(ctx context.Context, _ netip.Addr, network, to string) (net.Conn, error) {
		*order = append(*order, to)
		s := sinks[to]
		if s == nil {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, s.addr.String())
	}
}

func TestMX(t *testing.T) {
	zone := &dns.Zone{
		A: map[string][]string{
			"mx1.example": {"192.0.2.1"}, "mx2.example": {"192.0.2.2", "2001:db8::2"}, "plain.example": {"192.0.2.3"},
			"mx.here.example": {"192.0.2.9"}, "us.example": {"192.0.2.8"},
		},
		MX: map[string][]string{
			"two.example":  {"10 mx1.example", "20 mx2.example"},
			"null.example": {"0 ."},
			"own.example":  {"10 mx1.example", "20 mx.here.example", "30 mx2.example"},
			"loop.example": {"10 mx.here.example", "30 mx2.example"},
			"addr.example": {"10 us.example"},
			"lost.example": {"10 gone.example"},
			"lame.example": {"10 slow.example"},
		},
		Fail: map[string]dns.Kind{"down.example": dns.Failure, "slow.example": dns.Timeout},
	}
	for _, test := range []struct {
		domain, up string
		want       string
		dialled    string
	}{
		{"two.example", "192.0.2.1:25", "delivered 250", "192.0.2.1:25"},
		{"two.example", "192.0.2.2:25", "delivered 250", "192.0.2.1:25 [2001:db8::2]:25 192.0.2.2:25"},
		{"two.example", "", "deferred 451 4.4.1", "192.0.2.1:25 [2001:db8::2]:25 192.0.2.2:25"},
		{"plain.example", "192.0.2.3:25", "delivered 250", "192.0.2.3:25"},
		{"[192.0.2.3]", "192.0.2.3:25", "delivered 250", "192.0.2.3:25"},
		{"[IPv6:2001:db8::2]", "[2001:db8::2]:25", "delivered 250", "[2001:db8::2]:25"},
		{"null.example", "", "bounced 556 5.1.10", ""},
		{"nowhere.example", "", "bounced 550 5.1.2", ""},
		{"example", "", "bounced 550 5.4.4", ""},
		{"own.example", "192.0.2.2:25", "deferred 451 4.4.1", "192.0.2.1:25"},
		{"loop.example", "192.0.2.2:25", "bounced 554 5.4.6", ""},
		{"addr.example", "", "bounced 554 5.4.6", ""},
		{"[192.0.2.8]", "", "bounced 554 5.4.6", ""},
		{"down.example", "", "deferred 451 4.4.3", ""},
		{"lame.example", "", "deferred 451 4.4.3", ""},
		{"lost.example", "", "deferred 451 4.4.4", ""},
	} {
		t.Run(test.domain, func(t *testing.T) {
			s := newSink(t, nil)
			var order []string
			c := newClient(t, func(o *Options) {
				o.Resolver, o.Dial = zone, dialer(map[string]*sink{test.up: s}, &order)
				o.Own = func(a netip.AddrPort) bool { return a == netip.MustParseAddrPort("192.0.2.8:25") }
			})
			j := jobTo(t, nil, "\r\n", "r@"+test.domain)
			j.NextHop, j.Domain = send.NextHop{Scheme: "mx"}, j.Message.Recipients[0].Address.Domain
			o := outcomes(t, j, c.Deliver(t.Context(), j))
			if got := o[0].Result.String() + " " + o[0].Reply.String(); !strings.HasPrefix(got, test.want) {
				t.Errorf("%s; want %s", got, test.want)
			}
			if got := strings.Join(order, " "); got != test.dialled {
				t.Errorf("dialled %s; want %s", got, test.dialled)
			}
			if o[0].Unreached != (o[0].Result == send.Deferred) {
				t.Errorf("unreached: %+v", o)
			}
		})
	}
}

// What did not answer is asked last for a while.
func TestDeadAddressComesLast(t *testing.T) {
	s := newSink(t, nil)
	var order []string
	c := newClient(t, func(o *Options) {
		o.Resolver = &dns.Zone{A: map[string][]string{"hub.example": {"192.0.2.1", "192.0.2.2"}}}
		o.Dial = dialer(map[string]*sink{"192.0.2.2:2525": s}, &order)
	})
	for range 2 {
		j := jobTo(t, nil, "\r\n")
		j.NextHop = send.NextHop{Scheme: "smtp", Host: "hub.example", Port: "2525"}
		if o := outcomes(t, j, c.Deliver(t.Context(), j)); o[0].Result != send.Delivered || o[0].Peer != "hub.example [192.0.2.2]:2525" {
			t.Errorf("%+v", o)
		}
		c.pool.close()
		c.pool.closed = false
	}
	if got := strings.Join(order, " "); got != "192.0.2.1:2525 192.0.2.2:2525 192.0.2.2:2525" {
		t.Errorf("dialled %s", got)
	}
}
