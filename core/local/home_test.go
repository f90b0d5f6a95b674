package local

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postern-mta/postern/core/dotqmail"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/core/send"
)

// errandIn is a delivery into a new home with files in it.
func errandIn(t *testing.T, ext string, files map[string]string) *errand {
	t.Helper()
	home := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := &errand{Default: "./Maildir/", Timeout: time.Minute, Hostname: "mx.example", Environ: []string{"PATH=" + os.Getenv("PATH")}}
	e.Delivery = dotqmail.Delivery{
		Account: dotqmail.Account{User: "joe", UID: os.Geteuid(), Home: home}, Local: "joe", Host: "local.example",
		Sender: "s@client.example", ReturnPath: "s@client.example", Time: time.Unix(1e9, 0),
	}
	if ext != "" {
		e.Dash, e.Ext, e.Local = "-", ext, "joe-"+ext
	}
	return e
}

func deliverText(t *testing.T, e *errand, text string) report {
	t.Helper()
	l := &spooled{stored: stored{message.Bytes(text)}, dir: t.TempDir()}
	defer l.close()
	return deliverHome(t.Context(), e, l, &writer{host: "mx.example"})
}

func TestHomeDelivery(t *testing.T) {
	e := errandIn(t, "x", map[string]string{".qmail-x": "./box/\n&a@b\n|cat >&2; exit 99\n&never@b\n"})
	r := deliverText(t, e, "A: b\r\n\r\nx\r\r\ny")
	if r.Result != send.Delivered || r.Files != 1 || r.Programs != 1 || strings.Join(r.To, " ") != "a@b" || r.NewSender != "s@client.example" {
		t.Fatalf("%+v", r)
	}
	if r.Output != "A: b\n\nx \ny" { // a CR is no text
		t.Errorf("output %q", r.Output)
	}
	list := files(t, filepath.Join(e.Home, "box"))
	if len(list) != 1 || !strings.HasPrefix(list[0], "new/") {
		t.Fatalf("%q", list)
	}
	got, _ := os.ReadFile(filepath.Join(e.Home, "box", list[0]))
	if string(got) != "Return-Path: <s@client.example>\nDelivered-To: joe-x@local.example\nA: b\n\nx\r\ny" {
		t.Errorf("%q", got)
	}
}

// A failure leaves what was delivered before it, and forwards nothing.
func TestHomeFailureStops(t *testing.T) {
	e := errandIn(t, "x", map[string]string{".qmail-x": "&a@b\n./box/\n./no/box\n|touch after\n"})
	r := deliverText(t, e, "x\r\n")
	if r.Result != send.Deferred || r.Status != "4.3.0" || r.To != nil || !strings.HasPrefix(r.Text, "Unable to append to ./no/box: ") || strings.Contains(r.Text, e.Home) {
		t.Fatalf("%+v", r)
	}
	if list := files(t, e.Home); len(list) != 2 {
		t.Errorf("%q", list)
	}
}

func TestHomeIsAnotherDiskFull(t *testing.T) {
	e := errandIn(t, "", nil)
	h := &house{errand: e, letter: stored{message.Bytes("x\r\n")}, writer: &writer{host: "h"}, disk: failing{}}
	err := h.run(t.Context())
	if tr, ok := errors.AsType[trouble](err); !ok || tr.status != "4.2.2" || tr.result != send.Deferred {
		t.Errorf("%v", err)
	}
}

// failing is a disk on which nobody has room.
type failing struct{ plainDisk }

func (failing) Create(string) (file, error) {
	return nil, &os.PathError{Op: "open", Err: syscall.EDQUOT}
}

func TestMboxIsTakenBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mbox")
	if err := os.WriteFile(name, []byte("before\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is full")
	err := appendMbox(t.Context(), name, func(w *bufio.Writer) error {
		if _, err := w.WriteString(strings.Repeat("x", 3*block)); err != nil {
			return err
		}
		return broken
	})
	got, _ := os.ReadFile(name)
	if !errors.Is(err, broken) || string(got) != "before\n\n" {
		t.Errorf("%v: %d bytes are left", err, len(got))
	}
}

func TestMboxLockedForLong(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mbox")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		err := appendMbox(t.Context(), name, func(*bufio.Writer) error { return nil })
		if took := time.Since(started); !errors.Is(err, errLocked) || took != lockTime {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestHomeStopping(t *testing.T) {
	e := errandIn(t, "x", map[string]string{".qmail-x": "|sleep 300\n"})
	ctx, cancel := context.WithCancel(t.Context())
	l := &spooled{stored: stored{message.Bytes("x\r\n")}, dir: t.TempDir()}
	defer l.close()
	time.AfterFunc(0, cancel)
	r := deliverHome(ctx, e, l, &writer{})
	if r.Result != send.Deferred || r.Status != "4.3.2" {
		t.Errorf("%+v", r)
	}
}

func TestSplitCommand(t *testing.T) {
	for text, want := range map[string]string{
		"/bin/x":                     "/bin/x",
		"/bin/x  a 'b c' d\"e f\"g ": "/bin/x|a|b c|de fg",
		"/x '' ":                     "/x|",
		`/x "it's"`:                  "/x|it's",
	} {
		if got, err := SplitCommand(text); err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	for _, text := range []string{"", " ", "/x 'a", `/x "`} {
		if got, err := SplitCommand(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestVirtualUsers(t *testing.T) {
	table, errs := dotqmail.ParseAssign(strings.NewReader("+joe-:joe:7:7:/h:-::\n.\n"))
	if errs != nil {
		t.Fatal(errs)
	}
	v := &dotqmail.Virtual{}
	if err := v.Add("v.example:joe-web"); err != nil {
		t.Fatal(err)
	}
	s := &Settings{Users: []*dotqmail.Assign{table}, Virtual: v}
	m := &queue.Message{Double: true}
	e, err := s.errand(m, message.Address{Local: "Info", Domain: "v.example"})
	if err != nil || e.Recipient() != "joe-web-Info@v.example" || e.Ext != "web-Info" || e.Sender != "#@[]" || e.RPLine() != "Return-Path: <#@[]>\n" {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := s.errand(m, message.Address{Local: "x", Domain: "other.example"}); e != nil || err != nil {
		t.Errorf("%+v %v", e, err)
	}
}

func TestKnows(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".qmail-a-default"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	table, errs := dotqmail.ParseAssign(strings.NewReader("=joe:joe:7:7:" + home + ":::\n+joe-:joe:7:7:" + home + ":-::\n+gone-:gone:7:7:" + home + "/gone:-::\n.\n"))
	if errs != nil {
		t.Fatal(errs)
	}
	s := &Settings{Users: []*dotqmail.Assign{table}}
	for address, want := range map[string]bool{"joe": true, "JOE-A-x": true, "joe-a": false, "joe-b": false, "other": false, "gone-x": true} {
		if got, err := s.Knows(message.Address{Local: address, Domain: "d.example"}); got != want || err != nil {
			t.Errorf("%s: %v %v", address, got, err)
		}
	}
}
