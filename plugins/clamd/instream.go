package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/postern-mta/postern/hooks/sdk/scanner"
)

// This file is a client of clamd: command INSTREAM in its form with NUL at the end,
// as clamd(8) describes it. One connection is one message.

const (
	maxLine  = 4 << 10  // bytes of a reply
	maxName  = 200      // bytes of a finding's name
	maxChunk = 64 << 10 // bytes of a piece of the message
)

// verdict is what clamd says of a message: nothing found where both are zero.
type verdict struct {
	found string
	long  bool // over clamd's StreamMaxLength
}

// instream shows a message to one of the servers.
func instream(ctx context.Context, g *scanner.Group, m *scanner.Message) (v verdict, err error) {
	err = g.Ask(ctx, m, func(ctx context.Context, s scanner.Server, r io.Reader) error {
		conn, err := g.Dial(ctx, s)
		if err != nil {
			return err
		}
		defer conn.Close()
		sent := send(conn, r)
		if m.Err() != nil {
			return m.Err()
		}
		// clamd may answer, and close, before it has read all: its answer says more than
		// why no more could be sent.
		line, err := readReply(conn)
		if err == nil {
			v, err = readVerdict(line)
		} else if sent != nil {
			err = sent
		}
		return err
	})
	return v, err
}

// send writes the command and the message: pieces with their length in front, and
// one of no length at the end.
func send(conn net.Conn, r io.Reader) error {
	if _, err := io.WriteString(conn, "zINSTREAM\x00"); err != nil {
		return err
	}
	piece := make([]byte, 4+maxChunk)
	for {
		n, err := io.ReadFull(r, piece[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(piece, uint32(n))
			if _, err := conn.Write(piece[:4+n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			_, err := conn.Write(make([]byte, 4))
			return err
		}
		if err != nil {
			return err
		}
	}
}

// ping asks whether every server is there.
func ping(ctx context.Context, g *scanner.Group) error {
	return g.Each(ctx, func(ctx context.Context, s scanner.Server) error {
		conn, err := g.Dial(ctx, s)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "zPING\x00"); err != nil {
			return err
		}
		line, err := readReply(conn)
		if err == nil && line != "PONG" {
			err = fmt.Errorf("it answers %.100q to a ping", line)
		}
		return err
	})
}

// readReply reads up to NUL.
func readReply(conn io.Reader) (string, error) {
	line, err := bufio.NewReaderSize(conn, maxLine).ReadSlice(0)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errors.New("its reply is too long")
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("its reply is cut off: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return "", err
	}
	return strings.TrimSpace(string(line[:len(line)-1])), nil
}

// readVerdict reads "stream: OK", "stream: NAME FOUND", or "… ERROR".
func readVerdict(line string) (v verdict, err error) {
	text, ok := strings.CutPrefix(line, "stream: ")
	switch {
	case ok && text == "OK":
		return v, nil
	case strings.HasSuffix(line, "size limit exceeded. ERROR"):
		v.long = true
		return v, nil
	}
	name, found := strings.CutSuffix(text, " FOUND")
	name = clean(strings.TrimSpace(name))
	if !ok || !found || name == "" {
		return v, fmt.Errorf("it answers %.200q", line)
	}
	v.found = name[:min(len(name), maxName)]
	return v, nil
}
