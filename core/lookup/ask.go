package lookup

import (
	"context"
	"net/netip"
	"strings"

	"github.com/postern-mta/postern/core/message"
)

// first is the value of the first key that there is, and that key.
func first(ctx context.Context, s Getter, name string, keys []string) (value any, key string, err error) {
	for _, k := range keys {
		v, ok, err := s.Get(ctx, name, k)
		if err != nil || ok {
			return v, k, err
		}
	}
	return nil, "", nil
}

// Domain is the value of a domain and the key that has it: the name itself, or the
// nearest of ".parent" above it. The key is "" where there is none.
func Domain(ctx context.Context, s Getter, name, domain string) (value any, key string, err error) {
	return first(ctx, s, name, domainKeys(domain))
}

// maxLabels bounds the keys of one question; a name has no more labels.
const maxLabels = 128

func domainKeys(domain string) []string {
	domain = strings.TrimSuffix(domain, ".")
	keys := []string{domain}
	for rest := domain; len(keys) < maxLabels; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return keys
		}
		keys = append(keys, rest[i:])
		rest = rest[i+1:]
	}
	return keys
}

// Address is the value of an address and the key that has it: the address itself,
// that without its detail ("+…"), its domain, or the nearest of ".parent" above
// that. The null path has the key "<>". The key is "" where there is none.
func Address(ctx context.Context, s Getter, name string, a message.Address) (value any, key string, err error) {
	return first(ctx, s, name, addressKeys(a))
}

func addressKeys(a message.Address) []string {
	if a.IsNull() {
		return []string{"<>"}
	}
	keys := []string{a.String()}
	if user, _, ok := strings.Cut(a.Local, "+"); ok && user != "" {
		keys = append(keys, message.Address{Local: user, Domain: a.Domain}.String())
	}
	return append(keys, domainKeys(a.Domain)...)
}

// Network is the value of an IP address and the key that has it: the address, or
// the smallest network around it in the usual form, such as "192.0.2.0/24". The key
// is "" where there is none.
func Network(ctx context.Context, s Getter, name string, ip netip.Addr) (value any, key string, err error) {
	ip = ip.Unmap().WithZone("")
	keys := []string{ip.String()}
	for bits := ip.BitLen(); bits >= 0; bits-- {
		p, err := ip.Prefix(bits)
		if err != nil {
			break // the zero address
		}
		keys = append(keys, p.String())
	}
	return first(ctx, s, name, keys)
}

// User is a setting of a recipient: of the address, of that without its detail, of
// its domain, of ".parent" above that, or of "*"; the first that has it counts. In a
// TOML file an entry is a table with settings; in others the key is the entry's, a
// slash, and the setting's name.
func User(ctx context.Context, s Getter, name string, a message.Address, setting string) (value any, found bool, err error) {
	for _, key := range append(addressKeys(a), "*") {
		v, ok, err := s.Get(ctx, name, key)
		if err != nil {
			return nil, false, err
		}
		if m, isTable := v.(map[string]any); ok && isTable {
			if v, ok := m[setting]; ok {
				return v, true, nil
			}
			continue
		}
		if v, ok, err := s.Get(ctx, name, key+"/"+setting); err != nil || ok {
			return v, ok, err
		}
	}
	return nil, false, nil
}

// Recipient tells whether an address is in a map of recipients: itself, itself
// without what stands behind the separator in its local part ("": nothing is taken
// away), or "@" and its domain. Letter case does not count. An entry whose value is
// false counts as none.
func Recipient(ctx context.Context, s Getter, name string, a message.Address, separator string) (bool, error) {
	v, key, err := first(ctx, s, name, recipientKeys(a, separator))
	if err != nil {
		return false, err
	}
	return key != "" && v != false, nil
}

func recipientKeys(a message.Address, separator string) []string {
	a.Local = fold(a.Local)
	keys := []string{a.String()}
	if user, _, ok := strings.Cut(a.Local, separator); separator != "" && ok && user != "" {
		keys = append(keys, message.Address{Local: user, Domain: a.Domain}.String())
	}
	return append(keys, "@"+a.Domain)
}
