package config

import (
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Config is a whole configuration. It is not changed after Load and may be read from any goroutine.
type Config struct {
	// Path is the main file as it was named; empty for the built-in default.
	Path string
	// Dir is the absolute folder that relative paths started from.
	Dir string
	// Files are the names of the configuration files read, the main one first.
	Files []string

	Server     Server
	Listen     []Listen
	Limits     Limits
	TLS        TLS
	Auth       []Auth
	DKIM       []DKIM
	ARC        ARC
	DNS        DNS
	Domains    []Domain
	Callout    Callout
	SRS        SRS
	BATV       BATV
	Routes     []Route
	Queue      Queue
	Delivery   Delivery
	Local      Local
	Policies   []Policy
	Score      Score
	GeoIP      GeoIP
	DMARC      DMARC
	Lookups    []Lookup
	Store      Store
	Quarantine Quarantine
	Digest     Digest
	Recorder   Recorder
	Log        Log
	Console    Console

	main Pos
	keys map[string]Pos
}

// Problem makes a finding about a key of a [section], such as "tls.certificate[0]" or "console.address", at the line
// where it stands; a key that is not in any file is reported at its section, else at the first line of the main file.
func (c *Config) Problem(key, text string) Problem {
	return locate(c.keys, c.main, key, text)
}

// Server is the [server] section.
type Server struct {
	Hostname        string   // the name in the greeting and in trace fields; the machine's name where none is set
	LiteralHost     string   // domain that address literals of this host stand for; empty: Hostname
	DataDir         string   // absolute
	User            string   // account to drop to; empty: stay
	Control         string   // absolute path of the control socket, at most 107 bytes
	PolicyDir       string   // absolute; need not exist
	PluginDir       string   // absolute; need not exist
	EnvNoAtHost     string   // domain of recipients without one; the host name where none is set
	PercentHack     []string // domains, in lower case
	MixedRecipients string   // strictest, split or quarantine
}

// Listen is one [[listen]] entry.
type Listen struct {
	Pos
	Name        string // unique; the address where none is set
	Address     string // host:port, the host may be empty; "unix:" and an absolute path; "systemd:" and a name
	SocketMode  fs.FileMode
	Protocol    string   // "smtp", "submission" or "lmtp"
	Greeting    string   // one line of printable ASCII, or empty
	TLS         string   // "off", "starttls", "required" or "implicit"
	Auth        []string // mechanisms, upper-case; empty: none
	SenderCheck SenderCheck
	ProxyFrom   []netip.Prefix
	XclientFrom []netip.Prefix
	RelayFrom   []netip.Prefix
	Rules       string // absolute path of a readable file of connection rules, or empty
}

// SenderCheck says what an authenticated client may send as; the zero value: anything.
type SenderCheck struct {
	User bool   // its own address
	File string // absolute path of a readable file that lists who may send as what, else empty
}

// Auth is one [[auth]] entry.
type Auth struct {
	Pos
	Use  string // "file"
	Path string // absolute; readable
}

// DKIM is one [[dkim]] entry: a key that outgoing mail is signed with.
type DKIM struct {
	Pos
	Domain   string // lower-case
	Selector string
	Key      string        // absolute path; readable
	Headers  []string      // lower-case; empty: the usual ones
	Expire   time.Duration // 0: never
	From     time.Time     // zero: from ever on
	Until    time.Time     // zero: for ever
}

// ARC is the [arc] section; without a domain nothing is sealed.
type ARC struct {
	Domain   string // lower-case
	Selector string
	Key      string // absolute path
}

// Limits is the [limits] section. Sizes are bytes.
type Limits struct {
	MessageSize          int64
	HeaderSize           int64
	Recipients           int
	Connections          int
	ConnectionsPerClient int
	Errors               int
	Hops                 int
	CommandTimeout       time.Duration
	DataTimeout          time.Duration
	MinDataRate          int64  // bytes a second
	BareLF               string // "reject" or "normalise"
}

// TLS is the [tls] section: as many keys as certificates, each pair checked to belong together.
type TLS struct {
	Certificate []string // absolute paths of PEM files; empty: a self-signed one is to be made
	Key         []string
	CA          []string // absolute paths of PEM files; empty: the system's authorities
	ClientCA    string   // absolute path of a PEM file with certificates, or empty
}

// DNS is the [dns] section.
type DNS struct {
	Servers []netip.AddrPort // empty: the system's
	Timeout time.Duration
}

// Domain is one [[domain]] entry.
type Domain struct {
	Pos
	Name       string   // as written: "example.net", "*.example.net", "@file.txt", or empty for the host name
	Names      []string // what it stands for: lower-case names, or "*.name" for everything below a name
	NamesFile  string   // absolute path of the list that Name gives with @, else empty
	Recipients Recipients
	Subaddress string // what parts a local part from its detail; empty: nothing does

	written *string // Name; nil where it is missing or was refused
}

// Callout is the [callout] section: how the next hop is asked about recipients.
type Callout struct {
	Positive    time.Duration // how long an answer is remembered that somebody exists
	Negative    time.Duration // the same of nobody
	Entries     int           // answers remembered at a time
	Concurrency int           // next hops asked at a time
	Timeout     time.Duration // of one question
}

// Recipients tells which local parts a domain has. The zero value has none.
type Recipients struct {
	Any     bool
	Callout bool   // the domain's next hop tells
	Local   bool   // the users of [local] and their dot-qmail files tell
	File    string // absolute path of the list, else empty
	Lookup  string // name of the map, else empty
	known   map[string]struct{}
}

// Route is one [[route]] entry. A message takes a route where every kind of pattern that is given matches; a list
// matches where one of its members does. At least one kind is given.
type Route struct {
	Pos
	ToDomain    []string // lower-case: "*", "name" or "*.name" (everything below name)
	ToAddress   []string // lower-case addresses
	FromDomain  []string // as ToDomain
	FromAddress []string // lower-case addresses; "" is the null sender
	Client      []netip.Prefix
	Tag         []string
	NextHop     NextHop
	Mode        string     // "queue" or "proxy"
	TLS         string     // "none", "may", "encrypt" or "verify"
	Auth        Login      // zero: none
	Source      netip.Addr // zero: the system chooses
	SRS         bool       // senders of other domains are rewritten
}

// Login is how a route authenticates to its next hop.
type Login struct {
	User         string
	PasswordFile string // absolute
}

// NextHop is where a route sends mail.
type NextHop struct {
	Scheme string // "smtp", "smtps", "lmtp", "qmqp", "mx", "local", "pipe" or "discard"
	Host   string // of the first three: a name, or an IP address without brackets
	Port   uint16 // of the first three
	Path   string // of lmtp: the absolute path of a unix socket, instead of Host and Port; of qmqp: its servers; of pipe: a program and its arguments
}

// Retry is the plan of delivery attempts.
type Retry struct {
	// Delays are the waits between attempts, the last of which repeats; nil is qmail's quadratic schedule.
	Delays []time.Duration
	// Growth has the waits grow; zero where Delays or qmail's schedule apply.
	Growth Growth
}

// Growth is a plan whose first wait is Start and each further one Factor times the one before it, up to Max. Of every
// wait, up to the part Jitter of it is added, so that what failed together is not tried together.
type Growth struct {
	Start  time.Duration
	Factor float64 // 1 or more
	Max    time.Duration
	Jitter float64 // 0 to 1
}

// Quadratic tells whether qmail's schedule applies.
func (r Retry) Quadratic() bool { return r.Delays == nil && r.Growth == Growth{} }

// Queue is the [queue] section.
type Queue struct {
	Lifetime       time.Duration
	DelayNotice    time.Duration // 0: no notice
	Retry          Retry
	DoubleBounceTo string // an address; empty: postmaster at the host name if that is ours, else nobody
}

// Delivery is the [delivery] section.
type Delivery struct {
	ConcurrencyLocal  int
	ConcurrencyRemote int
	PerDestination    int
	Helo              string // the host name where none is set
	Rules             []DeliveryRule
}

// DeliveryRule is one [[delivery.rule]] entry; the first that names a destination applies to it.
type DeliveryRule struct {
	Pos
	Destination []string // as Route.ToDomain; also names of next hops
	Concurrency int      // 0: as [delivery] says
	Rate        Rate     // zero: no bound
}

// Rate is so many in so long; the zero value is no bound.
type Rate struct {
	Count int
	Per   time.Duration
}

// Policy is one [[policy]] entry, in the order in which they run.
type Policy struct {
	Pos
	Use       string // a built-in, script or plugin name, or a path, as written
	Path      string // absolute, where Use is a path (it holds a slash); not checked here
	Name      string // as given, else of Use: the last element without .lua
	Mode      string // "enforce", "shadow" or "off"
	Timeout   time.Duration
	OnFailure string        // "defer", "pass", or empty: as the policy declares
	DenyAt    string        // a stage, or empty: as the policy declares
	Sample    float64       // 0: all clients
	Every     time.Duration // 0: as the policy declares
	When      When
	// Immune lists "relaying" and "authenticated"; nil leaves it to the policy, an empty list overrides it.
	Immune []string

	SHA256      string // of a plugin's file, lower-case hex; "": any
	RunAs       string // account of a plugin's process; "": ours
	Concurrency int    // calls of a plugin at a time; 0: the default

	// Settings are the remaining keys as the TOML decoder gives them (string, int64, float64, bool, time.Time, []any,
	// map[string]any); the policy checks them, and Problem puts its findings at their lines.
	Settings map[string]any
}

// When limits a policy; every part that is given must match.
type When struct {
	Listener      []string // names of [[listen]] entries
	Client        []netip.Prefix
	ClientNot     []netip.Prefix
	RcptDomain    []string // as Route.ToDomain
	SenderDomain  []string // as Route.ToDomain
	Authenticated *bool
}

// Score is the [score] section; nil thresholds are off.
type Score struct {
	Tag        *float64
	Quarantine *float64
	Reject     *float64
	Rules      []ScoreRule
}

// ScoreRule is one [[score.rule]] entry.
type ScoreRule struct {
	Pos
	When   string // a condition, as written; not checked here
	Points float64
	Name   string // as given, else rule_N
	Why    string // as given, else When
}

// GeoIP is the [geoip] section.
type GeoIP struct {
	Databases []string // mmdb files, absolute
}

// Store is the [store] section.
type Store struct {
	Engine       string // "embedded", or the URL of a Redis server without a password
	MaxSize      int64  // octets on disk
	User         string
	PasswordFile string // absolute
	Timeout      time.Duration
	Concurrency  int
}

// Shared tells whether it is kept at a server.
func (s *Store) Shared() bool { return strings.Contains(s.Engine, "://") }

// Recorder is the [recorder] section.
type Recorder struct {
	Enabled bool
	Keep    time.Duration
	MaxSize int64 // bytes
	Bodies  bool
}

// Quarantine is the [quarantine] section.
type Quarantine struct {
	Keep    time.Duration
	MaxSize int64 // bytes
}

// Log is the [log] section.
type Log struct {
	Format string // "auto", "text", "json" or "qmail"
	Level  slog.Level
}

// Console is the [console] section.
type Console struct {
	Address string // host:port; empty: none
}
