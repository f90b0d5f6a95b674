package scanner

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Server is where a server is.
type Server struct {
	Network string // tcp or unix
	Address string // host and port, or a path
	TLS     bool   // its address said https
}

// String is the address as people write it.
func (s Server) String() string {
	switch {
	case s.Network == "unix":
		return "unix:" + s.Address
	case s.TLS:
		return "https://" + s.Address
	}
	return s.Address
}

// Parse reads one address: a host and port such as "127.0.0.1:783", the path of a
// unix socket with or without "unix:" before it, or with "http://", "https://" or
// "inet:" before host and port.
func Parse(text string) (Server, error) {
	s := Server{Network: "tcp", Address: strings.TrimSpace(text)}
	path, named := strings.CutPrefix(s.Address, "unix:")
	if named {
		path = strings.TrimPrefix(path, "//")
	}
	if named || strings.HasPrefix(s.Address, "/") {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f || r > '~' }) {
			return s, fmt.Errorf("%q is not an absolute path; write one such as \"unix:/run/scanner.sock\"", text)
		}
		return Server{Network: "unix", Address: path}, nil
	}
	switch scheme, rest, ok := strings.Cut(s.Address, ":"); {
	case !ok:
	case scheme == "inet":
		s.Address = rest
	case (scheme == "http" || scheme == "https") && strings.HasPrefix(rest, "//"):
		s.Address, s.TLS = strings.TrimSuffix(rest[2:], "/"), scheme == "https"
	}
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '@' }) {
		return s, fmt.Errorf("%q is not an address; write a host and port such as \"127.0.0.1:783\", or the path of a socket", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return s, fmt.Errorf("%q has no port from 1 to 65535; write something like \"127.0.0.1:783\"", text)
	}
	return s, nil
}

// ParseList reads addresses that commas part. There is at least one.
func ParseList(text string) ([]Server, error) {
	var list []Server
	for one := range strings.SplitSeq(text, ",") {
		s, err := Parse(one)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// OneLine is what a server says, as it may stand in a reply or a header field: without
// control characters.
func OneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}
