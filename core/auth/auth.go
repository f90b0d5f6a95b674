// Package auth tells who a client is that logs in by AUTH (RFC 4954).
//
//   - A mechanism (mechanism.go: PLAIN, LOGIN; scram.go: SCRAM-SHA-256) turns the
//     lines of an exchange into a Login: a name with a password, or with a proof.
//     It decides nothing.
//   - Authenticator.Check (here) judges a Login by the back-ends. Between the two
//     the protocol engine may ask others first.
//   - The back-end is the password file (passwords.go): user:hash, a line each,
//     read again when it changes. What a hash is, and how it is compared, stands
//     in secret.go.
//   - Guessing is slow and ends (throttle.go): each failure of a client makes its
//     next ones wait, and at a number of them it is turned away unheard.
//   - Who may use which sender address is in senders.go.
//
// A user who does not exist costs the same work, and gets the same answer after
// the same time, as one whose password is wrong. How many hashes are computed at
// once is bounded by the memory that they may hold together.
package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/postern-mta/postern/core/message"
)

// Options of New.
type Options struct {
	// Files are password files in the order in which they are asked; the first
	// that has a user decides.
	Files []string
	Log   *slog.Logger // nil: none
	// Pause waits before a failure is answered, or until ctx is done; nil: on the
	// machine's clock.
	Pause func(ctx context.Context, d time.Duration)
}

// Authenticator judges logins. It is safe for concurrent use.
type Authenticator struct {
	log      *slog.Logger
	pause    func(ctx context.Context, d time.Duration)
	files    atomic.Pointer[[]*passwordFile]
	throttle throttle
	work     *semaphore.Weighted // of bytes that hashing holds
	share    int64               // of it, that any hash takes at least
	waiting  atomic.Int64
	key      [sha256.Size]byte // of what unknown users are given
}

// Bounds of hashing.
const (
	hashMemory  = 256 << 20        // bytes that all hashes under way hold together
	maxWaiting  = 256              // logins that wait for their turn
	waitForTurn = 20 * time.Second // at most
)

// Answers to a client that failed.
var (
	errCredentials = message.NewReply(535, "5.7.8", "User name or password is wrong")
	errUnusable    = message.NewReply(454, "4.7.0", "Temporary authentication failure, please try again later")
	errBusy        = message.NewReply(454, "4.7.0", "Too many logins at a time, please try again later")
	errBlocked     = message.NewReply(421, "4.7.0", "Too many failed logins from you, please try again later")
	errMalformed   = message.NewReply(501, "5.5.2", "That is no response of this mechanism")
)

// Login is what a client offered to prove who it is.
type Login struct {
	Mechanism string
	User      string
	Password  string // "" where the mechanism keeps it to itself

	scram  bool // a proof stood in place of the password
	proven bool // and it was right
}

// New reads the password files; without any nobody can log in, and nothing is
// offered. Every line that can't be used is a *LineError in the joined error.
func New(o Options) (*Authenticator, error) {
	if o.Pause == nil {
		o.Pause = pause
	}
	a := &Authenticator{pause: o.Pause, work: semaphore.NewWeighted(hashMemory), share: hashMemory / int64(runtime.GOMAXPROCS(0))}
	if a.log = o.Log; a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	_, _ = rand.Read(a.key[:]) // never fails
	a.files.Store(&[]*passwordFile{})
	return a, a.SetFiles(o.Files)
}

// SetFiles replaces the password files, at a reload of the configuration; what
// is known of guessing clients stays. On an error those of before stay.
func (a *Authenticator) SetFiles(paths []string) error {
	list := make([]*passwordFile, 0, len(paths))
	var bad []error
	for _, path := range paths {
		f := &passwordFile{path: path, log: a.log}
		if err := f.load(); err != nil {
			bad = append(bad, err)
		}
		list = append(list, f)
	}
	if len(bad) == 0 {
		a.files.Store(&list)
	}
	return errors.Join(bad...)
}

// Ask is somebody who is asked about a login before the back-ends are, such as the
// policies of stage auth. It returns the user's name, or an error that is the
// message.Reply to send, or neither: then the back-ends answer.
type Ask func(ctx context.Context) (user string, err error)

// Check judges a login of a client, by first, which may be nil, and by the
// back-ends. It returns the user's name, or an error that is the message.Reply to
// send: 535 for a wrong name or password, 454 where no answer can be had now, 421
// for a client that failed too often, which is to be disconnected and about which
// nobody is asked. A client without a valid address is never turned away. A failure,
// which a permanent refusal by first is too, answers late: the more of them, the
// later.
func (a *Authenticator) Check(ctx context.Context, client netip.Addr, l *Login, first Ask) (user string, err error) {
	if !a.throttle.enter(client) {
		return "", errBlocked
	}
	user, err = a.judge(ctx, l, first)
	failed := err != nil && message.ReplyOf(err).Permanent()
	wait := a.throttle.leave(client, failed)
	if failed {
		a.pause(ctx, wait)
	}
	return user, err
}

// judge asks first and then the back-ends. A login without a usable name is
// nobody's. One by SCRAM needs its proof whoever vouches for it: a client that was
// not shown the server's has no reason to trust it.
func (a *Authenticator) judge(ctx context.Context, l *Login, first Ask) (user string, err error) {
	if first != nil && l.User != "" {
		if user, err = first(ctx); err != nil {
			return "", err
		}
	}
	if user != "" && !l.scram {
		if user, err = parseUser(user); err != nil {
			a.log.Error("a policy named a user that can be none", "error", err)
			return "", errUnusable
		}
		return user, nil
	}
	ok, err := a.verify(ctx, l)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", errCredentials
	}
	return cmp.Or(user, l.User), nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// verify tells whether the login is right. An error is a temporary one.
func (a *Authenticator) verify(ctx context.Context, l *Login) (bool, error) {
	if l.scram {
		return l.proven, nil
	}
	password, fine := prepare(l.Password)
	s, known := a.find(l.User)
	if s == nil {
		return false, nil // no user at all: there is nothing to tell apart
	}
	give, err := a.turn(ctx, s.memory())
	if err != nil {
		return false, err
	}
	defer give()
	return s.verify(password) && known && fine, nil
}

// turn waits until the memory that a hash needs may be taken.
func (a *Authenticator) turn(ctx context.Context, need int64) (give func(), err error) {
	need = min(max(need, a.share), hashMemory)
	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > maxWaiting {
		return nil, errBusy
	}
	ctx, cancel := context.WithTimeout(ctx, waitForTurn)
	defer cancel()
	if a.work.Acquire(ctx, need) != nil {
		return nil, errBusy
	}
	return func() { a.work.Release(need) }, nil
}

// find is the secret of a user, or another user's whose work is done in its
// stead: always the same for one name. nil: there is no user at all.
func (a *Authenticator) find(user string) (s secret, known bool) {
	files := *a.files.Load()
	all := make([]secret, 0, len(files))
	for _, f := range files {
		t := f.current()
		if s := t.secrets[user]; s != nil {
			return s, true
		}
		if len(t.order) > 0 {
			all = append(all, t.order[a.pick(user, len(t.order))])
		}
	}
	if len(all) == 0 {
		return nil, false
	}
	return all[a.pick(user, len(all))], false
}

// pick chooses one of n for a name.
func (a *Authenticator) pick(user string, n int) int {
	return int(binary.BigEndian.Uint64(a.mock("pick", user)) % uint64(n))
}

// mock makes up bytes for a name: the same ones as long as the daemon runs, and
// not to be foreseen.
func (a *Authenticator) mock(what, user string) []byte {
	h := hmac.New(sha256.New, a.key[:])
	h.Write([]byte(what))
	h.Write([]byte{0})
	h.Write([]byte(user))
	return h.Sum(nil)
}
