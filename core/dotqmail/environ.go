package dotqmail

import (
	"strings"
	"time"
)

// DoubleBounce is the sender of a bounce of a bounce.
const DoubleBounce = "#@[]"

// Delivery is a message on its way to one recipient.
type Delivery struct {
	Account
	Local, Host string // the recipient; Local is behind what virtualdomains put in front
	Sender      string // as qmail has it: without quotes; "" for a bounce, DoubleBounce
	ReturnPath  string // the same as a header field has it
	Time        time.Time
}

// Recipient is the address, as qmail has it.
func (d *Delivery) Recipient() string { return d.Local + "@" + d.Host }

// DTLine is the field Delivered-To, with its line end.
func (d *Delivery) DTLine() string { return "Delivered-To: " + oneLine(d.Recipient()) + "\n" }

// RPLine is the field Return-Path.
func (d *Delivery) RPLine() string { return "Return-Path: <" + oneLine(d.ReturnPath) + ">\n" }

// UFLine is the line that begins a message in an mbox file.
func (d *Delivery) UFLine() string { return FromLine(d.Sender, d.Time) }

// FromLine is the line that begins a message in an mbox file; its time is UTC.
func FromLine(sender string, at time.Time) string {
	if sender == "" {
		sender = "MAILER-DAEMON"
	}
	safe := strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, sender)
	return "From " + safe + " " + at.UTC().Format(time.ANSIC) + "\n"
}

// oneLine keeps an address from making a line of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}

// Environ is what a program is told. matched is what "default" in the name of the file
// stands for, nil where it has none; newSender is the sender of what is forwarded.
func (d *Delivery) Environ(matched *string, newSender string) []string {
	env := []string{
		"USER=" + d.User, "HOME=" + d.Home, "LOCAL=" + d.Local, "HOST=" + d.Host, "EXT=" + d.Ext,
		"RECIPIENT=" + d.Recipient(), "SENDER=" + d.Sender, "NEWSENDER=" + newSender,
		"DTLINE=" + d.DTLine(), "RPLINE=" + d.RPLine(), "UFLINE=" + d.UFLine(),
	}
	host, ext := d.Host, d.Ext
	for _, n := range []string{"2", "3", "4"} {
		if i := strings.LastIndexByte(host, '.'); i >= 0 {
			host = host[:i]
		}
		_, ext, _ = strings.Cut(ext, "-")
		env = append(env, "HOST"+n+"="+host, "EXT"+n+"="+ext)
	}
	if matched != nil {
		env = append(env, "DEFAULT="+*matched)
	}
	return env
}

// NewSender is the sender of what is forwarded: the original one, or the owner of the
// address where there are its files. Bounces keep theirs.
func (d *Delivery) NewSender(owner, ownerDefault bool) string {
	switch {
	case !owner || d.Sender == "" || d.Sender == DoubleBounce:
		return d.Sender
	case ownerDefault:
		return d.Local + "-owner-@" + d.Host + "-@[]"
	}
	return d.Local + "-owner@" + d.Host
}
