package policytest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
	"github.com/postern-mta/postern/hooks/lua"
)

// session is one SMTP session with the world's server.
type session struct {
	w        *world
	c        *client
	far      *serverEnd
	addr     netip.AddrPort
	lmtp     bool
	greeting *reply
	closed   bool
	taken    int // recipients of the transaction, for the replies of LMTP and PRDR
}

// wanted is what t:connect was given.
type wanted struct {
	listener gate.Listener
	client   netip.AddrPort
	local    netip.AddrPort
	relaying bool
	env      map[string]string
	user     string
	host     *string
	tls      *hooks.TLSFact // nil: in the clear
	early    time.Duration  // negative: never
	helo     string
	lmtp     bool
}

// connect is t:connect{ip =, …}: a session, its greeting in session.greeting.
func (h *harness) connect(args []any) (any, error) {
	t, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	want, err := wantedOf(t)
	if err != nil {
		return nil, err
	}
	w, err := h.path()
	if err != nil {
		return nil, err
	}
	s := &session{w: w, addr: want.client, lmtp: want.lmtp}
	if err := h.wait(func() error { return s.begin(want) }); err != nil {
		return nil, err
	}
	if want.helo != "" && !s.closed {
		if _, err := s.run(func(args []any) (*reply, error) { return s.helo(args, true) })([]any{want.helo}); err != nil {
			return nil, err
		}
	}
	return s.object(), nil
}

// begin connects and reads the greeting.
func (s *session) begin(want *wanted) error {
	h := s.w.h
	s.w.generation()
	h.mu.Lock()
	h.tls[want.client] = want.tls
	h.mu.Unlock()
	log := &dialogue{}
	h.sessions = append(h.sessions, log)
	log.add(fmt.Sprintf("   %s connects to %s", want.client.Addr(), want.listener.Name))
	near, far, err := s.w.dial(&want.listener, want.client, want.local, func(f *hooks.Session) { h.give(f, want) })
	if err != nil {
		return err
	}
	s.c, s.far = newClient(near, log), far
	if want.listener.ImplicitTLS {
		if err := s.c.secure(h.ctx, h.options.secrets.client(s.w.config.Hostname)); err != nil {
			return err
		}
	}
	if s.greeting, err = s.c.read(); err != nil {
		return err
	}
	s.settle()
	_, err = s.w.deliver()
	return err
}

// give makes the session have the facts of t:connect.
func (h *harness) give(f *hooks.Session, want *wanted) {
	f.Relaying = f.Relaying || want.relaying
	f.Env = want.env
	if want.user != "" {
		f.User, f.Authenticated = want.user, true
	}
	if want.host != nil {
		f.Reverse = func(context.Context) string { return *want.host }
	}
	f.Early = func(_ context.Context, wait time.Duration) bool {
		if want.early < 0 || want.early > wait {
			h.pass(wait)
			return false
		}
		h.pass(want.early)
		return true
	}
}

const connectKeys = "ip, port, local_ip, host, helo, listener, protocol, lmtp, relaying, user, tls, xclient, early, env"

// wantedOf reads the table of t:connect.
func wantedOf(t map[string]any) (*wanted, error) {
	want := &wanted{early: -1, listener: gate.Listener{Name: "mx", Protocol: "smtp", Auth: []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"}}}
	ip, local, port := "192.0.2.7", "192.0.2.25", 49152.0
	xclient := false
	for _, key := range slices.Sorted(maps.Keys(t)) {
		v, ok := t[key], true
		var err error
		switch key {
		case "ip":
			ip, ok = v.(string)
		case "local_ip":
			local, ok = v.(string)
		case "port":
			port, ok = v.(float64)
		case "listener":
			want.listener.Name, ok = v.(string)
		case "protocol":
			want.listener.Protocol, ok = v.(string)
		case "lmtp":
			want.lmtp, ok = v.(bool)
		case "relaying":
			want.relaying, ok = v.(bool)
		case "xclient":
			xclient, ok = v.(bool)
		case "user":
			want.user, ok = v.(string)
		case "helo":
			want.helo, ok = v.(string)
		case "host":
			var name string
			name, ok = v.(string)
			want.host = &name
		case "tls":
			want.tls, err = tlsOf(v)
		case "early":
			want.early, err = spanOf([]any{v})
		case "env":
			want.env, err = envOf(v)
		default:
			return nil, fmt.Errorf("connect: %q is none of %s%s", key, connectKeys, lua.DidYouMean(key, strings.Split(connectKeys, ", ")))
		}
		if !ok {
			return nil, fmt.Errorf("connect: %s has a wrong type", key)
		}
		if err != nil {
			return nil, fmt.Errorf("connect: %s: %w", key, err)
		}
	}
	return want, want.finish(ip, local, port, xclient)
}

func (want *wanted) finish(ip, local string, port float64, xclient bool) error {
	client, err := netip.ParseAddr(ip)
	if err != nil {
		return fmt.Errorf("connect: ip: %w", err)
	}
	ours, err := netip.ParseAddr(local)
	if err != nil {
		return fmt.Errorf("connect: local_ip: %w", err)
	}
	want.client, want.local = netip.AddrPortFrom(client, uint16(port)), netip.AddrPortFrom(ours, 25)
	l := &want.listener
	if want.lmtp {
		l.Protocol = "lmtp"
	}
	switch l.Protocol {
	case "smtp", "submission":
	case "lmtp":
		want.lmtp = true
	default:
		return fmt.Errorf("connect: protocol: %q is none of smtp, submission, lmtp", l.Protocol)
	}
	l.ImplicitTLS, l.StartTLS = want.tls != nil, want.tls == nil
	if xclient {
		l.XclientFrom = []netip.Prefix{netip.PrefixFrom(client, client.BitLen())}
	}
	return nil
}

// envOf reads the variables of a connection rule, texts by name.
func envOf(v any) (map[string]string, error) {
	t, _ := v.(map[string]any)
	env := make(map[string]string, len(t))
	for name, value := range t {
		s, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("%s is no text", name)
		}
		env[name] = s
	}
	if len(env) == 0 {
		return nil, errors.New(`write texts by name, such as { RBLSMTPD = "" }`)
	}
	return env, nil
}

// tlsOf reads true, or a table of what the handshake is to have agreed on.
func tlsOf(v any) (*hooks.TLSFact, error) {
	f := &hooks.TLSFact{}
	switch v := v.(type) {
	case bool:
		if !v {
			f = nil
		}
		return f, nil
	case map[string]any:
		for key, value := range v {
			s, ok := value.(string)
			field := map[string]*string{"version": &f.Version, "cipher": &f.Cipher, "client": &f.Client}[key]
			if field == nil || !ok {
				return nil, fmt.Errorf("%q: version, cipher and client are texts", key)
			}
			*field = s
		}
		return f, nil
	}
	return nil, errors.New(`write true, or { version = "TLSv1.3", cipher =, client = }`)
}

func (s *session) object() *lua.Object {
	verb := func(line string) lua.Function {
		return s.run(func([]any) (*reply, error) { return s.c.say(line, line) })
	}
	hello := func(extended bool) lua.Function {
		return s.run(func(a []any) (*reply, error) { return s.helo(a, extended) })
	}
	return &lua.Object{
		Kind: "a session",
		Methods: map[string]lua.Function{
			"helo": hello(false), "ehlo": hello(true), "lhlo": hello(true), "starttls": s.run(s.startTLS), "auth": s.run(s.auth),
			"mail": s.run(s.mail), "rcpt": s.run(s.rcpt), "data": s.run(s.data), "command": s.run(s.command), "xclient": s.run(s.xclient),
			"rset": verb("RSET"), "quit": verb("QUIT"), "close": s.hangUp,
		},
		Field: func(name string) (any, bool) {
			switch name {
			case "greeting":
				return s.greeting.value(), true
			case "closed":
				return s.closed, true
			}
			return nil, false
		},
	}
}

// run makes f a method: it waits until the server has done all that the command
// led to, deliveries included.
func (s *session) run(f func(args []any) (*reply, error)) lua.Function {
	return func(args []any) (any, error) {
		if s.closed {
			return nil, errors.New("the session is closed")
		}
		var r *reply
		err := s.w.h.wait(func() (err error) {
			if r, err = f(args); err != nil {
				return err
			}
			s.settle()
			_, err = s.w.deliver()
			return err
		})
		if err != nil {
			if cause := context.Cause(s.w.h.ctx); cause != nil {
				err = cause
			}
			return nil, err
		}
		v := r.value()
		v["closed"] = s.closed
		return v, nil
	}
}

// settle waits for the server after a reply.
func (s *session) settle() {
	if s.far.settled() {
		s.closed = true
		s.c.log.add("   (closed by the server)")
	}
}

// hangUp is session:close(): the client goes without a word.
func (s *session) hangUp([]any) (any, error) {
	s.closed = true
	s.c.log.add("   (the client hangs up)")
	return nil, s.w.h.wait(func() error {
		_ = s.c.nc.Close() // a pipe
		s.far.gone()
		_, err := s.w.deliver()
		return err
	})
}

func (s *session) helo(args []any, extended bool) (*reply, error) {
	name, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	verb := "HELO"
	switch {
	case s.lmtp:
		verb = "LHLO"
	case extended:
		verb = "EHLO"
	}
	s.taken = 0
	return s.c.say(verb+" "+name, verb+" "+name)
}

// startTLS is session:starttls(facts).
func (s *session) startTLS(args []any) (*reply, error) {
	facts := &hooks.TLSFact{}
	if len(args) > 0 {
		var err error
		if facts, err = tlsOf(args[0]); err != nil || facts == nil {
			return nil, errors.Join(errors.New("starttls takes a table of facts, or nothing"), err)
		}
	}
	h := s.w.h
	h.mu.Lock()
	h.tls[s.addr] = facts
	h.mu.Unlock()
	r, err := s.c.say("STARTTLS", "STARTTLS")
	if err == nil && r.code == 220 {
		err = s.c.secure(h.ctx, h.options.secrets.client(s.w.config.Hostname))
	}
	return r, err
}

// auth is session:auth(user, password, mechanism).
func (s *session) auth(args []any) (*reply, error) {
	user, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	password, err := text(args, 1)
	if err != nil {
		return nil, err
	}
	mechanism := "PLAIN"
	if len(args) > 2 {
		if mechanism, err = text(args, 2); err != nil {
			return nil, err
		}
	}
	encode := base64.StdEncoding.EncodeToString
	switch mechanism {
	case "PLAIN":
		return s.c.say("AUTH PLAIN "+encode([]byte("\x00"+user+"\x00"+password)), "AUTH PLAIN ("+user+")")
	case "LOGIN":
		r, err := s.c.say("AUTH LOGIN", "AUTH LOGIN")
		for _, answer := range []string{user, password} {
			if err != nil || r.code != 334 {
				break
			}
			r, err = s.c.say(encode([]byte(answer)), "("+answer+")")
		}
		return r, err
	}
	return nil, fmt.Errorf("auth: %q is none of PLAIN, LOGIN", mechanism)
}

// params are the parameters of MAIL and RCPT in a fixed order.
func params(args []any) (string, error) {
	t, err := table(args, 1)
	list := ""
	for _, k := range slices.Sorted(maps.Keys(t)) {
		list += " " + strings.ToUpper(k)
		switch v := t[k].(type) {
		case bool:
			if !v {
				list += "=false"
			}
		case float64: // never with an exponent
			list += "=" + strconv.FormatFloat(v, 'f', -1, 64)
		default:
			list += fmt.Sprintf("=%v", v)
		}
	}
	return list, err
}

// pathOf is an address as commands take it, with or without its angle brackets.
func pathOf(args []any) (string, error) {
	a, err := text(args, 0)
	if err == nil && !strings.HasPrefix(a, "<") {
		a = "<" + a + ">"
	}
	return a, err
}

func (s *session) mail(args []any) (*reply, error) {
	return s.envelope("MAIL FROM:", args)
}

func (s *session) rcpt(args []any) (*reply, error) {
	r, err := s.envelope("RCPT TO:", args)
	if err == nil && r.code/100 == 2 {
		s.taken++
	}
	return r, err
}

func (s *session) envelope(verb string, args []any) (*reply, error) {
	a, err := pathOf(args)
	if err != nil {
		return nil, err
	}
	list, err := params(args)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(verb, "MAIL") {
		s.taken = 0
	}
	line := verb + a + list
	if strings.ContainsAny(line, "\r\n") {
		return nil, errors.New("a line end stands in the address; write s:command for such a thing")
	}
	return s.c.say(line, line)
}

// data is session:data(text): DATA, the message and its end. Lines may end in LF.
func (s *session) data(args []any) (*reply, error) {
	content, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	r, err := s.c.say("DATA", "DATA")
	if err != nil || r.code != 354 {
		return r, err
	}
	content = strings.ReplaceAll(content, "\r\n", "\n")
	if !strings.HasSuffix(content, "\n") {
		content += "\n"
	}
	lines := strings.SplitAfter(strings.ReplaceAll(content, "\n", "\r\n"), "\n")
	var b strings.Builder
	for i, line := range lines[:len(lines)-1] {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
		if i < maxShown {
			s.c.log.add("C: " + strings.TrimRight(line, "\r\n"))
		}
	}
	if more := len(lines) - 1 - maxShown; more > 0 {
		s.c.log.add(fmt.Sprintf("C: … %d lines more", more))
	}
	s.c.log.add("C: .")
	sent := s.c.send(b.String() + ".\r\n")
	r, err = s.final()
	if err == nil {
		<-sent
	}
	return r, err
}

// maxShown is how many lines of a message the dialogue shows.
const maxShown = 30

// final reads what follows a message: one reply, in LMTP one for each recipient,
// with PRDR those and one for the whole.
func (s *session) final() (*reply, error) {
	n := s.taken
	s.taken = 0
	r, err := s.c.read()
	if err != nil {
		return nil, err
	}
	var each []*reply
	switch {
	case s.lmtp:
		each = []*reply{r}
	case r.code == 353:
		each = []*reply{}
	default:
		return r, nil
	}
	for len(each) < n {
		one, err := s.c.read()
		if err != nil {
			return nil, err
		}
		each = append(each, one)
	}
	if !s.lmtp {
		if r, err = s.c.read(); err != nil {
			return nil, err
		}
	}
	whole := *r
	whole.each = each
	return &whole, nil
}

// command is session:command(line): any line, and its reply.
func (s *session) command(args []any) (*reply, error) {
	line, err := text(args, 0)
	if err != nil {
		return nil, err
	}
	return s.c.say(line, line)
}

// xclient is session:xclient{ addr =, name =, … }.
func (s *session) xclient(args []any) (*reply, error) {
	t, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	line := "XCLIENT"
	for _, k := range slices.Sorted(maps.Keys(t)) {
		value := fmt.Sprint(t[k])
		if ip, err := netip.ParseAddr(value); err == nil && ip.Is6() {
			value = "IPV6:" + value
		}
		line += " " + strings.ToUpper(k) + "=" + message.EncodeXtext(value)
	}
	return s.c.say(line, line)
}
