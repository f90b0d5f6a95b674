package config

import "cmp"

// DMARC is the [dmarc] section.
type DMARC struct {
	Reports      bool
	From         string // address; empty: noreply-dmarc at the host name
	Organization string // empty: the host name
}

func dmarcKeys() section[DMARC] {
	return section[DMARC]{
		name: "dmarc", doc: "Aggregate reports to the owners of domains, on what the policy `dmarc` judged; see [docs/authentication.md](authentication.md#reports-of-ours).",
		rows: []row[DMARC]{
			{"reports", to(boolean(), func(d *DMARC) *bool { return &d.Reports }), false, "whether messages are counted, and each day's sums sent to the addresses that the domains name in `rua`"},
			{"from", to(mailboxOrNone(), func(d *DMARC) *string { return &d.From }), computed("`noreply-dmarc` at the host name"), "address that reports come from; sign mail of its domain ([[dkim]]), or receivers may refuse it"},
			{"organization", to(sentence(`"Example Ltd"`), func(d *DMARC) *string { return &d.Organization }), computed("the host name"), "what reports call the receiver"},
		},
	}
}

// fill puts in what follows from the host name.
func (d *DMARC) fill(hostname string) {
	d.From = cmp.Or(d.From, "noreply-dmarc@"+hostname)
	d.Organization = cmp.Or(d.Organization, hostname)
}
