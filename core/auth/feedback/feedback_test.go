package feedback

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func samples(t testing.TB) []string {
	t.Helper()
	dir := cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus"))
	files, _ := filepath.Glob(filepath.Join(dir, "reports", "dmarc-feedback", "*"))
	if len(files) == 0 {
		t.Skip("no samples of reports are here")
	}
	return files
}

// The samples of another reader, with what it found in them.
func TestSamples(t *testing.T) {
	count := 0
	for _, file := range samples(t) {
		if strings.HasSuffix(file, ".json") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Read(b)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d reports, %v", file, len(got), err)
			continue
		}
		count++
		var want struct {
			Meta struct {
				Org  string                     `json:"org_name"`
				ID   string                     `json:"report_id"`
				Date struct{ Begin, End int64 } `json:"date_range"`
			} `json:"report_metadata"`
			Policy struct{ Domain, P string } `json:"policy_published"`
			Record []struct {
				Row struct {
					Source string `json:"source_ip"`
					Count  int64
					Policy struct{ Disposition, DKIM, SPF string } `json:"policy_evaluated"`
				}
				Identifiers struct {
					From string `json:"header_from"`
				}
			}
		}
		j, err := os.ReadFile(strings.TrimSuffix(strings.TrimSuffix(file, ".xml"), ".eml") + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(j, &want); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		r := got[0]
		if r.Reporter != want.Meta.Org || r.ID != want.Meta.ID || r.Begin.Unix() != want.Meta.Date.Begin || r.End.Unix() != want.Meta.Date.End || r.Domain != want.Policy.Domain || len(r.Records) != len(want.Record) {
			t.Errorf("%s: %+v\nwant %+v", file, r, want)
			continue
		}
		for i, w := range want.Record {
			one := r.Records[i]
			if one.Source.String() != w.Row.Source || one.Count != w.Row.Count || one.From != w.Identifiers.From || !strings.EqualFold(cmp.Or(one.DKIM, "unspecified"), w.Row.Policy.DKIM) || !strings.EqualFold(cmp.Or(one.SPF, "unspecified"), w.Row.Policy.SPF) {
				t.Errorf("%s, record %d: %+v, want %+v", file, i, one, w)
			}
		}
	}
	if count < 10 {
		t.Errorf("%d reports", count)
	}
}

const small = `<?xml version="1.0"?><feedback><report_metadata><org_name>R</org_name><report_id>1</report_id><date_range><begin>1764547200</begin><end>1764633599</end></date_range></report_metadata>
<policy_published><domain>Example.org</domain><p>reject</p></policy_published>
<record><row><source_ip>192.0.2.7</source_ip><count>3</count><policy_evaluated><disposition>reject</disposition><dkim>fail</dkim><spf>fail</spf><reason><type>local_policy</type></reason></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record>
<record><row><source_ip>2001:db8::1</source_ip><count>5</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.org</header_from></identifiers></record></feedback>`

func gz(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func zipped(files ...[]byte) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i, b := range files {
		w, _ := z.Create(fmt.Sprintf("../%d.xml", i))
		_, _ = w.Write(b)
	}
	_ = z.Close()
	return out.Bytes()
}

func TestForms(t *testing.T) {
	for name, b := range map[string][]byte{
		"plain": []byte(small), "gzip": gz([]byte(small)), "zip": zipped([]byte(small)), "BOM": []byte("\xef\xbb\xbf\n" + small), "gzip in zip": zipped(gz([]byte(small))), "zip beside others": zipped([]byte("hello"), []byte(small)),
		"namespace": []byte(strings.Replace(small, "<feedback>", `<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">`, 1)),
		"latin":     []byte(strings.Replace(small, `version="1.0"`, `version="1.0" encoding="iso-8859-1"`, 1)),
	} {
		got, err := Read(b)
		if err != nil || len(got) != 1 || got[0].Domain != "example.org" || len(got[0].Records) != 2 || got[0].Records[0].Count != 3 || got[0].Records[0].Reasons[0].Type != "local_policy" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestBombs(t *testing.T) {
	deep := strings.Replace(small, "<record>", "<record>"+strings.Repeat("<a>", 200_000), 1)
	entities := `<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + strings.Replace(small, "<org_name>R", "<org_name>&b;", 1)
	many := make([][]byte, maxInside+1)
	for i := range many {
		many[i] = []byte("x")
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "other XML": []byte("<html/>"), "cut": []byte(small[:300]), "cut gzip": gz([]byte(small))[:50], "bad zip": []byte("PK\x03\x04xx"),
		"nested": gz(gz(gz(gz(gz([]byte(small)))))), "deep": []byte(deep), "many files": zipped(many...),
		"no address": []byte(strings.Replace(small, "192.0.2.7", "example", 1)), "negative": []byte(strings.Replace(small, "<count>3", "<count>-3", 1)), "huge": []byte(strings.Replace(small, "<count>3", "<count>99999999999999999999", 1)),
	} {
		if got, err := Read(b); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	bomb := gz(bytes.Repeat([]byte("<!-- -->"), 1<<20))
	if err := (&reader{plain: 1 << 20}).file(bomb, 0); err == nil || !strings.Contains(err.Error(), "unpacked it has more than") {
		t.Error(err)
	}
	if got, err := Read([]byte(entities)); err == nil && strings.Contains(got[0].Reporter, "aaaa") {
		t.Errorf("an entity was expanded: %q", got[0].Reporter)
	}
	if _, err := Read([]byte("hello")); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

func TestSum(t *testing.T) {
	one, err := Read([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	tally := Sum(append(one, one...)) // the same report twice
	if tally.Reports != 1 || tally.Messages != 8 || tally.Passed != 5 || tally.Failed != 3 || tally.Sources[0].Name != "192.0.2.7" || tally.Sources[0].Rejected != 3 || tally.Days[0].Name != "2025-12-01" || tally.Domains[0].DKIM != 5 {
		t.Errorf("%+v", tally)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(small))
	f.Add(gz([]byte(small)))
	f.Add(zipped([]byte(small)))
	f.Add([]byte("Content-Type: application/xml\r\n\r\n" + small))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Read(b)
		if err == nil && len(list) == 0 {
			t.Error("neither a report nor an error")
		}
		for _, r := range list {
			if strings.ContainsAny(r.Reporter+r.Domain+r.ID, "\r\n\x00\x1b") {
				t.Errorf("%+v", r)
			}
		}
		Sum(list)
	})
}
