package message

import (
	"strconv"
	"strings"
)

// DecodeXtext reads xtext (RFC 3461 section 4): "+" and two hexadecimal digits
// stand for a byte, all else but "+" and "=" for itself. ok is false where s is
// no xtext; the empty text is one. The result may hold any byte.
func DecodeXtext(s string) (_ string, ok bool) {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '=' {
			return "", false
		} else if c == '+' {
			plain = false
		}
	}
	if plain {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) || s[i+1] == '+' {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b = append(b, byte(n))
		i += 2
	}
	return string(b), true
}

// EncodeXtext is s as xtext.
func EncodeXtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b.WriteByte('+')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
