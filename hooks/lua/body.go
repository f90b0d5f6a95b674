package lua

import (
	"bufio"
	"bytes"
	"context"
	"io"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
)

// bodyObject is tx.body: the whole message as it came, or as changes of its body
// left it, header section included. It is searched in Go, in pieces.
type bodyObject struct{}

func (bodyObject) luaKind() string { return "tx.body" }

const (
	bodyPiece = 64 << 10
	maxRead   = 1 << 20 // bytes of one read
)

func (st *state) content(L *lua.LState) message.Body {
	c := &st.call
	if c.event == nil || c.event.Body == nil {
		name := "this"
		if c.row != nil {
			name = "stage " + c.row.Name
		}
		L.RaiseError("tx.body is not there at %s: a message's content is known at stages message and queue", name)
	}
	if st.editBody(L); c.body != nil {
		return c.body
	}
	return c.event.Body
}

func (st *state) bodyField(L *lua.LState) int {
	key := L.Get(2).String()
	if key != "size" {
		return unknown(L, "tx.body", key, members("body")...)
	}
	L.Push(lua.LNumber(st.content(L).Size()))
	return 1
}

// bodyRead is :read(from, n): n bytes from position from, 1 being the first;
// fewer at the end, nil behind it.
func (st *state) bodyRead(L *lua.LState) int {
	b := st.content(L)
	from, n := L.OptInt64(2, 1), L.OptInt(3, bodyPiece)
	if from < 1 || n < 0 || n > maxRead {
		L.RaiseError("tx.body:read(from, n) counts from 1 and gives at most %d bytes", maxRead)
	}
	n = int(max(0, min(int64(n), b.Size()-from+1)))
	if n == 0 {
		L.Push(lua.LNil)
		return 1
	}
	st.b.make(L, n)
	p := make([]byte, n)
	var err error
	st.wait(L, func(context.Context) { n, err = b.ReadAt(p, from-1) })
	if err != nil && err != io.EOF {
		return fail(L, "temporary", err.Error())
	}
	L.Push(lua.LString(p[:n]))
	return 1
}

// bodyContains is :contains(text, …): whether one of the texts is in the message
// as it came, byte for byte.
func (st *state) bodyContains(L *lua.LState) int {
	b := st.content(L)
	var texts [][]byte
	for i := 2; i <= max(2, L.GetTop()); i++ {
		s := L.CheckString(i)
		if len(s) > bodyPiece {
			L.ArgError(i, "the text is too long")
		}
		texts = append(texts, []byte(s))
	}
	found := false
	var err error
	st.wait(L, func(ctx context.Context) { found, err = contains(ctx, b, texts) })
	st.b.spend(L, len(texts)*int(b.Size()>>8))
	if err != nil {
		return fail(L, "temporary", err.Error())
	}
	L.Push(lua.LBool(found))
	return 1
}

// contains searches a body piece by piece, pieces overlapping by what a match
// across their border needs.
func contains(ctx context.Context, b message.Body, texts [][]byte) (bool, error) {
	overlap := 0
	for _, t := range texts {
		overlap = max(overlap, len(t)-1)
	}
	if whole, ok := b.(message.Bytes); ok {
		return containsAny(whole, texts), nil
	}
	piece := message.NewPiece()
	defer piece.Free()
	p := piece[:]
	if overlap > len(p)/2 { // a text so long that pieces would hardly get on
		p = make([]byte, bodyPiece+overlap)
	}
	for at, size := int64(0), b.Size(); ; at += int64(len(p) - overlap) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := b.ReadAt(p[:min(int64(len(p)), size-at)], at)
		if err != nil && err != io.EOF {
			return false, err
		}
		if containsAny(p[:n], texts) {
			return true, nil
		}
		if at+int64(len(p)) >= size {
			return false, nil
		}
	}
}

func containsAny(p []byte, texts [][]byte) bool {
	for _, t := range texts {
		if bytes.Contains(p, t) {
			return true
		}
	}
	return false
}

// bodyMatch is :match(regex): the groups of the first match, or all of it where
// the expression has none; nil where it matches nowhere.
func (st *state) bodyMatch(L *lua.LState) int {
	b, re := st.content(L), st.checkRegex(L, 2)
	var groups []lua.LValue
	var err error
	st.wait(L, func(ctx context.Context) { groups, err = matchBody(ctx, b, re) })
	st.b.spend(L, int(b.Size()>>4))
	if err != nil {
		return fail(L, "temporary", err.Error())
	}
	if groups == nil {
		L.Push(lua.LNil)
		return 1
	}
	for _, g := range groups {
		if s, ok := g.(lua.LString); ok {
			st.b.make(L, len(s))
		}
		L.Push(g)
	}
	return len(groups)
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func matchBody(ctx context.Context, b message.Body, r *regexValue) ([]lua.LValue, error) {
	var at []int
	if whole, ok := b.(message.Bytes); ok && len(whole)*r.size <= maxRegexWork {
		at = r.re.FindSubmatchIndex(whole)
	} else {
		at = r.re.FindReaderSubmatchIndex(bufio.NewReaderSize(untilDone{ctx, message.NewReader(b)}, 4<<10))
	}
	if err := ctx.Err(); err != nil || at == nil {
		return nil, err
	}
	if len(at) > 2 {
		at = at[2:]
	}
	var groups []lua.LValue
	for i := 0; i < len(at); i += 2 {
		if at[i] < 0 {
			groups = append(groups, lua.LNil)
			continue
		}
		p := make([]byte, min(at[i+1]-at[i], maxRead))
		if n, err := b.ReadAt(p, int64(at[i])); err != nil && err != io.EOF {
			return nil, err
		} else {
			groups = append(groups, lua.LString(p[:n]))
		}
	}
	return groups, nil
}
