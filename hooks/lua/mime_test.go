package lua

import (
	"strings"
	"testing"

	"github.com/postern-mta/postern/core/message"
	"github.com/postern-mta/postern/hooks"
)

const mimeMail = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Gr\u00fc\u00dfe <a href=\"http://ex%61mple.com/\">hier</a>\r\n" +
	"--b\r\nContent-Type: application/octet-stream; name=a.txt\r\nContent-Disposition: attachment; filename*0*=utf-8''r%C3%A4; filename*1=t.EXE.\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n"

// withMail is a transaction about the mail.
func withMail(mail string) *hooks.Transaction {
	tx := testTransaction()
	n, _ := message.HeaderLen([]byte(mail))
	tx.Header, tx.Body, tx.Size = message.ParseHeader([]byte(mail[:n])), message.Bytes(mail), int64(len(mail))
	return tx
}

func TestMIMEInLua(t *testing.T) {
	o, _ := testOptions(t)
	p := load(t, o, `local p = policy { about = "x" }
function p.message(tx)
  local types = {}
  for part in tx.mime:parts() do types[#types + 1] = part.path .. " " .. part.type end
  assert(table.concat(types, ", ") == "1 multipart/mixed, 1.1 text/html, 1.2 application/octet-stream", table.concat(types, ", "))
  local files = tx.mime:attachments()
  assert(#files == 1)
  local file = files[1]
  assert(file.name == "rät.EXE." and file.extension == "exe" and file.names[2] == "a.txt", file.name)
  assert(file.size == 5 and file:bytes() == "hello" and file.attachment and file.encoding == "base64")
  assert(file:hash("md5") == "5d41402abc4b2a76b9719d911017c592")
  assert(file:hash("sha256") == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
  assert(file:header("content-type"):find("a.txt", 1, true))
  local urls, more = tx.mime:urls()
  assert(#urls == 1 and urls[1].host == "example.com" and urls[1].part == "1.1" and not more)
  assert(tx.mime:text() == "Grüße hier", tx.mime:text())
  local text, cut = tx.mime:text(5)
  assert(#text <= 5 and cut)
  assert(tx.mime.root.multipart and not tx.mime.faulty and tx.mime.truncated == nil and tx.mime.count == 3)
  return reject("5.7.1", "done")
end
return p`, nil)
	d, err := p.Handle(t.Context(), hooks.Message, withMail(mimeMail))
	if err != nil || d.Verb != hooks.Reject {
		t.Errorf("%+v %v", d, err)
	}
}

func TestMIMEFailuresInLua(t *testing.T) {
	o, _ := testOptions(t)
	for body, want := range map[string]string{
		"tx.mime.roots = 1":                        "nothing that can be set",
		"return tx.mime.roots":                     `no member "roots"; did you mean`,
		"return tx.mime.root.kind":                 `a part has no member "kind"`,
		"tx.mime.root:hash('crc')":                 "sha256, sha1 or md5",
		"tx.mime.root:text(5000000)":               "at most 4194304",
		"tx.body:footer{ txt = 'x' }":              "'txt'",
		"tx.body:footer{}":                         "needs text, html",
		"tx.body:replace('a\\0')":                  "NUL",
		"tx.body:replace('a', 'image/png')":        "no type of text",
		"while true do tx.mime.root:plain(10) end": "used up",
	} {
		p := load(t, o, "local p = policy { about = 'x' }\nfunction p.message(tx) "+body+" end\nreturn p", nil)
		mail := "Subject: x\r\n\r\n" + strings.Repeat("<p>word</p>\r\n", 20_000)
		_, err := p.Handle(t.Context(), hooks.Message, withMail(mail))
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `"`, "'"), strings.ReplaceAll(want, `"`, "'")) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
