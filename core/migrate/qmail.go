package migrate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-mta/postern/core/cdb"
	"github.com/postern-mta/postern/core/gate"
	"github.com/postern-mta/postern/core/message"
)

// Control is one of qmail's control files.
type Control struct {
	Name    string
	Shape   Shape
	Default string // in words
	About   string // what it says to qmail
	take    func(q *qmail, c *Control)
}

// Shape says how a control file is read.
type Shape int

// Shapes of control files: qmail reads of some the first line alone.
const (
	FirstLine Shape = iota
	Number
	List
	Database
)

// Controls are all of them, in the order in which qmail-showctl tells them.
func Controls() []Control {
	keep := func(section, key string) func(*qmail, *Control) {
		return func(q *qmail, c *Control) { q.number(c, section, key) }
	}
	return []Control{
		{"badmailfrom", List, "no senders are refused", "refused senders", (*qmail).badmailfrom},
		{"bouncefrom", FirstLine, "MAILER-DAEMON", "local part of the From of bounces", (*qmail).bounceFrom},
		{"bouncehost", FirstLine, "me", "host of the From of bounces", (*qmail).bounceFrom},
		{"concurrencylocal", Number, "10", "local deliveries at a time", keep("delivery", "concurrency_local")},
		{"concurrencyremote", Number, "20", "remote deliveries at a time", keep("delivery", "concurrency_remote")},
		{"databytes", Number, "0, no bound", "largest message", (*qmail).databytes},
		{"defaultdomain", FirstLine, "me", "domain behind hosts without a dot, in headers", (*qmail).inject},
		{"defaulthost", FirstLine, "me", "host of addresses without one, in headers", (*qmail).inject},
		{"doublebouncehost", FirstLine, "me", "host of who hears of double bounces", (*qmail).doubleBounce},
		{"doublebounceto", FirstLine, "postmaster", "who hears of double bounces", (*qmail).doubleBounce},
		{"envnoathost", FirstLine, "me", "host of recipients without one", (*qmail).envnoathost},
		{"helohost", FirstLine, "me", "name said to other servers", (*qmail).helohost},
		{"idhost", FirstLine, "me", "host of Message-ID", (*qmail).inject},
		{"localiphost", FirstLine, "me", "host that our address literals stand for", (*qmail).localiphost},
		{"locals", List, "me", "local domains", (*qmail).locals},
		{"me", FirstLine, "none", "our name", (*qmail).me},
		{"morercpthosts", List, "none", "more domains that mail is taken for", (*qmail).rcpthosts},
		{"morercpthosts.cdb", Database, "none", "morercpthosts, compiled", (*qmail).rcpthosts},
		{"percenthack", List, "none", "domains with user%host@ addresses", (*qmail).percenthack},
		{"plusdomain", FirstLine, "me", "domain behind hosts that end in +, in headers", (*qmail).inject},
		{"qmqpservers", List, "none", "servers for qmail-qmqpc", (*qmail).qmqpservers},
		{"queuelifetime", Number, "604800", "seconds that mail is tried", (*qmail).queuelifetime},
		{"rcpthosts", List, "missing: every domain, an open relay", "domains that mail is taken for", (*qmail).rcpthosts},
		{"smtpgreeting", FirstLine, "me", "greeting of the SMTP server", (*qmail).smtpgreeting},
		{"smtproutes", List, "none", "relays for domains", (*qmail).smtproutes},
		{"timeoutconnect", Number, "60", "seconds to connect to other servers", (*qmail).timeouts},
		{"timeoutremote", Number, "1200", "seconds to wait for other servers", (*qmail).timeouts},
		{"timeoutsmtpd", Number, "1200", "seconds to wait for clients", (*qmail).timeoutsmtpd},
		{"virtualdomains", List, "none", "domains whose mail is somebody's", (*qmail).virtualdomains},
	}
}

// qmail is a reading of a control folder.
type qmail struct {
	source
	root     string // that has users/ and alias/, beside control/
	name     string // me
	domains  []string
	from     map[string]string // where a domain comes from
	routes   []smtproute
	tcpRules string
	shown    map[string]bool
}

// Qmail reads a folder of control files, or the one above it, with users/ and alias/
// beside it. rules is the file of connection rules, such as tcp.smtp; "" looks for it
// there.
func Qmail(dir, rules string) (*Result, error) {
	q, err := newQmail(dir)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(Controls(), func(c Control) bool { _, err := os.Lstat(q.path(c.Name)); return err == nil }) {
		return nil, fmt.Errorf("%s holds none of qmail's control files, such as me and rcpthosts; name the folder that does, usually /var/qmail/control", q.dir)
	}
	q.doc.head = []string{
		"Made from qmail's " + q.dir + ".",
		"Look through it and through the report of what differs, and run: postern check",
	}
	q.me(nil)
	q.listeners(rules)
	for _, c := range Controls() {
		if _, err := os.Lstat(q.path(c.Name)); err == nil || c.Name == "locals" || c.Name == "rcpthosts" {
			c.take(q, &c)
		}
	}
	q.ends()
	q.unknown()
	return q.result()
}

func newQmail(dir string) (*qmail, error) {
	if info, err := os.Stat(filepath.Join(dir, "control")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, "control")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, err
	}
	return &qmail{source: source{dir: dir}, root: filepath.Dir(dir), from: map[string]string{}, shown: map[string]bool{}}, nil
}

// first is the first line of a control file, as qmail reads it.
func (q *qmail) first(name string) (string, bool) {
	text, ok := q.read(name)
	if !ok {
		return "", false
	}
	l, _, _ := strings.Cut(text, "\n")
	return strings.TrimRight(l, " \t\r"), true
}

// list are the lines of a control file.
func (q *qmail) list(name string) []line {
	text, _ := q.read(name)
	return lines(text)
}

// at is the name of a control file, as notes and comments have it.
func (q *qmail) at(name string) string { return filepath.Join(q.dir, name) }

// scan reads the digits at the beginning, as qmail does; false where there are none.
func scan(s string) (int64, bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	return n, err == nil
}

// value is the number of a control file; what is none is noted, as qmail keeps its
// default then.
func (q *qmail) value(c *Control) (int64, bool) {
	s, ok := q.first(c.Name)
	if !ok {
		return 0, false
	}
	n, ok := scan(s)
	if !ok {
		q.note(Unused, q.at(c.Name), 1, c.Name, "%q is no number, and means the default to qmail", s)
	}
	return n, ok
}

func (q *qmail) number(c *Control, section, key string) {
	if n, ok := q.value(c); ok { // 0 holds all mail, here too
		q.doc.one(section).set(key, min(n, 100000), c.Name)
	}
}

// me is our name.
func (q *qmail) me(c *Control) {
	if c != nil {
		return // taken first of all
	}
	name, _ := q.first("me")
	d, err := message.ParseDomain(strings.ToLower(name))
	if err != nil {
		q.note(Todo, q.at("me"), 1, "me", "%q is no host name; write one as hostname of [server]", name)
		d = "localhost.localdomain"
	}
	q.name = d
	q.doc.one("server").set("hostname", d, "me").set("data_dir", "/var/lib/postern", "")
}

// orMe is the value of a host's file, or me.
func (q *qmail) orMe(name string) string {
	if s, ok := q.first(name); ok {
		return s
	}
	return q.name
}

func (q *qmail) badmailfrom(c *Control) {
	var kept []string
	for _, l := range q.list(c.Name) {
		if strings.ContainsAny(l.text, " \t^$*!") || !strings.Contains(l.text, "@") {
			q.note(Missing, q.at(c.Name), l.number, c.Name, "%q is no address and no @domain: qmail itself never matches it; patterns are for a policy of your own, or rcpt_regexp", l.text)
			continue
		}
		kept = append(kept, l.text)
	}
	if len(kept) == 0 {
		return
	}
	q.addFile("badmailfrom", strings.Join(kept, "\n")+"\n", 0o644)
	q.doc.add("policy", "").set("use", "badmailfrom", c.Name).set("file", "badmailfrom", "").set("deny_at", "rcpt", "where qmail-smtpd refuses")
	q.note(Differs, q.at(c.Name), 0, c.Name, "the reply is 550 5.7.1, and was 553")
}

func (q *qmail) bounceFrom(c *Control) {
	s, _ := q.first(c.Name)
	if was := map[string]string{"bouncefrom": "MAILER-DAEMON", "bouncehost": q.name}[c.Name]; !strings.EqualFold(s, was) {
		q.note(Differs, q.at(c.Name), 1, c.Name, "bounces are from MAILER-DAEMON at the host name, and not %q", s)
	}
}

func (q *qmail) databytes(c *Control) {
	n, ok := q.value(c)
	switch {
	case !ok:
	case n == 0:
		q.note(Differs, q.at(c.Name), 1, c.Name, "0 is no bound; here it is message_size of [limits], 50 MiB unless you write another")
	default:
		q.doc.one("limits").set("message_size", n, c.Name)
		q.note(Differs, q.at(c.Name), 1, c.Name, "line ends count as two bytes, as they are sent; qmail counts one")
	}
}

// inject are the hosts that qmail-inject adds.
func (q *qmail) inject(c *Control) {
	s, _ := q.first(c.Name)
	if strings.EqualFold(s, q.name) {
		return
	}
	v := map[string]string{"defaultdomain": "QMAILDEFAULTDOMAIN", "defaulthost": "QMAILDEFAULTHOST", "idhost": "QMAILIDHOST", "plusdomain": "QMAILPLUSDOMAIN"}[c.Name]
	q.note(Todo, q.at(c.Name), 1, c.Name, "qmail-inject and sendmail take it from the environment alone: set %s=%s for all, such as in /etc/environment", v, s)
}

func (q *qmail) doubleBounce(c *Control) {
	if c.Name == "doublebouncehost" {
		if _, both := q.first("doublebounceto"); both {
			return
		}
	}
	to := "postmaster"
	if s, ok := q.first("doublebounceto"); ok {
		to = s
	}
	if to == "" {
		q.note(Differs, q.at(c.Name), 1, c.Name, "it is empty, so that double bounces are thrown away; here postmaster at the host name gets them, where that is a domain of ours")
		return
	}
	q.doc.one("queue").set("double_bounce_to", to+"@"+q.orMe("doublebouncehost"), "doublebounceto, doublebouncehost")
}

func (q *qmail) envnoathost(c *Control) {
	if s, _ := q.first(c.Name); !strings.EqualFold(s, q.name) {
		q.doc.one("server").set("envnoathost", s, c.Name)
	}
}

func (q *qmail) helohost(c *Control) {
	if s, _ := q.first(c.Name); !strings.EqualFold(s, q.name) {
		q.doc.one("delivery").set("helo", s, c.Name)
	}
}

func (q *qmail) localiphost(c *Control) {
	if s, _ := q.first(c.Name); !strings.EqualFold(s, q.name) {
		q.doc.one("server").set("literal_host", s, c.Name)
	}
}

// ours remembers a domain that is ours.
func (q *qmail) ours(name, from string) {
	name = strings.ToLower(name)
	if rest, below := strings.CutPrefix(name, "."); below {
		name = "*." + rest
	}
	if _, ok := q.from[name]; !ok {
		q.domains = append(q.domains, name)
		q.from[name] = from
	}
}

// domain reads a line that is a domain, or .domain.
func (q *qmail) domain(c *Control, l line) (string, bool) {
	d, err := message.ParseDomain(strings.ToLower(strings.TrimPrefix(l.text, ".")))
	if err != nil || d[0] == '[' {
		q.note(Missing, q.at(c.Name), l.number, c.Name, "%q is no domain", l.text)
		return "", false
	}
	if l.text[0] == '.' {
		d = "." + d
	}
	return d, true
}

func (q *qmail) locals(c *Control) {
	names := []string{q.name}
	if _, err := os.Lstat(q.path(c.Name)); err == nil {
		names = nil
		for _, l := range q.list(c.Name) {
			if l.text[0] == '.' {
				q.note(Unused, q.at(c.Name), l.number, c.Name, "%q: locals knows no domains that begin with a dot", l.text)
			} else if d, ok := q.domain(c, l); ok {
				names = append(names, d)
			}
		}
	}
	if len(names) > 0 {
		q.doc.add("route", "local mail").set("to_domain", names, c.Name).set("next_hop", "local", "")
	}
	q.users()
}

// users maps users/assign and alias/, beside control/.
func (q *qmail) users() {
	local := q.doc.one("local")
	users := []string{}
	if assign := filepath.Join(q.root, "users", "assign"); exists(assign) {
		users = append(users, assign)
	} else if compiled := filepath.Join(q.root, "users", "cdb"); exists(compiled) {
		q.note(Todo, compiled, 0, "users/cdb", "there is no users/assign beside it, which it was made from; write it anew and name it in users of [local]")
	}
	local.set("users", append(users, "system"), "users/assign, then the accounts of this machine, as qmail-getpw has them")
	if aliases := filepath.Join(q.root, "alias"); exists(aliases) {
		local.set("aliases", aliases, "the account alias")
	}
	for _, name := range []string{"include", "exclude", "mailnames", "subusers", "append"} {
		if file := filepath.Join(q.root, "users", name); exists(file) {
			q.note(Unused, file, 0, "users/"+name, "qmail-pw2u makes users/assign of it; run that as before, the result is read")
		}
	}
	q.defaultDelivery()
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// defaultDelivery looks for what qmail-start was given, in the places where it stands.
func (q *qmail) defaultDelivery() {
	for _, name := range []string{"defaultdelivery"} { // Life with qmail's
		if text, ok := q.read(name); ok && strings.TrimSpace(text) != "" {
			q.doc.one("local").set("default_delivery", strings.TrimRight(text, "\n"), "defaultdelivery")
			q.shown[name] = true
			return
		}
	}
	q.note(Todo, q.root, 0, "qmail-start", "mail of users without a .qmail file goes to ./Maildir/; if qmail-start has another argument (in /var/qmail/rc, say), write it as default_delivery of [local]")
}

func (q *qmail) percenthack(c *Control) {
	var names []string
	for _, l := range q.list(c.Name) {
		if d, err := message.ParseDomain(strings.ToLower(l.text)); err == nil && d[0] != '[' {
			names = append(names, d)
		} else {
			q.note(Missing, q.at(c.Name), l.number, c.Name, "%q is no domain", l.text)
		}
	}
	if len(names) > 0 {
		q.doc.one("server").set("percenthack", names, c.Name)
	}
}

func (q *qmail) qmqpservers(c *Control) {
	var hosts []string
	for _, l := range q.list(c.Name) {
		hosts = append(hosts, l.text)
	}
	if len(hosts) > 0 {
		q.note(Todo, q.at(c.Name), 0, c.Name, "a link to postern called qmail-qmqpc reads it as it is; for mail that the gateway takes write a route with next_hop = \"qmqp://%s\"", strings.Join(hosts, ","))
	}
}

func (q *qmail) queuelifetime(c *Control) {
	if n, ok := q.value(c); ok {
		q.doc.one("queue").set("lifetime", fmt.Sprintf("%ds", max(n, 1)), c.Name)
	}
}

// rcpthosts collects the domains of all three files once.
func (q *qmail) rcpthosts(c *Control) {
	if c.Name != "rcpthosts" {
		return
	}
	if !exists(q.path("rcpthosts")) {
		q.note(Differs, q.at(c.Name), 0, c.Name, "the file is missing, so that qmail is an open relay; here mail is taken for the domains of locals and virtualdomains alone, and from clients whose rule sets RELAYCLIENT")
		for _, name := range q.localNames() {
			q.ours(name, "locals")
		}
		return
	}
	for _, name := range []string{"rcpthosts", "morercpthosts"} {
		file := &Control{Name: name}
		for _, l := range q.list(name) {
			if d, ok := q.domain(file, l); ok {
				q.ours(d, name)
			}
		}
	}
	q.compiledHosts()
	q.note(Differs, q.at(c.Name), 0, c.Name, "an address without @ passes qmail-smtpd; here postmaster alone may come without a domain")
}

// compiledHosts reads morercpthosts.cdb, where the text is not there any more.
func (q *qmail) compiledHosts() {
	const name = "morercpthosts.cdb"
	if exists(q.path("morercpthosts")) || !exists(q.path(name)) {
		return
	}
	text, ok := q.read(name)
	if !ok {
		return
	}
	db, err := cdb.NewReader(bytes.NewReader([]byte(text)), int64(len(text)))
	if err == nil {
		file := &Control{Name: name}
		err = db.All(func(key, _ string) bool {
			if d, ok := q.domain(file, line{0, cmpEmpty(key)}); ok {
				q.ours(d, name)
			}
			return true
		})
	}
	if err != nil {
		q.errs = append(q.errs, fmt.Errorf("%s: %w", q.at(name), err))
	}
}

// cmpEmpty keeps a key that is empty from being taken apart.
func cmpEmpty(s string) string {
	if s == "" {
		return "(empty)"
	}
	return s
}

// localNames are the domains of locals and virtualdomains.
func (q *qmail) localNames() (names []string) {
	if !exists(q.path("locals")) {
		names = append(names, q.name)
	}
	for _, l := range q.list("locals") {
		names = append(names, l.text)
	}
	for _, l := range q.list("virtualdomains") {
		key, to, ok := strings.Cut(l.text, ":")
		if ok && key != "" && to != "" && !strings.Contains(key, "@") {
			names = append(names, key)
		}
	}
	return names
}

func (q *qmail) smtpgreeting(c *Control) {
	s, _ := q.first(c.Name)
	name, rest, _ := strings.Cut(s, " ")
	if !strings.EqualFold(name, q.name) {
		q.note(Differs, q.at(c.Name), 1, c.Name, "the greeting begins with the host name, and not with %q", name)
	}
	if rest = strings.TrimSpace(rest); rest != "" {
		for _, l := range q.doc.all("listen") {
			l.set("greeting", rest, c.Name)
		}
	}
}

func (q *qmail) timeouts(c *Control) {
	if n, ok := q.value(c); ok {
		q.note(Differs, q.at(c.Name), 1, c.Name, "%d s; other servers have the times of RFC 5321, 30 s to connect and up to 10 minutes for an answer", n)
	}
}

func (q *qmail) timeoutsmtpd(c *Control) {
	if n, ok := q.value(c); ok {
		q.doc.one("limits").set("command_timeout", fmt.Sprintf("%ds", max(n, 1)), c.Name)
	}
}

// listeners are port 25 and the rules.
func (q *qmail) listeners(rules string) {
	l := q.doc.add("listen", "").set("name", "smtp", "").set("address", ":25", "as tcpserver has it")
	q.note(Todo, q.root, 0, "tcpserver", "how qmail-smtpd is started (address, port, -c, rblsmtpd) stands in scripts that are not read; write it in [[listen]] and [limits], and lists of rblsmtpd -r as zones of the policy dnsbl")
	if rules == "" {
		for _, name := range []string{"tcp.smtp", "etc/tcp.smtp", "control/tcp.smtp", "../../etc/tcp.smtp"} {
			if file := filepath.Join(q.root, name); exists(file) {
				rules = file
				break
			}
		}
	}
	if rules == "" {
		q.note(Todo, q.root, 0, "tcp.smtp", "no file of connection rules was found; name it by --rules")
		return
	}
	text, ok := q.read(rules)
	if !ok {
		q.errs = append(q.errs, fmt.Errorf("%s is not there", rules))
		return
	}
	q.tcpRules = rules
	q.shown[filepath.Base(rules)] = true
	q.addFile("tcp.smtp", q.checkedRules(rules, text), 0o644)
	l.set("rules", "tcp.smtp", rules)
}

// checkedRules are the rules without what is not understood, which becomes a comment.
func (q *qmail) checkedRules(file, text string) string {
	bad := map[int]string{}
	_, errs := gate.ParseRules(strings.NewReader(text))
	for _, e := range errs {
		bad[e.Line] = e.Text
		q.note(Differs, file, e.Line, "tcp.smtp", "left out: %s", e.Text)
	}
	var b strings.Builder
	n := 0
	for l := range strings.Lines(text) {
		n++
		if _, ok := bad[n]; ok {
			b.WriteString("# left out: ")
		} else if strings.Contains(l, "QMAILQUEUE=") && l[0] != '#' {
			q.note(Missing, file, n, "QMAILQUEUE", "the gateway calls no program in the place of qmail-queue; policies judge mail, and know the variable as conn.env.QMAILQUEUE")
		}
		b.WriteString(l)
	}
	return b.String()
}

// ends writes what has to stand behind the rest.
func (q *qmail) ends() {
	for _, r := range q.routes {
		q.route(r)
	}
	last := len(q.routes) > 0 && q.routes[len(q.routes)-1].pattern == ""
	if !last {
		q.doc.add("route", "all other mail").set("to_domain", []string{"*"}, "").set("next_hop", "mx", "")
	}
	if len(q.domains) == 0 {
		return
	}
	text := ""
	for _, d := range q.domains {
		text += d + "\n"
	}
	q.doc.add("domain", "").set("name", q.file("domains", text), "rcpthosts, morercpthosts")
}
