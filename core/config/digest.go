package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Digest is the [digest] section.
type Digest struct {
	Every   time.Duration // 0: no digests
	From    string        // address; empty: postmaster at the host name
	Link    string        // what links begin with; empty: there are none
	Address string        // host:port of the pages behind the links; empty: none
	KeyFile string        // empty: digest.key below the data folder
	Valid   time.Duration // of a link
}

func digestKeys() section[Digest] {
	return section[Digest]{
		name: "digest", doc: "Mail to recipients of ours that lists what is kept from them in quarantine; see [docs/operations.md](operations.md#digests).",
		rows: []row[Digest]{
			{"every", to(duration(0), func(d *Digest) *time.Duration { return &d.Every }), "0s", "how often; each lists what came since the one before, and who has nothing gets none; 0s: never. At least a minute"},
			{"from", to(mailboxOrNone(), func(d *Digest) *string { return &d.From }), computed("`postmaster` at the host name"), "address in their From field; they are sent from the null path"},
			{"link", to(pageAddress(), func(d *Digest) *string { return &d.Link }), "", "what the links begin with by which recipients release their mail, such as `https://mx.example.net/quarantine/`; empty: digests have none"},
			{"address", to(listenAddressOrNone(), func(d *Digest) *string { return &d.Address }), "", "address and port of the pages behind the links, in plain HTTP: for a web server in front that has TLS. A reload does not change it"},
			{"key_file", to(path(), func(d *Digest) *string { return &d.KeyFile }), computed("`digest.key` below `data_dir`"), "key that signs the links, at least 32 characters, made where it is missing; another key ends all links"},
			{"valid", to(duration(time.Minute), func(d *Digest) *time.Duration { return &d.Valid }), "7d", "how long a link works"},
		},
	}
}

// pageAddress is the beginning of a URL, or the empty string.
func pageAddress() kind[string] {
	return scalar("URL", `"https://mx.example.net/quarantine/"`, func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || s != oneLine(s) || strings.Contains(s, " ") {
			return "", fmt.Errorf("%q does not begin a link; write something like \"https://mx.example.net/quarantine/\"", s)
		}
		return s, nil
	})
}

// fill puts in what follows from the server's section.
func (d *Digest) fill(hostname, dataDir string) {
	d.From = cmp.Or(d.From, "postmaster@"+hostname)
	d.KeyFile = cmp.Or(d.KeyFile, filepath.Join(dataDir, "digest.key"))
}

// checkDigest finds links that nobody answers to, and pages that nothing links to.
func checkDigest(c *Config) (found Problems) {
	d := &c.Digest
	if d.Every > 0 && d.Every < time.Minute {
		found = append(found, c.Problem("digest.every", FormatDuration(d.Every)+` is too short; write at least "1m", or "0s" for never`))
	}
	if (d.Link == "") != (d.Address == "") {
		key, other := "link", "address"
		if d.Link == "" {
			key, other = other, key
		}
		found = append(found, c.Problem("digest."+key, "is of no use without digest."+other+"; write both or neither"))
	}
	return found
}
