package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/qmqp"
)

// qmqpClient is the Deliverer of next hops qmqp://.
func (d *daemon) qmqpClient() *qmqp.Client { return &qmqp.Client{Lookup: d.addressesOf} }

// addressesOf returns the addresses of a host.
func (d *daemon) addressesOf(ctx context.Context, host string) ([]netip.Addr, error) {
	four, err := d.dns.LookupA(ctx, host)
	six, err6 := d.dns.LookupAAAA(ctx, host)
	if all := append(four, six...); len(all) > 0 {
		return all, nil
	}
	return nil, errors.Join(err, err6)
}

// serversFile is where qmail-qmqpc has its servers.
const serversFile = "/var/qmail/control/qmqpservers"

func qmqpcCommand(g *global) *cobra.Command {
	var servers []string
	file := serversFile
	c := &cobra.Command{
		Use:   "qmqpc",
		Short: "Send a message by QMQP, as qmail-qmqpc does: descriptors 0 and 1 in, an exit status out",
		Long: `Takes a message on descriptor 0 and its envelope on descriptor 1, as queue-in does,
and sends it by QMQP to the first server that takes the connection; that server's
answer is final. Called by the name qmail-qmqpc it does the same, so that it can be
what QMAILQUEUE names on a host without a queue. It needs no configuration and no
daemon.

Exit status: 0 the server has taken it; 31 refused, 71 deferred, or 82 with the
server's words where descriptor 6 is open; 55 there is no server, 72 the last one
did not answer, 73 it refused the connection, 74 the connection was lost behind
that, and the rest as of queue-in.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status := sendOn(g, "qmail-qmqpc", func() error {
				return qmqpc(cmd.Context(), servers, file, os.Stdin, os.NewFile(1, "envelope"))
			})
			if status != qmail.Queued {
				return exitError{status: int(status)}
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&servers, "server", nil, "`ADDRESS[:PORT]` of a server, in place of the file's; several are tried in turn")
	c.Flags().StringVar(&file, "servers", serversFile, "`FILE` with a server's address a line")
	return c
}

// qmqpc returns nil when a server has taken the message; else a qmail.Status, or a
// message.Reply.
func qmqpc(ctx context.Context, servers []string, file string, body, envelope io.Reader) error {
	if len(servers) == 0 {
		var err error
		if servers, err = readServers(file); err != nil {
			return qmail.Failure(qmail.NoConfiguration, err)
		}
	}
	spool, err := qmail.ReadSpool(os.TempDir(), body)
	if err != nil {
		return err
	}
	defer spool.Close()
	m := qmqp.Message{Body: spool.Reader(), Size: spool.Size()}
	err = qmail.ReadEnvelope(bufio.NewReader(envelope), func(letter byte, a []byte) error {
		if letter == 'F' {
			m.Sender = string(a)
		} else {
			m.Recipients = append(m.Recipients, string(a))
		}
		return nil
	})
	if err != nil {
		return err
	}
	reply, _, err := (&qmqp.Client{}).Send(ctx, servers, m)
	unreached, out := errors.AsType[*qmqp.Unreached](err)
	switch {
	case errors.Is(err, qmqp.ErrNoServers):
		return qmail.Failure(qmail.NoConfiguration, err)
	case out && unreached.Timeout:
		return qmail.Failure(qmail.ConnectionTimed, err)
	case out:
		return qmail.Failure(qmail.ConnectionFailed, err)
	case err != nil:
		return qmail.Failure(qmail.Communication, err)
	case reply.Negative():
		return reply
	}
	return nil
}

// readServers reads a server's address a line; # begins a comment. What is no address
// is told, and not passed over.
func readServers(file string) (list []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if _, err := netip.ParseAddr(line); err != nil {
			if _, err := netip.ParseAddrPort(line); err != nil {
				return nil, fmt.Errorf("%s:%d: %q is no IP address, such as 192.0.2.1 or 192.0.2.1:628", file, n, line)
			}
		}
		list = append(list, line)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", file, qmqp.ErrNoServers)
	}
	return list, nil
}
