package t

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/smtp"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// queued is what the tests read of `queue list --json` and `quarantine list --json`.
type queued struct {
	ID     string `json:"id"`
	Place  string `json:"place"`
	Reason string `json:"reason"`
	Size   int64  `json:"size"`
}

func TestQuarantine(t *testing.T) {
	r := buildRooms(t)
	policy := "[[policy]]\nuse = \"" + r.checker + "\"\nwords = [\"casino\"]\naction = \"quarantine\"\n"
	t.Run("commands", func(t *testing.T) { quarantineCommands(t, newHouse(t, r.postern), policy) })
	t.Run("size", func(t *testing.T) { quarantineSize(t, newHouse(t, r.postern), policy) })
	t.Run("learn", func(t *testing.T) { quarantineLearn(t, newHouse(t, r.postern), policy) })
	t.Run("digest", func(t *testing.T) { quarantineDigest(t, newHouse(t, r.postern), policy) })
	t.Run("hold", func(t *testing.T) { holdAndRelease(t, newHouse(t, r.postern), policy) })
}

// Mail in quarantine is listed, shown, released once, deleted, and expires.
func quarantineCommands(t *testing.T, h *house, policy string) {
	h.configure(policy)
	shut := h.open()
	for i := range 3 {
		if err := h.send("you@example.net", fmt.Sprintf("casino %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.send("other@example.net", "hello"); err != nil {
		t.Fatal(err)
	}
	h.eventually("the plain mail is delivered", func() bool { return len(h.mailbox("other")) == 1 })
	list := rows[queued](h, "quarantine", "list", "--json")
	if len(list) != 3 || list[0].Place != "quarantined" || !strings.Contains(list[0].Reason, "the subject holds the word casino") {
		t.Fatalf("%+v", list)
	}
	if list := rows[queued](h, "quarantine", "list", "--json", "--rcpt", "nobody@example.net"); len(list) != 0 {
		t.Errorf("the filter chose %+v", list)
	}
	id := list[0].ID
	if out := h.must("quarantine", "show", id); !strings.Contains(out, "casino") {
		t.Errorf("show:\n%s", out)
	}
	if out := h.must("quarantine", "show", id, "--body"); !strings.Contains(out, "Subject: casino 0\r\n") || int64(len(out)) != list[0].Size {
		t.Errorf("show --body:\n%s", out)
	}
	for _, c := range []struct {
		status int
		args   []string
	}{
		{2, []string{"release", "--yes"}},                       // which?
		{2, []string{"release", id}},                            // no terminal
		{2, []string{"delete", "../x", "--yes"}},                // no id
		{1, []string{"release", "0NOSUCHMESSAGE", "--yes"}},     // unknown
		{1, []string{"delete", "--sender", "@x.test", "--yes"}}, // nothing matches
		{1, []string{"show", "0NOSUCHMESSAGE"}},                 //
		{0, []string{"release", "--all", "--dry-run"}},          // only tells
		{0, []string{"delete", id, "--dry-run", "--json"}},      //
		{1, []string{"list", "0NOSUCHMESSAGE"}},                 //
		{2, []string{"explode"}},                                //
	} {
		if out, status := h.run(append([]string{"quarantine"}, c.args...)...); status != c.status {
			t.Errorf("%v: exit status %d, want %d\n%s", c.args, status, c.status, out)
		}
	}
	if n := len(rows[queued](h, "quarantine", "list", "--json")); n != 3 || len(h.mailbox("you")) != 0 {
		t.Fatalf("%d are left, %d delivered", n, len(h.mailbox("you")))
	}

	if out := h.must("quarantine", "release", id, "--yes"); out != "1 message released\n" {
		t.Errorf("release: %s", out)
	}
	h.eventually("the released mail is delivered and gone from the queue", func() bool {
		return len(h.mailbox("you")) == 1 && len(rows[queued](h, "queue", "list", "--json")) == 2
	})
	if out, status := h.run("quarantine", "release", id, "--yes"); status != 1 {
		t.Errorf("released twice: %d %s", status, out)
	}
	if out := h.must("quarantine", "delete", list[1].ID, "--yes"); out != "1 message deleted\n" {
		t.Errorf("delete: %s", out)
	}
	for of, want := range map[string]string{id: "released: ", list[1].ID: "deleted"} {
		h.eventually("its story tells "+want, func() bool { return strings.Contains(h.must("why", of), want) })
	}

	shut()
	if list := rows[queued](h, "quarantine", "list", "--json"); len(list) != 1 {
		t.Errorf("with the daemon down: %+v", list)
	}
	if out := h.must("quarantine", "show", list[2].ID, "--body"); !strings.Contains(out, "casino 2") {
		t.Errorf("with the daemon down:\n%s", out)
	}
	if out, status := h.run("quarantine", "release", list[2].ID, "--yes"); status != 3 {
		t.Errorf("with the daemon down: exit status %d\n%s", status, out)
	}
	if len(h.mailbox("you")) != 1 {
		t.Errorf("delivered %d times", len(h.mailbox("you")))
	}

	h.configure(policy + "[quarantine]\nkeep = \"1s\"\n")
	h.open()
	h.eventually("the last one expires", func() bool { return len(rows[queued](h, "quarantine", "list", "--json")) == 0 })
	h.eventually("its story tells", func() bool {
		return strings.Contains(h.must("why", list[2].ID), "expired: older than 1s")
	})
	if text := h.log.text(); !strings.Contains(text, "msg=expired id="+list[2].ID+" by=quarantine") {
		t.Error("the log tells nothing of the expiry")
	}
}

// Scanners are taught, and the message goes where the order says once they learned.
func quarantineLearn(t *testing.T, h *house, policy string) {
	exe, learned := built(t, filepath.Join(t.TempDir(), "scanner"), "../plugins/scanner"), filepath.Join(t.TempDir(), "learned")
	h.configure(policy + fmt.Sprintf("[[policy]]\nuse = %q\nname = \"bogo\"\nrun = [\"/bin/true\"]\nlearn_spam = [\"/bin/sh\", \"-c\", \"cat >>%s\"]\nlearn_ham = [\"/bin/sh\", \"-c\", \"echo no database >&2; exit 9\"]\n", exe, learned))
	h.open()
	for i := range 2 {
		if err := h.send("you@example.net", fmt.Sprintf("casino %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	list := rows[queued](h, "quarantine", "list", "--json")
	for _, args := range [][]string{{"--yes"}, {"--spam", "--ham", "--yes"}, {"--spam", "--release", "--delete", "--yes"}} {
		if out, status := h.run(append([]string{"quarantine", "learn", list[0].ID}, args...)...); status != 2 {
			t.Errorf("%v: %d %s", args, status, out)
		}
	}
	if out := h.must("quarantine", "learn", list[0].ID, "--spam", "--yes"); out != "1 message learned\n" {
		t.Error(out)
	}
	if text, err := os.ReadFile(learned); err != nil || !strings.Contains(string(text), "Subject: casino 0\r\n") {
		t.Errorf("%q, %v", text, err)
	}
	h.eventually("its story tells", func() bool { return strings.Contains(h.must("why", list[0].ID), "learned: as spam by bogo") })
	if out, status := h.run("quarantine", "learn", "--all", "--ham", "--release", "--yes"); status != 1 || !strings.Contains(out, "bogo: sh exits with 9: no database") {
		t.Errorf("a scanner that fails: %d %s", status, out)
	}
	if out, status := h.run("quarantine", "learn", "--all", "--ham", "--policy", "other", "--yes"); status != 1 || !strings.Contains(out, "no policy learns") {
		t.Errorf("nobody learns: %d %s", status, out)
	}
	if n := len(rows[queued](h, "quarantine", "list", "--json")); n != 2 || len(h.mailbox("you")) != 0 {
		t.Fatalf("%d are left", n)
	}
	h.must("quarantine", "learn", list[1].ID, "--spam", "--delete", "--yes")
	h.must("quarantine", "learn", list[0].ID, "--spam", "--release", "--yes")
	h.eventually("one is delivered, the other is gone", func() bool {
		return len(h.mailbox("you")) == 1 && len(rows[queued](h, "quarantine", "list", "--json")) == 0
	})
}

// Recipients are told of what is kept from them, and have it by a link: not by looking
// at it, each for itself, and once.
func quarantineDigest(t *testing.T, h *house, policy string) {
	h.configure(policy)
	shut := h.open()
	text := "From: Bank <bank@example.org>\r\nSubject: casino https://evil.example/\r\n\r\nhello\r\n"
	if err := smtp.SendMail(h.smtp, nil, "a@example.org", []string{"ann@example.net", "bob@example.net"}, []byte(text)); err != nil {
		t.Fatal(err)
	}
	kept := rows[queued](h, "quarantine", "list", "--json")
	if len(kept) != 1 {
		t.Fatalf("%+v", kept)
	}
	shut()
	address := anyPort(t)
	h.configure(policy + fmt.Sprintf("[digest]\nevery = \"1h\"\nlink = \"http://%s/q\"\naddress = %q\n", address, address))
	if err := os.WriteFile(filepath.Join(h.dir, "var/digest.time"), []byte("2026-01-01T00:00:00Z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // a round tells of what came before its second
	h.open()
	links := map[string]string{}
	for _, who := range []string{"ann", "bob"} {
		h.eventually("the digest comes to "+who, func() bool { return len(h.mailbox(who)) == 1 })
		_, body, _ := strings.Cut(strings.ReplaceAll(h.mailbox(who)[0], "\r\n", "\n"), "\n\n")
		plain, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
		if err != nil || !strings.Contains(string(plain), "casino https: //evil.example/") || !strings.Contains(string(plain), "Bank <bank@example.org>") {
			t.Fatalf("%s, %v", plain, err)
		}
		_, rest, _ := strings.Cut(string(plain), "Release: ")
		links[who], _, _ = strings.Cut(rest, "\n")
		if !strings.Contains(links[who], "r="+who+"%40example.net") {
			t.Fatalf("%s: %s", who, plain)
		}
	}
	ask := func(r *http.Response, err error) (int, string) {
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	for range 2 {
		if status, page := ask(http.Get(links["ann"])); status != 200 || !strings.Contains(page, "<button>") || !strings.Contains(page, "ann@example.net") {
			t.Errorf("%d %s", status, page)
		}
	}
	if status, _ := ask(http.Get(links["ann"] + "x")); status != 403 {
		t.Errorf("a link that was changed: %d", status)
	}
	if n := len(rows[queued](h, "quarantine", "list", "--json")); n != 1 || len(h.mailbox("ann")) != 1 {
		t.Fatalf("looking released it: %d are left", n)
	}
	for i, who := range []string{"ann", "bob"} {
		u, err := url.Parse(links[who])
		if err != nil {
			t.Fatal(err)
		}
		if status, page := ask(http.PostForm(u.Scheme+"://"+u.Host+u.Path, u.Query())); status != 200 {
			t.Errorf("%d %s", status, page)
		}
		h.eventually("it comes to "+who, func() bool { return len(h.mailbox(who)) == 2 })
		if status, _ := ask(http.PostForm(u.Scheme+"://"+u.Host+u.Path, u.Query())); status != 410 {
			t.Errorf("a second time: %d", status)
		}
		if left := rows[queued](h, "quarantine", "list", "--json"); len(left) != 1-i {
			t.Errorf("after %s: %+v", who, left)
		}
	}
	h.eventually("nothing is left", func() bool { return len(rows[queued](h, "queue", "list", "--json")) == 0 })
	if len(h.mailbox("ann")) != 2 || len(h.mailbox("bob")) != 2 {
		t.Errorf("ann has %d, bob %d", len(h.mailbox("ann")), len(h.mailbox("bob")))
	}
	if story := h.must("why", kept[0].ID); !strings.Contains(story, "released: for ann@example.net as ") {
		t.Errorf("its story: %s", story)
	}
}

// Where the quarantine holds too much, the oldest goes.
func quarantineSize(t *testing.T, h *house, policy string) {
	h.configure(policy)
	shut := h.open()
	for i := range 4 {
		if err := h.send("you@example.net", fmt.Sprintf("casino %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	before := rows[queued](h, "quarantine", "list", "--json")
	if len(before) != 4 {
		t.Fatalf("%+v", before)
	}
	shut()
	h.configure(policy + fmt.Sprintf("[quarantine]\nmax_size = %d\n", before[0].Size*5/2))
	h.open()
	h.eventually("two are left", func() bool { return len(rows[queued](h, "quarantine", "list", "--json")) == 2 })
	if after := rows[queued](h, "quarantine", "list", "--json"); after[0].ID != before[2].ID || after[1].ID != before[3].ID {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// Active mail is held and released, which is not how mail leaves the quarantine.
func holdAndRelease(t *testing.T, h *house, policy string) {
	h.configure(policy)
	h.open()
	if err := h.send("you@dead.example", "hello"); err != nil {
		t.Fatal(err)
	}
	type row struct {
		queued
		Recipients []struct {
			Attempts int `json:"attempts"`
		} `json:"recipients"`
	}
	now := func() row { return rows[row](h, "queue", "list", "--json", "--domain", "dead.example")[0] }
	h.eventually("it was tried", func() bool { return now().Recipients[0].Attempts > 0 })
	id, tried := now().ID, now().Recipients[0].Attempts
	h.must("queue", "hold", id, "--yes")
	if got := now(); got.Place != "held" || got.Reason != "held by an operator" {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"queue", "hold", id, "--yes"}, {"queue", "retry", id, "--yes"}, {"quarantine", "release", id, "--yes"}, {"quarantine", "delete", id, "--yes"}, {"quarantine", "show", id}} {
		if out, status := h.run(args...); status != 1 {
			t.Errorf("%v of a held message: %d %s", args, status, out)
		}
	}
	h.must("queue", "release", "--held", "--yes")
	h.eventually("it is tried again", func() bool { return now().Place == "active" && now().Recipients[0].Attempts > tried })

	if err := h.send("you@example.net", "casino"); err != nil {
		t.Fatal(err)
	}
	kept := rows[queued](h, "quarantine", "list", "--json")[0].ID
	for act, want := range map[string]string{"hold": "the message is quarantined", "release": "the message is quarantined, not held"} {
		if out, status := h.run("queue", act, kept, "--yes"); status != 1 || !strings.Contains(out, want) {
			t.Errorf("queue %s in quarantine: %d %s", act, status, out)
		}
	}

	// Of several operators one is first, and the mail goes out once.
	var asking sync.WaitGroup
	var done atomic.Int32
	for range 4 {
		asking.Go(func() {
			if exec.CommandContext(t.Context(), h.exe, "quarantine", "release", kept, "--yes", "-c", filepath.Join(h.dir, "postern.toml")).Run() == nil {
				done.Add(1)
			}
		})
	}
	asking.Wait()
	h.eventually("it is delivered", func() bool {
		return len(h.mailbox("you")) > 0 && len(rows[queued](h, "queue", "list", "--json")) == 1
	})
	if done.Load() != 1 || len(h.mailbox("you")) != 1 {
		t.Errorf("%d released it, it was delivered %d times", done.Load(), len(h.mailbox("you")))
	}
}
