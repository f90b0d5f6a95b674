package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/config"
	"github.com/postern-mta/postern/core/console"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/core/quarantine"
	"github.com/postern-mta/postern/core/queue"
	"github.com/postern-mta/postern/hooks"
)

// This file tells recipients of what is kept from them, and releases it by their
// links.

// byRecipient is who released it, in the log and in stories.
const byRecipient = "recipient"

const (
	digestLook   = 10 * time.Second // between two looks at the clock
	maxEntries   = 100              // of one digest
	maxDigests   = 10000            // recipients of one round
	maxTold      = 16 << 10         // bytes of a header section that are read for a digest
	digestsSince = "digest.time"    // file below the data folder with the time of the last round
)

// sendDigests sends a round of digests whenever one is due, until ctx is done.
func (d *daemon) sendDigests(ctx context.Context) {
	tick := time.NewTicker(digestLook)
	defer tick.Stop()
	for {
		c := d.config.Load()
		if c.Digest.Every > 0 {
			d.digestsDue(ctx, c, time.Now())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// digestsDue sends a round where the last one was long enough ago. The first one
// waits for its time from the first look.
func (d *daemon) digestsDue(ctx context.Context, c *config.Config, now time.Time) {
	path := filepath.Join(c.Server.DataDir, digestsSince)
	text, err := os.ReadFile(path)
	last, parsed := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && parsed != nil || last.After(now):
		last = now
	case err != nil:
		d.log.Error("digests: when the last ones were sent", "error", err)
		return
	case now.Sub(last) < c.Digest.Every:
		return
	}
	// Before they are sent: who fails half way is not to write to people over and over.
	if err := os.WriteFile(path, []byte(now.UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		d.log.Error("digests: keeping when they were sent", "error", err)
		return
	}
	if last.Equal(now) {
		return
	}
	sent, err := d.digests(ctx, c, last, now)
	if err != nil {
		d.log.Error("digests", "error", err)
	}
	if sent > 0 {
		d.log.Info("digests sent", "recipients", sent)
	}
}

// digests tells each recipient of ours what came into quarantine since a time.
func (d *daemon) digests(ctx context.Context, c *config.Config, since, now time.Time) (sent int, err error) {
	kept := map[string]*quarantine.Digest{}
	d.eachQuarantined(ctx, func(m *queue.Message) bool {
		if m.Arrived.Before(since.Truncate(time.Second)) || !m.Arrived.Before(now.Truncate(time.Second)) {
			return true
		}
		d.list(c, m, now, kept)
		return true
	})
	from, err := message.ParseAddress(c.Digest.From)
	if err != nil {
		return 0, err
	}
	var failed error
	for _, to := range slices.Sorted(maps.Keys(kept)) {
		if ctx.Err() != nil {
			break
		}
		one := kept[to]
		one.From = from
		if err := d.sendDigest(ctx, one); err != nil {
			failed = errors.Join(failed, fmt.Errorf("to %s: %w", to, err))
			continue
		}
		sent++
	}
	return sent, failed
}

// list adds a message to the digests of those whom it is kept from.
func (d *daemon) list(c *config.Config, m *queue.Message, now time.Time, kept map[string]*quarantine.Digest) {
	var about quarantine.Entry
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if r.State.Final() || !d.intake.Ours(r.Address.Domain) {
			continue
		}
		to := r.Address.String()
		one := kept[to]
		if one == nil {
			if len(kept) >= maxDigests {
				return
			}
			one = &quarantine.Digest{To: r.Address, Hostname: c.Server.Hostname, Now: now, Keep: c.Quarantine.Keep, Valid: c.Digest.Valid}
			kept[to] = one
		}
		if len(one.Entries) >= maxEntries {
			one.More++
			continue
		}
		if about.ID == "" {
			about = d.entry(m)
		}
		e := about
		if d.links != nil && c.Digest.Link != "" {
			e.Link = d.links.Link(c.Digest.Link, quarantine.Claim{ID: m.ID, Recipient: to, Until: now.Add(c.Digest.Valid)})
		}
		one.Entries = append(one.Entries, e)
	}
}

// entry is what a digest and a page tell of a message. A message that can't be read
// has no subject.
func (d *daemon) entry(m *queue.Message) quarantine.Entry {
	e := quarantine.Entry{ID: m.ID, From: m.Sender.String(), Reason: m.Reason, Arrived: m.Arrived, Size: m.Size}
	body, closer, err := d.queue.Body(m.ID)
	if err != nil {
		return e
	}
	defer closer.Close()
	start := make([]byte, min(body.Size(), maxTold))
	n, _ := body.ReadAt(start, 0)
	length, _ := message.HeaderLen(start[:n])
	if length == 0 {
		length = n
	}
	h := message.ParseHeader(start[:length])
	if from, ok := h.Get("From"); ok {
		e.From = from
	}
	e.Subject, _ = h.Get("Subject")
	return e
}

// sendDigest queues a digest as mail of our own, from the null path.
func (d *daemon) sendDigest(ctx context.Context, one *quarantine.Digest) error {
	chain := d.acquire()
	defer chain.Release()
	r := d.intake.Inject(ctx, chain, intake.NewLocal("local", message.Address{}, []message.Address{one.To}), bytes.NewReader(one.Message()))
	if r.Negative() {
		return r
	}
	return nil
}

// releasePage answers to the links of digests.
func (d *daemon) releasePage() http.Handler {
	return &quarantine.Page{
		Key: d.links, Now: time.Now, Log: d.log,
		Find: func(_ context.Context, c quarantine.Claim) (quarantine.Entry, error) {
			m, _, err := d.claimed(c)
			if err != nil {
				return quarantine.Entry{}, err
			}
			return d.entry(m), nil
		},
		Release: d.releaseTo,
	}
}

// claimed is a message in quarantine, and the recipient that a claim is about.
func (d *daemon) claimed(c quarantine.Claim) (*queue.Message, int, error) {
	m, err := d.queue.Load(c.ID)
	if errors.Is(err, queue.ErrNotFound) {
		return nil, 0, quarantine.ErrGone
	}
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(m.Recipients, func(r queue.Recipient) bool { return !r.State.Final() && r.Address.String() == c.Recipient })
	if i < 0 || m.Place != queue.Quarantined {
		return nil, 0, quarantine.ErrGone
	}
	return m, i, nil
}

// releaseTo releases a message to one of its recipients. Where there are others, they
// keep waiting: that one gets a copy, with an id of its own.
func (d *daemon) releaseTo(ctx context.Context, c quarantine.Claim) error {
	d.letting.Lock()
	defer d.letting.Unlock()
	m, i, err := d.claimed(c)
	if err != nil {
		return err
	}
	open := 0
	for k := range m.Recipients {
		if !m.Recipients[k].State.Final() {
			open++
		}
	}
	if open == 1 {
		err := d.free(ctx, c.ID, byRecipient, inQuarantine)
		if errors.Is(err, queue.ErrNotFound) || errors.Is(err, console.ErrNotQuarantined) {
			return quarantine.ErrGone // an operator was sooner
		}
		return err
	}
	one, err := copyFor(m, i, time.Now())
	if err != nil {
		return err
	}
	body, closer, err := d.queue.Body(c.ID)
	if err != nil {
		return err
	}
	defer closer.Close()
	if err := d.importMessage(ctx, one, message.NewReader(body)); err != nil {
		return err
	}
	d.record.Operated(c.ID, "released", byRecipient, "for "+c.Recipient+" as "+one.ID)
	d.record.Operated(one.ID, "released", byRecipient, "from "+c.ID)
	return d.change(ctx, c.ID, func(m *queue.Message) error {
		r := &m.Recipients[i] // which no act moves
		r.State, r.Next = queue.Delivered, time.Time{}
		r.Last = message.NewReply(250, "2.0.0", "released from quarantine as %s", one.ID)
		return nil
	})
}

// copyFor is the message for one of its recipients alone, to be sent at once.
func copyFor(m *queue.Message, i int, now time.Time) (*queue.Message, error) {
	one := *m
	one.ID, one.Place, one.Reason, one.Arrived = message.NewID(now), queue.Active, "", now
	one.Recipients = []queue.Recipient{m.Recipients[i]}
	one.Recipients[0].Held, one.Recipients[0].Next = false, now
	if len(m.Facts) == 0 {
		return &one, nil
	}
	var f hooks.Facts
	if err := json.Unmarshal(m.Facts, &f); err != nil {
		return nil, fmt.Errorf("what policies left of %s: %w", m.ID, err)
	}
	own, ok := f.Rcpts[i]
	if f.Rcpts = nil; ok {
		f.Rcpts = map[int]hooks.RcptFacts{0: own}
	}
	var err error
	one.Facts, err = json.Marshal(f)
	return &one, err
}
