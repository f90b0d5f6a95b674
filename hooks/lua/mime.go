package lua

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/message"
)

// mimeObject is tx.mime, or what mime.parse gives: the structure of a message, and
// what is in its parts. Nothing of a part is copied into Lua unless it is asked for.
type mimeObject struct {
	of *mimeCall // nil: the call's message
}

func (mimeObject) luaKind() string { return "tx.mime" }

const (
	mimeText    = 1 << 20 // bytes of one text, where nothing is said
	maxMIMEText = 4 << 20
)

// mimeWalks are the methods of a mimeObject.
type mimeWalks struct{ parts, attachments, urls, text *lua.LFunction }

// mimeCall is what one call found out of one message.
type mimeCall struct {
	call uint64 // that it belongs to
	m    *message.MIME
	urls *lua.LTable
	more bool // there are more of them
	work int  // bytes read and not paid for yet
}

// part is a part of the message, for the call that it was made in.
type part struct {
	*message.Part
	of   *mimeCall
	size int64 // decoded; -1: not known yet
}

func (*part) luaKind() string { return "a part" }

func (p *part) String() string {
	if n := p.Name(); n != "" {
		return p.Type + " " + n
	}
	return p.Type
}

// heldBody counts what is read of a body, and ends with its call.
type heldBody struct {
	message.Body
	ctx context.Context
	of  *mimeCall
}

func (b heldBody) ReadAt(p []byte, off int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.Body.ReadAt(p, off)
	b.of.work += n
	return n, err
}

// Wrap implements message.Wrapper: what is decoded out of the body is read as it.
func (b heldBody) Wrap(inner message.Body) message.Body { return heldBody{inner, b.ctx, b.of} }

// structure is that of the object at position 1: the message's, found on first use.
func (st *state) structure(L *lua.LState) *mimeCall {
	c := &st.call
	if u, ok := L.Get(1).(*lua.LUserData); ok {
		if m, ok := u.Value.(mimeObject); ok && m.of != nil {
			if m.of.call != st.calls {
				L.RaiseError("what mime.parse gives belongs to the call that asked for it")
			}
			return m.of
		}
	}
	if st.editBody(L); c.mime != nil {
		return c.mime
	}
	if c.event == nil || c.event.Body == nil {
		name := "this"
		if c.row != nil {
			name = "stage " + c.row.Name
		}
		L.RaiseError("tx.mime is not there at %s: a message's content is known at stages message and queue", name)
	}
	mc, err := st.parse(L, st.content(L))
	if err != nil {
		L.RaiseError("tx.mime: %s", err.Error())
	}
	c.mime = mc
	return mc
}

// parse finds the structure of a message.
func (st *state) parse(L *lua.LState, b message.Body) (*mimeCall, error) {
	mc := &mimeCall{call: st.calls}
	var err error
	st.wait(L, func(ctx context.Context) {
		mc.m, err = message.ParseMIME(heldBody{b, ctx, mc})
	})
	st.pay(L, mc)
	return mc, err
}

// pay counts what was read as work, so that reading again and again ends.
func (st *state) pay(L *lua.LState, mc *mimeCall) {
	n := mc.work
	mc.work = 0
	st.b.spend(L, n>>5)
}

func (st *state) newPart(mc *mimeCall, p *message.Part) lua.LValue {
	return st.object(&part{Part: p, of: mc, size: -1}, st.partClass)
}

func (st *state) checkPart(L *lua.LState) *part {
	p, ok := L.CheckUserData(1).Value.(*part)
	if !ok {
		L.ArgError(1, "a part of tx.mime is expected")
	}
	if p.of.call != st.calls {
		L.RaiseError("a part belongs to the call that it was found in")
	}
	return p
}

func (st *state) mimeField(L *lua.LState) int {
	mc := st.structure(L)
	var v lua.LValue = lua.LNil
	switch key := L.Get(2).String(); key {
	case "root":
		v = st.newPart(mc, mc.m.Root)
	case "count":
		v = lua.LNumber(mc.m.Len())
	case "truncated":
		if len(mc.m.Truncated) > 0 {
			v = lua.LString(mc.m.Truncated)
		}
	case "faulty":
		v = lua.LBool(mc.m.Faulty())
	case "parts":
		v = st.mimeWalks.parts
	case "attachments":
		v = st.mimeWalks.attachments
	case "urls":
		v = st.mimeWalks.urls
	case "text":
		v = st.mimeWalks.text
	default:
		return unknown(L, "tx.mime", key, members("mime")...)
	}
	L.Push(v)
	return 1
}

// mimeParts is :parts(), which walks them in the order in which they stand.
func (st *state) mimeParts(L *lua.LState) int {
	mc, next := st.structure(L), 0
	L.Push(L.NewFunction(func(L *lua.LState) int {
		p := mc.m.At(next)
		if p == nil {
			L.Push(lua.LNil)
			return 1
		}
		next++
		st.b.make(L, 64)
		L.Push(st.newPart(mc, p))
		return 1
	}))
	return 1
}

func (st *state) mimeAttachments(L *lua.LState) int {
	mc := st.structure(L)
	t := L.CreateTable(4, 0)
	for p := range mc.m.Parts() {
		if p.IsAttachment() {
			st.b.make(L, 64)
			t.Append(st.newPart(mc, p))
		}
	}
	L.Push(t)
	return 1
}

// mimeURLs is :urls(): a list of { url, host, part, defanged }, and whether there
// are more than it holds.
func (st *state) mimeURLs(L *lua.LState) int {
	mc := st.structure(L)
	if mc.urls == nil {
		var list []message.URL
		var err error
		st.wait(L, func(context.Context) { list, mc.more, err = mc.m.URLs() })
		st.pay(L, mc)
		if err != nil {
			return fail(L, "temporary", err.Error())
		}
		t := L.CreateTable(len(list), 0)
		for _, u := range list {
			st.b.make(L, len(u.Text)+len(u.Host)+128)
			t.Append(fromPlain(map[string]any{"url": u.Text, "host": u.Host, "part": u.Path, "defanged": u.Defanged}, st.readonly))
		}
		t.Metatable = st.readonly
		mc.urls = t
	}
	L.Push(mc.urls)
	L.Push(lua.LBool(mc.more))
	return 2
}

// limit reads an optional number of bytes.
func limit(L *lua.LState, n int) int {
	v := L.OptInt(n, mimeText)
	if v < 0 || v > maxMIMEText {
		L.ArgError(n, "a text of at most 4194304 bytes can be read")
	}
	return v
}

// mimeAllText is tx.mime:text(): what a reader sees of all text parts.
func (st *state) mimeAllText(L *lua.LState) int {
	mc, left := st.structure(L), limit(L, 2)
	var b strings.Builder
	more := false
	var err error
	st.wait(L, func(context.Context) {
		for p := range mc.m.Parts() {
			if len(p.Children) > 0 || !p.IsText() {
				continue
			}
			var s string
			var cut bool
			if s, cut, err = shown(p, left-b.Len()); err != nil {
				return
			}
			if b.Len() > 0 && s != "" && b.Len() < left {
				b.WriteByte('\n')
			}
			b.WriteString(s)
			more = more || cut
		}
	})
	return st.giveText(L, mc, b.String(), more, err)
}

// shown is the text of a part as a reader sees it.
func shown(p *message.Part, limit int) (text string, more bool, err error) {
	limit = max(0, limit)
	if p.Type == "text/html" {
		return message.RenderHTML(io.LimitReader(p.Text(), 2*maxMIMEText), limit)
	}
	return readText(p.Text(), limit)
}

func readText(r io.Reader, limit int) (text string, more bool, err error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if len(b) > limit {
		return strings.ToValidUTF8(string(b[:limit]), ""), true, err
	}
	return string(b), false, err
}

// giveText pushes a text and whether it was cut.
func (st *state) giveText(L *lua.LState, mc *mimeCall, text string, more bool, err error) int {
	st.pay(L, mc)
	if err != nil {
		return fail(L, "temporary", err.Error())
	}
	st.b.make(L, len(text))
	L.Push(lua.LString(text))
	L.Push(lua.LBool(more))
	return 2
}

func (st *state) partField(L *lua.LState) int {
	p := st.checkPart(L)
	word := func(s string) lua.LValue {
		if s == "" {
			return lua.LNil
		}
		st.b.make(L, len(s))
		return lua.LString(s)
	}
	var v lua.LValue
	switch key := L.Get(2).String(); key {
	case "path":
		v = word(p.Path)
	case "depth":
		v = lua.LNumber(p.Depth)
	case "type":
		v = word(p.Type)
	case "name":
		v = word(p.Name())
	case "names":
		v = fromPlain(p.Names, st.readonly)
	case "extension":
		v = word(message.Extension(p.Name()))
	case "charset":
		v = word(p.Charset())
	case "encoding":
		v = word(p.Encoding)
	case "disposition":
		v = word(p.Disposition)
	case "id":
		v = word(p.ID)
	case "description":
		v = word(p.Description)
	case "fault":
		v = word(p.Fault)
	case "params":
		t := L.CreateTable(0, len(p.Params))
		for _, one := range p.Params {
			st.b.make(L, len(one.Key)+len(one.Value))
			t.RawSetString(one.Key, lua.LString(one.Value))
		}
		t.Metatable = st.readonly
		v = t
	case "attachment":
		v = lua.LBool(p.IsAttachment())
	case "multipart":
		v = lua.LBool(p.Multipart())
	case "size":
		return st.partSize(L, p)
	case "text":
		v = L.NewFunction(st.partText)
	case "plain":
		v = L.NewFunction(st.partPlain)
	case "bytes":
		v = L.NewFunction(st.partBytes)
	case "hash":
		v = L.NewFunction(st.partHash)
	case "header":
		v = L.NewFunction(st.partHeader)
	case "archive":
		v = L.NewFunction(st.partArchive)
	default:
		return unknown(L, "a part", key, members("part")...)
	}
	L.Push(v)
	return 1
}

// partSize is the number of bytes of the decoded content.
func (st *state) partSize(L *lua.LState, p *part) int {
	var err error
	switch {
	case p.size >= 0:
	case !p.Encoded():
		p.size = p.End - p.From
	default:
		st.wait(L, func(context.Context) { p.size, err = io.Copy(io.Discard, p.Reader()) })
		p.of.work += int(max(0, p.size))
		st.pay(L, p.of)
	}
	if err != nil {
		p.size = -1
		return fail(L, "temporary", err.Error())
	}
	L.Push(lua.LNumber(p.size))
	return 1
}

// partText is :text(max): the content of a text part as UTF-8, and whether it was
// cut.
func (st *state) partText(L *lua.LState) int {
	p, n := st.checkPart(L), limit(L, 2)
	var s string
	var more bool
	var err error
	st.wait(L, func(context.Context) { s, more, err = readText(p.Text(), n) })
	return st.giveText(L, p.of, s, more, err)
}

// partPlain is :plain(max): the text that a reader sees, of HTML, too.
func (st *state) partPlain(L *lua.LState) int {
	p, n := st.checkPart(L), limit(L, 2)
	var s string
	var more bool
	var err error
	st.wait(L, func(context.Context) { s, more, err = shown(p.Part, n) })
	return st.giveText(L, p.of, s, more, err)
}

// partBytes is :bytes(max): the decoded content as it is.
func (st *state) partBytes(L *lua.LState) int {
	p, n := st.checkPart(L), limit(L, 2)
	var b []byte
	var err error
	st.wait(L, func(context.Context) { b, err = io.ReadAll(io.LimitReader(p.Reader(), int64(n)+1)) })
	more := len(b) > n
	return st.giveText(L, p.of, string(b[:min(n, len(b))]), more, err)
}

// partHash is :hash(kind): the digest of the decoded content, in hexadecimal.
func (st *state) partHash(L *lua.LState) int {
	p := st.checkPart(L)
	var h hash.Hash
	switch kind := L.OptString(2, "sha256"); kind {
	case "sha256":
		h = sha256.New()
	case "sha1":
		h = sha1.New()
	case "md5":
		h = md5.New()
	default:
		L.ArgError(2, "a hash is sha256, sha1 or md5")
	}
	var err error
	st.wait(L, func(context.Context) { p.size, err = io.Copy(h, p.Reader()) })
	p.of.work += int(max(0, p.size)) // uuencoded content may be much more than it was
	st.pay(L, p.of)
	if err != nil {
		p.size = -1
		return fail(L, "temporary", err.Error())
	}
	L.Push(lua.LString(hex.EncodeToString(h.Sum(nil))))
	return 1
}

// partHeader is :header(name): the decoded text of the first field of that name in
// the part's own header section, or nil.
func (st *state) partHeader(L *lua.LState) int {
	p, name := st.checkPart(L), L.CheckString(2)
	var b []byte
	var err error
	st.wait(L, func(context.Context) { b, err = p.HeaderBytes() })
	st.pay(L, p.of)
	if err != nil && !errors.Is(err, io.EOF) {
		return fail(L, "temporary", err.Error())
	}
	text, ok := message.ParseHeader(b).Get(name)
	if !ok {
		L.Push(lua.LNil)
		return 1
	}
	st.b.make(L, len(text))
	L.Push(lua.LString(text))
	return 1
}
