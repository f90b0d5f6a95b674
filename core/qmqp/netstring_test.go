package qmqp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

func reader(text string) *Reader {
	return NewReader(bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(text)), 2<<10))
}

func TestShort(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for text, want := range map[string]string{
		"0:,":                     `"" true <nil>`,
		"3:abc,":                  `"abc" true <nil>`,
		"003:abc,":                `"abc" true <nil>`,
		"3:abcx":                  `"" false a netstring ends with a comma`,
		"3:ab":                    `"" false unexpected EOF`,
		"3:abc":                   `"" false unexpected EOF`,
		"3":                       `"" false unexpected EOF`,
		"":                        `"" false EOF`,
		":,":                      `"" false a length is`,
		"-1:a,":                   `"" false a length is`,
		"1x:a,":                   `"" false a length is`,
		" 1:a,":                   `"" false a length is`,
		"99999999999":             `"" false a length is`,
		"999:" + long[:999] + ",": `"` + long[:999] + `" true <nil>`,
		"1000:" + long + ",":      `"" false <nil>`,
		"1000:" + long + "x":      `"" false a netstring ends with a comma`,
		"1000:" + long[:500]:      `"" false unexpected EOF`,
	} {
		got, ok, err := reader(text).Short(maxAddress)
		if s := fmt.Sprintf("%q %v %v", got, ok, err); !strings.HasPrefix(s, want) {
			t.Errorf("%.30q: %.60s, want %.60s", text, s, want)
		}
	}
}

func TestNested(t *testing.T) {
	r := reader("25:2:m\n,3:s@x,4:r1@y,4:r2@z,,0:,")
	n, err := r.Length()
	if n != 25 || err != nil {
		t.Fatal(n, err)
	}
	r.Within(n)
	n, err = r.Length()
	body, err2 := io.ReadAll(r.Content(n))
	if err := errors.Join(err, err2, r.Comma()); err != nil || string(body) != "m\n" {
		t.Fatal(body, err)
	}
	var list []string
	for r.Left() > 0 {
		text, ok, err := r.Short(maxAddress)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		list = append(list, string(text))
	}
	r.Without()
	if err := r.Comma(); err != nil || fmt.Sprint(list) != "[s@x r1@y r2@z]" {
		t.Fatal(list, err)
	}
	if text, ok, err := r.Short(9); err != nil || !ok || len(text) > 0 {
		t.Error(text, ok, err)
	}
	for _, text := range []string{"5:3:abc,", "6:4:abcd,", "3:10:ab"} {
		r := reader(text)
		n, err := r.Length()
		if err != nil {
			t.Fatal(err)
		}
		r.Within(n)
		for err == nil && r.Left() > 0 {
			_, _, err = r.Short(maxAddress)
		}
		if err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzNetstrings(f *testing.F) {
	f.Add([]byte("25:2:m\n,3:s@x,4:r1@y,4:r2@z,,"))
	f.Add([]byte("3:abc,0:,"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bufio.NewReader(bytes.NewReader(b)))
		n, err := r.Length()
		if err != nil {
			return
		}
		r.Within(n)
		all := int64(0)
		for r.Left() > 0 {
			left := r.Left()
			text, ok, err := r.Short(20)
			if err != nil {
				return
			}
			if all += int64(len(text)); all > n || r.Left() >= left || ok && len(text) > 20 {
				t.Fatalf("%q: %d bytes of %d", b, all, n)
			}
		}
		if r.Left() < 0 {
			t.Fatalf("%q: %d beyond its end", b, -r.Left())
		}
	})
}

// requestOf100 is a QMQP request of 4 KB for 100 recipients.
func requestOf100(t testing.TB) []byte {
	var whole bytes.Buffer
	m := Message{Sender: "s@x.example", Body: bytes.NewReader(make([]byte, 4096)), Size: 4096}
	for range 100 {
		m.Recipients = append(m.Recipients, "recipient@y.example")
	}
	if err := write(bufio.NewWriter(&whole), m); err != nil {
		t.Fatal(err)
	}
	return whole.Bytes()
}

// readRequest reads it, and tells how many addresses it has.
func readRequest(r *Reader) (addresses int, err error) {
	n, _ := r.Length()
	r.Within(n)
	n, _ = r.Length()
	if err := errors.Join(r.Skip(n), r.Comma()); err != nil {
		return 0, err
	}
	for ; r.Left() > 0; addresses++ {
		if _, _, err := r.Short(maxAddress); err != nil {
			return addresses, err
		}
	}
	r.Without()
	return addresses, r.Comma()
}

func BenchmarkNetstrings(b *testing.B) {
	whole := requestOf100(b)
	text := bytes.NewReader(nil)
	in := bufio.NewReader(text)
	r := NewReader(in)
	b.ReportAllocs()
	b.SetBytes(int64(len(whole)))
	for b.Loop() {
		text.Reset(whole)
		in.Reset(text)
		if n, err := readRequest(r); n != 101 || err != nil {
			b.Fatal(n, err)
		}
	}
}

func TestNetstringsTakeNoMemory(t *testing.T) {
	whole := requestOf100(t)
	text := bytes.NewReader(nil)
	in := bufio.NewReader(text)
	r := NewReader(in)
	if allocs := testing.AllocsPerRun(100, func() {
		text.Reset(whole)
		in.Reset(text)
		if n, err := readRequest(r); n != 101 || err != nil {
			t.Error(n, err)
		}
	}); allocs != 0 {
		t.Errorf("a request of 101 addresses takes memory %v times", allocs)
	}
}

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	err := write(w, Message{Sender: "s@x", Recipients: []string{"r1@y", "r2@z"}, Body: strings.NewReader("m\n"), Size: 2})
	if err != nil || b.String() != "25:2:m\n,3:s@x,4:r1@y,4:r2@z,," { // as measured from qmail-qmqpc
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := write(w, Message{Body: strings.NewReader("m\n"), Size: 3}); err == nil {
		t.Error("a message that is shorter than it was counted")
	}
}

func TestUnixBody(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"a\r\nb\r\n":         "a\nb\n",
		"a\rb\r\r\nc\r":      "a\rb\r\nc\r",
		"\r":                 "\r",
		"\n\r\n\n":           "\n\n\n",
		"\r\n":               "\n",
		"no line end at all": "no line end at all",
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "bytes": iotest.OneByteReader(strings.NewReader(in)), "last": iotest.DataErrReader(strings.NewReader(in))} {
			got, err := io.ReadAll(&unixBody{r: r})
			if err != nil || string(got) != want {
				t.Errorf("%s: %q becomes %q, %v", name, in, got, err)
			}
		}
		n, err := unixSize(message.Bytes(in))
		if err != nil || n != int64(len(want)) {
			t.Errorf("%q: %d bytes, %v", in, n, err)
		}
	}
}

// peer is a server that answers what it is told to, and counts its requests.
func peer(t *testing.T, answers ...string) (address string, requests func() []string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			in := NewReader(bufio.NewReader(c))
			n, err := in.Length()
			text, err2 := io.ReadAll(in.Content(n))
			if errors.Join(err, err2, in.Comma()) == nil {
				list = append(list, string(text))
				_, _ = io.WriteString(c, answers[min(i, len(answers)-1)])
			}
			_ = c.Close()
		}
	}()
	stop := func() []string {
		_ = ln.Close()
		<-done
		return list
	}
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), stop
}

// refused is an address at which nobody listens.
func refused(t *testing.T) string {
	address, stop := peer(t, "")
	stop()
	return address
}

func TestClientServers(t *testing.T) {
	m := func() Message {
		return Message{Sender: "s@x", Recipients: []string{"r@y"}, Body: strings.NewReader("m\n"), Size: 2}
	}
	for _, c := range []struct{ answer, want string }{
		{"20:Kok 1795375855 qp 77,", "250 2.0.0 ok 1795375855 qp 77 <nil>"},
		{"17:DNot you (#5.7.1),", "554 5.7.1 Not you"},
		{"9:ZNot now,", "reading"},
		{"8:ZNot now,", "451 4.3.0 Not now <nil>"},
		{"1:D,", "554 5.3.0"},
		{"1:Z,", "451 4.3.0"},
		{"0:,", "the server's answer is none"},
		{"3:abc,", "the server's answer is none"},
		{"", "reading the server's answer: unexpected EOF"},
		{"HTTP/1.0 400", "reading the server's answer: a length is"},
	} {
		good, requests := peer(t, c.answer)
		other, others := peer(t, "2:Kx,")
		reply, at, err := (&Client{}).Send(t.Context(), []string{refused(t), good, other}, m())
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(reply, " <nil>")
		}
		_, out := errors.AsType[*Unreached](err)
		if n := len(requests()) + 10*len(others()); !strings.HasPrefix(got, strings.TrimSuffix(c.want, " <nil>")) || n != 1 || out || at != good {
			t.Errorf("%q: %s, %d requests, by %s", c.answer, got, n, at)
		}
	}
	_, _, err := (&Client{}).Send(t.Context(), []string{refused(t), refused(t)}, m())
	if u, ok := errors.AsType[*Unreached](err); !ok || u.Timeout {
		t.Errorf("nobody listens: %v", err)
	}
	slow := &Client{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, context.DeadlineExceeded }}
	_, _, err = slow.Send(t.Context(), []string{"192.0.2.1"}, m())
	if u, ok := errors.AsType[*Unreached](err); !ok || !u.Timeout {
		t.Errorf("nobody answers: %v", err)
	}
	if _, _, err := (&Client{}).Send(t.Context(), []string{"a.name.example"}, m()); !errors.Is(err, ErrNoServers) {
		t.Errorf("a name: %v", err)
	}
	good, _ := peer(t, "2:Kx,")
	_, port, _ := net.SplitHostPort(good)
	named := &Client{Lookup: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}}
	if reply, _, err := named.Send(t.Context(), []string{"a.name.example:" + port}, m()); err != nil || !reply.Positive() {
		t.Errorf("a name: %v %v", reply, err)
	}
}

func TestDeliver(t *testing.T) {
	job := func(server string, sender message.Address, double bool) *send.Job {
		j := &send.Job{Message: &queue.Message{Sender: sender, Double: double}, Body: message.Bytes("Subject: x\r\n\r\nb\r\n"), NextHop: send.NextHop{Scheme: send.SchemeQMQP, Path: server}}
		for i, local := range []string{"one", "x y"} {
			j.Message.Recipients = append(j.Message.Recipients, queue.Recipient{Address: message.Address{Local: local, Domain: "b.example"}})
			j.Recipients = append(j.Recipients, i)
		}
		return j
	}
	results := func(list []send.Outcome) (s string) {
		for _, o := range list {
			s += fmt.Sprint(o.Recipient, " ", o.Result, " ", o.Reply.Code, " ", o.Unreached, ";")
		}
		return s
	}
	a := message.Address{Local: "a", Domain: "a.example"}
	at, requests := peer(t, "2:Kx,")
	if got := results((&Client{}).Deliver(t.Context(), job(at, a, false))); got != "0 delivered 250 false;1 delivered 250 false;" {
		t.Error(got)
	}
	if got := requests(); len(got) != 1 || got[0] != "14:Subject: x\n\nb\n,11:a@a.example,13:one@b.example,13:x y@b.example," {
		t.Errorf("%q", got)
	}
	// One answer for all: a refusal is asked for again, for each.
	at, requests = peer(t, "16:DOne is refused.,", "2:Kx,", "18:DYou are (#5.1.1)x,")
	if got := results((&Client{}).Deliver(t.Context(), job(at, a, false))); got != "0 delivered 250 false;1 bounced 554 false;" || len(requests()) != 3 {
		t.Error(got, requests())
	}
	at, requests = peer(t, "8:ZNot now,")
	if got := results((&Client{}).Deliver(t.Context(), job(at, a, false))); got != "0 deferred 451 false;1 deferred 451 false;" || len(requests()) != 1 {
		t.Error(got)
	}
	// A sender for each recipient, and that of a bounce of a bounce.
	at, requests = peer(t, "2:Kx,")
	(&Client{}).Deliver(t.Context(), job(at, message.Address{Local: "l-@a.example-", Domain: "[]"}, false))
	if got := strings.Join(requests(), " "); !strings.Contains(got, ":l-one=b.example@a.example,") || !strings.Contains(got, ":l-x y=b.example@a.example,") {
		t.Errorf("%q", got)
	}
	at, requests = peer(t, "2:Kx,")
	(&Client{}).Deliver(t.Context(), job(at, message.Address{}, true))
	if got := strings.Join(requests(), " "); !strings.Contains(got, ",4:#@[],") {
		t.Errorf("%q", got)
	}
	if got := results((&Client{}).Deliver(t.Context(), job(refused(t), a, false))); got != "0 deferred 451 true;1 deferred 451 true;" {
		t.Error(got)
	}
}
