package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/tcpserver"
)

func tcpserverCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "tcpserver [OPTION...] HOST PORT PROGRAM [ARG...]",
		Short: "Run a program for each connection under connection rules, as tcpserver does",
		Long: `Takes TCP connections and runs the program for each, with the connection as its
descriptors 0 and 1, and what is known of it in PROTO, TCPLOCALIP, TCPLOCALPORT,
TCPLOCALHOST, TCPREMOTEIP, TCPREMOTEPORT, TCPREMOTEHOST and TCPREMOTEINFO, as
tcpserver of ucspi-tcp does. HOST is an address, a name, or 0 for all of IPv4 (:: for
all of both); PORT a number or a service, 0 for any that is free. It needs no
configuration and no daemon. TERM ends it, and not the programs that run.

  -c N     at most N connections at a time (40); more wait
  -x FILE  connection rules, in their language or compiled; seen anew when it changes.
           Where it can't be read, connections are dropped
  -X       where it is not there, everybody is allowed
  -B TEXT  written to each client at once
  -u UID, -g GID  given up to once the port is bound; -U takes both from the environment
  -1       print the port that is bound
  -b N     length of the backlog (20)
  -h, -H   look for the client's name in DNS (default), or don't
  -p, -P   take a name only if it leads back to the address, or take any (default)
  -l NAME  the local name, which is not looked up then
  -r, -R   ask the client's ident server (RFC 1413; default), or don't
  -t N     seconds for that (26)
  -o, -O   leave IP options such as source routes, or clear them (default)
  -D, -d   send without delay (TCP_NODELAY), or as the system does (default)
  -v, -q, -Q  say all, nothing, or errors alone (default)

DNS is asked at DNSCACHEIP, where that is set.

Exit status: 0 after TERM, 100 wrong use, 111 not possible.`,
		Example: `  postern tcpserver -vRHl0 -x /etc/tcp.smtp.cdb 0 smtp /var/qmail/bin/qmail-smtpd
  postern tcpserver -c 5 -1 127.0.0.1 0 /bin/cat`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "--help" {
				return cmd.Help()
			}
			return serveTCP(cmd.Context(), g, args)
		},
	}
}

func serveTCP(ctx context.Context, g *global, args []string) error {
	say := func(status int, text string) error {
		fmt.Fprintf(g.std.err, "tcpserver: %s\n", text)
		return exitError{status: status}
	}
	o, err := tcpserver.ParseArgs(args, os.Getenv)
	if err != nil {
		return say(100, fmt.Sprintf("%v\ntcpserver: usage: %s", err, tcpserver.Usage))
	}
	s := &tcpserver.Server{Options: o, Log: g.std.err, Stdout: g.std.out}
	if o.RemoteHost || o.LocalHost == "" {
		client, err := dns.New(dns.Options{Servers: cacheServers(os.Getenv("DNSCACHEIP"))})
		if err != nil {
			return say(111, "fatal: "+err.Error())
		}
		defer client.Close()
		s.DNS = client
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	err = s.Run(ctx)
	if e, ok := errors.AsType[*tcpserver.Error](err); ok {
		if o.Verbosity == 0 {
			return exitError{status: e.Status}
		}
		return say(e.Status, "fatal: "+e.Error())
	}
	return err
}

// cacheServers are the name servers that DNSCACHEIP names, apart by spaces; none are
// the system's.
func cacheServers(s string) []string { return strings.Fields(s) }
