package t

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// The plugin's process asks a real postgrey: the first attempt waits, a later one passes,
// and its field is in the message.
func TestPostgrey(t *testing.T) {
	address := startPostgrey(t)
	_, chain := scannerPlugin(t, "policyservice", map[string]any{"address": address, "at": []any{"rcpt"}})
	attempt := func(rcpt string) (hooks.Decision, *hooks.Transaction) {
		s := &hooks.Session{ID: message.NewID(time.Now()), Protocol: "smtp", Helo: "mail.example.org", Extended: true, Client: netip.MustParseAddrPort("198.51.100.7:4711")}
		tx := hooks.NewTransaction(s, message.NewID(time.Now()))
		tx.Sender = message.Address{Local: "ann", Domain: "example.org"}
		to := &hooks.Recipient{Address: message.Address{Local: rcpt, Domain: "example.net"}, Ours: true}
		tx.Recipients, tx.Current = []*hooks.Recipient{to}, to
		d := chain.Run(t.Context(), hooks.Rcpt, tx)
		if d.Verb != hooks.Pass {
			return d, tx
		}
		tx.Current = nil
		return judge(t, chain, tx, "x", "x\r\n"), tx
	}
	if d, _ := attempt("bob"); d.Verb != hooks.Defer || !strings.Contains(d.Reply.Text, "please wait") {
		t.Fatalf("the first attempt: %v %v", d.Verb, d.Reply)
	}
	if d, _ := attempt("postmaster"); d.Verb != hooks.Pass {
		t.Errorf("a recipient that postgrey spares: %v %v", d.Verb, d.Reply)
	}
	var d hooks.Decision
	var tx *hooks.Transaction
	awaits(t, "the delay of postgrey", nil, nil, func() bool {
		d, tx = attempt("bob")
		return d.Verb != hooks.Defer
	})
	if field, _ := tx.Header.Get("X-Greylist"); d.Verb != hooks.Pass || !strings.HasPrefix(field, "delayed ") {
		t.Errorf("a later attempt: %v %v, %q", d.Verb, d.Reply, field)
	}
}

// startPostgrey runs a postgrey of its own, and returns when it answers.
func startPostgrey(t *testing.T) (address string) {
	t.Helper()
	exe := installed(t, "postgrey")
	dir := openFolder(t, "postgrey")
	address = anyPort(t)
	args := []string{"--inet=" + address, "--dbdir=" + dir, "--pidfile=" + dir + "/pid", "--delay=1", "--greylist-text=please wait %s seconds", "--hostname=mx.example.net"}
	if os.Geteuid() != 0 {
		args = append(args, fmt.Sprintf("--user=%d", os.Geteuid()), fmt.Sprintf("--group=%d", os.Getegid()))
	}
	startScanner(t, "postgrey", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer c.Close()
		return true
	}, exe, args...)
	return address
}
