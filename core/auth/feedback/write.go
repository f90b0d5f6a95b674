package feedback

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/mail"
	"strings"
	"time"
)

// outFeedback is a report of ours as RFC 9990 has it.
type outFeedback struct {
	XMLName xml.Name    `xml:"urn:ietf:params:xml:ns:dmarc-2.0 feedback"`
	Version string      `xml:"version"`
	Meta    outMetadata `xml:"report_metadata"`
	Policy  outPolicy   `xml:"policy_published"`
	Records []outRecord `xml:"record"`
}

type outMetadata struct {
	Org       string   `xml:"org_name"`
	Email     string   `xml:"email"`
	ID        string   `xml:"report_id"`
	Begin     int64    `xml:"date_range>begin"`
	End       int64    `xml:"date_range>end"`
	Errors    []string `xml:"error,omitempty"`
	Generator string   `xml:"generator"`
}

type outPolicy struct {
	Domain  string `xml:"domain"`
	Method  string `xml:"discovery_method,omitempty"`
	P       string `xml:"p,omitempty"`
	SP      string `xml:"sp,omitempty"`
	NP      string `xml:"np,omitempty"`
	DKIM    string `xml:"adkim,omitempty"`
	SPF     string `xml:"aspf,omitempty"`
	Testing string `xml:"testing,omitempty"`
	FO      string `xml:"fo,omitempty"`
}

type outReason struct {
	Type    string `xml:"type"`
	Comment string `xml:"comment,omitempty"`
}

type outFound struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector,omitempty"`
	Scope    string `xml:"scope,omitempty"`
	Result   string `xml:"result"`
}

type outRecord struct {
	Source       string      `xml:"row>source_ip"`
	Count        int64       `xml:"row>count"`
	Disposition  string      `xml:"row>policy_evaluated>disposition"`
	DKIM         string      `xml:"row>policy_evaluated>dkim"`
	SPF          string      `xml:"row>policy_evaluated>spf"`
	Reasons      []outReason `xml:"row>policy_evaluated>reason"`
	From         string      `xml:"identifiers>header_from"`
	EnvelopeFrom string      `xml:"identifiers>envelope_from"`
	Signatures   []outFound  `xml:"auth_results>dkim"`
	Senders      []outFound  `xml:"auth_results>spf"`
}

// Write returns a report as gzipped XML (RFC 9990 2).
func Write(r *Report) ([]byte, error) {
	out := outFeedback{
		Version: "1.0", Meta: outMetadata{r.Reporter, r.Email, r.ID, r.Begin.Unix(), r.End.Unix(), r.Errors, "Postern"},
		Policy: outPolicy{r.Domain, r.Method, r.P, r.SP, r.NP, r.DKIM, r.SPF, r.Testing, r.FO},
	}
	for i := range r.Records {
		x := &r.Records[i]
		one := outRecord{
			Source: x.Source.String(), Count: x.Count, Disposition: x.Disposition, DKIM: x.DKIM, SPF: x.SPF, From: x.From, EnvelopeFrom: x.EnvelopeFrom,
		}
		for _, why := range x.Reasons {
			one.Reasons = append(one.Reasons, outReason(why))
		}
		for _, f := range x.Signatures {
			one.Signatures = append(one.Signatures, outFound(f))
		}
		for _, f := range x.Senders {
			one.Senders = append(one.Senders, outFound(f))
		}
		out.Records = append(out.Records, one)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(xml.Header)); err != nil {
		return nil, err
	}
	e := xml.NewEncoder(z)
	e.Indent("", " ")
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Name is what a report's file is called (RFC 9990 2.6.1): who reports, about whom,
// from when to when.
func (r *Report) Name(receiver string) string {
	return fmt.Sprintf("%s!%s!%d!%d.xml.gz", receiver, r.Domain, r.Begin.Unix(), r.End.Unix())
}

// Mail is a message that carries a report to an address (RFC 9990 2.6.2). packed is
// what Write gave; host is our name, at the date now.
func (r *Report) Mail(packed []byte, host, to string, now time.Time) []byte {
	var b strings.Builder
	boundary := "postern-" + r.ID
	name := r.Name(host)
	for _, line := range []string{
		"From: " + (&mail.Address{Name: r.Reporter, Address: r.Email}).String(),
		"To: <" + to + ">",
		"Date: " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"),
		"Message-ID: <" + r.ID + "." + fmt.Sprint(now.UnixNano()) + "@" + host + ">",
		"Subject: Report Domain: " + r.Domain + "\r\n Submitter: " + host + "\r\n Report-ID: <" + r.ID + "@" + host + ">",
		"Auto-Submitted: auto-generated",
		"MIME-Version: 1.0",
		"Content-Type: multipart/mixed; boundary=\"" + boundary + "\"",
		"",
		"--" + boundary,
		"Content-Type: text/plain; charset=us-ascii",
		"",
		"This is a DMARC aggregate report of " + host + " about mail in the name of",
		r.Domain + ", " + r.Begin.UTC().Format(time.DateOnly) + " (UTC).",
		"",
		"--" + boundary,
		"Content-Type: application/gzip; name=\"" + name + "\"",
		"Content-Disposition: attachment;\r\n filename=\"" + name + "\"",
		"Content-Transfer-Encoding: base64",
		"",
	} {
		b.WriteString(line + "\r\n")
	}
	for text := base64.StdEncoding.EncodeToString(packed); text != ""; {
		n := min(len(text), 76)
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--" + boundary + "--\r\n")
	return []byte(b.String())
}
