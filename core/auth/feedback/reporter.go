package feedback

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/postern-mta/postern/core/auth/dmarc"
	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

const (
	flushEvery = time.Minute
	mostBytes  = 10 << 20 // of a packed report to an address that names no limit
	mostTo     = 5        // addresses that one domain's report goes to
)

// Who is who reports.
type Who struct {
	Hostname string // our name
	Name     string // org_name
	From     string // address that reports come from
}

// Reporter sends the reports of a Ledger.
type Reporter struct {
	Ledger   *Ledger
	Resolver dns.Resolver
	Who      func() Who // who reports, asked for each report
	Now      func() time.Time
	Log      *slog.Logger
	// Send queues a message; an error is told and tried again an hour later.
	Send func(ctx context.Context, to string, message []byte) error
}

// Run keeps the ledger in the store and sends the reports of days that are over, until
// ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var next time.Time
	for {
		err := r.Ledger.Flush(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Warn("DMARC reports: not stored", "error", err)
		}
		if now := r.Now(); err == nil && !now.Before(next) {
			next = now.Add(time.Hour)
			r.SendDue(ctx)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := r.Ledger.Flush(last); err != nil {
				r.Log.Warn("DMARC reports: what was counted last is lost", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}

// SendDue sends what is due now. A report that nobody may have is forgotten; one that
// can't be sent now stays.
func (r *Reporter) SendDue(ctx context.Context) {
	due, err := r.Ledger.Due(ctx)
	if err != nil {
		r.Log.Warn("DMARC reports: the ledger can't be read", "error", err)
		return
	}
	if n := r.Ledger.Lost(); n > 0 {
		r.Log.Warn("DMARC reports: messages in the names of more domains than a day has reports on are not counted", "messages", n, "domains", maxBooks)
	}
	for _, one := range due {
		if ctx.Err() != nil {
			return
		}
		day, domain := one[0], one[1]
		if err := r.send(ctx, day, domain); err != nil {
			r.Log.Warn("DMARC report not sent, again in an hour", "domain", domain, "day", day, "error", err)
			continue
		}
		if err := r.Ledger.Done(ctx, day, domain); err != nil {
			r.Log.Warn("DMARC reports: the ledger can't be written", "error", err)
			return
		}
	}
}

// send sends the report on a domain and a day to all who may have it.
func (r *Reporter) send(ctx context.Context, day, domain string) error {
	report, record, err := r.Ledger.Take(ctx, day, domain)
	if err != nil || report == nil {
		return err
	}
	who := r.Who()
	report.Reporter, report.Email = who.Name, who.From
	for _, what := range report.Errors {
		r.Log.Warn("DMARC report: "+what, "domain", domain, "day", day)
	}
	packed, err := Write(report)
	if err != nil {
		return err
	}
	policy, _ := dmarc.ParseRecord(record) // its mistakes are not ours
	sent := 0
	for _, to := range policy.Aggregate {
		limit := int64(mostBytes)
		if to.Max > 0 {
			limit = min(limit, to.Max)
		}
		ok, err := r.wanted(ctx, domain, to.Address)
		switch {
		case err != nil && sent == 0:
			return err
		case err != nil || !ok:
			r.Log.Info("DMARC report not sent: the address does not take reports on the domain", "domain", domain, "to", to.Address)
			continue
		case int64(len(packed)) > limit:
			r.Log.Info("DMARC report not sent: larger than the address takes", "domain", domain, "to", to.Address, "bytes", len(packed))
			continue
		}
		if err := r.Send(ctx, to.Address, report.Mail(packed, who.Hostname, to.Address, r.Now())); err != nil {
			if sent == 0 {
				return err
			}
			r.Log.Warn("DMARC report not sent to one of its addresses", "domain", domain, "to", to.Address, "error", err)
			continue
		}
		r.Log.Info("DMARC report sent", "domain", domain, "day", day, "to", to.Address, "records", len(report.Records))
		if sent++; sent == mostTo {
			break
		}
	}
	return nil
}

// wanted tells whether an address may be sent reports on a domain: it is of the same
// organization, or its domain says so at DOMAIN._report._dmarc.ITS (RFC 9990 4).
func (r *Reporter) wanted(ctx context.Context, domain, address string) (bool, error) {
	if _, err := message.ParseAddress(address); err != nil {
		return false, nil
	}
	host, err := dns.Canonical(address[strings.LastIndexByte(address, '@')+1:])
	if err != nil {
		return false, nil
	}
	if host == domain || strings.HasSuffix(host, "."+domain) || strings.HasSuffix(domain, "."+host) && dmarc.Organizational(domain) == dmarc.Organizational(host) {
		return true, nil
	}
	texts, err := r.Resolver.LookupTXT(ctx, domain+"._report._dmarc."+host)
	if err != nil {
		if e, ok := errors.AsType[*dns.Error](err); ok && !e.Kind.Temporary() {
			return false, nil
		}
		return false, err
	}
	for _, text := range texts {
		version, _, _ := strings.Cut(strings.ReplaceAll(text, " ", ""), ";")
		if version == "v=DMARC1" {
			return true, nil
		}
	}
	return false, nil
}
