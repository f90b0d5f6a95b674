package gate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// issue makes a certificate for a name, signed by the parent or by itself.
func issue(t *testing.T, name string, parent *tls.Certificate, use x509.ExtKeyUsage, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Unix(0, 0), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{use}, BasicConstraintsValid: true, IsCA: parent == nil,
	}
	signer, signKey := template, any(key)
	if parent != nil {
		signer, signKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// handshake is what the server sees of a client, and the client of the server.
func handshake(t *testing.T, server, client *tls.Config) (s, c tls.ConnectionState) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	var done sync.WaitGroup
	done.Go(func() {
		conn := tls.Server(far, server)
		if err := conn.Handshake(); err != nil {
			t.Error(err)
		}
		s = conn.ConnectionState()
		_, _ = conn.Write([]byte("x"))
		_ = far.Close()
	})
	conn := tls.Client(near, client)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	c = conn.ConnectionState()
	done.Wait()
	return s, c
}

// TestClientCertificates: one that a listed authority vouches for is a name, any
// other is none and does no harm.
func TestClientCertificates(t *testing.T) {
	later := time.Now().Add(time.Hour)
	ours, other := issue(t, "Our CA", nil, x509.ExtKeyUsageClientAuth, later), issue(t, "Other CA", nil, x509.ExtKeyUsageClientAuth, later)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	certs, err := NewCertificates("mx.example.net", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	none := certs.Config()
	if none.ClientAuth != tls.NoClientCert {
		t.Error("clients are asked without client_ca")
	}
	if err := certs.SetClientCA(file); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		shows *tls.Certificate
		want  string
	}{
		"ours":         {issue(t, "relay.example.org", ours, x509.ExtKeyUsageClientAuth, later), "CN=relay.example.org"},
		"other's":      {issue(t, "relay.example.org", other, x509.ExtKeyUsageClientAuth, later), ""},
		"expired":      {issue(t, "relay.example.org", ours, x509.ExtKeyUsageClientAuth, time.Unix(1e9, 0)), ""},
		"for a server": {issue(t, "relay.example.org", ours, x509.ExtKeyUsageServerAuth, later), ""},
		"none":         {nil, ""},
	} {
		config := certs.Config()
		client := &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if tc.shows == nil {
				return &tls.Certificate{}, nil
			}
			return tc.shows, nil
		}}
		seen, _ := handshake(t, config, client)
		if got := VerifiedClient(seen, config.ClientCAs); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
		if VerifiedClient(seen, nil) != "" {
			t.Errorf("%s: a name without authorities", name)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{empty, empty + ".none"} {
		if err := certs.SetClientCA(bad); err == nil || !strings.Contains(err.Error(), "client_ca") || certs.Config().ClientCAs == nil {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := certs.SetClientCA(""); err != nil || certs.Config().ClientCAs != nil {
		t.Errorf("switched off: %v", err)
	}
}

// TestCertificateByName: the certificate for the name that the client asks for
// (RFC 6066 section 3), else the first.
func TestCertificateByName(t *testing.T) {
	later := time.Now().Add(time.Hour)
	first, second := issue(t, "mx.example.net", nil, x509.ExtKeyUsageServerAuth, later), issue(t, "mail.example.org", nil, x509.ExtKeyUsageServerAuth, later)
	certs := &Certificates{}
	certs.loaded.Store(&[]tls.Certificate{*first, *second})
	for name, want := range map[string]string{"mx.example.net": "mx.example.net", "mail.example.org": "mail.example.org", "other.example": "mx.example.net", "": "mx.example.net"} {
		_, c := handshake(t, certs.Config(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if got := c.PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
