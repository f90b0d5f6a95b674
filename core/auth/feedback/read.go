package feedback

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html/charset"

	"github.com/postern-mta/postern/core/message"
)

// Bounds of what is read from one file.
const (
	MaxFile    = 64 << 20  // bytes of the file
	maxPlain   = 256 << 20 // bytes of all XML in it, unpacked
	maxRecords = 500_000
	maxInside  = 100 // files in a zip, attachments of a message
	maxText    = 1 << 10
	maxFound   = 50 // results of DKIM or SPF, reasons, errors
	maxNesting = 3  // a zip in a message in a zip
)

// ErrNone is a file that has no report in it.
var ErrNone = errors.New("there is no aggregate report in it")

// Read reads the reports of a file: XML, packed by gzip or zip or not, or a message
// with such attachments. What a file has beside reports is passed over; an error is
// that of the first report that can't be read, with those that could.
func Read(file []byte) ([]Report, error) {
	r := reader{plain: maxPlain}
	if len(file) > MaxFile {
		return nil, fmt.Errorf("it has more than %d MiB", MaxFile>>20)
	}
	err := r.file(file, 0)
	if len(r.reports) == 0 && err == nil {
		err = ErrNone
	}
	return r.reports, err
}

type reader struct {
	reports []Report
	plain   int64 // bytes that may still be unpacked
	records int
}

// file reads what its first bytes say it is.
func (r *reader) file(b []byte, nested int) error {
	if nested > maxNesting {
		return errors.New("packed too deep")
	}
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return err
		}
		return r.unpacked(z, nested)
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return r.zip(b, nested)
	}
	if text := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n"); bytes.HasPrefix(text, []byte("<")) {
		return r.xml(text)
	}
	if message.StartsHeader(b) || bytes.HasPrefix(b, []byte("From ")) {
		return r.mail(b, nested)
	}
	return ErrNone
}

// unpacked reads all that a decompressor gives, within the bounds.
func (r *reader) unpacked(z io.Reader, nested int) error {
	b, err := io.ReadAll(io.LimitReader(z, r.plain+1))
	if int64(len(b)) > r.plain {
		return fmt.Errorf("unpacked it has more than %d MiB", maxPlain>>20)
	}
	r.plain -= int64(len(b))
	if err != nil {
		return err
	}
	return r.file(b, nested+1)
}

func (r *reader) zip(b []byte, nested int) error {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	if len(z.File) > maxInside {
		return fmt.Errorf("a zip with more than %d files", maxInside)
	}
	var first error
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		one, err := f.Open()
		if err == nil {
			err = errors.Join(r.unpacked(one, nested), one.Close())
		}
		if err != nil && !errors.Is(err, ErrNone) && first == nil {
			first = fmt.Errorf("%q: %w", f.Name[:min(len(f.Name), 100)], err)
		}
	}
	return first
}

// mail reads the attachments of a message.
func (r *reader) mail(b []byte, nested int) error {
	m, err := message.ParseMIME(message.Bytes(b))
	if err != nil {
		return err
	}
	var first error
	seen := 0
	for p := range m.Parts() {
		if len(p.Children) > 0 || p.Multipart() || p.IsText() && !p.IsAttachment() && p.Type != "text/xml" {
			continue
		}
		if seen++; seen > maxInside {
			break
		}
		if err := r.unpacked(p.Reader(), nested); err != nil && !errors.Is(err, ErrNone) && first == nil {
			first = err
		}
	}
	return first
}

// The elements of a report, as encoding/xml reads them. Namespaces don't count.
type xmlMetadata struct {
	Org    string   `xml:"org_name"`
	Email  string   `xml:"email"`
	ID     string   `xml:"report_id"`
	Begin  string   `xml:"date_range>begin"`
	End    string   `xml:"date_range>end"`
	Errors []string `xml:"error"`
}

type xmlPolicy struct {
	Domain  string `xml:"domain"`
	DKIM    string `xml:"adkim"`
	SPF     string `xml:"aspf"`
	P       string `xml:"p"`
	SP      string `xml:"sp"`
	NP      string `xml:"np"`
	FO      string `xml:"fo"`
	Pct     string `xml:"pct"`
	Testing string `xml:"testing"`
	Method  string `xml:"discovery_method"`
}

type xmlRecord struct {
	Source      string `xml:"row>source_ip"`
	Count       string `xml:"row>count"`
	Disposition string `xml:"row>policy_evaluated>disposition"`
	DKIM        string `xml:"row>policy_evaluated>dkim"`
	SPF         string `xml:"row>policy_evaluated>spf"`
	Reasons     []struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment"`
	} `xml:"row>policy_evaluated>reason"`
	From         string     `xml:"identifiers>header_from"`
	EnvelopeFrom string     `xml:"identifiers>envelope_from"`
	EnvelopeTo   string     `xml:"identifiers>envelope_to"`
	Signatures   []xmlFound `xml:"auth_results>dkim"`
	Senders      []xmlFound `xml:"auth_results>spf"`
}

type xmlFound struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector"`
	Scope    string `xml:"scope"`
	Result   string `xml:"result"`
}

// xml reads one report, record by record.
func (r *reader) xml(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = charset.NewReaderLabel
	d.Strict = false // real reports have stray characters; nothing is expanded either way
	var rep Report
	known := false
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		start, ok := t.(xml.StartElement)
		switch {
		case !ok:
		case known:
			if err := r.element(d, start, &rep); err != nil {
				return err
			}
		case start.Name.Local != "feedback":
			return ErrNone
		default:
			known = true
		}
	}
	if !known {
		return ErrNone
	}
	if rep.Domain == "" && rep.Reporter == "" {
		return errors.New("a report that names neither a reporter nor a domain")
	}
	r.reports = append(r.reports, rep)
	return nil
}

// element reads one element below feedback.
func (r *reader) element(d *xml.Decoder, t xml.StartElement, rep *Report) error {
	switch t.Name.Local {
	case "report_metadata":
		var m xmlMetadata
		if err := d.DecodeElement(&m, &t); err != nil {
			return err
		}
		rep.Reporter, rep.Email, rep.ID, rep.Begin, rep.End = text(m.Org), text(m.Email), text(m.ID), unix(m.Begin), unix(m.End)
		for _, e := range m.Errors[:min(len(m.Errors), maxFound)] {
			rep.Errors = append(rep.Errors, text(e))
		}
	case "policy_published":
		var p xmlPolicy
		if err := d.DecodeElement(&p, &t); err != nil {
			return err
		}
		rep.Domain, rep.DKIM, rep.SPF, rep.P, rep.SP, rep.NP = strings.ToLower(text(p.Domain)), word(p.DKIM), word(p.SPF), word(p.P), word(p.SP), word(p.NP)
		rep.FO, rep.Pct, rep.Testing, rep.Method = word(p.FO), word(p.Pct), word(p.Testing), word(p.Method)
	case "record":
		var x xmlRecord
		if err := d.DecodeElement(&x, &t); err != nil {
			return err
		}
		if r.records++; r.records > maxRecords {
			return fmt.Errorf("more than %d records", maxRecords)
		}
		one, err := x.record()
		if err != nil {
			return fmt.Errorf("record %d: %w", len(rep.Records)+1, err)
		}
		rep.Records = append(rep.Records, one)
	default:
		return d.Skip()
	}
	return nil
}

func (x *xmlRecord) record() (Record, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(x.Source))
	if err != nil || addr.Zone() != "" {
		return Record{}, fmt.Errorf("source_ip %q is no address", text(x.Source))
	}
	count, err := strconv.ParseInt(strings.TrimSpace(x.Count), 10, 48)
	if err != nil || count < 0 {
		return Record{}, fmt.Errorf("count %q is no number", text(x.Count))
	}
	one := Record{
		Source: addr.Unmap(), Count: count, Disposition: word(x.Disposition), DKIM: word(x.DKIM), SPF: word(x.SPF),
		From: strings.ToLower(text(x.From)), EnvelopeFrom: strings.ToLower(text(x.EnvelopeFrom)), EnvelopeTo: strings.ToLower(text(x.EnvelopeTo)),
		Signatures: founds(x.Signatures), Senders: founds(x.Senders),
	}
	for _, reason := range x.Reasons[:min(len(x.Reasons), maxFound)] {
		one.Reasons = append(one.Reasons, Reason{word(reason.Type), text(reason.Comment)})
	}
	return one, nil
}

func founds(list []xmlFound) (out []Found) {
	for _, f := range list[:min(len(list), maxFound)] {
		out = append(out, Found{strings.ToLower(text(f.Domain)), text(f.Selector), word(f.Scope), word(f.Result)})
	}
	return out
}

// text is a text of a report on one line, bounded.
func text(s string) string {
	s = strings.TrimSpace(s[:min(len(s), maxText)])
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, s), "?")
}

func word(s string) string { return strings.ToLower(text(s)) }

func unix(s string) time.Time {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > 1<<38 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
