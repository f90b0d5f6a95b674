// Package dotqmail is what qmail's local delivery says in files and in the
// environment, without doing any of it: package local does.
//
//   - assign.go reads users/assign: which account a local part belongs to.
//   - virtual.go reads virtualdomains: the account's name in front of local parts.
//   - search.go finds a dot-qmail file by the extension of an address.
//   - This file reads dot-qmail files.
//   - environ.go is what programs and mailboxes are told of a delivery.
//   - loop.go knows a message that was here before.
//   - exit.go reads the statuses of programs.
//   - mbox.go writes the form of mbox files.
//
// All of it is qmail 1.03's, to the byte where others see it; docs/qmail.md names
// what differs.
package dotqmail

import (
	"bytes"
	"errors"
	"fmt"
)

// Kind is what an instruction does with a message.
type Kind uint8

// The kinds.
const (
	Program Kind = iota // |command
	Mbox                // ./file or /file
	Maildir             // ./folder/ or /folder/
	Forward             // &address, or anything else
	List                // +list: from here on nothing but forwards may come
)

// String is the kind's word in `postern local`, as qmail-local -n says it.
func (k Kind) String() string {
	return [...]string{"program", "mbox", "maildir", "forward", "list"}[min(k, List)]
}

// Instruction is one line of a dot-qmail file.
type Instruction struct {
	Line int // from 1
	Kind Kind
	Text string // the command, path or address
}

// ErrBlank says that the first line is blank, which is how a file looks while
// somebody writes it.
var ErrBlank = errors.New("the first line is blank")

// Parse reads a dot-qmail file that is not empty. Comments, blank lines behind the
// first one, and + lines that nobody knows are left out.
func Parse(text []byte) ([]Instruction, error) {
	var list []Instruction
	for n := 1; len(text) > 0; n++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		line = bytes.TrimRight(line, " \t")
		if bytes.IndexByte(line, 0) >= 0 {
			return nil, fmt.Errorf("line %d holds a NUL", n)
		}
		i := Instruction{Line: n, Text: string(line)}
		switch {
		case len(line) == 0 && n == 1:
			return nil, ErrBlank
		case len(line) == 0, line[0] == '#':
			continue
		case line[0] == '|':
			i.Kind, i.Text = Program, i.Text[1:]
		case line[0] == '.' || line[0] == '/':
			i.Kind = Mbox
			if line[len(line)-1] == '/' {
				i.Kind = Maildir
			}
		case line[0] == '+' && i.Text != "+list":
			continue
		case line[0] == '+':
			i.Kind = List
		case line[0] == '&':
			i.Kind, i.Text = Forward, i.Text[1:]
		default:
			i.Kind = Forward
		}
		list = append(list, i)
	}
	return list, nil
}
