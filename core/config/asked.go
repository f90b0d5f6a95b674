package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// checkAsked looks whether the next hops that are to answer while a client waits can be asked.
func checkAsked(c *Config) (found Problems) {
	for i := range c.Domains {
		if c.Domains[i].Recipients.Callout {
			found = append(found, c.checkCallout(&c.Domains[i])...)
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if l := c.listensAt(r.NextHop); l != nil && r.Mode == "proxy" {
			found = append(found, r.Problem("next_hop", fmt.Sprintf("is this server itself, by the [[listen]] at %s:%d; write another server, or mode = \"queue\"", l.File, l.Line)))
		}
	}
	return found
}

// checkCallout looks at all routes that mail for the domain may take.
func (c *Config) checkCallout(d *Domain) (found Problems) {
	for _, name := range d.Names {
		routed, sure := false, false
		for i := 0; i < len(c.Routes) && !sure; i++ {
			r := &c.Routes[i]
			if !r.mayTake(name) {
				continue
			}
			routed, sure = true, r.takesDomain(name)
			if p, ok := calloutProblem(d, r, name); ok {
				found = append(found, p)
			} else if l := c.listensAt(r.NextHop); l != nil {
				found = append(found, d.Problem("recipients", fmt.Sprintf("\"callout\" would ask this server itself: next_hop at %s:%d is the [[listen]] at %s:%d; write another next_hop", r.File, r.Line, l.File, l.Line)))
			}
		}
		if !routed {
			found = append(found, d.Problem("recipients", fmt.Sprintf("\"callout\" asks the server that the [[route]] for %s leads to, and there is none; write one with to_domain = [%q] and next_hop = \"smtp://HOST:PORT\"", name, name)))
		}
		if len(found) > 0 {
			return found // one name is enough for an entry that may have thousands
		}
	}
	return found
}

// calloutProblem tells what is wrong with asking a route's next hop.
func calloutProblem(d *Domain, r *Route, name string) (Problem, bool) {
	switch {
	case r.NextHop.Scheme == "":
		return Problem{}, false // reported where it was read
	case portOf(r.NextHop.Scheme) == 0:
		return d.Problem("recipients", fmt.Sprintf("\"callout\" asks the server that the [[route]] for %s leads to, and the one at %s:%d has next_hop = %q; write next_hop = \"smtp://HOST:PORT\" there, or recipients = \"@file.txt\"",
			name, r.File, r.Line, r.NextHop.Scheme)), true
	case r.Mode == "proxy":
		p := d.Problem("recipients", fmt.Sprintf("\"callout\" asks twice where the [[route]] at %s:%d has mode = \"proxy\", which asks about each recipient; write recipients = \"any\"", r.File, r.Line))
		p.Warning = true
		return p, true
	}
	return Problem{}, false
}

// mayTake tells whether the route could take mail for a domain, or for one below it where it is "*.name".
func (r *Route) mayTake(name string) bool {
	meets := func(pattern string) bool {
		return matches(pattern, name) || strings.HasPrefix(name, "*.") && matches(name, pattern)
	}
	if len(r.ToDomain)+len(r.ToAddress) == 0 {
		return true
	}
	return slices.ContainsFunc(r.ToDomain, meets) ||
		slices.ContainsFunc(r.ToAddress, func(a string) bool { return meets(a[strings.LastIndexByte(a, '@')+1:]) })
}

// takesDomain tells whether no mail for the domain gets past the route.
func (r *Route) takesDomain(name string) bool {
	if len(r.ToAddress)+len(r.FromDomain)+len(r.FromAddress)+len(r.Client)+len(r.Tag) > 0 {
		return false
	}
	return slices.ContainsFunc(r.ToDomain, func(pattern string) bool { return matches(pattern, name) })
}

// listensAt is the listener at a next hop that is given by its address, or nil.
func (c *Config) listensAt(n NextHop) *Listen {
	to, err := netip.ParseAddr(n.Host)
	if err != nil {
		return nil
	}
	for i := range c.Listen {
		host, port, err := net.SplitHostPort(c.Listen[i].Address)
		if err != nil || port != strconv.Itoa(int(n.Port)) {
			continue
		}
		at, err := netip.ParseAddr(host)
		if err != nil && host != "" {
			continue
		}
		if host == "" || at.Unmap() == to.Unmap() || at.IsUnspecified() && to.IsLoopback() {
			return &c.Listen[i]
		}
	}
	return nil
}
