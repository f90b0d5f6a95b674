package policytest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
)

// place is what t:geoip says of a network.
type place struct {
	network netip.Prefix
	record  map[string]any
}

// setPlaces is t:geoip{ ["192.0.2.0/24"] = { country = "DE", asn = 64496, name =
// "Example" } }: what the databases know from now on. Other keys are as in a
// database. t:geoip "down" makes them fail.
func (h *harness) setPlaces(args []any) (any, error) {
	if len(args) == 1 && args[0] == "down" {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.places, h.placeless = nil, true
		return nil, nil
	}
	t, err := table(args, 0)
	if err != nil {
		return nil, err
	}
	var list []place
	for key, v := range t {
		network, err := netip.ParsePrefix(key)
		if err != nil {
			addr, err := netip.ParseAddr(key)
			if err != nil {
				return nil, fmt.Errorf("%q is no network", key)
			}
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		given, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: a table such as { country = \"DE\", asn = 64496 } is expected", key)
		}
		record := maps.Clone(given)
		for name, to := range map[string]string{"asn": "autonomous_system_number", "name": "autonomous_system_organization"} {
			if v, ok := record[name]; ok {
				record[to] = v
				delete(record, name)
			}
		}
		if code, ok := record["country"].(string); ok {
			record["country"] = map[string]any{"iso_code": code}
		}
		list = append(list, place{network, record})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places, h.placeless = list, false
	return nil, nil
}

// places answers what t:geoip said.
type places harness

var errNoPlaces = errors.New("the databases can't be read (t:geoip)")

// Lookup implements lua.Places.
func (p *places) Lookup(addr netip.Addr) (map[string]any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.placeless {
		return nil, errNoPlaces
	}
	var best place
	for _, one := range p.places {
		if one.network.Contains(addr) && (best.record == nil || one.network.Bits() > best.network.Bits()) {
			best = one
		}
	}
	return best.record, nil
}

// setLoad is t:load(n): the load average of the host, from now on.
func (h *harness) setLoad(args []any) (any, error) {
	if len(args) == 1 {
		if n, ok := args[0].(float64); ok && n >= 0 {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.load = n
			return nil, nil
		}
	}
	return nil, errors.New("write t:load(2.5)")
}

func (h *harness) loadNow() (float64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.load, nil
}
