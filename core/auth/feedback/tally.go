package feedback

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Tally is what reports say together.
type Tally struct {
	Reports  int            `json:"reports"`
	Begin    time.Time      `json:"begin"`
	End      time.Time      `json:"end"`
	Messages int64          `json:"messages"`
	Passed   int64          `json:"passed"`
	Failed   int64          `json:"failed"`
	Days     []Count        `json:"days"`
	Sources  []Count        `json:"sources"`
	Domains  []Count        `json:"domains"`   // of From
	Reporter []Count        `json:"reporters"` // who reported
	Verdicts map[string]int `json:"dispositions"`
}

// Count is how many messages of one kind there were.
type Count struct {
	Name        string `json:"name"`
	Messages    int64  `json:"messages"`
	Passed      int64  `json:"passed"`
	SPF         int64  `json:"spf"`  // passed, aligned
	DKIM        int64  `json:"dkim"` // likewise
	Quarantined int64  `json:"quarantined"`
	Rejected    int64  `json:"rejected"`
}

func (c *Count) add(r *Record) {
	c.Messages += r.Count
	if r.Passed() {
		c.Passed += r.Count
	}
	if r.SPF == "pass" {
		c.SPF += r.Count
	}
	if r.DKIM == "pass" {
		c.DKIM += r.Count
	}
	switch r.Disposition {
	case "quarantine":
		c.Quarantined += r.Count
	case "reject":
		c.Rejected += r.Count
	}
}

// Sum adds up reports; one that stands there twice, by reporter, id, domain and
// begin, counts once.
func Sum(reports []Report) Tally {
	t := Tally{Verdicts: map[string]int{}}
	seen := map[[4]string]bool{}
	days, sources, domains, reporters := map[string]*Count{}, map[netip.Addr]*Count{}, map[string]*Count{}, map[string]*Count{}
	for i := range reports {
		rep := &reports[i]
		key := [4]string{rep.Reporter, rep.ID, rep.Domain, rep.Begin.String()}
		if seen[key] && rep.ID != "" {
			continue
		}
		seen[key] = true
		t.Reports++
		if !rep.Begin.IsZero() && (t.Begin.IsZero() || rep.Begin.Before(t.Begin)) {
			t.Begin = rep.Begin
		}
		if rep.End.After(t.End) {
			t.End = rep.End
		}
		for k := range rep.Records {
			r := &rep.Records[k]
			t.Messages += r.Count
			if r.Passed() {
				t.Passed += r.Count
			} else {
				t.Failed += r.Count
			}
			t.Verdicts[cmp.Or(r.Disposition, "none")] += int(r.Count)
			of(days, rep.Begin.UTC().Format(time.DateOnly), rep.Begin.UTC().Format(time.DateOnly)).add(r)
			of(sources, r.Source, r.Source.String()).add(r)
			of(domains, r.From, cmp.Or(r.From, rep.Domain)).add(r)
			of(reporters, rep.Reporter, rep.Reporter).add(r)
		}
	}
	t.Days, t.Sources, t.Domains, t.Reporter = counts(days), counts(sources), counts(domains), counts(reporters)
	slices.SortFunc(t.Days, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
	return t
}

func of[K comparable](m map[K]*Count, key K, name string) *Count {
	c := m[key]
	if c == nil {
		c = &Count{Name: name}
		m[key] = c
	}
	return c
}

// counts sorts by messages that failed, then by all.
func counts[K comparable](m map[K]*Count) []Count {
	list := make([]Count, 0, len(m))
	for _, c := range m {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Messages-b.Passed, a.Messages-a.Passed), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
	})
	return list
}
