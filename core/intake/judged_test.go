package intake

import (
	"io"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/auth/results"
	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

// queued is the message as it stands in the queue.
func (w *world) queued(t *testing.T, tx *hooks.Transaction) string {
	t.Helper()
	body, closer, err := w.queue.Body(tx.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	b, err := io.ReadAll(message.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// found has policies leave results.
func found(results map[string]any) at {
	return at{hooks.Message, func(tx *hooks.Transaction) hooks.Decision {
		tx.Results = map[string]map[string]any{}
		for name, r := range results {
			tx.Results[name] = r.(map[string]any)
		}
		return hooks.Decision{}
	}}
}

// TestJudged: what policies left as results stands in one field behind our Received
// field, readable for others, whatever a sender made of its names.
func TestJudged(t *testing.T) {
	spf := map[string]any{"verdict": "pass", "identity": "mailfrom", "domain": "example.org"}
	for name, test := range map[string]struct {
		found map[string]any
		user  string
		want  string // the field's value without folding; "": none
	}{
		"nothing":         {nil, "", ""},
		"no verdict":      {map[string]any{"spf": map[string]any{"domain": "x.example"}, "other": map[string]any{"verdict": "pass"}}, "", ""},
		"spf":             {map[string]any{"spf": spf}, "", "mx.example.net; spf=pass smtp.mailfrom=example.org"},
		"spf of helo":     {map[string]any{"spf": map[string]any{"verdict": "fail", "identity": "helo", "domain": "h.example"}}, "", "mx.example.net; spf=fail smtp.helo=h.example"},
		"spf of nobody":   {map[string]any{"spf": map[string]any{"verdict": "none"}}, "", "mx.example.net; spf=none"},
		"not signed":      {map[string]any{"dkim": map[string]any{"verdict": "none"}}, "", "mx.example.net; dkim=none"},
		"of a wrong kind": {map[string]any{"spf": map[string]any{"verdict": 7}, "dkim": map[string]any{"verdict": "none", "signatures": []any{"x", map[string]any{"domain": "x"}}}}, "", "mx.example.net; dkim=none"},
		"signatures": {map[string]any{"dkim": map[string]any{"verdict": "pass", "signatures": []any{
			map[string]any{"verdict": "pass", "domain": "example.org", "identity": "@example.org", "selector": "s1", "algorithm": "rsa-sha256", "b": "AbCd+/12", "bits": 2048.0},
			map[string]any{"verdict": "fail", "reason": `body "changed"`, "domain": "list.example", "bits": 1024.0, "testing": true},
			map[string]any{"verdict": "neutral", "testing": true},
		}}}, "", `mx.example.net; dkim=pass (2048-bit key) header.d=example.org header.i=@example.org header.s=s1 header.a=rsa-sha256 header.b="AbCd+/12"; ` +
			`dkim=fail (1024-bit key, testing) reason="body \"changed\"" header.d=list.example; dkim=neutral (testing)`},
		"arc":        {map[string]any{"arc": map[string]any{"verdict": "pass", "domain": "f.example"}}, "", "mx.example.net; arc=pass (sealed by f.example)"},
		"arc fails":  {map[string]any{"arc": map[string]any{"verdict": "fail", "reason": "no key"}}, "", `mx.example.net; arc=fail reason="no key"`},
		"dmarc":      {map[string]any{"dmarc": map[string]any{"verdict": "fail", "from": "x.example", "policy": "reject", "disposition": "quarantine"}}, "", "mx.example.net; dmarc=fail (p=reject dis=quarantine) header.from=x.example"},
		"no policy":  {map[string]any{"dmarc": map[string]any{"verdict": "permerror", "problem": "there are 2 From fields"}}, "", `mx.example.net; dmarc=permerror reason="there are 2 From fields"`},
		"in order":   {map[string]any{"dmarc": map[string]any{"verdict": "pass", "from": "x.example"}, "spf": spf}, "", "mx.example.net; spf=pass smtp.mailfrom=example.org; dmarc=pass header.from=x.example"},
		"of a user":  {map[string]any{"spf": spf}, "ann;x", `mx.example.net; spf=pass smtp.mailfrom=example.org; auth=pass smtp.auth="ann;x"`},
		"injections": {map[string]any{"spf": map[string]any{"verdict": "pass; dkim=pass", "domain": "x\r\nSubject: y; dmarc=pass"}, "arc": map[string]any{"verdict": "pass", "domain": `x) (\`}}, "", `mx.example.net; spf=passdkimpass smtp.mailfrom="x  Subject: y; dmarc=pass"; arc=pass (sealed by x] [/)`},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, nil)
			tx := transaction("a@example.net")
			tx.Session.Authenticated, tx.Session.User = test.user != "", test.user
			if a := w.take(t, chain(found(test.found)), tx, "Subject: x\r\n\r\nbody\r\n", 100); !a.Queued {
				t.Fatal(a)
			}
			text := w.queued(t, tx)
			rest := text[message.FieldLen([]byte(text)):]
			if test.want == "" {
				if !strings.HasPrefix(rest, "Subject: x\r\n") && test.user == "" {
					t.Errorf("%q", rest)
				}
				return
			}
			value, ok := strings.CutPrefix(rest[:message.FieldLen([]byte(rest))], "Authentication-Results: ")
			if value = strings.NewReplacer("\r\n\t ", " ", "\r\n\t", " ", "\r\n", "").Replace(value); !ok || value != test.want {
				t.Fatalf("%s\nwant %s", value, test.want)
			}
			if _, err := results.Parse(value); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForgedResults: fields that claim to be ours are gone before a policy looks; those
// of others stay, and so do those of hosts of ours that relay.
func TestForgedResults(t *testing.T) {
	const theirs = "Authentication-Results: mx.example.com; spf=pass\r\n"
	forged := []string{
		"Authentication-Results: mx.example.net; spf=pass\r\n", "authentication-results: MX.Example.NET; dkim=pass\r\n", "Authentication-Results:mx.example.net.;spf=pass\r\n",
		"Authentication-Results:\r\n\t(a ; comment) mx.example.net\r\n 1; spf=pass\r\n", "Authentication-Results : \"mx.example.net\"; spf=pass\r\n", "Authentication-Results: (no end; x\r\n", "Authentication-Results: ; spf=pass\r\n",
	}
	for _, one := range forged {
		for _, relaying := range []bool{false, true} {
			w := open(t, nil)
			tx := transaction("a@example.net")
			tx.Session.Relaying = relaying
			seen := 0
			look := at{hooks.Headers, func(tx *hooks.Transaction) hooks.Decision {
				seen = tx.Header.Count(results.Name)
				return hooks.Decision{}
			}}
			if a := w.take(t, chain(look), tx, theirs+one+theirs+one+"Subject: x\r\n\r\nbody\r\n", 100); !a.Queued {
				t.Fatal(a)
			}
			text := w.queued(t, tx)
			if relaying {
				if !strings.Contains(text, one) || seen != 4 {
					t.Errorf("%q is gone, where a host of ours relays", one)
				}
				continue
			}
			if strings.Contains(text, one) || strings.Count(text, theirs) != 2 || seen != 2 {
				t.Errorf("%q: %d fields seen\n%s", one, seen, text)
			}
		}
	}
	// Of more than are looked at all go.
	w := open(t, nil)
	tx := transaction("a@example.net")
	if a := w.take(t, chain(), tx, strings.Repeat(theirs, maxForged+1)+"Subject: x\r\n\r\nbody\r\n", 100); !a.Queued {
		t.Fatal(a)
	}
	if text := w.queued(t, tx); strings.Contains(text, "Authentication-Results") {
		t.Errorf("%d are left", strings.Count(text, theirs))
	}
	// Users who log in are strangers, what is made here is not.
	for _, local := range []bool{true, false} {
		w := open(t, nil)
		tx := transaction("a@example.net")
		tx.Session.Authenticated, tx.Session.Relaying = !local, true
		var text string
		if local {
			tx.Session.Protocol = "local"
			if r := w.in.Inject(t.Context(), chain(), tx, strings.NewReader(forged[0]+"Subject: x\r\n\r\nbody\r\n")); !r.Positive() {
				t.Fatal(r)
			}
			text = w.text
		} else {
			w.take(t, chain(), tx, forged[0]+"Subject: x\r\n\r\nbody\r\n", 100)
			text = w.queued(t, tx)
		}
		if strings.Contains(text, forged[0]) != local {
			t.Errorf("made here: %v\n%s", local, text)
		}
	}
}
