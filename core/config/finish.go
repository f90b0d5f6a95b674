package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// finish fills in what depends on other keys or on files that keys name.
func finish(l *loader, c *Config) {
	if c.Server.Hostname == "" {
		c.Server.Hostname = l.machineName(c)
	}
	if c.Server.Control == "" {
		c.Server.Control = filepath.Join(c.Server.DataDir, "postern.sock")
	}
	if c.Delivery.Helo == "" {
		c.Delivery.Helo = c.Server.Hostname
	}
	if c.Server.EnvNoAtHost == "" {
		c.Server.EnvNoAtHost = c.Server.Hostname
	}
	if len(c.Listen) == 0 {
		var d Listen
		listenKeys().setDefaults(l, &d)
		d.Pos, d.Address = Pos{File: l.main.File, Line: l.main.Line, section: "listen"}, "127.0.0.1:2525"
		c.Listen = []Listen{d}
	}
	nameListeners(c.Listen)
	for i := range c.Listen {
		if in := &c.Listen[i]; in.Auth == nil && in.Protocol != "lmtp" {
			in.Auth = []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"}
		}
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		if strings.Contains(p.Use, "/") {
			p.Path = l.resolve(p.Use)
		}
		if p.Name == "" {
			p.Name = strings.TrimSuffix(filepath.Base(p.Use), ".lua")
		}
	}
	for i := range c.Score.Rules {
		r := &c.Score.Rules[i]
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule_%d", i+1)
		}
		if r.Why == "" {
			r.Why = r.When
		}
	}
	l.expandDomains(c)
	l.nameLookups(c)
	if c.SRS.Domain == "" {
		c.SRS.Domain = strings.ToLower(c.Server.Hostname)
	}
	c.DMARC.fill(c.Server.Hostname)
	c.Digest.fill(c.Server.Hostname, c.Server.DataDir)
	l.secrets(c)
}

// nameListeners calls listeners without a name by their address; where the system chooses the port, one address may
// stand several times, and the later ones are counted.
func nameListeners(listeners []Listen) {
	seen := map[string]int{}
	for i := range listeners {
		l := &listeners[i]
		if l.Name != "" {
			continue
		}
		l.Name = l.Address
		if seen[l.Address]++; seen[l.Address] > 1 {
			l.Name += fmt.Sprintf("#%d", seen[l.Address])
		}
	}
}

// machineName is the host name where none is set.
func (l *loader) machineName(c *Config) string {
	name, err := os.Hostname()
	if err == nil {
		_, err = parseDomain(name)
	}
	if err != nil {
		p := c.Problem("server.hostname", "not set, and the machine's name can't stand in for it; write hostname = \"mx.example.net\"")
		p.Warning = true
		l.problems = append(l.problems, p)
		return "localhost"
	}
	return name
}

// expandDomains turns the names of [[domain]] entries into lists, and reports a name that stands twice.
func (l *loader) expandDomains(c *Config) {
	owner := map[string]*Domain{}
	for i := range c.Domains {
		d := &c.Domains[i]
		if d.written == nil {
			continue
		}
		d.Name = *d.written
		if file, ok := strings.CutPrefix(d.Name, "@"); ok {
			d.NamesFile = l.resolve(file)
			v := value{load: l, file: d.File, node: d.node.child("name"), key: "domain.name"}
			l.list(v, d.NamesFile, func(line string) error {
				name, err := domainLine(line)
				if err == nil {
					d.Names = append(d.Names, name)
				}
				return err
			})
		} else if d.Name != "" {
			d.Names = []string{d.Name}
		}
		d.Names = l.claim(owner, d)
	}
	for i := range c.Domains {
		// Last, so that the host name may also be written out elsewhere.
		d := &c.Domains[i]
		host := strings.ToLower(c.Server.Hostname)
		if _, taken := owner[host]; d.written != nil && d.Name == "" && !taken {
			owner[host], d.Names = d, []string{host}
		}
	}
}

// claim returns the names of d, each once, without those that belong to an earlier entry.
func (l *loader) claim(owner map[string]*Domain, d *Domain) []string {
	var own []string
	for _, name := range d.Names {
		first := owner[name]
		switch {
		case first == nil:
			owner[name] = d
			own = append(own, name)
		case first != d:
			l.problems = append(l.problems, d.Problem("name", fmt.Sprintf("%q is already a domain at %s:%d; leave one of the two out", name, first.File, first.Line)))
		}
	}
	return own
}

// domainLine reads one line of a file of domains.
func domainLine(line string) (string, error) {
	if line[0] == '@' {
		return "", fmt.Errorf(`%q: a file can't name another; write a domain such as "example.net"`, line)
	}
	if line[0] == '.' && len(line) > 1 { // as in rcpthosts
		line = "*" + line
	}
	return parseDomainName(line)
}
