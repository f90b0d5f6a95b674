package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

// This file is the client's end of Postfix's policy protocol: a request is lines of
// name=value and an empty line, and so is its answer, which has the line action=…. A
// connection serves one request after the other.

const (
	maxLine  = 4 << 10 // bytes of a line of an answer
	maxLines = 20
	maxIdle  = 16               // connections that are kept
	maxRest  = 60 * time.Second // for which one is kept; Postfix's servers close after more
)

// link is a connection that can serve another request.
type link struct {
	server scanner.Server
	conn   net.Conn
	r      *bufio.Reader
	since  time.Time
}

// exchange asks one of the servers, and returns the action.
func (s *service) exchange(ctx context.Context, request []byte) (action string, err error) {
	err = s.servers.Ask(ctx, scanner.NewMessage(bytes.NewReader(request)), func(ctx context.Context, one scanner.Server, _ io.Reader) (err error) {
		if l := s.kept(one); l != nil {
			// The server may have closed it meanwhile: a request that got no byte of an
			// answer is asked anew.
			if action, err = s.over(ctx, l, request); err == nil || !errors.Is(err, errClosed) {
				return err
			}
		}
		// Its deadline is set by each request, not by the context that it is made in.
		d := net.Dialer{Timeout: s.servers.Connect}
		conn, err := d.DialContext(ctx, one.Network, one.Address)
		if err != nil {
			return err
		}
		action, err = s.over(ctx, &link{server: one, conn: conn, r: bufio.NewReaderSize(conn, maxLine)}, request)
		return err
	})
	return action, err
}

// errClosed is a connection that ended before a byte of the answer came.
var errClosed = errors.New("it closed the connection")

// over asks over one connection, and keeps or closes it.
func (s *service) over(ctx context.Context, l *link, request []byte) (action string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	_, err = l.conn.Write(request)
	if err == nil {
		_, err = l.r.Peek(1)
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errClosed, err)
	}
	if err == nil {
		action, err = readAction(l.r)
	}
	if stop() && err == nil && l.r.Buffered() == 0 {
		l.since = time.Now()
		select {
		case s.idle <- l:
			return action, nil
		default:
		}
	}
	l.conn.Close()
	return action, err
}

// kept is a connection to a server that waits for work; nil where there is none.
func (s *service) kept(to scanner.Server) *link {
	for range maxIdle {
		select {
		case l := <-s.idle:
			if l.server == to && time.Since(l.since) < maxRest {
				return l
			}
			l.conn.Close()
		default:
			return nil
		}
	}
	return nil
}

// readAction reads an answer.
func readAction(r *bufio.Reader) (action string, err error) {
	found := false
	for range maxLines {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return "", errors.New("a line of its answer is too long")
		case errors.Is(err, io.EOF):
			return "", fmt.Errorf("its answer is cut off: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return "", err
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			if !found {
				return "", errors.New("its answer has no action")
			}
			return action, nil
		}
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return "", fmt.Errorf("its answer makes no sense: %.100q", text)
		}
		if strings.TrimSpace(name) == "action" {
			action, found = scanner.OneLine(value), true
		}
	}
	return "", errors.New("its answer has too many lines")
}
