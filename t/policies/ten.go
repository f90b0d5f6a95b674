// Package policies writes the policies that benchmarks put to work.
package policies

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Ten writes scripts into dir and returns the [[policy]] entries of ten Lua
// policies: four of ours, one of which refuses the recipient given, and six of the
// size that sites write.
func Ten(dir, refused string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, `[[policy]]
use = "helo"
[[policy]]
use = "badmailfrom"
addresses = ["@spam.example"]
[[policy]]
use = "badrcptto"
addresses = [%q]
[[policy]]
use = "content_signatures"
`, refused)
	for i := range 6 {
		script := fmt.Sprintf(`local p = policy { about = "Benchmark.", settings = { words = list(string) {} : about "words" } }
function p.mail(tx) if tx.sender.domain == "never%d.example" then return reject("5.7.1", "no") end end
function p.message(tx)
  local subject = (tx.headers:get("Subject") or ""):lower()
  for _, word in ipairs(p.words) do
    if subject:find(word, 1, true) then return reject("5.7.1", "Refused: %%s", word) end
  end
end
return p
`, i)
		file := filepath.Join(dir, fmt.Sprintf("site%d.lua", i))
		if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "[[policy]]\nuse = %q\nwords = [\"casino\", \"lottery\"]\n", file)
	}
	return text.String(), nil
}
