package send

import (
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/queue"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample(kind Kind, header string) *report {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	to := func(a string, change func(*queue.Recipient)) queue.Recipient {
		address, err := message.ParseAddress(a)
		if err != nil {
			panic(err)
		}
		r := queue.Recipient{Address: address, State: queue.Failed, Tried: at.Add(time.Minute)}
		if kind == Delay {
			r.State = queue.Deferred
		}
		change(&r)
		if kind == Success {
			r.State, r.Last, r.Relayed = queue.Delivered, message.NewReply(250, "2.1.5", "ok"), r.Original != ""
		}
		return r
	}
	return &report{
		kind: kind, config: &Config{Hostname: "mx.here.example", Lifetime: 7 * 24 * time.Hour}, to: message.Address{Local: "s", Domain: "client.example"},
		list: []int{0, 1, 2, 4}, header: []byte(header), now: at.Add(time.Hour), id: "0000000000000AB",
		about: &queue.Message{ID: "0000000000000CD", Arrived: at, Recipients: []queue.Recipient{
			to("one@x.example", func(r *queue.Recipient) {
				r.Last, r.Peer = message.NewReply(550, "5.1.1", "No such user\nplease look at https://x.example/help-with-a-long-name-that-goes-on-and-on for more"), "mx.x.example [192.0.2.1]:25"
			}),
			to(`"a b"@x.example`, func(r *queue.Recipient) {
				r.Last, r.Peer, r.Original = message.NewReply(450, "4.2.0", "mailbox busy"), "mx.x.example [192.0.2.1]:25", "rfc822;alias@client.example"
			}),
			to("evil@x.example", func(r *queue.Recipient) {
				r.Last, r.Peer = message.NewReply(554, "", "no\r\n\r\n--=_0000000000000AB--\r\nSubject: x\x00\xff\n\n<other@x.example>:\n- break"), "evil\r\nX-Bad: 1 [192.0.2.1]:25"
				r.Original = "who@x.example\r\nX-Bad: 1"
			}),
			to("fine@x.example", func(r *queue.Recipient) { r.State = queue.Delivered }),
			to("policy@x.example", func(r *queue.Recipient) {
				r.Last, r.Tried = message.NewReply(550, "5.7.1", "Refused by policy"), time.Time{}
			}),
		}},
	}
}

func TestNoticesAreGolden(t *testing.T) {
	for _, kind := range []Kind{Failure, Delay, Double, Success} {
		name := filepath.Join("testdata", strings.ReplaceAll(kind.String(), " ", "_")+".eml")
		got := sample(kind, "Received: from a by b\r\nSubject: hello\r\n").bytes()
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs (go test -update writes it):\n%s", name, got)
		}
	}
}

// parts reads a notice as a mail program does.
func parts(t *testing.T, b []byte) (header mail.Header, list []*multipart.Part, bodies []string) {
	t.Helper()
	for _, line := range strings.SplitAfter(string(b), "\n") {
		if line == "" {
			continue
		}
		if !strings.HasSuffix(line, "\r\n") || len(line) > 1000 || strings.Trim(line[:len(line)-2], "\t !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") != "" {
			t.Errorf("not fit for 7-bit: %q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v %v", kind, params, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return m.Header, list, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		list, bodies = append(list, p), append(bodies, string(body))
	}
}

func TestNoticeCanBeRead(t *testing.T) {
	header := "Subject: gr\xfc\xdfe\r\nX-Long: " + strings.Repeat("x", 2000) + "\r\nX-Dash: --=_0000000000000AB\r\n"
	h, list, bodies := parts(t, sample(Failure, header).bytes())
	if len(list) != 3 {
		t.Fatalf("%d parts", len(list))
	}
	if h.Get("Auto-Submitted") != "auto-replied" || h.Get("From") != "Mail Delivery System <MAILER-DAEMON@mx.here.example>" || h.Get("X-Bad") != "" {
		t.Errorf("header %v", h)
	}
	if bodies[2] != header {
		t.Errorf("the header came back as %q", bodies[2])
	}
	// QSBMF: paragraphs parted by blank lines; an introduction, a paragraph for
	// each recipient, and the break.
	paragraphs := strings.Split(strings.TrimRight(bodies[0], "\r\n"), "\r\n\r\n")
	if len(paragraphs) != 1+4+1 || !strings.HasPrefix(paragraphs[0], "Hi. This is the ") || paragraphs[5][0] != '-' {
		t.Fatalf("paragraphs %q", paragraphs)
	}
	for i, to := range []string{"<one@x.example>:", `<"a b"@x.example>:`, "<evil@x.example>:", "<policy@x.example>:"} {
		if p := paragraphs[1+i]; !strings.HasPrefix(p, to+"\r\n") || strings.Contains(p, "\n<") || strings.Contains(p, "\n-") {
			t.Errorf("paragraph %q", p)
		}
	}
	if n := strings.Count(bodies[1], "\r\n\r\n"); n != 4 || strings.Contains(bodies[1], "\nX-Bad") {
		t.Errorf("%d blank lines in the status:\n%s", n, bodies[1])
	}
}

func FuzzNotice(f *testing.F) {
	f.Add("no such user", "mx.example [192.0.2.1]:25", "rfc822;a@b", []byte("Subject: x\r\n"))
	f.Add("\r\n\r\n--=_0000000000000AB", "\x00\n", ";;", []byte("\xff\r\r\n\n"))
	f.Fuzz(func(t *testing.T, said, peer, orig string, header []byte) {
		r := sample(Failure, string(header))
		to := &r.about.Recipients[0]
		to.Last.Text, to.Peer, to.Original = said, peer, orig
		_, list, bodies := parts(t, r.bytes())
		if len(list) != 3 || strings.Count(bodies[1], "\r\n\r\n") != 4 || strings.Count(bodies[0], "\r\n\r\n") != 5 {
			t.Fatalf("%d parts:\n%s", len(list), strings.Join(bodies, "\n====\n"))
		}
	})
}
