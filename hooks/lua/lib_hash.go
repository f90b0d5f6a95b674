package lua

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// algorithms are the hash functions by their names.
var algorithms = [...]struct {
	name string
	make func() hash.Hash
}{{"md5", md5.New}, {"sha1", sha1.New}, {"sha256", sha256.New}, {"sha512", sha512.New}}

// encodings are the forms in which a hash is given.
var encodings = [...]string{"hex", "base64", "raw"}

func (st *state) openHash(g *lua.LTable) {
	functions := map[string]lua.LGFunction{"hmac": st.hmac, "equal": st.hashEqual}
	for _, a := range algorithms {
		functions[a.name] = func(L *lua.LState) int {
			s := L.CheckString(1)
			st.b.spend(L, 8+len(s)>>5)
			h := a.make()
			h.Write([]byte(s))
			return st.digest(L, h.Sum(nil), 2)
		}
	}
	g.RawSetString("hash", st.library(functions))
}

// digest pushes a hash in the form that argument n names.
func (st *state) digest(L *lua.LState, sum []byte, n int) int {
	switch form := L.OptString(n, "hex"); form {
	case "hex":
		L.Push(lua.LString(hex.EncodeToString(sum)))
	case "base64":
		L.Push(lua.LString(base64.StdEncoding.EncodeToString(sum)))
	case "raw":
		L.Push(lua.LString(sum))
	default:
		L.ArgError(n, "there is no form "+quote(form)+didYouMean(form, encodings[:]))
	}
	return 1
}

// hmac is hash.hmac(algorithm, key, text, form).
func (st *state) hmac(L *lua.LState) int {
	name, key, s := L.CheckString(1), L.CheckString(2), L.CheckString(3)
	var names []string
	for _, a := range algorithms {
		if a.name == name {
			st.b.spend(L, 16+(len(s)+len(key))>>5)
			h := hmac.New(a.make, []byte(key))
			h.Write([]byte(s))
			return st.digest(L, h.Sum(nil), 4)
		}
		names = append(names, a.name)
	}
	L.ArgError(1, "there is no algorithm "+quote(name)+didYouMean(name, names))
	return 0
}

// hashEqual compares in a time that tells nothing about where texts differ.
func (st *state) hashEqual(L *lua.LState) int {
	a, b := L.CheckString(1), L.CheckString(2)
	st.b.spend(L, min(len(a), len(b))>>5)
	L.Push(lua.LBool(subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1))
	return 1
}

func (st *state) openBase64(g *lua.LTable) {
	g.RawSetString("base64", st.library(map[string]lua.LGFunction{"encode": st.base64Encode, "decode": st.base64Decode}))
}

// base64Encode is base64.encode(text, form), where the form "url" is that of
// RFC 4648 section 5, without padding.
func (st *state) base64Encode(L *lua.LState) int {
	s, code := L.CheckString(1), base64.StdEncoding
	switch form := L.OptString(2, ""); form {
	case "":
	case "url":
		code = base64.RawURLEncoding
	default:
		L.ArgError(2, `the only other form is "url"`)
	}
	st.b.make(L, code.EncodedLen(len(s)))
	L.Push(lua.LString(code.EncodeToString([]byte(s))))
	return 1
}

// base64Decode takes both alphabets, padded or not, with white space as in mail.
func (st *state) base64Decode(L *lua.LState) int {
	s := L.CheckString(1)
	st.b.make(L, 2*len(s))
	s = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, s)
	out, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return fail(L, "bad", "the text is not base64")
	}
	L.Push(lua.LString(out))
	return 1
}
