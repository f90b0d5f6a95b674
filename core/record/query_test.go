package record

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// crowd tells of n messages of all kinds, with events that come after them.
func crowd(r *Recorder, random *rand.Rand, first, n int) {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	clients := []string{"192.0.2.7", "192.0.2.200", "192.0.99.1", "198.51.100.9", "::ffff:192.0.2.7", "2001:db8:1::5", "2001:db8:2::5", "2001:db9::5"}
	policies := []string{"greylist", "dnsbl", "site/hello", "strict"}
	texts := []string{"Hello there", "Mailbox FULL", "Greylisted", "Großes Öl", "no such user"}
	var old []*hooks.Transaction
	for i := first; i < first+n; i++ {
		s := newSession(fmt.Sprintf("0SESSION%07d", i/2))
		s.Client = netip.AddrPortFrom(netip.MustParseAddr(clients[random.IntN(len(clients))]), 4711)
		tx := transaction(s, message.NewID(noon.Add(time.Duration(i)*time.Second)), pick("b@b.example", "C@c.example", "d@sub.b.example"), pick("b@b.example", "e@e.example"))
		tx.Sender = address(pick("a@a.example", "A@A.example", "x@b.example", "", "o@other.example"))
		tx.Header = message.ParseHeader([]byte("Subject: " + pick(texts...) + "\r\n"))
		for range random.IntN(4) {
			r.Stage(tx, answerOf(random, hooks.Mail, pick(policies...), pick(texts...)))
		}
		v := Verdict(random.IntN(int(verdictEnd)))
		reply := message.NewReply(250, "2.0.0", "Ok")
		if v.Refuses() {
			reply = message.NewReply(450, "4.7.1", "%s", pick(texts...))
		}
		r.Verdict(tx, v, reply, pick("", "", texts[1]))
		old = append(old, tx)
		if k := random.IntN(3); k > 0 {
			about := old[random.IntN(len(old))]
			if k == 1 {
				about = &hooks.Transaction{Session: about.Session}
			}
			r.Stage(about, answerOf(random, hooks.Queued, pick(policies...), pick(texts...)))
			r.Attempt(tx.ID, Attempt{Time: time.Now(), Recipient: "b@b.example", NextHop: "mx", Outcome: "deferred", Reply: message.NewReply(452, "4.2.2", "%s", pick(texts...))})
		}
		if random.IntN(9) == 0 {
			r.Flush()
		}
	}
	r.Flush()
}

func answerOf(random *rand.Rand, stage hooks.Stage, policy, text string) hooks.StageRun {
	h := hooks.HandlerRun{Policy: policy, Shadow: random.IntN(4) == 0}
	switch random.IntN(5) {
	case 0:
		h.Verb, h.Reply = hooks.Reject, message.NewReply(550, "5.7.1", "%s", text)
	case 1:
		h.Edits = []hooks.Edit{{Kind: hooks.AddHeader, Name: "X", Value: text}}
	case 2:
		h.Err = fmt.Errorf("%s", text)
	}
	return hooks.StageRun{Stage: stage, Time: time.Now(), Handlers: []hooks.HandlerRun{h}}
}

// What a search by indexes and tokens finds is what looking at every story finds.
func TestQueryFindsWhatIsThere(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := open1(t, Options{})
	crowd(r, random, 0, 150)
	middle := time.Now()
	crowd(r, random, 150, 150)
	all, err := r.Why(t.Context(), Query{Limit: MostLimit})
	if err != nil || len(all) != 300 {
		t.Fatal(len(all), err)
	}
	maybe := func(list ...string) string {
		if random.IntN(2) == 0 {
			return ""
		}
		return list[random.IntN(len(list))]
	}
	found := 0
	for range 600 {
		var q Query
		if one := maybe("192.0.2.7", "192.0.2.0/24", "192.0.0.0/17", "192.0.0.0/8", "192.0.2.192/26", "2001:db8::/32", "2001:db8:1::/48", "2001:db8::/31", "::/0", "::ffff:192.0.2.0/120",
			"b@b.example", "@b.example", "B.example", "<a@a.example>", "0SESSION0000003", all[7].ID); one != "" {
			q.Subjects = append(q.Subjects, one)
		}
		q.From, q.To = maybe("a@a.example", "@b.example", "<>", "none@x.example"), maybe("c@c.example", "@B.example", "e@e.example")
		q.Text = maybe("full", "GREY", "4.7.1 grey", "öl", "user no", "452", "no such user")
		q.Policy = maybe("greylist", "strict", "unknown")
		if one := maybe("queued", "rejected", "held"); one != "" {
			q.Verdicts = append(q.Verdicts, one, "deferred")[:1+random.IntN(2)]
		}
		switch random.IntN(4) {
		case 0:
			q.Since = middle
		case 1:
			q.Until = middle
		}
		q.Limit = MostLimit
		var want []string
		asked, err := newQuestion(&q)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			said := asked.textIn(&s) || slices.ContainsFunc(s.Attempts, func(a Try) bool { return asked.says(a.Reply) })
			if asked.wants(&s) && (q.Text == "" || said) && (q.Policy == "" || asked.policyIn(&s)) {
				want = append(want, s.ID)
			}
		}
		list, err := r.Why(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if got := ids(list); !slices.Equal(sorted(got), sorted(want)) {
			t.Errorf("%+v: %d stories, want %d", q, len(got), len(want))
		}
		found += min(len(want), 1)
		if len(want) > 3 {
			q.Limit = 2
			if list, err = r.Why(t.Context(), q); err != nil || len(list) != 2 || !slices.Contains(want, list[0].ID) {
				t.Errorf("%+v: %v, %v", q, ids(list), err)
			}
		}
	}
	if found < 100 {
		t.Errorf("%d questions had an answer", found)
	}
}

func ids(list []Story) (out []string) {
	for _, s := range list {
		out = append(out, s.ID)
	}
	return out
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// The newest stories are what a limit leaves, within a page too.
func TestLimitLeavesTheNewest(t *testing.T) {
	r := open1(t, Options{})
	for i := range 50 {
		r.Verdict(transaction(newSession("0SESSION0000001"), fmt.Sprintf("0MESSAGE%07d", i), "b@b.example"), Queued, message.NewReply(250, "2.0.0", "Ok"), "")
	}
	list, err := r.Why(t.Context(), Query{Limit: 3})
	if got := sorted(ids(list)); err != nil || !slices.Equal(got, []string{"0MESSAGE0000047", "0MESSAGE0000048", "0MESSAGE0000049"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// Pages of before there were words for verdicts, policies, networks and domains
// are searched all the same.
func TestQueryOfOldPages(t *testing.T) {
	r := open1(t, Options{})
	s := newSession("0SESSION0000001")
	tx := transaction(s, "0MESSAGE0000001", "b@b.example")
	r.Stage(tx, at(hooks.Message, 1, hooks.HandlerRun{Policy: "strict", Verb: hooks.Reject, Reply: message.NewReply(554, "5.7.1", "No")}))
	r.Verdict(tx, Rejected, message.NewReply(554, "5.7.1", "No"), "")
	r.Flush()
	_, last, err := r.span()
	if err != nil {
		t.Fatal(err)
	}
	index := []uint32{hash(byMessage, tx.ID), hash(byAddress, "b@b.example")}
	slices.Sort(index)
	var b []byte
	for _, h := range index {
		b = append(b, byte(h>>24), byte(h>>16), byte(h>>8), byte(h))
	}
	if err := r.db.Set(pageKey(indexPrefix, last), b, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	for _, q := range []Query{{Policy: "strict"}, {Verdicts: []string{"rejected"}}, {Subjects: []string{"192.0.2.0/24"}}, {To: "@b.example"}} {
		if list, err := r.Why(t.Context(), q); err != nil || len(list) != 1 {
			t.Errorf("%+v: %d stories, %v", q, len(list), err)
		}
	}
}

func TestQueryCheck(t *testing.T) {
	for want, q := range map[string]Query{
		"no id, address or network": {Subjects: []string{" "}},
		"is no network":             {Subjects: []string{"192.0.2.0/33"}},
		"write IPv4 networks as":    {Subjects: []string{"::ffff:0:0/90"}},
		"is no domain":              {To: "@"},
		"is no verdict: there are":  {Verdicts: []string{"refused"}},
		"write an address, @domain": {From: " "},
	} {
		if err := q.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
}

// BenchmarkSearch asks a recorder with as much on its disk as the usual max_size
// allows, of messages with header sections, eight answers and a delivery each.
func BenchmarkSearch(b *testing.B) {
	const full = 1 << 30
	r := open1(b, Options{MaxSize: 2 * full})
	random := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 900)
	var p page
	begin := time.Now()
	n := 0
	for ; ; n++ {
		if n%20000 == 0 {
			if err := r.db.Flush(); err != nil {
				b.Fatal(err)
			}
			if size, err := r.usage(0, 1<<63); err != nil || size > full {
				break
			}
		}
		for i := range noise {
			noise[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[random.IntN(64)]
		}
		s := newSession(message.NewID(time.Now()))
		s.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(random.IntN(256)), byte(random.IntN(256)), 7}), 1)
		d := &draft{
			id: message.NewID(time.Now()), session: s.ID, started: time.Now(), ended: time.Now(), facts: factsOf(s), sender: message.Address{Local: fmt.Sprint("s", n%5000), Domain: fmt.Sprintf("d%d.example", n%3000)},
			recipients: []message.Address{{Local: fmt.Sprint("u", n), Domain: "b.example"}}, subject: fmt.Sprint("the usual thing ", n), reply: message.NewReply(250, "2.0.0", "Ok: queued as x"),
			header: fmt.Appendf(nil, "Received: from x by y with ESMTP\r\nFrom: <a@a.example>\r\nTo: <b@b.example>\r\nDKIM-Signature: %s\r\n", noise),
		}
		if n%1000 == 7 {
			d.verdict = Quarantined
		}
		for i := range 8 {
			d.runs = append(d.runs, at(hooks.Mail+hooks.Stage(i%5), i, hooks.HandlerRun{Policy: fmt.Sprintf("policy%d", i), Duration: time.Millisecond}))
		}
		entries := []entry{d, &attempted{id: d.id, a: Attempt{Time: time.Now(), Recipient: "u@b.example", NextHop: "smtp://192.0.2.1:25", Outcome: "delivered", Reply: message.NewReply(250, "2.0.0", "Ok")}}, &left{id: d.id, time: time.Now()}}
		for _, e := range entries {
			p.add(e)
		}
		if len(p.records) >= pageSize {
			if err := r.writePage(&p); err != nil {
				b.Fatal(err)
			}
			p.reset()
		}
	}
	fmt.Printf("%d messages in %v\n", n, time.Since(begin))
	for name, q := range map[string]Query{
		"address": {Subjects: []string{"u77777@b.example"}}, "domain": {Subjects: []string{"@d777.example"}}, "network": {Subjects: []string{"10.7.7.0/24"}},
		"verdict": {Verdicts: []string{"quarantined"}}, "text": {Text: "usual thing 77777"}, "text of one sender": {From: "s77@d77.example", Text: "nothing like it"},
		"wide network": {Subjects: []string{"12.0.0.0/8"}},
	} {
		b.Run(name, func(b *testing.B) {
			found := 0
			for b.Loop() {
				list, err := r.Why(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				found = len(list)
			}
			b.ReportMetric(float64(found), "found")
		})
	}
}
