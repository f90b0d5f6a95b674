package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// This file is a client of spamd: the SPAMC protocol, version 1.5, as
// SpamAssassin's spamd/PROTOCOL describes it. One connection is one question.

// Bounds of a reply. spamd is of the house, but what it answers is made from
// mail of strangers.
const (
	maxLine    = 4 << 10  // bytes of a line
	maxLines   = 32       // header lines
	maxSymbols = 64 << 10 // bytes of rule names
	maxRules   = 1000
	maxRule    = 100 // bytes of a rule's name
	maxPoints  = 1e6
)

// client says where spamd is.
type client struct {
	network, address string
	user             string
}

// verdict is what spamd thinks of a message.
type verdict struct {
	spam             bool
	points, required float64
	rules            []string
}

// place splits a setting into network and address.
func place(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		s = path
		if !strings.HasPrefix(s, "/") {
			return "", s, fmt.Errorf("%q is not an absolute path; write one such as \"unix:/run/spamd.sock\"", s)
		}
	}
	if strings.HasPrefix(s, "/") {
		return "unix", s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", s, fmt.Errorf("%q is not an address; write a host and port such as \"127.0.0.1:783\", or the path of a socket", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", s, fmt.Errorf("%q has no port from 1 to 65535; write something like \"127.0.0.1:783\"", s)
	}
	return "tcp", s, nil
}

// ask shows spamd a message of so many bytes. ctx bounds all of it.
func (c client) ask(ctx context.Context, size int64, body io.Reader) (v verdict, err error) {
	err = c.talk(ctx, func(conn net.Conn) error {
		sent := c.send(conn, size, body)
		v, err = readVerdict(conn)
		if err != nil && sent != nil {
			return sent // a reply that came all the same says more
		}
		return err
	})
	return v, err
}

// ping asks whether spamd is there.
func (c client) ping(ctx context.Context) error {
	return c.talk(ctx, func(conn net.Conn) error {
		if _, err := io.WriteString(conn, "PING SPAMC/1.2\r\n\r\n"); err != nil {
			return err
		}
		if err := thatIsAll(conn); err != nil {
			return err
		}
		return readStatus(bufio.NewReaderSize(conn, maxLine))
	})
}

// talk runs one exchange. The end of ctx closes the connection.
func (c client) talk(ctx context.Context, exchange func(net.Conn) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.network, c.address)
	if err != nil {
		return fmt.Errorf("spamd: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := exchange(conn); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("spamd at %s: %w", c.address, err)
	}
	return nil
}

// send writes the request.
func (c client) send(conn net.Conn, size int64, body io.Reader) error {
	w := bufio.NewWriterSize(conn, 32<<10)
	fmt.Fprintf(w, "SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n", size)
	if c.user != "" {
		fmt.Fprintf(w, "User: %s\r\n", c.user)
	}
	fmt.Fprint(w, "\r\n")
	if n, err := io.Copy(w, body); err != nil {
		return err
	} else if n != size {
		return fmt.Errorf("the message has %d bytes and not %d", n, size)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return thatIsAll(conn)
}

// thatIsAll closes our half of the connection.
func thatIsAll(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// readVerdict reads the reply to SYMBOLS.
func readVerdict(conn io.Reader) (v verdict, err error) {
	r := bufio.NewReaderSize(conn, maxLine)
	if err := readStatus(r); err != nil {
		return v, err
	}
	length, judged := int64(-1), false
	for n := 0; ; n++ {
		line, err := readLine(r)
		if err != nil {
			return v, err
		}
		if line == "" {
			break
		}
		if n >= maxLines {
			return v, errors.New("its reply has too many header lines")
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length":
			if length, err = strconv.ParseInt(value, 10, 32); err != nil || length < 0 || length > maxSymbols {
				return v, fmt.Errorf("its reply has the length %.20q", value)
			}
		case "spam":
			if err := v.read(value); err != nil {
				return v, err
			}
			judged = true
		}
	}
	if !judged {
		return v, errors.New("its reply has no verdict")
	}
	v.rules, err = readRules(r, length)
	return v, err
}

// readStatus reads the first line: "SPAMD/1.1 0 EX_OK".
func readStatus(r *bufio.Reader) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	protocol, rest, _ := strings.Cut(line, " ")
	code, text, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(protocol, "SPAMD/") {
		return fmt.Errorf("it does not speak spamd's protocol: %.100q", line)
	}
	if n != 0 {
		return fmt.Errorf("it answers %d %.100q", n, text)
	}
	return nil
}

// readLine reads a line without its end, of maxLine bytes at most.
func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errors.New("a line of its reply is too long")
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("its reply is cut off: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// read reads "True ; 1000.0 / 5.0".
func (v *verdict) read(s string) error {
	word, numbers, _ := strings.Cut(s, ";")
	points, required, _ := strings.Cut(numbers, "/")
	var errs [2]error
	v.points, errs[0] = number(points)
	v.required, errs[1] = number(required)
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "true", "yes":
		v.spam = true
	case "false", "no":
		v.spam = false
	default:
		errs[0] = errors.New("no verdict")
	}
	if errors.Join(errs[:]...) != nil {
		return fmt.Errorf("its verdict %.100q makes no sense", s)
	}
	return nil
}

func number(s string) (float64, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err == nil && !(math.Abs(n) <= maxPoints) {
		err = errors.New("out of range")
	}
	return n, err
}

// readRules reads the names of the rules that hit, separated by commas; length is
// -1 where the reply gave none.
func readRules(r io.Reader, length int64) ([]string, error) {
	limit := length
	if limit < 0 {
		limit = maxSymbols + 1
	}
	text, err := io.ReadAll(io.LimitReader(r, limit))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) < length:
		return nil, fmt.Errorf("its reply is cut off: %w", io.ErrUnexpectedEOF)
	case len(text) > maxSymbols:
		return nil, errors.New("its reply is too long")
	}
	var rules []string
	for name := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if len(name) > maxRule || strings.ContainsFunc(name, notOfRule) {
			return nil, fmt.Errorf("its reply names the rule %.100q", name)
		}
		if rules = append(rules, name); len(rules) > maxRules {
			return nil, errors.New("its reply names too many rules")
		}
	}
	return rules, nil
}

// notOfRule tells that a rule's name can't have a character.
func notOfRule(r rune) bool {
	return r != '_' && r != '-' && r != '.' && !('0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
}
