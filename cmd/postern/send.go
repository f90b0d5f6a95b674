package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-mta/postern/core/message"
)

// sendOptions are the flags of `postern send`.
type sendOptions struct {
	server, from, helo string
	to, xclient        []string
	tls, quiet         bool
	timeout            time.Duration
}

func sendCommand(io streams) *cobra.Command {
	var o sendOptions
	c := &cobra.Command{
		Use:   "send --from ADDRESS --to ADDRESS FILE|-",
		Short: "Send a message over SMTP and show the dialogue",
		Long: `Speaks SMTP to a server and shows every line of it: "<-" is what the server
says, "->" what is sent. The message is a file, or "-" for standard input; lone
LF line ends become CRLF.

--xclient plays another client to a server that allows it, such as the built-in
default does for the loopback: --xclient ADDR=192.0.2.7 --xclient HELO=mx.example

Exit status: 0 accepted for all recipients, 1 refused or deferred, 2 wrong use
or no connection.`,
		Example: `  postern send --from me@example.org --to you@localhost mail.eml
  printf 'Subject: hi\n\nhello\n' | postern send --from me@example.org --to you@localhost -
  postern send --xclient ADDR=192.0.2.7 --from a@example.org --to you@localhost -`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(io, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.server, "server", "127.0.0.1:2525", "`HOST:PORT` of the server")
	f.StringVar(&o.from, "from", "", "reverse-path; \"\" is the null sender")
	f.StringArrayVar(&o.to, "to", nil, "recipient; may stand several times")
	f.StringVar(&o.helo, "helo", "", "name in EHLO (default: the machine's)")
	f.StringArrayVar(&o.xclient, "xclient", nil, "`ATTRIBUTE=VALUE` for XCLIENT: ADDR, NAME, HELO, PORT, PROTO, LOGIN; may stand several times")
	f.BoolVar(&o.tls, "tls", false, "use STARTTLS; the certificate is not verified")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no dialogue, only what was refused")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "longest wait for a reply")
	return c
}

func (o *sendOptions) run(std streams, file string) error {
	in := std.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usageError{err}
		}
		defer f.Close()
		in = f
	}
	if len(o.to) == 0 {
		return usageError{errors.New("say to whom: --to ADDRESS")}
	}
	if o.helo == "" {
		o.helo, _ = os.Hostname()
	}
	for _, a := range append([]string{o.from}, o.to...) {
		if strings.ContainsAny(a, "\r\n<>") {
			return usageError{fmt.Errorf("%q is no address", a)}
		}
	}
	conn, err := net.DialTimeout("tcp", o.server, min(o.timeout, 30*time.Second))
	if err != nil {
		return usageError{fmt.Errorf("%w; is the server running? (--server HOST:PORT)", err)}
	}
	d := &dialogue{conn: conn, show: std.out, timeout: o.timeout}
	if o.quiet {
		d.show = io.Discard
	}
	d.reset()
	defer func() { _ = d.conn.Close() }()
	return d.send(o, in)
}

// dialogue is one SMTP conversation that is shown while it goes on.
type dialogue struct {
	conn    net.Conn
	text    *textproto.Reader
	show    io.Writer
	timeout time.Duration
}

func (d *dialogue) reset() { d.text = textproto.NewReader(bufio.NewReader(d.conn)) }

// say sends a line and reads its reply.
func (d *dialogue) say(format string, args ...any) (message.Reply, error) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(d.show, "-> %s\n", printable(line))
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return message.Reply{}, err
	}
	if _, err := io.WriteString(d.conn, line+"\r\n"); err != nil {
		return message.Reply{}, err
	}
	return d.hear()
}

// hear reads a reply of one or more lines.
func (d *dialogue) hear() (r message.Reply, err error) {
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return r, err
	}
	var lines []string
	for {
		line, err := d.text.ReadLine()
		if errors.Is(err, io.EOF) {
			err = errors.New("the server closed the connection")
		}
		if err != nil {
			return r, err
		}
		fmt.Fprintf(d.show, "<- %s\n", printable(line))
		if len(line) < 3 {
			return r, fmt.Errorf("%q is no SMTP reply", line)
		}
		if _, err := fmt.Sscanf(line[:3], "%d", &r.Code); err != nil {
			return r, fmt.Errorf("%q is no SMTP reply", line)
		}
		if len(line) > 4 {
			lines = append(lines, line[4:])
		}
		if len(line) == 3 || line[3] != '-' {
			r.Text = strings.Join(lines, "\n")
			return r, nil
		}
	}
}

// want turns a negative reply into the error that ends the dialogue.
func want(r message.Reply, err error) error {
	if err != nil {
		return err
	}
	if r.Negative() {
		return r
	}
	return nil
}

func (d *dialogue) send(o *sendOptions, body io.Reader) error {
	if err := want(d.hear()); err != nil {
		return err
	}
	if len(o.xclient) > 0 {
		if err := want(d.say("EHLO %s", o.helo)); err != nil {
			return err
		}
		if err := want(d.say("XCLIENT %s", strings.Join(o.xclient, " "))); err != nil {
			return err
		}
	}
	if err := want(d.say("EHLO %s", o.helo)); err != nil {
		return err
	}
	if o.tls {
		if err := d.startTLS(o); err != nil {
			return err
		}
	}
	err := d.transaction(o, body)
	if _, quit := d.say("QUIT"); quit != nil && err == nil {
		fmt.Fprintf(d.show, "%v\n", quit)
	}
	return err
}

func (d *dialogue) startTLS(o *sendOptions) error {
	if err := want(d.say("STARTTLS")); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(o.server)
	secure := tls.Client(d.conn, &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // a test tool shows, it does not trust
	if err := secure.Handshake(); err != nil {
		return err
	}
	state := secure.ConnectionState()
	fmt.Fprintf(d.show, "== %s %s\n", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	d.conn = secure
	d.reset()
	return want(d.say("EHLO %s", o.helo))
}

func (d *dialogue) transaction(o *sendOptions, body io.Reader) error {
	if err := want(d.say("MAIL FROM:<%s>", o.from)); err != nil {
		return err
	}
	var refused error
	taken := 0
	for _, to := range o.to {
		switch err := want(d.say("RCPT TO:<%s>", to)); {
		case err == nil:
			taken++
		default:
			refused = errors.Join(refused, fmt.Errorf("%s: %w", to, err))
		}
	}
	if taken == 0 {
		return refused
	}
	if err := want(d.say("DATA")); err != nil {
		return err
	}
	if err := d.stuff(body); err != nil {
		return err
	}
	return errors.Join(refused, want(d.hear()))
}

// stuff sends a message's lines with CRLF, dots doubled, and the final dot.
func (d *dialogue) stuff(body io.Reader) error {
	w := bufio.NewWriterSize(d.conn, 64<<10)
	r := bufio.NewReaderSize(body, 64<<10)
	lines, size, start := 0, 0, true // a failed write is told by the last Flush
	for {
		part, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(part) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("reading the message: %w", err)
		}
		if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
			return err
		}
		if start && part[0] == '.' {
			_ = w.WriteByte('.')
		}
		start = part[len(part)-1] == '\n' || errors.Is(err, io.EOF)
		if start {
			part = bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
		}
		_, _ = w.Write(part)
		if start {
			_, _ = w.WriteString("\r\n")
			lines++
			size += len("\r\n")
		}
		size += len(part)
	}
	fmt.Fprintf(d.show, "-> (%d lines, %d bytes)\n-> .\n", lines, size)
	_, _ = w.WriteString(".\r\n")
	return w.Flush()
}

// printable keeps a peer's control characters from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
