package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// What is wrong with a file of a private key.
var (
	ErrNoKey = errors.New("it holds no private key in PEM: make one with postern dkim keygen")
	ErrOpen  = errors.New("others than its owner may read or write it: chmod 600")
)

// maxKeyFile bounds a file that is read as a private key.
const maxKeyFile = 64 << 10

// LoadKey reads a private key, RSA or Ed25519, in PEM (PKCS #8 or PKCS #1). A file that
// everybody may read, or that its group may write, is refused; so is an RSA key of less
// than 1024 bits, which nobody would accept (RFC 8301 section 3.2).
func LoadKey(path string) (crypto.Signer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	if info.Mode().Perm()&0o027 != 0 {
		return nil, ErrOpen
	}
	data, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, err
	}
	return ParsePrivateKey(data)
}

// ParsePrivateKey reads what LoadKey finds in a file.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		}
		if err != nil {
			continue
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			if key.N.BitLen() < DefaultMinBits {
				return nil, fmt.Errorf("its key has %d bits; RSA keys of less than %d are accepted by nobody, 2048 are usual", key.N.BitLen(), DefaultMinBits)
			}
			return key, nil
		case ed25519.PrivateKey:
			return key, nil
		default:
			return nil, fmt.Errorf("its key is a %T; RSA and Ed25519 sign mail", key)
		}
	}
	return nil, ErrNoKey
}

// GenerateKey makes a private key: of kind "ed25519", or "rsa" of that many bits.
func GenerateKey(kind string, bits int) (crypto.Signer, error) {
	switch kind {
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "rsa":
		if bits < DefaultMinBits || bits > DefaultMaxBits {
			return nil, fmt.Errorf("an RSA key has %d to %d bits", DefaultMinBits, DefaultMaxBits)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return nil, fmt.Errorf("%q is no kind of key: rsa or ed25519", kind)
}

// EncodeKey is a private key as LoadKey reads it.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Record is the key record that publishes a public key.
func Record(public crypto.PublicKey) (string, error) {
	switch pub := public.(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub), nil
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return "", err
		}
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), nil
	}
	return "", fmt.Errorf("a %T is no key of a mail signature", public)
}

// SameKey tells whether the public key of a record is that of a private key.
func (k *Key) SameKey(private crypto.Signer) bool {
	pub, ok := k.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(private.Public())
}
