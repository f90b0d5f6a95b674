package lua

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-mta/postern/hooks"
)

// A handler sees its own changes of the body at once, in tx.body, tx.mime and
// tx.headers, and those of fields in tx.headers; what comes of them is what it saw.
func TestOwnChangesAreSeen(t *testing.T) {
	o, _ := testOptions(t)
	const mail = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n--b\r\nContent-Type: application/x; name=a.exe\r\n\r\nMZ\r\n--b--\r\n"
	for name, source := range map[string]string{
		"footer": `
assert(tx.mime.count == 3)
local part = tx.mime.root
tx.body:footer{ text = "The footer" }
assert(tx.body:contains("The footer") and tx.body:match("(first)\r\n") == "first")
assert(tx.mime:text():find("The footer", 1, true), tx.mime:text())
assert(part.type == "multipart/mixed") -- of the message as it was
tx.body:footer{ text = "Another" }
tx.headers:replace("Subject", "y")
assert(tx.mime:text():find("Another", 1, true) and tx.mime.count == 3)
assert(#tx.mime:attachments() == 1)`,
		"replace": `
tx.headers:prepend("X-One", "1")
tx.body:replace("Grüße: the file was taken out")
assert(tx.headers:get("X-One") == "1" and tx.headers:get("Content-Type"):find("text/plain", 1, true))
assert(tx.mime.count == 1 and tx.mime:text() == "Grüße: the file was taken out\r\n", tx.mime:text())
assert(tx.body:read(1, 6) == "X-One:" and not tx.body:contains("MZ"))
assert(tx.body.size > 30)
tx.headers:remove("Content-Language")
tx.body:replace("<p>Seen</p>", "text/html")
tx.headers:replace("Subject", "taken out")
assert(tx.mime.root.type == "text/html" and tx.mime:text() == "Seen")
assert(tx.headers:get("Subject") == "taken out")`,
	} {
		p := load(t, o, "local p = policy {}\nfunction p.message(tx)\n"+strings.ReplaceAll(source, "\r\n", `\r\n`)+"\nend\nreturn p", nil)
		look := load(t, o, "local p = policy {}\nfunction p.message(tx) tx.notes.text = tx.mime:text() tx.notes.subject = tx.headers:get('Subject') end\nreturn p", nil)
		tx := withMail(mail)
		body := tx.Body
		chain := hooks.NewChain([]hooks.Entry{{Name: "p", Handler: p}, {Name: "look", Handler: look}}, hooks.Options{})
		d := chain.Run(t.Context(), hooks.Message, tx)
		if d.Verb != hooks.Pass || tx.Body == body {
			t.Fatalf("%s: %+v", name, d)
		}
		want := map[string][2]string{"footer": {"first\r\n\r\nThe footer\r\n\r\nAnother\r\n", "y"}, "replace": {"Seen", "taken out"}}[name]
		if got := [2]string{tx.Notes["text"].(string), tx.Notes["subject"].(string)}; strings.Join(strings.Fields(got[0]), " ") != strings.Join(strings.Fields(want[0]), " ") || got[1] != want[1] {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A change that can't be made is a failure that nothing catches and that is never
// passed over, whether the handler looks or not.
func TestChangeThatCannotBeMade(t *testing.T) {
	o, _ := testOptions(t)
	o.LuaTime = time.Minute // a busy machine is not what is tested
	for _, source := range []string{
		`tx.body:footer{ text = ("x"):rep(2^20) }`,
		`tx.body:footer{ text = ("x"):rep(2^20) } pcall(function() return tx.body.size end) return accept()`,
	} {
		p := load(t, o, "local p = policy { on_failure = 'pass' }\nfunction p.message(tx) "+source+" end\nreturn p", nil)
		tx := withMail("Subject: x\r\n\r\nhello\r\n")
		d := hooks.NewChain([]hooks.Entry{{Name: "p", Handler: p, FailOpen: true}}, hooks.Options{}).Run(t.Context(), hooks.Message, tx)
		if d.Verb != hooks.Defer {
			t.Errorf("%s: %+v", source, d)
		}
		if strings.Contains(source, "pcall") {
			if _, err := p.Handle(t.Context(), hooks.Message, tx); !errors.Is(err, hooks.ErrBody) || !strings.Contains(err.Error(), "test.lua:2") {
				t.Error(err)
			}
		}
	}
	p := load(t, o, "local p = policy {}\nfunction p.message(tx) while true do tx.body:footer{ text = 'x' } pcall(tx.mime.text, tx.mime) end end\nreturn p", nil)
	if _, err := p.Handle(t.Context(), hooks.Message, withMail("Subject: x\r\n\r\nhello\r\n")); !errors.Is(err, hooks.ErrBody) || !strings.Contains(err.Error(), "more than 20 changes of the body") {
		t.Error(err)
	}
}

// Parts that stand in encoded content are as good as others.
func TestUnpackedPartsInLua(t *testing.T) {
	o, _ := testOptions(t)
	p := load(t, o, `local p = policy {}
function p.message(tx)
  local files = tx.mime:attachments()
  assert(#files == 3, tostring(#files))
  assert(files[1].type == "message/rfc822" and files[1].size == 36 and files[1].fault == "a nested message in base64", tostring(files[1].size))
  assert(files[2].name == "a.exe" and files[2].extension == "exe" and files[2]:bytes() == "abc" and files[2].size == 3 and files[2].encoding == "x-uuencode")
  assert(files[2]:hash("md5") == "900150983cd24fb0d6963f7d28e17f72")
  assert(tx.mime:text():find("See", 1, true))
  local inner = mime.parse(files[1]:bytes())
  assert(inner.count == 2 and inner:attachments()[1].name == "a.exe")
  while true do files[2]:bytes() end
end
return p`, nil)
	mail := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nDQpTZWUNCmJlZ2luIDY0NCBhLmV4ZQ0KIzg2KUMNCmVuZA0K\r\n--b\r\nContent-Type: application/x\r\n\r\nx\r\n--b--\r\n"
	if _, err := p.Handle(t.Context(), hooks.Message, withMail(mail)); err == nil || !strings.Contains(err.Error(), "used up") {
		t.Error(err)
	}
}
