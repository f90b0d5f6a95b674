package feedback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/store"
)

// Bounds of what is counted in a day.
const (
	maxBooks  = 10_000    // domains
	maxNames  = 768 << 10 // bytes of their names
	maxRows   = 1000      // of one domain
	maxBytes  = 768 << 10 // of a domain's rows, as the store has them
	maxMemory = 20_000    // rows that wait for Flush
	keepTime  = 7 * 24 * time.Hour
)

// book is what is known of a day's mail in a domain's name.
type book struct {
	Record string           `json:"record"`         // as published, for where reports go
	Report Report           `json:"report"`         // without records
	Rows   map[string]int64 `json:"rows"`           // records as JSON, with count 0, and how many
	Left   int64            `json:"left,omitempty"` // messages of further rows, whose details are lost
	Bytes  int              `json:"bytes"`          // of Rows
}

// Ledger counts judged messages by day and domain, for the reports that their owners
// ask for. What is counted is in memory until Flush, and then in the store: a crash
// loses what came after the last one. It is safe for concurrent use.
type Ledger struct {
	store store.Store
	now   func() time.Time

	mu    sync.Mutex
	day   string
	books map[string]*book // of the day, not yet in the store
	rows  int              // of books
	lost  int64            // messages in the names of more domains than are counted
}

// NewLedger makes a ledger. A nil now is time.Now.
func NewLedger(s store.Store, now func() time.Time) *Ledger {
	if now == nil {
		now = time.Now
	}
	return &Ledger{store: s, now: now, books: map[string]*book{}}
}

// Add counts a message that was judged. It counts nothing where no record applies, or
// where that asks for no reports. disposition is what was done; why says what it was
// instead of what the domain asks, "" where it was that. What is beyond the bounds is
// told by the report, or by Lost.
func (l *Ledger) Add(ctx context.Context, r *dmarc.Result, source netip.Addr, sender, disposition, why string) error {
	p := &r.Published
	if r.Domain == "" || len(p.Aggregate) == 0 {
		return nil
	}
	row := Record{Source: source.Unmap(), Disposition: disposition, DKIM: passed(r.DKIM), SPF: passed(r.SPF), From: r.From, EnvelopeFrom: text(sender)}
	if r.Verdict == dmarc.Fail && r.Reason != "" { // RFC 9990 section 3.1.1.6
		kind := "policy_test_mode"
		if !p.Testing || r.Method == dmarc.SuffixList {
			kind = "sampled_out"
		}
		row.Reasons = append(row.Reasons, Reason{kind, ""})
	}
	if why != "" {
		row.Reasons = append(row.Reasons, Reason{"local_policy", text(why)})
	}
	for _, i := range r.Identifiers {
		one := Found{Domain: text(i.Domain), Selector: text(i.Selector), Result: i.Verdict}
		if i.Method == "spf" {
			one.Scope = "mfrom"
			row.Senders = append(row.Senders, one)
		} else {
			row.Signatures = append(row.Signatures, one)
		}
	}
	key, err := json.Marshal(row)
	if err != nil {
		return err
	}
	day := l.now().UTC().Format(time.DateOnly)
	l.mu.Lock()
	full := l.day != day && l.day != "" || l.rows >= maxMemory
	l.mu.Unlock()
	if full { // or what is there belongs to the day before
		if err := l.Flush(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.day = day
	b := l.books[r.Domain]
	if b == nil {
		if len(l.books) >= maxBooks {
			l.lost++
			return nil
		}
		b = &book{Rows: map[string]int64{}}
		l.books[r.Domain] = b
	}
	b.Record, b.Report = r.Record, published(r)
	had := len(b.Rows)
	b.add(string(key), 1)
	l.rows += len(b.Rows) - had
	return nil
}

// Lost is how many messages were not counted since it was last asked, since they were in
// the names of more domains than a day has reports on.
func (l *Ledger) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.lost
	l.lost = 0
	return n
}

// add counts a row.
func (b *book) add(row string, n int64) {
	if _, ok := b.Rows[row]; !ok {
		quoted, err := json.Marshal(row)
		size := len(quoted) + 24 // the number and what stands around it
		if err != nil || len(b.Rows) >= maxRows || b.Bytes+size > maxBytes {
			b.Left += n
			return
		}
		b.Bytes += size
	}
	b.Rows[row] += n
}

func passed(ok bool) string {
	if ok {
		return "pass"
	}
	return "fail"
}

func published(r *dmarc.Result) Report {
	p := &r.Published
	out := Report{Domain: r.Domain, DKIM: string(p.DKIM), SPF: string(p.SPF), P: string(p.Policy), FO: p.Options, Method: "treewalk", Testing: "n"}
	if r.Method == dmarc.SuffixList {
		out.Method = "psl"
	}
	if p.HasSP {
		out.SP = string(p.Subdomains)
	}
	if p.HasNP {
		out.NP = string(p.Missing)
	}
	if p.Testing {
		out.Testing = "y"
	}
	return out
}

var daysKey = []string{"dmarc", "days"}

// Flush puts what was counted into the store.
func (l *Ledger) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.books) == 0 {
		return nil
	}
	var days []string
	if err := l.load(ctx, store.Key(daysKey...), &days); err != nil {
		return err
	}
	if !slices.Contains(days, l.day) {
		if err := l.save(ctx, store.Key(daysKey...), append(days, l.day)); err != nil {
			return err
		}
	}
	if err := l.enter(ctx); err != nil {
		return err
	}
	for domain, b := range l.books {
		var old book
		key := store.Key("dmarc", "book", l.day, domain)
		if err := l.load(ctx, key, &old); err != nil {
			return err
		}
		if old.Rows == nil {
			old.Rows = map[string]int64{}
		}
		old.Record, old.Report = b.Record, b.Report
		old.Left += b.Left
		for row, n := range b.Rows {
			old.add(row, n)
		}
		if err := l.save(ctx, key, &old); err != nil {
			return err
		}
		l.rows -= len(b.Rows)
		delete(l.books, domain)
	}
	return nil
}

// enter adds the domains of the books to the list of their day. Those that it has no
// room for are lost.
func (l *Ledger) enter(ctx context.Context) error {
	var names []string
	key := store.Key("dmarc", "day", l.day)
	if err := l.load(ctx, key, &names); err != nil {
		return err
	}
	known, size := make(map[string]struct{}, len(names)), 0
	for _, name := range names {
		known[name] = struct{}{}
		size += len(name) + 3 // quotes and a comma
	}
	had := len(names)
	for domain, b := range l.books {
		if _, ok := known[domain]; ok {
			continue
		}
		if len(names) < maxBooks && size+len(domain)+3 <= maxNames {
			names = append(names, domain)
			size += len(domain) + 3
			continue
		}
		for _, n := range b.Rows {
			l.lost += n
		}
		l.lost += b.Left
		l.rows -= len(b.Rows)
		delete(l.books, domain)
	}
	if len(names) == had {
		return nil
	}
	return l.save(ctx, key, names)
}

func (l *Ledger) load(ctx context.Context, key []byte, into any) error {
	b, ok, err := l.store.Get(ctx, key)
	if err != nil || !ok {
		return err
	}
	return json.Unmarshal(b, into)
}

func (l *Ledger) save(ctx context.Context, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > store.MaxValue {
		return errors.New("a day's report on one domain is larger than the store takes")
	}
	return l.store.Put(ctx, key, b, keepTime)
}

// Due are the domains with reports of days that are over, with the day.
func (l *Ledger) Due(ctx context.Context) (list [][2]string, err error) {
	if err := l.Flush(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	today := l.now().UTC().Format(time.DateOnly)
	var days []string
	if err := l.load(ctx, store.Key(daysKey...), &days); err != nil {
		return nil, err
	}
	for _, day := range days {
		if day >= today {
			continue
		}
		var domains []string
		if err := l.load(ctx, store.Key("dmarc", "day", day), &domains); err != nil {
			return nil, err
		}
		for _, domain := range domains {
			list = append(list, [2]string{day, domain})
		}
	}
	return list, nil
}

// Take is the report on a domain and a day, and the record that was published.
func (l *Ledger) Take(ctx context.Context, day, domain string) (*Report, string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b book
	if err := l.load(ctx, store.Key("dmarc", "book", day, domain), &b); err != nil {
		return nil, "", err
	}
	begin, err := time.Parse(time.DateOnly, day)
	if err != nil || len(b.Rows) == 0 {
		return nil, "", err
	}
	r := b.Report
	r.Begin, r.End = begin, begin.Add(24*time.Hour-time.Second)
	sum := sha256.Sum256([]byte(day + " " + domain))
	r.ID = hex.EncodeToString(sum[:8])
	if b.Left > 0 {
		r.Errors = []string{fmt.Sprintf("%d messages are left out, which would be rows beyond the bounds of a report", b.Left)}
	}
	for _, key := range sorted(b.Rows) {
		var row Record
		if err := json.Unmarshal([]byte(key), &row); err != nil {
			return nil, "", err
		}
		row.Count = b.Rows[key]
		r.Records = append(r.Records, row)
	}
	return &r, b.Record, nil
}

func sorted(m map[string]int64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Done forgets the report on a domain and a day: it was sent, or nobody wants it.
func (l *Ledger) Done(ctx context.Context, day, domain string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.store.Delete(ctx, store.Key("dmarc", "book", day, domain)); err != nil {
		return err
	}
	var domains []string
	key := store.Key("dmarc", "day", day)
	if err := l.load(ctx, key, &domains); err != nil {
		return err
	}
	domains = slices.DeleteFunc(domains, func(d string) bool { return d == domain })
	if len(domains) > 0 {
		return l.save(ctx, key, domains)
	}
	if err := l.store.Delete(ctx, key); err != nil {
		return err
	}
	var days []string
	if err := l.load(ctx, store.Key(daysKey...), &days); err != nil {
		return err
	}
	return l.save(ctx, store.Key(daysKey...), slices.DeleteFunc(days, func(d string) bool { return d == day }))
}
