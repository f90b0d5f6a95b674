package lua

import (
	"errors"

	lua "github.com/yuin/gopher-lua"

	"github.com/postern-mta/postern/core/auth/batv"
	"github.com/postern-mta/postern/core/auth/srs"
	"github.com/postern-mta/postern/core/message"
)

// returnPath is one of the functions that make or read a sender: f gets the
// address, where there is what it needs.
func (st *state) returnPath(L *lua.LState, there bool, section string, f func(a message.Address) (message.Address, error)) int {
	a, wrong := st.addrArgument(L, 1)
	if wrong != "" {
		return fail(L, "bad", wrong)
	}
	if !there {
		return fail(L, "bad", "there is no secret: write secret_file in "+section)
	}
	st.b.spend(L, 512)
	to, err := f(a)
	if err == nil {
		_, err = message.ParseAddress(to.String())
	}
	switch {
	case errors.Is(err, srs.ErrNotSRS), errors.Is(err, batv.ErrNoTag):
		return fail(L, "none", quote(a.String())+": "+err.Error())
	case err != nil:
		return fail(L, "bad", quote(a.String())+": "+err.Error())
	}
	L.Push(st.newAddress(to))
	return 1
}

// addrSRSForward is addr.srs_forward(sender).
func (st *state) addrSRSForward(L *lua.LState) int {
	l := &st.script.options.Library
	return st.returnPath(L, l.SRS != nil, "[srs]", func(a message.Address) (message.Address, error) { return l.SRS.Forward(a, l.Now()) })
}

// addrSRSReverse is addr.srs_reverse(address).
func (st *state) addrSRSReverse(L *lua.LState) int {
	l := &st.script.options.Library
	return st.returnPath(L, l.SRS != nil, "[srs]", func(a message.Address) (message.Address, error) {
		if a.Domain != l.SRS.Domain() {
			return a, srs.ErrNotSRS
		}
		return l.SRS.Reverse(a, l.Now())
	})
}

// addrBATVSign is addr.batv_sign(sender).
func (st *state) addrBATVSign(L *lua.LState) int {
	l := &st.script.options.Library
	return st.returnPath(L, l.BATV != nil, "[batv]", func(a message.Address) (message.Address, error) { return l.BATV.Sign(a, l.Now()) })
}

// addrBATVCheck is addr.batv_check(address).
func (st *state) addrBATVCheck(L *lua.LState) int {
	l := &st.script.options.Library
	return st.returnPath(L, l.BATV != nil, "[batv]", func(a message.Address) (message.Address, error) { return l.BATV.Check(a, l.Now()) })
}
