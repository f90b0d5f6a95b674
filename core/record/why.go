package record

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/postern-mta/postern/core/message"
)

// maxJoined bounds the attempts, and the later stages, of one story.
const maxJoined = 10000

// Why finds the stories that query names: the id of a message or a session, the
// address of a sender or recipient (without case), or the IP address of a client.
// They come newest first, at most a hundred. None is no error.
func (r *Recorder) Why(query string) ([]Story, error) {
	q := newQuestion(strings.TrimSpace(query))
	if len(q.hashes) == 0 {
		return nil, nil
	}
	r.Flush()
	r.using.RLock()
	defer r.using.RUnlock()
	switch {
	case r.shut:
		return nil, errClosed
	case r.store.broken.Load():
		return nil, errFailed
	}
	s := search{db: r.db, q: q, stories: map[string]*Story{}}
	if err := s.find(q.from); err != nil {
		return nil, err
	}
	if len(s.order) == 0 && q.from > 0 {
		if err := s.find(0); err != nil { // a clock that was set back
			return nil, err
		}
	}
	if err := s.join(); err != nil {
		return nil, err
	}
	return s.result(), nil
}

// question is what is asked for.
type question struct {
	text   string
	client netip.Addr
	isID   bool
	hashes []uint32
	from   uint64 // no page before is of interest, most probably
}

func newQuestion(text string) question {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
	q := question{text: text}
	if text == "" {
		return q
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		q.client = ip.Unmap().WithZone("")
		q.hashes = []uint32{hash(byClient, clientWord(ip))}
		return q
	}
	q.hashes = []uint32{hash(byAddress, lower(text))}
	if message.ValidID(text) {
		q.isID = true
		q.hashes = append(q.hashes, hash(byMessage, text), hash(bySession, text))
		q.from = idTime(text)
	}
	slices.Sort(q.hashes)
	return q
}

// idTime is the page number of a minute before the time that an id holds, 0 where
// it holds none.
func idTime(id string) uint64 {
	if len(id) != len(message.NewID(time.Time{})) {
		return 0
	}
	digits := "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var n uint64
	for i := range 8 {
		n = n*62 + uint64(strings.IndexByte(digits, id[i]))
	}
	const most = uint64(1) << 62 / uint64(time.Millisecond)
	if n > most {
		return 0
	}
	at := n * uint64(time.Millisecond)
	return at - min(at, uint64(time.Minute))
}

func (q *question) wants(s *Story) bool {
	if q.client.IsValid() {
		ip, err := netip.ParseAddr(s.Client)
		return err == nil && ip.WithZone("") == q.client
	}
	if q.isID && (s.ID == q.text || s.Session == q.text) {
		return true
	}
	return strings.EqualFold(s.Sender, q.text) ||
		slices.ContainsFunc(s.Recipients, func(one string) bool { return strings.EqualFold(one, q.text) })
}

// search is one question on its way.
type search struct {
	db      *pebble.DB
	q       question
	stories map[string]*Story
	order   []string // their ids, newest first
	oldest  time.Time
}

// find looks for the stories, from the newest page back to from.
func (s *search) find(from uint64) error {
	return s.scan(s.q.hashes, from, true, func(t told) bool {
		if t.kind == storyRecord && s.q.wants(&t.story) {
			s.keep(t.story)
		} else if at := t.since(); !at.IsZero() && s.q.isID && t.id == s.q.text && s.stories[t.id] == nil {
			// Its story may be gone already, or was dropped.
			s.keep(Story{ID: t.id, Session: t.session, Sender: t.sender, Time: at, Recipients: []string{}, Stages: []Step{}, Attempts: []Try{}})
		}
		return len(s.order) < maxStories
	})
}

// since is when what was told of a message apart from its story was; zero for
// other records.
func (t *told) since() time.Time {
	switch t.kind {
	case attemptRecord:
		return t.try.Time
	case lateRecord:
		return t.step.Time
	}
	return time.Time{}
}

func (s *search) keep(one Story) {
	if s.oldest.IsZero() || one.Time.Before(s.oldest) {
		s.oldest = one.Time
	}
	old := s.stories[one.ID]
	switch {
	case old == nil:
		s.order = append(s.order, one.ID)
		s.stories[one.ID] = &one
	case old.Verdict == "":
		*old = one
	default: // two stories of one transaction: the later one counts
		if one.Ended.After(old.Ended) {
			*old, one = one, *old
		}
		old.Stages = append(old.Stages, one.Stages...)
		old.Refusals = append(old.Refusals, one.Refusals...)
		if one.Time.Before(old.Time) {
			old.Time = one.Time
		}
	}
}

// join adds to the stories what was written apart from them.
func (s *search) join() error {
	if len(s.order) == 0 {
		return nil
	}
	var hashes []uint32
	bySessions := map[string][]*Story{}
	for id, one := range s.stories {
		hashes = append(hashes, hash(byMessage, id), hash(byLate, one.Session))
		bySessions[one.Session] = append(bySessions[one.Session], one)
	}
	slices.Sort(hashes)
	from := uint64(max(s.oldest.Add(-time.Minute).UnixNano(), 0))
	return s.scan(hashes, from, false, func(t told) bool {
		if t.kind == lateRecord && t.id == "" {
			for _, one := range bySessions[t.session] {
				one.addStep(t.step)
			}
			return true
		}
		one := s.stories[t.id]
		if one == nil {
			return true
		}
		switch t.kind {
		case lateRecord:
			one.addStep(t.step)
		case attemptRecord:
			one.addTry(t.try)
		case leftRecord:
			one.Left = &t.time
		}
		return true
	})
}

func (s *Story) addStep(step Step) {
	if len(s.Stages) >= maxJoined {
		s.LeftOut++
		return
	}
	s.Stages = append(s.Stages, step)
}

func (s *Story) addTry(t Try) {
	if len(s.Attempts) >= maxJoined {
		s.LeftOut++
		return
	}
	s.Attempts = append(s.Attempts, t)
	if s.Verdict == "" && !slices.Contains(s.Recipients, t.Recipient) {
		s.Recipients = append(s.Recipients, t.Recipient)
	}
}

func (s *search) result() []Story {
	list := make([]Story, 0, len(s.order))
	for _, id := range s.order {
		one := s.stories[id]
		slices.SortStableFunc(one.Stages, func(a, b Step) int { return a.Time.Compare(b.Time) })
		slices.SortStableFunc(one.Attempts, func(a, b Try) int { return a.Time.Compare(b.Time) })
		list = append(list, *one)
	}
	slices.SortStableFunc(list, func(a, b Story) int { return b.Time.Compare(a.Time) })
	return list
}

// scan calls f with each record of the pages whose index has one of the sorted
// hashes, the newest page first or last, until f returns false. Records of one
// page come in their order. Damaged ones are passed over.
func (s *search) scan(hashes []uint32, from uint64, newestFirst bool, f func(told) bool) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: pageKey(indexPrefix, from), UpperBound: []byte{indexPrefix + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	step, ok := it.Next, false
	if newestFirst {
		step, ok = it.Prev, it.Last()
	} else {
		ok = it.First()
	}
	for ; ok; ok = step() {
		n, valid := pageNumber(it.Key())
		if !valid || !indexHas(it.Value(), hashes) {
			continue
		}
		more, err := s.page(n, f)
		if err != nil || !more {
			return err
		}
	}
	return it.Error()
}

func (s *search) page(n uint64, f func(told) bool) (more bool, err error) {
	value, closer, err := s.db.Get(pageKey(pagePrefix, n))
	if errors.Is(err, pebble.ErrNotFound) {
		return true, nil // expired in between
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	more = true
	records(value, func(record []byte) bool {
		if t, err := decode(record); err == nil {
			more = f(t)
		}
		return more
	})
	return more, nil
}
