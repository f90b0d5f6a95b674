package main

import (
	"bytes"
	"context"
	"time"

	"github.com/postern-mta/postern/core/auth/feedback"
	"github.com/postern-mta/postern/core/intake"
	"github.com/postern-mta/postern/core/message"
)

// reporter sends DMARC aggregate reports as mail of our own, through the chain as all
// mail goes.
func (d *daemon) reporter() *feedback.Reporter {
	return &feedback.Reporter{
		Ledger: d.policies.ledger, Resolver: d.dns, Now: time.Now, Log: d.log,
		Who: func() feedback.Who {
			c := d.config.Load()
			return feedback.Who{Hostname: c.Server.Hostname, Name: c.DMARC.Organization, From: c.DMARC.From}
		},
		Send: d.sendReport,
	}
}

// sendReport queues a report.
func (d *daemon) sendReport(ctx context.Context, to string, text []byte) error {
	sender, err := message.ParseAddress(d.config.Load().DMARC.From)
	if err != nil {
		return err
	}
	recipient, err := message.ParseAddress(to)
	if err != nil {
		return err
	}
	chain := d.acquire()
	defer chain.Release()
	r := d.intake.Inject(ctx, chain, intake.NewLocal("local", sender, []message.Address{recipient}), bytes.NewReader(text))
	if r.Negative() {
		return r
	}
	return nil
}
