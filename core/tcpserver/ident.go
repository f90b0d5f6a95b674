package tcpserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// identPort is RFC 1413's.
const identPort = 113

// maxIdent bounds what is read of an answer (RFC 1413 section 6 has 1000 characters).
const maxIdent = 1024

// ident asks the client's ident server whose the connection is; "" where it does not
// say. What it says is as trustworthy as the client.
func ident(ctx context.Context, local, remote netip.AddrPort, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0))
	c, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", netip.AddrPortFrom(remote.Addr(), identPort).String())
	if err != nil {
		return ""
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if c.SetDeadline(deadline) != nil {
		return ""
	}
	if _, err := fmt.Fprintf(c, "%d , %d\r\n", remote.Port(), local.Port()); err != nil {
		return ""
	}
	line, _ := bufio.NewReader(io.LimitReader(c, maxIdent)).ReadString('\n')
	return identUser(line)
}

// identUser is the user of an answer: ports, the word USERID, a system, a user, with
// colons between them.
func identUser(line string) string {
	line, ended := strings.CutSuffix(line, "\n")
	parts := strings.SplitN(strings.TrimSuffix(line, "\r"), ":", 4)
	if !ended || len(parts) < 4 || !strings.EqualFold(strings.TrimSpace(parts[1]), "USERID") || strings.ContainsRune(line, 0) {
		return ""
	}
	return strings.Trim(parts[3], " \t")
}
