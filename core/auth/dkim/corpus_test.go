package dkim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/dns"
	"github.com/postern-mta/postern/core/message"
)

// corpus is a folder of public samples; the test is skipped where it is absent.
func corpus(t testing.TB, folder string) string {
	t.Helper()
	dir := filepath.Join(cmp.Or(os.Getenv("POSTERN_CORPUS"), filepath.Join("..", "..", "..", "..", "shared", "corpus")), folder)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no samples: %v", err)
	}
	return dir
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wire is a sample with the line ends of the wire.
func wire(b []byte) message.Bytes {
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

func words(r *Report) string {
	var b strings.Builder
	for _, one := range r.Results {
		b.WriteString(" " + string(one.Word))
	}
	return strings.TrimSpace(b.String())
}

// The signed samples, each with the keys that its project publishes for it.
func TestCorpusSigned(t *testing.T) {
	dir := corpus(t, "dkim")
	record := func(name string) string { return strings.TrimSpace(string(read(t, filepath.Join(dir, name)))) }
	football := &dns.Zone{TXT: map[string][]string{
		"brisbane._domainkey.football.example.com": {record("ed25519test.dns")},
		"test._domainkey.football.example.com":     {record("test.txt")},
	}}
	mailauth := &dns.Zone{TXT: map[string][]string{}}
	var names map[string]struct{ TXT [][]string }
	if err := json.Unmarshal(read(t, filepath.Join(dir, "mailauth/test/dkim/ec/fixtures/dns.json")), &names); err != nil {
		t.Fatal(err)
	}
	for name, records := range names {
		for _, one := range records.TXT {
			mailauth.TXT[name] = append(mailauth.TXT[name], strings.Join(one, ""))
		}
	}
	for _, test := range []struct {
		file, want string
		zone       *dns.Zone
	}{
		{"rfc6376.signed.msg", "pass pass", &dns.Zone{TXT: map[string][]string{ // the Ed25519 key is that of RFC 8463
			"brisbane._domainkey.football.example.com": mailauth.TXT["brisbane._domainkey.football.example.com"],
			"test._domainkey.football.example.com":     {record("test.txt")},
		}}},
		{"rfc6376.signed.msg", "fail pass", football}, // and not the one that dkimpy signs with
		{"rfc6376.signed.rsa.msg", "pass", football},
		{"mailauth/test/dkim/ec/fixtures/signed.eml", "pass pass", mailauth},
		{"ed25519test2.msg", "pass", &dns.Zone{TXT: map[string][]string{"sed._domainkey.test.ex": {record("eximtest.dns")}}}},
		// d= holds a parenthesis, so that a reader of Authentication-Results sees another domain.
		{"test.message.baddomain", "neutral", &dns.Zone{}},
	} {
		r, err := (&Verifier{Resolver: test.zone}).Check(t.Context(), wire(read(t, filepath.Join(dir, test.file))))
		if err != nil {
			t.Fatal(err)
		}
		if words(r) != test.want {
			t.Errorf("%s: %+v; want %s", test.file, r.Results, test.want)
		}
	}
}

// Where the keys of a sample are not published any more, its body can still be compared
// with what was signed.
func TestCorpusBodyHashes(t *testing.T) {
	dir := corpus(t, "dkim")
	files, _ := filepath.Glob(filepath.Join(dir, "mailauth/test/fixtures/*.eml"))
	files = append(files, filepath.Join(dir, "test2.message"), filepath.Join(dir, "message.mbox"))
	signed := 0
	for _, file := range files {
		m, err := Open(wire(read(t, file)))
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		for f := range m.Named("dkim-signature") {
			s, fault := parseSignature(f)
			if fault != nil {
				t.Errorf("%s: %v", filepath.Base(file), fault)
				continue
			}
			sum, _, err := m.BodyHash(s.Body, s.Length)
			if err != nil {
				t.Fatal(err)
			}
			signed++
			if bytes.Equal(sum, s.hash) {
				same++
			}
		}
		if same == 0 && m.Count("dkim-signature") > 0 {
			t.Errorf("%s: no signature has the hash of the body", filepath.Base(file))
		}
	}
	if signed < 15 {
		t.Errorf("only %d signatures read", signed)
	}
}

// The key records of dkimpy's tests.
func TestCorpusKeys(t *testing.T) {
	dir := corpus(t, "dkim")
	for name, want := range map[string]string{
		"1024_testkey_wo_markers.pub.rsa.txt": "1024", "1024_testkey_wo_markers.pub.txt": "1024", "2048_testkey_PKCS8.key.pub.txt": "2048",
		"2048_testkey_wo_markers.pub.rsa.txt": "2048", "2048_testkey_wo_markers.pub.txt": "2048", "test.txt": "1024", "test2.txt": "1024",
		"ed25519test.dns": "256", "eximtest.dns": "256",
		"badk.txt":        "k=ed25519-sha256 is a kind of key that is not known",
		"badversion.txt":  errVersion.Error(),
		"test_bad.txt":    errKeyData.Error(),
		"test_tlsrpt.txt": "the key is not for mail",
	} {
		k, err := ParseKey(strings.TrimSpace(string(read(t, filepath.Join(dir, name)))))
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case k.fits(k.Type+"-sha256") != "":
			got = k.fits(k.Type + "-sha256")
		default:
			got = strconv.Itoa(k.Bits)
		}
		if got != want {
			t.Errorf("%s: %s; want %s", name, got, want)
		}
	}
}

// sample is a line of another implementation's parser tests: the text as its source
// writes it, and what that parser says.
var sample = regexp.MustCompile("^test\t'(.*)'\t(.*)$")

func samples(t *testing.T, name string, check func(line int, text, want string)) {
	t.Helper()
	n := 0
	for i, line := range strings.Split(strings.TrimSpace(string(read(t, filepath.Join(corpus(t, "dmarc"), name)))), "\n") {
		part := sample.FindStringSubmatch(line)
		if part == nil {
			t.Fatalf("%s:%d is no sample", name, i+1)
		}
		check(i+1, strings.NewReplacer(`\\`, `\`, `\r`, "\r", `\n`, "\n", `\t`, "\t").Replace(part[1]), part[2])
		n++
	}
	if n < 10 {
		t.Fatalf("only %d samples in %s", n, name)
	}
}

// What another implementation refuses, we refuse, and what it takes, we take, but for
// what stands here with the reason.
func TestCorpusSignatureFields(t *testing.T) {
	lenient := map[int]string{
		3: "UTF-8 in i= is read in any message: RFC 8616 section 4, and nobody is harmed",
	}
	samples(t, "dkim-signature.tsv", func(line int, text, want string) {
		_, fault := parseSignature(message.Field{Name: "DKIM-Signature", Raw: []byte(text)})
		good := strings.Contains(want, "sig") && strings.Contains(want, ", nil)") || lenient[line] != ""
		if good != (fault == nil) {
			t.Errorf("%d: %v; want %s", line, fault, want)
		}
	})
}

func TestCorpusKeyRecords(t *testing.T) {
	lenient := map[int]string{
		4: "blanks behind the last semicolon: they stand in many records, and mean nothing",
	}
	samples(t, "dkim-key-record.tsv", func(line int, text, want string) {
		_, err := ParseKey(text)
		good := strings.Contains(want, ", true, nil)") || lenient[line] != ""
		if good != (err == nil) {
			t.Errorf("%d: %v; want %s", line, err, want)
		}
	})
}
