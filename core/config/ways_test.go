package config

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestWaysIn: every kind of listener, and who may log in, as they are written.
func TestWaysIn(t *testing.T) {
	text := `
[tls]
client_ca = "ca.pem"
[[auth]]
use = "file"
path = "users.txt"
[[listen]]
name = "submission"
address = ":587"
protocol = "submission"
tls = "required"
sender_check = "user"
[[listen]]
name = "submissions"
address = "[::]:465"
protocol = "submission"
tls = "implicit"
auth = ["SCRAM-SHA-256"]
sender_check = "@senders.txt"
[[listen]]
address = "unix:run/lmtp.sock"
socket_mode = "0666"
protocol = "lmtp"
tls = "off"
[[listen]]
name = "behind"
address = "systemd:smtp"
auth = []
proxy_from = ["192.0.2.0/24"]
`
	ca, _ := pair(t, time.Now().Add(time.Hour))
	dir := write(t, map[string]string{"postern.toml": text, "users.txt": "", "senders.txt": "", "ca.pem": ca})
	if err := os.Chmod(filepath.Join(dir, "users.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems := Load("postern.toml", Options{})
	if len(problems) > 0 {
		t.Fatalf("problems:\n%v", problems)
	}
	if len(c.Auth) != 1 || c.Auth[0].Use != "file" || c.Auth[0].Path != filepath.Join(dir, "users.txt") || c.TLS.ClientCA != filepath.Join(dir, "ca.pem") {
		t.Errorf("auth %+v, tls %+v", c.Auth, c.TLS)
	}
	socket := "unix:" + filepath.Join(dir, "run/lmtp.sock")
	for i, want := range []struct {
		name, address, protocol, tls string
		mode                         fs.FileMode
		auth                         int
		sender                       SenderCheck
	}{
		{"submission", ":587", "submission", "required", 0o660, 3, SenderCheck{User: true}},
		{"submissions", "[::]:465", "submission", "implicit", 0o660, 1, SenderCheck{File: filepath.Join(dir, "senders.txt")}},
		{socket, socket, "lmtp", "off", 0o666, 0, SenderCheck{}},
		{"behind", "systemd:smtp", "smtp", "starttls", 0o660, 0, SenderCheck{}},
	} {
		l := c.Listen[i]
		if l.Name != want.name || l.Address != want.address || l.Protocol != want.protocol || l.TLS != want.tls || l.SocketMode != want.mode || len(l.Auth) != want.auth || l.SenderCheck != want.sender {
			t.Errorf("%s: %+v, want %+v", want.name, l, want)
		}
	}
	if got := c.Listen[3].ProxyFrom; !slices.Equal(got, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}) {
		t.Errorf("proxy_from %v", got)
	}
}
