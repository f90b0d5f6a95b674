package gate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of a PROXY header.
const (
	proxyTimeout = 5 * time.Second // for all of it: the proxy sends it at once
	maxProxyV1   = 107             // octets with CRLF, as the specification counts them
	maxProxyV2   = 4 << 10         // octets behind the first 16; TLVs take what addresses leave
)

// errProxy: the peer is one that must send a PROXY header, and did not.
var errProxy = errors.New("no proper PROXY header came")

// proxyV2 begins a header of version 2.
var proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxied is what a PROXY header says. Invalid addresses are the connection's own
// (LOCAL, UNKNOWN, unix sockets): the proxy speaks for itself.
type proxied struct {
	client, local netip.AddrPort
}

// readProxy reads the header that a proxy in proxy_from puts first (the PROXY
// protocol of HAProxy, versions 1 and 2), and not one byte more. The
// specification forbids to guess whether there is one.
func readProxy(ctx context.Context, nc net.Conn) (proxied, error) {
	if err := nc.SetReadDeadline(time.Now().Add(proxyTimeout)); err != nil {
		return proxied{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })()
	p, err := parseProxy(nc)
	if err != nil {
		return proxied{}, errors.Join(errProxy, err)
	}
	return p, nc.SetReadDeadline(time.Time{})
}

// shortestProxy is "PROXY UNKNOWN" CRLF, and less than version 2 has at least.
const shortestProxy = 15

func parseProxy(r io.Reader) (proxied, error) {
	var room [maxProxyV1]byte
	b := room[:shortestProxy]
	if _, err := io.ReadFull(r, b); err != nil {
		return proxied{}, err
	}
	switch {
	case bytes.HasPrefix(b, proxyV2):
		return parseProxyV2(r, b)
	case !bytes.HasPrefix(b, []byte("PROXY ")):
		return proxied{}, errors.New("it begins with something else")
	}
	for !bytes.HasSuffix(b, []byte("\r\n")) {
		// What is missing is at least a CRLF, or the LF behind a CR.
		n := 2
		if b[len(b)-1] == '\r' {
			n = 1
		}
		if len(b)+n > maxProxyV1 {
			return proxied{}, errors.New("its line is too long")
		}
		if _, err := io.ReadFull(r, room[len(b):len(b)+n]); err != nil {
			return proxied{}, err
		}
		b = room[:len(b)+n]
	}
	return parseProxyV1(string(b[:len(b)-2]))
}

// parseProxyV1 reads "PROXY TCP4 source destination sourceport destinationport".
func parseProxyV1(line string) (p proxied, err error) {
	bad := errors.New("its line is malformed")
	words := strings.Split(line, " ")
	switch {
	case words[1] == "UNKNOWN":
		return p, nil // what follows is to be ignored
	case len(words) != 6, words[1] != "TCP4" && words[1] != "TCP6":
		return p, bad
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		ip, err := netip.ParseAddr(words[2+i])
		port, portErr := strconv.ParseUint(words[4+i], 10, 16)
		if err != nil || portErr != nil || ip.Zone() != "" || ip.Is4() != (words[1] == "TCP4") {
			return p, bad
		}
		ends[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	return proxied{ends[0], ends[1]}, nil
}

// parseProxyV2 reads the binary header of which b is the beginning.
func parseProxyV2(r io.Reader, b []byte) (p proxied, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[copy(head[:], b):]); err != nil {
		return p, err
	}
	length := int(binary.BigEndian.Uint16(head[14:]))
	if length > maxProxyV2 {
		return p, errors.New("it is too long")
	}
	var room [36]byte // two IPv6 addresses and ports
	part := room[:min(length, len(room))]
	if _, err := io.ReadFull(r, part); err != nil {
		return p, err
	}
	if _, err := io.CopyN(io.Discard, r, int64(length-len(part))); err != nil {
		return p, err
	}
	switch head[12] {
	case 0x20: // LOCAL: a health check of the proxy's own
		return p, nil
	case 0x21: // PROXY
	default:
		return p, errors.New("its version or command is unknown")
	}
	size := 0
	switch head[13] {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	case 0x00, 0x31: // unspecified, unix stream
		return p, nil
	default:
		return p, errors.New("its address family is none that carries mail")
	}
	if length < 2*size+4 {
		return p, errors.New("its addresses are cut")
	}
	client, _ := netip.AddrFromSlice(part[:size])
	local, _ := netip.AddrFromSlice(part[size : 2*size])
	ports := part[2*size:]
	p.client = netip.AddrPortFrom(client.Unmap(), binary.BigEndian.Uint16(ports))
	p.local = netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(ports[2:]))
	return p, nil
}
