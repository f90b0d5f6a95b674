package gate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Certificates are the server's, as files that may change while it runs. A
// handshake uses what the last successful Load read.
type Certificates struct {
	hostname string
	loaded   atomic.Pointer[[]tls.Certificate]
	clients  atomic.Pointer[x509.CertPool] // authorities of client certificates; nil: none is asked for
}

// selfSigned says how long a certificate of our own making is valid.
const selfSigned = 10 * 365 * 24 * time.Hour

// NewCertificates loads the pairs of certificate and key files; without any it
// makes a self-signed certificate for the host name, which is good enough for
// the opportunistic TLS between mail servers (RFC 7435).
func NewCertificates(hostname string, certs, keys []string) (*Certificates, error) {
	c := &Certificates{hostname: hostname}
	return c, c.Load(certs, keys)
}

// Load reads the files again. On an error what was loaded before stays in use.
func (c *Certificates) Load(certs, keys []string) error {
	list := make([]tls.Certificate, 0, len(certs))
	for i, file := range certs {
		pair, err := tls.LoadX509KeyPair(file, keys[i])
		if err != nil {
			return fmt.Errorf("gate: certificate %s with key %s: %w", file, keys[i], err)
		}
		list = append(list, pair)
	}
	if len(list) == 0 {
		if c.loaded.Load() != nil && len(certs) == 0 {
			return nil
		}
		own, err := makeCertificate(c.hostname)
		if err != nil {
			return fmt.Errorf("gate: self-signed certificate: %w", err)
		}
		list = append(list, own)
	}
	c.loaded.Store(&list)
	return nil
}

// SetClientCA makes handshakes ask the client for a certificate, and reads the
// authorities that may vouch for one from a PEM file; "": none is asked for. On
// an error what was set before stays.
func (c *Certificates) SetClientCA(file string) error {
	if file == "" {
		c.clients.Store(nil)
		return nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("gate: client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("gate: client_ca: %s holds no certificate in PEM", file)
	}
	c.clients.Store(pool)
	return nil
}

// VerifiedClient is the subject of the client's certificate, where one of
// authorities vouches for it, else "". A certificate that nobody vouches for is
// as good as none, and no reason to end the connection: mail servers show theirs
// to whoever asks.
func VerifiedClient(s tls.ConnectionState, authorities *x509.CertPool) string {
	if len(s.PeerCertificates) == 0 || authorities == nil {
		return ""
	}
	leaf, between := s.PeerCertificates[0], x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	o := x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := leaf.Verify(o); err != nil {
		return ""
	}
	return leaf.Subject.String()
}

// Config is for a server's handshakes: TLS 1.2 and newer with the library's
// choice of suites. The certificate whose names fit the client's SNI is taken,
// else the first. ClientCAs is what VerifiedClient needs.
func (c *Certificates) Config() *tls.Config {
	config := c.config()
	if pool := c.clients.Load(); pool != nil {
		config.ClientAuth, config.ClientCAs = tls.RequestClientCert, pool
	}
	return config
}

func (c *Certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			list := *c.loaded.Load()
			for i := range list {
				if hello.ServerName != "" && hello.SupportsCertificate(&list[i]) == nil {
					return &list[i], nil
				}
			}
			return &list[0], nil
		},
	}
}

func makeCertificate(hostname string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: hostname},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(selfSigned),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(hostname); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{hostname}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Changed tells the newest modification time of the files, so that a caller can
// see whether a reload is due.
func Changed(files ...string) (newest time.Time) {
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.ModTime().After(newest) {
			newest = st.ModTime()
		}
	}
	return newest
}
