package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/qmail"
	"github.com/postern-mta/postern/core/queue"
)

// deadline is when a queue program gives up, as qmail-queue does.
const deadline = 24 * time.Hour

// reasonFile is the descriptor on which a caller may want words.
const reasonFile = 6

func queueInCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "queue-in",
		Short: "Take a message as qmail-queue does: descriptors 0 and 1 in, an exit status out",
		Long: `Takes a message on descriptor 0, then its envelope on descriptor 1: F, the sender,
NUL, then T, a recipient, NUL for each one, then a NUL. Called by the name
qmail-queue it does the same, so that it can take qmail-queue's place, and be what
QMAILQUEUE names. All policies apply. With the daemon down the message is stored
safely, and taken in when it starts.

It prints nothing on descriptor 1, which it reads. Where descriptor 6 is open, the
reason of a refusal goes there, and the status is 82.

Exit status: 0 the message is safe; 11 an address is too long, 31 refused; and, to
be tried again, 51 no memory, 52 more than a day, 53 the disk, 54 the message or the
envelope ended early, 55 the configuration, 61 to 66 the folders of the queue, 71
deferred, 74 the daemon was lost, 81 a mistake of ours, 91 no envelope; 82 the
reason is on descriptor 6. docs/qmail.md has them all.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status := sendOn(g, "qmail-queue", func() error { return takeIn(cmd.Context(), g, os.Stdin, os.NewFile(1, "envelope")) })
			if status != qmail.Queued {
				return exitError{status: int(status)}
			}
			return nil
		},
	}
}

// sendOn is a queue program but for what it does with a message. The words of take's
// error go to descriptor 6, and to standard error where that is not a client's socket.
func sendOn(g *global, name string, take func() error) qmail.Status {
	wants := wantsReason()
	late := time.AfterFunc(deadline, func() { os.Exit(int(qmail.TimedOut)) }) // it may wait for what never ends
	defer late.Stop()
	err := take()
	if err == nil {
		return qmail.Queued
	}
	if !isSocket(2) {
		fmt.Fprintf(g.std.err, "%s: %v\n", name, err)
	}
	if status, ok := errors.AsType[qmail.Status](err); ok {
		return status
	}
	r := message.ReplyOf(err)
	if wants {
		if _, err := syscall.Write(reasonFile, []byte(qmail.Reason(r))); err == nil {
			return qmail.Custom
		}
	}
	switch {
	case r.Permanent():
		return qmail.Refused
	case r.Code == 452:
		return qmail.WriteFailed
	}
	return qmail.Deferred
}

// systemConfig is the configuration that a qmail-queue with the set-user-ID bit reads.
const systemConfig = "/etc/postern/postern.toml"

// takeIn returns nil when the message is safe; else a qmail.Status, or a
// message.Reply.
func takeIn(ctx context.Context, g *global, body, envelope io.Reader) error {
	if os.Geteuid() != os.Getuid() {
		g.file = systemConfig // a caller of another account does not choose it
	}
	c, err := g.handing()
	if err != nil {
		return qmail.Failure(qmail.NoConfiguration, err)
	}
	spool, err := qmail.ReadSpool(filepath.Join(c.Server.DataDir, "drop"), body)
	if err != nil {
		return err
	}
	defer spool.Close()
	drop := queue.Drop{Arrived: time.Now(), Via: intake.QueueIn, Client: remoteClient(os.Getenv), Trace: fmt.Sprintf("(qmail %d invoked by uid %d)", os.Getpid(), os.Getuid())}
	if err := readEnvelope(&drop, c.Server, envelope); err != nil {
		return err
	}
	if len(drop.Recipients) == 0 {
		return nil // as with qmail: it is taken, and nobody is to get it
	}
	return handOver(ctx, c, drop, spool)
}

// readEnvelope fills in whom the message is from and to.
func readEnvelope(drop *queue.Drop, server config.Server, envelope io.Reader) error {
	return qmail.ReadEnvelope(bufio.NewReader(envelope), func(letter byte, raw []byte) error {
		text, host := string(raw), server.EnvNoAtHost
		if letter == 'F' {
			host = server.Hostname
		}
		a, err := qmail.Address(text, host)
		switch {
		case err != nil:
			return message.NewReply(553, "5.1.3", "%q: %v", text, err)
		case letter == 'F':
			drop.Sender, drop.Double = a, text == qmail.DoubleBounce
		case !a.IsNull(): // nobody is nobody, as with qmail
			drop.Recipients = append(drop.Recipients, a)
		}
		return nil
	})
}

// handOver gives the message to the daemon, or stores it for the next one.
func handOver(ctx context.Context, c *config.Config, drop queue.Drop, body *qmail.Spool) error {
	client, err := dialToHand(c)
	if isDown(err) {
		return storeDrop(ctx, c, drop, body)
	}
	if err != nil {
		return qmail.Failure(qmail.Communication, err)
	}
	defer client.Close()
	reply, err := client.Inject(ctx, drop, body.Reader())
	switch {
	case isDown(err):
		return storeDrop(ctx, c, drop, body)
	case err != nil:
		return qmail.Failure(qmail.Communication, err)
	case reply.Negative():
		return reply
	}
	return nil
}

// dialToHand is the daemon for who hands mail over: by the control socket, or where
// this account may not use that, by the one that is for every account.
func dialToHand(c *config.Config) (*console.Client, error) {
	client, err := dial(c)
	if !errors.Is(err, fs.ErrPermission) {
		return client, err
	}
	socket := injectionSocket(c)
	client, err = console.Dial(socket)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; let accounts of this host into its folder: chmod o+x %s", err, filepath.Dir(socket))
	}
	return client, err
}

func storeDrop(ctx context.Context, c *config.Config, drop queue.Drop, body *qmail.Spool) error {
	if c.Server.DataDir == noDataDir {
		return qmail.Failure(qmail.Communication, errors.New("the daemon is down"))
	}
	_, err := queue.WriteDrop(filepath.Join(c.Server.DataDir, "drop"), drop, body.Reader())
	switch {
	case errors.Is(err, os.ErrPermission):
		return qmail.Failure(qmail.NoQueue, fmt.Errorf("the daemon is down, and this account may not leave mail for it: %w", err))
	case err != nil:
		return qmail.Failure(qmail.WriteFailed, err)
	}
	if client, err := dial(c); err == nil { // it started meanwhile
		defer client.Close()
		_ = client.TakeDrops(ctx) // the message is safe
	}
	return nil
}

// remoteClient is the client that a qmail-smtpd which calls us serves, as its
// tcpserver says.
func remoteClient(getenv func(string) string) netip.AddrPort {
	ip, err := netip.ParseAddr(getenv("TCPREMOTEIP"))
	if err != nil {
		return netip.AddrPort{}
	}
	port, _ := strconv.ParseUint(getenv("TCPREMOTEPORT"), 10, 16) // 0 where it is not known
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(port))
}

// wantsReason tells whether a caller reads descriptor 6. What the Go runtime opens for
// itself is no file of these kinds.
func wantsReason() bool {
	var st syscall.Stat_t
	if syscall.Fstat(reasonFile, &st) != nil {
		return false
	}
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFREG, syscall.S_IFCHR:
	default:
		return false
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, reasonFile, syscall.F_GETFL, 0)
	return errno == 0 && flags&syscall.O_ACCMODE != syscall.O_RDONLY
}

func isSocket(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFSOCK
}
