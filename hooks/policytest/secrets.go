package policytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"
)

// secrets are the certificates of the servers in tests: our own and those of
// t:http and t:tcp, all signed by one authority that scripts trust. They are made
// when they are first needed, and shared by the tests of a run.
type secrets struct {
	authority func() *authority

	mu    sync.Mutex
	leafs map[string]*tls.Certificate
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
	err  error
}

func newSecrets() *secrets {
	return &secrets{authority: sync.OnceValue(newAuthority), leafs: map[string]*tls.Certificate{}}
}

// The certificates are good for any time that a clock may show.
func validity(c *x509.Certificate) *x509.Certificate {
	c.NotBefore, c.NotAfter = time.Unix(0, 0), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	return c
}

func newAuthority() *authority {
	a := &authority{pool: x509.NewCertPool()}
	if a.key, a.err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); a.err != nil {
		return a
	}
	c := validity(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var der []byte
	if der, a.err = x509.CreateCertificate(rand.Reader, c, c, &a.key.PublicKey, a.key); a.err != nil {
		return a
	}
	if a.cert, a.err = x509.ParseCertificate(der); a.err == nil {
		a.pool.AddCert(a.cert)
	}
	return a
}

// roots are the authorities that scripts trust.
func (s *secrets) roots() *x509.CertPool { return s.authority().pool }

// server is for handshakes as any host.
func (s *secrets) server() *tls.Config { return s.serverOf(hostname) }

// serverOf is for handshakes as the host that the client names, or else as host.
func (s *secrets) serverOf(host string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: nil,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" {
				return s.leaf(hello.ServerName)
			}
			return s.leaf(host)
		},
	}
}

// client is for a client that checks the server's name.
func (s *secrets) client(host string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots(), ServerName: host}
}

func (s *secrets) leaf(host string) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.leafs[host]; c != nil {
		return c, nil
	}
	a := s.authority()
	if a.err != nil {
		return nil, a.err
	}
	c := validity(&x509.Certificate{SerialNumber: big.NewInt(int64(len(s.leafs) + 2)), Subject: pkix.Name{CommonName: "postern test"}, KeyUsage: x509.KeyUsageDigitalSignature})
	if ip := net.ParseIP(host); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	s.leafs[host] = leaf
	return leaf, nil
}
